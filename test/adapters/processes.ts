/** The system's processes, as tests look at them. Linux only. */
import { Effect, Schedule } from "effect"
import { readdirSync, readFileSync } from "node:fs"

const pids = () => readdirSync("/proc").filter((name) => /^\d+$/.test(name))

/** How many living processes have exactly this command line. */
export const living = (line: string): number =>
  pids().filter((pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
      const isZombie = stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")
      return !isZombie && readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim() === line
    } catch {
      return false // it has gone meanwhile
    }
  }).length

/** The memory of a process, in bytes. */
export const memoryOf = (pid: number): number =>
  1_024 * Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0)

/** Waits until it holds; the time limit of the test ends the wait. */
export const until = <E, R>(condition: Effect.Effect<boolean, E, R>): Effect.Effect<boolean, E, R> =>
  Effect.repeat(condition, { until: (holds) => holds, schedule: Schedule.spaced("30 millis") })

export const untilLiving = (line: string, count: number) => until(Effect.sync(() => living(line) === count))

let naps = 0
/** A `sleep` that nobody else sleeps. */
export const nap = (): string => `sleep ${100_000 + (process.pid % 10_000) * 80 + naps++}`
