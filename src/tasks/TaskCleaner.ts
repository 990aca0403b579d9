/** Deletes child sessions and archives tasks some time after their end, once the parent has been told. */
import { Clock, Duration, Effect, Layer, Schedule } from "effect"
import { Config } from "../Config.ts"
import { isOpen, type Task, type TaskId } from "../domain/Task.ts"
import { SessionClient } from "../host/SessionClient.ts"
import { TaskArchive } from "./TaskArchive.ts"
import { TaskStore } from "./TaskStore.ts"

/** Cleans every ten seconds. What a pass cannot delete, the next one tries again. */
export const TaskCleaner = {
  layer: Layer.effectDiscard(Effect.gen(function*() {
    const { retention } = yield* Config
    const client = yield* SessionClient
    const store = yield* TaskStore
    const archive = yield* TaskArchive
    /** Tasks at hand whose session has been deleted. */
    const cleaned = new Set<TaskId>()
    /** Tasks that were seen, and whose session is still there: some are archived sooner, to make room. */
    const left = new Map<TaskId, Task>()

    const pass = Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const all = yield* store.all
      const older = (task: Task, age: Duration.Duration) => now - (task.endedAt ?? now) >= Duration.toMillis(age)
      /** Whether its session was old enough, in no other use, and could be deleted. */
      const clean = Effect.fnUntraced(function*({ id, session }: Task) {
        if (session === undefined) return
        const inUse = all.some((other) =>
          other.session === session && (isOpen(other) || !older(other, retention.sessions))
        )
        if (inUse) return
        const isGone = yield* client.delete(session).pipe(Effect.as(true), Effect.orElseSucceed(() => false))
        if (!isGone) return
        cleaned.add(id)
        left.delete(id)
      })
      const atHand = new Set(all.map(({ id }) => id))
      for (const id of cleaned) if (!atHand.has(id)) cleaned.delete(id)
      for (const task of all) if (task.session !== undefined && !cleaned.has(task.id)) left.set(task.id, task)
      // Such a task has ended, though it may not have when it was seen last.
      for (const task of left.values()) {
        if (!atHand.has(task.id) && older({ endedAt: task.activityAt, ...task }, retention.sessions)) yield* clean(task)
      }
      for (const task of all) {
        if (isOpen(task)) continue
        const { session } = task
        if (session !== undefined && !cleaned.has(task.id) && older(task, retention.sessions)) {
          yield* clean(task)
          if (!cleaned.has(task.id)) continue
        }
        const isClean = session === undefined || cleaned.has(task.id)
        if (isClean && older(task, task.state === "completed" ? retention.completed : retention.failed)) {
          if (yield* store.archive(task.id)) cleaned.delete(task.id)
        }
      }
    })

    yield* pass.pipe(
      Effect.catchCause((cause) => Effect.logDebug("a clean-up failed", cause)),
      Effect.repeat(Schedule.spaced("10 seconds")),
      Effect.forkScoped
    )
    yield* archive.prune.pipe(Effect.repeat(Schedule.spaced("1 day")), Effect.forkScoped)
  }))
}
