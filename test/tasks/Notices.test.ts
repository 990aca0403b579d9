import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import {
  calls,
  callsWithNotice,
  delegate,
  delegates,
  doing,
  hangs,
  heard,
  isNotice,
  isWorking,
  notices,
  pass,
  replies,
  say,
  says,
  states,
  task,
  tasks,
  until,
  use,
  withActors
} from "./scripts.ts"

const ended = (prompt: string) =>
  Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.endedAt !== undefined))
const orders = (...prompts: ReadonlyArray<string>) => prompts.map((prompt) => ({ prompt }))

const secret = "gh" + "p_" + "a1".repeat(18)

describe("a notice", () => {
  it.effect("tells of all tasks in one message, when the last of them has ended", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("14 seconds")
      assert.lengthOf(yield* notices(root), 0)
      yield* pass("2 minutes")
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      const [a, b, c] = [yield* task("first"), yield* task("second"), yield* task("third")]
      assert.strictEqual(
        told[0],
        [
          "3 tasks have ended, 1 without success.",
          `## ${a.id} completed after 5 s · Builder · first\nfirst words`,
          `## ${b.id} failed after 10 s · Builder · second\nno credit (top up the account, or set another model)`,
          `## ${c.id} completed after 15 s · Builder · third\n(no output)`
        ].join("\n\n")
      )
      assert.isTrue((yield* tasks).every(({ told }) => told))
      assert.lengthOf(yield* callsWithNotice(root), 1)
    }).pipe(withActors({
      goal: delegates(orders("first", "second", "third")),
      first: says("first words", "5 seconds"),
      second: () => Effect.delay(Effect.succeed({ status: 402, message: "no credit" }), "10 seconds"),
      third: says("", "15 seconds")
    })))

  it.effect("tells no secret, also where it is cut", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("2 minutes")
      const [told = ""] = yield* notices(root)
      assert.include(told, "the token is [masked GitHub token].")
      assert.include(told, "- [masked GitHub token]")
      assert.notInclude(told, "a1a1")
      // What was asked for is still there for whoever asks for it.
      assert.strictEqual((yield* task("first")).result, `the token is ${secret}.`)
    }).pipe(withActors({
      goal: delegates(orders("first", "second")),
      first: says(`the token is ${secret}.`),
      second: says(`${"-".repeat(3_970)} ${secret} ${"-".repeat(1_000)}`)
    })))

  it.effect("waits at most a minute for the others, and tells nothing twice", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(ended("first"))
      yield* pass("59 seconds")
      assert.lengthOf(yield* notices(root), 0)
      yield* pass("2 seconds")
      const [early] = yield* notices(root)
      assert.include(early, "2 tasks have ended.")
      assert.include(early, "first words")
      assert.include(early, "second words")
      yield* until(ended("third"))
      yield* pass("5 minutes")
      const told = yield* notices(root)
      assert.lengthOf(told, 2)
      assert.include(told[1], "1 task has ended.")
      assert.include(told[1], "third words")
      assert.notInclude(told[1], "first words")
    }).pipe(withActors({
      goal: (request) =>
        Effect.succeed(
          request.turns === 0
            ? { toolCalls: orders("first", "second", "third").map(delegate) }
            : { text: request.users.filter(isNotice).length === 2 ? "MISSION COMPLETE" : "I wait." }
        ),
      first: says("first words", "5 seconds"),
      second: says("second words", "30 seconds"),
      third: says("third words", "200 seconds")
    })))

  it.effect("gives the beginning of a long result, and how to get the rest", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(ended("first"))
      yield* pass("1 second")
      const [told] = yield* notices(root)
      const { id } = yield* task("first")
      assert.include(told, `${"x".repeat(500)}\n… 501 more characters: get_task_result {"taskId": "${id}"}`)
      assert.notInclude(told, "x".repeat(501))
      assert.include(told, "y".repeat(500))
      assert.include(yield* use(root, "get_task_result", { taskId: id }), "x".repeat(1_001))
    }).pipe(withActors({
      goal: delegates(orders("first", "second")),
      first: says("x".repeat(1_001), "5 seconds"),
      second: says("y".repeat(500), "5 seconds")
    }, { config: { noticeResultChars: 500 } })))

  it.effect("names the oldest tasks by id alone when there are too many", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 5 && all.every(({ told }) => told)))
      yield* pass("5 minutes")
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      const all = yield* tasks
      for (const [index, { id }] of all.entries()) {
        assert.include(told[0], id)
        assert.strictEqual(told[0]?.includes(`words ${index + 1}`), index >= 3)
        assert.include(yield* use(root, "get_task_result", { taskId: id }), `words ${index + 1}`)
      }
    }).pipe(withActors({
      goal: delegates(orders("work 1", "work 2", "work 3", "work 4", "work 5")),
      work: (request) =>
        Effect.delay(Effect.succeed({ text: (request.users[0] ?? "").replace("work", "words") }), "5 seconds")
    }, { config: { noticesPerParent: 2 } })))

  it.effect("does not repeat what the parent has read with get_task_result", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(ended("first"))
      const { id } = yield* task("first")
      assert.include(yield* use(root, "get_task_result", { taskId: id }), "first words")
      yield* until(ended("second"))
      yield* pass("5 minutes")
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.notInclude(told[0], id)
      assert.include(told[0], "second words")
    }).pipe(withActors({
      goal: delegates(orders("first", "second")),
      first: says("first words", "5 seconds"),
      second: says("second words", "30 seconds")
    })))

  it.effect("still comes when somebody else than the parent has read the result", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(
        Effect.map(tasks, (all) => all.some(({ prompt, state }) => prompt === "first" && state === "completed"))
      )
      const { id } = yield* task("first")
      const reader = (yield* task("second")).session ?? assert.fail("no session")
      assert.include(yield* use(reader, "get_task_result", { taskId: id }), "first words")
      yield* pass("5 minutes")
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "first words")
    }).pipe(withActors({
      goal: delegates(orders("first", "second")),
      first: says("first words", "5 seconds"),
      second: says("second words", "30 seconds")
    })))

  it.effect("reaches a parent that is busy with something else, once", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(callsWithNotice(root), (told) => told.length > 0))
      yield* pass("5 minutes")
      assert.lengthOf(yield* notices(root), 1)
      assert.lengthOf(yield* callsWithNotice(root), 1)
      assert.isTrue((yield* tasks).every(({ told }) => told))
    }).pipe(withActors({
      goal: replies({ toolCalls: [delegate({ prompt: "first" })] }, says("I think.", "30 seconds"), {
        text: "MISSION COMPLETE"
      }),
      first: says("first words", "5 seconds")
    })))

  it.effect("that the host does not take is sent again, once", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("first"))
      yield* Effect.flatMap(SimulatedHost, (host) => host.fail("prompt", 5))
      yield* until(Effect.map(callsWithNotice(root), (told) => told.length > 0), "1 minute")
      yield* pass("5 minutes")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({ goal: delegates(orders("first")), first: says("first words", "5 seconds") })))

  it.effect("to a parent that the user aborted is stored and starts no turn", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isWorking("first"))
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      yield* pass("5 minutes")
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled"])
      const told = yield* notices(root)
      assert.isAtLeast(told.length, 1)
      for (const prompt of ["first", "second"]) {
        const { id } = yield* task(prompt)
        assert.lengthOf(told.filter((text) => text.includes(id)), 1)
      }
      assert.lengthOf(yield* calls(root), 2)
      yield* say("what now?", { session: root })
      yield* pass("1 second")
      const read = (yield* calls(root)).at(-1)?.request.users ?? []
      assert.isTrue(read.some(isNotice))
      assert.strictEqual(read.at(-1), "what now?")
    }).pipe(withActors({
      goal: replies({ toolCalls: orders("first", "second").map(delegate) }, hangs, { text: "MISSION COMPLETE" }),
      first: hangs,
      second: hangs
    })))

  it.effect("is not sent to a parent that was deleted", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isWorking("first"))
      yield* doing(client.delete(root))
      yield* pass("5 minutes")
      assert.isTrue((yield* tasks).every(({ told }) => told))
      assert.strictEqual((yield* Effect.flip(heard(root)))._tag, "SessionNotFound")
    }).pipe(withActors({ goal: delegates(orders("first")), first: hangs })))
})
