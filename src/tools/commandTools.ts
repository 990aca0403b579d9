/** The tools that drive background commands. */
import { Clock, Duration, Effect, Schema } from "effect"
import { BackgroundCommands } from "../commands/BackgroundCommands.ts"
import { Config } from "../Config.ts"
import { type Command, commandLine, CommandState, hasEnded } from "../domain/Command.ts"
import { formatDuration } from "../domain/Task.ts"
import { cutMiddle, lastLines } from "../domain/Text.ts"
import * as Tool from "./Tool.ts"

const millis = Duration.toMillis
const text = (description: string) => Schema.String.annotate({ description })
const taskId = text("The id of a command, such as job_ab12cd34ef.")

const whole = (minimum: number, maximum: number, description: string) => {
  const message = `a whole number from ${minimum} to ${maximum}`
  return Schema.Int.check(Schema.isBetween({ minimum, maximum }, { message })).annotate({ description })
}

/** Lines shown when none are asked for, and characters shown at most. */
const shownLines = 50
const shownCharacters = 20_000

export const makeCommandTools = Effect.gen(function*() {
  const commands = yield* BackgroundCommands
  const config = yield* Config

  const runBackground = Tool.make({
    name: "run_background",
    description:
      "Starts a shell command that runs beside you, such as a long test run or a server, and gives its id at once. You are "
      + "told of its end by a message, while you work. When your own task ends, it is stopped: if you need what comes of "
      + "it, check it before you finish.",
    parameters: Schema.Struct({
      command: text("A line for the shell (bash, where there is one)."),
      cwd: Schema.optionalKey(text("The folder to run it in; without it the project's root.")),
      timeout: Schema.optionalKey(whole(
        1,
        2_000_000_000,
        `The longest it may run, in ms. Without it ${formatDuration(millis(config.commands.timeLimit))}; at most ${
          formatDuration(millis(config.commands.maxTimeLimit))
        }.`
      )),
      label: Schema.optionalKey(text("What it is for, in 3 to 8 words, for people."))
    }),
    handler: Effect.fnUntraced(function*(args, caller) {
      const command = yield* commands.run(args, caller)
      if (hasEnded(command)) return commandLine(command, yield* Clock.currentTimeMillis)
      const limit = args.timeout !== undefined && args.timeout > command.timeLimit ? ", which is the most" : ""
      return `${command.id} started. It is stopped after ${formatDuration(command.timeLimit)}${limit}. `
        + (command.session === command.mission
          ? "You will be told of its end."
          : "You are told of its end while you work; it is stopped when you finish.")
    })
  })

  const checkBackground = Tool.make({
    name: "check_background",
    description: "What has become of a background command, and the last lines it has printed.",
    parameters: Schema.Struct({
      taskId,
      tailLines: Schema.optionalKey(whole(1, 2_000, `How many lines; without it ${shownLines}.`))
    }),
    handler: Effect.fnUntraced(function*({ tailLines = shownLines, taskId }, caller) {
      const { command, log, output } = yield* commands.check(taskId, caller.session)
      const printed = lastLines(output.trimEnd(), tailLines)
      const shown = printed.trim() === "" ? "(no output)" : cutMiddle(printed, shownCharacters)
      const isAll = printed.length >= output.trimEnd().length && printed.length <= shownCharacters
      return [
        commandLine(command, yield* Clock.currentTimeMillis),
        ...(isAll ? [] : [`The last lines; all of it is in ${log}.`]),
        shown
      ].join("\n")
    })
  })

  const listBackground = Tool.make({
    name: "list_background",
    description: "The background commands of this mission: state, time, what they are for.",
    parameters: Schema.Struct({
      status: Schema.optionalKey(CommandState.annotate({ description: "Only commands in this state." }))
    }),
    handler: Effect.fnUntraced(function*({ status }, caller) {
      const all = yield* commands.list(caller.session)
      const shown = status === undefined ? all : all.filter((command) => command.state === status)
      if (shown.length === 0) {
        return status === undefined ? "There are no commands." : `There are no commands that are ${status}.`
      }
      const now = yield* Clock.currentTimeMillis
      const line = (command: Command) =>
        `${commandLine(command, now)} · ${command.session === caller.session ? "yours" : command.agent}`
      return [`${shown.length === 1 ? "1 command" : `${shown.length} commands`}:`, ...shown.map(line)].join("\n")
    })
  })

  const killBackground = Tool.make({
    name: "kill_background",
    description: "Stops a background command with everything it has started.",
    parameters: Schema.Struct({ taskId }),
    handler: Effect.fnUntraced(function*({ taskId }, caller) {
      const { command, ran } = yield* commands.kill(taskId, caller.session, `${caller.agent} stopped it`)
      const line = commandLine(command, yield* Clock.currentTimeMillis)
      return ran ? line : `${line}\nIt had ended already; nothing to stop.`
    })
  })

  const tools: ReadonlyArray<Tool.Tool> = [runBackground, checkBackground, listBackground, killBackground]
  return tools
})
