/** What becomes of tasks whose turns fail, on the virtual clock. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { promptsOf } from "../../src/domain/Session.ts"
import { isSettled } from "../../src/domain/Task.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Concurrency } from "../../src/tasks/Concurrency.ts"
import {
  type Actor,
  calls,
  delegate,
  delegates,
  doing,
  gauge,
  hangs,
  heard,
  type Life,
  notices,
  pass,
  replies,
  type Reply,
  say,
  says,
  sessionOf,
  start,
  states,
  task,
  tasks,
  toasts,
  until,
  use,
  withActors,
  withWorld,
  works
} from "./scripts.ts"

/** The host gives an error up after five retries, which take it 100 ms here. */
const overloaded: Reply = { status: 529, message: "Overloaded", headers: { "retry-after-ms": "20" } }
const limited: Reply = { status: 429, message: "slow down", headers: { "retry-after-ms": "20" } }
const overflow: Reply = { status: 400, message: "prompt is too long: 250000 tokens > 200000 maximum" }
const unauthorized: Reply = { status: 401, message: "invalid key" }
const loop = "I will look at the file now. ".repeat(60)

const times = (count: number, reply: Reply | Actor) => Array.from({ length: count }, () => reply)
/** Fails so many turns of the host's, then answers. */
const failsTurns = (turns: number, reply: Reply, last: Reply | Actor = says("done at last")): Actor =>
  replies(...times(turns * 6, reply), last)

const goal = delegates([{ prompt: "work" }])
const isEnded = (prompt: string) => Effect.map(task(prompt), isSettled)
const held = Effect.flatMap(Concurrency, (concurrency) => concurrency.held)
const isMending = (prompt: string) => Effect.map(task(prompt), ({ mending }) => mending !== undefined)
const isState = (prompt: string, state: string) =>
  Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.state === state))
const launched = Effect.map(tasks, (all) => all.length > 0)
const begins = Effect.gen(function*() {
  const root = yield* say("goal")
  yield* until(launched)
  return root
})

/** How often the child was told to begin, and to go on. */
const prompts = Effect.fnUntraced(function*(prompt: string) {
  const { direct } = yield* SimulatedHost
  const messages = yield* direct.messages(yield* sessionOf(prompt), 1_000)
  return { runs: promptsOf("task", messages).length, retries: promptsOf("retry", messages).length }
})

describe("a turn that fails with an error that passes", () => {
  it.effect("is gone on with in the same session and run, after a wait without a slot", () =>
    Effect.gen(function*() {
      const root = yield* begins
      yield* until(isMending("work"), "10 seconds")
      assert.strictEqual(yield* held, 0)
      assert.match(yield* use(root, "list_tasks", {}), /running .* · Overloaded: goes on in \d+ s\./)
      const waited = yield* until(isEnded("work"), "1 minute")
      assert.isAtLeast(waited, 5_000)
      assert.isAtMost(waited, 11_000)
      const done = yield* task("work")
      assert.strictEqual(done.state, "completed")
      assert.strictEqual(done.result, "done at last")
      assert.strictEqual(done.run, 1)
      assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 1 })
      assert.include((yield* heard(yield* sessionOf("work"))).at(-1), "cut off by an error of the model's provider")
      yield* pass("1 second")
      assert.lengthOf(yield* notices(root), 1)
      assert.lengthOf((yield* toasts).filter((text) => text.startsWith("Builder was held up: work: Overloaded")), 1)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal, work: failsTurns(1, overloaded) })))

  it.effect("waits as long as the provider says", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isMending("work"), "10 minutes", "1 second")
      const waited = yield* until(isEnded("work"), "3 minutes", "100 millis")
      assert.closeTo(waited, 90_000, 1_500)
    }).pipe(withActors({
      goal,
      work: failsTurns(1, { status: 503, message: "Service Unavailable", headers: { "retry-after": "90" } })
    })))

  it.effect("is given up when the retries are used up, with the provider's words and their number", () =>
    Effect.gen(function*() {
      const root = yield* begins
      yield* until(isEnded("work"), "20 minutes", "1 second")
      const failed = yield* task("work")
      assert.strictEqual(failed.state, "failed")
      assert.strictEqual(failed.reason, "Overloaded (it was told to go on 5 times)")
      assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 5 })
      yield* pass("1 second")
      assert.include((yield* notices(root)).join(), "Overloaded (it was told to go on 5 times)")
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal, work: () => Effect.succeed(overloaded) })))

  it.effect("is given up at once when there are to be no retries", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "5 seconds")
      assert.strictEqual((yield* task("work")).reason, "Overloaded")
    }).pipe(withActors({ goal, work: () => Effect.succeed(overloaded) }, { config: { retries: { count: 0 } } })))

  it.effect("leaves its slot to others while it waits, and goes on when there is one again", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 2))
      yield* until(isMending("work"), "10 seconds")
      yield* until(isState("other", "running"), "1 second")
      yield* pass("15 seconds")
      assert.isTrue(yield* isMending("work"), "the other works in its slot")
      yield* until(isEnded("other"), "1 minute")
      yield* until(isEnded("work"), "1 minute")
      assert.deepStrictEqual(yield* states, ["completed", "completed"])
    }).pipe(withActors({
      goal: delegates([{ prompt: "work" }, { prompt: "other" }]),
      work: failsTurns(1, overloaded),
      other: works("30 seconds")
    }, { config: { concurrency: { total: 1 } } })))

  it.effect("is not gone on with when the task is cancelled meanwhile", () =>
    Effect.gen(function*() {
      const root = yield* begins
      yield* until(isMending("work"), "10 seconds")
      const before = (yield* calls()).length
      yield* use(root, "cancel_task", { taskId: (yield* task("work")).id })
      yield* pass("5 minutes")
      assert.strictEqual((yield* task("work")).state, "cancelled")
      assert.strictEqual((yield* calls(yield* sessionOf("work"))).length, 6)
      assert.isAtLeast(before, 6)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal, work: failsTurns(1, overloaded) })))

  it.effect("ends with its session, when that is deleted meanwhile", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isMending("work"), "10 seconds")
      const client = yield* SessionClient
      yield* doing(client.delete(yield* sessionOf("work")))
      yield* until(isEnded("work"), "1 minute")
      assert.strictEqual((yield* task("work")).reason, "Its session was deleted while it worked.")
    }).pipe(withActors({ goal, work: failsTurns(1, overloaded) })))

  it.effect("ends at the task's time limit, if that comes first", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "2 minutes", "1 second")
      assert.strictEqual((yield* task("work")).state, "timed_out")
    }).pipe(withActors({ goal, work: () => Effect.succeed(overloaded) }, { config: { taskTimeLimit: "40 seconds" } })))

  it.effect("is the same whatever late news of it says", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      yield* host.setFaults({ events: { late: 0.6, doubled: 0.4 }, lateBy: "8 seconds" })
      yield* begins
      yield* until(isEnded("work"), "5 minutes", "100 millis")
      const done = yield* task("work")
      assert.strictEqual(done.result, "done at last")
      assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 2 })
    }).pipe(withActors({ goal, work: failsTurns(2, overloaded) })))

  it.effect("is gone on with by a notice that was on its way, in the slot that the child has", () => {
    const { measured, most } = gauge()
    const architect = { agent: "Architect" }
    return Effect.gen(function*() {
      const { setFaults } = yield* SimulatedHost
      yield* say("goal")
      yield* until(isState("below", "running"))
      const parent = yield* sessionOf("parent")
      yield* setFaults({ operations: { prompt: { slow: 1 } }, slowBy: "3 seconds" })
      yield* until(Effect.map(calls(parent), (all) => all.length > 2))
      yield* setFaults({})
      yield* until(isEnded("parent"))
      yield* until(isEnded("other"))
      assert.strictEqual(most(), 1)
      assert.deepInclude(yield* task("parent"), { state: "completed", result: "heard" })
      assert.deepStrictEqual(yield* prompts("parent"), { runs: 1, retries: 0 })
    }).pipe(
      withActors({
        goal: delegates([{ ...architect, prompt: "parent" }, { ...architect, prompt: "other" }]),
        parent: measured(replies(
          { toolCalls: [delegate({ agent: "Researcher", prompt: "below" })] },
          () => Effect.delay(Effect.succeed(overloaded), "10 seconds"),
          ...times(5, overloaded),
          says("heard", "5 seconds")
        )),
        below: works("9900 millis"),
        other: measured(works("20 seconds"))
      }, { config: { concurrency: { agents: { Architect: 1 } } } }),
      Random.withSeed("a notice that takes longer than the turn")
    )
  })

  it.effect("lets a child that waits for its own tasks wait for them, and be told", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "3 minutes", "100 millis")
      const done = yield* task("work")
      assert.strictEqual(done.state, "completed")
      assert.strictEqual(done.result, "all heard")
      assert.strictEqual((yield* task("below")).state, "completed")
      assert.lengthOf(yield* notices(yield* sessionOf("work")), 1)
    }).pipe(withActors({
      goal: delegates([{ agent: "Architect", prompt: "work" }]),
      work: replies(
        { toolCalls: [delegate({ agent: "Researcher", prompt: "below" })] },
        ...times(6, overloaded),
        (request) =>
          Effect.succeed({ text: request.users.some((text) => text.includes("has ended")) ? "all heard" : "I wait." })
      ),
      below: works("20 seconds")
    })))
})

describe("another model", () => {
  const fallback = (more: Record<string, unknown> = {}) => ({ config: { fallbackModels: ["scripted/other"], ...more } })
  /** The model refuses as `reply`; the other one answers. */
  const only = (reply: Reply): Actor => (request) =>
    Effect.succeed(request.model === "other" ? { text: "the other did it" } : reply)

  it.effect.each([["is limited", limited], ["refuses the key", unauthorized]] as const)(
    "goes on at once where the first %s",
    ([, reply]) =>
      Effect.gen(function*() {
        yield* begins
        yield* until(isEnded("work"), "5 seconds")
        const done = yield* task("work")
        assert.strictEqual(done.result, "the other did it")
        assert.deepStrictEqual(done.model, { provider: "scripted", model: "other" })
        assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 1 })
      }).pipe(withActors({ goal, work: only(reply) }, fallback()))
  )

  it.effect("has limits of its own, which hold", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 3))
      yield* until(Effect.map(calls(), (all) => all.some(({ request }) => request.model === "other")), "5 seconds")
      for (let passed = 0; passed < 40; passed++) {
        const open = (yield* calls()).filter(({ outcome, request }) => outcome === "open" && request.model === "other")
        assert.isAtMost(open.length, 1)
        yield* pass("500 millis")
      }
      yield* until(Effect.map(states, (all) => all.every((state) => state === "completed")), "1 minute")
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }, { prompt: "work 3" }]),
      work: (request) =>
        request.model === "other"
          ? Effect.delay(Effect.succeed({ text: "done" }), "4 seconds")
          : Effect.succeed(limited)
    }, fallback({ concurrency: { models: { "scripted/other": 1 } } }))))

  it.effect("is waited for with one place in line: nothing is told to the child before it has its slot", () => {
    const { measured, most } = gauge()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isState("below", "running"))
      yield* use(root, "delegate_task", { agent: "Builder", description: "other", prompt: "other", background: true })
      for (const prompt of ["below", "parent", "other"]) {
        yield* until(isState(prompt, "completed"))
        assert.strictEqual(most(), 1)
      }
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "parent" }]),
      parent: measured(
        replies({ toolCalls: [delegate({ prompt: "below" })] }, unauthorized, says("done", "5 seconds"))
      ),
      below: measured(works("10 seconds")),
      other: measured(works("10 seconds"))
    }, fallback({ concurrency: { total: 1 } })))
  })

  it.effect("that the host does not have is passed over", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "5 seconds")
      assert.deepStrictEqual((yield* task("work")).model, { provider: "scripted", model: "other" })
    }).pipe(withActors({ goal, work: only(unauthorized) }, {
      config: { fallbackModels: ["nobody/nothing", "scripted/other"] }
    })))

  it.effect("takes over from a host that has retried for as long as is allowed", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "3 minutes", "1 second")
      assert.strictEqual((yield* task("work")).result, "the other did it")
    }).pipe(withActors({
      goal,
      work: only({ status: 429, message: "slow down", headers: { "retry-after": "600" } })
    }, fallback({ retryLimit: "1 minute" }))))

  it.effect("is not asked for what a filter has refused", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "5 seconds")
      assert.strictEqual((yield* task("work")).state, "failed")
    }).pipe(withActors({
      goal,
      work: only({ status: 400, message: "Output blocked by content filtering policy" })
    }, fallback())))
})

describe("a conversation that is too long", () => {
  it.effect("is shortened once more on request when the host's own way was in vain, and goes on", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "10 seconds")
      assert.strictEqual((yield* task("work")).result, "short enough")
      assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 1 })
      const summaries = (yield* calls(yield* sessionOf("work"))).filter(({ request }) =>
        request.system.includes("summarization")
      )
      assert.lengthOf(summaries, 2)
    }).pipe(withActors({ goal, work: replies(overflow, overflow, says("short enough")) })))

  it.effect("fails the task when that does not help either, and says what would", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "10 seconds")
      const failed = yield* task("work")
      assert.strictEqual(failed.state, "failed")
      assert.include(failed.reason, "prompt is too long")
      assert.include(failed.reason, "smaller tasks")
      assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 1 })
    }).pipe(withActors({ goal, work: () => Effect.succeed(overflow) })))

  it.effect("is gone on with although the host cannot shorten it", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      yield* host.fail("compact", 1)
      yield* begins
      yield* until(isEnded("work"), "10 seconds")
      assert.strictEqual((yield* task("work")).result, "short enough")
    }).pipe(withActors({ goal, work: replies(overflow, overflow, says("short enough")) })))
})

describe("an answer that is none", () => {
  it.effect("is asked for once more", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "5 seconds")
      assert.strictEqual((yield* task("work")).result, "The file is empty.")
      assert.deepStrictEqual(yield* prompts("work"), { runs: 1, retries: 1 })
      assert.include((yield* heard(yield* sessionOf("work"))).at(-1), "one passage over and over")
    }).pipe(withActors({ goal, work: replies({ text: loop }, says("The file is empty.")) })))

  it.effect("fails the task the second time, and names the Inspector", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "5 seconds")
      const failed = yield* task("work")
      assert.strictEqual(failed.state, "failed")
      assert.include(failed.reason, "also after it was told to answer again")
      assert.include(failed.reason, "Inspector")
      assert.include(failed.reason, "I will look at the file now.")
    }).pipe(withActors({ goal, work: () => Effect.succeed({ text: loop }) })))

  it.effect("is not one that is empty", () =>
    Effect.gen(function*() {
      const root = yield* begins
      yield* until(isEnded("work"), "5 seconds")
      yield* pass("1 second")
      assert.include((yield* notices(root)).join(), "(no output)")
    }).pipe(withActors({ goal, work: says("") })))
})

describe("a provider that limits requests", () => {
  const many = Array.from({ length: 8 }, (_, index) => ({ prompt: `work ${index + 1}` }))

  it.effect("is asked less and less, all its tasks end well, and then as much as before", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 8))
      yield* pass("2 seconds")
      assert.include(yield* use(root, "list_tasks", {}), "scripted limits requests: 4 of its sessions may run at once")
      yield* until(Effect.map(states, (all) => all.every((state) => state === "completed")), "20 minutes", "1 second")
      const at = (yield* calls()).flatMap(({ request }) =>
        request.users[0]?.startsWith("work") === true ? [request.at] : []
      )
      const from = at[0] ?? 0
      const inMinute = (minute: number) => at.filter((time) => Math.floor((time - from) / 60_000) === minute).length
      assert.isAbove(inMinute(0), 2 * inMinute(1), "the storm dies down")
      yield* pass("3 minutes")
      const { throttled } = yield* Concurrency
      assert.strictEqual((yield* throttled).size, 0)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates(many),
      // It refuses everybody for two minutes.
      work: (request) => Effect.succeed(request.at < 120_000 ? limited : { text: "done" })
    }, { config: { retries: { count: 10 } } })))
})

describe("an instance that ends while a task waits to go on", () => {
  const ends = [
    ["it was killed", (life: Life) => life.kill],
    ["it ended in order", (life: Life) => life.end],
    ["its host was killed with it", (life: Life) => life.killHost]
  ] as const

  it.effect.each(ends)(
    "leaves that to the next one, which waits for the rest of the time and counts no run: %s",
    ([, end]) =>
      Effect.gen(function*() {
        const first = yield* start()
        yield* first.do(say("goal"))
        yield* until(first.do(launched))
        yield* until(first.do(isMending("work")), "10 seconds")
        const { mending } = yield* first.do(task("work"))
        yield* end(first)
        const second = yield* start()
        yield* until(second.do(launched), "30 seconds")
        yield* pass("1 second")
        assert.deepStrictEqual((yield* second.do(task("work"))).mending, mending)
        yield* until(second.do(isEnded("work")), "2 minutes", "100 millis")
        const done = yield* second.do(task("work"))
        assert.strictEqual(done.result, "done at last")
        assert.strictEqual(done.run, 1)
        assert.strictEqual(done.tries?.spent, 1)
        const client = yield* SessionClient
        const messages = yield* doing(client.messages(done.session ?? assert.fail("no session"), 100))
        assert.lengthOf(promptsOf("retry", messages), 1)
        assert.lengthOf(promptsOf("task", messages), 1)
      }).pipe(withWorld({ goal, work: failsTurns(1, overloaded) }))
  )

  it.effect("goes on with the other model after a restart", () =>
    Effect.gen(function*() {
      const config = { fallbackModels: ["scripted/other"] }
      const first = yield* start({ config })
      yield* first.do(say("goal"))
      yield* until(
        first.do(Effect.map(tasks, (all) => all.some(({ model }) => model?.model === "other"))),
        "10 seconds",
        "1 millis"
      )
      yield* first.killHost
      const second = yield* start({ config })
      yield* until(second.do(launched), "30 seconds")
      yield* until(second.do(isEnded("work")), "2 minutes", "100 millis")
      assert.strictEqual((yield* second.do(task("work"))).result, "the other did it")
    }).pipe(withWorld({
      goal,
      work: (request) =>
        request.model === "other"
          ? request.users.length < 3 ? hangs(request) : Effect.succeed({ text: "the other did it" })
          : Effect.succeed(limited)
    })))
})
