/** The search port without any program besides: every search on a thread of its own, which ends with it. */
import { Effect, Layer, Semaphore } from "effect"
import { BadPattern, Search, SearchFailed } from "../../src/search/Search.ts"
import type { ScanAnswer, ScanRequest } from "./scan.ts"
import { start } from "./searchThread.ts"

/** How many searches run at once; further ones wait. */
const threads = 4

export const make: Effect.Effect<Search["Service"]> = Effect.gen(function*() {
  const room = yield* Semaphore.make(threads)

  const run = (request: ScanRequest) =>
    Effect.acquireUseRelease(
      Effect.try({ try: () => start(request), catch: (error) => new SearchFailed({ reason: String(error) }) }),
      (worker) =>
        Effect.callback<ScanAnswer, SearchFailed>((resume) => {
          const fail = (reason: string) => resume(Effect.fail(new SearchFailed({ reason })))
          worker.once("message", (answer: ScanAnswer) => resume(Effect.succeed(answer))) // what `scan` returned, of this very build
          worker.once("error", (error) => fail(error.message))
          worker.once("exit", (code) => fail(`its thread ended with ${code}`))
        }),
      // Also where it still runs: nothing but this stops a thread that is at work.
      (worker) => Effect.promise(() => worker.terminate())
    ).pipe(room.withPermit)

  const unexpected = new SearchFailed({ reason: "its thread gave another answer" })

  return Search.of({
    lines: Effect.fn("Search.lines")(function*(query) {
      const answer = yield* run({ lines: query })
      if ("bad" in answer) return yield* new BadPattern(answer.bad)
      return "lines" in answer ? answer.lines : yield* unexpected
    }),
    files: Effect.fn("Search.files")(function*(query) {
      const answer = yield* run({ files: query })
      if ("bad" in answer) return yield* new BadPattern(answer.bad)
      return "files" in answer ? answer.files : yield* unexpected
    })
  })
})

export const layer: Layer.Layer<Search> = Layer.effect(Search, make)
