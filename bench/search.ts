/**
 * What a search costs in a tree of 10,000 files: on a thread without any program besides, with ripgrep where there is
 * one, and with `git grep` for comparison. Medians of 7, and the longest that the event loop was held up.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Path } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as RipgrepSearch from "../adapters/node-search/RipgrepSearch.ts"
import * as ThreadSearch from "../adapters/node-search/ThreadSearch.ts"
import type { Search } from "../src/search/Search.ts"

const files = 10_000
const rounds = 7

/** What each pattern stands for. A common one ends where counting ends. */
const patterns = {
  "a rare word": "needle in the hay",
  "a class and its base": "class \\w+ extends Base\\w+",
  "in any case": "(?i)todo|fixme",
  "a common word": "compute"
}

/** About 4 KB of what could be code; every file is another one. */
const source = (index: number): string =>
  Array.from({ length: 100 }, (_, line) =>
    line === index % 100 && index % 50 === 0
      ? "// TODO find the needle in the hay"
      : line % 10 === 0
      ? `export class Part${index}_${line} extends Base${line} {`
      : `  const value${line} = compute(${index}, ${line}) // some words`).join("\n")

const makeTree = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const root = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "bench-search-" }))
  const write = Effect.fnUntraced(function*(folder: string, count: number) {
    for (let start = 0; start < count; start += 50) {
      const at = path.join(root, folder, `part${start % 1_000}`, `group${start}`)
      yield* fs.makeDirectory(at, { recursive: true })
      for (let index = start; index < start + 50; index++) {
        yield* fs.writeFileString(path.join(at, `file${index}.ts`), source(index))
      }
    }
  })
  yield* write("src", files)
  yield* write("node_modules", 2_000)
  yield* fs.writeFileString(path.join(root, ".gitignore"), "node_modules/\n*.log\ndist\n")
  return root
})

/** Median time, and the longest hold-up over all rounds, ms. */
const measure = Effect.fnUntraced(function*<E, R>(what: string, work: Effect.Effect<number, E, R>) {
  const times: Array<number> = []
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let found = yield* work
  for (let round = 0; round < rounds; round++) {
    delay.enable()
    const before = performance.now()
    found = yield* work
    times.push(performance.now() - before)
    delay.disable()
  }
  const median = times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? 0
  yield* Console.log(
    `${what.padEnd(42)} ${median.toFixed(0).padStart(5)} ms   ${String(found).padStart(6)} found   event loop held up ${
      (delay.max / 1e6).toFixed(0)
    } ms at most`
  )
})

const bench = Effect.gen(function*() {
  const root = yield* makeTree
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const command = (name: string, ...args: ReadonlyArray<string>) =>
    spawner.string(ChildProcess.make(name, args, { cwd: root, stdin: "ignore", stderr: "ignore" }))
  yield* command("git", "init", "-q")
  const place = { target: root, top: root, limit: 100 }
  const search = (by: Search["Service"], all: ReadonlyArray<string>) =>
    Effect.map(by.lines({ patterns: all, ...place }), (found) => found.reduce((sum, { total }) => sum + total, 0))

  yield* measure("nothing, for comparison", Effect.as(Effect.sleep("300 millis"), 0))
  const before = performance.now()
  const thread = yield* ThreadSearch.make
  yield* thread.files({ pattern: "none", ...place })
  yield* Console.log(`the first search, with the start of its thread: ${(performance.now() - before).toFixed(0)} ms`)
  yield* measure("thread, files", Effect.map(thread.files({ pattern: "src/**/*.ts", ...place }), ({ total }) => total))

  const hasRipgrep = yield* Effect.match(command("rg", "--version"), { onFailure: () => false, onSuccess: () => true })
  if (!hasRipgrep) yield* Console.log("no rg on the PATH: ripgrep is not measured")
  const ripgrep = yield* RipgrepSearch.make("rg")
  for (const [what, pattern] of Object.entries(patterns)) {
    yield* measure(`thread, ${what}`, search(thread, [pattern]))
    if (hasRipgrep) yield* measure(`ripgrep, ${what}`, search(ripgrep, [pattern]))
    const [, flag, expression] = /^(\(\?i\))?(.*)$/.exec(pattern) ?? []
    yield* measure(
      `git grep, ${what}`,
      Effect.map(
        command(
          "git",
          "grep",
          "--untracked",
          "-n",
          "-I",
          "-E",
          ...(flag === undefined ? [] : ["-i"]),
          "-e",
          expression ?? ""
        ),
        (text) => text.split("\n").length - 1
      )
    )
  }
  yield* measure("thread, all four in one pass", search(thread, Object.values(patterns)))
  if (hasRipgrep) yield* measure("ripgrep, all four side by side", search(ripgrep, Object.values(patterns)))
})

bench.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
