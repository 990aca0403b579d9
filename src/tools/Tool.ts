/**
 * Tools that agents call, as data that any host can serve: a described schema and a thin handler. (effect/ai's Tool
 * would do, but adds 50 KB to the plugin for streams and model errors that no host here has a use for.)
 */
import { Effect, Schema, SchemaIssue } from "effect"
import type { SessionId } from "../domain/Session.ts"

/** Who calls: the session and the agent. */
export interface Caller {
  readonly session: SessionId
  readonly agent: string
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
