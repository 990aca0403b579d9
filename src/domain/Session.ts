/** What the orchestrator knows of a host's sessions: ids, messages, states, events; and how to read a turn from them. */
import { Schema } from "effect"

export const SessionId = Schema.NonEmptyString.pipe(Schema.brand("SessionId"))
export type SessionId = typeof SessionId.Type

/** Sorts by time of creation, like every message id of the host. */
export const MessageId = Schema.NonEmptyString.pipe(Schema.brand("MessageId"))
export type MessageId = typeof MessageId.Type

export const ModelRef = Schema.Struct({ provider: Schema.String, model: Schema.String })
export type ModelRef = typeof ModelRef.Type

/** Written as `provider/model`, the way the host's own config names models. */
export const formatModel = (ref: ModelRef): string => `${ref.provider}/${ref.model}`

/** Tokens of the model's own count; cost in the currency of the provider's price list (US dollars). */
export const Usage = Schema.Struct({
  input: Schema.Finite,
  output: Schema.Finite,
  reasoning: Schema.Finite,
  cacheRead: Schema.Finite,
  cacheWrite: Schema.Finite,
  cost: Schema.Finite
})
export type Usage = typeof Usage.Type

export const noUsage: Usage = { input: 0, output: 0, reasoning: 0, cacheRead: 0, cacheWrite: 0, cost: 0 }

/** All tokens that were paid for, cached reads included. */
export const totalTokens = (usage: Usage): number =>
  usage.input + usage.output + usage.reasoning + usage.cacheRead + usage.cacheWrite

const combine = (a: Usage, b: Usage, by: (a: number, b: number) => number): Usage => ({
  input: by(a.input, b.input),
  output: by(a.output, b.output),
  reasoning: by(a.reasoning, b.reasoning),
  cacheRead: by(a.cacheRead, b.cacheRead),
  cacheWrite: by(a.cacheWrite, b.cacheWrite),
  cost: by(a.cost, b.cost)
})

/** What was used from one total to another; where it falls back, nothing. */
export const usageSince = (before: Usage, after: Usage): Usage => combine(before, after, (a, b) => Math.max(0, b - a))

export const usageTogether = (a: Usage, b: Usage): Usage => combine(a, b, (a, b) => a + b)

export const formatUsage = (usage: Usage): string => `${totalTokens(usage)} tokens · $${usage.cost.toFixed(4)}`

/** One permission rule of the host: the last rule that matches decides. */
export const Rule = Schema.Struct({
  permission: Schema.String,
  pattern: Schema.String,
  action: Schema.Literals(["allow", "deny", "ask"])
})
export type Rule = typeof Rule.Type

export interface Session {
  readonly id: SessionId
  readonly parent: SessionId | undefined
  readonly title: string
  /** The agent and the model of the newest prompt. */
  readonly agent: string | undefined
  readonly model: ModelRef | undefined
  /** The rules given at creation; they come after the agent's own. */
  readonly permission: ReadonlyArray<Rule>
  readonly metadata: Readonly<Record<string, unknown>>
  readonly usage: Usage
}

/** Why a turn ended badly, in the host's terms and the provider's words. */
export interface TurnError {
  readonly name: string
  readonly message: string
  readonly status?: number
  /** Whether the host takes it for one that passes. */
  readonly retryable?: boolean
  /** How long the provider asks to wait, ms. */
  readonly retryAfter?: number
}

/** What was done already to get a session over the errors of its turns. */
export const Tries = Schema.Struct({
  /** How often it was told to go on. */
  spent: Schema.Int,
  /** How long it has waited for that, all together, ms. */
  waited: Schema.Int,
  /** How often it has waited since it has its present model. */
  waits: Schema.Int,
  /** How many of the fallback models it has gone through. */
  models: Schema.Int,
  compacted: Schema.optionalKey(Schema.Literal(true)),
  /** It was told to answer again. */
  asked: Schema.optionalKey(Schema.Literal(true))
})
export type Tries = typeof Tries.Type

export const noTries: Tries = { spent: 0, waited: 0, waits: 0, models: 0 }

export const isAbort = (error: TurnError): boolean => error.name === "MessageAbortedError"

export type MessagePart =
  | { readonly type: "text"; readonly text: string; readonly metadata: Readonly<Record<string, unknown>> }
  /** `input` is the JSON of its arguments, `output` what a completed call answered. */
  | {
    readonly type: "tool"
    readonly tool: string
    readonly status: string
    readonly input: string
    readonly output: string | undefined
  }
  | { readonly type: "other" }

export type Message =
  | {
    readonly role: "user"
    readonly id: MessageId
    /** The host shows the model the prompt before once more, after it has made the conversation shorter. */
    readonly repeated?: true
    readonly parts: ReadonlyArray<MessagePart>
  }
  | {
    readonly role: "assistant"
    readonly id: MessageId
    readonly completed: boolean
    /** Why the model stopped: `stop`, `length`, `tool-calls`, …; absent while it runs. */
    readonly finish: string | undefined
    readonly error: TurnError | undefined
    readonly parts: ReadonlyArray<MessagePart>
  }

/** What the host says of a session that is not idle. */
export type SessionStatus =
  | { readonly type: "busy" }
  | { readonly type: "retry"; readonly attempt: number; readonly message: string; readonly next: number }

/** The host's events that the orchestrator acts on; all others are skipped by the adapter. */
export type HostEvent =
  | { readonly type: "status"; readonly session: SessionId; readonly status: SessionStatus }
  | { readonly type: "idle"; readonly session: SessionId }
  | { readonly type: "error"; readonly session: SessionId; readonly error: TurnError }
  | { readonly type: "deleted"; readonly session: SessionId }
  | { readonly type: "usage"; readonly session: SessionId; readonly usage: Usage }
  /** `call` tells calls of one tool apart. */
  | {
    readonly type: "tool"
    readonly session: SessionId
    readonly tool: string
    readonly status: string
    readonly call?: string
  }
  /** The session showed life: the model writes, a tool goes on. At most one a second for each session. */
  | { readonly type: "activity"; readonly session: SessionId }
  | { readonly type: "permission"; readonly session: SessionId; readonly id: string; readonly permission: string }
  | { readonly type: "question"; readonly session: SessionId; readonly id: string }

/** The state of the turn that a prompt started. */
export type Turn =
  /** The host has not begun to answer. */
  | { readonly state: "not started" }
  /** An answer is there, but the model has not finished it, or it called tools, or a newer prompt waits. */
  | { readonly state: "unfinished" }
  | { readonly state: "finished"; readonly text: string }
  | { readonly state: "failed"; readonly error: TurnError }

/**
 * Reads the turn that answers `prompt` from a session's newest messages, oldest first. Only an assistant message
 * that the host has completed, with a finish that is not a tool call, is a finished turn.
 */
export const readTurn = (messages: ReadonlyArray<Message>, prompt: MessageId): Turn => {
  const newest = messages.findLast((message) => message.role === "assistant" && message.id > prompt)
  if (newest === undefined || newest.role !== "assistant") return { state: "not started" }
  const isWaiting = (message: Message) => message.role === "user" && message.id > newest.id && !isNote(message)
  if (messages.some(isWaiting)) return { state: "unfinished" }
  if (newest.error !== undefined) return { state: "failed", error: newest.error }
  if (!newest.completed || newest.finish === undefined || newest.finish === "tool-calls") return { state: "unfinished" }
  const text = messageText(newest)
  return {
    state: "finished",
    text: newest.finish === "length" ? `${text}${cutOffNote}` : text
  }
}

/** Ends the text of an answer that the model did not come to the end of. */
export const cutOffNote = "\n(cut off at the model's output limit)"

/** What was last said in a session since a time, epoch ms, whether or not its turn was over. Newer messages may be calls of tools alone. */
export const lastWords = (messages: ReadonlyArray<Message>, since: number): string | undefined => {
  const from = makeMessageId(since, 0, () => 0)
  return messages.flatMap((message) =>
    message.role === "assistant" && message.id > from ? messageText(message) || [] : []
  ).at(-1)
}

/** The text parts of a message, joined by blank lines. */
export const messageText = (message: Message): string =>
  message.parts.flatMap((part) => (part.type === "text" && part.text.trim() !== "" ? [part.text.trim()] : [])).join(
    "\n\n"
  )

/**
 * A message id for a prompt of our own, in the host's format: `msg_`, 12 hex digits of `ms * 4096 + counter` (the low
 * 48 bits), 14 letters or digits. `random` gives numbers in [0, 1).
 */
export const makeMessageId = (ms: number, counter: number, random: () => number): MessageId => {
  const time = BigInt.asUintN(48, BigInt(ms) * 4096n + BigInt(counter))
  return MessageId.make(`msg_${time.toString(16).padStart(12, "0")}${randomText(14, random)}`)
}

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"

/** `length` lower-case letters and digits. */
export const randomText = (length: number, random: () => number): string =>
  Array.from({ length }, () => alphabet[Math.floor(random() * alphabet.length)]).join("")

/** Marks a prompt of the orchestrator's own, so that nobody takes it for the user's word. */
export const ownPrompt = <
  Kind extends "task" | "retry" | "nudge" | "notice" | "continue" | "command" | "budget" | "note"
>(kind: Kind) => ({
  orchestrator: kind
})

/**
 * The prompts of one kind in a session: "task" for those that start a run of a task, "retry" for those that tell it to go
 * on after an error of its turn. With `task` without those of other tasks, where that is said (it was not always).
 */
export const promptsOf = (
  kind: "task" | "retry",
  messages: ReadonlyArray<Message>,
  task?: string
): ReadonlyArray<Message> =>
  messages.filter((message) =>
    message.role === "user" && message.repeated !== true
    && message.parts.some((part) =>
      part.type === "text" && part.metadata["orchestrator"] === ownPrompt(kind).orchestrator
      && (task === undefined || (part.metadata["task"] ?? task) === task)
    )
  )

/** Whether a message was only stored for the next turn: it waits for no answer. */
export const isNote = (message: Message): boolean =>
  message.role === "user"
  && message.parts.some((part) =>
    part.type === "text" && part.metadata["orchestrator"] === ownPrompt("note").orchestrator
  )

/** Whether the metadata of a text part carries that mark. */
export const isOwnPrompt = (metadata: unknown): boolean =>
  typeof metadata === "object" && metadata !== null && "orchestrator" in metadata
