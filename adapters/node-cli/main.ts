/** The command line: `opencode-orchestrator`. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Duration, Effect, Exit, Option, Runtime } from "effect"
import { CliError, Command, Flag } from "effect/cli"
import { DemoFailed, ownDemo, scriptedDemo } from "./demo.ts"
import { doctor } from "./doctor.ts"
import { exitCodes } from "./exit.ts"
import { init } from "./init.ts"
import { logs } from "./logs.ts"
import { readDirectory, readModel } from "./options.ts"
import { packageRoot } from "./packageRoot.ts"
import { report } from "./report.ts"
import { run } from "./run.ts"
import { cancel, missions, tasks } from "./views.ts"
import { watch } from "./watch.ts"

const defaultMinutes = { scripted: 5, own: 30 }

const demo = Command.make(
  "demo",
  {
    model: Flag.String("model").pipe(
      Flag.withMetavar("provider/model"),
      Flag.withDescription("A model of your own OpenCode, instead of the scripted one"),
      Flag.optional
    ),
    directory: Flag.String("dir").pipe(
      Flag.withMetavar("path"),
      Flag.withDescription("With --model: the project to work in (default: this folder)"),
      Flag.optional
    ),
    goal: Flag.String("goal").pipe(Flag.withDescription("With --model: the goal for the Commander"), Flag.optional),
    minutes: Flag.Finite("minutes").pipe(
      Flag.withDescription(`Time limit (default: ${defaultMinutes.scripted}, with --model ${defaultMinutes.own})`),
      Flag.optional
    )
  },
  Effect.fn("demo")(function*({ directory, goal, minutes, model }) {
    if (Option.exists(minutes, (value) => !(value > 0))) {
      return yield* new DemoFailed({ reason: "--minutes must be a number above 0." })
    }
    const limit = (otherwise: number) => Duration.minutes(Option.getOrElse(minutes, () => otherwise))
    if (Option.isNone(model)) {
      if (Option.isSome(directory) || Option.isSome(goal)) {
        return yield* new DemoFailed({
          reason: "--dir and --goal need --model provider/model: the scripted model knows only its own project."
        })
      }
      return yield* scriptedDemo(limit(defaultMinutes.scripted))
    }
    if (Option.isNone(goal) || goal.value.trim() === "") {
      return yield* new DemoFailed({ reason: "With --model, say what to do: --goal \"...\"." })
    }
    yield* ownDemo({
      model: yield* readModel(model.value),
      directory: yield* readDirectory(Option.getOrElse(directory, () => ".")),
      goal: goal.value,
      timeLimit: limit(defaultMinutes.own)
    })
  })
).pipe(
  Command.withDescription("Shows a mission from its goal to its end, in a real OpenCode"),
  Command.withExamples([
    { command: "opencode-orchestrator demo", description: "No key needed: a scripted model in a project made for it" },
    {
      command:
        "opencode-orchestrator demo --model anthropic/claude-sonnet-4-5 --dir ~/shop --goal \"Make the tests pass\"",
      description: "Your own model and project, with your own OpenCode config"
    }
  ])
)

const root = Command.make("opencode-orchestrator").pipe(
  Command.withDescription(
    "Give OpenCode one goal and walk away: parallel agents under a Commander that sees it through."
  ),
  Command.withSubcommands([run, init, doctor, tasks, missions, watch, cancel, report, logs, demo])
)

/** The command line itself could not be understood; help was shown. */
const isUsageError = (exit: Exit.Exit<unknown, unknown>): boolean => {
  const error = Exit.findErrorOption(exit)
  return Option.isSome(error) && CliError.isCliError(error.value) && error.value._tag === "ShowHelp"
    && error.value.errors.length > 0
}

packageRoot.pipe(
  Effect.flatMap(({ version }) => Command.run(root, { version })),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    teardown: (exit, onExit) =>
      Runtime.defaultTeardown(exit, (code) => onExit(isUsageError(exit) ? exitCodes.usage : code))
  })
)
