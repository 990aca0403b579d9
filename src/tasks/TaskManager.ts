/** The parallel agents: takes orders, and answers for the tasks that come of them. */
import { Context, Effect, Exit, FiberSet, Layer, Option } from "effect"
import { BackgroundCommands } from "../commands/BackgroundCommands.ts"
import type { Mission } from "../domain/Mission.ts"
import type { HostEvent, SessionId } from "../domain/Session.ts"
import { isSettled, isUntold, type Task, type TaskId } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient, type SessionError } from "../host/SessionClient.ts"
import { Missions } from "../mission/Missions.ts"
import { Progress } from "../mission/Progress.ts"
import { SharedContext } from "../mission/SharedContext.ts"
import { classify } from "../recovery/ErrorTable.ts"
import { Completion } from "./Completion.ts"
import { Concurrency } from "./Concurrency.ts"
import { Notices } from "./Notices.ts"
import { type Order, type OrderRefused, Orders } from "./Orders.ts"
import { Plans } from "./Plans.ts"
import { TaskLife } from "./TaskLife.ts"
import { TaskNotFound, TaskStore } from "./TaskStore.ts"

export class TaskManager extends Context.Service<TaskManager, {
  /** Checks the order and records the task. Its life goes on in the background, until it settles. */
  readonly launch: (order: Order) => Effect.Effect<Task, OrderRefused>
  /** Launches and waits for the end. The caller's own slot is free meanwhile; when the wait is cut off, the task is cancelled. */
  readonly run: (order: Order) => Effect.Effect<Task, OrderRefused>
  /** A task of the caller's mission. Its parent counts as told when it reads an ended one. */
  readonly result: (id: string, caller: SessionId) => Effect.Effect<Task, TaskNotFound | SessionError>
  /** All tasks at hand of the caller's mission, oldest first. */
  readonly list: (caller: SessionId) => Effect.Effect<ReadonlyArray<Task>, SessionError>
  /** The mission that the caller works for, if it works for one. */
  readonly mission: (caller: SessionId) => Effect.Effect<Mission | undefined, SessionError>
  /** Cancels a task of the caller's mission, with the tasks below it; tells whether it was still unsettled. */
  readonly cancel: (
    id: string,
    caller: SessionId,
    reason: string
  ) => Effect.Effect<boolean, TaskNotFound | SessionError>
  /**
   * Stops the plans of a mission and cancels every unsettled task of it, waits until no child works any more, and deletes
   * their sessions; stops its commands. With `before`, in epoch ms: only what was begun until then.
   */
  readonly cancelMission: (root: SessionId, reason: string, before?: number) => Effect.Effect<void>
  /** Takes an event of the host. */
  readonly observe: (event: HostEvent) => Effect.Effect<void>
}>()("orchestrator/tasks/TaskManager") {
  static readonly layer = Layer.effect(
    TaskManager,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const commands = yield* BackgroundCommands
      const completion = yield* Completion
      const concurrency = yield* Concurrency
      const life = yield* TaskLife
      const missions = yield* Missions
      const notices = yield* Notices
      const notifier = yield* Notifier
      const orders = yield* Orders
      const progress = yield* Progress
      const shared = yield* SharedContext
      const plans = yield* Plans
      const store = yield* TaskStore
      /** Work that goes on beside the caller's. */
      const background = yield* FiberSet.make()

      /** Not to be cut off between the record and the life that sees to it. */
      const begin = Effect.fnUntraced(function*(
        order: Order,
        restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
      ): Effect.fn.Return<Task, OrderRefused> {
        const accepted = yield* restore(orders.check(order))
        yield* orders.record(accepted.task)
        yield* life.begin(accepted, "launch")
        return accepted.task
      })

      const launch = Effect.fn("TaskManager.launch")((order: Order) =>
        Effect.uninterruptibleMask((restore) => begin(order, restore))
      )

      const run = Effect.fn("TaskManager.run")((order: Order) =>
        // Nor between the record and the wait: nobody would ever be told.
        Effect.uninterruptibleMask((restore) =>
          Effect.gen(function*() {
            const task = yield* begin({ ...order, background: false }, restore)
            const wait = Effect.orDie(store.settled(task.id)).pipe( // it was just launched
              // Nobody is left to hear of it: it ends with the call.
              Effect.onInterrupt(() => life.cancel(task.id, cutOff))
            )
            // The caller gets the answer only once it has its slot again.
            return yield* restore(life.parkedWhile(order.parent, wait)).pipe(
              Effect.onExit((exit) => returned(task.id, exit))
            )
          })
        )
      )

      /** A call that waited has its answer; or it was cut off, and what its task came to is told by a notice. */
      const returned = Effect.fnUntraced(function*(id: TaskId, exit: Exit.Exit<Task>) {
        const left = yield* Effect.option(store.get(id))
        // It may have been cut off before it waited.
        if (Exit.isFailure(exit) && Option.exists(left, (task) => !isSettled(task))) yield* life.cancel(id, cutOff)
        const known = yield* Effect.option(store.get(id))
        if (Option.isNone(known)) return
        if (Exit.isSuccess(exit) || known.value.state === "cancelled") return yield* notices.answered(known.value)
        yield* Effect.ignore(store.apply(id, { type: "detached" })) // untold, so it is at hand
        yield* notices.consider(known.value.parent)
      })

      const find = Effect.fnUntraced(function*(id: string, caller: SessionId) {
        const task = yield* store.get(id.trim())
        return task.mission === (yield* orders.missionOf(caller)) ? task : yield* new TaskNotFound({ id })
      })

      const observe = Effect.fnUntraced(function*(event: HostEvent) {
        yield* completion.observe(event)
        if (event.type === "deleted") {
          yield* orders.forget(event.session)
          yield* plans.stop(({ root }) => root === event.session)
          const cleanUp = Effect.all([
            commands.release(event.session, "its session was deleted"),
            life.cancelAll((task) => task.parent === event.session, "its parent session was deleted"),
            commands.endAll((command) => command.mission === event.session, "its session was deleted"),
            notices.forget(event.session),
            shared.forget(event.session),
            progress.clear(event.session)
          ], { discard: true })
          yield* FiberSet.run(background, cleanUp) // stopping children takes a while, and the next event must not wait
          return
        }
        if (event.type === "tool" && event.status === "completed" && answering.has(event.tool)) {
          yield* notices.delivered(event.session)
        }
        const retry = event.type === "status" && event.status.type === "retry" ? event.status : undefined
        if (retry !== undefined && classify({ name: "", message: retry.message }) === "rate limit") {
          yield* FiberSet.run(background, throttle(event.session, retry.next))
        }
        const task = yield* store.bySession(event.session)
        if (task._tag === "None") return
        const id = task.value.id
        switch (event.type) {
          case "permission":
          case "question":
            yield* notifier.show(presets.asking(task.value))
            yield* Effect.ignore(store.apply(id, { type: "seen", asking: true })) // here and below: it may be archived by now
            return
          case "usage":
            yield* Effect.ignore(store.apply(id, { type: "used", usage: event.usage }))
            return
          case "status":
          case "tool":
          case "activity":
            yield* Effect.ignore(store.apply(id, { type: "seen", retrying: retry?.message }))
        }
      })

      /** A provider limits what a child, or the Commander, asks of it. */
      const throttle = Effect.fnUntraced(function*(session: SessionId, until: number) {
        const task = Option.getOrUndefined(yield* store.bySession(session))
        const works = task === undefined ? (yield* missions.get(session))?.state === "active" : !isSettled(task)
        if (!works) return
        const model = task === undefined ? (yield* client.get(session)).model : task.model
        if (model !== undefined) yield* concurrency.throttle(model.provider, until)
      }, Effect.catch((error) => Effect.logDebug("a provider that limits requests could not be throttled", error)))

      return TaskManager.of({
        launch,
        run,
        result: Effect.fn("TaskManager.result")(function*(id: string, caller: SessionId) {
          const task = yield* find(id, caller)
          if (isUntold(task) && task.parent === caller && task.notice === undefined) yield* notices.answered(task)
          return task
        }),
        list: Effect.fn("TaskManager.list")(function*(caller: SessionId) {
          const mission = yield* orders.missionOf(caller)
          return (yield* store.all).filter((task) => task.mission === mission)
        }),
        mission: (caller) => Effect.flatMap(orders.missionOf(caller), missions.get),
        cancel: Effect.fn("TaskManager.cancel")(function*(id: string, caller: SessionId, reason: string) {
          const task = yield* find(id, caller)
          if (isSettled(task)) return false
          yield* Effect.uninterruptible(life.cancel(task.id, reason)) // cut off midway it would leave the tasks below to run
          return true
        }),
        cancelMission: Effect.fn("TaskManager.cancelMission")(function*(
          root: SessionId,
          reason: string,
          before = Infinity
        ) {
          const belongs = (task: Task) => task.mission === root && task.createdAt < before
          yield* plans.stop((plan) => plan.root === root && plan.createdAt < before) // first: nothing of it may start meanwhile
          const stopped = (yield* store.all).filter((task) => !isSettled(task) && belongs(task))
          yield* Effect.all([
            life.cancelAll(belongs, reason),
            commands.endAll((command) => command.mission === root && command.startedAt < before, reason)
          ], { concurrency: 2 })
          for (const { id } of stopped) {
            const { session } = yield* Effect.orDie(store.get(id)) // it was just cancelled
            if (session !== undefined) yield* Effect.ignore(client.delete(session)) // the cleaner tries again
          }
        }),
        observe
      })
    })
  )
}

const cutOff = "the call that waited for it was aborted"

/** Tools whose answer tells the caller of the end of a task, or of its command. */
const answering: ReadonlySet<string> = new Set([
  "delegate_task",
  "call_agent",
  "get_task_result",
  "check_background",
  "kill_background"
])
