import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Fiber, Option, Result, Schema } from "effect"
import { TestClock } from "effect/testing"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { ShownToasts } from "../../adapters/test/RecordingNotifier.ts"
import { Finding } from "../../src/domain/Finding.ts"
import { Mission } from "../../src/domain/Mission.ts"
import { Task, TaskId } from "../../src/domain/Task.ts"
import { presets } from "../../src/host/Notifier.ts"
import { type Contents, Findings, readJournal, type TaskJournal } from "../../src/tasks/TaskJournal.ts"
import { completed, mission, root, running, start, world } from "./records.ts"
import {
  type Actor,
  delegates,
  doing,
  files,
  fileText,
  isWorking,
  notices,
  pass,
  say,
  states,
  task,
  tasks,
  toasts,
  until,
  use,
  withActors,
  works
} from "./scripts.ts"

type Journal = TaskJournal["Service"]

const put = (journal: Journal, task: Task) => journal.record("task", task.id, task)

const byId = ({ contexts, missions, tasks }: Contents) =>
  new Map<string, Task | Mission | Findings>([
    ...tasks.map((task) => [task.id, task] as const),
    ...missions.map((mission) => [mission.root, mission] as const),
    ...contexts.map(({ findings, root }) => [`context ${root}`, findings] as const)
  ])

/** One instance with a journal. */
const onDisk = (actors: Readonly<Record<string, Actor>>, config: Readonly<Record<string, unknown>> = {}) =>
  withActors(actors, { config: { journal: "required", ...config } })

/** The same checksum as the journal's, to write lines of a release to come. */
const line = (content: unknown): string => {
  const text = JSON.stringify(content)
  let hash = 0x811c9dc5
  for (const char of text) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193)
  return `${(hash >>> 0).toString(16).padStart(8, "0")} ${text}\n`
}

/** A file in which three tasks and a mission have lived a little. */
const written = Effect.gen(function*() {
  const { journal, kill, lease } = yield* start()
  const [a, b, c] = [running("parser"), running("lexer"), completed("tests", "all pass, ünï©ode 🙂\n\u2028too")]
  for (const one of [a, b, c]) yield* put(journal, one)
  yield* journal.record("mission", root, mission("goal"))
  const b2: Task = { ...b, usage: { ...b.usage, input: 7 }, stalled: "looked at it" }
  yield* put(journal, b2)
  yield* put(journal, { ...a, ...completed("parser", "parsed") })
  yield* kill
  const text = yield* fileText(lease.journal)
  const values = new Map<string, Task | Mission>(
    [completed("parser", "parsed"), b2, c].map((task) => [task.id, task] as const)
  ).set(root, mission("goal"))
  return { path: lease.journal, text, lines: text.trimEnd().split("\n"), values, a, b, b2, c }
})

/** Reads another content in the place of a journal. */
const reading = Effect.fnUntraced(function*(content: string | Uint8Array) {
  const disk = yield* MemoryDisk
  yield* disk.put("/tmp/journal", content)
  return yield* readJournal("/tmp/journal")
})

describe("a record", () => {
  it.effect("is on disk when it returns, also after a crash right then", () =>
    Effect.gen(function*() {
      const { values, path, lines } = yield* written
      const contents = yield* readJournal(path)
      assert.deepStrictEqual(byId(contents), values)
      assert.deepStrictEqual(contents.damaged, [])
      assert.lengthOf(lines, 7)
    }).pipe(Effect.provide(world())))

  it.effect("says only what has changed", () =>
    Effect.gen(function*() {
      const { lines } = yield* written
      assert.include(lines[5], "\"usage\"")
      assert.notInclude(lines[5], "Write the lexer.")
      assert.notInclude(lines[6], "Write the parser.")
    }).pipe(Effect.provide(world())))

  it.effect("fifty at once cost one flush more than one does", () =>
    Effect.gen(function*() {
      const { gate, journal, lease } = yield* start()
      yield* put(journal, running("first"))
      const disk = yield* MemoryDisk
      yield* disk.slow("5 millis")
      const before = (yield* gate.effects).length
      const fifty = Array.from({ length: 50 }, (_, index) => running(`nr${index}`))
      const fiber = yield* Effect.forkChild(
        Effect.forEach(fifty, (task) => put(journal, task), { concurrency: "unbounded", discard: true }),
        { startImmediately: true }
      )
      yield* TestClock.adjust("20 millis") // two writes and two syncs
      yield* Fiber.join(fiber)
      const effects = (yield* gate.effects).slice(before)
      assert.isAtMost(effects.filter((name) => name === `write ${lease.journal}`).length, 2)
      assert.lengthOf((yield* readJournal(lease.journal)).tasks, 51)
    }).pipe(Effect.provide(world())))

  it.effect("a note goes out with the next record, or within five seconds", () =>
    Effect.gen(function*() {
      const { journal, lease } = yield* start()
      const activity = Effect.map(
        readJournal(lease.journal),
        ({ tasks }) => tasks.find(({ id }) => id === "task_a")?.activityAt
      )
      yield* put(journal, running("a"))
      yield* journal.note("task", "task_a", { ...running("a"), activityAt: 3_000 })
      assert.strictEqual(yield* activity, 2_000)
      yield* put(journal, running("b"))
      assert.strictEqual(yield* activity, 3_000)
      yield* journal.note("task", "task_a", { ...running("a"), activityAt: 4_000 })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* activity, 4_000)
    }).pipe(Effect.provide(world())))

  it.effect("what changes while the file is begun, and changes back, is recorded as it is in the end", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const { journal, lease } = yield* start()
      const one = running("parser")
      yield* disk.slow("50 millis")
      const recording = yield* Effect.forkChild(put(journal, one), { startImmediately: true })
      yield* pass("70 millis") // before the file is made
      yield* journal.note("task", one.id, { ...one, waiting: true, stalled: "looked at it" })
      yield* pass("300 millis")
      yield* journal.note("task", one.id, one)
      yield* doing(Effect.andThen(Fiber.join(recording), journal.flushed))
      assert.deepStrictEqual((yield* readJournal(lease.journal)).tasks, [one])
    }).pipe(Effect.provide(world())))

  it.effect("what was dropped is gone; a journal in which nothing is left goes with its instance", () =>
    Effect.gen(function*() {
      const { end, journal, lease } = yield* start()
      yield* put(journal, running("a"))
      yield* put(journal, running("b"))
      yield* journal.drop("task", "task_a")
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual((yield* readJournal(lease.journal)).tasks.map(({ id }) => id), ["task_b"])
      yield* journal.drop("task", "task_b")
      yield* end
      assert.deepStrictEqual(yield* files(".jsonl"), [])
    }).pipe(Effect.provide(world())))

  it.effect("a task in the journal of another instance is found, whether that is alive or dead", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* put(first.journal, completed("a", "result"))
      const second = yield* start()
      assert.deepStrictEqual(yield* second.journal.elsewhere("task_a"), Option.some(completed("a", "result")))
      yield* first.kill
      assert.deepStrictEqual(yield* second.journal.elsewhere("task_a"), Option.some(completed("a", "result")))
      assert.deepStrictEqual(yield* second.journal.elsewhere("task_b"), Option.none())
    }).pipe(Effect.provide(world())))
})

describe("a large journal", () => {
  it.effect("gives way to others while it is read, whether it has many lines or long ones", () =>
    Effect.gen(function*() {
      for (const [count, chars] of [[2_000, 100], [20, 200_000]] as const) {
        const { journal, kill, lease } = yield* start()
        yield* Effect.forEach(
          Array.from({ length: count }, (_, index) => completed(`part_${index}`, "x".repeat(chars))),
          (task) => journal.note("task", task.id, task)
        )
        yield* doing(journal.flushed)
        yield* kill
        let turns = 0
        const other = yield* Effect.forkChild(
          Effect.forever(Effect.andThen(Effect.yieldNow, Effect.sync(() => turns++)))
        )
        assert.lengthOf((yield* readJournal(lease.journal)).tasks, count)
        yield* Fiber.interrupt(other)
        assert.isAtLeast(turns, 5)
      }
    }).pipe(Effect.provide(world())))
})

describe("a damaged journal", () => {
  it.effect("cut off anywhere, gives all whole lines before the cut, and counts what is left of the torn one", () =>
    Effect.gen(function*() {
      const { lines, text } = yield* written
      const bytes = new TextEncoder().encode(text)
      for (let size = 0; size < bytes.length; size++) {
        const part = bytes.subarray(0, size)
        const whole = new TextDecoder().decode(part).split("\n").length - 1
        const torn = part.at(-1) !== 10 && size > 0
        const contents = yield* reading(part)
        const isLineWhole = torn && lines[whole] === new TextDecoder().decode(part).split("\n").at(-1)
        const expected = yield* reading(
          lines.slice(0, isLineWhole ? whole + 1 : whole).map((one) => `${one}\n`).join("")
        )
        assert.deepStrictEqual(byId(contents), byId(expected), `cut at ${size}`)
        assert.lengthOf(contents.damaged, torn && !isLineWhole ? 1 : 0)
        assert.isFalse(contents.unknownVersion)
      }
    }).pipe(Effect.provide(world())))

  it.effect("a line in the middle that cannot be read costs that line alone", () =>
    Effect.gen(function*() {
      const { b, lines, values } = yield* written
      const garbage = "\u0000\u0001 not a line {"
      const contents = yield* reading(lines.with(5, garbage).join("\n"))
      assert.deepStrictEqual(byId(contents), new Map(values).set(b.id, b))
      assert.deepStrictEqual(contents.damaged, [garbage])
    }).pipe(Effect.provide(world())))

  it.effect("a flipped bit that leaves good JSON is noticed all the same", () =>
    Effect.gen(function*() {
      const { b, lines, values } = yield* written
      const flipped = (lines[5] ?? "").replace("\"input\":7", "\"input\":5")
      assert.notStrictEqual(flipped, lines[5])
      const contents = yield* reading(lines.with(5, flipped).join("\n"))
      assert.deepStrictEqual(byId(contents), new Map(values).set(b.id, b))
      assert.deepStrictEqual(contents.damaged, [flipped])
    }).pipe(Effect.provide(world())))

  it.effect("any one byte that is wrong spoils nothing but the records in its line, or in the two that it joins", () =>
    Effect.gen(function*() {
      const { lines, text, values } = yield* written
      const bytes = new TextEncoder().encode(text)
      const idOf = (line: string) => /"(?:task|mission)","id":"(\w+)"/.exec(line)?.[1] ?? ""
      let at = 0
      for (const [index, lineText] of lines.entries()) {
        const length = new TextEncoder().encode(lineText).length
        const spoilt = new Set([idOf(lineText), idOf(lines[index + 1] ?? "")])
        for (let offset = 0; offset <= length; offset++) {
          const wrong = bytes.slice()
          wrong[at + offset] = (bytes[at + offset] ?? 0) ^ (1 << (offset % 8))
          const contents = byId(yield* reading(wrong))
          for (const [id, value] of values) {
            if (!spoilt.has(id)) assert.deepStrictEqual(contents.get(id), value, `byte ${offset} of line ${index}`)
          }
        }
        at += length + 1
      }
    }).pipe(Effect.provide(world())))

  it.effect("without its first line is read as ever", () =>
    Effect.gen(function*() {
      const { lines, values } = yield* written
      assert.deepStrictEqual(byId(yield* reading(lines.slice(1).join("\n"))), values)
    }).pipe(Effect.provide(world())))

  it.effect("a record whose beginning is lost is counted, and the others are read", () =>
    Effect.gen(function*() {
      const { a, lines, values } = yield* written
      const contents = yield* reading(lines.toSpliced(1, 1).join("\n"))
      const expected = new Map(values)
      expected.delete(a.id)
      assert.deepStrictEqual(byId(contents), expected)
      assert.lengthOf(contents.damaged, 1)
      assert.include(contents.damaged[0], "\"result\":\"parsed\"")
    }).pipe(Effect.provide(world())))

  it.effect("of a release to come is not read at all, whatever its lines look like", () =>
    Effect.gen(function*() {
      const { lines } = yield* written
      const contents = yield* reading(
        [line({ kind: "journal", version: 2, instance: "x-y" }).trimEnd(), ...lines.slice(1)].join("\n")
      )
      assert.deepStrictEqual(contents, {
        tasks: [],
        missions: [],
        contexts: [],
        plans: [],
        commands: [],
        damaged: [],
        unknownVersion: true
      })
    }).pipe(Effect.provide(world())))

  it.effect("an empty file, or one of nothing but line ends, holds nothing and is not damaged", () =>
    Effect.gen(function*() {
      for (const text of ["", "\n\n\n"]) {
        assert.deepStrictEqual(yield* reading(text), {
          tasks: [],
          missions: [],
          contexts: [],
          plans: [],
          commands: [],
          damaged: [],
          unknownVersion: false
        })
      }
    }).pipe(Effect.provide(world())))
})

/** Without a minus before zero, which JSON does not know. */
const anyTask = Arbitrary.map(
  Arbitrary.schema(Task),
  (task) => Result.getOrThrow(Schema.decodeUnknownResult(Task)(JSON.parse(JSON.stringify(task))))
)

const anyMission = Arbitrary.map(
  Arbitrary.schema(Mission),
  (mission) => Result.getOrThrow(Schema.decodeUnknownResult(Mission)(JSON.parse(JSON.stringify(mission))))
)

const change = Arbitrary.all({
  to: Arbitrary.schema(Schema.Literals(["task_a", "task_b", "task_c"])),
  how: Arbitrary.schema(Schema.Literals(["record", "record", "record", "note", "drop", "mission", "context"])),
  findings: Arbitrary.map(
    Arbitrary.schema(Schema.Struct({ 1: Finding, 2: Schema.optionalKey(Finding), 3: Schema.optionalKey(Finding) })),
    (findings) => Result.getOrThrow(Schema.decodeUnknownResult(Findings)(JSON.parse(JSON.stringify(findings))))
  ),
  task: anyTask,
  mission: anyMission
})

describe("whatever was recorded", () => {
  it.effect.prop(
    "is what is read",
    { changes: Arbitrary.array(change, { maxLength: 20 }) },
    ({ changes }) =>
      Effect.gen(function*() {
        const { end, journal, lease } = yield* start()
        const expected = new Map<string, Task | Mission | Findings>()
        const keep: Task = running("kept")
        yield* put(journal, keep)
        expected.set(keep.id, keep)
        for (const { findings, how, mission, task, to } of changes) {
          const id = TaskId.make(to)
          if (how === "drop") {
            yield* journal.drop("task", id)
            expected.delete(id)
          } else if (how === "context") {
            yield* journal.record("context", root, findings)
            expected.set(`context ${root}`, findings)
          } else if (how === "mission") {
            yield* journal.record("mission", root, { ...mission, root })
            expected.set(root, { ...mission, root })
          } else {
            yield* journal[how]("task", id, { ...task, id })
            expected.set(id, { ...task, id })
          }
        }
        yield* end
        const contents = yield* readJournal(lease.journal)
        assert.deepStrictEqual(contents.damaged, [])
        assert.deepStrictEqual(byId(contents), expected)
      }).pipe(Effect.provide(world())),
    { arbitrary: { runs: 200, seed: 20_260_727 } }
  )
})

describe("compaction", () => {
  it.effect("a thousand tasks with their results and histories take less than ten megabytes", () =>
    Effect.gen(function*() {
      const { journal, lease } = yield* start()
      for (let index = 0; index < 1_000; index++) {
        const name = `nr${index}`
        const { promptId: _, session: __, ...queued } = running(name)
        yield* put(journal, { ...queued, state: "queued", prompt: "p".repeat(2_000) })
        for (const state of ["launching", "running"] as const) {
          yield* put(journal, { ...running(name), prompt: "p".repeat(2_000), state })
        }
        yield* put(journal, { ...completed(name, "r".repeat(4_000)), prompt: "p".repeat(2_000) })
      }
      assert.isBelow(yield* size(lease.journal), 10_000_000)
      assert.lengthOf((yield* readJournal(lease.journal)).tasks, 1_000)
    }).pipe(Effect.provide(world())))

  const size = Effect.fnUntraced(function*(path: string) {
    return Number((yield* (yield* MemoryDisk).fileSystem.stat(path)).size)
  })

  it.effect("bounds the file, and keeps everything", () =>
    Effect.gen(function*() {
      const { journal, lease } = yield* start()
      const kept = Array.from({ length: 20 }, (_, index) => completed(`kept${index}`, `result ${index}`))
      for (const one of kept) yield* put(journal, one)
      let most = 0
      for (let round = 0; round < 60; round++) {
        yield* put(journal, completed("long", String(round % 10).repeat(100_000)))
        most = Math.max(most, yield* size(lease.journal))
      }
      assert.isBelow(most, 1_200_000)
      const contents = byId(yield* readJournal(lease.journal))
      assert.deepStrictEqual(
        contents,
        new Map([...kept, completed("long", "9".repeat(100_000))].map((task) => [task.id, task]))
      )
    }).pipe(Effect.provide(world())))

  it.effect("a crash before, after or in the middle of any of its effects loses nothing that was recorded", () =>
    Effect.gen(function*() {
      let crashes = 0
      for (const moment of ["before", "after", "torn"] as const) {
        for (let effect = 1;; effect++) {
          const { gate, journal, kill, lease } = yield* start()
          const others = Array.from({ length: 3 }, (_, index) => completed(`kept${index}`, "x".repeat(60_000)))
          for (const one of others) yield* put(journal, one)
          for (const round of [0, 1, 2, 3]) yield* put(journal, completed("long", String(round).repeat(250_000 - 1)))
          yield* gate.arm((yield* gate.effects).length + effect, moment)
          const [before, after] = [completed("long", "3".repeat(250_000 - 1)), completed("long", "x")]
          const fiber = yield* Effect.forkChild(put(journal, after), { startImmediately: true })
          for (let i = 0; i < 100 && fiber.pollUnsafe() === undefined; i++) yield* Effect.yieldNow
          const recorded = fiber.pollUnsafe()?._tag === "Success"
          yield* Effect.raceFirst(gate.crashed, TestClock.adjust("6 seconds"))
          const crashed = yield* gate.isCrashed
          yield* kill
          if (!crashed) assert.isBelow(yield* size(lease.journal), 600_000, "it was not compacted")
          const { damaged, tasks } = yield* readJournal(lease.journal)
          const where = `${yield* gate.diedAt}`
          assert.isAtMost(damaged.length, recorded ? 0 : 1, where)
          const found = tasks.find(({ id }) => id === after.id)
          if (recorded) assert.deepStrictEqual(found, after, where)
          else assert.include([before.result, after.result], found?.result, where)
          for (const one of others) assert.deepStrictEqual(tasks.find(({ id }) => id === one.id), one, where)
          if (!crashed) break
          crashes++
        }
      }
      assert.isAtLeast(crashes, 15)
    }).pipe(Effect.provide(world())))
})

describe("a disk that cannot be written", () => {
  it.effect.each(
    [
      ["full", (disk: MemoryDisk["Service"]) => disk.full(true), "the disk is full"],
      ["full in the middle of a record", (disk: MemoryDisk["Service"]) => disk.full(true, 100), "the disk is full"],
      ["read-only", (disk: MemoryDisk["Service"]) => disk.readOnly(true), "the disk is read-only"]
    ] as const
  )(
    "%s: the record fails in words, is told once, and goes out when that is mended",
    ([, spoil, why]) =>
      Effect.gen(function*() {
        const { journal, lease } = yield* start()
        yield* put(journal, running("a"))
        const disk = yield* MemoryDisk
        yield* spoil(disk)
        for (let round = 0; round < 10; round++) {
          const error = yield* Effect.flip(put(journal, completed("a", "result")))
          assert.strictEqual(
            error.message,
            `No new task is started, because it could not be recorded in ${lease.journal} (${why}). Ask the user to mend `
              + "that, or to set \"journal\": \"preferred\" to work without a record."
          )
          yield* TestClock.adjust("1 minute")
        }
        const shown = yield* (yield* ShownToasts).all
        assert.deepStrictEqual(shown, [presets.journalFailed(why, false)])
        assert.deepStrictEqual((yield* readJournal(lease.journal)).damaged, [])
        yield* disk.full(false)
        yield* disk.readOnly(false)
        yield* TestClock.adjust("5 seconds")
        assert.deepStrictEqual(byId(yield* readJournal(lease.journal)), new Map([["task_a", completed("a", "result")]]))
        yield* put(journal, running("b"))
        assert.lengthOf((yield* readJournal(lease.journal)).tasks, 2)
      }).pipe(Effect.provide(world()))
  )

  it.effect("full again later is told again", () =>
    Effect.gen(function*() {
      const { journal } = yield* start()
      const disk = yield* MemoryDisk
      for (const round of [1, 2]) {
        yield* disk.full(true)
        yield* Effect.flip(put(journal, completed("a", `result ${round}`)))
        yield* disk.full(false)
        yield* put(journal, running("b"))
      }
      assert.lengthOf(yield* (yield* ShownToasts).all, 2)
    }).pipe(Effect.provide(world())))

  const failures = Effect.map(toasts, (all) => all.filter((text) => text.startsWith("Tasks cannot be recorded")))
  const orders = [{ prompt: "work 1" }, { prompt: "work 2" }]
  const actors = { goal: delegates(orders), work: works("20 seconds") }
  const order = (prompt: string) => ({ agent: "Builder", description: prompt, prompt, background: true })

  it.effect("new tasks are refused in a sentence, running ones go on, and it works again when there is room", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const root = yield* say("goal")
      yield* until(isWorking("work 2"))
      yield* disk.full(true, 50)
      const refusal = yield* use(root, "delegate_task", order("work 3"))
      assert.match(refusal, /^No new task is started, because it could not be recorded in .*\(the disk is full\)\./)
      assert.lengthOf(yield* tasks, 2)
      yield* until(Effect.map(notices(root), (told) => told.length === 1))
      assert.deepStrictEqual(yield* states, ["completed", "completed"])
      yield* pass("1 minute")
      assert.lengthOf(yield* failures, 1)
      yield* disk.full(false)
      assert.include(yield* use(root, "delegate_task", order("work 4")), "started")
      yield* until(isWorking("work 4"))
      const [path] = yield* files(".jsonl")
      const contents = yield* readJournal(path ?? assert.fail("no journal"))
      assert.deepStrictEqual(contents.damaged, [])
      assert.deepStrictEqual(
        contents.tasks.map(({ prompt, result, state, told }) => ({ prompt, state, result, told })),
        [
          { prompt: "work 1", state: "completed", result: "done: work 1", told: true },
          { prompt: "work 2", state: "completed", result: "done: work 2", told: true },
          { prompt: "work 4", state: "running", result: undefined, told: false }
        ]
      )
    }).pipe(onDisk(actors)))

  it.effect("preferred: tasks run without a record, which is said once", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      yield* disk.readOnly(true)
      const root = yield* say("goal")
      yield* until(Effect.map(notices(root), (told) => told.length === 1))
      assert.deepStrictEqual(yield* states, ["completed", "completed"])
      assert.deepStrictEqual(yield* failures, [
        "Tasks cannot be recorded: the disk is read-only: what happens from now on would not survive a restart."
      ])
      assert.deepStrictEqual(yield* disk.list("/project"), [])
    }).pipe(onDisk(actors, { journal: "preferred" })))

  it.effect("off: nothing is recorded, and nothing said", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(notices(root), (told) => told.length === 1))
      assert.deepStrictEqual(yield* failures, [])
      assert.deepStrictEqual(yield* (yield* MemoryDisk).list("/project"), [])
    }).pipe(onDisk(actors, { journal: "off" })))

  it.effect("a result of a megabyte is recorded whole", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(notices(root), (told) => told.length === 1))
      const { id, result } = yield* task("long")
      const [path] = yield* files(".jsonl")
      const { tasks } = yield* readJournal(path ?? assert.fail("no journal"))
      assert.strictEqual(tasks[0]?.result, result)
      assert.lengthOf(result ?? "", 1_000_000)
      assert.include(yield* use(root, "get_task_result", { taskId: id }), result ?? "")
    }).pipe(onDisk({
      goal: delegates([{ prompt: "long" }]),
      long: () => Effect.succeed({ text: "0123456789".repeat(100_000) })
    })))
})
