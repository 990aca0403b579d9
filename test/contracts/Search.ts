/** What every search promises; run by the one on a thread and by the one with ripgrep. */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, FileSystem, Layer, Path, type Scope } from "effect"
import { maxCount, maxFileSize } from "../../src/search/Query.ts"
import { Search } from "../../src/search/Search.ts"

type Files = Readonly<Record<string, string | Uint8Array>>

/** A tree in a folder of its own, and the searches in it. */
export const open = Effect.fnUntraced(function*(files: Files) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const search = yield* Search
  const top = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "search-" }))
  const write = Effect.fnUntraced(function*(name: string, content: string | Uint8Array) {
    const at = path.join(top, name)
    yield* fs.makeDirectory(path.dirname(at), { recursive: true })
    yield* typeof content === "string" ? fs.writeFileString(at, content) : fs.writeFile(at, content)
  })
  for (const [name, content] of Object.entries(files)) yield* write(name, content)

  const place = (dir: string, limit: number) => ({ top, target: path.join(top, dir), limit })
  /** Per pattern all that is known. */
  const lines = (patterns: ReadonlyArray<string>, dir = "", limit = 100) =>
    search.lines({ patterns, ...place(dir, limit) })
  /** What one pattern finds, a line each. */
  const grep = (pattern: string, dir = "", limit = 100) =>
    Effect.map(lines([pattern], dir, limit), ([found]) => found?.lines.map((at) => `${at.path}:${at.line}: ${at.text}`))
  const glob = (pattern: string, dir = "", limit = 100) =>
    Effect.map(search.files({ pattern, ...place(dir, limit) }), ({ paths }) => paths)
  return { fs, top, search, write, lines, grep, glob, at: (name: string) => path.join(top, name) }
})

const bytes = (...values: ReadonlyArray<number | string>) =>
  Buffer.concat(values.map((value) => typeof value === "string" ? Buffer.from(value) : Buffer.from([value])))

export const searchContract = (
  name: string,
  search: Layer.Layer<Search, never, NodeServices.NodeServices>,
  /** Why it cannot be tested here. */
  missing?: string
) => {
  const world = Layer.provideMerge(search, NodeServices.layer)
  describe.skipIf(missing !== undefined)(
    `Search: ${name}${missing === undefined ? "" : ` (skipped: ${missing})`}`,
    () => {
      const promises = <E>(
        what: string,
        test: Effect.Effect<void, E, Layer.Success<typeof world> | Scope.Scope>
      ) => it.live(what, () => Effect.provide(test, world))

      promises(
        "finds the lines that match, in the order of their paths",
        Effect.gen(function*() {
          const { grep, lines } = yield* open({
            "b.txt": "no\nneedle 1\n\nneedle 2",
            "a/z.txt": "needle 3\n",
            "a.txt": "a needle in the hay",
            "B.txt": "needle 4\nneedle 5\n"
          })
          assert.deepStrictEqual(yield* grep("needle"), [
            "B.txt:1: needle 4",
            "B.txt:2: needle 5",
            "a/z.txt:1: needle 3",
            "a.txt:1: a needle in the hay",
            "b.txt:2: needle 1",
            "b.txt:4: needle 2"
          ])
          const [found] = yield* lines(["needle"])
          assert.deepStrictEqual([found?.total, found?.files], [6, 4])
          assert.deepStrictEqual(yield* grep("needle$"), [])
          assert.deepStrictEqual(yield* lines(["nothing"]), [{ lines: [], total: 0, files: 0 }])
        })
      )

      promises(
        "searches in one folder or one file, and names what it finds from the top",
        Effect.gen(function*() {
          const { glob, grep } = yield* open({ "a/b/c.txt": "x", "a/d.txt": "x", "e.txt": "x" })
          assert.deepStrictEqual(yield* grep("x", "a"), ["a/b/c.txt:1: x", "a/d.txt:1: x"])
          assert.deepStrictEqual(yield* grep("x", "a/d.txt"), ["a/d.txt:1: x"])
          assert.deepStrictEqual(yield* grep("x", "gone"), [])
          assert.deepStrictEqual(yield* glob("*.txt", "a/b"), ["a/b/c.txt"])
          assert.deepStrictEqual(yield* glob("/*.txt", "a"), ["a/d.txt"])
        })
      )

      promises(
        "gives no more than is wanted, and counts the rest",
        Effect.gen(function*() {
          const { glob, lines, search, top } = yield* open({
            ...Object.fromEntries(Array.from({ length: 12 }, (_, n) => [`f${10 + n}.txt`, "hit\nmiss\nhit\n"])),
            "huge.txt": "many\n".repeat(maxCount + 5)
          })
          const [found] = yield* lines(["hit"], "", 3)
          assert.deepStrictEqual(found?.lines.map(({ line, path }) => `${path}:${line}`), [
            "f10.txt:1",
            "f10.txt:3",
            "f11.txt:1"
          ])
          assert.deepStrictEqual([found?.total, found?.files], [24, 12])
          const [many] = yield* lines(["many"], "", 1)
          assert.deepStrictEqual([many?.total, many?.lines.length], [maxCount, 1])
          assert.deepStrictEqual(yield* glob("f*", "", 2), ["f10.txt", "f11.txt"])
          assert.strictEqual((yield* search.files({ pattern: "f*", target: top, top, limit: 2 })).total, 12)
        })
      )

      promises(
        "gives the first ones by their paths, whichever is found first",
        Effect.gen(function*() {
          const names = Array.from({ length: 400 }, (_, n) => `d${n % 5}${n % 2 === 0 ? "/" : "."}e${n % 13}/f${n}`)
          const { grep } = yield* open(Object.fromEntries(names.map((name) => [name, "hit\nmiss\nhit\n"])))
          const inOrder = names.map((name) => name.split("/")).sort((a, b) => {
            const at = a.findIndex((part, index) => part !== b[index])
            return (a[at] ?? "") < (b[at] ?? "") ? -1 : 1
          })
          assert.deepStrictEqual(
            yield* grep("hit", "", 15),
            inOrder.flatMap((name) => [1, 3].map((line) => `${name.join("/")}:${line}: hit`)).slice(0, 15)
          )
        })
      )

      promises(
        "finds for several patterns what it finds for each of them",
        Effect.gen(function*() {
          const { lines } = yield* open({ "a": "one\ntwo\none two\n", "b": "two" })
          const patterns = ["one", "two", "three", "(?i)ONE|two"]
          const all = yield* lines(patterns)
          for (const [index, pattern] of patterns.entries()) {
            assert.deepStrictEqual(all[index], (yield* lines([pattern]))[0])
          }
          assert.deepStrictEqual(all.map(({ total }) => total), [2, 3, 0, 4])
        })
      )

      promises(
        "reads patterns in one and the same way",
        Effect.gen(function*() {
          const { grep, write } = yield* open({})
          const matches = Effect.fnUntraced(function*(pattern: string, line: string) {
            yield* write("t", `${line}\n`)
            return ((yield* grep(pattern)) ?? []).length === 1
          })
          const table: ReadonlyArray<readonly [pattern: string, match: string, other: string]> = [
            ["a.c", "abc", "ac"],
            ["^ab", "abc", "cab"],
            ["bc$", "abc", "bcd"],
            ["(?i)abc", "xABCx", "ab"],
            ["(?i)ask|tell", "a\u017F\u212A", "as"],
            ["a{2,3}b", "aab", "ab"],
            ["(foo|bar)+baz", "foobarbaz", "foo"],
            ["fn() {", "fn {", "fnx"],
            ["\\{x\\}", "{x}", "x"],
            ["{x}", "a{x}", "x"],
            ["a{,3}", "a{,3}", "aaa"],
            ["\\d\\d", "12", "1a"],
            ["^\\w+$", "a_1", "ä"],
            ["^\\W$", "ä", "a"],
            ["\\bcat\\b", "a cat.", "concat"],
            ["\\bä", "xä", "ä"],
            ["[\\w.-]+@x", "a.b-c@x", "ä@x"],
            ["^[^\\s]+$", "abc", "a c"],
            ["^[^\\W\\d]$", "a", "1"],
            ["^[[:alpha:]]+$", "abc", "1"],
            ["^[a&&b]+$", "&", "-"],
            ["^[[a]+$", "[a", "b"],
            ["^[]a]+$", "]a", "b"],
            ["^[^]a]+$", "b", "]"],
            ["\\Qa.b*\\E!", "a.b*!", "axb*!"],
            ["\\x41\\x{42}", "AB", "ab"],
            ["^\\p{Greek}\\pL$", "αx", "xα"],
            ["^.$", "😀", "ab"],
            ["a\\/b\\\"\\ c", "a/b\" c", "a/b c"],
            ["(?P<name>x)y", "xy", "y"],
            ["(?s)a.b", "a-b", "ab"],
            ["^$", "", "a"],
            ["-e", "-e", "e"],
            ["--files", "x --files", "x"]
          ]
          for (const [pattern, match, other] of table) {
            assert.isTrue(yield* matches(pattern, match), `${pattern} on ${match}`)
            assert.isFalse(yield* matches(pattern, other), `${pattern} on ${other}`)
          }
        })
      )

      promises(
        "refuses a pattern that is none, and says where",
        Effect.gen(function*() {
          const { glob, grep } = yield* open({ a: "x" })
          const words = (pattern: string) => Effect.map(Effect.flip(grep(pattern)), (error) => error.message)
          assert.match(
            yield* words("ab(c"),
            /^The pattern "ab\(c" cannot be used at character 1: missing closing \)\. /
          )
          assert.match(yield* words("ab[c"), /at character 3: missing closing \] \[c\. /)
          assert.match(yield* words("foo(?=bar)"), /at character 4: invalid or unsupported Perl syntax \(\?=\. /)
          assert.match(yield* words("(a)\\1"), /at character 4: invalid escape sequence \\1\. /)
          assert.match(yield* words("a{1001}"), /at character 2: invalid repeat count \{1001\}\. /)
          assert.match(yield* words("ab\\"), /at character 3: trailing backslash/)
          assert.match((yield* Effect.flip(glob("src/[a"))).message, /at character 5: the \[ is not closed\. /)
          assert.match((yield* Effect.flip(glob("src/{a"))).message, /at character 5: the \{ is not closed\. /)
          assert.match((yield* Effect.flip(glob("{a,b}".repeat(50)))).message, /stand for more than 100 patterns/)
        })
      )

      promises(
        "takes time in proportion to the text, whatever the pattern",
        Effect.gen(function*() {
          const line = `${"a".repeat(100_000)}b`
          const { grep } = yield* open({ a: `${line}\n${line}\n` })
          for (const pattern of ["(a+)+$", "(a|aa)+$", "(a*)*c", "(.*)(.*)(.*)(.*)(.*)x", "(?:a?){50}a{50}$"]) {
            assert.deepStrictEqual(yield* grep(pattern), [], pattern)
          }
        })
      )

      promises(
        "shows of a long line the part around the match",
        Effect.gen(function*() {
          const { grep, write } = yield* open({ a: `${"x".repeat(5_000)}ünéedle${"y".repeat(5_000)}` })
          const [line] = (yield* grep("néedle")) ?? []
          assert.match(line ?? "", /^a:1: …x+ünéedley+…$/)
          assert.isBelow(line?.length ?? 0, 220)
          // As many matches as letters, of which the first is shown.
          yield* write("a", "x".repeat(maxFileSize - 1))
          assert.deepStrictEqual(yield* grep("."), [`a:1: ${"x".repeat(200)}…`])
        })
      )

      promises(
        "leaves out binary files, huge ones, links, and what often holds secrets",
        Effect.gen(function*() {
          const { at, fs, glob, grep } = yield* open({
            "binary": bytes("needle\n", 0, "\n"),
            "binary-late": bytes("needle\n", "x".repeat(200_000), 0),
            "huge": `needle\n${"x".repeat(maxFileSize)}`,
            "largest": "needle\n".padEnd(maxFileSize, "x"),
            ".env": "needle",
            ".env.local": "needle",
            "a.env": "needle",
            ".env.example": "needle",
            "outside/needle": "needle"
          })
          yield* fs.makeDirectory(at("in"))
          yield* fs.symlink(at("outside"), at("in/folder"))
          yield* fs.symlink(at("outside/needle"), at("in/file"))
          yield* fs.symlink(at("in"), at("in/loop"))
          assert.deepStrictEqual(yield* grep("needle"), [
            ".env.example:1: needle",
            "largest:1: needle",
            "outside/needle:1: needle"
          ])
          assert.deepStrictEqual(yield* grep("needle", "in"), [])
          assert.deepStrictEqual(yield* glob("*", "in"), [])
        })
      )

      promises(
        "reads UTF-8 and UTF-16 with and without its mark, and both ends of lines",
        Effect.gen(function*() {
          const { grep } = yield* open({
            "a": "one\r\ntwo\r\n",
            "b": bytes(0xef, 0xbb, 0xbf, "one\n"),
            "c": Buffer.concat([bytes(0xff, 0xfe), Buffer.from("one\r\nö\n", "utf16le")]),
            "d": bytes("a", 0xff, "b\none\n")
          })
          assert.deepStrictEqual(yield* grep("^one$"), ["a:1: one", "b:1: one", "c:1: one", "d:2: one"])
          assert.deepStrictEqual(yield* grep("ö"), ["c:2: ö"])
          assert.deepStrictEqual(yield* grep("b$"), ["d:1: a\uFFFDb"])
        })
      )

      promises(
        "takes names as they are, and shows a line as one line",
        Effect.gen(function*() {
          const { glob, lines } = yield* open({
            "-e": "needle",
            "--help": "needle",
            "a\nb": "needle",
            "c d/[e]*": "needle \u001b[31m",
            ".hidden/f": "needle",
            "ü😀": "needle"
          })
          const [found] = yield* lines(["needle"])
          const names = ["--help", "-e", ".hidden/f", "a\nb", "c d/[e]*", "ü😀"]
          assert.deepStrictEqual(found?.lines.map(({ path }) => path), names)
          assert.strictEqual(found?.lines[4]?.text, "needle \uFFFD[31m")
          assert.deepStrictEqual(yield* glob("**"), names)
          assert.deepStrictEqual(yield* glob("\\[e\\]\\*"), ["c d/[e]*"])
          assert.deepStrictEqual(yield* glob("ü?"), ["ü😀"])
        })
      )

      promises(
        "leaves out what is ignored: at every level, with exceptions, by git's and by the other files",
        Effect.gen(function*() {
          const { glob, grep } = yield* open({
            ".gitignore": "*.log\n!keep.log\n/dist/\nnode_modules/\n",
            ".git/info/exclude": "mine.txt\n",
            ".git/config": "x",
            ".ignore": "big.json\n!b/shown.log\n",
            "a.log": "x",
            "keep.log": "x",
            "dist/out": "x",
            "b/dist/out": "x",
            "b/.gitignore": "*.tmp\n!a.log\n",
            "b/a.log": "x",
            "b/b.log": "x",
            "b/shown.log": "x",
            "b/c.tmp": "x",
            "c.tmp": "x",
            "b/big.json": "x",
            "b/mine.txt": "x",
            "node_modules/m/index.js": "x",
            "node_modules/m/a.log": "x",
            "inner/.git/HEAD": "x",
            "inner/a.log": "x",
            "inner/mine.txt": "x"
          })
          const seen = ["b/a.log", "b/dist/out", "b/shown.log", "c.tmp", "inner/a.log", "inner/mine.txt", "keep.log"]
          assert.deepStrictEqual(yield* grep("^x"), seen.map((path) => `${path}:1: x`))
          assert.deepStrictEqual((yield* glob("**")).filter((path) => !path.endsWith("ignore")), seen)
          assert.deepStrictEqual(yield* grep("^x", "b/b.log"), [])
          // A folder that is named is searched, also where it is ignored itself.
          assert.deepStrictEqual(yield* grep("^x", "node_modules/m"), ["node_modules/m/index.js:1: x"])
        })
      )

      promises(
        "finds files by name at any depth, or by path",
        Effect.gen(function*() {
          const { glob } = yield* open({
            "a.ts": "",
            "a.js": "",
            "src/b.ts": "",
            "src/deep/er/c.tsx": "",
            "src/x/d.ts": ""
          })
          assert.deepStrictEqual(yield* glob("*.ts"), ["a.ts", "src/b.ts", "src/x/d.ts"])
          assert.deepStrictEqual(yield* glob("/*.ts"), ["a.ts"])
          assert.deepStrictEqual(yield* glob("src/*.ts"), ["src/b.ts"])
          assert.deepStrictEqual(yield* glob("src/**/*.{ts,tsx}"), ["src/b.ts", "src/deep/er/c.tsx", "src/x/d.ts"])
          assert.deepStrictEqual(yield* glob("**/[a-c].ts"), ["a.ts", "src/b.ts"])
          assert.deepStrictEqual(yield* glob("src/**"), ["src/b.ts", "src/deep/er/c.tsx", "src/x/d.ts"])
          assert.deepStrictEqual(yield* glob("../*"), [])
        })
      )

      it.live.skipIf(process.getuid?.() === 0)("passes over what it may not read", () =>
        Effect.gen(function*() {
          const { at, fs, grep } = yield* open({ "a/x": "needle", "b": "needle", "c": "needle" })
          yield* fs.chmod(at("a"), 0)
          yield* fs.chmod(at("b"), 0)
          assert.deepStrictEqual(yield* grep("needle"), ["c:1: needle"])
          yield* fs.chmod(at("a"), 0o700)
        }).pipe(Effect.provide(world)))

      promises(
        "stops when it is interrupted, and the next one has its place",
        Effect.gen(function*() {
          // An hour's work for any engine, were it done.
          const { grep, search, top, write } = yield* open({})
          yield* Effect.forEach(
            Array.from({ length: 30 }, (_, n) => n),
            (n) => write(`f${n}`, "x".repeat(maxFileSize - 1)),
            { discard: true }
          )
          const slow = { patterns: ["(?:(?:(?:x{1,10}){1,10}){1,10})y|z"], target: top, top, limit: 1 }
          const searches = yield* Effect.forEach(
            Array.from({ length: 6 }),
            () => Effect.forkChild(search.lines(slow), { startImmediately: true })
          )
          yield* Effect.yieldNow
          const before = performance.now()
          yield* Fiber.interruptAll(searches)
          yield* write("g", "small")
          assert.deepStrictEqual(yield* grep("small", "g"), ["g:1: small"])
          assert.isBelow(performance.now() - before, 5_000)
        })
      )
    }
  )
}
