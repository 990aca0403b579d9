/** A background command: a process group that an agent has started, and the pure transitions of its life. */
import { Schema } from "effect"
import { Owner } from "../host/Instance.ts"
import { MessageId, SessionId } from "./Session.ts"
import { formatDuration } from "./Task.ts"

/** Part of the name of its log file, so it must not be able to lead elsewhere. */
export const CommandId = Schema.String.check(Schema.isPattern(/^job_[a-z0-9]{1,40}$/)).pipe(Schema.brand("CommandId"))
export type CommandId = typeof CommandId.Type

export const CommandState = Schema.Literals(["starting", "running", "ended"])
export type CommandState = typeof CommandState.Type

/** How the command itself ended: by its own exit, or by a signal. */
export interface CommandExit {
  readonly code?: number
  readonly signal?: string
}

export const Command = Schema.Struct({
  id: CommandId,
  /** The root session of the mission that it belongs to. */
  mission: SessionId,
  /** The session that started it, and is told of its end. */
  session: SessionId,
  agent: Schema.String,
  command: Schema.String,
  /** What it is for, in the agent's words. */
  label: Schema.optionalKey(Schema.String),
  /** The folder that it runs in. */
  cwd: Schema.String,
  /** In ms. */
  timeLimit: Schema.Int,
  state: CommandState,
  /** The first process of its group. */
  leader: Schema.optionalKey(Owner),
  startedAt: Schema.Int,
  endedAt: Schema.optionalKey(Schema.Int),
  code: Schema.optionalKey(Schema.Int),
  signal: Schema.optionalKey(Schema.String),
  /** Why it was stopped, as the end of a sentence; absent when it ended by itself. */
  stopped: Schema.optionalKey(Schema.String),
  /** The last it had to say, without secrets. */
  output: Schema.optionalKey(Schema.String),
  /** The message that tells its session; made and recorded before it is sent. */
  notice: Schema.optionalKey(MessageId),
  /** Its session knows of the end, or will never be able to hear it. */
  told: Schema.Boolean
})
export type Command = typeof Command.Type

export type CommandEvent =
  | { readonly type: "started"; readonly leader: Owner }
  | { readonly type: "ended"; readonly exit: CommandExit; readonly stopped?: string; readonly output: string }
  /** `instead` names an earlier notice that never arrived. */
  | { readonly type: "telling"; readonly notice: MessageId; readonly instead?: MessageId }
  /** Its session knows, or is gone: nothing more is said of it, also when it has not ended yet. */
  | { readonly type: "told" }

export const hasEnded = (command: Command): boolean => command.state === "ended"

/** Ended, and its session still has to hear of it. */
export const isUntoldCommand = (command: Command): boolean => hasEnded(command) && !command.told

/** Decides the next state. Returns the same object when the event changes nothing. */
export const transition = (command: Command, event: CommandEvent, now: number): Command => {
  switch (event.type) {
    case "started":
      return command.state === "starting" ? { ...command, state: "running", leader: event.leader } : command
    case "ended":
      return hasEnded(command) ? command : {
        ...command,
        state: "ended",
        endedAt: now,
        output: event.output,
        ...event.exit,
        ...(event.stopped === undefined ? {} : { stopped: event.stopped })
      }
    case "telling":
      return isUntoldCommand(command) && command.notice === event.instead
        ? { ...command, notice: event.notice }
        : command
    case "told":
      return command.told ? command : { ...command, told: true }
  }
}

/** The first line of every answer about a command: id, what became of it, what it is. */
export const commandLine = (command: Command, now: number): string => {
  const time = formatDuration((command.endedAt ?? now) - command.startedAt)
  return `${command.id} ${fate(command)} ${hasEnded(command) ? "after" : "for"} ${time} · ${nameOf(command)}`
}

const fate = ({ code, signal, state, stopped }: Command): string => {
  if (state === "starting") return "has been starting"
  if (state === "running") return "has been running"
  if (stopped !== undefined) return `was stopped (${stopped})`
  if (signal !== undefined) return `was ended by ${signal}`
  return code === undefined ? "ended" : `ended with exit code ${code}${byShell(code)}`
}

/** A shell reports the signal that ended its command as 128 and its number. */
const byShell = (code: number): string => {
  const signal = signals[code - 128]
  return signal === undefined ? "" : ` (${signal})`
}

const signals: Readonly<Record<number, string>> = {
  1: "SIGHUP",
  2: "SIGINT",
  3: "SIGQUIT",
  4: "SIGILL",
  6: "SIGABRT",
  8: "SIGFPE",
  9: "SIGKILL",
  11: "SIGSEGV",
  13: "SIGPIPE",
  15: "SIGTERM"
}

/** Whether an answer begins with the line of a command that has ended. */
export const tellsEnd = (text: string, id: CommandId): boolean =>
  text.startsWith(`${id} `) && ["ended", "was "].some((word) => text.startsWith(word, id.length + 1))

const nameOf = ({ command, label }: Command): string => {
  const line = (label ?? command).replace(/\s+/g, " ").trim()
  return line.length <= 120 ? line : `${line.slice(0, 119)}…`
}

/** The command with all that was written about it, and by it, changed. */
export const withCommandTexts = (command: Command, change: (text: string) => string): Command => ({
  ...command,
  command: change(command.command),
  ...(command.label === undefined ? {} : { label: change(command.label) }),
  ...(command.output === undefined ? {} : { output: change(command.output) })
})
