/** The port to the person: short messages that appear and vanish. Showing one never fails and never blocks work. */
import { Context, type Effect } from "effect"
import { endWords, formatDuration, isSettled, type Task } from "../domain/Task.ts"

export interface Toast {
  readonly variant: "info" | "success" | "warning" | "error"
  readonly title: string
  readonly message: string
}

export class Notifier extends Context.Service<Notifier, {
  readonly show: (toast: Toast) => Effect.Effect<void>
}>()("orchestrator/host/Notifier") {}

const toast = (variant: Toast["variant"], title: string, message: string): Toast => ({ variant, title, message })

/** Every message the orchestrator shows, in one place. */
export const presets = {
  missionStarted: (goal: string) => toast("info", "Mission started", clip(goal)),
  missionComplete: (after: number, used: string) =>
    toast("success", "Mission complete", `Done after ${formatDuration(after)}. Used: ${used}.`),
  missionStopped: () =>
    toast("warning", "Mission stopped", "You aborted it: its agents were stopped. Write to the Commander to go on."),
  missionHalted: (reason: string) => toast("error", "Mission halted", `${reason} Write to the Commander to go on.`),
  missionMends: (says: string) => toast("warning", "The Commander's turn failed", clip(says)),
  missionContinues: (progress: string, instruction: number, limit: number) =>
    toast(
      "info",
      "Commander goes on",
      clip(`It was told to go on, ${instruction} of ${limit} times without progress. ${progress}`)
    ),
  budgetNear: (used: string) => toast("warning", "Budget runs short", `${used}. The Commander was told.`),
  windingUp: (used: string) =>
    toast("warning", "Budget used up", `${used}. Its agents finish what they can, then the Commander sums up.`),
  missionOutOfBudget: (why: string) =>
    toast(
      "error",
      "Mission out of budget",
      `${why} To go on, type /resume with new limits, such as /resume cost=20 time=2h.`
    ),
  sessionCreated: (task: Task) => toast("info", `${task.agent} started`, clip(task.description)),
  taskCompleted: (task: Task) => toast("success", `${task.agent} completed`, clip(task.description)),
  taskFailed: (task: Task) =>
    toast(
      "error",
      `${task.agent} ${isSettled(task) ? endWords[task.state] : task.state}`,
      clip(`${task.description}: ${task.reason ?? ""}`)
    ),
  runAgain: (tasks: ReadonlyArray<string>, why: string) =>
    toast("warning", "Run again", clip(`${tasks.join(", ")}: ${why}`)),
  asking: (task: Task) =>
    toast("warning", `${task.agent} asks you`, clip(`${task.description}: answer in its session, or it waits.`)),
  stalled: (task: Task, what: string) =>
    toast("warning", `${task.agent} is silent`, clip(`${task.description}: ${what}`)),
  mending: (task: Task, says: string) =>
    toast("warning", `${task.agent} was held up`, clip(`${task.description}: ${says}`)),
  journalFailed: (why: string, goesOn: boolean) =>
    toast(
      "error",
      "Tasks cannot be recorded",
      goesOn
        ? `${clip(why)}: what happens from now on would not survive a restart.`
        : `${
          clip(why)
        }: no new task is started until that is mended. Running ones go on, but would not survive a restart.`
    ),
  journalLost: toast(
    "error",
    "Tasks were taken over",
    "Another OpenCode took this one for dead and works on its tasks. Restart this one before you start new ones here."
  ),
  journalDamaged: (count: number, file: string) =>
    toast(
      "warning",
      "A journal was damaged",
      `${count === 1 ? "1 record" : `${count} records`} of an earlier run could not be read; kept in ${file}.`
    ),
  journalUnknown: (file: string) =>
    toast(
      "warning",
      "A journal of another release",
      `It cannot be read by this one. It is kept as ${file}; start the release that wrote it to go on with its tasks.`
    ),
  recovered: (summary: string) => toast("info", "Picked up after a restart", clip(summary)),
  recoverable: (foreign: boolean) =>
    toast(
      "warning",
      "Unfinished tasks",
      foreign
        ? "The project holds unfinished tasks from another machine. Type /resume to go on with them, if you trust their origin."
        : "An earlier OpenCode left unfinished tasks here. Type /resume to go on with them."
    ),
  configProblem: (problems: ReadonlyArray<string>) => toast("warning", "Orchestrator config", problems.join("\n")),
  internalFailure: (where: string, detail: string) =>
    toast("error", "Orchestrator", clip(`${where} failed: ${detail}. The session goes on without it.`))
}

const clip = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= 200 ? line : `${line.slice(0, 199)}…`
}
