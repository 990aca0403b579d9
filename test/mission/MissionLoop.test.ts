import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { ShownToasts } from "../../adapters/test/RecordingNotifier.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { TestUser } from "../../adapters/test/TestOrchestrator.ts"
import { begin, missionLimits } from "../../src/domain/Mission.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { TaskManager } from "../../src/tasks/TaskManager.ts"
import {
  calls,
  delegate,
  delegates,
  doing,
  hangs,
  heard,
  isNotice,
  isWorking,
  pass,
  replies,
  say,
  says,
  sessionOf,
  states,
  tasks,
  until,
  withActors,
  works
} from "../tasks/scripts.ts"

const shown = Effect.flatMap(ShownToasts, ({ all }) => all)
const titles = Effect.map(shown, (all) => all.map(({ title }) => title).filter((title) => title.startsWith("Mission")))
const continues = (session: SessionId) =>
  Effect.map(heard(session), (texts) => texts.filter((text) => text.startsWith("CONTINUE")).length)
const missionStates = Effect.flatMap(
  Missions,
  ({ all }) => Effect.map(all, (missions) => missions.map(({ state }) => state))
)
const answers = Effect.flatMap(
  Missions,
  ({ all }) => Effect.map(all, (missions) => missions.map(({ answer }) => answer))
)
const complete = { text: "All is checked.\n\nMISSION COMPLETE" }
const hm = { text: "Hm." }
const runs = (command: string) => ({ toolCalls: [{ name: "bash", args: { command } }] })
const lookAround = { toolCalls: [{ name: "list_tasks", args: {} }] }

describe("a mission", () => {
  it.effect("starts when the user talks to the Commander, and is complete when the Commander says so", () =>
    Effect.gen(function*() {
      const root = yield* say("goal: build it")
      assert.deepStrictEqual(yield* shown, [{ variant: "info", title: "Mission started", message: "goal: build it" }])
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
      assert.strictEqual(
        (yield* shown).at(-1)?.message,
        "Done after 5 s. Used: 5 s of 8 h · 110 of 50M tokens · $0.00 of $50 · 0 of 500 tasks · 1 of 3000 turns."
      )
      assert.deepStrictEqual(yield* heard(root), ["goal: build it"])
      assert.deepStrictEqual(yield* missionStates, ["complete"])
      assert.deepStrictEqual(yield* answers, [complete.text])
    }).pipe(withActors({ "goal:": says(complete.text, "5 seconds") })))

  it.effect("has the limits that its session was made with", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const user = yield* TestUser
      const { id } = yield* doing(client.create({ title: "limited", metadata: missionLimits({ tasks: 7 }) }))
      yield* doing(user.say("goal: build it", { session: id }))
      const { describe, get } = yield* Missions
      const mission = yield* get(id)
      assert.deepStrictEqual(mission?.limits, { tasks: 7 })
      assert.include(mission === undefined ? "" : yield* describe(mission), "0 of 7 tasks")
    }).pipe(withActors({ "goal:": says(complete.text, "5 seconds") })))

  it.effect("that a program leads is told nothing, and does not end by itself", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const { add, get } = yield* Missions
      const { id } = yield* doing(client.create({ title: "planned" }))
      yield* add({ ...begin(id, "the plan", yield* Clock.currentTimeMillis), planned: true })
      yield* pass("1 hour")
      assert.deepStrictEqual(yield* heard(id), [])
      assert.strictEqual((yield* get(id))?.state, "active")
    }).pipe(withActors({})))

  it.effect("that a program led until it was gone rests until its tasks have ended, and is then halted", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const { adopt, wake } = yield* MissionLoop
      const { get } = yield* Missions
      const { id } = yield* doing(client.create({ title: "planned" }))
      const { launch } = yield* TaskManager
      yield* doing(launch({
        parent: id,
        by: "Commander",
        agent: "Builder",
        description: "work",
        prompt: "work",
        background: true
      }))
      yield* adopt({ ...begin(id, "the plan", yield* Clock.currentTimeMillis), planned: true })
      yield* doing(wake(id))
      yield* pass("30 seconds")
      assert.strictEqual((yield* get(id))?.state, "active")
      yield* pass("2 minutes")
      const mission = yield* get(id)
      assert.strictEqual(mission?.state, "halted")
      assert.include(mission?.why, "the program that ran its plan is gone")
      // What its task came to is stored in the session, and starts no turn there.
      assert.lengthOf(yield* heard(id), 1)
      assert.lengthOf(yield* calls(id), 0)
    }).pipe(withActors({ work: says("done", "1 minute") })))

  it.effect("is not complete by a sentence that only mentions it", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("1 minute")
      assert.strictEqual(yield* continues(root), 1)
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
    }).pipe(withActors({ goal: replies({ text: "I will say MISSION COMPLETE later." }, complete) })))

  it.effect("goes on by five instructions without a tool call, and is then halted", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("30 minutes")
      assert.strictEqual(yield* continues(root), 5)
      assert.lengthOf(yield* calls(root), 6)
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission halted"])
      assert.include((yield* shown).at(-1)?.message, "told to go on 5 times")
      assert.deepStrictEqual(yield* answers, [hm.text])
      yield* say("try again", { session: root })
      yield* pass("30 minutes")
      assert.strictEqual(yield* continues(root), 10)
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission halted", "Mission started", "Mission halted"])
    }).pipe(withActors({ goal: replies(hm) })))

  it.effect("counts the instructions anew after a tool call that came to something", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("30 minutes")
      assert.strictEqual(yield* continues(root), 8)
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission halted"])
    }).pipe(withActors({ goal: replies(hm, hm, hm, runs("npm test"), hm) })))

  it.effect("is halted in few words, however much is left to do", () =>
    Effect.gen(function*() {
      const list = Array.from({ length: 3_000 }, (_, index) => `- [ ] T${index + 1}: a step of the plan\n`).join("")
      yield* Effect.flatMap(MemoryDisk, (disk) => disk.put("/project/.opencode/todo.md", list))
      yield* say("goal")
      yield* pass("30 minutes")
      assert.deepStrictEqual(yield* missionStates, ["halted"])
      const said = (yield* shown).at(-1)?.message ?? ""
      assert.include(said, "T20: a step of the plan; and 2980 more.")
      assert.isBelow(said.length, 2_000)
    }).pipe(withActors({ goal: replies(hm) })))

  it.effect.each(
    [
      ["tells only what is known", [hm, hm, hm, lookAround, hm]],
      ["was made before, with the same result", [runs("npm test"), hm, hm, runs("npm test"), hm]]
    ] as const
  )("does not count them anew after a tool call that %s", ([, script]) =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("30 minutes")
      assert.strictEqual(yield* continues(root), 5)
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission halted"])
    }).pipe(withActors({ goal: replies(...script) })))

  it.effect("goes on after its Commander's provider was overloaded for longer than the host waits", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("30 minutes")
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
      const told = (yield* heard(root)).filter((text) => text.startsWith("Your last turn was cut off by an error"))
      assert.lengthOf(told, 1)
      assert.isTrue((yield* shown).some(({ title }) => title === "The Commander's turn failed"))
    }).pipe(withActors({
      goal: replies(...Array.from({ length: 6 }, () => ({ status: 529, message: "Overloaded" })), complete)
    })))

  it.effect("halts, and says why, when its Commander's provider stays overloaded", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* pass("3 hours")
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission halted"])
      assert.match((yield* shown).at(-1)?.message ?? "", /^The Commander's turn failed: .*overloaded/i)
    }).pipe(withActors({ goal: replies({ status: 529, message: "Overloaded" }) })))

  it.effect("does not go on with a Commander that the user aborts while it waits for its provider", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(shown, (all) => all.some(({ title }) => title === "The Commander's turn failed")))
      yield* pass("1 second") // the failed turn has ended
      const seen = (yield* calls(root)).length
      yield* say("something else", { session: root, agent: "build" })
      yield* pass("30 minutes")
      assert.deepStrictEqual(yield* missionStates, ["stopped"])
      assert.isTrue((yield* heard(root)).every((text) => !text.startsWith("Your last turn was cut off")))
      assert.isAbove((yield* calls(root)).length, seen)
    }).pipe(withActors({
      goal: replies(...Array.from({ length: 6 }, () => ({ status: 529, message: "Overloaded" })), hm)
    })))

  it.effect("goes on as often as the config says", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("30 minutes")
      assert.strictEqual(yield* continues(root), 2)
    }).pipe(withActors({ goal: replies(hm) }, { config: { continuations: 2 } })))

  it.effect("is left alone while its tasks run, and until their ends are told", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("9 minutes")
      assert.deepStrictEqual(yield* heard(root), ["goal"])
      yield* pass("2 minutes")
      const texts = yield* heard(root)
      assert.lengthOf(texts, 2)
      assert.isTrue(isNotice(texts[1] ?? ""))
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
    }).pipe(withActors({ goal: delegates([{ prompt: "work" }]), work: works("10 minutes") })))

  it.effect("goes on when the Commander falls silent after the ends were told", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("5 minutes")
      const texts = yield* heard(root)
      assert.lengthOf(texts, 3)
      assert.isTrue(isNotice(texts[1] ?? ""))
      assert.include(texts[2], "CONTINUE")
      assert.deepStrictEqual(yield* missionStates, ["complete"])
    }).pipe(withActors({
      goal: replies({ toolCalls: [delegate({ prompt: "work" })] }, { text: "I wait." }, hm, complete),
      work: works("10 seconds")
    })))

  it.effect("sends its instructions to the Commander alone: not to children, not to other agents", () =>
    Effect.gen(function*() {
      const other = yield* say("question", { agent: "build" })
      yield* say("goal")
      yield* until(Effect.map(states, (all) => all.includes("completed")))
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* heard(other), ["question"])
      assert.deepStrictEqual(yield* heard(yield* sessionOf("work")), ["work"])
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
    }).pipe(withActors({
      goal: delegates([{ prompt: "work" }]),
      work: replies(hm),
      question: replies(hm)
    })))

  it.effect("rests when the user turns to another agent in its session", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(continues(root), (count) => count > 0))
      yield* say("question", { session: root, agent: "build" })
      const before = yield* continues(root)
      yield* pass("10 minutes")
      assert.strictEqual(yield* continues(root), before)
      assert.notInclude(yield* titles, "Mission halted")
    }).pipe(withActors({ goal: says("Hm.", "5 seconds") })))

  it.effect("is reviewed within seconds when the idle event of its session is lost", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      yield* host.lose((event) => event.type === "idle")
      const root = yield* say("goal")
      yield* pass("7 seconds")
      assert.strictEqual(yield* continues(root), 1)
      yield* pass("7 seconds")
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
    }).pipe(withActors({ goal: replies(says("Hm.", "1 second"), complete) })))

  it.effect("is not reviewed while the Commander works, however long that takes", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("5 minutes")
      assert.deepStrictEqual(yield* heard(root), ["goal"])
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission complete"])
    }).pipe(withActors({ goal: says(complete.text, "10 minutes") })))

  it.effect("is halted with the provider's words when the Commander's turn fails", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* heard(root), ["goal"])
      assert.lengthOf(yield* calls(root), 1)
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission halted"])
      assert.include((yield* shown).at(-1)?.message, "invalid key, says the provider")
    }).pipe(withActors({ goal: replies({ status: 401, message: "invalid key, says the provider" }) })))

  it.effect("has on record what the Commander said last, of this mission, and without secrets", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* answers, [complete.text])
      yield* say("more", { session: root })
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* missionStates, ["stopped"])
      assert.deepStrictEqual(yield* answers, [undefined]) // what it had said was of the mission before
      yield* say("and more", { session: root })
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* answers, ["The key is [masked GitHub token]"])
    }).pipe(withActors({
      goal: replies(
        complete,
        hangs,
        { text: "The key is ghp_0123456789abcdefghijABCDEFGHIJ012345", toolCalls: [delegate({ prompt: "stuck" })] },
        hangs
      ),
      stuck: hangs
    })))

  it.effect("is forgotten with its session", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* pass("5 seconds")
      yield* doing(client.delete(root))
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* missionStates, [])
    }).pipe(withActors({ goal: says("Hm.", "10 seconds") })))

  it.effect("does not mix with another one at the same time", () =>
    Effect.gen(function*() {
      const first = yield* say("goal 1")
      const second = yield* say("goal 2")
      yield* pass("5 minutes")
      for (const [root, other] of [[first, "work 2"], [second, "work 1"]] as const) {
        const texts = yield* heard(root)
        assert.lengthOf(texts, 2)
        assert.notInclude(texts[1], other)
      }
      assert.deepStrictEqual(yield* missionStates, ["complete", "complete"])
    }).pipe(withActors({
      goal: (request) => delegates([{ prompt: (request.users[0] ?? "").replace("goal", "work") }])(request),
      work: works("10 seconds")
    })))
})

describe("a mission that the user aborts", () => {
  const thinking = () => replies({ toolCalls: ["work 1", "work 2"].map((prompt) => delegate({ prompt })) }, hangs, hm)

  it.effect("stops for good: its children are cancelled and nothing is sent, until the user speaks again", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isWorking("work 2"))
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      yield* pass("2 seconds")
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled"])
      assert.isTrue((yield* calls()).every(({ outcome }) => outcome !== "open"))
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission stopped"])
      const before = (yield* calls()).length
      yield* pass("10 minutes")
      assert.lengthOf(yield* calls(), before)
      assert.strictEqual(yield* continues(root), 0)
      yield* say("go on", { session: root })
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* titles, [
        "Mission started",
        "Mission stopped",
        "Mission started",
        "Mission halted"
      ])
      assert.strictEqual(yield* continues(root), 5)
    }).pipe(withActors({ goal: thinking(), work: hangs })))

  it.effect("leaves no task behind that a child delegated while it was being stopped", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      yield* pass("10 minutes")
      assert.isTrue((yield* tasks).every(({ state }) => state === "cancelled"))
      assert.isTrue((yield* calls()).every(({ outcome }) => outcome !== "open"))
    }).pipe(withActors({
      goal: replies({ toolCalls: [delegate({ agent: "general", prompt: "lead" })] }, hangs),
      lead: replies(
        { toolCalls: [delegate({ prompt: "work 1", background: false })] },
        { toolCalls: [delegate({ prompt: "work 2" })] },
        { text: "I wait." }
      ),
      work: hangs
    })))

  it.effect("stops as well when the abort comes while the Commander waits for a call", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* doing(client.abort(root))
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* states, ["cancelled"])
      assert.deepStrictEqual(yield* heard(root), ["goal"])
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission stopped"])
    }).pipe(withActors({
      goal: replies({ toolCalls: [delegate({ prompt: "work 1", background: false })] }, hm),
      work: hangs
    })))

  it.effect("stops its tasks also where there is no mission: the user's own agent delegated them", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal", { agent: "build" })
      yield* until(isWorking("work 2"))
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      const before = (yield* calls(root)).length
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled"])
      assert.deepStrictEqual(yield* titles, [])
      assert.strictEqual((yield* calls(root)).length, before)
    }).pipe(withActors({ goal: thinking(), work: hangs })))

  it.effect("stops as well when the abort's events are lost", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const host = yield* SimulatedHost
      const root = yield* say("goal")
      yield* until(isWorking("work 2"))
      yield* pass("5 seconds")
      yield* host.lose((event) => event.session === root)
      yield* doing(client.abort(root))
      yield* pass("10 seconds")
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled"])
      assert.deepStrictEqual(yield* titles, ["Mission started", "Mission stopped"])
      assert.strictEqual(yield* continues(root), 0)
    }).pipe(withActors({ goal: thinking(), work: hangs })))
})
