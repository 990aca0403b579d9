/** The search port without any program besides: each search has a thread to itself, and whoever stops it stops that. */
import { Effect, Layer, type Scope, Semaphore } from "effect"
import type { Worker } from "node:worker_threads"
import { BadPattern, Search, SearchFailed } from "../../src/search/Search.ts"
import type { ScanAnswer, ScanRequest } from "./scan.ts"
import { start } from "./searchThread.ts"

/** How many searches run at once; further ones wait. */
export const atOnce = 4
/** How long a thread is kept for the next search: agents search in bursts, and starting one takes a tenth of a second. */
const idleTime = "30 seconds"

export const make: Effect.Effect<Search["Service"], never, Scope.Scope> = Effect.gen(function*() {
  const scope = yield* Effect.scope
  const room = yield* Semaphore.make(atOnce)
  /** Threads without work, and since which search of theirs. */
  const idle = new Map<Worker, object>()

  // Also where it is still at work: nothing else would stop it.
  const end = (worker: Worker) => Effect.promise(() => worker.terminate())
  yield* Effect.addFinalizer(() => Effect.forEach(idle.keys(), end, { discard: true }))

  const take = Effect.suspend(() => {
    const [worker] = idle.keys()
    if (worker === undefined) {
      return Effect.try({ try: start, catch: (error) => new SearchFailed({ reason: String(error) }) })
    }
    idle.delete(worker)
    worker.ref()
    return Effect.succeed(worker)
  })

  const keep = (worker: Worker) =>
    Effect.suspend(() => {
      const search = {}
      idle.set(worker, search)
      worker.unref() // an idle one does not keep the process from ending
      const retire = Effect.suspend(() =>
        idle.get(worker) === search && idle.delete(worker) ? end(worker) : Effect.void
      )
      return Effect.forkIn(Effect.delay(retire, idleTime), scope)
    })

  const run = (request: ScanRequest) =>
    room.withPermit(Effect.acquireUseRelease(
      take,
      (worker) => ask(worker, request),
      (worker, exit) => exit._tag === "Success" ? keep(worker) : end(worker)
    ))

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

/** One search. A thread that was left before it has answered is of no more use. */
const ask = (worker: Worker, request: ScanRequest) =>
  Effect.callback<ScanAnswer, SearchFailed>((resume) => {
    const finish = (result: Effect.Effect<ScanAnswer, SearchFailed>) => {
      worker.off("message", onMessage).off("error", onError).off("exit", onExit)
      resume(result)
    }
    const fail = (reason: string) => finish(Effect.fail(new SearchFailed({ reason })))
    const onMessage = (answer: ScanAnswer) => finish(Effect.succeed(answer)) // what `scan` returned, of this very build
    const onError = (error: Error) => fail(error.message)
    const onExit = () => fail("its thread has ended")
    worker.on("message", onMessage).on("error", onError).on("exit", onExit)
    // One that has ended while nobody listened has no number any more.
    if (worker.threadId < 0) onExit()
    else worker.postMessage(request)
  })
