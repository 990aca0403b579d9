import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, FileSystem, type PlatformError, type Scope } from "effect"
import { TestClock } from "effect/testing"
import * as MemoryFileSystem from "../../adapters/test/MemoryFileSystem.ts"

const withDisk = <A, E>(
  test: (
    disk: MemoryFileSystem.MemoryDisk["Service"],
    fs: FileSystem.FileSystem
  ) => Effect.Effect<A, E, FileSystem.FileSystem | Scope.Scope>
) =>
() =>
  Effect.gen(function*() {
    const disk = yield* MemoryFileSystem.MemoryDisk
    return yield* Effect.provide(test(disk, disk.fileSystem), MemoryFileSystem.layer)
  }).pipe(Effect.provide(MemoryFileSystem.MemoryDisk.layer))

/** The operating system's code, which is all that tells a full disk from others. */
const code = <A, R>(effect: Effect.Effect<A, PlatformError.PlatformError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => {
    const cause = reason.cause
    return typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
  })

const bytes = (text: string) => new TextEncoder().encode(text)

describe("the disk in memory", () => {
  it.effect(
    "keeps its files for the next one that uses it",
    withDisk((disk) =>
      Effect.gen(function*() {
        const write = Effect.flatMap(FileSystem.FileSystem, (fs) => fs.writeFileString("/a", "1", { flag: "a" }))
        yield* Effect.provide(write, MemoryFileSystem.layer, { local: true })
        yield* Effect.provide(write, MemoryFileSystem.layer, { local: true })
        assert.strictEqual(yield* disk.read("/a"), "11")
      }).pipe(Effect.provideService(MemoryFileSystem.MemoryDisk, disk))
    )
  )

  it.effect(
    "is filled and looked at from outside",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        yield* disk.readOnly(true)
        yield* disk.put("/project/a/b", "text")
        yield* disk.put("/project/c", bytes("bytes"))
        assert.strictEqual(yield* fs.readFileString("/project/a/b"), "text")
        assert.deepStrictEqual(yield* disk.list("/project"), ["/project/a/b", "/project/c"])
        assert.deepStrictEqual(yield* disk.list(), ["/project/a/b", "/project/c"])
        assert.deepStrictEqual(yield* disk.list("/none"), [])
        assert.strictEqual(yield* disk.read("/none"), undefined)
      })
    )
  )

  it.effect(
    "when full, takes nothing that needs room, and everything that needs none",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        yield* disk.put("/a", "12")
        const file = yield* fs.open("/a", { flag: "a" })
        yield* disk.full(true)
        assert.strictEqual(yield* code(file.writeAll(bytes("3"))), "ENOSPC")
        assert.strictEqual(yield* code(fs.writeFileString("/a", "3", { flag: "a" })), "ENOSPC")
        assert.strictEqual(yield* code(fs.makeDirectory("/b")), "ENOSPC")
        assert.strictEqual(yield* fs.readFileString("/a"), "12")
        yield* fs.rename("/a", "/b")
        yield* disk.full(false)
        yield* file.writeAll(bytes("3"))
        assert.strictEqual(yield* fs.readFileString("/b"), "123")
      })
    )
  )

  it.effect(
    "tears the write that goes beyond its room",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        yield* disk.full(true, 4)
        assert.strictEqual(yield* code(fs.writeFileString("/a", "12345", { flag: "a" })), "ENOSPC")
        assert.strictEqual(yield* fs.readFileString("/a"), "1234")
        yield* fs.remove("/a")
        const file = yield* fs.open("/b", { flag: "a" })
        assert.strictEqual(yield* file.write(bytes("123456")), 4)
        assert.strictEqual(yield* code(file.write(bytes("56"))), "ENOSPC")
      })
    )
  )

  it.effect(
    "when read-only, refuses every change",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        yield* disk.put("/a", "12")
        const file = yield* fs.open("/a", { flag: "a" })
        yield* disk.readOnly(true)
        for (
          const change of [
            file.writeAll(bytes("3")),
            fs.writeFileString("/a", "3"),
            fs.writeFileString("/b", "3"),
            fs.open("/a", { flag: "a" }),
            fs.makeDirectory("/b"),
            fs.rename("/a", "/b"),
            fs.remove("/a"),
            fs.truncate("/a"),
            fs.link("/a", "/b"),
            fs.utimes("/a", 1, 1),
            fs.access("/a", { writable: true })
          ]
        ) assert.strictEqual(yield* code(change), "EROFS")
        assert.strictEqual(yield* fs.readFileString("/a"), "12")
        assert.deepStrictEqual(yield* disk.list(), ["/a"])
      })
    )
  )

  it.effect(
    "gives nothing to whom a file's mode denies it",
    withDisk((_, fs) =>
      Effect.gen(function*() {
        yield* fs.writeFileString("/a", "12")
        yield* fs.chmod("/a", 0o200)
        assert.strictEqual((yield* Effect.flip(fs.readFile("/a"))).reason._tag, "PermissionDenied")
        yield* fs.chmod("/a", 0o400)
        assert.strictEqual((yield* Effect.flip(fs.writeFileString("/a", ""))).reason._tag, "PermissionDenied")
        assert.strictEqual((yield* Effect.flip(fs.open("/a", { flag: "a" }))).reason._tag, "PermissionDenied")
      })
    )
  )

  it.effect(
    "does not write through a handle whose scope has closed",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        const file = yield* Effect.scoped(fs.open("/a", { flag: "a" }))
        assert.strictEqual(yield* code(file.writeAll(bytes("1"))), "EBADF")
        assert.strictEqual(yield* disk.read("/a"), "")
      })
    )
  )

  it.effect(
    "when slow, has not written before its time, and not at all when it is cut off",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        yield* disk.slow("2 seconds")
        const first = yield* Effect.forkChild(fs.writeFileString("/a", "1", { flag: "a" }))
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* disk.read("/a"), undefined)
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(first)
        const second = yield* Effect.forkChild(fs.writeFileString("/a", "2", { flag: "a" }))
        yield* TestClock.adjust("1 second")
        yield* Fiber.interrupt(second)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(yield* disk.read("/a"), "1")
      })
    )
  )

  it.effect(
    "appends what a large file costs no more to append to than a small one",
    withDisk((disk, fs) =>
      Effect.gen(function*() {
        const file = yield* fs.open("/a", { flag: "a" })
        const line = bytes(`${"x".repeat(99)}\n`)
        // Copied on every append, these 10 MB would be 500 GB of copying: the test would not end.
        for (let i = 0; i < 100_000; i++) yield* file.writeAll(line)
        assert.strictEqual((yield* disk.read("/a"))?.length, 10_000_000)
      })
    )
  )
})
