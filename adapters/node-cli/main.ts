/** The command line: `opencode-orchestrator`. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Exit, Option, Runtime } from "effect"
import { CliError, Command } from "effect/cli"
import { demo } from "./demo.ts"
import { doctor } from "./doctor.ts"
import { exitCodes } from "./exit.ts"
import { init } from "./init.ts"
import { logs } from "./logs.ts"
import { packageRoot } from "./packageRoot.ts"
import { report } from "./report.ts"
import { run } from "./run.ts"
import { cancel, missions, tasks } from "./views.ts"
import { watch } from "./watch.ts"

const root = Command.make("opencode-orchestrator").pipe(
  Command.withDescription(
    "Give OpenCode one goal and walk away: parallel agents under a Commander that sees it through."
  ),
  Command.withSubcommands([run, tasks, missions, watch, cancel, report, logs, init, doctor, demo])
)

/** The command line itself could not be understood; help was shown. */
const isUsageError = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const error = Exit.findErrorOption(exit)
  return Option.isSome(error) && CliError.isCliError(error.value) && error.value._tag === "ShowHelp"
    && error.value.errors.length > 0
}

/** Read as a row of one-letter options, a goal is answered with a complaint about each letter. */
const hint = (error: unknown) => {
  const [, , command = "", ...rest] = process.argv
  const goal = command !== "run" ? undefined : rest.find((arg) => /^-\S*\s/.test(arg) || /^-[^-=]{2}/.test(arg))
  return CliError.isCliError(error) && error._tag === "ShowHelp" && error.errors.length > 0 && goal !== undefined
    ? Console.error(`\nWhat begins with "-" and is no option goes behind "--": opencode-orchestrator run -- "${goal}"`)
    : Effect.void
}

/** Whoever reads what is told, or the terminal, is gone, or the disk is full: that stops a command in order, as one Ctrl-C does. */
const stopWhenUnread = Effect.sync(() => {
  let isStopping = false
  const stops = () => void (isStopping = true)
  process.on("SIGINT", stops)
  process.on("SIGTERM", stops)
  const stop = () => void (!isStopping && process.kill(process.pid, "SIGTERM"))
  process.on("SIGHUP", stop)
  process.stderr.on("error", stop)
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE" && !isStopping) {
      process.stderr.write(`The output cannot be written: ${error.message}\n`)
    }
    stop()
  })
})

stopWhenUnread.pipe(
  Effect.andThen(packageRoot),
  Effect.flatMap(({ version }) => Command.run(root, { version })),
  Effect.tapError(hint),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    teardown: (exit, onExit) =>
      Runtime.defaultTeardown(exit, (code) => onExit(isUsageError(exit) ? exitCodes.usage : code))
  })
)
