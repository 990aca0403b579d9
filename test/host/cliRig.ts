/** The command line from outside, in projects of the real OpenCode with a scripted model: what its tests share. */
import { NodeServices } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, FileSystem, Layer, Path, Queue, Ref, Schema, Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { RunLine } from "../../adapters/node-cli/runLines.ts"
import {
  environmentOf,
  makeProject,
  prepareHome,
  scriptedModel,
  scriptedProvider,
  shortLived,
  startHost
} from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { settings } from "./project.ts"

const repository = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "")
const programs = `${repository}/node_modules/.bin`

const delegate = (prompt: string) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: prompt, prompt, background: true }
})

/** The first word of the goal says what the Commander does, that of an order what an agent does. */
const makeScript = (): Script => {
  const seen = new Set<string>()
  /** True the first time that it is asked for this. */
  const isFirst = (what: string): boolean => seen.size < seen.add(what).size
  return (request) =>
    Effect.gen(function*() {
      const newest = request.users.at(-1) ?? ""
      const [word = ""] = (request.users[0] ?? "").split(" ")
      if (!/^You are the Commander/m.test(request.system)) {
        if (word === "hang" || (word === "slow" && isFirst("slow"))) return yield* Effect.never
        if (/^You are the Inspector/m.test(request.system)) {
          if (newest.includes("result of mended") && !newest.includes("An earlier attempt")) {
            return { text: "FAIL T1: mend it" }
          }
          return { text: newest.includes("rotten") ? "FAIL: it is rotten" : "PASS" }
        }
        if (/^You are the Architect/m.test(request.system)) {
          return {
            text: newest.startsWith("Make a plan")
              ? "- [ ] T1: plain one\n- [ ] T2: plain two | depends:T9"
              : "- [ ] T1: plain one\n- [ ] T2: plain two | depends:T1"
          }
        }
        // Fails at its first attempt.
        if (word === "flaky" && !newest.includes("An earlier attempt")) return { status: 400, message: "not this time" }
        return { text: `result of ${request.users[0]}` }
      }
      switch (word) {
        case "WORK":
          if (isNotice(newest)) return { text: "Both are done.\n\nMISSION COMPLETE" }
          return request.turns === 0
            ? { toolCalls: [delegate("build one"), delegate("build two")] }
            : { text: "I wait." }
        case "HANG":
          return request.turns === 0 ? { toolCalls: [delegate("hang about")] } : { text: "I wait." }
        case "SPEND":
          if (request.toolResults.some((text) => text.includes("budget is used up"))) return { text: "That was all." }
          if (newest.includes("The user lets the mission go on")) return { text: "MISSION COMPLETE" }
          return request.toolResults.length === 0 && request.turns === 0
            ? { toolCalls: [delegate("build one"), delegate("build two")] }
            : { text: "This is what is done." }
        case "STAGNATE":
          return { text: "I think about it." }
        case "HALF": {
          const isOn = request.users.some((text) => text.includes("The user lets the mission go on"))
          if (isOn && isNotice(newest)) return { text: "All is done.\n\nMISSION COMPLETE" }
          if (isOn && request.toolResults.length === 0) return { toolCalls: [delegate("build the rest")] }
          return request.turns === 0
            ? { toolCalls: [delegate("build one half"), delegate("hang at the other")] }
            : { text: "I wait." }
        }
        case "KILLED":
          // It is killed at its first call, while an agent works, and when it hears of that agent's end.
          if (isFirst("goal")) return yield* Effect.never
          if (request.users.some(isNotice)) {
            return isFirst("notice") ? yield* Effect.never : { text: "I am back.\n\nMISSION COMPLETE" }
          }
          return request.calledTools.includes("delegate_task")
            ? { text: "I wait." }
            : { toolCalls: [delegate("quick one"), delegate("slow one")] }
        case "ASK":
          return request.turns === 0
            ? { toolCalls: [{ name: "bash", args: { command: "echo allowed > asked.txt", description: "asks" } }] }
            : { text: `${request.toolResults.join(" ")}\n\nMISSION COMPLETE` }
        default:
          return { text: "MISSION COMPLETE" }
      }
    })
}

export const isNotice = (text: string): boolean => /tasks? ha(s|ve) ended/.test(text)

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A HOME of its own, in which OpenCode finds nothing to install, and the scripted model for its projects. */
export class Rig extends Context.Service<Rig, {
  /** Where the package is. */
  readonly folder: string
  /** A server that runs already, with the plugin and the password "secret"; and one without the plugin. Started when asked for. */
  readonly servers: { readonly live: Effect.Effect<string>; readonly plain: Effect.Effect<string> }
  readonly project: (files?: Record<string, string>, config?: object) => Effect.Effect<string>
  readonly spawn: (
    args: ReadonlyArray<string>,
    options?: { readonly env?: Record<string, string>; readonly cwd?: string; readonly input?: string }
  ) => Effect.Effect<{
    readonly pid: number
    /** The first line that fits. */
    readonly until: (fits: (line: string) => boolean) => Effect.Effect<string>
    /** What it has printed so far. */
    readonly lines: Effect.Effect<ReadonlyArray<string>>
    readonly ended: Effect.Effect<Ran>
  }>
}>()("test/Rig") {
  /** Of a package that is installed or built in a folder: its program, and where the host finds its plugin. */
  static readonly layer = (
    { folder, program }: { readonly folder: string; readonly program: ReadonlyArray<string> } = {
      folder: repository,
      program: [process.execPath, `${repository}/dist/cli.js`]
    }
  ) =>
    Layer.effect(
      Rig,
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const model = yield* ScriptedModel
        const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
        const services = yield* Effect.context<
          FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner
        >()
        const scope = yield* Effect.scope
        const home = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" })
        yield* prepareHome(home)
        const env = {
          PATH: [path.dirname(process.execPath), programs, process.env["PATH"] ?? ""].join(":"),
          ...environmentOf(path, home),
          ...shortLived
        }
        const config = {
          $schema: "https://opencode.ai/config.json",
          share: "disabled",
          snapshot: false, // as in `startHost`
          model: scriptedModel,
          small_model: scriptedModel,
          provider: {
            scripted: scriptedProvider(model.url)
          }
        }
        const server = (options: Parameters<typeof startHost>[0]) =>
          startHost({ home, ...options, env: { ...shortLived, ...options?.env } }).pipe(
            Effect.map(({ url }) => url),
            Effect.provide(services),
            Effect.provideService(ScriptedModel, model),
            Effect.provideService(Scope.Scope, scope),
            Effect.orDie,
            Effect.cached
          )
        const [command = "", ...first] = program
        return Rig.of({
          folder,
          servers: {
            live: yield* server({ plugin: [`file://${folder}`], env: { OPENCODE_SERVER_PASSWORD: "secret" } }),
            plain: yield* server({})
          },
          project: (files = {}, more = {}) =>
            makeProject({
              ...settings("{}"),
              "opencode.json": JSON.stringify({ ...config, ...more }),
              ...files
            }).pipe(Effect.provide(services), Effect.provideService(Scope.Scope, scope), Effect.orDie),
          spawn: Effect.fnUntraced(
            function*(args, { cwd, env: more = {}, input } = {}) {
              const handle = yield* spawner.spawn(ChildProcess.make(command, [...first, ...args], {
                env: { ...env, ...more },
                ...(cwd === undefined ? {} : { cwd }),
                stdin: input === undefined ? "ignore" : Stream.encodeText(Stream.make(input))
              }))
              const lines = yield* Ref.make<ReadonlyArray<string>>([])
              const news = yield* Queue.sliding<void>(1)
              const over = yield* Deferred.make<void>()
              yield* handle.stdout.pipe(
                Stream.decodeText,
                Stream.splitLines,
                Stream.runForEach((line) =>
                  Effect.andThen(Ref.update(lines, (all) => [...all, line]), Queue.offer(news, undefined))
                ),
                Effect.ensuring(Deferred.succeed(over, undefined)),
                Effect.forkIn(scope)
              )
              const stderr = yield* handle.stderr.pipe(Stream.decodeText, Stream.mkString, Effect.forkIn(scope))
              return {
                pid: Number(handle.pid),
                lines: Ref.get(lines),
                until: Effect.fnUntraced(function*(fits) {
                  while (true) {
                    const found = (yield* Ref.get(lines)).find(fits)
                    if (found !== undefined) return found
                    yield* Queue.take(news)
                  }
                }),
                ended: Effect.gen(function*() {
                  const code = Number(yield* handle.exitCode)
                  yield* Deferred.await(over)
                  return { code, stdout: (yield* Ref.get(lines)).join("\n"), stderr: yield* Fiber.join(stderr) }
                }).pipe(Effect.orDie)
              }
            },
            Effect.provideService(Scope.Scope, scope),
            Effect.orDie
          )
        })
      })
    ).pipe(
      Layer.provideMerge(ScriptedModel.layer(makeScript())),
      Layer.provideMerge(NodeServices.layer),
      Layer.orDie
    )
}

export const run = Effect.fnUntraced(
  function*(args: ReadonlyArray<string>, options?: Parameters<Rig["Service"]["spawn"]>[1]) {
    const { spawn } = yield* Rig
    return yield* (yield* spawn(args, options)).ended
  }
)

export const password = { OPENCODE_SERVER_PASSWORD: "secret" }

/** In the server that runs already. */
export const runThere = Effect.fnUntraced(function*(args: ReadonlyArray<string>, input?: string) {
  const { servers } = yield* Rig
  return yield* run(["run", "--url", yield* servers.live, ...args], {
    env: password,
    ...(input === undefined ? {} : { input })
  })
})

export const endOf = Effect.fnUntraced(function*(stdout: string) {
  const last = (yield* decodeLines(stdout)).at(-1)
  return last?.type === "end" ? last : assert.fail(stdout)
})

export const decodeLines = (stdout: string) =>
  Effect.forEach(
    stdout.split("\n").filter((line) => line !== ""),
    (line) => Schema.decodeEffect(Schema.fromJsonString(RunLine))(line)
  )

/** Waits for the model's next call with this first user text, whichever came before it. */
export const called = Effect.fnUntraced(function*(text: string, newest: (text: string) => boolean = () => true) {
  const model = yield* ScriptedModel
  while (true) {
    const { users } = yield* model.next
    if (users[0] === text && newest(users.at(-1) ?? "")) return
  }
})

/** How the model's calls with this first user text have ended. */
export const outcomes = (text: string) =>
  Effect.flatMap(
    ScriptedModel,
    (model) =>
      Effect.map(
        model.calls,
        (all) => all.flatMap(({ outcome, request }) => (request.users[0] === text ? outcome : []))
      )
  )

/** The process group of the OpenCode that a command line has started. */
export const serverOf = (pid: number) =>
  Effect.flatMap(
    FileSystem.FileSystem,
    (fs) =>
      Effect.map(fs.readFileString(`/proc/${pid}/task/${pid}/children`), (text) => Number(text.trim().split(" ")[0]))
  )
