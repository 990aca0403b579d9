/** The OpenCode 1.x plugin: the orchestrator's core on one ManagedRuntime per project, behind the host's hooks. */
import { NodeFileSystem, NodePath } from "@effect/platform-node"
import type { Hooks, Plugin, PluginInput, ToolContext } from "@opencode-ai/plugin"
import { createOpencodeClient, type OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Cause, Effect, Exit, Layer, ManagedRuntime, Queue, Stream } from "effect"
import { commander } from "../../src/agents/team.ts"
import { type HostEvent, isOwnPrompt, ownPrompt, SessionId } from "../../src/domain/Session.ts"
import { Notifier, presets } from "../../src/host/Notifier.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import * as LogFile from "../../src/LogFile.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { SmartContext } from "../../src/mission/SmartContext.ts"
import { UserCommands } from "../../src/mission/UserCommands.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import { type Caller, PermissionDenied, type Tool } from "../../src/tools/Tool.ts"
import * as NodePorts from "../node-process/NodePorts.ts"
import * as Otel from "../node-process/Otel.ts"
import { eventBuffer, make as makeSessionClient } from "../opencode-sdk/OpencodeSessionClient.ts"
import { makeEventReader } from "../opencode-sdk/wire.ts"
import { loadConfig } from "./config.ts"
import { commandMark, type HostConfig, register } from "./registration.ts"
import * as Toasts from "./Toasts.ts"

export const server: Plugin = async (input, options) => {
  const client = connect(input)
  const loaded = await Effect.runPromise(
    loadConfig(projectRoot(input), options).pipe(Effect.provide([NodeFileSystem.layer, NodePath.layer]))
  )
  const config = loaded.values
  const toEvent = makeEventReader(() => performance.now())
  const events = await Effect.runPromise(Queue.sliding<HostEvent>(eventBuffer))
  const host = Layer.mergeAll(
    Layer.succeed(SessionClient, makeSessionClient(client, Stream.fromQueue(events))),
    Toasts.layer(client, config.toasts)
  )
  const runtime = ManagedRuntime.make(
    Orchestrator.layer(config).pipe(
      Layer.provideMerge(host),
      Layer.provideMerge(Otel.layer(process.env)),
      Layer.provideMerge(LogFile.layer(config.logLevel)),
      Layer.provideMerge(Toasts.layerLogger(client)),
      Layer.provideMerge(NodePorts.layer(projectRoot(input)))
    )
  )

  const reported = new Set<string>()
  /** Says once that something inside went wrong. The host's call goes on. */
  const report = (where: string, cause: Cause.Cause<unknown>) =>
    Effect.gen(function*() {
      const detail = Cause.pretty(cause)
      yield* Effect.logError(`${where} failed`, detail)
      if (reported.has(where)) return
      reported.add(where)
      const notifier = yield* Notifier
      yield* notifier.show(presets.internalFailure(where, detail.split("\n")[0] ?? ""))
    })

  /** Runs a hook so that nothing that happens inside reaches the host. */
  const total = async (
    where: string,
    effect: Effect.Effect<
      unknown,
      never,
      Orchestrator | MissionLoop | Missions | Notifier | SmartContext | UserCommands
    >
  ): Promise<void> => {
    await runtime.runPromiseExit(Effect.catchCause(effect, (cause) => report(where, cause)))
  }

  const built = await runtime.runPromiseExit(Orchestrator)
  if (Exit.isFailure(built)) {
    // Without a core there is nothing to offer; the host starts as if the plugin were not there, and its log says why.
    await client.app.log({ service: "orchestrator", level: "error", message: Cause.pretty(built.cause) }).catch(() =>
      undefined
    )
    return {}
  }
  const { tools } = built.value

  const missionOf = (root: SessionId) => Effect.flatMap(Missions, ({ get }) => get(root))

  let configReported = false
  const reportConfig = Effect.gen(function*() {
    if (configReported || loaded.problems.length === 0) return
    configReported = true
    const notifier = yield* Notifier
    yield* notifier.show(presets.configProblem(loaded.problems))
  })

  const hooks: Hooks = {
    config: (host) =>
      total(
        "registering agents",
        Effect.sync(() => {
          const settings = host as HostConfig // the v1 types lack the long form of permissions
          register(settings, config, tools.map(({ name }) => name))
        })
      ),

    event: async ({ event: raw }) => {
      const event = toEvent(raw)
      if (event !== undefined) Queue.offerUnsafe(events, event)
      if (raw.type === "session.created") await total("reporting the config", reportConfig)
    },

    "chat.message": (chat, { message, parts }) =>
      total(
        "hearing the user",
        Effect.gen(function*() {
          yield* reportConfig
          const typed = parts.filter((part) =>
            part.type === "text" && part.synthetic !== true && !isOwnPrompt(part.metadata)
          )
          if (typed.length === 0) return
          const text = typed.map((part) => (part.type === "text" ? part.text : "")).join("\n")
          const missions = yield* MissionLoop
          yield* missions.userSpoke(SessionId.make(chat.sessionID), message.agent === commander, text)
        })
      ),

    "command.execute.before": ({ arguments: typed, command, sessionID }, { parts }) =>
      total(
        "carrying out a command",
        Effect.gen(function*() {
          // A command of the user's own by the same name has another template.
          const marked = parts.flatMap((part) => part.type === "text" && part.text.includes(commandMark) ? [part] : [])
          const [first] = marked
          if (first === undefined) return
          const commands = yield* UserCommands
          const { informs, text } = yield* commands.run(command, typed, SessionId.make(sessionID))
          first.text = text
          if (informs) first.metadata = { ...first.metadata, ...ownPrompt("command") }
        })
      ),

    "experimental.session.compacting": ({ sessionID }, output) =>
      total(
        "keeping a mission through a compaction",
        Effect.gen(function*() {
          const session = SessionId.make(sessionID)
          const { atCompaction } = yield* SmartContext
          output.context.push(...(yield* atCompaction(session, yield* missionOf(session))))
        })
      ),

    "experimental.compaction.autocontinue": ({ sessionID }, output) =>
      total(
        "going on after a compaction",
        Effect.gen(function*() {
          const session = SessionId.make(sessionID)
          const { isAtRest } = yield* SmartContext
          if (yield* isAtRest(session, yield* missionOf(session))) output.enabled = false
        })
      ),

    tool: Object.fromEntries(tools.map((tool) => [tool.name, {
      description: tool.description,
      args: tool.parameters["properties"] as never, // the host takes JSON Schema properties as well as the Zod of its types
      execute: async (args: unknown, context: ToolContext) => {
        const call = tool.call(args, toCaller(context))
        const exit = await runtime.runPromiseExit(
          Effect.tapCause(call, (cause) => Cause.hasDies(cause) ? report(tool.name, cause) : Effect.void),
          { signal: context.abort }
        )
        if (Exit.isSuccess(exit)) return exit.value
        // A thrown error reaches the model as its message.
        throw new Error(refusal(tool, exit.cause))
      }
    }])),

    "tool.definition": async ({ toolID }, output) => {
      const tool = tools.find(({ name }) => name === toolID)
      // The host marks every argument as required; this says which really are. The v1 types lack the field.
      if (tool !== undefined) Object.assign(output, { jsonSchema: tool.parameters })
    },

    dispose: () => runtime.dispose()
  }
  return hooks
}

const toCaller = (context: ToolContext): Caller => ({
  session: SessionId.make(context.sessionID),
  agent: context.agent,
  ask: ({ always, metadata, patterns, permission }) =>
    Effect.tryPromise({
      try: () => context.ask({ permission, patterns: [...patterns], always: [...always], metadata: { ...metadata } }),
      catch: (error) => new PermissionDenied({ permission, patterns, reason: rejection(error) })
    })
})

/** Why the host refused: the user's words where there are any, cut; the rules that it would list say nothing more. */
const rejection = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error)
  return error.name === "PermissionDeniedError"
    ? "a rule forbids it"
    : error.message.replace(/[.\s]+$/, "").slice(0, 1_000)
}

const refusal = (tool: Tool, cause: Cause.Cause<{ readonly message: string }>): string => {
  const failure = Cause.findErrorOption(cause)
  if (failure._tag === "Some") return failure.value.message
  return Cause.hasInterruptsOnly(cause)
    ? `${tool.name} was aborted.`
    : `${tool.name} failed inside the orchestrator; the log has the details. Try another way.`
}

/** In a folder without version control the host gives the file system's root as its worktree. */
const projectRoot = ({ directory, worktree }: PluginInput): string => (worktree === "/" ? directory : worktree)

/**
 * The SDK's v2 client, over the transport of the v1 client that the host hands over: that one works inside the process,
 * also where no HTTP listener runs.
 */
const connect = ({ client, directory, serverUrl }: PluginInput): OpencodeClient => {
  const settings = transportSettings(client)
  return createOpencodeClient({
    baseUrl: typeof settings["baseUrl"] === "string" ? settings["baseUrl"] : serverUrl.href,
    directory,
    ...(settings["headers"] instanceof Headers ? { headers: Object.fromEntries(settings["headers"]) } : {}),
    ...(typeof settings["fetch"] === "function" ? { fetch: settings["fetch"] as typeof fetch } : {}) // the SDK types it so
  })
}

/** The settings of the SDK's HTTP client, which it does not make public. */
const transportSettings = (client: unknown): Record<string, unknown> => {
  const inner = isObject(client) ? client["_client"] : undefined
  const settings: unknown = isObject(inner) && typeof inner["getConfig"] === "function"
    ? inner["getConfig"]()
    : undefined
  return isObject(settings) ? settings : {}
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  (typeof value === "object" || typeof value === "function") && value !== null
