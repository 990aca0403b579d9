/**
 * Tools that agents call, as data that any host can serve: a described schema and a thin handler. (effect/ai's Tool
 * would do, but adds 50 KB to the plugin for streams and model errors that no host here has a use for.)
 */
import { Effect, Schema, SchemaIssue } from "effect"
import type { SessionId } from "../domain/Session.ts"

/** Who calls: the session and the agent, and the way to the user's permission. */
export interface Caller {
  readonly session: SessionId
  readonly agent: string
  /**
   * Asks for a right that the call itself does not carry, by the host's own rules and prompt: answered at once where a
   * rule decides, otherwise when the user has. Interrupted with the call.
   */
  readonly ask: (request: PermissionRequest) => Effect.Effect<void, PermissionDenied>
}

export interface PermissionRequest {
  /** The host's name for the right, such as `external_directory`. */
  readonly permission: string
  /** What it is wanted for now, as the host's rules write it. */
  readonly patterns: ReadonlyArray<string>
  /** What the user allows by "always". */
  readonly always: ReadonlyArray<string>
  /** Shown to the user with the question. */
  readonly metadata: Readonly<Record<string, unknown>>
}

/** A rule or the user said no. */
export class PermissionDenied extends Schema.TaggedError<PermissionDenied>()("PermissionDenied", {
  permission: Schema.String,
  patterns: Schema.Array(Schema.String),
  /** The host's own words, which may hold what the user answered. */
  reason: Schema.String
}) {
  override get message() {
    const reason = this.reason.trim() === "" ? "" : ` (${this.reason.trim()})`
    return `There is no permission ${this.permission} for ${this.patterns.join(", ")}${reason}. Go on without it.`
  }
}

export interface Tool<R = never> {
  readonly name: string
  readonly description: string
  /** JSON Schema of the arguments, an object. */
  readonly parameters: Readonly<Record<string, unknown>>
  /** Decodes the arguments and acts. Interrupted with the call. */
  readonly call: (args: unknown, caller: Caller) => Effect.Effect<string, ToolRefusal, R>
}

/** Says in one sentence why the tool did nothing, and what to do instead. */
export class ToolRefusal extends Schema.TaggedError<ToolRefusal>()("ToolRefusal", { message: Schema.String }) {}

export const make = <T, E, Error extends { readonly message: string }, R>(options: {
  readonly name: string
  readonly description: string
  readonly parameters: Schema.Codec<T, E>
  readonly handler: (args: T, caller: Caller) => Effect.Effect<string, Error, R>
}): Tool<R> => {
  const document = Schema.toJsonSchemaDocument(options.parameters)
  return {
    name: options.name,
    description: options.description,
    parameters: {
      type: "object",
      properties: {},
      ...document.schema,
      ...(Object.keys(document.definitions).length > 0 ? { $defs: document.definitions } : {}),
      additionalProperties: false
    },
    call: Effect.fn(`tool.${options.name}`)(function*(args: unknown, caller: Caller) {
      const decoded = yield* Schema.decodeUnknownEffect(options.parameters, { errors: "all" })(args ?? {}).pipe(
        Effect.mapError((error) => new ToolRefusal({ message: badArguments(options.name, error.issue) }))
      )
      return yield* options.handler(decoded, caller).pipe(
        Effect.mapError((error) => new ToolRefusal({ message: error.message }))
      )
    })
  }
}

const badArguments = (tool: string, issue: SchemaIssue.Issue): string => {
  const { issues } = SchemaIssue.makeFormatterStandardSchemaV1()(issue)
  const words = issues.map(({ message, path }) =>
    `${(path ?? []).map(String).join(".") || "the arguments"}: ${message}`
  )
  return `${tool} was called with arguments that do not fit (${words.join("; ")}). Correct them and call again.`
}
