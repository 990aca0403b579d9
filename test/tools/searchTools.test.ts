import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, FileSystem, Layer, Path } from "effect"
import { TestClock } from "effect/testing"
import * as ThreadSearch from "../../adapters/node-search/ThreadSearch.ts"
import * as ScriptedPermissions from "../../adapters/test/ScriptedPermissions.ts"
import { Config, readConfig } from "../../src/Config.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { Instance } from "../../src/host/Instance.ts"
import { maxCount } from "../../src/search/Query.ts"
import { Search } from "../../src/search/Search.ts"
import { makeSearchTools } from "../../src/tools/searchTools.ts"
import type { PermissionRequest } from "../../src/tools/Tool.ts"

/** A project with a neighbour outside of it, and the tools called in it; a refusal is answered as its words. */
const open = Effect.fnUntraced(function*(options: {
  readonly files: Readonly<Record<string, string>>
  readonly answer?: (request: PermissionRequest) => "allow" | "reject"
  readonly search?: Layer.Layer<Search>
}) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const home = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "search-tools-" }))
  const root = path.join(home, "project")
  for (const [name, content] of Object.entries({ "../other/secret.txt": "needle", ...options.files })) {
    yield* fs.makeDirectory(path.dirname(path.join(root, name)), { recursive: true })
    yield* fs.writeFileString(path.join(root, name), content)
  }
  const permissions = ScriptedPermissions.make(options.answer)
  const caller = { session: SessionId.make("ses_1"), agent: "Researcher", ask: permissions.ask }
  const instance = Instance.of({
    root,
    owner: { pid: 1, startedAt: "0", machine: "abcdef" },
    isAlive: () => Effect.succeed("unknown")
  })
  const tools = yield* makeSearchTools.pipe(Effect.provide(Layer.mergeAll(
    options.search ?? ThreadSearch.layer,
    Layer.succeed(Instance, instance),
    Config.layer(readConfig({}, "test").values)
  )))
  const use = (name: string, args: unknown) =>
    (tools.find((tool) => tool.name === name) ?? assert.fail(`no tool ${name}`)).call(args, caller).pipe(
      Effect.catch((refusal) => Effect.succeed(refusal.message))
    )
  return { fs, home, root, asked: permissions.asked, use }
})

const live = <A, E>(test: Effect.Effect<A, E, NodeServices.NodeServices>) => Effect.provide(test, NodeServices.layer)

describe("grep_search", () => {
  it.live("says how much it found, and where", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { asked, use } = yield* open({
        files: { "src/a.ts": "one\nneedle\n", "b.ts": "needle needle\n", ".gitignore": "c.ts", "c.ts": "needle" }
      })
      assert.strictEqual(
        yield* use("grep_search", { pattern: "needle" }),
        "2 matches in 2 files.\nb.ts:1: needle needle\nsrc/a.ts:2: needle"
      )
      assert.strictEqual(
        yield* use("grep_search", { pattern: "needle", dir: "src" }),
        "1 match in 1 file.\nsrc/a.ts:2: needle"
      )
      assert.strictEqual(
        yield* use("grep_search", { pattern: "needle", dir: "src/a.ts" }),
        "1 match in 1 file.\nsrc/a.ts:2: needle"
      )
      assert.strictEqual(yield* use("grep_search", { pattern: "nothing" }), "Nothing matches.")
      assert.strictEqual(
        yield* use("grep_search", { pattern: "needle", maxResults: 1 }),
        "1 of 2 matches in 2 files; narrow the pattern or dir.\nb.ts:1: needle needle"
      )
      assert.deepStrictEqual(yield* asked, [])
    }))))

  it.live("says that it stopped counting", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { use } = yield* open({ files: { "a": "x\n".repeat(maxCount + 1) } })
      assert.strictEqual(
        yield* use("grep_search", { pattern: "x", maxResults: 1 }),
        "1 of 10,000 or more matches in 1 file; narrow the pattern or dir.\na:1: x"
      )
    }))))

  it.live("refuses in a sentence what it cannot do", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { use } = yield* open({ files: { a: "" } })
      assert.strictEqual(
        yield* use("grep_search", { pattern: "a(b" }),
        "The pattern \"a(b\" cannot be used at character 1: missing closing ). Correct it and call again."
      )
      for (const dir of ["gone", "a/b", "\0", "a\nb"]) {
        assert.match(
          yield* use("grep_search", { pattern: "a", dir }),
          /^There is no folder or file .+ Use glob_search/,
          dir
        )
      }
      assert.match(yield* use("grep_search", { pattern: "" }), /^grep_search was called with arguments that do not fit/)
      assert.match(yield* use("grep_search", { pattern: "x".repeat(1_001) }), /do not fit/)
      assert.match(yield* use("grep_search", { pattern: "x", maxResults: 0 }), /do not fit/)
    }))))

  it.live("asks before it leaves the project, also by way of a link", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { asked, fs, home, root, use } = yield* open({ files: { "in/a.txt": "needle", "..odd/b.txt": "needle" } })
      yield* fs.symlink(`${home}/other`, `${root}/link`)
      yield* fs.symlink(`${root}/in`, `${root}/within`)
      const found = `1 match in 1 file.\n${home}/other/secret.txt:1: needle`
      const request = {
        permission: "external_directory",
        patterns: [`${home}/other/*`],
        always: [`${home}/other/*`]
      }
      assert.strictEqual(yield* use("grep_search", { pattern: "needle", dir: "../other" }), found)
      assert.deepStrictEqual(yield* asked, [{
        ...request,
        metadata: { filepath: `${home}/other`, parentDir: `${home}/other` }
      }])
      assert.strictEqual(yield* use("grep_search", { pattern: "needle", dir: `${home}/other/secret.txt` }), found)
      assert.strictEqual(yield* use("grep_search", { pattern: "needle", dir: "link" }), found)
      assert.deepStrictEqual(
        (yield* asked).map(({ patterns }) => patterns),
        [request.patterns, request.patterns, request.patterns]
      )
      assert.strictEqual(
        yield* use("grep_search", { pattern: "needle", dir: "within" }),
        "1 match in 1 file.\nin/a.txt:1: needle"
      )
      assert.match(yield* use("grep_search", { pattern: "needle", dir: "..odd" }), /^1 match/)
      assert.lengthOf(yield* asked, 3)
    }))))

  it.live("does not search where the user says no", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { fs, home, root, use } = yield* open({ files: { a: "" }, answer: () => "reject" })
      yield* fs.symlink(home, `${root}/link`)
      for (
        const [tool, args] of [
          ["grep_search", { pattern: "needle" }],
          ["mgrep", { patterns: ["needle"] }],
          ["glob_search", { pattern: "*" }]
        ] as const
      ) {
        for (const dir of ["..", "link", home, "a/../..", "link/../link"]) {
          assert.strictEqual(
            yield* use(tool, { ...args, dir }),
            `There is no permission external_directory for ${home}/* (the user rejected it). Go on without it.`,
            `${tool} ${dir}`
          )
        }
      }
    }))))

  const neverEnding = Layer.succeed(Search, { lines: () => Effect.never, files: () => Effect.never })

  it.effect("gives up after its time, in which the user's answer does not count", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { use } = yield* open({ files: { a: "" }, search: neverEnding })
      const call = yield* Effect.forkChild(use("grep_search", { pattern: "x" }), { startImmediately: true })
      // The search begins only after real reading, for which no virtual time passes.
      yield* Effect.raceFirst(
        Effect.forever(Effect.andThen(TestClock.adjust("10 seconds"), Effect.yieldNow)),
        Fiber.await(call)
      )
      assert.strictEqual(
        yield* Fiber.join(call),
        "The search failed: it took longer than 30s. Narrow dir or the pattern and call again."
      )
    }))))
})

describe("mgrep", () => {
  it.live("answers for each pattern, the empty ones too", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { use } = yield* open({ files: { a: "one\ntwo\none two\n", b: "two\n" } })
      assert.strictEqual(
        yield* use("mgrep", { patterns: ["one", "two", "one", "three"], maxResults: 2 }),
        [
          "2 of 3 patterns match.",
          "one - 2 matches in 1 file:",
          "a:1: one",
          "a:3: one two",
          "two - 2 of 3 matches in 2 files; narrow the pattern or dir:",
          "a:2: two",
          "a:3: one two",
          "three - Nothing matches"
        ].join("\n")
      )
      assert.match(yield* use("mgrep", { patterns: ["x", "("] }), /^The pattern "\(" cannot be used/)
      assert.match(yield* use("mgrep", { patterns: [] }), /do not fit/)
    }))))
})

describe("glob_search", () => {
  it.live("names the files, a line each", () =>
    live(Effect.scoped(Effect.gen(function*() {
      const { root, use } = yield* open({ files: { "src/a.ts": "", "src/b.ts": "", "x\ny.ts": "" } })
      assert.strictEqual(yield* use("glob_search", { pattern: "*.ts" }), "3 files.\nsrc/a.ts\nsrc/b.ts\nx\\ny.ts")
      assert.strictEqual(
        yield* use("glob_search", { pattern: "*.ts", maxResults: 1 }),
        "1 of 3 files; narrow the pattern or dir.\nsrc/a.ts"
      )
      assert.strictEqual(yield* use("glob_search", { pattern: `${root}/src/a*` }), "1 file.\nsrc/a.ts")
      assert.strictEqual(yield* use("glob_search", { pattern: "*.js" }), "No file matches.")
    }))))
})
