/** The OpenCode that a command works with: the user's own, reached by its URL, or one started for it and watched over. */
import type { OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Config, Deferred, type Duration, Effect, FileSystem, Option, Path, Queue, Schedule, Schema } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { randomBytes } from "node:crypto"
import { pathToFileURL } from "node:url"
import { team } from "../../src/agents/team.ts"
import { defaults } from "../../src/Config.ts"
import { formatModel, type ModelRef } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { type HostConfig, register } from "../opencode-plugin/registration.ts"
import { connect, listen } from "../opencode-sdk/OpencodeSessionClient.ts"
import { HostDidNotStart, serve } from "../test/RealHost.ts"
import { type CommandFailed, unavailable, usage } from "./exit.ts"
import { packageName, packageRoot } from "./packageRoot.ts"
import { isAtLeast, oldestHost, type Program, updateHost } from "./program.ts"

export interface Host {
  readonly url: string
  readonly client: OpencodeClient
  /** The folder by which the host tells projects apart. */
  readonly directory: string
  /** The root of the project, where the journals lie. */
  readonly root: string
  readonly isOurs: boolean
  /** As it says itself; none of what is older than that question. */
  readonly version: string | undefined
  /** Holds a value when the host has come back, which nobody has taken notice of yet. */
  readonly backs: Queue.Queue<void>
  /** Fails when the host is gone for good. */
  readonly gone: Effect.Effect<never, CommandFailed>
  /** Ends the host's process at once, if it is ours: for a process that is itself about to end. */
  readonly killNow: () => void
}

/** What becomes of a host, for people. */
export type HostNews = (state: "started" | "lost" | "back", detail: string) => Effect.Effect<void>

// ---- reaching one ---------------------------------------------------------------------------------------------------

const credentials = Config.all({
  password: Config.option(Config.String("OPENCODE_SERVER_PASSWORD")),
  username: Config.String("OPENCODE_SERVER_USERNAME").pipe(Config.withDefault("opencode"))
})

const readUrl = (text: string): Effect.Effect<string, CommandFailed> =>
  Effect.suspend(() => {
    const url = URL.canParse(text) ? new URL(text) : undefined
    if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
      return Effect.fail(usage(`--url must look like http://127.0.0.1:4096, and "${text}" does not.`))
    }
    if (url.username !== "" || url.password !== "") {
      return Effect.fail(
        usage("--url may hold no password, which others would see: set OPENCODE_SERVER_PASSWORD instead.")
      )
    }
    return Effect.succeed(url.href.replace(/\/+$/, ""))
  })

/** How long a server may take to say that it is one: that needs nothing of the project. */
const patience = "20 seconds" satisfies Duration.Input

/** How long it may take to make the project ready: at the first time it installs what its plugins need. */
const readyLimit = "2 minutes" satisfies Duration.Input

/** What the server says of itself and of the project; says plainly what is wrong when it does not. */
const firstAnswer = Effect.fnUntraced(function*(client: OpencodeClient, url: string) {
  const ask = <A>(question: (signal: AbortSignal) => Promise<A>, limit: Duration.Input & string, tooLate: string) =>
    Effect.tryPromise(question).pipe(
      Effect.option, // the client cannot read what answers
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () => Effect.fail(unavailable(`${tooLate} within ${limit}.`))
      })
    )
  const health = yield* ask(
    (signal) => client.global.health({ signal }),
    patience,
    `What listens at ${url} has not answered, as an OpenCode does,`
  )
  const status = Option.getOrUndefined(health)?.response?.status
  if (status === 401 || status === 403) {
    return yield* unavailable(
      `The OpenCode at ${url} refuses the password: set OPENCODE_SERVER_PASSWORD (and OPENCODE_SERVER_USERNAME) as it has them.`
    )
  }
  if (Option.isSome(health) && status === undefined) {
    return yield* unavailable(`No OpenCode answers at ${url}: start one with "opencode serve", or leave --url out.`)
  }
  const where = Option.flatMap(
    yield* ask(
      (signal) => client.path.get({}, { signal }),
      readyLimit,
      `The OpenCode at ${url} has not made the project ready`
    ),
    ({ data }) => Schema.decodeUnknownOption(Where)(data)
  )
  const version = Option.getOrUndefined(
    Option.flatMap(health, ({ data }) => Schema.decodeUnknownOption(Health)(data))
  )?.version
  if (Option.isNone(where) && version !== undefined) {
    return yield* unavailable(
      `The OpenCode ${version} at ${url} cannot open the project: its log says why, and often its config or a full disk is the reason.`
    )
  }
  if (Option.isNone(where)) {
    return yield* unavailable(`What answers at ${url} is no OpenCode that this release knows: look at the address.`)
  }
  const { directory, worktree } = where.value
  // As the plugin finds its root: without version control the host gives the file system's.
  return { root: worktree === "/" ? directory : worktree, version }
})

const Health = Schema.Struct({ version: Schema.String })

const Where = Schema.Struct({ directory: Schema.String, worktree: Schema.String })

/** How long a host that runs elsewhere may be out of reach. */
const outOfReach = "60 seconds"

/** A server that runs already, which has answered once. */
export const reach = Effect.fnUntraced(function*(url: string, directory: string) {
  const address = yield* readUrl(url)
  const { password, username } = yield* credentials
  const client = connect({ url: address, directory, username, password: Option.getOrUndefined(password) })
  return { address, client, ...(yield* firstAnswer(client, address)) }
})

/** The same, watched over. */
export const attach = Effect.fn("attach")(function*(url: string, directory: string, news: HostNews) {
  const { address, client, root, version } = yield* reach(url, directory)
  const isThere = Effect.tryPromise((signal) => client.path.get({}, { signal })).pipe(
    Effect.timeout("10 seconds"),
    Effect.map(({ response }) => response !== undefined),
    Effect.orElseSucceed(() => false)
  )
  const backs = yield* Queue.sliding<void>(1)
  const gone = Effect.gen(function*() {
    while (true) {
      yield* Effect.sleep("2 seconds")
      if (yield* isThere) continue
      yield* news("lost", `OpenCode does not answer at ${address}`)
      const back = isThere.pipe(Effect.repeat({ schedule: Schedule.spaced("1 second"), until: (there) => there }))
      if (Option.isNone(yield* Effect.timeoutOption(back, outOfReach))) {
        return yield* unavailable(`The OpenCode at ${address} has not answered for ${outOfReach}.`)
      }
      yield* Queue.offer(backs, undefined)
      yield* news("back", `OpenCode answers again at ${address}`)
    }
  })
  const host: Host = {
    url: address,
    client,
    directory,
    root,
    version,
    isOurs: false,
    backs,
    gone,
    killNow: () => undefined
  }
  return host
})

// ---- starting one ---------------------------------------------------------------------------------------------------

/** A server that dies this often is not started again. */
const maxRestarts = 5

/** How long a program may take to listen, or to say its config, which takes a second or two. */
const startLimit = "60 seconds"

/** Starts a server on loopback, with `env` in its environment, and starts it again when it dies. Stopped with the scope. */
export const start = Effect.fn("start")(function*(options: {
  readonly program: Program
  readonly directory: string
  readonly env: Record<string, string>
  readonly news: HostNews
}) {
  const { directory, news, program } = options
  const { password, username } = yield* credentials
  // Whoever else is on this machine may reach loopback; without a password they could run commands as this user.
  const secret = Option.getOrElse(password, () => randomBytes(24).toString("base64url"))
  const env = { ...options.env, OPENCODE_SERVER_PASSWORD: secret, OPENCODE_SERVER_USERNAME: username }
  const first = yield* Deferred.make<string, CommandFailed>()
  const gone = yield* Deferred.make<never, CommandFailed>()
  const backs = yield* Queue.sliding<void>(1)
  let pid: number | undefined
  let port: number | undefined

  const once = Effect.fnUntraced(function*(count: number) {
    const host = yield* serve({
      binary: program.file,
      directory,
      env,
      extendEnv: true,
      ...(port === undefined ? {} : { port })
    }).pipe(
      Effect.timeoutOrElse({
        duration: startLimit,
        orElse: () =>
          Effect.fail(unavailable(`${program.file} has not begun to listen within ${startLimit}: is it an OpenCode?`))
      })
    )
    pid = host.pid
    port = Number(new URL(host.url).port)
    if (count === 0) yield* Deferred.succeed(first, host.url)
    else {
      // The plugin is loaded with the first request for the project, and goes on with what was left. A request that fails is
      // followed by those of the run.
      yield* Effect.tryPromise((signal) => client(host.url).tool.ids({}, { signal })).pipe(
        Effect.timeout("20 seconds"),
        Effect.ignore
      )
      yield* Queue.offer(backs, undefined)
      yield* news("back", `OpenCode was started again at ${host.url}`)
    }
    yield* host.exited
    pid = undefined
    yield* news("lost", "OpenCode has died")
  }, Effect.scoped)

  const client = (url: string) => connect({ url, directory, username, password: secret })

  yield* Effect.gen(function*() {
    yield* once(0)
    for (let count = 1; count <= maxRestarts; count++) {
      // One that does not come up has died as well: its port may be in use for a moment, or the machine be busy.
      yield* once(count).pipe(
        Effect.catch((error) => Effect.andThen(news("lost", didNotStart(error).message), Effect.sleep("2 seconds")))
      )
    }
    return yield* unavailable(`OpenCode has died ${maxRestarts + 1} times, and is not started again; its log says why.`)
  }).pipe(
    Effect.mapError(didNotStart),
    Effect.catch((error) => Effect.andThen(Deferred.fail(first, error), Deferred.fail(gone, error))),
    Effect.forkScoped
  )
  const url = yield* Deferred.await(first)
  const { root, version } = yield* firstAnswer(client(url), url)
  yield* news("started", `OpenCode ${version ?? ""} (${program.file}) listens on ${url}, in ${root}`)
  const host: Host = {
    url,
    client: client(url),
    directory,
    root,
    version,
    isOurs: true,
    backs,
    gone: Deferred.await(gone),
    killNow: () => {
      if (pid === undefined) return
      try {
        process.kill(-pid, "SIGKILL") // it leads a process group of its own
      } catch {
        // it has ended by itself
      }
    }
  }
  return host
})

const didNotStart = (error: Error): CommandFailed => {
  if (Schema.is(HostDidNotStart)(error)) {
    const lines = error.output.trim().split("\n").filter((line) => line.trim() !== "").slice(-10)
    return unavailable(
      `OpenCode ended before it was listening. Its last words:\n${
        lines.map((line) => `  ${line}`).join("\n") || "  none"
      }`
    )
  }
  return "exit" in error && "reason" in error
    ? error as CommandFailed // it has both
    : unavailable(`OpenCode could not be started: ${error.message}`)
}

/** Our agents for a server without the plugin, under what the user's config says of them: the host's own tools in the place of ours. */
export const withAgents = Effect.fnUntraced(
  function*(program: Program, directory: string, model: ModelRef | undefined) {
    const { folder } = yield* packageRoot
    const users = yield* resolvedConfig(program.file, directory)
    if (namesPlugin(users, folder) && model === undefined) return {}
    const host: HostConfig = structuredClone(users)
    register(host, defaults, [])
    const agents = Object.entries(host.agent ?? {}).filter(([name]) => team.some((known) => known.name === name))
    return {
      agent: Object.fromEntries(agents.map(([name, agent]) => [name, {
        ...agent,
        ...(isObject(agent?.["permission"]) ? { permission: withHostTools(agent["permission"]) } : {}),
        ...(model === undefined ? {} : { model: formatModel(model) })
      }]))
    }
  }
)

/** Reading and searching with what the host brings, wherever ours are allowed. */
const withHostTools = (permission: Record<string, unknown>) => ({
  ...permission,
  ...(permission["grep_search"] === "allow" ? { grep: "allow" } : {}),
  ...(permission["glob_search"] === "allow" ? { glob: "allow", list: "allow" } : {})
})

/** What is older may work; where it does not, that is the first thing to look at. */
export const ageOf = ({ version }: Host): string | undefined =>
  version === undefined || isAtLeast(version, oldestHost)
    ? undefined
    : `OpenCode ${version} is older than this release was made for. ${updateHost}`

// ---- the plugin in it -----------------------------------------------------------------------------------------------

const builtFolder = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const { folder } = yield* packageRoot
  if (!(yield* fs.exists(path.join(folder, "dist", "plugin.js")))) {
    return yield* unavailable(`The plugin is not built: run "npm run build" in ${folder} first.`)
  }
  return folder
})

/** This package as a value of the host's `plugin` setting. */
export const pluginUrl = Effect.map(builtFolder, (folder) => pathToFileURL(folder).href)

/** The same beside a config that may name it already: then that one works, with its options, and this one does nothing. */
export const fallbackPluginUrl = Effect.map(
  builtFolder,
  (folder) => pathToFileURL(`${folder}/dist/fallback.js`).href
)

const ConfigText = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))

/** The user's config as the host has put it together. */
export const resolvedConfig = Effect.fnUntraced(function*(binary: string, directory: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const text = yield* spawner.string(
    ChildProcess.make(binary, ["debug", "config"], { cwd: directory, extendEnv: true })
  ).pipe(Effect.timeoutOrElse({
    duration: startLimit,
    orElse: () => Effect.fail(unavailable(`${binary} has not said its config within ${startLimit}: is it an OpenCode?`))
  }))
  return Option.getOrElse(Schema.decodeOption(ConfigText)(text), (): Record<string, unknown> => ({}))
})

const PluginList = Schema.Struct({
  plugin: Schema.optional(
    Schema.Array(Schema.Union([Schema.String, Schema.TupleWithRest(Schema.Tuple([Schema.String]), [Schema.Unknown])]))
  )
})

/** Whether a config's `plugin` setting names this package. */
export const namesPlugin = (config: unknown, folder: string): boolean =>
  Option.match(Schema.decodeUnknownOption(PluginList)(config), {
    onNone: () => [],
    onSome: ({ plugin = [] }) => plugin
  })
    .map((entry) => (typeof entry === "string" ? entry : entry[0]))
    .some((name) => name.includes(packageName) || name.replace("file://", "").startsWith(folder))

/** The config that the user's environment gives, with additions: lists grow, objects are added to. */
export const withPlugin = Effect.fnUntraced(function*(additions: Record<string, unknown>) {
  const text = yield* Config.String("OPENCODE_CONFIG_CONTENT").pipe(Config.withDefault("{}"))
  const given = yield* Schema.decodeEffect(ConfigText)(text).pipe(
    Effect.mapError(() => usage("The variable OPENCODE_CONFIG_CONTENT holds no JSON object."))
  )
  const merged = Object.entries(additions).map(([name, value]) => {
    const own = given[name]
    if (Array.isArray(value)) return [name, [...(Array.isArray(own) ? own as ReadonlyArray<unknown> : []), ...value]]
    return [name, isObject(own) && isObject(value) ? { ...own, ...value } : value]
  })
  return yield* Schema.encodeEffect(ConfigText)({ ...given, ...Object.fromEntries(merged) })
})

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null

/** The plugin is loaded when the host offers its tools: one that it skipped, it skipped without a word. */
export const isLive = (client: OpencodeClient) =>
  Effect.tryPromise((signal) => client.tool.ids({}, { signal })).pipe(
    Effect.timeout("60 seconds"),
    Effect.map(({ data }) => data?.includes("delegate_task") === true)
  )

export const requireModel = Effect.fnUntraced(function*(model: ModelRef) {
  const sessions = yield* SessionClient
  const all = yield* sessions.models
  if (all.some((known) => formatModel(known) === formatModel(model))) return
  const near = all.filter(({ provider }) => provider === model.provider)
  const known = (near.length > 0 ? near : all).slice(0, 10).map(formatModel)
  return yield* usage(
    `OpenCode has no model "${formatModel(model)}"; it has, for example: ${known.join(", ") || "none at all"}.`
  )
})

// ---- its events -----------------------------------------------------------------------------------------------------

/** Everything that the host tells, from now on, through breaks of the connection; beyond the buffer the oldest are lost. */
export const rawEvents = Effect.fn("rawEvents")(function*(client: OpencodeClient) {
  const queue = yield* Queue.sliding<unknown>(1_000)
  yield* listen(client, (raw) => Queue.offer(queue, raw))
  return queue
})
