/**
 * The time of a simulated mission. It stands still until it is told to pass, and then jumps from one sleeper to the next
 * once all that the last one has set off has come to rest. As effect's TestClock, without its timers, races and warnings,
 * which cost more than a sixth of a mission. Nothing that runs in it may wait for the real world.
 */
import { type Clock, Duration, Effect, Scheduler } from "effect"

export interface VirtualTime {
  readonly clock: Clock.Clock
  /** All fibers of the mission run on it, in the order in which they became ready. */
  readonly scheduler: Scheduler.Scheduler
  /** Lets so many ms pass. By one fiber at a time. */
  readonly pass: (ms: number) => Effect.Effect<void>
}

interface Sleeper {
  readonly at: number
  readonly wake: () => void
}

export const make = (): VirtualTime => {
  let now = 0
  /** The next to wake stands last; of those that wake at once, the one that came first. */
  const sleepers: Array<Sleeper> = []
  let ready: Array<() => void> = []
  let isRunning = false
  let passing: { readonly until: number; readonly done: () => void } | undefined

  /** What has become ready, and what that makes ready, until nothing is. */
  const settle = () => {
    while (ready.length > 0) {
      const tasks = ready
      ready = []
      for (const task of tasks) task()
    }
  }

  /** The next sleeper that wakes while time passes. */
  const due = () => {
    const next = sleepers.at(-1)
    return passing !== undefined && next !== undefined && next.at <= passing.until ? sleepers.pop() : undefined
  }

  const run = () => {
    settle()
    for (let next = due(); next !== undefined; next = due()) {
      now = next.at
      next.wake()
      settle()
    }
    isRunning = false
    if (passing === undefined) return
    const { done, until } = passing
    passing = undefined
    now = until
    done() // what follows begins another turn of the event loop
  }

  const start = () => {
    isRunning = true
    setImmediate(run)
  }

  const dispatcher: Scheduler.SchedulerDispatcher = {
    scheduleTask: (task) => {
      ready.push(task)
      if (!isRunning) start()
    },
    flush: settle
  }

  const sleep = (duration: Duration.Duration) =>
    Effect.callback<void>((resume) => {
      const ms = Duration.toMillis(duration)
      if (ms <= 0) return resume(Effect.void)
      const sleeper: Sleeper = { at: now + ms, wake: () => resume(Effect.void) }
      let low = 0
      for (let high = sleepers.length; low < high;) {
        const middle = (low + high) >>> 1
        const other = sleepers[middle]
        if (other !== undefined && other.at > sleeper.at) low = middle + 1
        else high = middle
      }
      sleepers.splice(low, 0, sleeper)
      return Effect.sync(() => {
        const place = sleepers.indexOf(sleeper)
        if (place >= 0) sleepers.splice(place, 1)
      })
    })

  const nanos = () => BigInt(Math.round(now * 1_000_000))
  return {
    clock: {
      currentTimeMillisUnsafe: () => now,
      currentTimeMillis: Effect.sync(() => now),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: nanos,
      monotonicTimeNanos: Effect.sync(nanos),
      sleep
    },
    scheduler: {
      executionMode: "async",
      shouldYield: ({ currentOpCount }) => currentOpCount >= opsBeforeYield,
      makeDispatcher: () => dispatcher
    },
    pass: (ms) =>
      Effect.callback<void>((resume) => {
        passing = { until: now + ms, done: () => resume(Effect.void) }
        if (!isRunning) start()
      })
  }
}

/** As effect's own. */
const opsBeforeYield = 2048
