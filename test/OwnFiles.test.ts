/** On a real disk: links that a repository brings. */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, FileSystem, Layer, Path } from "effect"
import { Config, defaults } from "../src/Config.ts"
import { Instance, type Owner } from "../src/host/Instance.ts"
import { addToFile, ownFolder, replaceFile, writeOnce } from "../src/OwnFiles.ts"
import { Lease } from "../src/tasks/Lease.ts"
import { TaskArchive } from "../src/tasks/TaskArchive.ts"
import { completed } from "./tasks/records.ts"

/** A project, and a folder elsewhere with a file that nobody may touch. */
const places = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const root = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-project-" })
  const outside = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-outside-" })
  const precious = path.join(outside, "precious")
  yield* fs.writeFileString(precious, "precious")
  const untouched = Effect.gen(function*() {
    assert.deepStrictEqual(yield* fs.readDirectory(outside), ["precious"])
    assert.strictEqual(yield* fs.readFileString(precious), "precious")
  })
  return { fs, path, root, outside, precious, untouched }
})

const instanceIn = (root: string) => {
  const owner: Owner = { pid: 1, startedAt: "1", machine: "machine1" }
  return Layer.succeed(Instance, { root, owner, isAlive: () => Effect.succeed("dead" as const) })
}

/** The instance of another project. */
const other = "machine1-other"

const live = <E>(name: string, test: Effect.Effect<void, E, FileSystem.FileSystem | Path.Path>) =>
  it.live(name, () => Effect.provide(test, NodeServices.layer))

describe("a folder of the orchestrator's own", () => {
  for (const place of [".opencode", ".opencode/orchestrator"]) {
    live(
      `is not used where ${place} leads out of the project`,
      Effect.gen(function*() {
        const { outside, root, untouched, ...disk } = yield* places
        if (place !== ".opencode") yield* disk.fs.makeDirectory(`${root}/.opencode`)
        yield* disk.fs.symlink(outside, `${root}/${place}`)
        const { message } = yield* Effect.flip(ownFolder(disk, root, "orchestrator", "commands"))
        assert.include(message, `${root}/${place} is a link out of the project`)
        yield* untouched
        const lease = yield* Effect.provide(Lease, Lease.layer.pipe(Layer.provide(instanceIn(root))))
        assert.include((yield* Effect.flip(lease.take)).message, "out of the project")
        yield* disk.fs.writeFileString(`${outside}/${other}.jsonl`, "")
        yield* disk.fs.writeFileString(`${outside}/${other}.lease`, "")
        assert.deepStrictEqual(yield* lease.claim(true), { claimed: [], undecided: false })
        for (const name of ["jsonl", "lease"]) yield* disk.fs.remove(`${outside}/${other}.${name}`)
        yield* untouched
      }).pipe(Effect.scoped)
    )
  }

  live(
    "is made, or used where it is; a link within the project is followed",
    Effect.gen(function*() {
      const { fs, path, root } = yield* places
      yield* fs.makeDirectory(`${root}/kept`)
      yield* fs.symlink(`${root}/kept`, `${root}/.opencode`)
      for (const _ of [1, 2]) {
        assert.strictEqual(yield* ownFolder({ fs, path }, root, "orchestrator"), `${root}/.opencode/orchestrator`)
      }
      assert.deepStrictEqual(yield* fs.readDirectory(`${root}/kept`), ["orchestrator"])
    }).pipe(Effect.scoped)
  )
})

describe("a link in the place of a file", () => {
  live(
    "is not written through",
    Effect.gen(function*() {
      const { fs, outside, precious, root, untouched } = yield* places
      const file = `${root}/file`
      for (const target of [precious, `${outside}/new`]) {
        yield* fs.symlink(target, `${file}.new`)
        yield* replaceFile(fs, file, "whole")
        assert.strictEqual(yield* fs.readFileString(file), "whole")
        yield* fs.remove(file)

        yield* fs.symlink(target, file)
        yield* writeOnce(fs, file, "once")
        yield* untouched
        yield* addToFile(fs, file, "a")
        yield* addToFile(fs, file, "b")
        assert.strictEqual(yield* fs.readFileString(file), "ab")
        yield* writeOnce(fs, file, "once")
        assert.strictEqual(yield* fs.readFileString(file), "ab")
        yield* fs.remove(file)
        yield* untouched
      }
    }).pipe(Effect.scoped)
  )

  live(
    "does not make the archive add to it, nor the claim of a journal empty it",
    Effect.gen(function*() {
      const { fs, path, precious, root, untouched } = yield* places
      const archives = yield* ownFolder({ fs, path }, root, "archive")
      const today = DateTime.formatIsoDateUtc(yield* DateTime.now)
      yield* fs.symlink(precious, `${archives}/tasks-${today}.jsonl`)
      const folder = yield* ownFolder({ fs, path }, root, "orchestrator")
      yield* fs.writeFileString(`${folder}/planted1-a.jsonl`, "damaged\n")
      yield* fs.symlink(precious, `${folder}/planted1-a.taken`)
      yield* Effect.gen(function*() {
        yield* (yield* TaskArchive).add(completed("a", "text of an agent"))
        const { claimed } = yield* (yield* Lease).claim(true)
        assert.lengthOf(claimed, 1)
        yield* untouched
        assert.strictEqual((yield* (yield* TaskArchive).find("task_a"))._tag, "Some")
      }).pipe(Effect.provide(
        Layer.mergeAll(TaskArchive.layer, Lease.layer).pipe(
          Layer.provide(Layer.mergeAll(instanceIn(root), Config.layer(defaults)))
        )
      ))
    }).pipe(Effect.scoped)
  )
})
