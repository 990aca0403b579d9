/** How long the event loop is held up by what is measured: by this thread's CPU time, for which other processes do not count. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"

const cpu = () => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1_000
}

/** Times that it is tried: what the code itself holds, it holds each time; a busy machine slows one of them down. */
const tries = 3

/** What an effect comes to, when no turn of the event loop meanwhile takes `limit` ms. It keeps a core busy. */
export const holdsBelow = <A, E, R>(limit: number, effect: Effect.Effect<A, E, R>, what: string) =>
  Effect.gen(function*() {
    let least = Infinity
    for (let n = 0; n < tries; n++) {
      const { longest, result } = yield* longestTurn(effect)
      if (longest < limit) return result
      least = Math.min(least, longest)
    }
    return assert.fail(`${what}: the event loop was held for ${least} ms, each of ${tries} times`)
  })

/** What an effect comes to, and the longest turn of the event loop meanwhile, in ms. It keeps a core busy. */
export const longestTurn = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    let longest = 0
    let last = cpu()
    const look = () => {
      const now = cpu()
      longest = Math.max(longest, now - last)
      last = now
    }
    let timer = setImmediate(function turn() {
      look()
      timer = setImmediate(turn)
    })
    const result = yield* Effect.ensuring(effect, Effect.sync(() => clearImmediate(timer)))
    look()
    return { result, longest }
  })
