/** Missions and their tasks as lines for a terminal. */
import { type Amounts, formatCount } from "../../src/domain/Budget.ts"
import { formatBar } from "../../src/domain/Progress.ts"
import { budgetLine, stateLine } from "../../src/domain/Report.ts"
import { totalTokens } from "../../src/domain/Session.ts"
import { describeTask, duration, formatDuration, isSettled, type Task, type TaskState } from "../../src/domain/Task.ts"
import { asTree } from "../../src/domain/TaskTree.ts"
import { colours, printable, type Tone } from "./lines.ts"
import type { Group } from "./project.ts"

export interface Line {
  readonly text: string
  readonly tone: Tone
}

/** The indent is ours; the rest may have been written by an agent. */
const line = (text: string, tone: Tone = "plain"): Line => {
  const rest = text.trimStart()
  return { text: " ".repeat(text.length - rest.length) + printable(rest.replace(turns, "")), tone }
}

/** Characters that turn the direction of the text. */
const turns = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g

/** A line that is longer than the terminal would break the view. */
export const paint = ({ text, tone }: Line, canColor: boolean, width = Infinity): string => {
  const shown = clip(text, width)
  return canColor && tone !== "plain" ? `\u001b[${colours[tone]}m${shown}\u001b[0m` : shown
}

/** The beginning of a text that takes so many columns. */
const clip = (text: string, width: number): string => {
  if (2 * text.length <= width) return text
  let used = 0
  let end = 0
  for (const character of text) {
    const columns = wide.test(character) ? 2 : 1
    // The mark takes a column, unless this is the last character.
    if (used + columns > width - (end + character.length < text.length ? 1 : 0)) return `${text.slice(0, end)}…`
    used += columns
    end += character.length
  }
  return text
}

const columnsOf = (text: string): number =>
  Array.from(text).reduce((sum, character) => sum + (wide.test(character) ? 2 : 1), 0)

/** What terminals draw in two columns: East Asian scripts and most pictures. */
const wide =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u

const toneOf: Readonly<Record<TaskState, Tone>> = {
  queued: "dim",
  launching: "info",
  running: "info",
  completed: "success",
  failed: "error",
  cancelled: "dim",
  timed_out: "warning"
}

export const missionTone = ({ isUnattended, mission }: Group): Tone => {
  if (isUnattended) return "warning"
  switch (mission?.state) {
    case "complete":
      return "success"
    case "halted":
      return "error"
    case "out_of_budget":
      return "warning"
    default:
      return "plain"
  }
}

/** Id, state, age and the goal's first line. */
export const missionHead = (group: Group, now: number): Line => {
  const { mission, root, tasks } = group
  const since = mission?.startedAt ?? tasks[0]?.createdAt ?? now
  const goal = mission?.goal.trim().split("\n")[0] ?? "tasks without a mission"
  const state = mission?.state.replaceAll("_", " ") ?? (group.isOpen ? "open" : "over")
  const nobody = group.isUnattended ? " (no OpenCode works on it now)" : ""
  return line(`${root} ${state}${nobody} · ${formatDuration(now - since)} old · ${goal}`, missionTone(group))
}

/** The head, why it ended, and what was spent of which limits, which takes several lines where they are short. */
export const missionEntry = (group: Group, limits: Amounts, now: number, width = Infinity): ReadonlyArray<Line> => {
  const { mission } = group
  return [
    missionHead(group, now),
    ...(mission?.why === undefined ? [] : [line(`  ${stateLine(mission)}`)]),
    ...(mission === undefined ? [] : folded(budgetLine(mission, limits, now), width).map((text) => line(text, "dim")))
  ]
}

/** Broken between its parts. */
const folded = (text: string, width: number): ReadonlyArray<string> => {
  const lines: Array<string> = []
  for (const part of text.split(" · ")) {
    const longer = `${lines.at(-1)} · ${part}`
    if (lines.length > 0 && columnsOf(longer) <= width) lines.splice(-1, 1, longer)
    else lines.push(`  ${part}`)
  }
  return lines
}

/**
 * Each task below the one that delegated it, with its age. Where there is not room for all, the description is cut;
 * where that is not enough, who works, how long, for how much and how lately comes first.
 */
export const taskLines = (tasks: ReadonlyArray<Task>, now: number, width = Infinity): ReadonlyArray<Line> =>
  asTree(tasks).map(({ level, task }) => {
    const since = formatDuration(now - (isSettled(task) ? task.endedAt ?? now : task.activityAt))
    const indent = `${"  ".repeat(level + 1)}- `
    const whole = (description: string) =>
      `${indent}${describeTask({ ...task, description }, now, undefined)} · ${
        isSettled(task) ? "ended" : "active"
      } ${since} ago`
    const room = width - columnsOf(line(whole("x")).text) + 1
    if (room >= Math.min(leastDescription, columnsOf(task.description))) {
      return line(whole(clip(printable(task.description), room)), toneOf[task.state])
    }
    const state = task.state === "running" ? "" : `${task.state.replaceAll("_", " ")} `
    const brief = [
      `${indent}${task.agent} ${state}${formatDuration(duration(task, now))}`,
      formatCount(totalTokens(task.usage)),
      `$${task.usage.cost.toFixed(2)}`,
      `${since} ago`,
      task.description,
      task.id
    ]
    return line(brief.join(" · "), toneOf[task.state])
  })

const leastDescription = 16

/** How far a mission's tasks are. */
export const barOf = ({ mission, tasks }: Group, now: number, remaining: number | undefined): Line => {
  const done = tasks.filter(isSettled).length
  const running = tasks.filter((task) => !isSettled(task) && task.state !== "queued").length
  const since = mission?.startedAt ?? tasks[0]?.createdAt ?? now
  return line(`  ${formatBar({ done, total: tasks.length, running, elapsed: now - since, remaining })}`)
}
