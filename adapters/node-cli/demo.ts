/**
 * The demo: a real OpenCode with the plugin, a goal for the Commander, and what comes of it. By default with a scripted
 * model in a project made for it; with a model of the user's own, in a project of theirs, it is `run`.
 */
import { Config, Console, Duration, Effect, Option, Path, Queue, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { commander } from "../../src/agents/team.ts"
import { makeProject, startHost } from "../test/RealHost.ts"
import { ScriptedModel } from "../test/ScriptedModel.ts"
import { projectFiles, projectGoal, readTestRun, script } from "./demoScript.ts"
import { asFailure, CommandFailed, Ended, exitCodes, unavailable, usage } from "./exit.ts"
import { type Host, isLive, pluginUrl } from "./hosts.ts"
import { runMission } from "./missionRun.ts"
import { readDirectory, readModel } from "./options.ts"
import { requireProgram } from "./program.ts"
import { runInHost } from "./run.ts"
import { makeReporter } from "./runLines.ts"

const defaultMinutes = { scripted: 5, own: 30 }

export const demo = Command.make(
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
    if (Option.exists(minutes, (value) => !(value > 0))) return yield* usage("--minutes must be a number above 0.")
    const limit = (otherwise: number) => Duration.minutes(Option.getOrElse(minutes, () => otherwise))
    if (Option.isNone(model)) {
      if (Option.isSome(directory) || Option.isSome(goal)) {
        return yield* usage(
          "--dir and --goal need --model provider/model: the scripted model knows only its own project."
        )
      }
      return yield* scriptedDemo(limit(defaultMinutes.scripted))
    }
    if (Option.isNone(goal) || goal.value.trim() === "") {
      return yield* usage("With --model, say what to do: --goal \"...\".")
    }
    yield* Effect.scoped(asFailure(runInHost({
      ...(yield* demoOrder(limit(defaultMinutes.own))),
      url: Option.none(),
      directory: yield* readDirectory(Option.getOrElse(directory, () => ".")),
      goal: goal.value.trim(),
      model: yield* readModel(model.value)
    })))
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

/** What both demos have in common. */
const demoOrder = Effect.fnUntraced(function*(limit: Duration.Duration) {
  return {
    reporter: yield* makeReporter(false),
    policy: "deny" as const,
    agent: commander,
    resume: undefined,
    limits: { time: Duration.toMillis(limit) },
    limitsTyped: "",
    resumeCommand: (root: string) => `opencode-orchestrator run --resume ${root}`
  }
})

/** The scripted model on the demo's own project; succeeds when the mission is complete and the project's tests pass. */
const scriptedDemo = Effect.fnUntraced(function*(limit: Duration.Duration) {
  const order = yield* demoOrder(limit)
  const say = (message: string) => order.reporter.tell({ type: "host", state: "started", detail: message })
  const path = yield* Path.Path
  const plugin = yield* pluginUrl
  const program = yield* requireProgram(path.resolve("."))
  const directory = yield* makeProject(projectFiles)
  yield* say(`a new project in ${directory}; its tests: ${(yield* runTests(directory)).words}`)
  const programs = yield* Config.String("PATH").pipe(Config.withDefault("/usr/bin:/bin"))
  const server = yield* startHost({
    binary: program.file,
    directory,
    plugin: [plugin],
    // The agents run node in the host's shell: the one that runs this.
    env: { PATH: [path.dirname(process.execPath), programs].join(":") }
  })
  yield* say(`OpenCode listens on ${server.url}; a scripted model answers, no key and no internet are used`)
  if (!(yield* isLive(server.client))) {
    return yield* unavailable("OpenCode runs, but did not load the plugin; its log says why.")
  }
  const host: Host = {
    ...server,
    root: directory,
    version: undefined,
    isOurs: true,
    backs: yield* Queue.sliding<void>(1),
    gone: Effect.andThen(server.exited, unavailable("OpenCode has died.")),
    killNow: () => undefined // it is stopped with the scope
  }
  const end = yield* runMission({ ...order, host, goal: projectGoal, model: undefined, resumesByHand: false })
  if (end.exit !== exitCodes.complete) return yield* new Ended({ exit: end.exit })
  const { passed, words } = yield* runTests(directory)
  if (!passed) {
    return yield* new CommandFailed({
      exit: exitCodes.failed,
      reason: `The mission is complete, but the project's tests say: ${words}.`
    })
  }
  yield* Console.log(`\nThe mission is complete, and the project's own tests say: ${words}.`)
}, (demo) => Effect.scoped(asFailure(Effect.provide(demo, ScriptedModel.layer(script)))))

/** Really runs the project's tests, and believes the exit code. */
const runTests = Effect.fnUntraced(function*(directory: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, ["--test"], {
    cwd: directory,
    extendEnv: true,
    // Below another test run node would report to that one; colours would hide the counts.
    env: { NODE_TEST_CONTEXT: undefined, FORCE_COLOR: undefined }
  }))
  const output = yield* handle.all.pipe(Stream.decodeText, Stream.mkString)
  const code = yield* handle.exitCode
  return { passed: Number(code) === 0, words: readTestRun(output).words }
}, Effect.scoped)
