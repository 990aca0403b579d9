/** What the commands do that a user types in a session, and what stands in the conversation instead of them. */
import { Clock, Context, Effect, Layer, Result } from "effect"
import { teamLines } from "../agents/team.ts"
import { parseLimits } from "../domain/Budget.ts"
import { type Mission, openFailures, planOrder } from "../domain/Mission.ts"
import { formatUsage, type SessionId } from "../domain/Session.ts"
import { describeTask, duration, formatDuration, isSettled, outcome, type Task } from "../domain/Task.ts"
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
      const missions = yield* Missions
      const orders = yield* Orders
      const progress = yield* Progress
      const recovery = yield* Recovery
      const todos = yield* TodoEnforcer
      const store = yield* TaskStore

      /** All tasks at hand of a mission as a tree, a line each. */
      const tree = Effect.fnUntraced(function*(root: SessionId) {
        const all = (yield* store.all).filter((task) => task.mission === root)
        const now = yield* Clock.currentTimeMillis
        const lines: Array<string> = []
        const add = Effect.fnUntraced(function*(parent: SessionId, indent: string): Effect.fn.Return<void> {
          for (const task of all.filter((task) => task.parent === parent)) {
            const place = yield* concurrency.position(task.id)
            lines.push(`${indent}- ${describeTask(task, now, place)}${activity(task, now)}`)
            if (task.session !== undefined && task.session !== parent) yield* add(task.session, `${indent}  `)
          }
        })
        yield* add(root, "")
        return lines
      })

      const missionLines = Effect.fnUntraced(function*(mission: Mission | undefined) {
        if (mission === undefined) return ["No mission was started in this session."]
        return [
          `Mission: ${mission.state.replaceAll("_", " ")}${mission.why === undefined ? "" : `: ${mission.why}`}`,
          `Budget used: ${yield* missions.describe(mission)}`,
          `Progress: ${yield* progress.line(mission.root)}`
        ]
      })

      const tasksCommand = Effect.fnUntraced(function*(root: SessionId) {
        const lines = yield* tree(root)
        const shown = lines.length === 0 ? ["There are no tasks at hand."] : lines
        return show([...(yield* missionLines(yield* missions.get(root))), "", ...shown].join("\n"))
      })

      const report = Effect.fnUntraced(function*(root: SessionId) {
        const mission = yield* missions.get(root)
        const all = (yield* store.all).filter((task) => task.mission === root)
        const now = yield* Clock.currentTimeMillis
        const steps = (yield* todos.open(root)).map(({ id, text }) => `- ${id === undefined ? text : `${id}: ${text}`}`)
        const open = openFailures(mission).map(({ order, reason, task }) => `- ${task} (${order}): ${reason}`)
        return show([
          "# Mission report",
          ...(mission === undefined ? [] : [`Goal: ${mission.goal}`]),
          ...(yield* missionLines(mission)),
          ...(steps.length === 0 ? [] : ["", "## Open todos", ...steps]),
          ...(open.length === 0 ? [] : ["", "## Failures that were not answered for", ...open]),
          "",
          "## Tasks",
          ...(all.length === 0 ? ["There are no tasks at hand; older ones are in .opencode/archive/."] : [
            "| task | agent | what | state | time | tokens and cost |",
            "| --- | --- | --- | --- | --- | --- |",
            ...all.map((task) =>
              `| ${
                [
                  task.id,
                  task.agent,
                  task.description,
                  task.state,
                  formatDuration(duration(task, now)),
                  formatUsage(task.usage)
                ].map(cell).join(" | ")
              } |`
            ),
            "",
            "## Results",
            ...all.filter(isSettled).map((task) => `- ${task.id} (${task.description}): ${brief(outcome(task))}`)
          ])
        ].join("\n"))
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
            return yield* report(root)
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

const cell = (text: string): string => text.replace(/\s+/g, " ").replaceAll("|", "\\|")

const brief = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= 300 ? line : `${line.slice(0, 299)}…`
}
