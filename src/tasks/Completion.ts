/**
 * Tells when a child's turn has ended, and how. Events and the poll only make it look; what it sees decides, so both
 * come to the same answer and the first one to look settles it.
 */
import { Clock, Context, Duration, Effect, Layer, Queue, type Scope } from "effect"
import { Config } from "../Config.ts"
import {
  type HostEvent,
  isAbort,
  type MessageId,
  readTurn,
  type SessionId,
  type SessionStatus,
  type TurnError
} from "../domain/Session.ts"
import { SessionClient } from "../host/SessionClient.ts"

export type Outcome =
  | { readonly type: "finished"; readonly text: string }
  | { readonly type: "failed"; readonly error: TurnError }
  /** The session was deleted. */
  | { readonly type: "gone" }
  /** Idle for the stability wait, without a finished turn; `newest` is the last message that was seen. */
  | { readonly type: "stalled"; readonly started: boolean; readonly newest: MessageId | undefined }

/** The ear of one session: signals that come before anyone asks for the outcome are kept. */
export interface Watch {
  /**
   * Waits until the turn that answers `prompt`, or a later one, has ended. News of `past`, the error of an earlier turn,
   * may still come, and says nothing about this one: its own errors show in its messages.
   */
  readonly outcome: (prompt: MessageId, past?: TurnError) => Effect.Effect<Outcome>
  /** Looks without waiting for a signal: what happened before the watch began told nobody. */
  readonly look: Effect.Effect<void>
  /** Nothing runs in the session, and nothing has come to it since `newest`. Not if the host does not say so. */
  readonly isStill: (newest: MessageId | undefined) => Effect.Effect<boolean>
}

type Signal =
  | { readonly type: "look" }
  | { readonly type: "error"; readonly error: TurnError }
  | { readonly type: "gone" }
  /** The host says that the session works. */
  | { readonly type: "busy" }
  /** The poll did not find the session in the status map. */
  | { readonly type: "absent" }

/** More signals than this are never useful: each only asks for a look. */
const mailboxSize = 64

/** How many of a session's newest messages show its newest answer, and whether a newer prompt waits. */
export const newestMessages = 4

export class Completion extends Context.Service<Completion, {
  /** Listens to a session until the scope closes. Begin before prompting it: events may come before the call returns. */
  readonly watch: (session: SessionId) => Effect.Effect<Watch, never, Scope.Scope>
  /** Takes an event of the host. */
  readonly observe: (event: HostEvent) => Effect.Effect<void>
  /** Takes an answer to a status request. */
  readonly poll: (statuses: ReadonlyMap<SessionId, SessionStatus>) => Effect.Effect<void>
  /** Whether any session is watched. */
  readonly watching: Effect.Effect<boolean>
}>()("orchestrator/tasks/Completion") {
  static readonly layer = Layer.effect(
    Completion,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const mailboxes = new Map<SessionId, Queue.Queue<Signal>>()

      const signal = (session: SessionId, signal: Signal) =>
        Effect.sync(() => {
          const mailbox = mailboxes.get(session)
          if (mailbox !== undefined) Queue.offerUnsafe(mailbox, signal)
        })

      const isStill = (session: SessionId, newest: MessageId | undefined) =>
        Effect.gen(function*() {
          if ((yield* client.statuses).has(session)) return false
          const last = (yield* client.messages(session, 1)).at(-1)
          return last?.id === newest && !(last?.role === "assistant" && last.completed && last.finish !== "tool-calls")
        }).pipe(Effect.orElseSucceed(() => false))

      const listen = Effect.fnUntraced(function*(
        session: SessionId,
        mailbox: Queue.Queue<Signal>,
        prompt: MessageId,
        past: TurnError | undefined
      ): Effect.fn.Return<Outcome> {
        let lastError: TurnError | undefined
        let quietSince: number | undefined
        let worked = false
        const look = client.messages(session, newestMessages).pipe(
          Effect.map((messages) => ({ ...readTurn(messages, prompt), newest: messages.at(-1)?.id })),
          Effect.catchTag("SessionNotFound", () => Effect.succeed({ state: "gone" } as const)),
          // A host that does not answer settles nothing: the next event or poll looks again.
          Effect.orElseSucceed(() => ({ state: "unknown" }) as const)
        )
        while (true) {
          const news = yield* Queue.take(mailbox)
          if (news.type === "gone") return { type: "gone" }
          if (news.type === "error") {
            if (news.error.name === past?.name && news.error.message === past.message) continue
            // The host goes idle next; what the turn looks like then decides.
            lastError = news.error
            continue
          }
          if (news.type === "busy") {
            worked = true
            quietSince = undefined
            continue
          }
          const now = yield* Clock.currentTimeMillis
          if (news.type === "absent") {
            quietSince ??= now
            // A turn that the host has not begun looks the same as one whose every event was lost. Looking costs the host
            // more than polling, so the latter, which is rare, is looked for less often.
            const patient = !worked && lastError === undefined
            if (patient && now - quietSince < Duration.toMillis(config.stabilityWait)) continue
          }
          const turn = yield* look
          if (turn.state === "gone") return { type: "gone" }
          if (turn.state === "finished") return { type: "finished", text: turn.text }
          if (turn.state === "failed") return { type: "failed", error: turn.error }
          if (turn.state === "unknown") continue
          if (lastError !== undefined) {
            // News may be late: an error without a trace in the messages counts only where no turn runs, and an abort
            // only where one has begun; else it belongs to an earlier turn.
            const idle = yield* client.statuses.pipe(
              Effect.map((statuses) => !statuses.has(session)),
              Effect.orElseSucceed(() => false)
            )
            if (!idle) lastError = undefined
            else if (!(isAbort(lastError) && turn.state === "not started")) {
              // It may have come to its own end since it was read: the next signal shows that.
              const again = yield* look
              if (again.state === turn.state && again.newest === turn.newest) {
                return { type: "failed", error: lastError }
              }
              continue
            }
          }
          if (news.type !== "absent" || quietSince === undefined) continue
          const started = turn.state === "unfinished"
          const patience = started ? config.stabilityWait : config.startTimeout
          if (now - quietSince < Duration.toMillis(patience)) continue
          // What was read may be old by the time it is here, and a turn may have begun meanwhile.
          if (yield* isStill(session, turn.newest)) return { type: "stalled", started, newest: turn.newest }
          quietSince = undefined
        }
      })

      return Completion.of({
        watch: Effect.fnUntraced(function*(session) {
          const mailbox = yield* Queue.sliding<Signal>(mailboxSize)
          yield* Effect.acquireRelease(
            Effect.sync(() => mailboxes.set(session, mailbox)),
            () =>
              Effect.sync(() => {
                if (mailboxes.get(session) === mailbox) mailboxes.delete(session)
              })
          )
          return {
            outcome: (prompt, past) => listen(session, mailbox, prompt, past),
            look: Effect.sync(() => Queue.offerUnsafe(mailbox, { type: "look" })),
            isStill: (newest) => isStill(session, newest)
          }
        }),
        observe: (event) => {
          switch (event.type) {
            case "idle":
              return signal(event.session, { type: "look" })
            case "error":
              return signal(event.session, { type: "error", error: event.error })
            case "deleted":
              return signal(event.session, { type: "gone" })
            case "status":
            case "activity":
              return signal(event.session, { type: "busy" })
            default:
              return Effect.void
          }
        },
        poll: (statuses) =>
          Effect.forEach(
            [...mailboxes.keys()],
            (session) => signal(session, { type: statuses.has(session) ? "busy" : "absent" }),
            { discard: true }
          ),
        watching: Effect.sync(() => mailboxes.size > 0)
      })
    })
  )
}
