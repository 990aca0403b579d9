/** Every known task, keyed by id. The only writer of task state. */
import { Clock, Context, Deferred, Effect, Layer, Option, Schema } from "effect"
import { Config } from "../Config.ts"
import type { SessionId } from "../domain/Session.ts"
import { isSettled, isUntold, type Task, type TaskEvent, type TaskId, transition } from "../domain/Task.ts"

export class TaskNotFound extends Schema.TaggedError<TaskNotFound>()("TaskNotFound", { id: Schema.String }) {
  override get message() {
    return `There is no task "${this.id}". list_tasks shows the ids.`
  }
}

/** No room for another task: all tasks at hand are unsettled. */
export class TooManyTasks extends Schema.TaggedError<TooManyTasks>()("TooManyTasks", { limit: Schema.Int }) {
  override get message() {
    return `${this.limit} tasks are waiting or running already. Wait for some to end, or cancel some.`
  }
}

/** What `apply` did: the task before and after; the same object twice when the event changed nothing. */
export interface Applied {
  readonly before: Task
  readonly after: Task
}

export class TaskStore extends Context.Service<TaskStore, {
  /** Records a new task. It is recorded when this returns. */
  readonly add: (task: Task) => Effect.Effect<void, TooManyTasks>
  /** Decides by the pure transition and records the outcome. Effects that follow from it belong after this returns. */
  readonly apply: (id: TaskId, event: TaskEvent) => Effect.Effect<Applied, TaskNotFound>
  /** The task, from memory or from the archive. */
  readonly get: (id: string) => Effect.Effect<Task, TaskNotFound>
  /** Tasks at hand, oldest first. Those in the archive are found by `get` alone. */
  readonly all: Effect.Effect<ReadonlyArray<Task>>
  /** The newest task that works, or worked, in a session. */
  readonly bySession: (session: SessionId) => Effect.Effect<Option.Option<Task>>
  /** Waits until the task has settled. */
  readonly settled: (id: TaskId) => Effect.Effect<Task, TaskNotFound>
  /** Moves a settled task that its parent knows of out of memory; `get` still finds it. */
  readonly archive: (id: TaskId) => Effect.Effect<void>
}>()("orchestrator/tasks/TaskStore") {
  /** Keeps everything in memory: tasks at hand, and as many archived ones again. */
  static readonly layerMemory = Layer.effect(
    TaskStore,
    Effect.gen(function*() {
      const config = yield* Config
      const tasks = new Map<string, Task>()
      const archived = new Map<string, Task>()
      const ends = new Map<string, Deferred.Deferred<Task>>()

      const find = (id: string): Effect.Effect<Task, TaskNotFound> => {
        const task = tasks.get(id) ?? archived.get(id)
        return task === undefined ? Effect.fail(new TaskNotFound({ id })) : Effect.succeed(task)
      }

      const moveToArchive = (task: Task) => {
        tasks.delete(task.id)
        archived.set(task.id, task)
        for (const id of archived.keys()) {
          if (archived.size <= config.retention.tasks) break
          archived.delete(id)
        }
      }

      return TaskStore.of({
        add: (task) =>
          Effect.suspend(() => {
            if (tasks.size >= config.retention.tasks) {
              const oldest = [...tasks.values()].find((known) => isSettled(known) && known.told)
              if (oldest === undefined) return Effect.fail(new TooManyTasks({ limit: config.retention.tasks }))
              moveToArchive(oldest)
            }
            tasks.set(task.id, task)
            return Effect.void
          }),
        apply: Effect.fnUntraced(function*(id, event) {
          const now = yield* Clock.currentTimeMillis
          const before = yield* find(id)
          const after = transition(before, event, now)
          if (after === before) return { before, after }
          const home = tasks.has(id) ? tasks : archived
          home.set(id, after)
          const end = ends.get(id)
          if (end !== undefined && isSettled(after)) {
            ends.delete(id)
            yield* Deferred.succeed(end, after)
          }
          return { before, after }
        }),
        get: (id) => Effect.suspend(() => find(id)),
        all: Effect.sync(() => [...tasks.values()]),
        bySession: (session) =>
          Effect.sync(() => Option.fromUndefinedOr([...tasks.values()].findLast((task) => task.session === session))),
        settled: Effect.fnUntraced(function*(id) {
          const task = yield* find(id)
          if (isSettled(task)) return task
          const end = ends.get(id) ?? Deferred.makeUnsafe<Task>()
          ends.set(id, end)
          return yield* Deferred.await(end)
        }),
        archive: (id) =>
          Effect.sync(() => {
            const task = tasks.get(id)
            if (task !== undefined && isSettled(task) && !isUntold(task)) moveToArchive(task)
          })
      })
    })
  )
}
