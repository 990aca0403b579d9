import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Layer, Path } from "effect"
import * as NodeInstance from "../adapters/node-process/NodeInstance.ts"
import * as MemoryFileSystem from "../adapters/test/MemoryFileSystem.ts"
import * as SimulatedInstance from "../adapters/test/SimulatedInstance.ts"
import { makeMask } from "../src/domain/Secrets.ts"
import { Mask } from "../src/host/Mask.ts"
import * as LogFile from "../src/LogFile.ts"
import { folder, pass } from "./tasks/scripts.ts"

const { MemoryDisk } = MemoryFileSystem

/** Logs on a disk of its own, in a project where a mission has run; what is written is there once the log has ended. */
const logging = <A, E>(
  level: LogFile.LogLevel | "off",
  test: Effect.Effect<A, E, MemoryFileSystem.MemoryDisk>,
  isBegun = true
) =>
  Effect.gen(function*() {
    const disk = yield* MemoryDisk
    if (isBegun) yield* disk.put(`${folder}/.gitignore`, "*\n")
    const processes = yield* SimulatedInstance.SimulatedProcesses
    const instance = SimulatedInstance.layer(yield* processes.start())
    yield* Effect.provide(test, LogFile.layer(level).pipe(Layer.provide(instance)))
    return {
      now: yield* disk.read(`${folder}/orchestrator.log`),
      old: yield* disk.read(`${folder}/orchestrator.log.1`),
      files: yield* disk.list(folder)
    }
  }).pipe(
    Effect.provideService(Mask, makeMask(["hunter2hunter2"])),
    Effect.provide(
      MemoryFileSystem.layer.pipe(
        Layer.provideMerge(Layer.mergeAll(MemoryDisk.layer, SimulatedInstance.SimulatedProcesses.layer, Path.layer))
      )
    )
  )

describe("the log file", () => {
  it.effect("holds entries of its level and above, with their time, and the cause", () =>
    Effect.gen(function*() {
      const { now } = yield* logging(
        "info",
        Effect.gen(function*() {
          yield* Effect.logDebug("too little")
          yield* Effect.logInfo("begun", "well")
          yield* Effect.logError("failed\nover two lines", new Error("the disk is full"))
        })
      )
      assert.strictEqual(
        now,
        "1970-01-01T00:00:00.000Z INFO  begun well\n1970-01-01T00:00:00.000Z ERROR failed\n  over two lines the disk is full\n"
      )
    }))

  it.effect("holds debug entries when they are asked for, and nothing when it is off", () =>
    Effect.gen(function*() {
      assert.include((yield* logging("debug", Effect.logDebug("details"))).now, "DEBUG details")
      assert.isUndefined((yield* logging("error", Effect.logWarning("less"))).now)
      assert.deepStrictEqual((yield* logging("off", Effect.logError("anything"))).files, [`${folder}/.gitignore`])
    }))

  it.effect("holds no secrets, no control characters, and of a whole output its beginning", () =>
    Effect.gen(function*() {
      const { now = "" } = yield* logging(
        "info",
        Effect.logInfo(`with hunter2hunter2 \u001b[31mred ${"x".repeat(50_000)}`)
      )
      assert.match(now, /INFO {2}with \[masked environment secret\] \[31mred x+\n$/)
      assert.isBelow(now.length, 10_100)
    }))

  it.effect("does not hold the beginning of a secret that stands where an entry is cut", () =>
    Effect.gen(function*() {
      for (const before of [9_998, 9_990, 9_980]) {
        const { now = "" } = yield* logging("info", Effect.logInfo(`${"x".repeat(before - 1)} hunter2hunter2 and more`))
        assert.notInclude(now, "hu")
      }
    }))

  it.effect("takes the place of what is no file, also of its predecessor, and writes through no link", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const root = yield* fs.makeTempDirectoryScoped()
      const folder = path.join(root, ".opencode", "orchestrator")
      const outside = path.join(root, "outside")
      yield* fs.makeDirectory(path.join(folder, "orchestrator.log.1", "in the way"), { recursive: true })
      yield* fs.writeFileString(outside, "precious\n")
      yield* fs.symlink(outside, path.join(folder, "orchestrator.log"))
      const log = (text: string) =>
        Effect.provide(
          Effect.logInfo(text),
          LogFile.layer("info").pipe(Layer.provide(NodeInstance.layer(root)))
        )
      yield* log("first")
      assert.strictEqual(yield* fs.readFileString(outside), "precious\n")
      assert.include(yield* fs.readFileString(path.join(folder, "orchestrator.log")), "first")
      yield* fs.writeFileString(path.join(folder, "orchestrator.log"), `${"x".repeat(999_990)}\n`)
      yield* log("second")
      assert.include(yield* fs.readFileString(path.join(folder, "orchestrator.log.1")), "xxx\n")
      assert.match(yield* fs.readFileString(path.join(folder, "orchestrator.log")), /^\S+ INFO {2}second\n$/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.effect("is begun with the first record, not before, and has what was said until then", () =>
    Effect.gen(function*() {
      const { files } = yield* logging("info", Effect.andThen(Effect.logInfo("early"), pass("10 seconds")), false)
      assert.deepStrictEqual(files, [])
      const { now } = yield* logging(
        "info",
        Effect.gen(function*() {
          const disk = yield* MemoryDisk
          yield* Effect.logInfo("early")
          yield* pass("10 seconds")
          yield* disk.put(`${folder}/.gitignore`, "*\n")
          yield* pass("2 seconds")
          assert.include(yield* disk.read(`${folder}/orchestrator.log`), "early")
        }),
        false
      )
      assert.include(now, "early")
    }))

  it.effect("is followed by another when it is full, so that two of them is all there is", () =>
    Effect.gen(function*() {
      const line = "y".repeat(9_000)
      const { files, now = "", old = "" } = yield* logging(
        "info",
        Effect.forEach(
          Array.from({ length: 300 }, (_, at) => at),
          (at) => Effect.andThen(Effect.logInfo(`${at} ${line}`), at % 20 === 0 ? pass("1 second") : Effect.void),
          { discard: true }
        )
      )
      assert.isAtMost(Math.max(now.length, old.length), 1_000_000)
      assert.deepStrictEqual(
        files.toSorted(),
        [".gitignore", "orchestrator.log", "orchestrator.log.1"].map((name) => `${folder}/${name}`)
      )
      assert.include(now, " 299 y")
      assert.include(old, " 160 y")
      assert.notInclude(`${old}${now}`, " 0 y")
    }))

  it.effect("keeps the newest entries of a flood, and does not hold up who writes them", () =>
    Effect.gen(function*() {
      const { now = "" } = yield* logging(
        "info",
        Effect.forEach(Array.from({ length: 5_000 }, (_, at) => at), (at) => Effect.logInfo(`entry ${at}.`), {
          discard: true
        })
      )
      assert.include(now, "entry 4999.")
      assert.isAtMost(now.split("\n").length, 2_100)
    }))
})
