/** `opencode-orchestrator run`: a mission, or a plan, from a terminal, a script or CI. */
import { Effect, Logger, Option, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { commander } from "../../src/agents/team.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { loadConfig } from "../opencode-plugin/config.ts"
import { make as makeSessionClient } from "../opencode-sdk/OpencodeSessionClient.ts"
import type { Policy } from "./asks.ts"
import { asFailure, Ended, exitCodes, unavailable, usage } from "./exit.ts"
import {
  ageOf,
  attach,
  fallbackPluginUrl,
  type Host,
  type HostNews,
  isLive,
  requireModel,
  start,
  withAgents,
  withPlugin
} from "./hosts.ts"
import { type MissionOrder, runMission } from "./missionRun.ts"
import { budgetFlags, dirFlag, readDirectory, readLimits, readModel, readText, requireWritable } from "./options.ts"
import { packageRoot } from "./packageRoot.ts"
import { checkPlan, runPlan } from "./planRun.ts"
import { type Program, requireProgram } from "./program.ts"
import { makeReporter, type Reporter } from "./runLines.ts"

const options = {
  goal: Argument.String("goal").pipe(Argument.withDescription("What the Commander is to achieve"), Argument.optional),
  url: Flag.String("url").pipe(
    Flag.withMetavar("http://…"),
    Flag.withDescription("An OpenCode server that runs already, with the plugin (default: one is started)"),
    Flag.optional
  ),
  dir: dirFlag,
  model: Flag.String("model").pipe(
    Flag.withMetavar("provider/model"),
    Flag.withDescription("The model, instead of the one that OpenCode's config names"),
    Flag.optional
  ),
  agent: Flag.String("agent").pipe(
    Flag.withMetavar("name"),
    Flag.withDescription(`The agent that gets the goal (default: ${commander}; another one leads no mission)`),
    Flag.optional
  ),
  resume: Flag.String("resume").pipe(
    Flag.withMetavar("session"),
    Flag.withDescription("Go on with the mission of this session, instead of a new goal"),
    Flag.optional
  ),
  plan: Flag.String("plan").pipe(
    Flag.withMetavar("file"),
    Flag.withDescription(
      "Run the tasks of this plan (a todo list or JSON) without a Commander, and have an Inspector check them"
    ),
    Flag.optional
  ),
  decompose: Flag.String("decompose").pipe(
    Flag.withMetavar("goal"),
    Flag.withDescription("The same with a plan that the Architect makes for this goal"),
    Flag.optional
  ),
  retries: Flag.Int("retries").pipe(
    Flag.withMetavar("count"),
    Flag.withDescription("With a plan: how often each task that fails, or that a check sends back, is run again"),
    Flag.withDefault(1)
  ),
  noInspect: Flag.Boolean("no-inspect").pipe(
    Flag.withDescription("With a plan: end with its tasks, without an Inspector"),
    Flag.withDefault(false)
  ),
  ...budgetFlags,
  yes: Flag.Boolean("yes").pipe(
    Flag.withDescription("Give every permission that agents ask for; answer questions with their first answer"),
    Flag.withDefault(false)
  ),
  deny: Flag.Boolean("deny").pipe(
    Flag.withDescription("Deny them (the default)"),
    Flag.withDefault(false)
  ),
  ask: Flag.Boolean("ask").pipe(
    Flag.withDescription("Ask you on this terminal; what you do not answer within 2 minutes is denied"),
    Flag.withDefault(false)
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("One JSON object a line, as docs/headless.md describes them"),
    Flag.withDefault(false)
  )
}

export const run = Command.make(
  "run",
  options,
  Effect.fn("run")(function*(given) {
    const reporter = yield* makeReporter(given.json)
    const isPlan = Option.isSome(given.plan) || Option.isSome(given.decompose)
    yield* Effect.scoped(asFailure(isPlan ? plan(given, reporter) : mission(given, reporter))).pipe(
      Effect.tapError((error) =>
        given.json && error._tag === "CommandFailed"
          ? reporter.tell({ type: "error", exit: error.exit, message: error.reason })
          : Effect.void
      ),
      Effect.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])) // lines on stdout are ours
    )
  })
).pipe(
  Command.withDescription(
    "Has the Commander carry out a goal in the project, and ends with it.\n\nExit codes: 0 complete, 1 failed or halted, "
      + "2 not understood, 3 out of budget, 4 halted without progress, 5 no OpenCode, 130 interrupted."
  ),
  Command.withShortDescription("Runs a mission from its goal to its end"),
  Command.withExamples([
    {
      command: "opencode-orchestrator run \"Make the tests pass\"",
      description: "In this folder, with your own OpenCode config"
    },
    {
      command:
        "opencode-orchestrator run \"Update the docs\" --model anthropic/claude-sonnet-4-5 --budget-cost 5 --json",
      description: "In CI: a model, a limit, and lines for a program"
    },
    {
      command: "opencode-orchestrator run --plan .opencode/todo.md",
      description: "The tasks of a plan, without a Commander"
    },
    {
      command: "opencode-orchestrator run --resume ses_1234 --budget-cost 20",
      description: "Go on with more to spend"
    },
    {
      command: "opencode-orchestrator run \"Tidy up\" --url http://127.0.0.1:4096",
      description: "In a server that runs already"
    }
  ])
)

type Given = Command.Command.Config.Infer<typeof options>

const mission = Effect.fnUntraced(function*(given: Given, reporter: Reporter) {
  const policy = yield* readPolicy(given)
  const resume = Option.map(given.resume, (id) => id.trim())
  const goal = Option.getOrElse(given.goal, () => "").trim()
  if (Option.isSome(resume) && goal !== "") {
    return yield* usage("Give a goal, or --resume: a mission that goes on has its goal already.")
  }
  if (Option.isNone(resume) && goal === "") {
    return yield* usage("Say what is to be achieved: opencode-orchestrator run \"Make the tests pass\".")
  }
  if (Option.isSome(resume) && Option.isSome(given.agent)) {
    return yield* usage(`A mission goes on with its ${commander}: leave --agent out.`)
  }
  if (Option.exists(resume, (id) => !/^ses_\w+$/.test(id))) {
    return yield* usage("--resume takes the id of the mission's session, such as ses_1234.")
  }
  const model = Option.isNone(given.model) ? undefined : yield* readModel(given.model.value)
  const { limits, typed } = yield* readLimits(given)
  const agent = Option.getOrElse(given.agent, () => commander)
  if (agent !== commander && typed !== "") {
    return yield* usage(
      `Budgets hold for missions, and only the ${commander} leads one: leave --agent or the budgets out.`
    )
  }
  const directory = yield* readDirectory(given.dir)
  const { version } = yield* packageRoot
  yield* reporter.tell({ type: "run", kind: "mission", version, directory, permissions: policy })
  yield* runInHost({
    url: given.url,
    directory,
    reporter,
    policy,
    goal,
    resume: Option.getOrUndefined(Option.map(resume, (id) => SessionId.make(id))),
    agent,
    model,
    limits,
    limitsTyped: typed,
    resumeCommand: (root) =>
      ["opencode-orchestrator run --resume", root, ...(given.dir === "." ? [] : ["--dir", quote(directory)])].join(" ")
  })
})

/** Runs a mission in the server of `url`, or in one that is started for it, under the user's config. Fails unless it is complete. */
export const runInHost = Effect.fnUntraced(function*(
  order: Omit<MissionOrder, "host" | "resumesByHand"> & {
    readonly url: Option.Option<string>
    readonly directory: string
  }
) {
  const { directory, reporter, url, ...mission } = order
  const host = yield* openHost({
    url,
    directory,
    reporter,
    additions: () => Effect.map(fallbackPluginUrl, (plugin) => ({ plugin: [plugin] }))
  })
  if (!(yield* isLive(host.client))) {
    return yield* unavailable(
      host.isOurs
        ? "OpenCode was started, and has not loaded the plugin: run \"opencode-orchestrator doctor\", which finds out why."
        : `The OpenCode at ${host.url} does not have the plugin: run "opencode-orchestrator init" in its project and start it again, or leave --url out.`
    )
  }
  const config = yield* checkProject(host, reporter)
  const end = yield* runMission({ ...mission, host, reporter, resumesByHand: config.recovery !== "auto" })
  if (end.exit !== exitCodes.complete) return yield* new Ended({ exit: end.exit })
})

/** Without a Commander, and without the plugin: this process is the instance. */
const plan = Effect.fnUntraced(function*(given: Given, reporter: Reporter) {
  const policy = yield* readPolicy(given)
  const without = (["goal", "resume", "agent"] as const).filter((name) => Option.isSome(given[name]))
  if (without.length > 0) {
    return yield* usage(
      `A plan is run without ${without.map((name) => name === "goal" ? "a goal" : `--${name}`).join(", ")}.`
    )
  }
  if (Option.isSome(given.plan) && Option.isSome(given.decompose)) {
    return yield* usage("Give --plan or --decompose, not both.")
  }
  if (Option.isSome(given.model) && Option.isSome(given.url)) {
    return yield* usage(
      "--model cannot be set for the agents of a server that runs already: leave --url or --model out."
    )
  }
  if (given.retries < 0 || given.retries > 10) return yield* usage("--retries must be a whole number from 0 to 10.")
  const model = Option.isNone(given.model) ? undefined : yield* readModel(given.model.value)
  const { limits } = yield* readLimits(given)
  const directory = yield* readDirectory(given.dir)
  const source = Option.isSome(given.plan)
    ? { plan: yield* checkPlan(yield* readText("--plan", given.plan.value), given.plan.value) }
    : { goal: Option.getOrElse(given.decompose, () => "").trim() }
  if ("goal" in source && source.goal === "") return yield* usage("--decompose takes the goal to make a plan for.")
  const { version } = yield* packageRoot
  yield* reporter.tell({ type: "run", kind: "plan", version, directory, permissions: policy })
  const host = yield* openHost({
    url: given.url,
    directory,
    reporter,
    additions: (program) => withAgents(program, directory, model)
  })
  const config = yield* checkProject(host, reporter)
  if (model !== undefined) {
    yield* requireModel(model).pipe(
      Effect.provideService(SessionClient, makeSessionClient(host.client, Stream.empty))
    )
  }
  const inDirectory = given.dir === "." ? [] : ["--dir", quote(directory)]
  const end = yield* runPlan({
    host,
    config,
    reporter,
    policy,
    limits,
    retries: given.retries,
    inspect: !given.noInspect,
    source,
    resumeCommand: (file) => ["opencode-orchestrator run --plan", quote(file), ...inDirectory].join(" ")
  })
  if (end.exit !== exitCodes.complete) return yield* new Ended({ exit: end.exit })
})

const quote = (text: string): string => /^[\w./~-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`

export const readPolicy = (
  { ask, deny, yes }: { readonly ask: boolean; readonly deny: boolean; readonly yes: boolean }
) => {
  const given: ReadonlyArray<Policy> = [
    ...(yes ? ["yes" as const] : []),
    ...(deny ? ["deny" as const] : []),
    ...(ask ? ["ask" as const] : [])
  ]
  return given.length > 1
    ? Effect.fail(usage(`Give one of --yes, --deny and --ask, not ${given.map((name) => `--${name}`).join(" and ")}.`))
    : Effect.succeed(given[0] ?? "deny")
}

/** Attaches to the server of `url`, or starts one whose config has the additions. A second Ctrl-C ends all at once. */
export const openHost = Effect.fnUntraced(function*<E, R>(options: {
  readonly url: Option.Option<string>
  readonly directory: string
  readonly reporter: Reporter
  readonly additions: (program: Program) => Effect.Effect<Record<string, unknown>, E, R>
}) {
  const { directory, reporter, url } = options
  const news: HostNews = (state, detail) => reporter.tell({ type: "host", state, detail })
  if (Option.isSome(url)) {
    const host = yield* attach(url.value, directory, news)
    yield* reporter.tell({
      type: "host",
      state: "attached",
      detail: `attached to the OpenCode at ${host.url}, in ${host.root}`
    })
    yield* sayAge(host, reporter)
    yield* endAtOnce(host)
    return host
  }
  const program = yield* requireProgram(directory)
  const content = yield* withPlugin(yield* options.additions(program))
  const env = content === "{}" ? {} : { OPENCODE_CONFIG_CONTENT: content }
  const host = yield* start({ program, directory, news, env })
  yield* sayAge(host, reporter)
  yield* endAtOnce(host)
  return host
})

const sayAge = (host: Host, reporter: Reporter) => {
  const message = ageOf(host)
  return message === undefined ? Effect.void : reporter.tell({ type: "warning", message })
}

/** Until the process ends: also while everything is being stopped in order. */
const endAtOnce = (host: Host) =>
  Effect.sync(() => {
    let count = 0
    const onSignal = () => {
      if (++count < 2) return // the first one stops in order
      host.killNow()
      process.exit(exitCodes.interrupted)
    }
    process.on("SIGINT", onSignal)
    process.on("SIGTERM", onSignal)
  })

/** The project's settings; what is not understood of them is said. Nothing runs where nothing can be recorded. */
export const checkProject = Effect.fnUntraced(function*(host: Host, reporter: Reporter) {
  const { problems, values } = yield* loadConfig(host.root, {})
  for (const message of problems) yield* reporter.tell({ type: "warning", message })
  // Of a server on another machine the folder is not here.
  const isHere = host.isOurs || /^(localhost|127\..*|\[::1\])$/.test(new URL(host.url).hostname)
  if (values.journal === "required" && isHere) yield* requireWritable(host.root)
  return values
})
