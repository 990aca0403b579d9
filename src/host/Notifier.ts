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
  missionComplete: (after: number) => toast("success", "Mission complete", `Done after ${formatDuration(after)}.`),
  missionStopped: () =>
    toast("warning", "Mission stopped", "You aborted it: its agents were stopped. Write to the Commander to go on."),
  missionHalted: (reason: string) => toast("error", "Mission halted", `${reason} Write to the Commander to go on.`),
  sessionCreated: (task: Task) => toast("info", `${task.agent} started`, clip(task.description)),
  taskCompleted: (task: Task) => toast("success", `${task.agent} completed`, clip(task.description)),
  taskFailed: (task: Task) =>
    toast(
      "error",
      `${task.agent} ${isSettled(task) ? endWords[task.state] : task.state}`,
      clip(`${task.description}: ${task.reason ?? ""}`)
    ),
  asking: (task: Task) =>
    toast("warning", `${task.agent} asks you`, clip(`${task.description}: answer in its session, or it waits.`)),
  configProblem: (problems: ReadonlyArray<string>) => toast("warning", "Orchestrator config", problems.join("\n")),
  internalFailure: (where: string, detail: string) =>
    toast("error", "Orchestrator", clip(`${where} failed: ${detail}. The session goes on without it.`))
}

const clip = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= 200 ? line : `${line.slice(0, 199)}…`
}
