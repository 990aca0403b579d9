import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { parseLimits } from "../../src/domain/Budget.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Budgets } from "../../src/mission/Budgets.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Missions } from "../../src/mission/Missions.ts"
import {
  type Actor,
  calls,
  delegate,
  delegates,
  doing,
  hangs,
  heard,
  isWorking,
  notices,
  pass,
  replies,
  say,
  sessionOf,
  start,
  task,
  tasks,
  toasts,
  until,
  use,
  withActors,
  withWorld,
  works
} from "../tasks/scripts.ts"

const mission = Effect.flatMap(Missions, ({ all }) => Effect.map(all, ([first]) => first ?? assert.fail("no mission")))
const hasEnded = Effect.map(mission, ({ state }) => state !== "active")
const step = (command: string, input: number) => ({
  toolCalls: [{ name: "bash", args: { command } }],
  usage: { input, output: 0 }
})
/** Works for ever, by ever new commands, unless told to finish. */
const busy = (input: number): Actor => {
  let count = 0
  return (request) =>
    Effect.delay(
      Effect.succeed(
        request.users.some((text) => text.startsWith("The mission's budget is used up"))
          ? { text: `stopped at ${count} of ${request.users[0] ?? ""}` }
          : step(`command ${"x".repeat(++count)}`, input)
      ),
      "5 seconds"
    )
}
const summingUp = (texts: ReadonlyArray<string>) =>
  texts.filter((text) => text.startsWith("The mission's budget is used up") && text.includes("Sum up"))

describe("a mission", () => {
  it.effect("is told at 80 % and brought to its end at 100 %: children finish, the Commander sums up", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(hasEnded, "30 minutes")
      yield* pass("5 minutes")
      const { spent, state, why } = yield* mission
      assert.strictEqual(state, "out_of_budget")
      assert.match(why ?? "", /^Its budget is used up: .* of 10k tokens\.$/)
      assert.isAtLeast(spent.tokens, 10_000)
      const texts = yield* heard(root)
      assert.lengthOf(texts.filter((text) => text.startsWith("The mission's budget runs short")), 1)
      assert.lengthOf(summingUp(texts), 1)
      assert.isTrue((yield* tasks).every(({ state, told }) => state === "completed" && told))
      assert.match((yield* task("work 1")).result ?? "", /^stopped at \d+ of work 1$/)
      const told = (yield* notices(root)).join("\n")
      assert.include(told, "of work 1")
      assert.include(told, "of work 2")
      const last = (yield* calls(root)).at(-1)
      assert.isTrue(last?.request.users.some((text) => text.includes("Sum up")))
      assert.isTrue((yield* toasts).some((text) => text.startsWith("Mission out of budget: Its budget is used up:")))
    }).pipe(withActors(
      { goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }], "Half is done."), work: busy(500) },
      { config: { budget: { tokens: 10_000 } } }
    )))

  it.effect.each<[string, Record<string, unknown>]>([
    ["time", { time: "1 minute" }],
    ["cost", { cost: 0.01 }],
    ["turns", { turns: 20 }]
  ])("ends as out of budget when its %s is used up, within one grace for the children and one for the Commander", (
    [name, budget]
  ) =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(Effect.map(mission, ({ windingUp }) => windingUp !== undefined), "30 minutes")
      const after = yield* until(hasEnded, "30 minutes")
      assert.isAtMost(after, 65_000)
      const { state, why } = yield* mission
      assert.strictEqual(state, "out_of_budget")
      assert.match(
        why ?? "",
        name === "cost" ? /\$0\.01 of \$0\.01/ : name === "time" ? /1 min.* of 1 min/ : / of 20 turns/
      )
      yield* pass("1 minute")
      const seen = (yield* calls()).length
      yield* pass("30 minutes")
      assert.lengthOf(yield* calls(), seen)
      assert.isTrue((yield* tasks).every(({ state }) => state === "completed"))
    }).pipe(withActors(
      { goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }], "Half is done."), work: busy(500) },
      { config: { budget: { grace: "30 seconds", ...budget } } }
    )))

  it.effect("that asks for more tasks than it may have is refused, and ends", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(hasEnded, "30 minutes")
      assert.strictEqual((yield* mission).state, "out_of_budget")
      assert.lengthOf(yield* tasks, 3)
      const refused = (yield* calls(root)).flatMap(({ request }) => request.toolResults)
      assert.isTrue(refused.some((text) => text.includes("budget is used up (3 of 3 tasks), and nothing new starts")))
    }).pipe(withActors(
      {
        goal: replies({ toolCalls: [1, 2, 3, 4, 5].map((n) => delegate({ prompt: `work ${n}` })) }, {
          text: "I wait."
        }),
        work: works("5 seconds")
      },
      { config: { budget: { tasks: 3 } } }
    )))

  it.effect("has children aborted that do not finish within the grace, and those in line never begin", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("stuck 1"))
      yield* until(hasEnded, "30 minutes")
      assert.deepStrictEqual((yield* tasks).map(({ state }) => state), ["cancelled", "cancelled"])
      assert.match((yield* task("stuck 1")).reason ?? "", /the mission's budget is used up\. It had said: half of it/)
      assert.isUndefined((yield* task("stuck 2")).session)
      assert.lengthOf(summingUp(yield* heard(root)), 1)
      const host = yield* SimulatedHost
      assert.strictEqual((yield* host.direct.statuses).size, 0)
    }).pipe(withActors(
      {
        goal: delegates([{ prompt: "stuck 1" }, { prompt: "stuck 2" }], "So be it."),
        stuck: replies({ text: "half of it", toolCalls: [{ name: "bash", args: { command: "true" } }] }, hangs)
      },
      { config: { budget: { time: "1 minute", grace: "20 seconds" }, concurrency: { total: 1 } } }
    )))

  it.effect("whose Commander does not stop has it aborted after the grace", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(hasEnded, "30 minutes")
      assert.strictEqual((yield* mission).state, "out_of_budget")
      yield* pass("10 seconds")
      const host = yield* SimulatedHost
      assert.strictEqual((yield* host.direct.statuses).size, 0)
      const seen = (yield* calls()).length
      yield* pass("30 minutes")
      assert.lengthOf(yield* calls(), seen)
    }).pipe(withActors(
      {
        goal: (request) => Effect.delay(Effect.succeed(step(`again ${"x".repeat(request.turns)}`, 100)), "1 second")
      },
      { config: { budget: { turns: 10, grace: "20 seconds" } } }
    )))

  it.effect("that is out of budget starts nothing when the user speaks, and goes on once it is allowed more", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(hasEnded, "30 minutes")
      assert.strictEqual((yield* mission).answer, "Half is done.")
      yield* say("go on", { session: root })
      yield* pass("5 minutes")
      assert.strictEqual((yield* mission).state, "out_of_budget")
      assert.include(
        yield* use(root, "delegate_task", delegate({ prompt: "work 9" }).args),
        "The mission's budget is used up"
      )
      const loop = yield* MissionLoop
      assert.isTrue(yield* doing(loop.goOn(root, Result.getOrThrow(parseLimits("turns=100")))))
      assert.strictEqual((yield* mission).state, "active")
      assert.match(yield* use(root, "delegate_task", delegate({ prompt: "work 9" }).args), /started/)
      assert.match(yield* use(root, "list_tasks", {}), /\d+ of 100 turns/)
    }).pipe(withActors(
      { goal: delegates([{ prompt: "work 1" }], "Half is done."), work: busy(100) },
      { config: { budget: { turns: 10, grace: "30 seconds" } } }
    )))

  it.effect("that the user aborts while it is wound up stays stopped", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(mission, ({ windingUp }) => windingUp !== undefined), "30 minutes")
      const client = yield* SessionClient
      yield* until(Effect.map(calls(root), (all) => all.some(({ outcome }) => outcome === "open")))
      yield* doing(client.abort(root))
      yield* pass("10 minutes")
      assert.strictEqual((yield* mission).state, "stopped")
      assert.isTrue((yield* tasks).every(({ state }) => state === "cancelled"))
    }).pipe(withActors(
      {
        goal: replies({ toolCalls: [delegate({ prompt: "stuck 1" })] }, { text: "I wait." }, hangs),
        stuck: hangs
      },
      { config: { budget: { time: "1 minute", grace: "20 seconds" } } }
    )))

  it.effect("does not pay for what its root session had used before", () =>
    Effect.gen(function*() {
      const root = yield* say("chat", { agent: "build" })
      yield* pass("10 seconds")
      yield* say("goal", { session: root })
      yield* pass("10 seconds")
      assert.strictEqual((yield* mission).spent.tokens, 110)
    }).pipe(withActors({
      chat: replies({ text: "A chat.", usage: { input: 90_000, output: 0 } }, { text: "MISSION COMPLETE" })
    })))

  it.effect("pays once for a session whose last news comes after it was deleted", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(hasEnded)
      const { session = assert.fail("no session"), usage } = yield* task("work 1")
      const { spent } = yield* mission
      const { observe } = yield* Budgets
      yield* observe({ type: "deleted", session })
      yield* observe({ type: "usage", session, usage })
      assert.strictEqual((yield* mission).spent.tokens, spent.tokens)
    }).pipe(withActors({
      goal: delegates([{ prompt: "work 1" }], "Done.\nMISSION COMPLETE"),
      work: works("5 seconds")
    })))

  it.effect("keeps what it has spent across a restart, and counts what was used meanwhile once", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* first.do(say("goal"))
      yield* until(first.do(Effect.map(mission, ({ spent }) => spent.turns >= 8)))
      yield* pass("6 seconds")
      const before = (yield* first.do(mission)).spent
      yield* first.kill
      yield* pass("20 seconds") // the host and its children go on
      const next = yield* start()
      yield* until(next.do(Effect.map(tasks, (all) => all.length === 2)))
      yield* pass("1 second")
      const host = yield* SimulatedHost
      const used = (yield* host.sessions).reduce((sum, { usage }) => sum + usage.input + usage.output, 0)
      const { spent } = yield* next.do(mission)
      assert.isAbove(spent.tokens, before.tokens)
      assert.strictEqual(spent.tokens, used)
      assert.strictEqual(spent.tasks, 2)
      assert.isBelow(spent.time, 60_000)
    }).pipe(withWorld({
      goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }], "Done.\nMISSION COMPLETE"),
      work: busy(500)
    })))

  it.effect("that was stopped before a restart is kept within its budget when the user goes on with it", () =>
    Effect.gen(function*() {
      const config = { budget: { tokens: 10_000 } }
      const first = yield* start({ config })
      const root = yield* first.do(say("goal"))
      yield* pass("12 seconds")
      yield* first.do(Effect.flatMap(MissionLoop, (loop) => doing(loop.stop(root))))
      yield* first.end
      const next = yield* start({ config })
      yield* until(next.do(Effect.map(Effect.flatMap(Missions, ({ all }) => all), (all) => all.length === 1)))
      yield* next.do(say("go on", { session: root }))
      yield* until(next.do(hasEnded), "10 minutes")
      assert.strictEqual((yield* next.do(mission)).state, "out_of_budget")
    }).pipe(withWorld({ goal: busy(500) })))

  it.effect("that was being wound up when its host was killed is brought to its end by the next instance", () =>
    Effect.gen(function*() {
      const config = { budget: { time: "1 minute", grace: "30 seconds" } }
      const first = yield* start({ config })
      const root = yield* first.do(say("goal"))
      yield* until(first.do(Effect.map(mission, ({ windingUp }) => windingUp !== undefined)))
      yield* first.killHost
      const next = yield* start({ config })
      yield* until(next.do(Effect.map(tasks, (all) => all.length === 1)))
      yield* until(next.do(hasEnded), "10 minutes")
      assert.strictEqual((yield* next.do(mission)).state, "out_of_budget")
      assert.isTrue((yield* next.do(tasks)).every(({ told }) => told))
      assert.isAtLeast(summingUp(yield* next.do(heard(root))).length, 1)
      assert.isDefined(yield* next.do(sessionOf("stuck 1")))
    }).pipe(withWorld({ goal: delegates([{ prompt: "stuck 1" }], "So be it."), stuck: hangs })))
})

describe("parseLimits", () => {
  it.each<[string, object]>([
    ["", {}],
    ["cost=20", { cost: 20 }],
    ["cost=$7.50 tokens=2M", { cost: 7.5, tokens: 2_000_000 }],
    ["Time=2h, tasks=50  turns=1.5k", { time: 7_200_000, tasks: 50, turns: 1_500 }],
    ["time=90s", { time: 90_000 }],
    ["time:45min", { time: 2_700_000 }],
    ["time=1h30m tokens=1.1k", { time: 5_400_000, tokens: 1_100 }]
  ])("reads %j", (text, limits) => assert.deepStrictEqual(Result.getOrThrow(parseLimits(text)), limits))

  it.each([
    `tokens=${"9".repeat(400)}`,
    "cost",
    "cost=",
    "cost=0",
    "cost=-1",
    "price=3",
    "time=5",
    "time=fast",
    "time=1h30",
    "time=0h0m",
    "tasks=1.5",
    "tokens=0.5",
    "tokens=2G",
    "cost=1 go on"
  ])(
    "says what is wrong with %j",
    (text) =>
      assert.match(Result.getOrThrow(Result.flip(parseLimits(text))), /^"[^"]*" is no limit\. Write one or more of/)
  )
})
