/** The command line as it is shipped, from outside: what it prints, and how it ends. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, FileSystem, Layer, Path, Queue, Ref, Schema, Scope, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { RunLine } from "../../adapters/node-cli/runLines.ts"
import { makeProject, scriptedModel, skipInstall } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { settings } from "./project.ts"

const cli = fileURLToPath(new URL("../../dist/cli.js", import.meta.url))
const programs = fileURLToPath(new URL("../../node_modules/.bin", import.meta.url))

const delegate = (prompt: string) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: prompt, prompt, background: true }
})

/** The first word of the goal says what the Commander does. */
const script: Script = (request) =>
  Effect.gen(function*() {
    const newest = request.users.at(-1) ?? ""
    const [word = ""] = (request.users[0] ?? "").split(" ")
    if (!/^You are the Commander/m.test(request.system)) {
      if (word === "hang") return yield* Effect.never
      return { text: `result of ${request.users[0]}` }
    }
    switch (word) {
      case "WORK":
        if (/tasks? ha(s|ve) ended/.test(newest)) return { text: "Both are done.\n\nMISSION COMPLETE" }
        return request.turns === 0 ? { toolCalls: [delegate("build one"), delegate("build two")] } : { text: "I wait." }
      case "HANG":
        return request.turns === 0 ? { toolCalls: [delegate("hang about")] } : { text: "I wait." }
      default:
        return { text: "MISSION COMPLETE" }
    }
  })

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A HOME of its own, in which OpenCode finds nothing to install, and the scripted model for its projects. */
class Rig extends Context.Service<Rig, {
  readonly project: (files?: Record<string, string>, config?: object) => Effect.Effect<string>
  readonly spawn: (
    args: ReadonlyArray<string>,
    options?: { readonly env?: Record<string, string>; readonly cwd?: string }
  ) => Effect.Effect<{
    readonly pid: number
    /** The first line that fits. */
    readonly until: (fits: (line: string) => boolean) => Effect.Effect<string>
    readonly ended: Effect.Effect<Ran>
  }>
}>()("test/Rig") {
  static readonly layer = Layer.effect(
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
      yield* skipInstall(path.join(home, "config", "opencode"))
      const env = {
        PATH: [path.dirname(process.execPath), programs, process.env["PATH"] ?? ""].join(":"),
        HOME: home,
        XDG_CONFIG_HOME: path.join(home, "config"),
        XDG_DATA_HOME: path.join(home, "data"),
        XDG_CACHE_HOME: path.join(home, "cache"),
        XDG_STATE_HOME: path.join(home, "state"),
        OPENCODE_DISABLE_AUTOUPDATE: "1",
        OPENCODE_DISABLE_MODELS_FETCH: "1",
        OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
        OPENCODE_DISABLE_DEFAULT_PLUGINS: "1"
      }
      const config = {
        $schema: "https://opencode.ai/config.json",
        share: "disabled",
        model: scriptedModel,
        small_model: scriptedModel,
        provider: {
          scripted: {
            npm: "@ai-sdk/openai-compatible",
            name: "Scripted",
            options: { baseURL: model.url, apiKey: "none" },
            models: {
              model: {
                name: "Scripted model",
                limit: { context: 200_000, output: 8_000 },
                cost: { input: 1, output: 2 }
              }
            }
          }
        }
      }
      return Rig.of({
        project: (files = {}, more = {}) =>
          makeProject({
            ...settings("{}"),
            "opencode.json": JSON.stringify({ ...config, ...more }),
            ...files
          }).pipe(Effect.provide(services), Effect.provideService(Scope.Scope, scope), Effect.orDie),
        spawn: Effect.fnUntraced(
          function*(args, { cwd, env: more = {} } = {}) {
            const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [cli, ...args], {
              env: { ...env, ...more },
              ...(cwd === undefined ? {} : { cwd }),
              stdin: "ignore"
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
    Layer.provideMerge(ScriptedModel.layer(script)),
    Layer.provideMerge(NodeServices.layer),
    Layer.orDie
  )
}

const run = Effect.fnUntraced(function*(args: ReadonlyArray<string>, options?: Parameters<Rig["Service"]["spawn"]>[1]) {
  const { spawn } = yield* Rig
  return yield* (yield* spawn(args, options)).ended
})

const decodeLines = (stdout: string) =>
  Effect.forEach(
    stdout.split("\n").filter((line) => line !== ""),
    (line) => Schema.decodeEffect(Schema.fromJsonString(RunLine))(line)
  )

layer(Rig.layer, { excludeTestServices: true, timeout: "60 seconds" })("opencode-orchestrator run", (it) => {
  it.effect("starts OpenCode with the plugin, sees the mission through, and sums up", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project()
      const { code, stderr, stdout } = yield* run(["run", "WORK on it"], { cwd: directory })
      assert.strictEqual(code, 0, stdout + stderr)
      assert.match(stdout, /^Builder +build one +completed /m)
      assert.include(stdout, "Both are done.")
      assert.notInclude(stdout, "\u001b")
      assert.strictEqual(stderr, "")
    }))

  it.effect("--json tells it in lines of the documented schema", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project()
      const { code, stderr, stdout } = yield* run(["run", "WORK on it", "--dir", directory, "--json"])
      assert.strictEqual(code, 0, stdout + stderr)
      const lines = yield* decodeLines(stdout)
      assert.strictEqual(lines[0]?.type, "run")
      const end = lines.at(-1)
      if (end?.type !== "end") return assert.fail(stdout)
      assert.deepInclude(end, { exit: 0, state: "complete", answer: "Both are done.\n\nMISSION COMPLETE" })
      assert.notProperty(end, "resume")
      assert.deepStrictEqual(end.tasks.map(({ result, state }) => [state, result]), [
        ["completed", "result of build one"],
        ["completed", "result of build two"]
      ])
      assert.isAbove(end.tokens, 0)
      const ended = lines.flatMap((
        line
      ) => (line.type === "task" && line.task.state === "completed" ? [line.task.id] : []))
      assert.sameMembers(ended, end.tasks.map(({ id }) => id))
    }))

  it.effect("Ctrl-C stops the mission and its agents, and says how to go on", () =>
    Effect.gen(function*() {
      const { project, spawn } = yield* Rig
      const directory = yield* project()
      const model = yield* ScriptedModel
      const process_ = yield* spawn(["run", "HANG about", "--json"], { cwd: directory })
      yield* process_.until((line) => line.includes(`"state":"running"`))
      while ((yield* model.next).users[0] !== "hang about") { /* of another test */ }
      process.kill(process_.pid, "SIGINT")
      const { code, stderr, stdout } = yield* process_.ended
      assert.strictEqual(code, 130, stdout + stderr)
      const end = (yield* decodeLines(stdout)).at(-1)
      if (end?.type !== "end") return assert.fail(stdout)
      assert.deepInclude(end, { exit: 130, state: "interrupted" })
      assert.deepStrictEqual(end.tasks.map(({ state }) => state), ["cancelled"])
      assert.match(end.resume ?? "", /^opencode-orchestrator run --resume ses_\w+$/)
      const calls = (yield* model.calls).filter(({ request }) => request.users[0] === "hang about")
      assert.deepStrictEqual(calls.map(({ outcome }) => outcome), ["hung up"])
    }))
})
