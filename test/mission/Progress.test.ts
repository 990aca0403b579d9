import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Progress } from "../../src/mission/Progress.ts"
import { delegates, doing, pass, say, says, tasks, until, withActors, works } from "../tasks/scripts.ts"

const line = (root: SessionId) => Effect.flatMap(Progress, (progress) => doing(progress.line(root)))
const counts = (root: SessionId) =>
  Effect.flatMap(
    Progress,
    (progress) =>
      Effect.map(progress.snapshots(root), (all) => all.map(({ done, running, total }) => [done, running, total]))
  )
const plan = (done: number, total: number) =>
  Effect.flatMap(MemoryDisk, (disk) =>
    disk.put(
      "/project/.opencode/todo.md",
      Array.from({ length: total }, (_, step) => `- [${step < done ? "x" : " "}] step ${step}\n`).join("")
    ))
const settled = (count: number) =>
  Effect.map(tasks, (all) => all.filter(({ endedAt }) => endedAt !== undefined).length === count)

const three = {
  goal: delegates([{ prompt: "short 1" }, { prompt: "middle 2" }, { prompt: "long 3" }]),
  short: works("1 minute"),
  middle: works("2 minutes"),
  long: works("3 minutes")
}

describe("the progress of a mission", () => {
  it.effect("is recorded when its tasks end, and says how long the rest will take", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(settled(2), "10 minutes", "1 second")
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* counts(root), [[0, 0, 3], [1, 2, 3], [2, 1, 3]])
      assert.strictEqual(yield* line(root), "[######----] 2/3 · 1 running · 2 min · about 1 min left")
    }).pipe(withActors(three)))

  it.effect("counts the steps of the plan as soon as there is one, and knows no rate before one is done", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(settled(1), "10 minutes", "1 second")
      yield* plan(1, 4)
      assert.strictEqual(yield* line(root), "[##--------] 1/4 · 2 running · 1 min")
      yield* pass("30 seconds")
      yield* plan(2, 4)
      assert.strictEqual(yield* line(root), "[#####-----] 2/4 · 2 running · 2 min · about 1 min left")
    }).pipe(withActors(three)))

  it.effect("still counts the tasks that are archived", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(settled(3), "20 minutes", "1 second")
      yield* pass("1 hour")
      assert.deepStrictEqual(yield* tasks, [])
      assert.match(yield* line(root), /^\[#{10}\] 3\/3 · 1 h 3 min$/)
    }).pipe(withActors(three)))

  it.effect("is kept in as many snapshots as the config says, and until the mission ends", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(settled(3), "20 minutes", "1 second")
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* counts(root), [[2, 1, 3], [3, 0, 3]])
      const { clear } = yield* Progress
      yield* clear(root)
      assert.deepStrictEqual(yield* counts(root), [])
    }).pipe(withActors(three, { config: { progressSnapshots: 2 } })))

  it.effect("is gone with the root session", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(settled(1), "10 minutes", "1 second")
      yield* pass("3 seconds")
      assert.isAbove((yield* counts(root)).length, 0)
      yield* doing(Effect.flatMap(SessionClient, (client) => client.delete(root)))
      yield* pass("30 seconds")
      assert.deepStrictEqual(yield* counts(root), [])
    }).pipe(withActors(three)))

  it.effect("of a mission without tasks and plan is nothing to nothing", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      assert.strictEqual(yield* line(root), "1 s")
    }).pipe(withActors({ goal: says("Hm.") })))
})
