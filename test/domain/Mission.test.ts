import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Result, Schema } from "effect"
import { budgetNames, Limits } from "../../src/domain/Budget.ts"
import {
  begin,
  decide,
  type Failure,
  Failure as FailureSchema,
  limitsIn,
  type Mission,
  Mission as MissionSchema,
  missionEnds,
  type MissionEvent,
  missionLimits,
  type Open,
  openFailures,
  saysComplete,
  spentBy,
  transition
} from "../../src/domain/Mission.ts"
import { noUsage, SessionId, type Usage, Usage as UsageSchema } from "../../src/domain/Session.ts"
import { TaskId } from "../../src/domain/Task.ts"

const active: Mission = begin(SessionId.make("ses_root"), "build it", 1_000)
const nothingOpen: Open = { todos: [], failures: [] }
const failure: Failure = {
  task: TaskId.make("task_1"),
  order: "Builder: the parser",
  reason: "It broke.",
  createdAt: 1_500,
  answeredFor: false
}

describe("saysComplete", () => {
  it.each([
    ["alone", "MISSION COMPLETE"],
    ["on a line of its own", "All tests pass.\n\nMISSION COMPLETE\n\nThree files changed."],
    ["with Windows line ends", "Done.\r\nMISSION COMPLETE\r\n"],
    ["with a dot", "MISSION COMPLETE."],
    ["with an exclamation mark", "MISSION COMPLETE!"],
    ["with space around it", "  MISSION COMPLETE  "],
    ["in bold", "**MISSION COMPLETE**"],
    ["in bold with the dot inside", "**MISSION COMPLETE.**"],
    ["in bold with the dot outside", "**MISSION COMPLETE**."],
    ["in bold with underscores", "__MISSION COMPLETE__"],
    ["as a heading", "## MISSION COMPLETE"],
    ["as a bold heading", "# **MISSION COMPLETE**"],
    ["after a code block", "```sh\nnpm test\n```\nMISSION COMPLETE"],
    ["after a ~~~ block that holds a ``` line", "~~~\n```\n~~~\nMISSION COMPLETE"],
    ["after a block closed by a longer fence", "```\ncode\n`````\nMISSION COMPLETE"],
    ["after code in a sentence that fills a line", "I ran\n```npm test```\nMISSION COMPLETE"]
  ])("ends the mission %s", (_, answer) => assert.isTrue(saysComplete(answer)))

  it.each([
    ["an empty answer", ""],
    ["another answer", "I am done."],
    ["a sentence", "When all is checked I will say MISSION COMPLETE"],
    ["the start of a sentence", "MISSION COMPLETE is what I say at the end."],
    ["a denial", "NOT MISSION COMPLETE"],
    ["a question", "MISSION COMPLETE?"],
    ["lower case", "mission complete"],
    ["words over two lines", "MISSION\nCOMPLETE"],
    ["a quotation", "> MISSION COMPLETE"],
    ["a list", "- MISSION COMPLETE"],
    ["quotation marks", "\"MISSION COMPLETE\""],
    ["code in a line", "`MISSION COMPLETE`"],
    ["half a bold", "**MISSION COMPLETE"],
    ["a bold of two kinds", "**MISSION COMPLETE__"],
    ["a code block", "```\nMISSION COMPLETE\n```"],
    ["a code block with a language", "```text\nMISSION COMPLETE\n```"],
    ["a code block of tildes", "~~~\nMISSION COMPLETE\n~~~"],
    ["an indented fence", "  ```\n  MISSION COMPLETE\n  ```"],
    ["a block that is never closed", "```\nMISSION COMPLETE"],
    ["a ``` block inside a ```` block", "````md\n```\nMISSION COMPLETE\n```\nMISSION COMPLETE\n````"],
    ["a ~~~ block inside a ``` block", "```\n~~~\nMISSION COMPLETE\n~~~\nMISSION COMPLETE\n```"],
    ["a ``` block inside a ~~~ block", "~~~\n```\nMISSION COMPLETE\n```\nMISSION COMPLETE\n~~~"],
    ["a block that shows how a block begins", "```\n```js\nMISSION COMPLETE\n```"]
  ])("does not take %s for the end", (_, answer) => assert.isFalse(saysComplete(answer)))
})

it("an answer made to be slow is read in a bounded time", () => {
  const from = performance.now()
  assert.isFalse(saysComplete(`\`\`\`${" ".repeat(150_000)}a\u2028`))
  assert.isBelow(performance.now() - from, 3_000)
})

describe("decide", () => {
  it.each(missionEnds)("does nothing for a mission that is %s, whatever the answer", (state) => {
    assert.strictEqual(decide({ ...active, state }, "MISSION COMPLETE", nothingOpen, 5), "nothing")
    assert.strictEqual(decide({ ...active, state }, "", nothingOpen, 5), "nothing")
  })

  it("does nothing for a mission that is being brought to its end", () => {
    assert.strictEqual(decide({ ...active, windingUp: "cost" }, "Hm.", nothingOpen, 5), "nothing")
  })

  it("completes an active mission when the answer says so, even at the limit", () => {
    assert.strictEqual(decide({ ...active, continuations: 5 }, "MISSION COMPLETE", nothingOpen, 5), "complete")
  })

  it.each<[string, Open]>([
    ["a todo is open", { todos: ["T1: write it"], failures: [] }],
    ["a failed task is not answered for", { todos: [], failures: [failure] }]
  ])("does not take its word for it while %s", (_, open) => {
    assert.strictEqual(decide(active, "MISSION COMPLETE", open, 5), "continue")
    assert.strictEqual(decide({ ...active, continuations: 5 }, "MISSION COMPLETE", open, 5), "halt")
  })

  it("continues below the limit and halts at it", () => {
    assert.strictEqual(decide({ ...active, continuations: 4 }, "I stop here.", nothingOpen, 5), "continue")
    assert.strictEqual(decide({ ...active, continuations: 5 }, "I stop here.", nothingOpen, 5), "halt")
    assert.strictEqual(decide(active, "I stop here.", nothingOpen, 0), "halt")
  })

  it("sends at most `limit` instructions in a row to a Commander that does nothing", () => {
    let mission = active
    let sent = 0
    while (decide(mission, "", nothingOpen, 5) === "continue" && sent < 100) {
      mission = transition(mission, { type: "continued" }, 2_000)
      sent++
    }
    assert.strictEqual(sent, 5)
  })
})

describe("transition", () => {
  const used = (input: number, cost = 0): Usage => ({ ...noUsage, input, cost })

  it("counts instructions to go on, and starts again at progress or a word of the user", () => {
    const continued = transition(transition(active, { type: "continued" }, 2_000), { type: "continued" }, 3_000)
    assert.strictEqual(continued.continuations, 2)
    assert.strictEqual(transition(continued, { type: "progressed" }, 4_000).continuations, 0)
    const spoken = transition(continued, { type: "spoke", goal: "and test it" }, 4_000)
    assert.strictEqual(spoken.continuations, 0)
    assert.strictEqual(spoken.goal, "build it")
  })

  it.each(missionEnds)("ends as %s with the time it took, and stays so", (state) => {
    const ended = transition(active, { type: "ended", state, why: "so" }, 3_000)
    assert.strictEqual(ended.state, state)
    assert.strictEqual(ended.why, "so")
    assert.strictEqual(ended.spent.time, 2_000)
    assert.strictEqual(spentBy(ended, 9_000).time, 2_000)
    const later: ReadonlyArray<MissionEvent> = [
      { type: "progressed" },
      { type: "continued" },
      { type: "windingUp", limit: "time" },
      ...missionEnds.map((state): MissionEvent => ({ type: "ended", state, why: "other" }))
    ]
    for (const event of later) assert.strictEqual(transition(ended, event, 9_000), ended)
  })

  it("starts a new mission, with nothing spent, when the user speaks after it was complete", () => {
    const spent = transition(active, { type: "used", isRoot: true, before: noUsage, after: used(500) }, 2_000)
    const ended = transition(spent, { type: "ended", state: "complete", why: "so" }, 2_000)
    assert.deepStrictEqual(transition(ended, { type: "spoke", goal: "now the docs" }, 9_000), {
      ...begin(active.root, "now the docs", 9_000),
      rootUsage: used(500)
    })
  })

  it.each(["stopped", "halted"] as const)(
    "goes on with what it has spent when the user speaks after it was %s",
    (state) => {
      const spent = transition(active, { type: "launched", count: 1 }, 2_000)
      const ended = transition(spent, { type: "ended", state, why: "so" }, 2_000)
      const after = transition(ended, { type: "spoke", goal: "mind the docs" }, 9_000)
      assert.strictEqual(after.state, "active")
      assert.isUndefined(after.why)
      assert.strictEqual(after.goal, "build it\n\nThe user added:\nmind the docs")
      assert.deepStrictEqual(spentBy(after, 9_500), { ...ended.spent, time: 1_500 })
    }
  )

  it("stays out of budget whatever the user says, until it is allowed more", () => {
    const wound = transition(active, { type: "windingUp", limit: "cost" }, 2_000)
    const ended = transition(wound, { type: "ended", state: "out_of_budget", why: "so" }, 2_000)
    assert.isUndefined(ended.windingUp)
    assert.strictEqual(transition(ended, { type: "spoke", goal: "go on" }, 3_000), ended)
    const raised = transition(ended, { type: "raised", limits: { cost: 20 } }, 3_000)
    assert.strictEqual(raised.state, "active")
    assert.deepStrictEqual(raised.limits, { cost: 20 })
    assert.strictEqual(spentBy(raised, 3_000).time, 1_000)
  })

  it("counts what sessions use beyond what was known of them, and never less", () => {
    const first = transition(active, { type: "used", isRoot: false, before: used(100), after: used(150, 0.5) }, 2_000)
    assert.deepStrictEqual(first.spent, { time: 1_000, tokens: 50, cost: 0.5, tasks: 0, turns: 1 })
    const back = transition(first, { type: "used", isRoot: true, before: used(150, 0.5), after: used(10) }, 2_000)
    assert.deepStrictEqual(back.spent, first.spent)
    assert.deepStrictEqual(back.rootUsage, used(10))
  })

  it("does not count the time between two instances", () => {
    const adopted = transition(active, { type: "adopted" }, 100_000)
    assert.strictEqual(spentBy(adopted, 100_500).time, 500)
  })

  it("keeps a failure open until it is answered for, once", () => {
    const failed = transition(active, { type: "failed", failure }, 2_000)
    assert.deepStrictEqual(openFailures(failed), [failure])
    const answered = transition(failed, { type: "answeredFor", tasks: [failure.task] }, 2_000)
    assert.deepStrictEqual(openFailures(answered), [])
    assert.strictEqual(transition(answered, { type: "failed", failure }, 3_000), answered)
  })

  it("keeps in mind the newest hundred failures, and those that had to go stay away when they are seen again", () => {
    const failures = Array.from({ length: 150 }, (_, index): Failure => ({
      ...failure,
      task: TaskId.make(`task_${index}`),
      createdAt: 1_500 + index
    }))
    const see = (mission: Mission) =>
      failures.reduce((before, failure) => transition(before, { type: "failed", failure }, 5_000), mission)
    const full = see(active)
    assert.deepStrictEqual(full.failures, failures.slice(-100))
    const answered = transition(full, { type: "answeredFor", tasks: failures.map(({ task }) => task) }, 6_000)
    assert.strictEqual(see(answered), answered)
  })

  it("keeps what was said last at its end, in bounds, until it goes on", () => {
    const ended = transition(active, { type: "ended", state: "halted", why: "so", answer: " All but one.\n" }, 2_000)
    assert.strictEqual(ended.answer, "All but one.")
    assert.isUndefined(transition(ended, { type: "raised", limits: {} }, 3_000).answer)
    assert.isUndefined(transition(ended, { type: "spoke", goal: "go on" }, 3_000).answer)
    const long = `first ${"x".repeat(100_000)} last`
    const { answer = "" } = transition(active, { type: "ended", state: "complete", why: "so", answer: long }, 2_000)
    assert.isBelow(answer.length, 20_100)
    assert.match(answer, /^first x+\n\[… 80011 characters left out …\]\nx+ last$/)
  })

  it("takes what was said last afterwards as well, once, and not while it goes on", () => {
    const concluded: MissionEvent = { type: "concluded", answer: "So far." }
    assert.strictEqual(transition(active, concluded, 2_000), active)
    const ended = transition(active, { type: "ended", state: "stopped", why: "so" }, 2_000)
    const known = transition(ended, concluded, 3_000)
    assert.strictEqual(known.answer, "So far.")
    assert.strictEqual(transition(known, { type: "concluded", answer: "Other words." }, 4_000), known)
    assert.strictEqual(transition(ended, { type: "concluded", answer: "  " }, 3_000), ended)
  })

  it("returns the same object when the event changes nothing", () => {
    assert.strictEqual(transition(active, { type: "progressed" }, 2_000), active)
  })
})

describe("whatever happens to a mission", () => {
  const eventTypes = [
    "spoke",
    "progressed",
    "continued",
    "unsent",
    "adopted",
    "answered",
    "used",
    "windingUp",
    "warned",
    "raised",
    "failed",
    "answeredFor",
    "ended",
    "concluded"
  ] as const
  const anyMission = Arbitrary.map(
    Arbitrary.schema(MissionSchema),
    (mission) => Result.getOrThrow(Schema.decodeUnknownResult(MissionSchema)(JSON.parse(JSON.stringify(mission))))
  )
  const anyUsage = Arbitrary.schema(UsageSchema)
  const anyName = Arbitrary.schema(Schema.Literals(budgetNames))
  const anyText = Arbitrary.schema(Schema.String)
  const anyEvent = Arbitrary.map(
    Arbitrary.all({
      type: Arbitrary.schema(Schema.Literals(eventTypes)),
      text: anyText,
      before: anyUsage,
      after: anyUsage,
      isRoot: Arbitrary.schema(Schema.Boolean),
      name: anyName,
      limits: Arbitrary.schema(Limits),
      failure: Arbitrary.schema(FailureSchema),
      state: Arbitrary.schema(Schema.Literals(missionEnds))
    }),
    ({ after, before, failure, isRoot, limits, name, state, text, type }): MissionEvent => {
      switch (type) {
        case "spoke":
          return { type, goal: text }
        case "used":
          return { type, isRoot, before, after }
        case "windingUp":
          return { type, limit: name }
        case "warned":
          return { type, names: [name] }
        case "raised":
          return { type, limits }
        case "failed":
          return { type, failure }
        case "answeredFor":
          return { type, tasks: [failure.task] }
        case "ended":
          return { type, state, why: "so", answer: text }
        case "concluded":
          return { type, answer: text }
        default:
          return { type }
      }
    }
  )
  const histories = { mission: anyMission, events: Arbitrary.array(anyEvent, { maxLength: 30 }) }

  it.prop(
    "it is a mission that can be stored, and what it has spent grows, but for a new goal",
    histories,
    ({ events, mission }) => {
      let before = mission
      let now = mission.countedAt
      for (const event of events) {
        now += 1_000
        const after = transition(before, event, now)
        assert.isTrue(Schema.is(MissionSchema)(after), JSON.stringify([event, after]))
        const isNew = event.type === "spoke" && before.state === "complete"
        if (!isNew) {
          for (const name of budgetNames) {
            assert.isAtLeast(
              after.spent[name],
              before.spent[name],
              `${name} after ${event.type}`
            )
          }
        }
        before = after
      }
    },
    { arbitrary: { runs: 300, seed: 20_261_125 } }
  )

  it.prop(
    "an end is left by the user's word or a higher limit only, and has a reason",
    histories,
    ({ events, mission }) => {
      let before = mission
      for (const [place, event] of events.entries()) {
        const after = transition(before, event, mission.countedAt + place)
        if (before.state !== "active" && after.state !== before.state) {
          assert.isTrue(event.type === "raised" || (event.type === "spoke" && before.state !== "out_of_budget"))
        }
        if (before.state === "active" && after.state !== "active") assert.strictEqual(after.why, "so")
        if (before.state !== "active" && after.state === "active") assert.isUndefined(after.answer)
        assert.isAtMost(after.failures.length, Math.max(100, before.failures.length))
        before = after
      }
    },
    { arbitrary: { runs: 300, seed: 20_261_125 } }
  )
})

describe("limits that come with a session", () => {
  it("are read as they were given, and only as a whole", () => {
    assert.deepStrictEqual(limitsIn(missionLimits({ cost: 5, tasks: 3 })), { cost: 5, tasks: 3 })
    assert.deepStrictEqual(limitsIn({}), {})
    assert.deepStrictEqual(limitsIn(undefined), {})
    assert.deepStrictEqual(limitsIn({ orchestrator: { missionLimits: { cost: -1, tasks: 3 } } }), {})
    assert.deepStrictEqual(limitsIn({ orchestrator: { missionLimits: { cost: "5" } } }), {})
  })
})

describe("a mission that was halted without progress", () => {
  const halted = transition(active, { type: "ended", state: "halted", why: "nothing changes", stagnated: true }, 2_000)

  it("says so", () => {
    assert.isTrue(halted.stagnated)
    assert.notProperty(transition(active, { type: "ended", state: "halted", why: "it failed" }, 2_000), "stagnated")
  })

  it.each<[string, MissionEvent]>([
    ["the user speaks", { type: "spoke", goal: "more" }],
    ["it is given more", { type: "raised", limits: {} }]
  ])("forgets it when %s", (_, event) => {
    const after = transition(halted, event, 3_000)
    assert.strictEqual(after.state, "active")
    assert.notProperty(after, "stagnated")
    assert.notProperty(after, "why")
  })
})
