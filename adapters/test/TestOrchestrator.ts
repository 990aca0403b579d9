/** The whole orchestrator on a simulated OpenCode: what a test needs to run a mission under the virtual clock. */
import { Context, Effect, Layer, Path } from "effect"
import { commander } from "../../src/agents/team.ts"
import { readConfig } from "../../src/Config.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import type { Owner } from "../../src/host/Instance.ts"
import { SessionClient, type SessionError } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import * as CrashGate from "./CrashGate.ts"
import * as EmptySearch from "./EmptySearch.ts"
import * as MemoryFileSystem from "./MemoryFileSystem.ts"
import * as RecordingNotifier from "./RecordingNotifier.ts"
import { SimulatedHost, type SimulatedHostOptions, type SimulatedProcess } from "./SimulatedHost.ts"
import * as SimulatedInstance from "./SimulatedInstance.ts"
import * as SimulatedProcessGroups from "./SimulatedProcessGroups.ts"
import * as SimulatedWeb from "./SimulatedWeb.ts"

/** Settings as a user would write them. */
type Settings = Readonly<Record<string, unknown>>

export interface TestOptions extends SimulatedHostOptions {
  readonly config?: Settings
  /** Where tasks are recorded. Without one nothing is, unless the config says otherwise. */
  readonly disk?: MemoryFileSystem.MemoryDisk["Service"]
  /** What can be fetched; nothing, unless said. */
  readonly web?: SimulatedWeb.SimulatedWebOptions
}

/** One instance of the orchestrator, among those that come and go in one world. */
export interface InstanceOptions {
  readonly config?: Settings
  /** The process that it lives in. */
  readonly owner: Owner
  /** Where it can be killed. */
  readonly gate: CrashGate.CrashGate
  /** The OpenCode process that it is loaded in, beside the host's first one: it serves only the sessions begun here. */
  readonly process?: SimulatedProcess
}

/** The person in front of the simulated host. */
export class TestUser extends Context.Service<TestUser, {
  /** Says something to an agent (the Commander, unless named) in a session (a new one, unless named). */
  readonly say: (
    text: string,
    to?: { readonly session?: SessionId; readonly agent?: string }
  ) => Effect.Effect<SessionId, SessionError>
  /** All text that the user and the orchestrator put into a session, oldest first. */
  readonly heard: (session: SessionId) => Effect.Effect<ReadonlyArray<string>, SessionError>
}>()("orchestrator/test/TestUser") {}

/** All that outlives an instance: the simulated host, its disk and processes, and the toasts that were shown. */
export const world = ({ disk, web, ...options }: Omit<TestOptions, "config">) =>
  MemoryFileSystem.layer.pipe(
    Layer.provideMerge(
      disk === undefined
        ? MemoryFileSystem.MemoryDisk.layer
        : Layer.succeed(MemoryFileSystem.MemoryDisk, disk)
    ),
    Layer.provideMerge(Layer.mergeAll(
      SimulatedHost.layer(options),
      SimulatedInstance.SimulatedProcesses.layer,
      SimulatedProcessGroups.SimulatedPrograms.layer,
      RecordingNotifier.layer,
      EmptySearch.layer,
      SimulatedWeb.layer(web),
      Path.layer
    ))
  )

/** The core in a world, and the user, wired as the plugin wires them. */
export const instance = ({ config, gate, owner, process }: InstanceOptions) => {
  const user = Layer.effect(
    TestUser,
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const { client } = process ?? host.process
      const ids = yield* Ids
      const missions = yield* MissionLoop
      const { tools } = yield* Orchestrator
      const offered = Object.fromEntries(
        tools.map((tool) => [
          tool.name,
          (...call: Parameters<typeof tool.call>) => gate.guard(tool.call(...call))
        ])
      )
      if (process === undefined) yield* host.offer(offered)
      return TestUser.of({
        say: Effect.fnUntraced(function*(text, to) {
          const session = to?.session ?? (yield* client.create({ title: "A mission" })).id
          const agent = to?.agent ?? commander
          if (process !== undefined) yield* host.offer(offered, session)
          yield* gate.guard(missions.userSpoke(session, agent === commander, text))
          yield* client.prompt({ session, id: yield* ids.message, text, agent })
          return session
        }),
        heard: Effect.fnUntraced(function*(session) {
          const messages = yield* client.messages(session, 10_000)
          return messages.flatMap((message) =>
            message.role === "user" ? message.parts.flatMap((part) => (part.type === "text" ? [part.text] : [])) : []
          )
        })
      })
    })
  )
  const ports = CrashGate.layer(gate).pipe(
    Layer.provide(Layer.mergeAll(
      SimulatedInstance.layer(owner),
      process === undefined ? Layer.empty : Layer.succeed(SessionClient, process.client)
    ))
  )
  return user.pipe(
    Layer.provideMerge(Orchestrator.layer(readConfig(config ?? {}, "test").values)),
    Layer.provideMerge(Layer.mergeAll(ports, Ids.layer))
  )
}

/** One instance in a world of its own. */
export const layer = ({ config, ...options }: TestOptions) =>
  Layer.unwrap(Effect.gen(function*() {
    const owner = yield* Effect.flatMap(SimulatedInstance.SimulatedProcesses, (processes) => processes.start())
    const gate = yield* CrashGate.make
    return instance({
      owner,
      gate,
      config: options.disk === undefined ? { journal: "off", ...config } : config ?? {}
    })
  })).pipe(Layer.provideMerge(world(options)))
