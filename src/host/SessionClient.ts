/** The port to a host's sessions. Every adapter passes the suite in `test/contracts/SessionClient.ts`. */
import { Context, Effect, Schedule, Schema, type Stream } from "effect"
import type { HostAgent } from "../domain/Agent.ts"
import type {
  HostEvent,
  Message,
  MessageId,
  ModelRef,
  Rule,
  Session,
  SessionId,
  SessionStatus
} from "../domain/Session.ts"
import type { HostTodo } from "../domain/Todo.ts"

/** The host could not be reached, or did not answer in time. Trying again may help. */
export class HostUnavailable extends Schema.TaggedError<HostUnavailable>()("HostUnavailable", {
  operation: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `OpenCode did not answer ${this.operation}: ${this.detail}`
  }
}

/** The host answered and said no. */
export class HostRefused extends Schema.TaggedError<HostRefused>()("HostRefused", {
  operation: Schema.String,
  status: Schema.Int,
  detail: Schema.String
}) {
  override get message() {
    return `OpenCode refused ${this.operation} (${this.status}): ${this.detail}`
  }
}

/** The host answered something that cannot be understood; often a version that this release does not know. */
export class MalformedAnswer extends Schema.TaggedError<MalformedAnswer>()("MalformedAnswer", {
  operation: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `OpenCode's answer to ${this.operation} cannot be read: ${this.detail}`
  }
}

export class SessionNotFound extends Schema.TaggedError<SessionNotFound>()("SessionNotFound", {
  session: Schema.String
}) {
  override get message() {
    return `There is no session ${this.session}.`
  }
}

export type HostError = HostUnavailable | HostRefused | MalformedAnswer
export type SessionError = HostError | SessionNotFound

/**
 * Tries again: while the host does not answer at all, for as long as that lasts; when it fails inside (5xx), or answers
 * what cannot be read, a few times. For operations that may safely happen twice.
 */
export const untilHostAnswers = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  effect.pipe(
    Effect.retry({
      schedule: Schedule.exponential("200 millis"),
      times: 5,
      while: (error) => (Schema.is(HostRefused)(error) && error.status >= 500) || Schema.is(MalformedAnswer)(error)
    }),
    Effect.retry({
      schedule: Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("10 seconds")]),
      while: (error) => Schema.is(HostUnavailable)(error)
    })
  )

export interface NewSession {
  readonly title: string
  readonly parent?: SessionId
  readonly agent?: string
  /** Rules that come after the agent's own. */
  readonly permission?: ReadonlyArray<Rule>
  /** Any JSON; `get` and `children` give it back. */
  readonly metadata?: Readonly<Record<string, unknown>>
}

export interface Prompt {
  readonly session: SessionId
  /** Sending the same id again starts no second turn. */
  readonly id: MessageId
  readonly text: string
  readonly agent?: string | undefined
  readonly model?: ModelRef | undefined
  /** Comes back on the text part; marks the prompt as ours rather than the user's. */
  readonly metadata?: Readonly<Record<string, unknown>>
  /** Not shown to the user as something they typed. */
  readonly synthetic?: boolean
  /** Stores the message and starts nothing. */
  readonly noReply?: boolean
}

export class SessionClient extends Context.Service<SessionClient, {
  readonly create: (session: NewSession) => Effect.Effect<Session, HostError>
  readonly get: (session: SessionId) => Effect.Effect<Session, SessionError>
  /** The sessions whose parent it is. */
  readonly children: (session: SessionId) => Effect.Effect<ReadonlyArray<Session>, SessionError>
  /** The newest sessions of the project, children included, up to 1,000. */
  readonly sessions: Effect.Effect<ReadonlyArray<Session>, HostError>
  /** Accepted, not answered: the turn's end arrives as an event. An unknown agent is accepted too, and then fails. */
  readonly prompt: (prompt: Prompt) => Effect.Effect<void, SessionError>
  /** The newest `limit` messages, oldest first; without what the host says when it makes a conversation shorter. */
  readonly messages: (session: SessionId, limit: number) => Effect.Effect<ReadonlyArray<Message>, SessionError>
  /** The list of things to do that the host's own tool keeps for a session; empty for a session without one. */
  readonly todos: (session: SessionId) => Effect.Effect<ReadonlyArray<HostTodo>, SessionError>
  /**
   * Has the host put a summary, made by the model, in the place of what was said in an idle session; returns when that is
   * done. The session's own model does it, unless another is named.
   */
  readonly compact: (session: SessionId, model?: ModelRef) => Effect.Effect<void, SessionError>
  /** Whether a message has arrived. */
  readonly hasMessage: (session: SessionId, message: MessageId) => Effect.Effect<boolean, HostError>
  /** All sessions that are not idle, in one request. A session that is absent is idle, deleted, or not started yet. */
  readonly statuses: Effect.Effect<ReadonlyMap<SessionId, SessionStatus>, HostError>
  /** Ends the running turn. Succeeds when there is none, and for a deleted session whose turn still runs. */
  readonly abort: (session: SessionId) => Effect.Effect<void, HostError>
  /** Deletes the session and its children. Does not stop a running turn: abort first. Succeeds when it is gone already. */
  readonly delete: (session: SessionId) => Effect.Effect<void, HostError>
  /** Events from now on. Unknown events are skipped. Some may be lost, doubled or late: never the only source. */
  readonly events: Stream.Stream<HostEvent>
  readonly agents: Effect.Effect<ReadonlyArray<HostAgent>, HostError>
  readonly models: Effect.Effect<ReadonlyArray<ModelRef>, HostError>
  readonly replyPermission: (id: string, reply: "once" | "always" | "reject") => Effect.Effect<void, HostError>
  /** Answers each question with the labels chosen for it; `undefined` dismisses the whole. */
  readonly replyQuestion: (
    id: string,
    answers: ReadonlyArray<ReadonlyArray<string>> | undefined
  ) => Effect.Effect<void, HostError>
}>()("orchestrator/host/SessionClient") {}

/** Waits until a prompt can be read in its session: the host says yes to it before it has stored it. */
export const arrival = (
  client: SessionClient["Service"],
  session: SessionId,
  id: MessageId
): Effect.Effect<void, HostError> =>
  client.hasMessage(session, id).pipe(
    Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: (arrived) => arrived }),
    Effect.delay("100 millis"),
    Effect.timeoutOrElse({
      duration: "30 seconds",
      orElse: () =>
        Effect.fail(new HostUnavailable({ operation: "prompt", detail: "it took a prompt and did not store it" }))
    }),
    Effect.asVoid
  )
