import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { spawnSync } from "node:child_process"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as RipgrepSearch from "../../adapters/node-search/RipgrepSearch.ts"
import * as ThreadSearch from "../../adapters/node-search/ThreadSearch.ts"
import { open } from "../contracts/Search.ts"
import { holdsBelow } from "./turns.ts"

const hasRipgrep = spawnSync("rg", ["--version"]).status === 0

const world = Layer.provideMerge(ThreadSearch.layer, NodeServices.layer)

/** How long something takes, and the longest that the event loop was held up meanwhile, ms. */
const observe = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const delay = monitorEventLoopDelay({ resolution: 1 })
    delay.enable()
    const before = performance.now()
    const result = yield* effect
    const took = performance.now() - before
    delay.disable()
    return { result, took, blocked: delay.max / 1e6 }
  })

describe("a search on a thread", () => {
  it.live("does not hold up the event loop, however long it takes", () =>
    Effect.gen(function*() {
      const { grep } = yield* open({
        // One line of which the match is found in some 2,000 steps a character.
        "hostile": "x".repeat(20_000),
        ...Object.fromEntries(
          Array.from({ length: 1_000 }, (_, n) => [`d${n % 40}/e${n % 7}/f${n}.txt`, `line ${n}\n`.repeat(50)])
        )
      })
      yield* grep("the thread has started")
      const { blocked, result, took } = yield* observe(grep("(?:(?:(?:x{1,10}){1,10}){1,10})$"))
      assert.lengthOf(result ?? [], 1)
      // Were it done here, the event loop would wait all that time. What other processes take away is far less.
      assert.isAbove(took, 250)
      assert.isBelow(blocked, Math.max(50, took / 4))
    }).pipe(Effect.provide(world)))
})

describe.skipIf(!hasRipgrep)("a search with ripgrep", () => {
  it.live("does not hold up the event loop, whatever it is to look for and however much it finds", () =>
    Effect.gen(function*() {
      const { grep } = yield* open({
        "few/words": "some words\n",
        "long": "x".repeat(400_000),
        ...Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`f${n}`, `line ${n} of many\n`.repeat(100)]))
      })
      yield* grep("it is found that ripgrep is there")
      const hostile = ["(?:(?:\\w{1,10}){1,10}){1,10}".repeat(33), `${"\\pL{30}|".repeat(100)}a`, "(a?)".repeat(250)]
      for (
        const [pattern, dir] of [
          ["line", ""],
          ["x", ""],
          ...hostile.map((pattern) => [pattern, "few"] as const)
        ] as const
      ) {
        yield* holdsBelow(50, grep(pattern, dir), pattern)
      }
    }).pipe(Effect.provide(Layer.provideMerge(RipgrepSearch.layer(), NodeServices.layer))))
})

describe("a pattern in ripgrep's words", () => {
  it("is about ASCII, and takes what RE2 takes as it stands", () => {
    const table: ReadonlyArray<readonly [string, string]> = [
      ["plain a.c|d*", "plain a.c|d*"],
      ["\\d\\W[\\s\\D]", "[0-9][^0-9A-Za-z_][\\t\\n\\f\\r [^0-9]]"],
      ["\\bx\\B", "(?-u:\\b)x(?-u:\\B)"],
      ["f(x) {2,3}{", "f(x) {2,3}\\{"],
      ["[[a&&b--c~~d]", "[\\[a\\&\\&b-\\-c\\~\\~d]"],
      ["[^]x][[:alpha:]]", "[^]x][[:alpha:]]"],
      ["\\pL\\p{Greek}[\\p{Han}]\\x{10FFFF}", "\\pL\\p{Greek}[\\p{Han}]\\x{10FFFF}"],
      ["\\Qa.{\\Eb", "a\\.\\{b"],
      ["\\/\\\"\\.\\ ", "/\"\\. "]
    ]
    for (const [pattern, words] of table) assert.strictEqual(RipgrepSearch.toRust(pattern), words)
  })
})
