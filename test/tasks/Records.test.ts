import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Layer } from "effect"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import { transition } from "../../src/domain/Mission.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import { makeReader } from "../../src/tasks/Records.ts"
import { completed, folder, mission, root, running, start, world } from "./records.ts"

/** A reader in a process of its own, which records nothing. */
const reader = Effect.gen(function*() {
  const processes = yield* SimulatedInstance.SimulatedProcesses
  const ports = SimulatedInstance.layer(yield* processes.start())
  return yield* Effect.provide(makeReader, Lease.layer.pipe(Layer.provideMerge(ports)))
})

describe("the records of all instances", () => {
  it.effect("are read while their owners work, and a line that is being written does no harm", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const one = yield* start()
      const two = yield* start()
      yield* one.journal.record("task", "task_a", running("a"))
      yield* one.journal.record("mission", root, mission("goal"))
      yield* two.journal.record("task", "task_b", { ...running("b"), createdAt: 500 })
      yield* two.archive.add(completed("c", "found"))
      yield* fs.writeFileString(one.lease.journal, "0123abcd {\"kind\":\"ta", { flag: "a" })
      const { read } = yield* reader
      const { missions, tasks, unattended, unreadable } = yield* read
      assert.deepStrictEqual(tasks.map(({ id }) => id), ["task_b", "task_a", "task_c"])
      assert.deepStrictEqual(missions.map(({ goal }) => goal), ["goal"])
      assert.deepStrictEqual([unattended.size, unreadable.length], [0, 0])
    }).pipe(Effect.provide(world()), Effect.scoped))

  it.effect("in two files count as the one that is further along", () =>
    Effect.gen(function*() {
      const one = yield* start()
      const two = yield* start()
      yield* one.journal.record("task", "task_a", running("a"))
      yield* two.journal.record("task", "task_a", completed("a", "done"))
      yield* one.journal.record("mission", root, mission("goal"))
      yield* two.journal.record("mission", root, transition(mission("goal"), { type: "adopted" }, 5_000))
      const { read } = yield* reader
      const { missions, tasks } = yield* read
      assert.deepStrictEqual(tasks.map(({ state }) => state), ["completed"])
      assert.deepStrictEqual(missions.map(({ countedAt }) => countedAt), [5_000])
    }).pipe(Effect.provide(world()), Effect.scoped))

  it.effect("of a dead instance are told apart", () =>
    Effect.gen(function*() {
      const one = yield* start()
      yield* one.journal.record("mission", root, mission("goal"))
      const other = { ...mission("other"), root: SessionId.make("ses_other") }
      const two = yield* start()
      yield* two.journal.record("mission", other.root, other)
      yield* one.kill
      const { read } = yield* reader
      assert.deepStrictEqual([...(yield* read).unattended], [root])
    }).pipe(Effect.provide(world()), Effect.scoped))

  it.effect("are the same object while no file changes, and others after a change", () =>
    Effect.gen(function*() {
      const one = yield* start()
      yield* one.journal.record("task", "task_a", running("a"))
      const { read } = yield* reader
      const first = yield* read
      assert.strictEqual(yield* read, first)
      yield* one.journal.record("task", "task_b", running("b"))
      assert.lengthOf((yield* read).tasks, 2)
      yield* one.journal.record("task", "task_a", completed("a", "done"))
      assert.deepStrictEqual((yield* read).tasks.map(({ state }) => state), ["completed", "running"])
    }).pipe(Effect.provide(world()), Effect.scoped))

  it.effect("are empty where nothing was recorded, and a journal of another release is named", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { read } = yield* reader
      assert.deepStrictEqual((yield* read).tasks, [])
      yield* fs.makeDirectory(folder, { recursive: true })
      yield* fs.writeFileString(
        `${folder}/aaaaaa-bbbbbb.jsonl`,
        "f380a680 {\"kind\":\"journal\",\"version\":2,\"instance\":\"aaaaaa-bbbbbb\"}\n"
      )
      yield* fs.makeDirectory(`${folder}/aaaaaa-cccccc.jsonl`)
      const { tasks, unreadable } = yield* read
      assert.deepStrictEqual(tasks, [])
      assert.lengthOf(unreadable, 2)
      assert.include(unreadable[0], "aaaaaa-bbbbbb.jsonl was written by a release that this one does not know")
      assert.include(unreadable[1], "aaaaaa-cccccc.jsonl")
    }).pipe(Effect.provide(world()), Effect.scoped))
})
