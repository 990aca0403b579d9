/** The command line as it is shipped, from outside: what it prints, and how it ends. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import {
  Context,
  Deferred,
  Effect,
  Fiber,
  FileSystem,
  Layer,
  Path,
  Queue,
  Ref,
  Schedule,
  Schema,
  Scope,
  Stream
} from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { RunLine, TaskReport } from "../../adapters/node-cli/runLines.ts"
import { makeProject, pluginUrl, scriptedModel, skipInstall, startHost } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { settings } from "./project.ts"

const cli = fileURLToPath(new URL("../../dist/cli.js", import.meta.url))
const programs = fileURLToPath(new URL("../../node_modules/.bin", import.meta.url))

const delegate = (prompt: string) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: prompt, prompt, background: true }
})

let killed = false

/** The first word of the goal says what the Commander does. */
const script: Script = (request) =>
  Effect.gen(function*() {
    const newest = request.users.at(-1) ?? ""
    const [word = ""] = (request.users[0] ?? "").split(" ")
    if (!/^You are the Commander/m.test(request.system)) {
      if (word === "hang") return yield* Effect.never
      if (/^You are the Inspector/m.test(request.system)) {
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
        if (/tasks? ha(s|ve) ended/.test(newest)) return { text: "Both are done.\n\nMISSION COMPLETE" }
        return request.turns === 0 ? { toolCalls: [delegate("build one"), delegate("build two")] } : { text: "I wait." }
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
      case "DIE":
        // Killed at its first call; it may be told of that, or given its goal again.
        if (killed) return { text: "I am back.\n\nMISSION COMPLETE" }
        killed = true
        return yield* Effect.never
      case "ASK":
        return request.turns === 0
          ? { toolCalls: [{ name: "bash", args: { command: "echo allowed > asked.txt", description: "asks" } }] }
          : { text: `${request.toolResults.join(" ")}\n\nMISSION COMPLETE` }
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
  /** A server that runs already, with the plugin and the password "secret"; and one without the plugin. */
  readonly servers: { readonly live: string; readonly plain: string }
  readonly project: (files?: Record<string, string>, config?: object) => Effect.Effect<string>
  readonly spawn: (
    args: ReadonlyArray<string>,
    options?: { readonly env?: Record<string, string>; readonly cwd?: string; readonly input?: string }
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
      const live = yield* startHost({ home, plugin: [pluginUrl], env: { OPENCODE_SERVER_PASSWORD: "secret" } })
      const plain = yield* startHost({ home })
      return Rig.of({
        servers: { live: live.url, plain: plain.url },
        project: (files = {}, more = {}) =>
          makeProject({
            ...settings("{}"),
            "opencode.json": JSON.stringify({ ...config, ...more }),
            ...files
          }).pipe(Effect.provide(services), Effect.provideService(Scope.Scope, scope), Effect.orDie),
        spawn: Effect.fnUntraced(
          function*(args, { cwd, env: more = {}, input } = {}) {
            const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [cli, ...args], {
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

const password = { OPENCODE_SERVER_PASSWORD: "secret" }

/** In the server that runs already. */
const runThere = Effect.fnUntraced(function*(args: ReadonlyArray<string>, input?: string) {
  const { servers } = yield* Rig
  return yield* run(["run", "--url", servers.live, ...args], {
    env: password,
    ...(input === undefined ? {} : { input })
  })
})

const endOf = Effect.fnUntraced(function*(stdout: string) {
  const last = (yield* decodeLines(stdout)).at(-1)
  return last?.type === "end" ? last : assert.fail(stdout)
})

const decodeLines = (stdout: string) =>
  Effect.forEach(
    stdout.split("\n").filter((line) => line !== ""),
    (line) => Schema.decodeEffect(Schema.fromJsonString(RunLine))(line)
  )

layer(Rig.layer, { excludeTestServices: true, timeout: "60 seconds" })("the command line", (it) => {
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
      const running = yield* spawn(["run", "HANG about", "--json"], { cwd: directory })
      yield* running.until((line) => line.includes(`"state":"running"`))
      while ((yield* model.next).users[0] !== "hang about") { /* of another test */ }
      process.kill(running.pid, "SIGINT")
      const { code, stderr, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout + stderr)
      const end = (yield* decodeLines(stdout)).at(-1)
      if (end?.type !== "end") return assert.fail(stdout)
      assert.deepInclude(end, { exit: 130, state: "interrupted" })
      assert.deepStrictEqual(end.tasks.map(({ state }) => state), ["cancelled"])
      assert.match(end.resume ?? "", /^opencode-orchestrator run --resume ses_\w+$/)
      const calls = (yield* model.calls).filter(({ request }) => request.users[0] === "hang about")
      assert.deepStrictEqual(calls.map(({ outcome }) => outcome), ["hung up"])
    }))

  it.effect("Ctrl-C in a server that runs already stops its own mission there, and leaves the server", () =>
    Effect.gen(function*() {
      const { project, servers, spawn } = yield* Rig
      const directory = yield* project()
      const model = yield* ScriptedModel
      const args = ["run", "HANG there", "--url", servers.live, "--dir", directory, "--json"]
      const running = yield* spawn(args, { env: password })
      yield* running.until((line) => line.includes(`"state":"running"`))
      while ((yield* model.next).users[0] !== "hang about") { /* of another test */ }
      process.kill(running.pid, "SIGINT")
      const { code, stderr, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout + stderr)
      assert.deepStrictEqual((yield* endOf(stdout)).tasks.map(({ state }) => state), ["cancelled"])
      const isQuiet = model.calls.pipe(
        Effect.map((calls) => calls.every(({ outcome }) => outcome !== "open")),
        Effect.repeat({ until: (quiet) => quiet, schedule: Schedule.spaced("100 millis") })
      )
      yield* isQuiet
      assert.strictEqual((yield* runThere(["goal", "--dir", directory])).code, 0)
    }))

  it.effect("Ctrl-C twice ends at once, and takes the OpenCode that was started with it", () =>
    Effect.gen(function*() {
      const { project, spawn } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project()
      const running = yield* spawn(["run", "HANG twice", "--json"], { cwd: directory })
      yield* running.until((line) => line.includes(`"state":"running"`))
      const [child = ""] = (yield* fs.readFileString(`/proc/${running.pid}/task/${running.pid}/children`)).split(" ")
      process.kill(running.pid, "SIGINT")
      yield* running.until((line) => line.includes("stopping the mission"))
      process.kill(running.pid, "SIGINT")
      const { code, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout)
      assert.isFalse((yield* decodeLines(stdout)).some(({ type }) => type === "end"))
      const isGone = fs.readFileString(`/proc/${child}/stat`).pipe(
        Effect.map((stat) => stat.includes(") Z ")),
        Effect.orElseSucceed(() => true),
        Effect.repeat({ until: (gone) => gone, schedule: Schedule.spaced("50 millis") })
      )
      yield* isGone
    }))

  it.effect("attached to a server, the mission's limits hold; --resume with more goes on with it", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project()
      const spent = yield* runThere(["SPEND it", "--dir", directory, "--budget-tasks", "1", "--json"])
      assert.strictEqual(spent.code, 3, spent.stdout + spent.stderr)
      const end = yield* endOf(spent.stdout)
      assert.deepInclude(end, { exit: 3, state: "out_of_budget" })
      assert.match(end.why, /1 of 1 tasks/)
      const on = yield* runThere(["--resume", end.mission, "--dir", directory, "--budget-tasks", "10", "--json"])
      assert.strictEqual(on.code, 0, on.stdout + on.stderr)
      assert.deepInclude(yield* endOf(on.stdout), { state: "complete", mission: end.mission })
      const nothing = yield* runThere(["--resume", end.mission, "--dir", directory, "--json"])
      assert.include((yield* endOf(nothing.stdout)).why, "There was nothing to go on with")
    }))

  it.effect("a mission without progress ends with a code of its own, and a config that is not understood is said", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project(settings(`{ "continuations": 1, "nonsense": true }`))
      const { code, stdout } = yield* runThere(["STAGNATE", "--dir", directory])
      assert.strictEqual(code, 4, stdout)
      assert.include(stdout, "there is no setting nonsense; it is ignored.")
      assert.match(stdout, /^stagnated: The Commander was told to go on 1 times/m)
      assert.match(stdout, /^To go on: opencode-orchestrator run --resume ses_\w+ --dir /m)
    }))

  it.effect("a permission that nobody answers is denied, and the mission goes on; --yes gives it", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const cases = [["--deny", false], ["--ask", false], ["--ask", true, "y\n"], ["--yes", true]] as const
      for (const [flag, exists, input] of cases) {
        const directory = yield* project({}, { permission: { bash: "ask" } })
        const { code, stderr, stdout } = yield* runThere(["ASK first", "--dir", directory, flag, "--json"], input)
        assert.strictEqual(code, 0, stdout + stderr)
        const asked = (yield* decodeLines(stdout)).filter((line) => line.type === "ask")
        assert.deepStrictEqual(asked.map(({ answer, kind }) => [kind, answer]), [[
          "permission",
          exists ? "allowed" : "denied"
        ]])
        assert.strictEqual(yield* fs.exists(`${directory}/asked.txt`), exists)
      }
    }))

  it.effect("OpenCode is started again when it dies, and the mission goes on", () =>
    Effect.gen(function*() {
      const { project, spawn } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project()
      const model = yield* ScriptedModel
      const running = yield* spawn(["run", "DIE once", "--json"], { cwd: directory })
      while ((yield* model.next).users[0] !== "DIE once") { /* of another test */ }
      const children = (yield* fs.readFileString(`/proc/${running.pid}/task/${running.pid}/children`)).trim().split(" ")
      for (const child of children) process.kill(-Number(child), "SIGKILL")
      const { code, stderr, stdout } = yield* running.ended
      assert.strictEqual(code, 0, stdout + stderr)
      const hosts = (yield* decodeLines(stdout)).flatMap((line) => (line.type === "host" ? [line.state] : []))
      assert.deepStrictEqual(hosts, ["started", "lost", "back"])
      assert.include((yield* endOf(stdout)).answer, "I am back.")
    }), 120_000)

  it.effect("another agent is done with its turn", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const { code, stdout } = yield* runThere(["hello", "--dir", yield* project(), "--agent", "build"])
      assert.strictEqual(code, 0, stdout)
      assert.include(stdout, "result of hello")
    }))

  it.effect("what cannot be done is said in a sentence, with its code", () =>
    Effect.gen(function*() {
      const { project, servers } = yield* Rig
      const directory = yield* project()
      const cases: ReadonlyArray<
        readonly [args: ReadonlyArray<string>, code: number, says: string, env?: Record<string, string>]
      > = [
        [["run"], 2, "Say what is to be achieved"],
        [["run", "goal", "--nonsense"], 2, "--nonsense"],
        [["run", "goal", "--yes", "--deny"], 2, "Give one of --yes, --deny and --ask"],
        [["run", "goal", "--budget-cost", "much"], 2, "--budget-cost cannot be \"much\""],
        [["run", "goal", "--dir", `${directory}/none`], 2, "--dir must be a folder"],
        [["run", "goal", "--model", "model"], 2, "--model must look like provider/model"],
        [["run", "goal", "--url", "http://127.0.0.1:1"], 5, "No OpenCode answers at http://127.0.0.1:1"],
        [["run", "goal", "--url", "localhost"], 2, "--url must look like"],
        [["run", "goal", "--url", servers.live], 5, "refuses the password", { OPENCODE_SERVER_PASSWORD: "wrong" }],
        [["run", "goal", "--url", servers.live], 5, "refuses the password"],
        [["run", "goal", "--url", servers.plain, "--dir", directory], 5, "does not have the plugin"],
        [["run", "--resume", "ses_1", "--url", servers.live, "--dir", directory], 2, "knows no session", password],
        [
          ["run", "goal", "--url", servers.live, "--dir", directory, "--model", "scripted/none"],
          2,
          "OpenCode has no model \"scripted/none\"; it has, for example: scripted/model",
          password
        ],
        [
          ["run", "goal", "--url", servers.live, "--dir", directory, "--agent", "Nobody"],
          2,
          "no agent \"Nobody\"",
          password
        ]
      ]
      for (const [args, code, says, env = {}] of cases) {
        const ran = yield* run(args, { env })
        assert.strictEqual(ran.code, code, `${args.join(" ")}: ${ran.stdout}${ran.stderr}`)
        assert.include(ran.stderr, says)
        assert.notInclude(ran.stderr, "    at ")
      }
      const json = yield* run(["run", "goal", "--url", "http://127.0.0.1:1", "--json"])
      const last = (yield* decodeLines(json.stdout)).at(-1)
      assert.deepInclude(last, { type: "error", exit: 5 })
    }))

  it.effect("nothing runs in a project in which nothing can be recorded, nor in one whose config OpenCode refuses", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const blocked = yield* project()
      yield* fs.writeFileString(`${blocked}/.opencode/orchestrator`, "in the way")
      const first = yield* run(["run", "goal"], { cwd: blocked })
      assert.strictEqual(first.code, 2, first.stdout + first.stderr)
      assert.include(first.stderr, "Nothing can be recorded in")
      const broken = yield* project({ "opencode.json": "{ \"model\": " })
      const second = yield* run(["run", "goal"], { cwd: broken })
      assert.strictEqual(second.code, 5, second.stdout + second.stderr)
    }))
  it.effect("runs the tasks in their order, what failed once more, and has them checked", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project({
        "plan.md": "- [ ] T2: plain two | depends:T1\n- [ ] T1: flaky one\n- [x] T0: done before"
      })
      const { code, stderr, stdout } = yield* run(["run", "--plan", "plan.md", "--json"], { cwd: directory })
      assert.strictEqual(code, 0, stdout + stderr)
      const end = yield* endOf(stdout)
      assert.deepInclude(end, { exit: 0, state: "complete", answer: "PASS" })
      assert.deepStrictEqual(end.tasks.map(({ agent, description, state }) => [agent, description, state]), [
        ["Builder", "T1: flaky one", "failed"],
        ["Builder", "T1: flaky one", "completed"],
        ["Builder", "T2: plain two", "completed"],
        ["Inspector", "Check the plan's results", "completed"]
      ])
    }))

  it.effect("an Inspector that does not say PASS is a failure, and the Architect's plan is corrected once", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project({ "plan.md": "- [ ] T1: rotten one" })
      const rotten = yield* run(["run", "--plan", "plan.md"], { cwd: directory })
      assert.strictEqual(rotten.code, 1, rotten.stdout + rotten.stderr)
      assert.include(rotten.stdout, "FAIL: it is rotten")
      const planned = yield* run(["run", "--decompose", "Something nice", "--json"], { cwd: directory })
      assert.strictEqual(planned.code, 0, planned.stdout + planned.stderr)
      assert.deepStrictEqual((yield* endOf(planned.stdout)).tasks.map(({ description }) => description), [
        "Plan the goal",
        "Correct the plan",
        "T1: plain one",
        "T2: plain two",
        "Check the plan's results"
      ])
    }))

  it.effect("Ctrl-C stops its agents, and leaves the rest as a plan", () =>
    Effect.gen(function*() {
      const { project, spawn } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project({ "plan.md": "- [ ] T1: hang around\n- [ ] T2: plain two | depends:T1" })
      const running = yield* spawn(["run", "--plan", "plan.md", "--json"], { cwd: directory })
      yield* running.until((line) => line.includes(`"state":"running"`))
      process.kill(running.pid, "SIGINT")
      const { code, stderr, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout + stderr)
      const end = yield* endOf(stdout)
      assert.deepStrictEqual(end.tasks.map(({ state }) => state), ["cancelled"])
      const file = /--plan (\S+)$/.exec(end.resume ?? "")?.[1] ?? ""
      assert.include(yield* fs.readFileString(file), "\"depends\": [\n      \"T1\"")
    }))

  it.effect("a plan with mistakes is refused with all of them; so is a server without the agents", () =>
    Effect.gen(function*() {
      const { project, servers } = yield* Rig
      const directory = yield* project({
        "bad.md": "- [ ] T1: a | agent:Nobody\n- [ ] T2: b | depends:T3\n- [ ] T3: c | depends:T2,T9",
        "good.md": "- [ ] T1: a"
      })
      const bad = yield* run(["run", "--plan", "bad.md"], { cwd: directory })
      assert.strictEqual(bad.code, 2)
      for (const says of ["no agent \"Nobody\"", "it depends on \"T9\"", "a circle: T2 waits for T3 waits for T2"]) {
        assert.include(bad.stderr, says)
      }
      const plain = yield* run(["run", "--plan", "good.md", "--url", servers.plain], { cwd: directory })
      assert.strictEqual(plain.code, 5, plain.stdout + plain.stderr)
      assert.include(plain.stderr, "has no agent Commander, Inspector")
    }))

  it.effect("init adds the plugin to the config and changes nothing else, once", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const config = "// Ours\r\n{\r\n\t\"plugin\": [\"other@1.0.0\"], // one\r\n\t\"model\": \"a/b\",\r\n}\r\n"
      const directory = yield* project({ "opencode.json": "", "opencode.jsonc": config })
      yield* fs.remove(`${directory}/opencode.json`)
      const file = `${directory}/opencode.jsonc`
      const dry = yield* run(["init", "--dry-run"], { cwd: directory })
      assert.strictEqual(dry.code, 0, dry.stderr)
      assert.include(dry.stdout, "Would change")
      assert.strictEqual(yield* fs.readFileString(file), config)
      const first = yield* run(["init"], { cwd: directory })
      assert.strictEqual(first.code, 0, first.stderr)
      const after = yield* fs.readFileString(file)
      assert.match(
        after,
        /^\/\/ Ours\r\n\{\r\n\t"plugin": \[\s*"other@1\.0\.0",\s*"file:\/\/[^"]+"\s*\], \/\/ one\r\n\t"model": "a\/b",\r\n\}\r\n$/
      )
      assert.strictEqual(yield* fs.readFileString(`${file}.backup`), config)
      const second = yield* run(["init", "--dir", directory])
      assert.strictEqual(second.code, 0)
      assert.include(second.stdout, "nothing to do")
      assert.strictEqual(yield* fs.readFileString(file), after)
    }))

  it.effect("init makes a config where there is none, and refuses one that it cannot read", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project()
      const file = `${directory}/opencode.json`
      yield* fs.remove(file)
      assert.strictEqual((yield* run(["init"], { cwd: directory })).code, 0)
      assert.match(yield* fs.readFileString(file), /"plugin": \[\n {4}"file:/)
      for (
        const [text, says] of [
          ["{\n  \"model\": \"a/b\"\n  \"plugin\": []\n}", "line 3: CommaExpected"],
          ["{\"plugin\": \"one\"}", "\"plugin\" is not a list"],
          ["[]", "holds no object"]
        ] as const
      ) {
        yield* fs.writeFileString(file, text)
        const { code, stderr } = yield* run(["init"], { cwd: directory })
        assert.strictEqual(code, 1)
        assert.include(stderr, says)
        assert.strictEqual(yield* fs.readFileString(file), text)
      }
    }))

  it.effect("doctor says what is wrong and what to do, and finds nothing where all is well", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project()
      const file = `${directory}/.opencode/orchestrator.jsonc`
      yield* fs.writeFileString(file, "{ \"pollInterval\": -1 }")
      const without = yield* run(["doctor"], { cwd: directory })
      assert.strictEqual(without.code, 1, without.stdout + without.stderr)
      assert.include(without.stdout, "BAD  The settings: .opencode/orchestrator.jsonc: pollInterval must be")
      yield* fs.writeFileString(file, "{}")
      assert.match(
        without.stdout,
        /^BAD {2}The plugin: OpenCode's config does not name it\n +Add it: opencode-orchestrator init$/m
      )
      // A package like ours, whose module throws: the host skips it without a word.
      const broken = `${directory}/opencode-orchestrator-effect`
      yield* fs.makeDirectory(`${broken}/dist`, { recursive: true })
      yield* fs.writeFileString(`${broken}/package.json`, `{ "name": "x", "main": "./dist/plugin.js" }`)
      yield* fs.writeFileString(`${broken}/dist/plugin.js`, "throw new Error(\"not today\")")
      const config = yield* fs.readFileString(`${directory}/opencode.json`)
      const plugin = (path: string) =>
        fs.writeFileString(`${directory}/opencode.json`, config.replace("{", `{ "plugin": [${JSON.stringify(path)}],`))
      yield* plugin(`file://${broken}`)
      const skipped = yield* run(["doctor"], { cwd: directory })
      assert.strictEqual(skipped.code, 1, skipped.stdout + skipped.stderr)
      assert.include(skipped.stdout, "OpenCode has skipped it without a word: Error: not today")
      yield* plugin(pluginUrl)
      const well = yield* run(["doctor", "--model-check"], { cwd: directory })
      assert.strictEqual(well.code, 0, well.stdout + well.stderr)
      assert.include(well.stdout, "The plugin: is live")
      assert.include(well.stdout, "The model answers: after")
      assert.include(well.stdout, "The orchestrator works here.")
    }))

  it.effect("its help, version and completions work, and its lines are documented", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const help = yield* run(["run", "--help"])
      assert.strictEqual(help.code, 0)
      assert.include(help.stdout, "opencode-orchestrator run \"Make the tests pass\"")
      assert.match((yield* run(["--version"])).stdout, /\d+\.\d+\.\d+/)
      const completions = yield* run(["--completions", "bash"])
      assert.strictEqual(completions.code, 0)
      assert.include(completions.stdout, "doctor")
      const docs = yield* fs.readFileString(fileURLToPath(new URL("../../docs/headless.md", import.meta.url)))
      for (const { fields } of RunLine.members) {
        const row = docs.split("\n").find((line) => line.startsWith(`| \`${fields.type.literal}\` |`)) ?? ""
        for (const name of Object.keys(fields)) {
          if (name !== "type" && name !== "at") assert.include(row, `\`${name}`, fields.type.literal)
        }
      }
      for (const name of Object.keys(TaskReport.fields)) assert.include(docs, `\`${name}`)
    }))
})
