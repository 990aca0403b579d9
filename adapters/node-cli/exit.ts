/** How a command ends: its exit code, and one sentence for the person who ran it. */
import { Effect, Runtime, Schema } from "effect"
import { CliError } from "effect/cli"

export const exitCodes = {
  complete: 0,
  failed: 1,
  usage: 2,
  outOfBudget: 3,
  stagnated: 4,
  hostUnavailable: 5,
  interrupted: 130
} as const
export const ExitCode = Schema.Literals(Object.values(exitCodes))
export type ExitCode = typeof ExitCode.Type

/** Ends the command with a code; `reason` says what is wrong, and what to do about it. */
export class CommandFailed extends Schema.TaggedError<CommandFailed>()("CommandFailed", {
  exit: ExitCode,
  reason: Schema.String
}) {
  override get message() {
    return this.reason
  }
  override get [CliError.userMessage]() {
    return this.reason
  }
  override get [Runtime.errorExitCode]() {
    return this.exit
  }
}

/** Everything was said already; what is left is the code. */
export class Ended extends Schema.TaggedError<Ended>()("Ended", { exit: ExitCode }) {
  override get [Runtime.errorExitCode]() {
    return this.exit
  }
  override get [Runtime.errorReported]() {
    return false
  }
}

export const usage = (reason: string) => new CommandFailed({ exit: exitCodes.usage, reason })
export const unavailable = (reason: string) => new CommandFailed({ exit: exitCodes.hostUnavailable, reason })

/** Whatever went wrong, as an end of the command. */
export const asFailure = <A, E extends Error, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, CommandFailed | Ended, R> =>
  Effect.mapError(effect, (error: Error) => {
    if (Schema.is(CommandFailed)(error) || Schema.is(Ended)(error)) return error
    const isHost = Schema.is(Schema.TaggedStruct("HostUnavailable", {}))(error)
    return new CommandFailed({
      exit: isHost ? exitCodes.hostUnavailable : exitCodes.failed,
      reason: error.message.split("\n")[0] || error.name
    })
  })
