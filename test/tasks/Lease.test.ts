import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit } from "effect"
import { TestClock } from "effect/testing"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { ShownToasts } from "../../adapters/test/RecordingNotifier.ts"
import { SimulatedProcesses } from "../../adapters/test/SimulatedInstance.ts"
import { presets } from "../../src/host/Notifier.ts"
import type { Lease } from "../../src/tasks/Lease.ts"
import type { TaskJournal } from "../../src/tasks/TaskJournal.ts"
import { folder, mission, root, start, world } from "./records.ts"

/** Makes sure that there is a journal. */
const writeTo = (journal: TaskJournal["Service"], goal = "goal") => journal.record("mission", root, mission(goal))

/** A journal that somebody has left. */
const left = Effect.gen(function*() {
  const instance = yield* start()
  yield* writeTo(instance.journal)
  yield* instance.kill
  return instance
})

const claimed = (lease: Lease["Service"], foreign = false) =>
  Effect.map(lease.claim(foreign), ({ claimed }) => claimed.map(({ instance }) => instance))

const changeLease = Effect.fnUntraced(function*(instance: string, change: (text: string) => string) {
  const disk = yield* MemoryDisk
  const path = `${folder}/${instance}.lease`
  yield* disk.put(path, change((yield* disk.read(path)) ?? assert.fail(`no lease of ${instance}`)))
})

/** The wall clock shows another time, while time goes on as ever. */
const atWallClock = <A, E, R>(time: string, effect: Effect.Effect<A, E, R>) =>
  Effect.updateService(effect, Clock.Clock, (clock): Clock.Clock => {
    const now = Date.parse(time)
    return {
      currentTimeMillisUnsafe: () => now,
      currentTimeMillis: Effect.succeed(now),
      currentTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
      currentTimeNanos: Effect.succeed(BigInt(now) * 1_000_000n),
      monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
      monotonicTimeNanos: clock.monotonicTimeNanos,
      sleep: (time) => clock.sleep(time)
    }
  })

const list = Effect.flatMap(MemoryDisk, (disk) => disk.list(folder))

describe("a lease", () => {
  it.effect("lets the journal of a dead instance be claimed, once, and takes its lease away", () =>
    Effect.gen(function*() {
      const dead = yield* left
      const next = yield* start()
      assert.deepStrictEqual((yield* next.lease.abandoned).map(({ path }) => path), [dead.lease.journal])
      assert.deepStrictEqual(yield* claimed(next.lease), [dead.lease.instance])
      assert.deepStrictEqual(yield* claimed((yield* start()).lease), [])
      const mine = next.lease.instance
      assert.deepStrictEqual(
        yield* list,
        [
          `${folder}/.gitignore`,
          `${folder}/${mine}.claims.${dead.lease.instance}.jsonl`,
          `${folder}/${mine}.lease`,
          `${folder}/${dead.lease.instance}.taken`
        ].toSorted()
      )
    }).pipe(Effect.provide(world())))

  it.effect("of an instance that ended in order leaves its journal to be claimed, and no lease", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* writeTo(first.journal)
      yield* first.end
      assert.deepStrictEqual(yield* list, [`${folder}/.gitignore`, first.lease.journal])
      assert.deepStrictEqual(yield* claimed((yield* start()).lease), [first.lease.instance])
    }).pipe(Effect.provide(world())))

  it.effect("is not even taken by an instance that records nothing", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* TestClock.adjust("5 minutes")
      yield* first.end
      assert.deepStrictEqual(yield* list, [])
    }).pipe(Effect.provide(world())))

  it.effect("keeps the journal of an instance that is alive, however long it is paused", () =>
    Effect.gen(function*() {
      const paused = yield* start()
      yield* writeTo(paused.journal)
      // Its heartbeats do not reach the disk, as those of a process that is stopped, or of a machine that sleeps.
      yield* paused.gate.crash
      const next = yield* start()
      for (let minutes = 0; minutes < 30; minutes++) {
        assert.deepStrictEqual(yield* next.lease.claim(true), { claimed: [], undecided: false })
        yield* TestClock.adjust("1 minute")
      }
      assert.deepStrictEqual(yield* next.lease.abandoned, [])
    }).pipe(Effect.provide(world())))

  it.effect("gives each journal to one of those that start at once", () =>
    Effect.gen(function*() {
      const dead = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => left)
      const disk = yield* MemoryDisk
      yield* disk.slow("3 millis") // so that they get in each other's way
      const starting = yield* Effect.forEach([1, 2, 3, 4], () => start())
      const claims = yield* Effect.forkChild(
        Effect.forEach(starting, ({ lease }) => claimed(lease), { concurrency: "unbounded" }),
        { startImmediately: true }
      )
      yield* TestClock.adjust("1 minute")
      const all = (claims.pollUnsafe() ?? assert.fail("they do not end")).pipe((exit) =>
        Exit.isSuccess(exit) ? exit.value : assert.fail("a claim failed")
      )
      assert.deepStrictEqual(all.flat().toSorted(), dead.map(({ lease }) => lease.instance).toSorted())
    }).pipe(Effect.provide(world())))

  it.effect("of a process whose pid was given to another one is a dead one's", () =>
    Effect.gen(function*() {
      const dead = yield* left
      const processes = yield* SimulatedProcesses
      yield* processes.start(dead.owner.pid)
      assert.deepStrictEqual(yield* claimed((yield* start()).lease), [dead.lease.instance])
    }).pipe(Effect.provide(world())))

  it.effect("of an owner out of sight expires once its heartbeat has stood still for a minute of the watcher's", () =>
    Effect.gen(function*() {
      const dead = yield* left
      yield* (yield* SimulatedProcesses).see(dead.owner, false)
      yield* TestClock.adjust("1 hour") // nobody watched
      const { lease } = yield* start()
      const undecided = { claimed: [], undecided: true }
      assert.deepStrictEqual(yield* lease.claim(false), undecided)
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(yield* lease.claim(false), undecided)
      yield* TestClock.adjust("29 seconds")
      assert.deepStrictEqual(yield* lease.claim(false), undecided)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* claimed(lease), [dead.lease.instance])
    }).pipe(Effect.provide(world())))

  it.effect("of an owner out of sight whose heart beats never expires", () =>
    Effect.gen(function*() {
      const other = yield* start()
      yield* writeTo(other.journal)
      yield* (yield* SimulatedProcesses).see(other.owner, false)
      const { lease } = yield* start()
      for (let minutes = 0; minutes < 30; minutes++) {
        assert.deepStrictEqual(yield* lease.claim(true), { claimed: [], undecided: true })
        yield* TestClock.adjust("55 seconds")
      }
    }).pipe(Effect.provide(world())))

  it.effect("is not touched by a wall clock that jumps", () =>
    Effect.gen(function*() {
      const dead = yield* left
      yield* (yield* SimulatedProcesses).see(dead.owner, false)
      const { lease } = yield* start()
      assert.isTrue((yield* lease.claim(false)).undecided)
      for (const jump of ["2040-01-01T00:00:00Z", "1980-01-01T00:00:00Z"]) {
        assert.deepStrictEqual(yield* atWallClock(jump, lease.claim(false)), { claimed: [], undecided: true })
      }
    }).pipe(Effect.provide(world())))

  it.effect("that cannot be read is treated as one of an owner out of sight", () =>
    Effect.gen(function*() {
      const dead = yield* left
      yield* changeLease(dead.lease.instance, (text) => text.slice(0, 20))
      const { lease } = yield* start()
      assert.deepStrictEqual(yield* lease.claim(false), { claimed: [], undecided: true })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* claimed(lease), [dead.lease.instance])
    }).pipe(Effect.provide(world())))

  it.effect("a journal of another machine is claimed only when that is asked for, and after its minute", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const planted = `${folder}/elsewhere1-abcdefghij.jsonl`
      const owner = { pid: 1, startedAt: "x", machine: "elsewhere1" }
      yield* disk.put(planted, "")
      yield* disk.put(`${folder}/elsewhere1-abcdefghij.lease`, JSON.stringify({ owner, beat: 1 }))
      const { lease } = yield* start()
      for (let minutes = 0; minutes < 5; minutes++) {
        assert.deepStrictEqual(yield* lease.claim(false), { claimed: [], undecided: false })
        yield* TestClock.adjust("1 minute")
      }
      assert.deepStrictEqual(yield* lease.claim(true), { claimed: [], undecided: true })
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* claimed(lease, true), ["elsewhere1-abcdefghij"])
    }).pipe(Effect.provide(world())))

  it.effect.each([
    ["without a lease", "elsewhere1-abcdefghij.jsonl"],
    ["as if this machine had claimed it", "simulated1-abcdefghij.claims.elsewhere1-abcdefghij.jsonl"]
  ])("a journal of another machine, planted %s, is not claimed by itself", ([, name]) =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      yield* disk.put(`${folder}/${name}`, "")
      const { lease } = yield* start()
      assert.deepStrictEqual(yield* claimed(lease), [])
      assert.deepStrictEqual((yield* lease.abandoned).map(({ foreign }) => foreign), [true])
      assert.deepStrictEqual(yield* claimed(lease, true), ["elsewhere1-abcdefghij"])
    }).pipe(Effect.provide(world())))

  it.effect("files that are no journals are left alone", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const names = ["notes.jsonl.txt", "simulated1-abcdefghij.damaged", "simulated1-abcdefghij.jsonl.new", "x.jsonl"]
      for (const name of names) yield* disk.put(`${folder}/${name}`, "mine")
      const { lease } = yield* start()
      assert.deepStrictEqual(yield* lease.claim(true), { claimed: [], undecided: false })
    }).pipe(Effect.provide(world())))

  it.effect("a claimer that dies at any of its effects leaves every journal to the next, each once", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      let crashes = 0
      for (const moment of ["before", "after", "torn"] as const) {
        for (let effect = 1;; effect++) {
          const dead = yield* Effect.forEach([1, 2], () => left)
          const claimer = yield* start()
          yield* claimer.gate.arm(effect, moment)
          yield* Effect.exit(claimer.lease.claim(false))
          const done = !(yield* claimer.gate.isCrashed)
          if (!done) crashes++
          yield* claimer.kill
          const next = yield* start()
          assert.deepStrictEqual(
            (yield* claimed(next.lease)).toSorted(),
            dead.map(({ lease }) => lease.instance).toSorted(),
            `${moment} effect ${effect}`
          )
          yield* next.kill
          for (const path of yield* disk.list(folder)) yield* disk.fileSystem.remove(path)
          if (done) break
        }
      }
      assert.isAbove(crashes, 15)
    }).pipe(Effect.provide(world())))

  it.effect("an owner that finds its journal gone says so once, and writes nothing more", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* writeTo(first.journal)
      // Nobody should take it for dead; if all the same somebody does, two must not work on the same tasks.
      yield* (yield* SimulatedProcesses).end(first.owner)
      const next = yield* start()
      assert.deepStrictEqual(yield* claimed(next.lease), [first.lease.instance])
      const left = yield* list
      for (const goal of ["more", "still more"]) {
        const error = yield* Effect.flip(writeTo(first.journal, goal))
        assert.include(error.message, "another OpenCode has taken it over")
      }
      assert.isTrue(yield* first.journal.isLost)
      yield* first.end
      const journals = (paths: ReadonlyArray<string>) => paths.filter((path) => path.endsWith(".jsonl"))
      assert.deepStrictEqual(journals(yield* list), journals(left))
      const shown = yield* (yield* ShownToasts).all
      assert.deepStrictEqual(shown, [presets.journalLost])
    }).pipe(Effect.provide(world())))

  it.effect("an owner whose folder was deleted under it writes its journal anew, with all that matters", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* writeTo(first.journal, "a goal")
      const disk = yield* MemoryDisk
      yield* disk.fileSystem.remove(folder, { recursive: true })
      yield* writeTo(first.journal, "another goal")
      assert.isFalse(yield* first.journal.isLost)
      const journal = (yield* list).find((path) => path.endsWith(".jsonl")) ?? assert.fail("no journal")
      assert.include(yield* disk.read(journal), "another goal")
      assert.isTrue((yield* list).some((path) => path.endsWith(".lease")))
    }).pipe(Effect.provide(world())))
})
