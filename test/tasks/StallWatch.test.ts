import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import type { HostEvent, SessionId } from "../../src/domain/Session.ts"
import { isSettled } from "../../src/domain/Task.ts"
import {
  type Actor,
  calls,
  delegate,
  delegates,
  hangs,
  heard,
  notices,
  pass,
  replies,
  say,
  says,
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
} from "./scripts.ts"

const isEnded = (prompt: string) =>
  Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.endedAt !== undefined))
const silences = Effect.map(toasts, (all) => all.filter((text) => /^\w+ is silent/.test(text)))
const second = 1_000
const goal = delegates([{ prompt: "work" }])
const nudge = "Nothing was heard of you for a long time. If something hangs"
const aborted = "You were stopped because nothing was heard of you for a long time."

/** What a person reads of the one task. */
const shown = (root: SessionId) => use(root, "list_tasks", {})

/** Begins to work, and tells the root. */
const begins = Effect.gen(function*() {
  const root = yield* say("goal")
  yield* until(Effect.map(tasks, (all) => all.some(({ state }) => state === "running")))
  return root
})

/** Thinks for a minute, uses a tool, and so on. */
const busyFor = (minutes: number): Actor =>
  replies(
    ...Array.from({ length: minutes }, (): Actor => () =>
      Effect.delay(Effect.succeed({ toolCalls: [{ name: "bash", args: { command: "make" } }] }), "1 minute")),
    { text: "made" }
  )

describe("a silent child", () => {
  it.effect("is looked at, nudged, aborted and resumed, then failed: each after its own wait, each in sight", () =>
    Effect.gen(function*() {
      const root = yield* begins
      const session = yield* sessionOf("work")
      yield* pass(290 * second)
      assert.deepStrictEqual(yield* silences, [])
      assert.notInclude(yield* shown(root), "sign of life")

      yield* pass("15 seconds")
      assert.deepStrictEqual(yield* silences, ["Builder is silent: work: no sign of life for 5 min; looked at it"])
      assert.include(yield* shown(root), "no sign of life for 5 min; looked at it")
      assert.deepStrictEqual(yield* heard(session), ["work"])
      yield* pass(285 * second)
      assert.lengthOf(yield* silences, 1)

      yield* pass("15 seconds")
      assert.strictEqual((yield* silences)[1], "Builder is silent: work: no sign of life for 10 min; nudged it")
      assert.include(yield* shown(root), "no sign of life for 10 min; nudged it")
      assert.isTrue((yield* heard(session))[1]?.startsWith(nudge))
      assert.strictEqual((yield* task("work")).run, 1)
      yield* pass(285 * second)
      assert.lengthOf(yield* silences, 2)

      yield* pass("15 seconds")
      assert.strictEqual((yield* silences)[2], "Builder is silent: work: no sign of life for 15 min; aborted it")
      const resumed = yield* task("work")
      assert.strictEqual(resumed.run, 2)
      assert.strictEqual(resumed.state, "running")
      assert.isTrue((yield* heard(session))[2]?.startsWith(aborted))
      assert.deepStrictEqual((yield* calls(session)).map(({ outcome }) => outcome), ["hung up", "open"])
      assert.include(yield* shown(root), "run 2")
      assert.notInclude(yield* shown(root), "sign of life")

      yield* pass(890 * second)
      assert.strictEqual((yield* task("work")).state, "running")
      yield* pass("30 seconds")
      const failed = yield* task("work")
      assert.strictEqual(failed.state, "failed")
      assert.strictEqual(
        failed.reason,
        "It showed no sign of life for 15 min, also after it was nudged, and was stopped."
      )
      assert.lengthOf(yield* silences, 6)
      assert.deepStrictEqual((yield* calls(session)).map(({ outcome }) => outcome), ["hung up", "hung up"])
      yield* until(Effect.map(notices(root), (told) => told.length === 1))
      assert.include((yield* notices(root))[0], "no sign of life for 15 min")
    }).pipe(withActors({ goal, work: hangs })))

  it.effect("that speaks after a nudge is silent anew, and from the first step on, when it falls silent again", () =>
    Effect.gen(function*() {
      yield* begins
      yield* pass("11 minutes")
      assert.lengthOf(yield* silences, 2)
      yield* pass(270 * second) // it spoke after 12 minutes
      assert.lengthOf(yield* silences, 2)
      yield* pass("2 minutes")
      assert.match((yield* silences)[2] ?? "", /5 min; looked at it$/)
      assert.strictEqual((yield* task("work")).run, 1)
    }).pipe(withActors({
      goal,
      work: replies(
        () => Effect.delay(Effect.succeed({ toolCalls: [{ name: "bash", args: { command: "make" } }] }), "12 minutes"),
        hangs
      )
    })))

  it.effect("waits as long as the setting says", () =>
    Effect.gen(function*() {
      yield* begins
      yield* pass("35 seconds")
      assert.deepStrictEqual(yield* silences, [
        "Builder is silent: work: no sign of life for 10 s; looked at it",
        "Builder is silent: work: no sign of life for 20 s; nudged it",
        "Builder is silent: work: no sign of life for 30 s; aborted it"
      ])
      yield* until(isEnded("work"))
      assert.strictEqual((yield* task("work")).state, "failed")
    }).pipe(withActors({ goal, work: hangs }, { config: { stallAfter: "10 seconds" } })))

  it.effect("goes on with what it knows when the next run answers", () =>
    Effect.gen(function*() {
      const root = yield* begins
      yield* until(isEnded("work"), "20 minutes", "1 second")
      const done = yield* task("work")
      assert.strictEqual(done.state, "completed")
      assert.strictEqual(done.run, 2)
      assert.strictEqual(done.result, "another way")
      yield* pass("1 minute")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({ goal, work: replies(hangs, says("another way", "1 second")) })))

  it.effect("is not taken for one that was aborted by someone else, whenever its next run answers", () => {
    const times = Array.from({ length: 60 }, (_, index) => index + 60)
    const answers = times.map((time): readonly [string, Actor] => [
      `work${time}`,
      replies(hangs, says("another way", `${time} millis`))
    ])
    return Effect.gen(function*() {
      yield* say("goal")
      yield* until(
        Effect.map(tasks, (all) => all.length === times.length && all.every(isSettled)),
        "20 minutes",
        "1 second"
      )
      for (const { prompt, result, run, state } of yield* tasks) {
        assert.deepStrictEqual({ result, run, state }, { result: "another way", run: 2, state: "completed" }, prompt)
      }
    }).pipe(withActors(
      { goal: delegates(times.map((time) => ({ prompt: `work${time}` }))), ...Object.fromEntries(answers) },
      { config: { concurrency: { total: 60, agent: 60 } } }
    ))
  })

  it.effect("that has tasks of its own in line behind it is no exception: they would wait for it in vain", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(isEnded("work"), "50 minutes", "1 second")
      assert.lengthOf(yield* silences, 3)
      assert.strictEqual((yield* task("below")).state, "completed")
      assert.strictEqual((yield* task("work")).state, "completed")
      assert.strictEqual((yield* task("work")).run, 2)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "work" }]),
      work: replies(
        { toolCalls: [delegate({ prompt: "below" })] },
        hangs,
        says("another way", "1 second"),
        says("done", "1 second")
      ),
      below: says("looked up", "1 second")
    }, { config: { concurrency: { total: 1 } } })))
})

describe("after a restart", () => {
  /** Looks on for a minute, when a child was at work for a long time and nobody heard of it. */
  const comesBack = Effect.gen(function*() {
    const first = yield* start()
    yield* first.do(begins)
    yield* first.kill
    yield* pass(2_401 * second)
    const next = yield* start()
    yield* next.do(until(Effect.map(tasks, (all) => all.length > 0)))
    yield* pass("50 seconds")
    assert.deepStrictEqual(yield* silences, ["Builder is silent: work: no sign of life for 40 min 1 s; looked at it"])
    return next
  })

  it.effect("a child that went on meanwhile is not taken for silent", () =>
    Effect.gen(function*() {
      const next = yield* comesBack
      yield* next.do(until(isEnded("work"), "50 minutes", "1 second"))
      const { run, state } = yield* next.do(task("work"))
      assert.deepStrictEqual({ run, state }, { run: 1, state: "completed" })
      assert.lengthOf(yield* silences, 1)
    }).pipe(withWorld({ goal, work: busyFor(45) })))

  it.effect("a child that is silent still gets each step after its own wait", () =>
    Effect.gen(function*() {
      const next = yield* comesBack
      yield* pass(240 * second)
      assert.lengthOf(yield* silences, 1)
      yield* pass("20 seconds")
      assert.lengthOf(yield* silences, 2)
      assert.strictEqual((yield* next.do(task("work"))).run, 1)
      yield* pass("5 minutes")
      assert.lengthOf(yield* silences, 3)
      assert.strictEqual((yield* next.do(task("work"))).run, 2)
    }).pipe(withWorld({ goal, work: hangs })))
})

describe("is not silent", () => {
  it.effect("a child whose model and tools show life, however long it takes", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "50 minutes", "1 second")
      assert.deepStrictEqual(yield* silences, [])
      assert.strictEqual((yield* task("work")).run, 1)
    }).pipe(withActors({ goal, work: busyFor(40) })))

  it.effect("a child that gets on while every event of that is lost: it is never nudged", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const root = yield* begins
      yield* host.lose(({ session }: HostEvent) => session !== root)
      yield* until(isEnded("work"), "50 minutes", "1 second")
      assert.strictEqual((yield* task("work")).state, "completed")
      assert.isTrue((yield* silences).every((text) => text.endsWith("looked at it")))
      assert.deepStrictEqual(yield* heard(yield* sessionOf("work")), ["work"])
    }).pipe(withActors({ goal, work: busyFor(40) })))

  it.effect("a child that waits for tasks of its own, in its turn or after it", () =>
    Effect.gen(function*() {
      for (const prompt of ["calls", "waits"]) {
        yield* say(`goal ${prompt}`)
        yield* until(isEnded(prompt), "50 minutes", "1 second")
        assert.deepStrictEqual(yield* silences, [])
        assert.strictEqual((yield* task(prompt)).state, "completed")
        assert.strictEqual((yield* task(prompt)).run, 1)
      }
    }).pipe(withActors({
      goal: (request) => delegates([{ agent: "general", prompt: request.users[0]?.split(" ")[1] ?? "" }])(request),
      calls: replies({ toolCalls: [delegate({ prompt: "work", background: false })] }, { text: "called" }),
      waits: delegates([{ prompt: "work" }], "waited"),
      work: busyFor(30)
    })))

  it.effect("a child that asks a person, for as long as its time limit allows", () =>
    Effect.gen(function*() {
      yield* begins
      yield* pass("50 minutes")
      assert.deepStrictEqual(yield* silences, [])
      assert.strictEqual((yield* task("work")).asking, true)
      yield* until(isEnded("work"), "15 minutes", "1 second")
      assert.strictEqual((yield* task("work")).state, "timed_out")
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "work" }]),
      work: replies({ toolCalls: [{ name: "question", args: {} }] }, { text: "asked" })
    })))

  it.effect("a child whose provider the host asks again, until the limit: then it fails with the provider's words", () =>
    Effect.gen(function*() {
      const root = yield* begins
      yield* pass("29 minutes")
      assert.deepStrictEqual(yield* silences, [])
      assert.include(yield* shown(root), "the host retries: the provider is overloaded")
      yield* until(isEnded("work"), "2 minutes", "1 second")
      const failed = yield* task("work")
      assert.strictEqual(failed.state, "failed")
      assert.strictEqual(failed.run, 1)
      assert.strictEqual(failed.reason, "OpenCode retried for 30 min: the provider is overloaded")
      yield* pass("1 minute")
      assert.include((yield* notices(root)).join(), "the provider is overloaded")
    }).pipe(withActors({
      goal,
      work: () =>
        Effect.succeed({ status: 529, message: "the provider is overloaded", headers: { "retry-after": "600" } })
    })))

  it.effect("a provider's limit that is shorter than the wait for silence holds as well", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "65 seconds")
      assert.strictEqual((yield* task("work")).reason, "OpenCode retried for 1 min: the provider is overloaded")
    }).pipe(withActors({
      goal,
      work: () =>
        Effect.succeed({ status: 529, message: "the provider is overloaded", headers: { "retry-after": "20" } })
    }, { config: { retryLimit: "1 minute" } })))

  it.effect("a child whose provider answers again before the limit", () =>
    Effect.gen(function*() {
      yield* begins
      yield* until(isEnded("work"), "30 minutes", "1 second")
      assert.strictEqual((yield* task("work")).state, "completed")
      assert.deepStrictEqual(yield* silences, [])
    }).pipe(withActors({
      goal,
      work: replies(
        ...Array.from({ length: 20 }, () => ({ status: 429, message: "slow down", headers: { "retry-after": "60" } })),
        works("1 second")
      )
    })))
})
