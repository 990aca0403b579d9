import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { UserCommands } from "../../src/mission/UserCommands.ts"
import {
  delegates,
  doing,
  hangs,
  isWorking,
  notices,
  pass,
  replies,
  say,
  states,
  task,
  until,
  withActors,
  works
} from "../tasks/scripts.ts"

const types = (name: string, typed: string, session: SessionId) =>
  Effect.flatMap(UserCommands, (commands) => doing(commands.run(name, typed, session)))
const stateOf = (root: SessionId) =>
  Effect.flatMap(Missions, ({ get }) => Effect.map(get(root), (mission) => mission?.state))
const nowhere = SessionId.make("ses_nowhere")

describe("a command", () => {
  it.effect("/task gives its words to the Commander as they are", () =>
    Effect.gen(function*() {
      const goal = "  do \"it\"\n\tfor $1 & `me` \\ "
      assert.deepStrictEqual(yield* types("task", goal, nowhere), { text: goal, informs: false })
    }).pipe(withActors({})))

  it.effect.each(["task", "plan"])(
    "/%s without a goal asks for one, and starts nothing",
    (name) =>
      Effect.gen(function*() {
        const { informs, text } = yield* types(name, " \n", nowhere)
        assert.isTrue(informs)
        assert.include(text, `/${name} make the tests pass`)
      }).pipe(withActors({}))
  )

  it.effect("/plan has the goal planned, with its words as they are", () =>
    Effect.gen(function*() {
      const { informs, text } = yield* types("plan", "a $1 plan", nowhere)
      assert.isFalse(informs)
      assert.match(text, /^Plan this goal, and build nothing yet\.[^]*\n\nThe goal:\na \$1 plan$/)
    }).pipe(withActors({})))

  it.effect("/tasks shows the tree of tasks with state, age, place in line, tokens, cost and last activity", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("below 1"))
      yield* pass("10 seconds")
      const { informs, text } = yield* types("tasks", "", root)
      assert.isTrue(informs)
      const [above, below, line] = [yield* task("above"), yield* task("below 1"), yield* task("line")]
      assert.include(text, "Mission: active\nBudget used: ")
      const lines = text.split("\n")
      const at = lines.findIndex((text) => text.startsWith(`- ${above.id} running`))
      assert.match(
        lines[at] ?? "",
        /waits for its own tasks .* Architect · above · 220 tokens · \$0\.0002 .* · active \d+ s ago$/
      )
      assert.match(
        lines[at + 1] ?? "",
        new RegExp(`^  - ${below.id} running · 10 s · Researcher · below 1 .* · active 10 s ago$`)
      )
      assert.match(lines[at + 3] ?? "", new RegExp(`^- ${line.id} queued at place 1 `))
    }).pipe(withActors({
      goal: delegates([{ agent: "Architect", prompt: "above" }, { prompt: "busy" }, { prompt: "line" }]),
      above: delegates([{ agent: "Researcher", prompt: "below 1" }]),
      below: hangs,
      busy: hangs
    }, { config: { concurrency: { agent: 1 } } })))

  it.effect("/tasks and /report say so where there is no mission and no task", () =>
    Effect.gen(function*() {
      assert.include(
        (yield* types("tasks", "", nowhere)).text,
        "No mission was started in this session.\n\nThere are no tasks at hand."
      )
      assert.include((yield* types("report", "", nowhere)).text, "No mission was started in this session.")
    }).pipe(withActors({})))

  it.effect("/stop stops the mission and its children, and it stays stopped", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      assert.include((yield* types("stop", "", root)).text, "The mission is stopped, and its agents with it.")
      const host = yield* SimulatedHost
      assert.strictEqual((yield* host.direct.statuses).size, 0)
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled"])
      yield* pass("30 minutes")
      assert.strictEqual(yield* stateOf(root), "stopped")
      assert.lengthOf((yield* host.calls).filter(({ outcome }) => outcome === "open"), 0)
      assert.lengthOf(yield* notices(root), 1)
      assert.include((yield* types("stop", "", root)).text, "nothing to stop")
    }).pipe(withActors({ goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }]), work: hangs })))

  it.effect("/resume lets a stopped mission go on, with the limits it names", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* types("stop", "", root)
      const wrong = yield* types("resume", "cost=much", root)
      assert.isTrue(wrong.informs)
      assert.include(wrong.text, "\"cost=much\" is no limit.")
      assert.strictEqual(yield* stateOf(root), "stopped")
      const { informs, text } = yield* types("resume", "cost=200 tokens=2M", root)
      assert.isFalse(informs)
      assert.match(
        text,
        /^The user lets the mission go on\.\nIt had ended: You stopped it\.\nBudget used: .* of 2M tokens · .* of \$200 /
      )
      assert.match(text, /The goal:\ngoal$/)
      assert.strictEqual(yield* stateOf(root), "active")
    }).pipe(withActors({ goal: delegates([{ prompt: "work 1" }]), work: hangs })))

  it.effect("/resume raises the limits of a mission that is active, and goes on with nothing that is complete", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      const nothing = yield* types("resume", "", root)
      assert.isTrue(nothing.informs)
      assert.isFalse((yield* types("resume", "turns=7", root)).informs)
      assert.include((yield* types("tasks", "", root)).text, "of 7 turns")
      yield* until(Effect.map(stateOf(root), (state) => state === "complete"))
      assert.isTrue((yield* types("resume", "turns=70", root)).informs)
      assert.strictEqual(yield* stateOf(root), "complete")
    }).pipe(withActors({ goal: delegates([{ prompt: "work 1" }]), work: works("10 seconds") })))

  it.effect("/report tells of goal, end, budget, each task with its result, and failures that stay open", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(stateOf(root), (state) => state === "halted"))
      const { text } = yield* types("report", "", root)
      const [good, bad] = [yield* task("work | 1"), yield* task("bad")]
      assert.include(text, "Goal: goal\nMission: halted: The Commander was told to go on 5 times, and no todo, file")
      assert.include(text, `## Failures that were not answered for\n- ${bad.id} (Builder: bad): no credit`)
      assert.include(text, `| ${good.id} | Builder | work \\| 1 | completed | 5 s | 110 tokens · $0.0001 |`)
      assert.include(text, `- ${good.id} (work | 1): done: work | 1`)
    }).pipe(withActors({
      goal: replies(
        {
          toolCalls: [{ prompt: "work | 1" }, { prompt: "bad" }].map(({ prompt }) => ({
            name: "delegate_task",
            args: { agent: "Builder", description: prompt, prompt, background: true }
          }))
        },
        { text: "I wait." },
        { text: "MISSION COMPLETE" }
      ),
      work: works("5 seconds"),
      bad: () => Effect.succeed({ status: 402, message: "no credit" })
    })))
})
