/** Stops what a session does, for certain. */
import { Effect } from "effect"
import { type MessageId, readTurn, type SessionId } from "../domain/Session.ts"
import type { SessionClient } from "../host/SessionClient.ts"
import { newestMessages } from "./Completion.ts"

/** Looks in a row, 100 ms apart, that see nothing of the turn. */
const looks = 20

/**
 * Aborts a session until it is quiet. The host forgets an abort that comes before it has begun the turn, and a deleted
 * session's turn goes on: so it looks again until the turn that answers `prompt` has an end, if that is known, or nothing
 * was seen of it for 2 s. Gives up after 15 s, with a warning.
 */
export const quieten = (client: SessionClient["Service"], session: SessionId, prompt?: MessageId) =>
  abortUntilQuiet(client, session, prompt).pipe(
    Effect.timeoutOrElse({
      duration: "15 seconds",
      orElse: () => Effect.logWarning(`could not stop the session ${session}`)
    })
  )

const abortUntilQuiet = Effect.fnUntraced(function*(
  client: SessionClient["Service"],
  session: SessionId,
  prompt: MessageId | undefined
) {
  const look = Effect.gen(function*() {
    if ((yield* client.statuses).has(session)) {
      yield* client.abort(session)
      return "busy"
    }
    return prompt === undefined ? "idle" : readTurn(yield* client.messages(session, newestMessages), prompt).state
  }).pipe(
    Effect.catchTag("SessionNotFound", () => Effect.succeed("gone" as const)),
    Effect.orElseSucceed(() => "unknown" as const) // a host that does not answer is asked again
  )
  let quiet = 0
  while (quiet < looks) {
    const seen = yield* look
    if (seen === "failed" || seen === "finished") return
    if (seen === "busy") quiet = 0
    else if (seen !== "unknown") quiet++
    yield* Effect.sleep("100 millis")
  }
})
