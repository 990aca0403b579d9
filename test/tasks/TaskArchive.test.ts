import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import type { Task } from "../../src/domain/Task.ts"
import { completed, start, world } from "./records.ts"
import {
  delegates,
  fileText,
  pass,
  say,
  says,
  start as startInstance,
  task,
  tasks,
  until,
  use,
  withWorld
} from "./scripts.ts"

const folder = "/project/.opencode/archive"
const midnight = TestClock.setTime(Date.parse("2026-03-01T00:00:00Z"))
const list = Effect.flatMap(MemoryDisk, (disk) => disk.list(folder))
const Line = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))

describe("the archive", () => {
  it.effect("is one file a day, one line a task, which begins with its end in words", () =>
    Effect.gen(function*() {
      yield* midnight
      const { archive } = yield* start()
      yield* archive.add({ ...completed("a", "two\nlines"), endedAt: Date.parse("2026-02-28T23:10:00Z") })
      yield* archive.add(completed("b", "b's"))
      yield* TestClock.adjust("1 day")
      yield* archive.add(completed("c", "c's"))
      assert.deepStrictEqual(yield* list, [`${folder}/tasks-2026-03-01.jsonl`, `${folder}/tasks-2026-03-02.jsonl`])
      const text = yield* fileText(`${folder}/tasks-2026-03-01.jsonl`)
      const [first, second, ...others] = text.split("\n")
      assert.isTrue(first?.startsWith("{\"ended\":\"2026-02-28T23:10:00.000Z\",\"task\":{\"id\":\"task_a\","))
      assert.include(second, "task_b")
      assert.deepStrictEqual(others, [""])
    }).pipe(Effect.provide(world())))

  it.effect("gives back each task as it was, by its id alone", () =>
    Effect.gen(function*() {
      const { archive } = yield* start()
      const all = [
        completed("a", "x".repeat(1_000_000)),
        completed("aa", "mentions \"id\":\"task_a\" and {\"id\":\"task_none\"}"),
        completed("ünï", "🙂\u2028")
      ]
      for (const one of all) yield* archive.add(one)
      for (const one of all) assert.deepStrictEqual(yield* archive.find(one.id), Option.some(one))
      for (const id of ["task_none", "task_", "", "\"", "task_a\n"]) {
        assert.deepStrictEqual(yield* archive.find(id), Option.none(), id)
      }
    }).pipe(Effect.provide(world())))

  it.effect("keeps no secret", () =>
    Effect.gen(function*() {
      const { archive } = yield* start()
      const secret = "gh" + "p_" + "a1".repeat(18)
      const failed: Task = {
        ...completed("a", `it is ${secret}`),
        description: `find ${secret}`,
        prompt: `use ${secret}`,
        reason: secret
      }
      yield* archive.add(failed)
      const [file = ""] = yield* list
      assert.notInclude(yield* fileText(file), secret)
      const found = Option.getOrThrow(yield* archive.find("task_a"))
      assert.strictEqual(found.result, "it is [masked GitHub token]")
    }).pipe(Effect.provide(world())))

  it.effect("a line that was cut off at the end of the file, at any place, harms no other one", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const { archive } = yield* start()
      yield* archive.add(completed("a", "a's"))
      const [path] = yield* list
      const text = yield* fileText(path ?? assert.fail("no file"))
      for (let length = 1; length <= text.length; length++) {
        yield* disk.put(path ?? "", text + text.replaceAll("task_a", "task_b").slice(0, length))
        yield* archive.add(completed("c", "c's"))
        assert.deepStrictEqual(yield* archive.find("task_a"), Option.some(completed("a", "a's")))
        assert.deepStrictEqual(yield* archive.find("task_c"), Option.some(completed("c", "c's")))
      }
    }).pipe(Effect.provide(world())))

  it.effect("a crash before, after or in the middle of any of its effects leaves what is there, and the task or nothing", () =>
    Effect.gen(function*() {
      for (const moment of ["before", "after", "torn"] as const) {
        for (let effect = 1;; effect++) {
          const first = yield* start()
          yield* first.archive.add(completed("a", "a's"))
          yield* first.gate.arm((yield* first.gate.effects).length + effect, moment)
          yield* Effect.exit(first.archive.add(completed("b", "b's")))
          const crashed = yield* first.gate.isCrashed
          yield* first.kill
          const second = yield* start()
          yield* second.archive.add(completed("c", "c's"))
          assert.deepStrictEqual(yield* second.archive.find("task_a"), Option.some(completed("a", "a's")))
          assert.deepStrictEqual(yield* second.archive.find("task_c"), Option.some(completed("c", "c's")))
          yield* second.end
          const disk = yield* MemoryDisk
          for (const path of yield* list) yield* disk.fileSystem.remove(path)
          if (!crashed) break
        }
      }
    }).pipe(Effect.provide(world())))

  it.effect("two instances append to one file", () =>
    Effect.gen(function*() {
      const [one, two] = [yield* start(), yield* start()]
      const disk = yield* MemoryDisk
      yield* disk.slow("2 millis")
      const names = Array.from({ length: 20 }, (_, index) => `nr${index}`)
      const adding = yield* Effect.forkChild(
        Effect.forEach(
          names,
          (name, index) => (index % 2 === 0 ? one : two).archive.add(completed(name, `${name}'s`)),
          { concurrency: "unbounded" }
        ),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 second")
      assert.isDefined(adding.pollUnsafe())
      for (const name of names) {
        assert.deepStrictEqual(yield* one.archive.find(`task_${name}`), Option.some(completed(name, `${name}'s`)))
      }
      const [path, ...others] = yield* list
      assert.deepStrictEqual(others, [])
      const lines = (yield* fileText(path ?? "")).trimEnd().split("\n")
      assert.lengthOf(lines, 20)
      for (const line of lines) yield* Schema.decodeEffect(Line)(line)
    }).pipe(Effect.provide(world())))

  it.effect("a file is deleted when all in it is older than retention.archive, and nothing else is", () =>
    Effect.gen(function*() {
      yield* midnight
      const disk = yield* MemoryDisk
      yield* disk.put(`${folder}/notes.txt`, "mine")
      const { archive } = yield* start()
      for (let day = 1; day <= 4; day++) {
        yield* archive.add(completed(`day${day}`, "x"))
        yield* TestClock.adjust("1 day")
      }
      yield* archive.prune
      assert.deepStrictEqual(yield* list, [
        `${folder}/notes.txt`,
        `${folder}/tasks-2026-03-03.jsonl`,
        `${folder}/tasks-2026-03-04.jsonl`
      ])
      assert.deepStrictEqual(yield* archive.find("task_day1"), Option.none())
      assert.isTrue(Option.isSome(yield* archive.find("task_day3")))
    }).pipe(Effect.provide(world({ retention: { archive: "2 days" } }))))

  it.effect("on a full disk keeps nothing by halves: the task stays at hand, and is archived later", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const { archive } = yield* start()
      yield* archive.add(completed("a", "a's"))
      yield* disk.full(true, 30)
      yield* Effect.flip(archive.add(completed("b", "b's")))
      yield* disk.full(false)
      yield* archive.add(completed("b", "b's"))
      assert.deepStrictEqual(yield* archive.find("task_a"), Option.some(completed("a", "a's")))
      assert.deepStrictEqual(yield* archive.find("task_b"), Option.some(completed("b", "b's")))
    }).pipe(Effect.provide(world())))
})

describe("get_task_result", () => {
  const isTold = (prompt: string) => Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.told))
  const answer = (root: SessionId, { id }: Task) => use(root, "get_task_result", { taskId: id })

  it.effect("answers with the same words from memory, from the journal of another instance, and from the archive", () =>
    Effect.gen(function*() {
      const first = yield* startInstance()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(Effect.all([isTold("good"), isTold("bad")]).pipe(Effect.map(([a, b]) => a && b))))
      const both = [yield* first.do(task("good")), yield* first.do(task("bad"))]
      const answers = yield* first.do(Effect.forEach(both, (one) => answer(root, one)))
      assert.include(answers[0], "good words")
      assert.include(answers[1], "bad words")
      const ask = Effect.forEach(both, (one) => answer(root, one))

      const beside = yield* startInstance()
      assert.lengthOf(yield* beside.do(tasks), 0)
      assert.deepStrictEqual(yield* beside.do(ask), answers)
      yield* beside.end

      yield* first.killHost
      const second = yield* startInstance()
      yield* pass("1 second")
      assert.deepStrictEqual(yield* second.do(ask), answers)
      yield* pass("45 minutes")
      assert.lengthOf(yield* second.do(tasks), 0)
      assert.deepStrictEqual(yield* second.do(ask), answers)

      yield* second.end
      const third = yield* startInstance()
      assert.deepStrictEqual(yield* third.do(ask), answers)
    }).pipe(withWorld({
      goal: delegates([{ prompt: "good" }, { prompt: "bad" }]),
      good: says("good words", "5 seconds"),
      bad: () => Effect.delay(Effect.succeed({ status: 401, message: "bad words" }), "5 seconds")
    })))
})
