/** Every known task, keyed by id. The only writer of task state. */
import { Clock, Context, Deferred, Effect, Exit, Layer, Option, Schema } from "effect"
import { Config } from "../Config.ts"
import type { SessionId } from "../domain/Session.ts"
import { further, isSettled, isUntold, type Task, type TaskEvent, type TaskId, transition } from "../domain/Task.ts"
import { Telemetry } from "../Telemetry.ts"
import { TaskArchive } from "./TaskArchive.ts"
import { type JournalFailed, TaskJournal } from "./TaskJournal.ts"

export class TaskNotFound extends Schema.TaggedError<TaskNotFound>()("TaskNotFound", { id: Schema.String }) {
  override get message() {
    return `There is no task "${this.id}". list_tasks shows the ids.`
  }
}

/** No room for another task: all tasks at hand are unsettled, untold, or cannot be archived. */
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
  /** Records a new task. It is recorded when this returns; when it fails, there is no such task. */
  readonly add: (task: Task) => Effect.Effect<void, TooManyTasks | JournalFailed>
  /** Takes over a task that another instance recorded. What is known already is kept when it is further along. */
  readonly adopt: (task: Task) => Effect.Effect<Task, JournalFailed>
  /** Decides by the pure transition and records the outcome. Effects that follow from it belong after this returns. */
  readonly apply: (id: TaskId, event: TaskEvent) => Effect.Effect<Applied, TaskNotFound>
  /** The task, from memory, from the archive, or from the journal of another instance. */
  readonly get: (id: string) => Effect.Effect<Task, TaskNotFound>
  /** Tasks at hand, oldest first. Those in the archive are found by `get` alone. */
  readonly all: Effect.Effect<ReadonlyArray<Task>>
  /** The newest task that works, or worked, in a session. */
  readonly bySession: (session: SessionId) => Effect.Effect<Option.Option<Task>>
  /** Waits until the task has settled, and its end is recorded. */
  readonly settled: (id: TaskId) => Effect.Effect<Task, TaskNotFound>
  /** Moves a settled task that its parent knows of out of memory; `get` still finds it. Tells whether it could. */
  readonly archive: (id: TaskId) => Effect.Effect<boolean>
}>()("orchestrator/tasks/TaskStore") {
  static readonly layer = Layer.effect(
    TaskStore,
    Effect.gen(function*() {
      const archive = yield* TaskArchive
      const config = yield* Config
      const journal = yield* TaskJournal
      const telemetry = yield* Telemetry
      const tasks = new Map<string, Task>()
      const ends = new Map<string, Deferred.Deferred<Task>>()
      /** Tasks whose end is being recorded. */
      const ending = new Set<string>()

      const find = Effect.fnUntraced(function*(id: string) {
        const known = tasks.get(id)
        if (known !== undefined) return known
        const archived = yield* archive.find(id)
        const task = Option.isSome(archived) ? archived : yield* journal.elsewhere(id)
        return Option.isSome(task) ? task.value : yield* new TaskNotFound({ id })
      })

      const put = Effect.fnUntraced(function*(task: Task) {
        tasks.set(task.id, task)
        const recorded = yield* Effect.exit(journal.record("task", task.id, task))
        if (Exit.isSuccess(recorded)) return
        if (config.journal === "preferred" && !(yield* journal.isLost)) return
        yield* journal.drop("task", task.id)
        tasks.delete(task.id)
        yield* recorded
      }, Effect.uninterruptible)

      const moveToArchive = Effect.fnUntraced(function*(task: Task) {
        yield* archive.add(task)
        tasks.delete(task.id)
        yield* journal.drop("task", task.id)
      })

      return TaskStore.of({
        add: Effect.fnUntraced(function*(task) {
          if (tasks.size >= config.retention.tasks) {
            const full = new TooManyTasks({ limit: config.retention.tasks })
            const oldest = [...tasks.values()].find((known) => isSettled(known) && known.told)
            if (oldest === undefined) return yield* full
            yield* Effect.mapError(moveToArchive(oldest), () => full)
          }
          yield* put(task)
          telemetry.task(undefined, task, yield* Clock.currentTimeMillis)
        }),
        adopt: Effect.fnUntraced(function*(task) {
          const known = tasks.get(task.id)
          if (known !== undefined && further(known, task) === known) return known
          yield* put(task)
          telemetry.task(known, task, yield* Clock.currentTimeMillis)
          return task
        }),
        apply: Effect.fnUntraced(function*(id, event) {
          const now = yield* Clock.currentTimeMillis
          const before = tasks.get(id)
          if (before === undefined) return yield* new TaskNotFound({ id })
          const after = transition(before, event, now)
          if (after === before) return { before, after }
          tasks.set(id, after)
          if (event.type !== "ended") telemetry.task(before, after, now)
          if (event.type === "seen" || event.type === "used" || event.type === "stalled") {
            yield* journal.note("task", id, after)
            return { before, after }
          }
          if (event.type === "ended") ending.add(id)
          yield* Effect.ignore(journal.record("task", id, after)) // what fails is said by the journal, which tries again
          // Nothing may follow from a transition of a task that belongs to another instance by now.
          if (yield* journal.isLost) return yield* Effect.interrupt
          const end = ends.get(id)
          if (event.type === "ended") {
            telemetry.task(before, after, now) // not before: an end that was not recorded is another instance's to count
            ending.delete(id)
            ends.delete(id)
            if (end !== undefined) yield* Deferred.succeed(end, after)
          }
          return { before, after }
        }, Effect.uninterruptible),
        get: find,
        all: Effect.sync(() => [...tasks.values()]),
        bySession: (session) =>
          Effect.sync(() => Option.fromUndefinedOr([...tasks.values()].findLast((task) => task.session === session))),
        settled: Effect.fnUntraced(function*(id) {
          const task = yield* find(id)
          if (isSettled(task) && !ending.has(task.id)) return task
          const end = ends.get(id) ?? Deferred.makeUnsafe<Task>()
          ends.set(id, end)
          return yield* Deferred.await(end)
        }),
        archive: Effect.fnUntraced(function*(id) {
          const task = tasks.get(id)
          if (task === undefined || !isSettled(task) || isUntold(task)) return false
          return yield* moveToArchive(task).pipe(
            Effect.as(true),
            Effect.catch((error) => Effect.as(Effect.logWarning("a task could not be archived yet", error), false))
          )
        })
      })
    })
  )
}
