/** The tools that drive the parallel agents. */
import { Clock, Effect, Schema } from "effect"
import type { SessionId } from "../domain/Session.ts"
import { describeTask, headline, isSettled, outcome, type Task, TaskState } from "../domain/Task.ts"
import { Missions } from "../mission/Missions.ts"
import { TaskDecomposer } from "../mission/TaskDecomposer.ts"
import { Concurrency } from "../tasks/Concurrency.ts"
import type { Order } from "../tasks/Orders.ts"
import { Plans } from "../tasks/Plans.ts"
import { TaskManager } from "../tasks/TaskManager.ts"
import { waitingLines } from "./planTools.ts"
import * as Tool from "./Tool.ts"

const text = (description: string) => Schema.String.annotate({ description })
const taskId = text("The id of a task, such as task_ab12cd34ef.")

export const makeTaskTools = Effect.gen(function*() {
  const manager = yield* TaskManager
  const concurrency = yield* Concurrency
  const missions = yield* Missions
  const decomposer = yield* TaskDecomposer
  const plans = yield* Plans

  const runToEnd = Effect.fnUntraced(function*(order: Order) {
    const task = yield* manager.run(order)
    return answer(task, yield* Clock.currentTimeMillis)
  })

  const delegateTask = Tool.make({
    name: "delegate_task",
    description:
      "Gives a task to an agent that works in a session of its own, in parallel. With background true you get its id "
      + "at once and are told of its end by a message, result included: delegate everything that can run side by side in "
      + "one turn, then end your turn. With background false the call waits for the result.",
    parameters: Schema.Struct({
      agent: text("The agent to use, by name."),
      description: text("The task in 3 to 8 words, for people."),
      prompt: text("The whole task: goal, context, files, limits, what to answer. The agent sees nothing else."),
      background: Schema.Boolean.annotate({
        description: "true: do not wait for the end. false: wait for the result."
      }),
      resume: Schema.optionalKey(text("The id of an ended task of yours, to go on in its session with what it knows."))
    }),
    handler: Effect.fnUntraced(function*(args, caller) {
      const order: Order = { ...args, parent: caller.session, by: caller.agent }
      if (!args.background) return yield* runToEnd(order)
      const task = yield* manager.launch(order)
      const position = yield* concurrency.position(task.id)
      const state = position === undefined ? "started" : `waits in line at place ${position}`
      return `${task.id} ${state} (${task.agent}: ${task.description}). You will be told of its end.`
    })
  })

  const callAgent = Tool.make({
    name: "call_agent",
    description: "Asks an agent and waits for its answer: for a short question whose answer you need before you go on.",
    parameters: Schema.Struct({
      agent: text("The agent to ask, by name."),
      task: text("What it should find out or do. The agent sees nothing else."),
      context: Schema.optionalKey(text("What it has to know for that."))
    }),
    handler: ({ agent, context, task }, caller) =>
      runToEnd({
        parent: caller.session,
        by: caller.agent,
        agent,
        description: "",
        prompt: context === undefined || task.trim() === "" ? task : `${task}\n\nContext:\n${context}`,
        background: false
      })
  })

  const getTaskResult = Tool.make({
    name: "get_task_result",
    description: "The state of a task, and its whole result when it has ended.",
    parameters: Schema.Struct({ taskId }),
    handler: Effect.fnUntraced(function*(args, caller) {
      const task = yield* manager.result(args.taskId, caller.session)
      const now = yield* Clock.currentTimeMillis
      if (isSettled(task)) return [answer(task, now), plans.consequence(task) ?? []].flat().join("\n")
      return `${yield* line(task, now)}\nYou will be told of its end.`
    })
  })

  const listTasks = Tool.make({
    name: "list_tasks",
    description:
      "All tasks of this mission: state, age, agent, place in line, tokens and cost; and what of its budget is used.",
    parameters: Schema.Struct({
      status: Schema.optionalKey(TaskState.annotate({ description: "Only tasks in this state." }))
    }),
    handler: Effect.fnUntraced(function*({ status }, caller) {
      const all = yield* manager.list(caller.session)
      const shown = status === undefined ? all : all.filter((task) => task.state === status)
      const waiting = status === undefined || status === "queued" ? yield* waitingInPlans(caller.session) : []
      const mission = yield* manager.mission(caller.session)
      const budget = mission === undefined ? [] : [`Budget used: ${yield* missions.describe(mission)}`]
      const now = yield* Clock.currentTimeMillis
      const lines = yield* Effect.forEach(shown, (task) => line(task, now))
      const held = [...(yield* concurrency.throttled)].map(([provider, limit]) =>
        `${provider} limits requests: ${limit} of its sessions may run at once for now.`
      )
      return [listed(shown.length, status), ...lines, ...waiting, ...held, ...budget].join("\n")
    })
  })

  const cancelTask = Tool.make({
    name: "cancel_task",
    description: "Stops a task that has not ended, with everything it has delegated; or a whole plan.",
    parameters: Schema.Struct({ taskId: text("The id of a task, such as task_ab12cd34ef, or of a plan.") }),
    handler: ({ taskId }, caller) =>
      Effect.map(
        taskId.startsWith("plan_")
          ? decomposer.stop(taskId, caller.session)
          : manager.cancel(taskId, caller.session, `${caller.agent} cancelled it`),
        (cancelled) => cancelled ? `${taskId} is cancelled.` : `${taskId} has ended already; nothing to cancel.`
      )
  })

  /** Tasks of the caller's plans that have not begun. */
  const waitingInPlans = Effect.fnUntraced(function*(root: SessionId) {
    const running = (yield* plans.all).filter((plan) => plan.root === root && plan.state === "running")
    return running.flatMap((plan) => {
      const lines = waitingLines(decomposer.standings(plan))
      return lines.length === 0 ? [] : [`Still to come of ${plan.id}:`, ...lines]
    })
  })

  /** One task on one line. */
  const line = (task: Task, now: number) =>
    Effect.map(concurrency.position(task.id), (place) => describeTask(task, now, place))

  const tools: ReadonlyArray<Tool.Tool> = [delegateTask, getTaskResult, listTasks, cancelTask, callAgent]
  return tools
})

const listed = (count: number, status: TaskState | undefined): string => {
  if (count === 0) return status === undefined ? "There are no tasks." : `There are no ${status} tasks.`
  return count === 1 ? "1 task:" : `${count} tasks:`
}

const answer = (task: Task, now: number): string =>
  isSettled(task) ? `${headline(task, now)}\n${outcome(task)}` : `${task.id} is ${task.state}.`
