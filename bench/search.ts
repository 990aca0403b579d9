/**
 * What a search costs in a tree of 100,000 files, on a thread without any program besides and with ripgrep, beside what
 * ripgrep itself takes in the same round; and the longest that the event loop was held up meanwhile. Medians of the
 * rounds. Arguments: how many files, and how many rounds.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Path, type PlatformError } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { loadavg } from "node:os"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as RipgrepSearch from "../adapters/node-search/RipgrepSearch.ts"
import * as ThreadSearch from "../adapters/node-search/ThreadSearch.ts"
import type { BadPattern, Search, SearchFailed } from "../src/search/Search.ts"
import { longestTurn } from "../test/adapters/turns.ts"
import { median } from "./measure.ts"

const files = Number(process.argv[2] ?? 100_000)
const rounds = Number(process.argv[3] ?? 5)

/** A common word ends where counting ends. */
const patterns = {
  "a rare word": "needle in the hay",
  "a class and its base": "class \\w+ extends Base7\\w+",
  "in any case": "(?i)todo|fixme",
  "nothing": "there is no such line",
  "words apart": "\\bneedle\\b.*\\bhay\\b",
  "no text at all": "[0-9]{9}",
  "either of three": "Part33\\w*|Base999|needle",
  "a common word": "compute"
}

/** About 1 to 8 KB of what could be code; every file is another one. */
const source = (index: number): string =>
  Array.from({ length: 20 + (index * 37) % 160 }, (_, line) =>
    line === index % 20 && index % 50 === 0
      ? "// TODO find the needle in the hay"
      : line % 10 === 0 && index % 20 === 0
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
  yield* write("node_modules", files / 10)
  yield* fs.makeDirectory(path.join(root, ".git"))
  yield* fs.writeFileString(path.join(root, ".gitignore"), "node_modules/\n*.log\ndist\n")
  return root
})

const bench = Effect.gen(function*() {
  const root = yield* makeTree
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const place = { target: root, top: root, limit: 100 }
  const search = (by: Search["Service"], all: ReadonlyArray<string>) =>
    Effect.map(by.lines({ patterns: all, ...place }), (found) => found.reduce((sum, { total }) => sum + total, 0))

  const delay = monitorEventLoopDelay({ resolution: 1 })
  /** Time in ms, what was found, and the longest that the event loop was held up, in ms. */
  const time = Effect.fnUntraced(
    function*(work: Effect.Effect<number, PlatformError.PlatformError | BadPattern | SearchFailed>) {
      delay.reset()
      delay.enable()
      const before = performance.now()
      const found = yield* work
      const took = performance.now() - before
      delay.disable()
      return { took, found, held: delay.max / 1e6 }
    }
  )

  yield* Console.log(`${files} files, medians of ${rounds} rounds; load ${load()}`)
  const thread = yield* ThreadSearch.make
  const first = yield* time(Effect.map(thread.files({ pattern: "none", ...place }), ({ total }) => total))
  yield* Console.log(`a first search, with the start of its thread: ${first.took.toFixed(0)} ms`)
  const ripgrep = yield* RipgrepSearch.make("rg")
  // Into a file: what it prints is to cost whoever reads it nothing.
  const itself = (all: ReadonlyArray<string>) =>
    Effect.as(
      spawner.exitCode(
        ChildProcess.make("sh", [
          "-c",
          "exec rg --line-number \"$@\" ./ >../bench-search-output",
          "rg",
          ...all.flatMap((pattern) => ["--regexp", pattern])
        ], { cwd: root, stdin: "ignore", stderr: "ignore" })
      ),
      0
    )

  const compare = Effect.fnUntraced(function*(what: string, all: ReadonlyArray<string>) {
    const ways = { itself: itself(all), ripgrep: search(ripgrep, all), thread: search(thread, all) }
    const seen: Record<keyof typeof ways, Array<Effect.Success<ReturnType<typeof time>>>> = {
      itself: [],
      ripgrep: [],
      thread: []
    }
    for (const way of Object.values(ways)) yield* way // the first of each is slower
    for (let round = 0; round < rounds; round++) {
      for (const way of ["itself", "ripgrep", "thread"] as const) seen[way].push(yield* time(ways[way]))
    }
    const own = median(seen.itself.map(({ took }) => took))
    const turns = {
      itself: 0,
      ripgrep: (yield* longestTurn(ways.ripgrep)).longest,
      thread: (yield* longestTurn(ways.thread)).longest
    }
    const column = (way: keyof typeof ways) => {
      const took = median(seen[way].map(({ took }) => took))
      const ratio = way === "itself" ? "" : ` ${(took / own).toFixed(2).padStart(5)} x`
      const held = Math.max(...seen[way].map(({ held }) => held))
      const turn = way === "itself" ? "" : `/${turns[way].toFixed(0).padStart(2)}`
      return `${took.toFixed(0).padStart(6)} ms${ratio}, ${held.toFixed(0).padStart(3)}${turn} ms`
    }
    const found = new Set([...seen.ripgrep, ...seen.thread].map(({ found }) => found))
    yield* Console.log(
      `${what.padEnd(22)} ${[...found].join(" or ").padStart(6)} found   rg${column("itself")}   with it${
        column("ripgrep")
      }   without it${column("thread")}`
    )
  })
  yield* Console.log(
    "after each time: the longest that the event loop was late, and after the / how much of CPU time its longest turn took; beside rg itself this process is idle, and what is late is the machine"
  )
  for (const [what, pattern] of Object.entries(patterns)) yield* compare(what, [pattern])
  yield* compare("all but the last", Object.values(patterns).slice(0, -1))
  yield* Console.log(`load ${load()}`)
})

const load = () => loadavg().map((one) => one.toFixed(1)).join(" ")

bench.pipe(Effect.scoped, Effect.provide(NodeServices.layer), NodeRuntime.runMain)
