/**
 * Runs plans: launches each task as soon as those it depends on are completed, and never two at once that name the same
 * file. What depends on a task that ended badly is not run; all the rest is. The results are told together, at the end.
 */
import {
  Cause,
  Clock,
  Context,
  Duration,
  Effect,
  Fiber,
  FiberSet,
  Layer,
  Option,
  Queue,
  Schema,
  Semaphore
} from "effect"
import { Config } from "../Config.ts"
import { type End, endState, redone } from "../domain/Inspection.ts"
import {
  BadPlan,
  blockedBy,
  type Plan,
  readPlan,
  sharedPath,
  type StartedNode,
  type StartedPlan
} from "../domain/Plan.ts"
import type { SessionId } from "../domain/Session.ts"
import { isOpen, outcome, queued, type TaskId } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import {
  type HostError,
  SessionClient,
  type SessionError,
  type SessionNotFound,
  untilHostAnswers
} from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { Notices } from "../tasks/Notices.ts"
import { type Order, type OrderRefused, Orders } from "../tasks/Orders.ts"
import { Plans } from "../tasks/Plans.ts"
import { type JournalFailed, TaskJournal } from "../tasks/TaskJournal.ts"
import { TaskLife } from "../tasks/TaskLife.ts"
import { TaskManager } from "../tasks/TaskManager.ts"
import { TaskStore, type TooManyTasks } from "../tasks/TaskStore.ts"
import { TodoEnforcer } from "./TodoEnforcer.ts"

export class NotARoot extends Schema.TaggedError<NotARoot>()("NotARoot", {}) {
  override get message() {
    return "Only the session that the user talks to may run a plan. Answer with the plan instead."
  }
}

export class TooManyPlans extends Schema.TaggedError<TooManyPlans>()("TooManyPlans", { limit: Schema.Int }) {
  override get message() {
    return `${this.limit} plans are running already. Wait for one to end, or delegate the tasks one by one.`
  }
}

export type PlanRefused = BadPlan | NotARoot | TooManyPlans | JournalFailed | SessionError | HostError

/** A task of a plan, and what it does now. */
export interface Standing {
  readonly node: StartedNode
  /** `waits` says for what, in words. */
  readonly state: "launched" | "ended" | "blocked" | { readonly waits: string }
}

export class TaskDecomposer extends Context.Service<TaskDecomposer, {
  /** Checks the plan, records it, and launches what need not wait. It goes on in the background to its end. */
  readonly run: (text: string, by: { readonly session: SessionId; readonly agent: string }) => Effect.Effect<
    StartedPlan,
    PlanRefused
  >
  /**
   * The same with a plan that was read already, by somebody who may use its agents. Each task that ends badly is run again
   * at once, up to `retries` times (0); so is what a check finds fault with, and the check.
   */
  readonly start: (
    plan: Plan,
    by: { readonly session: SessionId; readonly agent: string },
    retries?: number
  ) => Effect.Effect<StartedPlan, PlanRefused>
  /** How the tasks of a plan have ended, in the plan's order, those in the archive too. */
  readonly ends: (plan: StartedPlan) => Effect.Effect<ReadonlyArray<End>>
  /** How the tasks of a plan stand, in the plan's order. */
  readonly standings: (plan: StartedPlan) => ReadonlyArray<Standing>
  /** Launches nothing more of a plan of the caller's, and cancels what runs of it; tells whether it was running. */
  readonly stop: (id: string, caller: SessionId) => Effect.Effect<boolean>
  /** Goes on with plans that an earlier instance started, whose tasks are known by now. */
  readonly goOn: (plans: ReadonlyArray<StartedPlan>) => Effect.Effect<void>
}>()("orchestrator/mission/TaskDecomposer") {
  static readonly layer = Layer.effect(
    TaskDecomposer,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const ids = yield* Ids
      const journal = yield* TaskJournal
      const life = yield* TaskLife
      const manager = yield* TaskManager
      const notices = yield* Notices
      const notifier = yield* Notifier
      const orders = yield* Orders
      const plans = yield* Plans
      const store = yield* TaskStore
      const todos = yield* TodoEnforcer
      /** For each plan that runs here, how its tasks stand: those that were not launched are absent. */
      const running = new Map<string, Map<string, "launched" | "completed" | "failed">>()
      /** Tasks whose child may still be at work on its files. */
      const atWork = new Map<TaskId, StartedNode>()
      const watchers = yield* FiberSet.make()
      const wake = yield* Queue.sliding<void>(1)
      const oneAtATime = yield* Semaphore.make(1)

      // ---- what may begin -------------------------------------------------------------------------------------------

      const standings = (plan: StartedPlan): ReadonlyArray<Standing> => {
        const known = running.get(plan.id) ?? new Map<string, "launched" | "completed" | "failed">()
        const blocked = blockedBy(plan.nodes, (id) => known.get(id) === "failed")
        const busy = [...atWork.values()]
        return plan.nodes.map((node) => {
          const state = known.get(node.id)
          if (state !== undefined) return { node, state: state === "launched" ? state : "ended" }
          if (blocked.has(node.id)) return { node, state: "blocked" }
          const missing = node.depends.filter((id) => known.get(id) !== "completed")
          if (missing.length > 0) return { node, state: { waits: `for ${missing.join(", ")}` } }
          const other = busy.find((other) => sharedPath(node, other) !== undefined)
          const path = other === undefined ? undefined : sharedPath(node, other)
          return { node, state: { waits: path === undefined ? "" : `for ${other?.id}, which works on ${path}` } }
        })
      }

      /** Tasks that can begin now, side by side. */
      const ready = (plan: StartedPlan): ReadonlyArray<StartedNode> => {
        const chosen: Array<StartedNode> = []
        for (const { node, state } of standings(plan)) {
          if (typeof state === "string" || state.waits !== "") continue
          if (chosen.every((other) => sharedPath(node, other) === undefined)) chosen.push(node)
        }
        return chosen
      }

      // ---- launching ------------------------------------------------------------------------------------------------

      /** The order to an agent: what is to be done, and what came of the tasks before it. */
      const promptOf = Effect.fnUntraced(function*(plan: StartedPlan, node: StartedNode) {
        const limit = Math.min(config.noticeResultChars, Math.floor(resultChars / Math.max(1, node.depends.length)))
        const before = yield* Effect.forEach(
          plan.nodes.filter(({ id }) => node.depends.includes(id)),
          (earlier) =>
            store.get(earlier.task).pipe(
              Effect.map((task) => {
                const result = outcome(task)
                const rest = result.length > limit ? `${result.slice(0, limit)} …` : result
                return `## ${earlier.id} (${earlier.agent}): ${earlier.text}\n${rest}`
              }),
              Effect.orElseSucceed(() => `## ${earlier.id} (${earlier.agent}): ${earlier.text}`) // it may be gone from the archive
            )
        )
        return [
          node.prompt,
          ...(node.files.length === 0 ? [] : [`Others work at the same time. Change only: ${node.files.join(", ")}.`]),
          ...(before.length === 0 ? [] : ["What came before:", ...before])
        ].join("\n\n")
      })

      const launch = Effect.fnUntraced(function*(plan: StartedPlan, node: StartedNode) {
        const order: Order = {
          parent: plan.root,
          by: plan.by,
          agent: node.agent,
          description: `${node.id}: ${node.text}`.slice(0, descriptionChars),
          prompt: yield* promptOf(plan, node),
          background: true,
          plan: { id: plan.id, node: node.id, task: node.task }
        }
        yield* untilHostAnswers(manager.launch(order)).pipe(
          Effect.as(true),
          Effect.catchIf(isLasting, ({ message }) => Effect.as(refused(plan, order, node.task, message), false)),
          Effect.flatMap((mayHelp) => watch(plan, node, mayHelp)),
          Effect.catchTags({
            SessionNotFound: () => plans.stop(({ id }) => id === plan.id),
            JournalFailed: (error) => notYet(node, error),
            TooManyTasks: (error) => notYet(node, error)
          })
        )
        // It may have been stopped while the task was launched; whoever stopped it did not know of that task.
        if (!(yield* isRunning(plan.id))) yield* life.cancel(node.task, "its plan was stopped")
      })

      /** A disk that is full, or a thousand tasks that are unsettled: the next pass tries again. */
      const notYet = (node: StartedNode, error: JournalFailed | TooManyTasks) =>
        Effect.logWarning(`the task ${node.id} of a plan could not be launched yet`, error)

      /** An order that cannot be carried out is a task that has failed: its parent hears of it like of any other. */
      const refused = Effect.fnUntraced(function*(plan: StartedPlan, order: Order, id: TaskId, reason: string) {
        const { agent, background, description, parent, prompt } = order
        const now = yield* Clock.currentTimeMillis
        const task = queued({ id, mission: plan.root, parent, agent, description, prompt, background, depth: 1 }, now)
        yield* store.add({ ...task, plan: { id: plan.id, node: order.plan?.node ?? "" } })
        yield* life.settle(id, task.run, { state: "failed", reason })
      })

      const isRunning = (id: string) =>
        Effect.map(plans.all, (all) => all.some((plan) => plan.id === id && plan.state === "running"))

      const ends = (plan: StartedPlan) =>
        Effect.forEach(
          plan.nodes,
          (node) =>
            Effect.map(
              Effect.option(store.get(node.task)),
              (task): End => ({ node, task: Option.getOrUndefined(task) })
            )
        )

      /** Has run again what the bad end of a node leaves to do again, if the plan has tries left for it; tells whether. */
      const redo = Effect.fnUntraced(function*(id: string, cause: string) {
        const plan = (yield* plans.all).find((plan) => plan.id === id)
        if (plan?.state !== "running" || (plan.tried?.[cause] ?? 0) >= (plan.retries ?? 0)) return false
        const found = yield* ends(plan)
        const left = yield* Effect.forEach(
          redone(found, cause),
          (node) => Effect.map(ids.task, (task): StartedNode => ({ ...node, task }))
        )
        if (left.length === 0) return false
        yield* plans.redo(id, left, cause)
        for (const node of left) running.get(id)?.delete(node.id)
        const task = found.find(({ node }) => node.id === cause)?.task
        yield* notifier.show(presets.runAgain(left.map(({ id }) => id), task === undefined ? "" : outcome(task)))
        return true
      }, Effect.uninterruptible) // recorded and not known here, it would be run by the next instance only

      /** Follows a task that was launched, until nothing of it goes on. What was refused at once would be again. */
      const watch = Effect.fnUntraced(function*(plan: StartedPlan, node: StartedNode, mayHelp = true) {
        running.get(plan.id)?.set(node.id, "launched")
        atWork.set(node.task, node)
        yield* FiberSet.run(
          watchers,
          Effect.gen(function*() {
            const task = yield* Effect.option(store.settled(node.task))
            const state = Option.isSome(task) ? endState(node, task.value) : "failed"
            if (!mayHelp || state === "completed" || !(yield* redo(plan.id, node.id))) {
              running.get(plan.id)?.set(node.id, state === "completed" ? "completed" : "failed")
              yield* plans.ended(plan.id, node.id, state)
              if (state === "completed") yield* todos.mark(plan.root, node, "done")
              if (state === "failed" || state === "timed_out") {
                yield* todos.mark(plan.root, node, "failed", Option.getOrUndefined(task)?.reason?.split("\n")[0])
              }
            }
            if (state === "completed") atWork.delete(node.task)
            yield* Queue.offer(wake, undefined)
            // One that was stopped may still write, until its child is quiet.
            yield* life.over(node.task)
            atWork.delete(node.task)
            yield* Queue.offer(wake, undefined)
          })
        )
      })

      // ---- the passes -----------------------------------------------------------------------------------------------

      const advance = Effect.fnUntraced(function*(plan: StartedPlan) {
        yield* Effect.forEach(ready(plan), (node) => launch(plan, node), { concurrency: "unbounded", discard: true })
        const isLeft = standings(plan).some(({ state }) => state === "launched" || typeof state !== "string")
        if (isLeft) return
        yield* plans.over(plan.id)
        yield* notices.consider(plan.root)
      })

      const pass = oneAtATime.withPermit(Effect.gen(function*() {
        if (yield* journal.isLost) return // the plans are another instance's by now
        for (const plan of yield* plans.all) {
          if (plan.state === "running") {
            if (running.has(plan.id)) yield* advance(plan)
            continue
          }
          const isLeft = (yield* store.all).some((task) => task.plan?.id === plan.id && isOpen(task))
          if (isLeft) continue
          running.delete(plan.id)
          yield* plans.forget(plan.id)
        }
      }))

      // Nothing is started twice, so one pass more does no harm: it also forgets, and tries again what the disk refused.
      yield* Queue.take(wake).pipe(
        Effect.timeoutOption(passInterval),
        Effect.andThen(pass),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) ? Effect.interrupt : Effect.logError("a pass over the plans failed", cause)
        ),
        Effect.forever,
        Effect.forkScoped
      )

      type Caller = { readonly session: SessionId; readonly agent: string }

      const requireRoot = Effect.fnUntraced(function*(session: SessionId) {
        const isChild = Option.isSome(yield* store.bySession(session))
          || (yield* client.get(session)).parent !== undefined
        if (isChild) return yield* new NotARoot()
      })

      const begin = Effect.fnUntraced(function*(nodes: Plan, by: Caller, retries: number) {
        if ((yield* plans.all).filter(({ state }) => state === "running").length >= maxPlans) {
          return yield* new TooManyPlans({ limit: maxPlans })
        }
        const plan: StartedPlan = {
          id: yield* ids.plan,
          root: by.session,
          by: by.agent,
          nodes: yield* Effect.forEach(nodes, (node) => Effect.map(ids.task, (task) => ({ ...node, task }))),
          createdAt: yield* Clock.currentTimeMillis,
          ended: {},
          ...(retries > 0 ? { retries } : {}),
          state: "running"
        }
        // One that is recorded and not known here would never come to its end.
        yield* Effect.uninterruptible(
          Effect.tap(plans.add(plan), () => Effect.sync(() => running.set(plan.id, new Map())))
        )
        // When the call is cut off from here on, the plan goes on all the same.
        yield* Effect.flatMap(FiberSet.run(watchers, pass), Fiber.join)
        return plan
      })

      const run = Effect.fn("TaskDecomposer.run")(function*(
        text: string,
        by: Caller
      ): Effect.fn.Return<StartedPlan, PlanRefused> {
        yield* requireRoot(by.session)
        return yield* begin(yield* Effect.fromResult(readPlan(text, yield* orders.agentsFor(by.agent))), by, 0)
      })

      const start = Effect.fn("TaskDecomposer.start")(function*(
        plan: Plan,
        by: Caller,
        retries = 0
      ): Effect.fn.Return<StartedPlan, PlanRefused> {
        yield* requireRoot(by.session)
        return yield* begin(plan, by, retries)
      })

      const stop = Effect.fn("TaskDecomposer.stop")(function*(id: string, caller: SessionId) {
        const isMine = (plan: StartedPlan) => plan.id === id && plan.root === caller && plan.state === "running"
        if (!(yield* plans.all).some(isMine)) return false
        yield* plans.stop(isMine)
        yield* life.cancelAll((task) => task.plan?.id === id, "its plan was stopped")
        yield* notices.consider(caller)
        return true
      }, Effect.uninterruptible) // cut off midway it would leave tasks to run

      const goOn = Effect.fn("TaskDecomposer.goOn")(function*(adopted: ReadonlyArray<StartedPlan>) {
        const atHand = new Map((yield* store.all).map((task) => [task.id, task]))
        const known = new Map((yield* plans.all).map((plan) => [plan.id, plan]))
        for (const plan of adopted.flatMap(({ id }) => known.get(id) ?? [])) {
          if (running.has(plan.id)) continue
          if (plan.state === "stopped") {
            yield* life.cancelAll((task) => task.plan?.id === plan.id, "its plan was stopped")
          }
          if (plan.state !== "running") continue
          const states = new Map<string, "launched" | "completed" | "failed">()
          running.set(plan.id, states)
          for (const node of plan.nodes) {
            const ended = plan.ended[node.id]
            if (atHand.has(node.task)) yield* watch(plan, node)
            else if (ended !== undefined) states.set(node.id, ended === "completed" ? "completed" : "failed")
          }
        }
        yield* pass
      })

      return TaskDecomposer.of({ run, start, ends, standings, stop, goOn })
    })
  )
}

type Passing = JournalFailed | TooManyTasks | SessionNotFound

/** What would refuse the order again, however often it is given. */
const isLasting = (error: OrderRefused): error is Exclude<OrderRefused, Passing> =>
  error._tag !== "JournalFailed" && error._tag !== "TooManyTasks" && error._tag !== "SessionNotFound"

/** Plans that run at once, in all missions together. */
const maxPlans = 20

/** Characters of earlier results in the order to a task, all together. */
const resultChars = 16_000

const descriptionChars = 80

/** How often plans are looked at when nothing happens. */
const passInterval = Duration.seconds(10)
