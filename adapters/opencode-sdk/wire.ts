/** How OpenCode is reached, and what it sends, as far as the orchestrator reads it. Fields that are not named here are ignored. */
import { Option, Schema } from "effect"
import type { AgentMode, HostAgent } from "../../src/domain/Agent.ts"
import {
  type HostEvent,
  type Message,
  MessageId,
  type MessagePart,
  messageText,
  Rule,
  type Session,
  SessionId,
  type SessionStatus,
  type TurnError,
  type Usage
} from "../../src/domain/Session.ts"

/** Where a server is reached. */
export interface ServerOptions {
  /** Where it listens, such as `http://127.0.0.1:4096`. */
  readonly url: string
  /** The project, as the server's machine knows it. */
  readonly directory: string
  /** `opencode`, unless set. */
  readonly username?: string | undefined
  readonly password?: string | undefined
}

/** Absent fields arrive as nothing, null or undefined, depending on the route and the release. */
const maybe = <T, E>(schema: Schema.Codec<T, E>) => Schema.optional(Schema.NullOr(schema))

const Metadata = Schema.Record(Schema.String, Schema.Unknown)

const WireModel = Schema.Struct({ providerID: Schema.String, id: Schema.String })

const WireTokens = Schema.Struct({
  input: Schema.Finite,
  output: Schema.Finite,
  reasoning: Schema.Finite,
  cache: Schema.Struct({ read: Schema.Finite, write: Schema.Finite })
})

export const WireSession = Schema.Struct({
  id: SessionId,
  parentID: maybe(SessionId),
  title: Schema.String,
  agent: maybe(Schema.String),
  model: maybe(WireModel),
  permission: maybe(Schema.Array(Rule)),
  metadata: maybe(Metadata),
  cost: maybe(Schema.Finite),
  tokens: maybe(WireTokens)
})

export const toSession = (wire: typeof WireSession.Type): Session => ({
  id: wire.id,
  parent: wire.parentID ?? undefined,
  title: wire.title,
  agent: wire.agent ?? undefined,
  model: wire.model == null ? undefined : { provider: wire.model.providerID, model: wire.model.id },
  permission: wire.permission ?? [],
  metadata: wire.metadata ?? {},
  usage: toUsage(wire)
})

const toUsage = ({ cost, tokens }: Pick<typeof WireSession.Type, "cost" | "tokens">): Usage => ({
  input: tokens?.input ?? 0,
  output: tokens?.output ?? 0,
  reasoning: tokens?.reasoning ?? 0,
  cacheRead: tokens?.cache.read ?? 0,
  cacheWrite: tokens?.cache.write ?? 0,
  cost: cost ?? 0
})

const WireError = Schema.Struct({
  name: Schema.String,
  data: maybe(Schema.Struct({
    message: maybe(Schema.String),
    statusCode: maybe(Schema.Finite),
    isRetryable: maybe(Schema.Boolean),
    responseHeaders: maybe(Metadata)
  }))
})

const toError = ({ data, name }: typeof WireError.Type): TurnError => {
  const retryAfter = toDelay(data?.responseHeaders ?? {}, Date.now())
  return {
    name,
    message: data?.message ?? "",
    ...(data?.statusCode == null ? {} : { status: data.statusCode }),
    ...(data?.isRetryable == null ? {} : { retryable: data.isRetryable }),
    ...(retryAfter === undefined ? {} : { retryAfter })
  }
}

/** How long a provider asks to wait, ms: in milliseconds, in seconds, or until a date. The host's headers are lower case. */
export const toDelay = (headers: Readonly<Record<string, unknown>>, now: number): number | undefined => {
  const value = (name: string) => (typeof headers[name] === "string" ? headers[name].trim() : "")
  const ms = Number(value("retry-after-ms") || NaN)
  const seconds = Number(value("retry-after") || NaN)
  const delay = [ms, seconds * 1_000, Date.parse(value("retry-after")) - now].find(Number.isFinite)
  return delay === undefined ? undefined : Math.max(0, Math.ceil(delay))
}

const WirePart = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("text"),
    text: Schema.String,
    metadata: maybe(Metadata)
  }),
  Schema.Struct({
    type: Schema.Literal("tool"),
    tool: Schema.String,
    state: Schema.Struct({
      status: Schema.String,
      input: Schema.optional(Schema.Unknown),
      output: maybe(Schema.String)
    })
  }),
  Schema.Struct({ type: Schema.String })
])

const toPart = (wire: typeof WirePart.Type): MessagePart => {
  if ("text" in wire) return { type: "text", text: wire.text, metadata: wire.metadata ?? {} }
  if ("tool" in wire) {
    const { input, output, status } = wire.state
    return { type: "tool", tool: wire.tool, status, input: JSON.stringify(input ?? {}), output: output ?? undefined }
  }
  return { type: "other" }
}

export const WireMessage = Schema.Struct({
  info: Schema.Union([
    Schema.Struct({ role: Schema.Literal("user"), id: MessageId }),
    Schema.Struct({
      role: Schema.Literal("assistant"),
      id: MessageId,
      time: Schema.Struct({ completed: maybe(Schema.Finite) }),
      finish: maybe(Schema.String),
      error: maybe(WireError),
      summary: maybe(Schema.Boolean)
    })
  ]),
  parts: Schema.Array(WirePart)
})

type WireMessage = typeof WireMessage.Type

/**
 * What the host says itself when it makes a conversation shorter: the order for a summary, and the summary. It answers
 * no prompt, and whatever was under way goes on after it. A summary that failed is the end of the turn, and counts.
 */
const isOfCompaction = ({ info, parts }: WireMessage): boolean =>
  info.role === "user" ? parts.some(({ type }) => type === "compaction") : info.summary === true && info.error == null

/** Messages as they were said, without those of compactions. After one the host may show the last prompt once more. */
export const toMessages = (all: ReadonlyArray<WireMessage>): ReadonlyArray<Message> =>
  all.flatMap((message, place) => {
    if (isOfCompaction(message)) return []
    const before = all[place - 1]
    if (message.info.role !== "user" || before === undefined || !isOfCompaction(before)) return toMessage(message)
    const last = all.slice(0, place).findLast((other) => other.info.role === "user" && !isOfCompaction(other))
    const isShownAgain = last !== undefined && textOf(last) !== "" && textOf(last) === textOf(message)
    return { ...toMessage(message), ...(isShownAgain ? { repeated: true as const } : {}) }
  })

const textOf = (message: WireMessage): string => messageText(toMessage(message))

const toMessage = ({ info, parts }: WireMessage): Message =>
  info.role === "user"
    ? { role: "user", id: info.id, parts: parts.map(toPart) }
    : {
      role: "assistant",
      id: info.id,
      completed: info.time.completed != null,
      finish: info.finish ?? undefined,
      error: info.error == null ? undefined : toError(info.error),
      parts: parts.map(toPart)
    }

const WireStatus = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("retry"),
    attempt: Schema.Finite,
    message: Schema.String,
    next: Schema.Finite
  }),
  Schema.Struct({ type: Schema.Literal("busy") }),
  Schema.Struct({ type: Schema.Literal("idle") })
])

export const WireStatuses = Schema.Record(Schema.String, WireStatus)

export const toStatuses = (wire: typeof WireStatuses.Type): ReadonlyMap<SessionId, SessionStatus> =>
  new Map(
    Object.entries(wire).flatMap(([id, status]): ReadonlyArray<[SessionId, SessionStatus]> => {
      return status.type === "idle" ? [] : [[SessionId.make(id), status]]
    })
  )

const modes: Record<string, AgentMode> = { primary: "primary", subagent: "subagent", all: "all" }

export const WireAgents = Schema.Array(Schema.Struct({
  name: Schema.String,
  mode: Schema.String,
  description: maybe(Schema.String),
  hidden: maybe(Schema.Boolean),
  model: maybe(Schema.Struct({ providerID: Schema.String, modelID: Schema.String })),
  permission: maybe(Schema.Array(Rule))
}))

export const toAgents = (wire: typeof WireAgents.Type): ReadonlyArray<HostAgent> =>
  wire.map((agent) => ({
    name: agent.name,
    mode: modes[agent.mode] ?? "primary",
    description: agent.description ?? undefined,
    model: agent.model == null ? undefined : { provider: agent.model.providerID, model: agent.model.modelID },
    hidden: agent.hidden ?? false,
    permission: agent.permission ?? []
  }))

export const WireProviders = Schema.Struct({
  providers: Schema.Array(Schema.Struct({
    id: Schema.String,
    models: Schema.Record(Schema.String, Schema.Unknown)
  }))
})

// ---- events -----------------------------------------------------------------------------------------------------

const event = <Type extends string, Fields extends Schema.Struct.Fields>(type: Type, properties: Fields) =>
  Schema.Struct({ type: Schema.Literal(type), properties: Schema.Struct(properties) })

const WireEvent = Schema.Union([
  event("session.status", { sessionID: SessionId, status: WireStatus }),
  event("session.idle", { sessionID: SessionId }),
  event("session.error", { sessionID: SessionId, error: WireError }),
  event("session.deleted", { info: Schema.Struct({ id: SessionId }) }),
  event("session.updated", { info: WireSession }),
  event("message.part.updated", {
    part: Schema.Struct({
      type: Schema.Literal("tool"),
      sessionID: SessionId,
      tool: Schema.String,
      callID: maybe(Schema.String),
      state: Schema.Struct({ status: Schema.String })
    })
  }),
  event("message.part.delta", { sessionID: SessionId }),
  event("permission.asked", { id: Schema.String, sessionID: SessionId, permission: Schema.String }),
  event("question.asked", { id: Schema.String, sessionID: SessionId })
])

const decodeWireEvent = Schema.decodeUnknownOption(WireEvent)

/** Most of the host's events are of other types: they cost a look only. */
const actedOn: ReadonlySet<unknown> = new Set(WireEvent.members.map((member) => member.fields.type.literal))

/**
 * Turns the host's events into the core's terms: undefined for those it does not act on, for what cannot be read, and
 * for signs of life that follow another one of the same session within a second. `now` counts milliseconds.
 */
export const makeEventReader = (now: () => number) => {
  let seen = new Map<string, number>()
  return (raw: unknown): HostEvent | undefined => {
    const event = toEvent(raw)
    if (event?.type !== "activity") return event
    const at = now()
    if (at - (seen.get(event.session) ?? -Infinity) < 1_000) return undefined
    if (seen.size >= sessionsSeen) seen = new Map()
    seen.set(event.session, at)
    return event
  }
}

const sessionsSeen = 1_000

const toEvent = (raw: unknown): HostEvent | undefined => {
  if (typeof raw !== "object" || raw === null || !("type" in raw) || !actedOn.has(raw.type)) return undefined
  const wire = Option.getOrUndefined(decodeWireEvent(raw))
  if (wire === undefined) return undefined
  switch (wire.type) {
    case "session.status": {
      const { sessionID: session, status } = wire.properties
      // The end of a turn has an event of its own.
      return status.type === "idle" ? undefined : { type: "status", session, status }
    }
    case "session.idle":
      return { type: "idle", session: wire.properties.sessionID }
    case "session.error":
      // The host makes the conversation shorter and goes on; when that fails too, the message says so.
      if (wire.properties.error.name === "ContextOverflowError") return undefined
      return { type: "error", session: wire.properties.sessionID, error: toError(wire.properties.error) }
    case "session.deleted":
      return { type: "deleted", session: wire.properties.info.id }
    case "session.updated":
      return { type: "usage", session: wire.properties.info.id, usage: toUsage(wire.properties.info) }
    case "message.part.updated": {
      const { callID, sessionID, state, tool } = wire.properties.part
      return {
        type: "tool",
        session: sessionID,
        tool,
        status: state.status,
        ...(callID == null ? {} : { call: callID })
      }
    }
    case "message.part.delta":
      return { type: "activity", session: wire.properties.sessionID }
    case "permission.asked": {
      const { id, permission, sessionID } = wire.properties
      return { type: "permission", session: sessionID, id, permission }
    }
    case "question.asked":
      return { type: "question", session: wire.properties.sessionID, id: wire.properties.id }
  }
}
