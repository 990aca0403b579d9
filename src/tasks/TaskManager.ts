/** The parallel agents: launches tasks, sees each of them through to its end, and answers for them. */
import { Context, Duration, Effect, Fiber, FiberMap, FiberSet, Layer } from "effect"
import { Config } from "../Config.ts"
import {
  type HostEvent,
  isAbort,
  type MessageId,
  ownPrompt,
  readTurn,
  type SessionId,
  type TurnError
} from "../domain/Session.ts"
import {
  formatDuration,
  isOpen,
  isSettled,
  isUntold,
  type Task,
  type TaskEnd,
  type TaskEvent,
  type TaskId
} from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient, type SessionError, untilHostAnswers } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { Completion, newestMessages, type Watch } from "./Completion.ts"
import { Concurrency, type Slot } from "./Concurrency.ts"
import { Notices } from "./Notices.ts"
import { type Accepted, type Order, type OrderRefused, Orders } from "./Orders.ts"
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
  /** Cancels a task of the caller's mission, with the tasks below it; tells whether it was still unsettled. */
  readonly cancel: (
    id: string,
    caller: SessionId,
    reason: string
  ) => Effect.Effect<boolean, TaskNotFound | SessionError>
  /** Cancels every unsettled task of a mission, waits until no child works any more, and deletes their sessions. */
  readonly cancelMission: (root: SessionId, reason: string) => Effect.Effect<void>
  /** Takes an event of the host. */
  readonly observe: (event: HostEvent) => Effect.Effect<void>
}>()("orchestrator/tasks/TaskManager") {
  static readonly layer = Layer.effect(
    TaskManager,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const completion = yield* Completion
      const concurrency = yield* Concurrency
      const config = yield* Config
      const ids = yield* Ids
      const notices = yield* Notices
      const notifier = yield* Notifier
      const store = yield* TaskStore
      const orders = yield* Orders
      /** Work that goes on beside the caller's; it outlives `lives`, whose ends use it. */
      const background = yield* FiberSet.make()
      const lives = yield* FiberMap.make<TaskId>()
      const slots = new Map<SessionId, Slot>()
      const unsettled = (belongs: (task: Task) => boolean) =>
        Effect.map(store.all, (all) => all.filter((task) => !isSettled(task) && belongs(task)))

      const apply = (id: TaskId, event: TaskEvent) => Effect.orDie(store.apply(id, event)) // an unsettled task is never archived, so it is always found

      // ---- ending ---------------------------------------------------------------------------------------------

      /** Settles the task, if this is the first end of its current run, and does what follows from it. */
      const settle = Effect.fnUntraced(function*(id: TaskId, run: number, end: TaskEnd) {
        const { before, after } = yield* apply(id, { type: "ended", run, end })
        if (after === before) return
        yield* notifier.show(after.state === "completed" ? presets.taskCompleted(after) : presets.taskFailed(after))
        yield* notices.consider(after.parent)
      })

      /** What a task that ended badly leaves behind. Once its child is quiet: else a call of it that waits would return to it. */
      const cancelBelow = Effect.fnUntraced(function*(id: TaskId) {
        const { session, state } = yield* Effect.orDie(store.get(id)) // it has only just settled
        if (session === undefined || state === "completed") return
        yield* cancelAll((task) => task.parent === session, `its parent ${id} ended`)
        yield* notices.forget(session)
      })

      /** Settles, then ends the life of the task, which stops its child and gives its slot back. */
      const cancelTask = Effect.fnUntraced(function*(task: Task, reason: string) {
        yield* settle(task.id, task.run, { state: "cancelled", reason: `Cancelled: ${reason}.` })
        yield* FiberMap.remove(lives, task.id)
        yield* cancelBelow(task.id)
      })

      const cancelAll = (belongs: (task: Task) => boolean, reason: string): Effect.Effect<void> =>
        Effect.flatMap(
          unsettled(belongs),
          (tasks) =>
            Effect.forEach(tasks, (task) => cancelTask(task, reason), { concurrency: "unbounded", discard: true })
        )

      /**
       * Aborts a child until it is quiet. The host forgets an abort that comes before it has begun the turn, and a
       * deleted session's turn goes on: so look again until the turn has an end, or nothing was seen of it for 2 s.
       */
      const stopLooking = Effect.fnUntraced(function*(session: SessionId, prompt: MessageId) {
        const look = Effect.gen(function*() {
          if ((yield* client.statuses).has(session)) {
            yield* client.abort(session)
            return "busy"
          }
          return readTurn(yield* client.messages(session, newestMessages), prompt).state
        }).pipe(
          Effect.catchTag("SessionNotFound", () => Effect.succeed("gone" as const)),
          Effect.orElseSucceed(() => "unknown" as const) // a host that does not answer is asked again
        )
        let quiet = 0
        while (quiet < 20) {
          const seen = yield* look
          if (seen === "failed" || seen === "finished") return
          if (seen === "busy") quiet = 0
          else if (seen !== "unknown") quiet++
          yield* Effect.sleep("100 millis")
        }
      })

      /** Stops a child, in a fiber of its own: finalizers call it, where nothing can be timed out. */
      const stop = (session: SessionId, prompt: MessageId) =>
        stopLooking(session, prompt).pipe(
          Effect.timeoutOrElse({
            duration: "15 seconds",
            orElse: () => Effect.logWarning(`could not stop the session ${session}`)
          }),
          (stopping) => FiberSet.run(background, stopping),
          Effect.flatMap(Fiber.await),
          Effect.asVoid
        )

      // ---- the life of a task -----------------------------------------------------------------------------------

      /** From the line for a slot to the settled task. The child is stopped before its slot is given back. */
      const live = Effect.fnUntraced(function*(accepted: Accepted) {
        const { task } = accepted
        const slot = yield* concurrency.slot({ task: task.id, agent: task.agent, model: task.model })
        const end = yield* attempt(accepted, slot).pipe(
          Effect.timeoutOrElse({
            duration: config.taskTimeLimit,
            orElse: () =>
              Effect.succeed<TaskEnd>({
                state: "timed_out",
                reason: `It was stopped at its time limit of ${words(config.taskTimeLimit)}.`
              })
          }),
          Effect.catch((error) => Effect.succeed<TaskEnd>({ state: "failed", reason: error.message })),
          Effect.catchDefect((defect) =>
            Effect.as(
              Effect.logError("a task failed inside the orchestrator", defect),
              { state: "failed", reason: `The orchestrator itself failed: ${String(defect)}` } satisfies TaskEnd
            )
          )
        )
        const { run } = yield* Effect.orDie(store.get(task.id)) // unsettled, so it is at hand
        yield* settle(task.id, run, end)
      }, (life, { task }) =>
        Effect.scoped(life).pipe(
          Effect.andThen(cancelBelow(task.id)),
          // A forked fiber that fails says nothing by itself.
          Effect.tapDefect((defect) => Effect.logError(`the life of ${task.id} broke off`, defect))
        ))

      /** Runs the task in its slot, to the end of its last run. */
      const attempt = Effect.fnUntraced(function*(accepted: Accepted, slot: Slot) {
        const child = { idle: false }
        const { promptId, session, watch } = yield* start(accepted, slot, child)
        const end = yield* attend(accepted.task, session, watch, promptId, slot)
        child.idle = end.state === "completed"
        return end
      })

      /** Creates the child and gives it its order. Whatever happens later, it is stopped unless it is known to be idle. */
      const start = Effect.fnUntraced(function*(
        { limits, permission, task }: Accepted,
        slot: Slot,
        child: { readonly idle: boolean }
      ) {
        yield* apply(task.id, { type: "launching", run: task.run })
        // Not to be cut off between the host's making of a session and our knowing of it.
        const session = yield* Effect.uninterruptible(Effect.gen(function*() {
          const session = task.session ?? (yield* client.create({
            title: `${task.description} (${task.agent})`,
            parent: task.parent,
            agent: task.agent,
            permission,
            metadata: { orchestrator: { task: task.id, run: task.run, limits } }
          })).id
          yield* apply(task.id, { type: "created", run: task.run, session })
          return session
        }))
        yield* notifier.show(presets.sessionCreated(task))
        const watch = yield* completion.watch(session)
        slots.set(session, slot)
        yield* Effect.addFinalizer(() => Effect.sync(() => slots.delete(session)))
        const promptId = yield* ids.message
        yield* Effect.addFinalizer(() => (child.idle ? Effect.void : stop(session, promptId)))
        yield* say(task, session, promptId, task.prompt)
        yield* apply(task.id, { type: "prompted", run: task.run, promptId })
        return { promptId, session, watch }
      })

      const say = (task: Task, session: SessionId, id: MessageId, text: string) =>
        client.prompt({ session, id, text, agent: task.agent, model: task.model, metadata: ownPrompt("task") }).pipe(
          untilHostAnswers
        )

      /** Waits for the child's last word: turn after turn while it waits for tasks of its own, run after run while it stalls. */
      const attend = Effect.fnUntraced(function*(
        task: Task,
        session: SessionId,
        watch: Watch,
        promptId: MessageId,
        slot: Slot
      ): Effect.fn.Return<TaskEnd, SessionError> {
        let run = task.run
        let prompt = promptId
        while (true) {
          const outcome = yield* watch.outcome(prompt)
          switch (outcome.type) {
            case "gone":
              return { state: "failed", reason: "Its session was deleted while it worked." }
            case "failed":
              return describeFailure(outcome.error)
            case "finished": {
              if (yield* settledForGood(session, prompt)) return { state: "completed", result: outcome.text }
              yield* waitForOwnTasks(task.id, run, session, slot)
              continue
            }
            case "stalled": {
              if (run >= config.maxRuns) {
                return {
                  state: "failed",
                  reason: outcome.started
                    ? "It went idle in the middle of its work, and again after it was told to go on."
                    : `OpenCode did not begin its turn within ${words(config.startTimeout)}.`
                }
              }
              run++
              prompt = yield* ids.message
              yield* apply(task.id, { type: "resumed", run, promptId: prompt })
              yield* say(task, session, prompt, goOn)
            }
          }
        }
      })

      /** Whether a finished turn is the child's last: no task of its own is unsettled or untold, and none was told meanwhile. */
      const settledForGood = Effect.fnUntraced(function*(session: SessionId, prompt: MessageId) {
        const own = (yield* store.all).filter((task) => task.parent === session)
        if (own.length === 0) return true
        return yield* notices.quietly(
          session,
          Effect.gen(function*() {
            const open = (yield* store.all).some((task) => task.parent === session && isOpen(task))
            if (open) return false
            const messages = yield* untilHostAnswers(client.messages(session, newestMessages))
            return readTurn(messages, prompt).state === "finished"
          })
        )
      })

      /** Waits without a slot until the child's own tasks have settled, or the oldest ended one has waited long enough; then tells it. */
      const waitForOwnTasks = Effect.fnUntraced(function*(id: TaskId, run: number, session: SessionId, slot: Slot) {
        const open = yield* unsettled((task) => task.parent === session)
        const allSettled = Effect.forEach(open, (task) => Effect.orDie(store.settled(task.id)), { // unsettled: it is at hand
          concurrency: "unbounded",
          discard: true
        })
        const waiting = Effect.acquireUseRelease(
          apply(id, { type: "waiting", run, waiting: true }),
          () => Effect.timeoutOption(allSettled, config.noticeMaxWait),
          () => Effect.asVoid(Effect.orDie(store.apply(id, { type: "waiting", run, waiting: false }))) // settled tasks ignore it
        )
        yield* slot.parkedWhile(waiting)
        yield* notices.flush(session).pipe(untilHostAnswers)
      })

      // ---- orders -------------------------------------------------------------------------------------------------

      const launch = Effect.fn("TaskManager.launch")((order: Order): Effect.Effect<Task, OrderRefused> =>
        Effect.uninterruptibleMask((restore) =>
          Effect.gen(function*() {
            const accepted = yield* restore(orders.check(order))
            const { task } = accepted
            // Not to be cut off between the record and the life that sees to it.
            yield* orders.record(task)
            yield* FiberMap.run(lives, task.id, Effect.interruptible(live(accepted)))
            return task
          })
        )
      )

      const run = Effect.fn("TaskManager.run")(function*(order: Order): Effect.fn.Return<Task, OrderRefused> {
        const task = yield* launch({ ...order, background: false })
        const wait = Effect.orDie(store.settled(task.id)).pipe( // it was just launched
          Effect.onInterrupt(() => cancelTask(task, "the call that waited for it was aborted")),
          // Whatever becomes of the call from here on, nobody else would tell of this task.
          Effect.ensuring(apply(task.id, { type: "told" }))
        )
        const slot = slots.get(order.parent)
        return yield* slot === undefined ? wait : slot.parkedWhile(wait)
      })

      // ---- answers ------------------------------------------------------------------------------------------------

      const find = Effect.fnUntraced(function*(id: string, caller: SessionId) {
        const task = yield* store.get(id.trim())
        return task.mission === (yield* orders.missionOf(caller)) ? task : yield* new TaskNotFound({ id })
      })

      const observe = Effect.fnUntraced(function*(event: HostEvent) {
        yield* completion.observe(event)
        if (event.type === "deleted") {
          yield* orders.forget(event.session)
          const cleanUp = Effect.andThen(
            cancelAll((task) => task.parent === event.session, "its parent session was deleted"),
            notices.forget(event.session)
          )
          yield* FiberSet.run(background, cleanUp) // stopping children takes a while, and the next event must not wait
          return
        }
        const task = yield* store.bySession(event.session)
        if (task._tag === "None") return
        const id = task.value.id
        if (event.type === "permission" || event.type === "question") yield* notifier.show(presets.asking(task.value))
        if (event.type === "usage") yield* Effect.ignore(store.apply(id, { type: "observed", usage: event.usage })) // may be archived by now
        else if (event.type === "status" || event.type === "tool") {
          const retrying = event.type === "status" && event.status.type === "retry" ? event.status.message : undefined
          yield* Effect.ignore(store.apply(id, { type: "observed", retrying })) // may be archived by now
        }
      })

      return TaskManager.of({
        launch,
        run,
        result: Effect.fn("TaskManager.result")(function*(id: string, caller: SessionId) {
          const task = yield* find(id, caller)
          if (isUntold(task) && task.parent === caller && task.notice === undefined) {
            yield* store.apply(task.id, { type: "told" })
          }
          return task
        }),
        list: Effect.fn("TaskManager.list")(function*(caller: SessionId) {
          const mission = yield* orders.missionOf(caller)
          return (yield* store.all).filter((task) => task.mission === mission)
        }),
        cancel: Effect.fn("TaskManager.cancel")(function*(id: string, caller: SessionId, reason: string) {
          const task = yield* find(id, caller)
          if (isSettled(task)) return false
          yield* Effect.uninterruptible(cancelTask(task, reason)) // cut off midway it would leave the tasks below to run
          return true
        }),
        cancelMission: Effect.fn("TaskManager.cancelMission")(function*(root: SessionId, reason: string) {
          const stopped = yield* unsettled((task) => task.mission === root)
          yield* cancelAll((task) => task.mission === root, reason)
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

const goOn = "Your last turn ended before you were finished. Go on where you stopped, and end with your result."

const words = (time: Duration.Duration): string => formatDuration(Duration.toMillis(time))

const describeFailure = (error: TurnError): TaskEnd =>
  isAbort(error)
    ? { state: "cancelled", reason: "Cancelled: its session was aborted." }
    : { state: "failed", reason: error.message || error.name }
