/** The safety net for lost events: one status request for all running tasks, never overlapping itself. */
import { Effect, Layer, Option, Schedule } from "effect"
import { Config } from "../Config.ts"
import { isSettled } from "../domain/Task.ts"
import { SessionClient } from "../host/SessionClient.ts"
import { Completion } from "./Completion.ts"
import { TaskStore } from "./TaskStore.ts"

/** Polls while any session is watched. A pass that fails changes nothing and is followed by the next one. */
export const TaskPoller = {
  layer: Layer.effectDiscard(Effect.gen(function*() {
    const config = yield* Config
    const client = yield* SessionClient
    const completion = yield* Completion
    const store = yield* TaskStore

    const pass = Effect.gen(function*() {
      if (!(yield* completion.watching)) return
      const statuses = yield* client.statuses
      for (const [session, status] of statuses) {
        const task = yield* store.bySession(session)
        if (Option.isNone(task) || isSettled(task.value)) continue
        const retrying = status.type === "retry" ? status.message : undefined
        if (task.value.retrying?.message !== retrying) yield* store.apply(task.value.id, { type: "seen", retrying })
      }
      yield* completion.poll(statuses)
    })

    yield* pass.pipe(
      Effect.catchCause((cause) => Effect.logDebug("a poll failed", cause)),
      Effect.repeat(Schedule.spaced(config.pollInterval)),
      Effect.forkScoped
    )
  }))
}
