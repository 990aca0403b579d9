/**
 * The real OpenCode server, started for a test, a benchmark or the demo: its own HOME and folders, loopback only,
 * a scripted model as its provider, stopped with the scope.
 */
import { createOpencodeClient, type OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Effect, Fiber, FileSystem, Path, PlatformError, Queue, Ref, Schedule, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { createRequire } from "node:module"
import { createServer } from "node:net"
import { ScriptedModel } from "./ScriptedModel.ts"

export class HostDidNotStart extends Schema.TaggedError<HostDidNotStart>()("HostDidNotStart", {
  output: Schema.String
}) {
  override get message() {
    return `opencode serve ended before it was listening. Its output:\n${this.output}`
  }
}

export interface RealHostOptions {
  /** Values for the host's `plugin` setting, for example `["file:///clone"]`. */
  readonly plugin?: ReadonlyArray<string | readonly [string, unknown]>
  /** Merged over the host config that the harness writes. */
  readonly config?: Record<string, unknown>
  /** An existing project folder; without it a fresh git project is made. */
  readonly directory?: string
  /** An existing HOME, to start again where another server stopped. */
  readonly home?: string
  readonly env?: Record<string, string>
  /** The host's program; without it this package's own, else the one on the PATH. */
  readonly binary?: string
}

export interface RealHost {
  readonly url: string
  readonly client: OpencodeClient
  readonly directory: string
  readonly home: string
  readonly pid: number
  /** What the server printed, oldest first. */
  readonly output: Effect.Effect<ReadonlyArray<string>>
  /** Returns when the process has ended. */
  readonly exited: Effect.Effect<void>
  readonly kill: (signal: "SIGTERM" | "SIGKILL") => Effect.Effect<void>
}

/** The provider/model name under which the scripted model is configured. */
export const scriptedModel = "scripted/model"

/** The version of the host that the project develops against. */
export const hostVersion = "1.18.33"

const { resolve } = createRequire(import.meta.url)

/** The program of the package `opencode-ai` as this package finds it: its optional peer dependency, if that is installed. */
export const ownBinary = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const manifest = yield* Effect.try(() => resolve("opencode-ai/package.json"))
  const { bin } = yield* Effect.flatMap(fs.readFileString(manifest), Schema.decodeEffect(HostPackage))
  return path.join(path.dirname(manifest), bin.opencode)
}).pipe(Effect.orElseSucceed(() => undefined)) // it is not installed, or is something else by that name

const HostPackage = Schema.fromJsonString(Schema.Struct({ bin: Schema.Struct({ opencode: Schema.String }) }))

/** This package as the host's `plugin` setting names it. */
export const pluginUrl = new URL("../..", import.meta.url).href.replace(/\/$/, "")

/** A fresh git project with one commit, removed with the scope. */
export const makeProject = Effect.fn("RealHost.makeProject")(function*(files: Record<string, string> = {}) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const made = yield* Effect.acquireRelease(
    fs.makeTempDirectory({ prefix: "orchestrator-project-" }),
    // A server that is still up may write there while it is removed; after 2 s the rest is left to the system's own clearing.
    (folder) =>
      Effect.ignore(
        Effect.retry(fs.remove(folder, { recursive: true }), { times: 10, schedule: Schedule.spaced("200 millis") })
      )
  )
  const directory = yield* fs.realPath(made)
  for (const [name, content] of Object.entries({ "README.md": "# A project\n", ...files })) {
    yield* fs.makeDirectory(path.dirname(path.join(directory, name)), { recursive: true })
    yield* fs.writeFileString(path.join(directory, name), content)
  }
  const git = (...args: ReadonlyArray<string>) =>
    spawner.string(ChildProcess.make("git", [
      "-c",
      "user.name=test",
      "-c",
      "user.email=test@localhost",
      "-c",
      "init.defaultBranch=main",
      ...args
    ], { cwd: directory }))
  yield* git("init", "--quiet")
  yield* git("add", ".")
  yield* git("commit", "--quiet", "-m", "start")
  return directory
})

/**
 * With any plugin configured, the host installs its plugin types from the npm registry into each config folder that it
 * finds without them, which takes 4 to 20 s. These files tell it that they are there.
 */
export const skipInstall = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const dependencies = { "@opencode-ai/plugin": hostVersion }
  yield* fs.makeDirectory(path.join(folder, "node_modules"), { recursive: true })
  yield* fs.writeFileString(path.join(folder, "package.json"), JSON.stringify({ dependencies }))
  yield* fs.writeFileString(
    path.join(folder, "package-lock.json"),
    JSON.stringify({ lockfileVersion: 3, packages: { "": { dependencies } } })
  )
})

/** The catalogue of models in a HOME. */
const noModels = "models.json"

/**
 * Makes a HOME in which the host finds nothing to install, and no catalogue of models: that which it brings takes it 2 s of
 * CPU at the first turn of a server, and more at that of each project.
 */
export const prepareHome = Effect.fnUntraced(function*(home: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  yield* skipInstall(path.join(home, "config", "opencode"))
  yield* fs.writeFileString(path.join(home, noModels), "{}")
})

/**
 * A port that nobody listens on. Left to itself OpenCode takes 4096 where that is free: the next one does so too, and is in
 * the way when the first is started again, or is given what was left in a connection to that.
 */
const freePort = Effect.callback<number, PlatformError.PlatformError>((resume) => {
  const server = createServer()
  server.once("error", (cause) =>
    resume(Effect.fail(
      PlatformError.systemError({ _tag: "Unknown", module: "Socket", method: "listen", cause })
    )))
  server.listen(0, "127.0.0.1", () => {
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Starts `opencode serve` and waits until it listens. Stopped (SIGTERM, then SIGKILL after 2 s) with the scope. */
export const serve = Effect.fn("RealHost.serve")(function*(options: {
  readonly binary: string
  readonly directory: string
  readonly env: Record<string, string>
  /** Adds `env` to the environment of this process, instead of replacing it. */
  readonly extendEnv?: boolean
  /** Without it a free one. */
  readonly port?: number
}) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const port = options.port ?? (yield* freePort)
  const handle = yield* spawner.spawn(
    ChildProcess.make(options.binary, ["serve", "--port", String(port), "--hostname", "127.0.0.1"], {
      cwd: options.directory,
      env: options.env,
      extendEnv: options.extendEnv ?? false,
      forceKillAfter: "2 seconds"
    })
  )
  const output = yield* Ref.make<ReadonlyArray<string>>([])
  const lines = yield* Queue.sliding<string>(1_000)
  const reading = yield* Stream.decodeText(handle.all).pipe(
    Stream.splitLines,
    Stream.runForEach((line) =>
      Ref.update(output, (all) => [...all.slice(-999), line]).pipe(Effect.andThen(Queue.offer(lines, line)))
    ),
    Effect.forkScoped
  )
  const listening = Queue.take(lines).pipe(
    Effect.map((line) => /listening on (http:\S+)/.exec(line)?.[1]),
    Effect.repeat({ until: (found) => found !== undefined })
  )
  // Its output may end before the process does, and a child of it may hold it open for longer.
  const ended = Effect.ignore(handle.exitCode).pipe( // a death by a signal is an end as well
    Effect.andThen(Effect.timeoutOption(Fiber.await(reading), "1 second")),
    Effect.andThen(Ref.get(output)),
    Effect.flatMap((all) => Effect.fail(new HostDidNotStart({ output: all.join("\n") })))
  )
  const url = yield* Effect.raceFirst(listening, ended)
  return {
    url,
    client: createOpencodeClient({ baseUrl: url, directory: options.directory }),
    directory: options.directory,
    pid: Number(handle.pid),
    output: Ref.get(output),
    exited: Effect.ignore(handle.exitCode), // a death by a signal is an end as well
    kill: (signal: "SIGTERM" | "SIGKILL") => handle.kill({ killSignal: signal }).pipe(Effect.ignore)
  }
})

/** What keeps a host to folders of its own, and from the internet; the HOME is one that `prepareHome` has prepared. */
export const environmentOf = (path: Path.Path, home: string) => ({
  HOME: home,
  XDG_CONFIG_HOME: path.join(home, "config"),
  XDG_DATA_HOME: path.join(home, "data"),
  XDG_CACHE_HOME: path.join(home, "cache"),
  XDG_STATE_HOME: path.join(home, "state"),
  OPENCODE_DISABLE_AUTOUPDATE: "1",
  OPENCODE_DISABLE_MODELS_FETCH: "1",
  OPENCODE_MODELS_PATH: path.join(home, noModels),
  OPENCODE_DISABLE_LSP_DOWNLOAD: "1",
  OPENCODE_DISABLE_DEFAULT_PLUGINS: "1"
})

/**
 * For a host that lives for seconds: without its slowest compiler, and with its first collections of garbage later, it takes
 * 15 % less CPU. Not for what measures the host, or has it do much.
 */
export const shortLived = { BUN_JSC_useDFGJIT: "0", BUN_JSC_largeHeapSize: String(256 * 1_024 * 1_024) }

/** The host's `provider` setting for the scripted model. */
export const scriptedProvider = (url: string) => ({
  npm: "@ai-sdk/openai-compatible",
  name: "Scripted",
  options: { baseURL: url, apiKey: "none" },
  models: {
    model: { name: "Scripted model", limit: { context: 200_000, output: 8_000 }, cost: { input: 1, output: 2 } },
    other: { name: "Another scripted model", limit: { context: 200_000, output: 8_000 } }
  }
})

/** A server for tests: its own HOME, the scripted model as its provider. Stopped with the scope, as `serve` says. */
export const startHost = Effect.fn("RealHost.start")(function*(options: RealHostOptions = {}) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const model = yield* ScriptedModel
  const directory = options.directory ?? (yield* makeProject())
  const home = options.home ?? (yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" }))
  yield* prepareHome(home)
  // The host would do the same in the project's own folder, as soon as there is one.
  if (yield* fs.exists(path.join(directory, ".opencode"))) yield* skipInstall(path.join(directory, ".opencode"))
  const config = {
    share: "disabled",
    autoupdate: false,
    snapshot: false, // three runs of git a step, which nothing but an undo needs
    model: scriptedModel,
    small_model: scriptedModel,
    plugin: options.plugin ?? [],
    provider: {
      scripted: scriptedProvider(model.url)
    },
    ...options.config
  }
  const host: RealHost = {
    ...(yield* serve({
      binary: options.binary ?? (yield* ownBinary) ?? "opencode",
      directory,
      env: {
        PATH: process.env["PATH"] ?? "/usr/bin:/bin",
        ...environmentOf(path, home),
        OPENCODE_CONFIG_CONTENT: JSON.stringify(config),
        ...options.env
      }
    })),
    home
  }
  return host
})
