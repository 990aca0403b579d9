/** The whole orchestrator on a simulated OpenCode: what a test needs to run a mission under the virtual clock. */
import { Context, Effect, FileSystem, Layer, Path } from "effect"
import { commander } from "../../src/agents/team.ts"
import { readConfig } from "../../src/Config.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { Instance } from "../../src/host/Instance.ts"
import { SessionClient, type SessionError } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import * as RecordingNotifier from "./RecordingNotifier.ts"
import { SimulatedHost, type SimulatedHostOptions } from "./SimulatedHost.ts"

export interface TestOptions extends SimulatedHostOptions {
  /** Settings as a user would write them. */
  readonly config?: Readonly<Record<string, unknown>>
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

/** The core, the simulated host, the recorded toasts and the user, wired as the plugin wires them. */
export const layer = (options: TestOptions) => {
  const user = Layer.effect(
    TestUser,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const host = yield* SimulatedHost
      const ids = yield* Ids
      const missions = yield* MissionLoop
      const { tools } = yield* Orchestrator
      yield* host.offer(Object.fromEntries(tools.map((tool) => [tool.name, tool.call])))
      return TestUser.of({
        say: Effect.fnUntraced(function*(text, to) {
          const session = to?.session ?? (yield* client.create({ title: "A mission" })).id
          const agent = to?.agent ?? commander
          yield* missions.userSpoke(session, agent === commander, text)
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
  return user.pipe(
    Layer.provideMerge(Orchestrator.layer(readConfig({ journal: "off", ...options.config }, "test").values)),
    Layer.provideMerge(Layer.mergeAll(
      FileSystem.layerNoop({}),
      Path.layer,
      Layer.succeed(Instance, {
        root: "/project",
        owner: { pid: 1, startedAt: "1", machine: "test01" },
        isAlive: () => Effect.succeed("dead")
      })
    )),
    Layer.provideMerge(Layer.mergeAll(Ids.layer, SimulatedHost.layer(options), RecordingNotifier.layer))
  )
}
