/** What the commands do that a user types in a session, and what stands in the conversation instead of them. */
import { Clock, Context, Effect, Layer, Result } from "effect"
import { teamLines } from "../agents/team.ts"
import { parseLimits } from "../domain/Budget.ts"
import { planOrder } from "../domain/Mission.ts"
import { maskReport, missionLines, type Report, toMarkdown } from "../domain/Report.ts"
import type { SessionId } from "../domain/Session.ts"
import { describeTask, formatDuration, type Task } from "../domain/Task.ts"
import { asTree } from "../domain/TaskTree.ts"
import { Mask } from "../host/Mask.ts"
import { Concurrency } from "../tasks/Concurrency.ts"
import { Orders } from "../tasks/Orders.ts"
import { Recovery } from "../tasks/Recovery.ts"
import { TaskStore } from "../tasks/TaskStore.ts"
import { MissionLoop } from "./MissionLoop.ts"
import { Missions } from "./Missions.ts"
import { Progress } from "./Progress.ts"
import { TodoEnforcer } from "./TodoEnforcer.ts"

/** What the agent in the session is told. */
export interface Answer {
  readonly text: string
  /** It only informs: nobody takes it for the user's word to the Commander. */
  readonly informs: boolean
}

export class UserCommands extends Context.Service<UserCommands, {
  /** Carries out a command of `commands`, with what was typed after its name, untouched. Never fails. */
  readonly run: (name: string, typed: string, session: SessionId) => Effect.Effect<Answer>
}>()("orchestrator/mission/UserCommands") {
  static readonly layer = Layer.effect(
    UserCommands,
    Effect.gen(function*() {
      const concurrency = yield* Concurrency
      const loop = yield* MissionLoop
      const mask = yield* Mask
      const missions = yield* Missions
      const orders = yield* Orders
      const progress = yield* Progress
      const recovery = yield* Recovery
      const todos = yield* TodoEnforcer
      const store = yield* TaskStore

      const reportOf = Effect.fnUntraced(function*(root: SessionId) {
        const mission = yield* missions.get(root)
        const report: Report = {
          root,
          mission,
          tasks: (yield* store.all).filter((task) => task.mission === root),
          limits: missions.limits(mission),
          now: yield* Clock.currentTimeMillis,
          progress: mission === undefined ? undefined : yield* progress.line(root),
          openTodos: (yield* todos.open(root)).map(({ id, text }) => id === undefined ? text : `${id}: ${text}`)
        }
        return report
      })

      const tasksCommand = Effect.fnUntraced(function*(root: SessionId) {
        const report = yield* reportOf(root)
        const lines = yield* Effect.forEach(
          asTree(report.tasks),
          ({ level, task }) =>
            Effect.map(
              concurrency.position(task.id),
              (place) => `${"  ".repeat(level)}- ${describeTask(task, report.now, place)}${activity(task, report.now)}`
            )
        )
        const shown = lines.length === 0 ? ["There are no tasks at hand."] : lines
        return show([...missionLines(report), "", ...shown].join("\n"))
      })

      const stop = Effect.fnUntraced(function*(root: SessionId) {
        const stopped = yield* loop.stop(root)
        return show(
          stopped
            ? "The mission is stopped, and its agents with it. It stays stopped until you write to the Commander or type /resume."
            : "No mission is active in this session, so there is nothing to stop."
        )
      })

      const resume = Effect.fnUntraced(function*(root: SessionId, typed: string) {
        const limits = parseLimits(typed)
        if (Result.isFailure(limits)) return show(limits.failure)
        const found = yield* recovery.resume
        const before = yield* missions.get(root)
        const isRaised = typed.trim() !== ""
        const goesOn = (before?.state !== "active" || isRaised) && (yield* loop.goOn(root, limits.success))
        const mission = yield* missions.get(root)
        if (!goesOn || mission === undefined) {
          return show(
            isRaised && before === undefined ? `${found} No mission of this session can be given limits.` : found
          )
        }
        return {
          informs: false,
          text: [
            "The user lets the mission go on.",
            ...(before?.why === undefined ? [] : [`It had ended: ${before.why}`]),
            `Budget used: ${yield* missions.describe(mission)}`,
            "See what is done and what is open, and go on with it.",
            "",
            "The goal:",
            mission.goal
          ].join("\n")
        }
      })

      const run = Effect.fnUntraced(function*(name: string, typed: string, session: SessionId) {
        // A session that cannot be read has no parent that is known.
        const root = yield* Effect.orElseSucceed(orders.missionOf(session), () => session)
        switch (name) {
          case "task":
            return typed.trim() === "" ? show(noGoal(name)) : { text: typed, informs: false }
          case "plan":
            return typed.trim() === "" ? show(noGoal(name)) : { text: planInstruction(typed), informs: false }
          case "agents":
            return show(teamLines)
          case "tasks":
            return yield* tasksCommand(root)
          case "stop":
            return yield* stop(root)
          case "resume":
            return yield* resume(root, typed)
          case "report":
            return show(toMarkdown(maskReport(yield* reportOf(root), mask), "brief"))
          default:
            return { text: typed, informs: false }
        }
      })

      return UserCommands.of({ run: Effect.fn("UserCommands.run")(run) })
    })
  )
}

const show = (text: string): Answer => ({
  text: `Show the user this as it is, without calling tools:\n\n${text}`,
  informs: true
})

const noGoal = (name: string): string =>
  `There is no goal. Write it behind the command, such as: /${name} make the tests pass`

const planInstruction = (goal: string): string =>
  `${planOrder} Have the Architect write the plan to .opencode/todo.md, check it, show it to the user, and end the mission.\n\nThe goal:\n${goal}`

const activity = (task: Task, now: number): string =>
  task.state === "running" ? ` · active ${formatDuration(now - task.activityAt)} ago` : ""
