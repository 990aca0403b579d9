/**
 * The demo: a real OpenCode with the plugin, a goal for the Commander, and what comes of it. By default with a scripted
 * model in a project made for it; with a model of the user's own, in a project of theirs.
 */
import type { OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Config, Console, Duration, Effect, Layer, Option, Path, Schema, Stream } from "effect"
import { CliError } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { commander } from "../../src/agents/team.ts"
import type { ModelRef } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { make as makeSessionClient } from "../opencode-sdk/OpencodeSessionClient.ts"
import { HostDidNotStart, makeProject, serve, startHost } from "../test/RealHost.ts"
import { ScriptedModel } from "../test/ScriptedModel.ts"
import { projectFiles, projectGoal, readTestRun, script } from "./demoScript.ts"
import { loadsPlugin, pluginUrl, requireModel, usersBinary, withPlugin } from "./hosts.ts"
import { lastWords, makePrinter, type Printer, taskTable, watchMission } from "./missionView.ts"

/** Ends the command with exit code 1; `reason` is one sentence for the person who ran it. */
export class DemoFailed extends Schema.TaggedError<DemoFailed>()("DemoFailed", { reason: Schema.String }) {
  override get message() {
    return this.reason
  }
  override get [CliError.userMessage]() {
    return this.reason
  }
}

/** The scripted model on the demo's own project; succeeds when the mission is complete and the project's tests pass. */
export const scriptedDemo = Effect.fn("scriptedDemo")(function*(timeLimit: Duration.Duration) {
  const print = yield* makePrinter
  const plugin = yield* pluginUrl
  const directory = yield* makeProject(projectFiles)
  yield* print("demo", `a new project in ${directory}; its tests: ${(yield* runTests(directory)).words}`)
  const path = yield* Path.Path
  const programs = yield* Config.String("PATH").pipe(Config.withDefault("/usr/bin:/bin"))
  const host = yield* startHost({
    directory,
    plugin: [plugin],
    // The agents run node in the host's shell: the one that runs this.
    env: { PATH: [path.dirname(process.execPath), programs].join(":") }
  })
  yield* print("demo", `OpenCode listens on ${host.url}; a scripted model answers, no key and no internet are used`)
  yield* runMission({ client: host.client, directory, goal: projectGoal, model: undefined, timeLimit, print })
  const { passed, words } = yield* runTests(directory)
  if (!passed) {
    return yield* new DemoFailed({ reason: `The mission is complete, but the project's tests say: ${words}.` })
  }
  yield* Console.log(`\nThe mission is complete, and the project's own tests say: ${words}.`)
}, (demo) => inOneSentence(Effect.scoped(Effect.provide(demo, ScriptedModel.layer(script)))))

/** A model and a project of the user's, under the user's own OpenCode config; succeeds when the mission is complete. */
export const ownDemo = Effect.fn("ownDemo")(function*(options: {
  readonly model: ModelRef
  readonly directory: string
  readonly goal: string
  readonly timeLimit: Duration.Duration
}) {
  const { directory } = options
  const print = yield* makePrinter
  const plugin = yield* pluginUrl
  const binary = yield* usersBinary(directory)
  const installed = yield* loadsPlugin(binary, directory)
  if (installed) yield* print("demo", "your OpenCode config loads the plugin already; that one is used")
  const host = yield* serve({
    binary,
    directory,
    extendEnv: true,
    env: installed ? {} : { OPENCODE_CONFIG_CONTENT: yield* withPlugin({ plugin: [plugin] }) }
  })
  yield* print("demo", `OpenCode listens on ${host.url}, in ${directory}, with your own config`)
  yield* runMission({ ...options, client: host.client, print })
  yield* Console.log("\nThe mission is complete.")
}, (demo) => inOneSentence(Effect.scoped(demo)))

/** Gives the Commander the goal and shows what happens until the mission ends. Fails unless it is complete. */
const runMission = Effect.fnUntraced(function*(options: {
  readonly client: OpencodeClient
  readonly directory: string
  readonly goal: string
  readonly model: ModelRef | undefined
  readonly timeLimit: Duration.Duration
  readonly print: Printer
}) {
  const { client, directory, goal, model, print, timeLimit } = options
  const port = makeSessionClient(client, Stream.empty)
  return yield* Effect.gen(function*() {
    const ids = yield* Ids
    const tools = yield* Effect.tryPromise(() => client.tool.ids())
    if (tools.data?.includes("delegate_task") !== true) {
      return yield* new DemoFailed({ reason: "OpenCode runs, but did not load the plugin; its log says why." })
    }
    if (model !== undefined) yield* requireModel(model)
    const { ended } = yield* watchMission({ client, directory, print })
    const root = yield* port.create({ title: "Demo mission", agent: commander })
    yield* port.prompt({ session: root.id, id: yield* ids.message, text: goal, agent: commander, model })
    const end = yield* Effect.timeoutOption(ended, timeLimit)
    if (Option.isNone(end)) yield* port.abort(root.id)
    yield* Effect.sleep("300 millis") // the last events are still on their way
    const table = yield* taskTable(client, root.id)
    const tasks = table.rows.length === 0 ? ["No task was delegated."] : table.lines
    const words = yield* lastWords(root.id)
    yield* Console.log(
      ["", ...tasks, "", "The Commander's last words:", ...words.map((line) => `  ${line}`.trimEnd())].join("\n")
    )
    if (Option.isNone(end)) {
      return yield* new DemoFailed({
        reason: `The mission did not end within ${Duration.format(timeLimit)}; it was stopped.`
      })
    }
    if (!end.value.complete) return yield* new DemoFailed({ reason: `The mission is not complete. ${end.value.words}` })
  }).pipe(Effect.provide([Layer.succeed(SessionClient, port), Ids.layer]))
})

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

/** Whatever went wrong, told in one line. */
const inOneSentence = <A, E extends Error, R>(demo: Effect.Effect<A, E, R>): Effect.Effect<A, DemoFailed, R> =>
  Effect.mapError(demo, (error: Error) => {
    if (Schema.is(DemoFailed)(error)) return error
    if (Schema.is(HostDidNotStart)(error)) {
      const last = error.output.trim().split("\n").at(-1)
      return new DemoFailed({ reason: `OpenCode ended before it was listening. Its last words: ${last || "none"}` })
    }
    if ("reason" in error && isNotFound(error.reason)) {
      return new DemoFailed({
        reason: `A program that the demo needs was not found (opencode, git or node): ${error.message}`
      })
    }
    return new DemoFailed({ reason: error.message.split("\n")[0] ?? error.name })
  })

const isNotFound = Schema.is(Schema.TaggedStruct("NotFound", {}))
