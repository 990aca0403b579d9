/** How missions get on: snapshots at each end of a task, and what can be said from them in a line. */
import { Clock, Context, Effect, Layer, Queue } from "effect"
import { Config } from "../Config.ts"
import { addSnapshot, formatBar, remaining, type Snapshot } from "../domain/Progress.ts"
import type { SessionId } from "../domain/Session.ts"
import { isSettled, type TaskId } from "../domain/Task.ts"
import { TaskStore } from "../tasks/TaskStore.ts"
import { TodoEnforcer } from "./TodoEnforcer.ts"

export class Progress extends Context.Service<Progress, {
  /** Something about the mission has changed: a snapshot is taken soon, one for all that changes until then. */
  readonly changed: (root: SessionId) => Effect.Effect<void>
  /** Takes a snapshot now. */
  readonly record: (root: SessionId) => Effect.Effect<void>
  /** Oldest first; the newest `progressSnapshots` that say something new. */
  readonly snapshots: (root: SessionId) => Effect.Effect<ReadonlyArray<Snapshot>>
  /** Where the mission stands now, as one line for toasts, commands and terminals. */
  readonly line: (root: SessionId) => Effect.Effect<string>
  /** The mission has ended. */
  readonly clear: (root: SessionId) => Effect.Effect<void>
}>()("orchestrator/mission/Progress") {
  static readonly layer = Layer.effect(
    Progress,
    Effect.gen(function*() {
      const { progressSnapshots } = yield* Config
      const store = yield* TaskStore
      const todos = yield* TodoEnforcer
      const tracks = new Map<SessionId, Track>()
      const dirty = new Set<SessionId>()
      const wake = yield* Queue.sliding<void>(1)

      /** Tasks are counted by what was seen of them: those of a long mission are archived before it ends. */
      const count = Effect.fnUntraced(function*(root: SessionId) {
        const steps = yield* todos.progress(root)
        const at = yield* Clock.currentTimeMillis
        const tasks = (yield* store.all).filter((task) => task.mission === root)
        const known = tracks.get(root)
        const track = known ?? { tasks: new Map<TaskId, boolean>(), since: at, snapshots: [] }
        for (const task of tasks) track.tasks.set(task.id, isSettled(task))
        const since = tasks.reduce((least, { createdAt }) => Math.min(least, createdAt), track.since)
        const done = [...track.tasks.values()].filter((settled) => settled).length
        const unit = steps.total > 0 ? "steps" : "tasks"
        const running = tasks.filter((task) => !isSettled(task) && task.state !== "queued").length
        const counted = steps.total > 0 ? steps : { done, total: track.tasks.size }
        // When its first task was ordered, none had ended.
        const before: ReadonlyArray<Snapshot> = known === undefined && unit === "tasks" && since < at
          ? [{ at: since, unit, done: 0, total: track.tasks.size, running: 0 }]
          : track.snapshots
        const snapshots = addSnapshot(before, { ...counted, at, unit, running }, progressSnapshots)
        tracks.delete(root)
        tracks.set(root, { ...track, since, snapshots })
        for (const oldest of tracks.keys()) {
          if (tracks.size <= missionsKept) break
          tracks.delete(oldest)
        }
        return { ...counted, running, elapsed: at - since, remaining: remaining(snapshots, at) }
      })

      yield* Queue.take(wake).pipe(
        Effect.andThen(Effect.sleep(delay)),
        Effect.andThen(Effect.suspend(() => {
          const roots = [...dirty]
          dirty.clear()
          return Effect.forEach(roots, count, { discard: true })
        })),
        Effect.catchCause((cause) =>
          Effect.logError("the progress could not be recorded; the next change tries again", cause)
        ),
        Effect.forever,
        Effect.forkScoped
      )

      return Progress.of({
        changed: (root) =>
          Effect.sync(() => {
            dirty.add(root)
            Queue.offerUnsafe(wake, undefined)
          }),
        record: (root) => Effect.asVoid(count(root)),
        snapshots: (root) => Effect.sync(() => tracks.get(root)?.snapshots ?? []),
        line: (root) => Effect.map(count(root), formatBar),
        clear: (root) =>
          Effect.sync(() => {
            tracks.delete(root)
            dirty.delete(root)
          })
      })
    })
  )
}

interface Track {
  /** Each task that was seen, and whether it had ended. */
  readonly tasks: Map<TaskId, boolean>
  readonly since: number
  readonly snapshots: ReadonlyArray<Snapshot>
}

/** Tasks often end together. */
const delay = "2 seconds"

/** Missions that are followed at once; the one that changed least recently goes first. */
const missionsKept = 1_000
