/** What a FileSystem promises to those who keep a journal in it; run by Node's and by the one in memory. */
import { assert, layer } from "@effect/vitest"
import { ByteSize, Effect, FileSystem, type Layer, Option, type PlatformError } from "effect"

/** Why an operation failed: effect's word for it, and the operating system's. */
const failure = <A, R>(effect: Effect.Effect<A, PlatformError.PlatformError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => {
    const cause = reason.cause
    const code = typeof cause === "object" && cause !== null && "code" in cause ? cause.code : undefined
    return `${reason._tag} ${String(code)}`
  })

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (data: Uint8Array) => new TextDecoder().decode(data)

const open = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "contract-" })
  return { fs, folder, at: (name: string) => `${folder}/${name}` }
})

export const fileSystemContract = (name: string, fileSystem: Layer.Layer<FileSystem.FileSystem>) => {
  layer(fileSystem)(`FileSystem: ${name}`, (it) => {
    it.effect("what is written is read, and written again is replaced", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("a"), "one, long enough")
        yield* fs.writeFileString(at("a"), "zwei ü")
        assert.strictEqual(yield* fs.readFileString(at("a")), "zwei ü")
        assert.deepStrictEqual([...(yield* fs.readFile(at("a")))], [...bytes("zwei ü")])
      }))

    it.effect("what is appended stands at the end, and makes the file when there is none", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("a"), "1\n", { flag: "a" })
        yield* fs.writeFileString(at("a"), "2\n", { flag: "a" })
        assert.strictEqual(yield* fs.readFileString(at("a")), "1\n2\n")
      }))

    it.effect("an exclusive write makes the file, once", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        for (const flag of ["wx", "ax"] as const) {
          yield* fs.writeFileString(at(flag), "first", { flag })
          assert.strictEqual(
            yield* failure(fs.writeFileString(at(flag), "second", { flag })),
            "AlreadyExists EEXIST"
          )
          assert.strictEqual(yield* fs.readFileString(at(flag)), "first")
          assert.strictEqual(yield* failure(fs.open(at(flag), { flag })), "AlreadyExists EEXIST")
        }
      }))

    it.effect("what is not there is named as such", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        const missing = [
          fs.access(at("none")),
          fs.readFile(at("none")),
          fs.readFileString(at("none")),
          fs.stat(at("none")),
          fs.readDirectory(at("none")),
          fs.open(at("none")),
          fs.open(at("none"), { flag: "r+" }),
          fs.rename(at("none"), at("other")),
          fs.link(at("none"), at("other")),
          fs.copyFile(at("none"), at("other")),
          fs.remove(at("none")),
          fs.truncate(at("none"), 1),
          fs.realPath(at("none")),
          fs.utimes(at("none"), 1, 1),
          fs.makeDirectory(at("none/below")),
          fs.writeFileString(at("none/below"), ""),
          fs.writeFileString(at("none/below"), "", { flag: "a" })
        ]
        for (const operation of missing) assert.strictEqual(yield* failure(operation), "NotFound ENOENT")
        assert.isFalse(yield* fs.exists(at("none")))
        yield* fs.remove(at("none"), { force: true })
        yield* fs.remove(at("none"), { force: true, recursive: true })
      }))

    it.effect("a folder is no file, and a file is no folder", () =>
      Effect.gen(function*() {
        const { at, fs, folder } = yield* open
        yield* fs.writeFileString(at("file"), "x")
        for (
          const operation of [
            fs.readFile(folder),
            fs.writeFileString(folder, "x"),
            fs.writeFileString(folder, "x", { flag: "a" }),
            fs.open(folder, { flag: "a" }),
            fs.truncate(folder, 0),
            fs.rename(at("file"), folder).pipe(Effect.andThen(Effect.die("renamed")))
          ]
        ) {
          const why = yield* failure(operation)
          assert.include(["BadResource EISDIR", "Unknown ENOTEMPTY"], why)
        }
        for (
          const operation of [
            fs.readDirectory(at("file")),
            fs.readFile(at("file/below")),
            fs.writeFileString(at("file/below"), "x"),
            fs.makeDirectory(at("file/below"), { recursive: true }),
            fs.stat(at("file/below"))
          ]
        ) assert.strictEqual(yield* failure(operation), "BadResource ENOTDIR")
        assert.strictEqual(yield* failure(fs.remove(folder)), "Unknown ERR_FS_EISDIR")
      }))

    it.effect("folders are made with those above them, and listed by name", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.makeDirectory(at("a/b/c"), { recursive: true })
        yield* fs.makeDirectory(at("a/b/c"), { recursive: true })
        assert.strictEqual(yield* failure(fs.makeDirectory(at("a/b"))), "AlreadyExists EEXIST")
        yield* fs.writeFileString(at("a/f"), "")
        assert.strictEqual(yield* failure(fs.makeDirectory(at("a/f"), { recursive: true })), "AlreadyExists EEXIST")
        assert.deepStrictEqual([...(yield* fs.readDirectory(at("a")))].sort(), ["b", "f"])
        assert.deepStrictEqual([...(yield* fs.readDirectory(at("a"), { recursive: true }))].sort(), ["b", "b/c", "f"])
        const entries = [...(yield* fs.readDirectoryEntries(at("a")))].sort((x, y) => x.name < y.name ? -1 : 1)
        assert.deepStrictEqual(entries, [{ name: "b", type: "Directory" }, { name: "f", type: "File" }])
        yield* fs.remove(at("a"), { recursive: true })
        assert.isFalse(yield* fs.exists(at("a/b")))
      }))

    it.effect("a file is known by its size, kind and time", () =>
      Effect.gen(function*() {
        const { at, fs, folder } = yield* open
        yield* fs.writeFileString(at("a"), "fünf")
        yield* fs.utimes(at("a"), 10, 20)
        const info = yield* fs.stat(at("a"))
        assert.strictEqual(info.type, "File")
        assert.strictEqual(ByteSize.toBigInt(info.size), 5n)
        assert.strictEqual(Option.getOrThrow(info.mtime).getTime(), 20_000)
        assert.strictEqual((yield* fs.stat(folder)).type, "Directory")
      }))

    it.effect("a rename replaces what was there, and keeps what was open", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("old"), "old")
        yield* fs.writeFileString(at("new"), "new")
        const file = yield* fs.open(at("old"), { flag: "a" })
        yield* fs.rename(at("new"), at("old"))
        assert.isFalse(yield* fs.exists(at("new")))
        yield* file.writeAll(bytes("lost"))
        assert.strictEqual(yield* fs.readFileString(at("old")), "new")
        yield* fs.rename(at("old"), at("old"))
        assert.strictEqual(yield* fs.readFileString(at("old")), "new")
      }))

    it.effect("a rename of an open file takes its writer along", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        const file = yield* fs.open(at("mine"), { flag: "a" })
        yield* file.writeAll(bytes("1"))
        yield* fs.rename(at("mine"), at("yours"))
        yield* file.writeAll(bytes("2"))
        assert.strictEqual(yield* fs.readFileString(at("yours")), "12")
        yield* fs.remove(at("yours"))
        yield* file.writeAll(bytes("3"))
        assert.isFalse(yield* fs.exists(at("yours")))
      }))

    it.effect("a rename moves a folder, but not into itself nor onto one that is not empty", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.makeDirectory(at("a/b"), { recursive: true })
        yield* fs.makeDirectory(at("full/x"), { recursive: true })
        yield* fs.makeDirectory(at("empty"))
        yield* fs.writeFileString(at("file"), "")
        assert.strictEqual(yield* failure(fs.rename(at("a"), at("a/b/c"))), "Unknown EINVAL")
        assert.strictEqual(yield* failure(fs.rename(at("a"), at("full"))), "Unknown ENOTEMPTY")
        assert.strictEqual(yield* failure(fs.rename(at("a"), at("file"))), "BadResource ENOTDIR")
        assert.strictEqual(yield* failure(fs.rename(at("file"), at("empty"))), "BadResource EISDIR")
        yield* fs.rename(at("a"), at("empty"))
        assert.deepStrictEqual(yield* fs.readDirectory(at("empty")), ["b"])
      }))

    it.effect("a link is a second name of one file, and never takes a name that is taken", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("a"), "1")
        yield* fs.link(at("a"), at("b"))
        yield* fs.writeFileString(at("b"), "2", { flag: "a" })
        assert.strictEqual(yield* fs.readFileString(at("a")), "12")
        assert.strictEqual(yield* failure(fs.link(at("a"), at("b"))), "AlreadyExists EEXIST")
        yield* fs.remove(at("a"))
        assert.strictEqual(yield* fs.readFileString(at("b")), "12")
      }))

    it.effect("a copy is a file of its own", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("a"), "1")
        yield* fs.writeFileString(at("b"), "longer")
        yield* fs.copyFile(at("a"), at("b"))
        yield* fs.writeFileString(at("a"), "2")
        assert.strictEqual(yield* fs.readFileString(at("b")), "1")
      }))

    it.effect("a file is cut, and made longer by zeros", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("a"), "12345")
        yield* fs.truncate(at("a"), 2)
        assert.strictEqual(yield* fs.readFileString(at("a")), "12")
        yield* fs.truncate(at("a"), 4)
        assert.strictEqual(yield* fs.readFileString(at("a")), "12\0\0")
        yield* fs.truncate(at("a"))
        assert.strictEqual(yield* fs.readFileString(at("a")), "")
      }))

    it.effect("an open file appends at the end, wherever that is by then", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        const one = yield* fs.open(at("a"), { flag: "a" })
        const two = yield* fs.open(at("a"), { flag: "a" })
        assert.strictEqual(yield* one.write(bytes("11")), 2)
        yield* two.writeAll(bytes("2"))
        yield* one.writeAll(bytes("1"))
        yield* one.sync
        yield* one.truncate(3)
        yield* one.writeAll(bytes("!"))
        yield* one.writeAll(bytes(""))
        assert.strictEqual(yield* fs.readFileString(at("a")), "112!")
        assert.strictEqual(ByteSize.toBigInt((yield* one.stat).size), 4n)
        assert.strictEqual(yield* failure(one.read(new Uint8Array(1))), "Unknown EBADF")
      }))

    it.effect("an open file is written and read where its cursor stands", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        const file = yield* fs.open(at("a"), { flag: "w+" })
        yield* file.writeAll(bytes("12345"))
        yield* file.seek(1n, "start")
        yield* file.writeAll(bytes("xx"))
        assert.strictEqual(text(Option.getOrThrow(yield* file.readAlloc(10))), "45")
        assert.isTrue(Option.isNone(yield* file.readAlloc(10)))
        assert.strictEqual(yield* file.seek(-4n, "current"), 1n)
        const buffer = new Uint8Array(2)
        assert.strictEqual(yield* file.read(buffer), 2)
        assert.strictEqual(text(buffer), "xx")
        assert.strictEqual(yield* file.read(buffer, { position: 4n }), 1)
        assert.strictEqual(yield* failure(file.seek(-9n, "current")), "BadArgument undefined")
        yield* file.truncate(1)
        yield* file.writeAll(bytes("y"))
        assert.strictEqual(yield* fs.readFileString(at("a")), "1y")
      }))

    it.effect("a file that is open for reading is not written; a folder can be opened to be synced", () =>
      Effect.gen(function*() {
        const { at, fs, folder } = yield* open
        yield* fs.writeFileString(at("a"), "12")
        const file = yield* fs.open(at("a"))
        assert.strictEqual(yield* failure(file.writeAll(bytes("x"))), "Unknown EBADF")
        assert.strictEqual(yield* fs.readFileString(at("a")), "12")
        yield* (yield* fs.open(folder)).sync
      }))

    it.effect("opening to write empties the file", () =>
      Effect.gen(function*() {
        const { at, fs } = yield* open
        yield* fs.writeFileString(at("a"), "12")
        yield* (yield* fs.open(at("a"), { flag: "w" })).writeAll(bytes("3"))
        assert.strictEqual(yield* fs.readFileString(at("a")), "3")
      }))

    it.effect("a path may go up and down", () =>
      Effect.gen(function*() {
        const { at, fs, folder } = yield* open
        yield* fs.makeDirectory(at("a"))
        assert.strictEqual(yield* fs.realPath(at("a/./../a/")), `${yield* fs.realPath(folder)}/a`)
      }))
  })
}
