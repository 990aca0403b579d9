/** Prints how a flood is read in the program that runs this: run by `printing.test.ts` in Node and in OpenCode's Bun. */
import { Console, Effect, Schema, Stream } from "effect"
import { spawn } from "node:child_process"
import { spawnPrinting } from "../../adapters/node-process/printing.ts"

export const Flood = Schema.fromJsonString(Schema.Struct({
  total: Schema.Int,
  /** Bytes of the largest piece. */
  largest: Schema.Int,
  /** By which the resident memory of the process has grown at most, bytes. */
  grown: Schema.Int
}))

export const size = 300_000_000

const read = Effect.gen(function*() {
  const { output } = yield* spawnPrinting((stdout) =>
    spawn("/bin/sh", ["-c", `yes 0123456789abcdef | head -c ${size}`], { stdio: ["ignore", stdout, "ignore"] })
  )
  const before = process.memoryUsage().rss
  const flood = { total: 0, largest: 0, grown: 0 }
  yield* Stream.runForEach(output, ({ length }) =>
    Effect.suspend(() => {
      flood.total += length
      flood.largest = Math.max(flood.largest, length)
      flood.grown = Math.max(flood.grown, process.memoryUsage().rss - before)
      return Effect.yieldNow // what reads it is slower than what prints it
    }))
  yield* Console.log(yield* Schema.encodeEffect(Flood)(flood))
}).pipe(Effect.scoped)

if (import.meta.main) await Effect.runPromise(read)
