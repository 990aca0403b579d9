/** The command line: `opencode-orchestrator`. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Effect, Exit, Option, Runtime } from "effect"
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

/** Whoever read what is written is gone, or the disk is full: the command ends in order, as when it is told to. */
process.stdout.once("error", (error: NodeJS.ErrnoException) => {
  process.stdout.on("error", () => {}) // what is still written on the way
  if (error.code !== "EPIPE") process.stderr.write(`The output cannot be written: ${error.message}\n`)
  process.kill(process.pid, "SIGTERM")
})

packageRoot.pipe(
  Effect.flatMap(({ version }) => Command.run(root, { version })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    teardown: (exit, onExit) =>
      Runtime.defaultTeardown(exit, (code) => onExit(isUsageError(exit) ? exitCodes.usage : code))
  })
)
