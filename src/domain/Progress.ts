/** How far a mission is: counted, never guessed. */
import { formatDuration } from "./Task.ts"

/** How far the plan is: what is worth saying changes with it. */
export type Level = "early" | "building" | "finishing"

export interface Count {
  readonly done: number
  readonly total: number
}

/** Early below 30 %, building up to 70 %, finishing above; undefined without anything to count. */
export const levelOf = ({ done, total }: Count): Level | undefined => {
  if (total <= 0) return undefined
  if (done < 0.3 * total) return "early"
  return done <= 0.7 * total ? "building" : "finishing"
}

export interface Snapshot extends Count {
  /** Epoch ms. */
  readonly at: number
  /** What is counted: steps of the plan, or tasks while there is no plan. */
  readonly unit: "steps" | "tasks"
  readonly running: number
}

/**
 * The snapshots with one more, the oldest beyond `limit` left out. While nothing changes the newest one is kept: time
 * alone is no news.
 */
export const addSnapshot = (
  snapshots: ReadonlyArray<Snapshot>,
  next: Snapshot,
  limit: number
): ReadonlyArray<Snapshot> => {
  const last = snapshots.at(-1)
  const isNews = last === undefined || last.done !== next.done || last.total !== next.total || last.unit !== next.unit
    || last.running !== next.running
  return isNews ? [...snapshots, next].slice(-limit) : snapshots
}

/**
 * What is left at the rate so far, in ms from now; undefined while there is no rate: nothing has been finished since the
 * counting began, or what is counted has just changed.
 */
export const remaining = (snapshots: ReadonlyArray<Snapshot>, now: number): number | undefined => {
  const last = snapshots.at(-1)
  if (last === undefined || last.total <= last.done) return undefined
  const from = snapshots.findLastIndex(({ unit }) => unit !== last.unit) + 1
  const first = snapshots[from]
  if (first === undefined || last.done <= first.done || now <= first.at) return undefined
  return (last.total - last.done) * (now - first.at) / (last.done - first.done)
}

export interface BarParts extends Count {
  readonly running: number
  /** Since the mission's first task or step; ms. */
  readonly elapsed: number
  readonly remaining: number | undefined
}

/** One line such as `[#####-----] 5/10 · 3 running · 12 min · about 10 min left`. */
export const formatBar = ({ done, elapsed, remaining, running, total }: BarParts): string => {
  const counted = Math.max(0, Math.min(done, total))
  const marks = total <= 0 ? 0 : Math.floor(barLength * counted / total)
  return [
    ...(total <= 0 ? [] : [`[${"#".repeat(marks)}${"-".repeat(barLength - marks)}] ${counted}/${total}`]),
    ...(running > 0 ? [`${running} running`] : []),
    roughly(elapsed),
    ...(remaining === undefined ? [] : [`about ${roughly(remaining)} left`])
  ].join(" · ")
}

const barLength = 10

/** From a minute on without the seconds, from ten hours on without the minutes. */
const roughly = (ms: number): string => {
  const unit = ms < 60_000 ? 1_000 : ms < 36_000_000 ? 60_000 : 3_600_000
  return formatDuration(Math.max(unit, Math.round(ms / unit) * unit))
}
