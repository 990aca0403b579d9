import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import {
  delegate,
  delegates,
  pass,
  replies,
  say,
  says,
  sessionOf,
  task,
  tasks,
  until,
  use,
  withActors
} from "./scripts.ts"

const exists = (session: SessionId) =>
  Effect.flatMap(SimulatedHost, (host) => Effect.map(host.sessions, (all) => all.some(({ id }) => id === session)))
const isAtHand = (prompt: string) => Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt))
const isTold = (prompt: string) => Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.told))

const ends = {
  goal: delegates([{ prompt: "good" }, { prompt: "bad" }]),
  good: says("good words", "5 seconds"),
  bad: () => Effect.delay(Effect.succeed({ status: 401, message: "bad words" }), "5 seconds")
}

describe("after its end", () => {
  it.effect("a child's session is kept for ten minutes and then deleted", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isTold("good"))
      const sessions = [yield* sessionOf("good"), yield* sessionOf("bad")]
      yield* pass("9 minutes")
      for (const session of sessions) assert.isTrue(yield* exists(session))
      yield* pass("75 seconds")
      for (const session of sessions) assert.isFalse(yield* exists(session))
      assert.isTrue(yield* exists(root))
    }).pipe(withActors(ends)))

  it.effect("a session that a newer task goes on in is kept until ten minutes after the end of that", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isTold("good"))
      const session = yield* sessionOf("good")
      yield* pass("9 minutes")
      yield* use(root, "delegate_task", delegate({ prompt: "more", resume: (yield* task("good")).id }).args)
      yield* pass("4 minutes")
      assert.strictEqual((yield* task("more")).state, "running")
      assert.isTrue(yield* exists(session))
      yield* until(isTold("more"))
      yield* pass("9 minutes")
      assert.isTrue(yield* exists(session))
      yield* pass("75 seconds")
      assert.isFalse(yield* exists(session))
    }).pipe(withActors({
      goal: delegates([{ prompt: "good" }]),
      good: replies(says("good words", "5 seconds"), says("more words", "5 minutes"))
    })))

  it.effect("a completed task is archived after thirty minutes, a failed one after ten; both still answer the same", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isTold("bad"))
      const [good, bad] = [yield* task("good"), yield* task("bad")]
      const answers = [
        yield* use(root, "get_task_result", { taskId: good.id }),
        yield* use(root, "get_task_result", { taskId: bad.id })
      ]
      assert.include(answers[0], "good words")
      assert.include(answers[1], "bad words")
      yield* pass("9 minutes")
      assert.isTrue(yield* isAtHand("bad"))
      yield* pass("75 seconds")
      assert.isFalse(yield* isAtHand("bad"))
      yield* pass("18 minutes")
      assert.isTrue(yield* isAtHand("good"))
      yield* pass("3 minutes")
      assert.isFalse(yield* isAtHand("good"))
      assert.deepStrictEqual([
        yield* use(root, "get_task_result", { taskId: good.id }),
        yield* use(root, "get_task_result", { taskId: bad.id })
      ], answers)
    }).pipe(withActors(ends)))

  it.effect("a child's session is deleted also when its task had to make room for others before", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isTold("good 1"))
      const session = yield* sessionOf("good 1")
      yield* pass("20 seconds")
      for (const prompt of ["good 11", "good 12"]) {
        yield* use(root, "delegate_task", delegate({ agent: "Researcher", prompt }).args)
      }
      yield* until(isTold("good 12"))
      assert.isFalse(yield* isAtHand("good 1"))
      yield* pass("8 minutes")
      assert.isTrue(yield* exists(session))
      yield* pass("3 minutes")
      assert.isFalse(yield* exists(session))
    }).pipe(withActors({
      goal: delegates(Array.from({ length: 10 }, (_, index) => ({ prompt: `good ${index + 1}` }))),
      good: says("good words", "5 seconds")
    }, { config: { retention: { tasks: 10 } } })))

  it.effect("a session that the host would not delete is deleted by a later pass", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(isTold("good"))
      const sessions = [yield* sessionOf("good"), yield* sessionOf("bad")]
      yield* Effect.flatMap(SimulatedHost, (host) => host.fail("delete", 4))
      yield* pass("12 minutes")
      for (const session of sessions) assert.isFalse(yield* exists(session))
    }).pipe(withActors(ends)))

  it.effect("nothing is cleaned while the parent has not been told", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.some(({ endedAt }) => endedAt !== undefined)))
      const session = yield* sessionOf("good")
      yield* pass("40 minutes")
      assert.isFalse((yield* task("good")).told)
      assert.isTrue(yield* exists(session))
    }).pipe(withActors({
      goal: delegates([{ prompt: "good" }, { prompt: "slow" }]),
      good: says("good words", "5 seconds"),
      slow: () => Effect.never
    }, { config: { noticeMaxWait: "50 minutes", stallAfter: "1 hour" } })))
})
