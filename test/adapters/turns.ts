/** How long the event loop is held up by what is measured: by this thread's CPU time, for which other processes do not count. */
import { Effect } from "effect"

const cpu = () => {
  const { system, user } = process.threadCpuUsage()
  return (system + user) / 1_000
}

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
