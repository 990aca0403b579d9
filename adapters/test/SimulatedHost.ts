/**
 * A simulated OpenCode on the runtime's clock: sessions, turns, tools, permissions and events as the real one shows
 * them; faults and crashes on request. It passes the same contract suite as the real host.
 */
import { Context, Deferred, Effect, FiberSet, Layer, PubSub, Scope, Stream } from "effect"
import { team } from "../../src/agents/team.ts"
import { endOfRole, type HostAgent, type Permission } from "../../src/domain/Agent.ts"
import {
  type HostEvent,
  noUsage,
  type Rule,
  type Session,
  SessionId,
  type SessionStatus,
  type TurnError
} from "../../src/domain/Session.ts"
import {
  HostRefused,
  HostUnavailable,
  type Prompt,
  SessionClient,
  SessionNotFound
} from "../../src/host/SessionClient.ts"
import { drawCall, drawEvent, type Faults, noFaults, type Operation } from "./Faults.ts"
import type { ModelCall } from "./Script.ts"
import {
  type CallGauge,
  type HostSession,
  makeTurns,
  simulatedModel,
  type SimulatedScript,
  type SimulatedTool
} from "./SimulatedTurns.ts"

export interface SimulatedHostOptions {
  readonly script: SimulatedScript
  /** From the acceptance of a prompt to the start of its turn, ms. An abort in between is forgotten, as by the real host. */
  readonly startDelay?: number
  /** Agents beside the orchestrator's seven and the host's own `build` and `general`. */
  readonly agents?: ReadonlyArray<HostAgent>
  /** What goes wrong from the start. */
  readonly faults?: Faults
  /** Told when a model call of a session begins and ends. */
  readonly gauge?: CallGauge
}

/** One OpenCode process. */
export interface SimulatedProcess {
  readonly client: SessionClient["Service"]
  /** The port without faults. It fails, too, while the process is down. */
  readonly direct: SessionClient["Service"]
  /**
   * The process dies, as by `kill -9`: its running turns end without a word, their messages never completed; prompts that
   * were accepted and not stored are lost, and so are events on their way. Calls fail, those under way as well, until
   * `restart`. Sessions and messages survive.
   */
  readonly crash: Effect.Effect<void>
  readonly restart: Effect.Effect<void>
}

/** The test's side of the simulation. */
export class SimulatedHost extends Context.Service<SimulatedHost, {
  /**
   * The tools that the host offers, by name, beside its own `bash`, `question` and `todowrite`: in all sessions, or in those of the
   * tree below `root`. They take the place of those offered before; calls of those under way fail.
   */
  readonly offer: (tools: Readonly<Record<string, SimulatedTool>>, root?: SessionId) => Effect.Effect<void>
  /** The tools are gone, and calls under way fail. */
  readonly withdraw: (root?: SessionId) => Effect.Effect<void>
  /** All calls of the model so far, oldest first. */
  readonly calls: Effect.Effect<ReadonlyArray<ModelCall & { readonly session: SessionId }>>
  /** All sessions that exist. */
  readonly sessions: Effect.Effect<ReadonlyArray<Session>>
  /** Events that fit are lost from now on. */
  readonly lose: (lost: (event: HostEvent) => boolean) => Effect.Effect<void>
  /** The next `times` calls of an operation fail: unavailable, before they have any effect. */
  readonly fail: (operation: Operation, times: number) => Effect.Effect<void>
  /** What goes wrong from now on, and how often. */
  readonly setFaults: (faults: Faults) => Effect.Effect<void>
  /** The OpenCode process that the port speaks to. */
  readonly process: SimulatedProcess
  /** The port of that process without faults, for the test and its user. */
  readonly direct: SessionClient["Service"]
  /** That process dies; see SimulatedProcess. */
  readonly crash: Effect.Effect<void>
  readonly restart: Effect.Effect<void>
  /** Another OpenCode process in the same folder: the same sessions and messages, its own turns, states and events. */
  readonly another: Effect.Effect<SimulatedProcess>
}>()("orchestrator/test/SimulatedHost") {
  static readonly layer = (options: SimulatedHostOptions): Layer.Layer<SimulatedHost | SessionClient> =>
    Layer.effectContext(simulate(options))
}

const toRules = (permissions: Readonly<Record<string, Permission>>): ReadonlyArray<Rule> =>
  Object.entries(permissions).flatMap(([permission, value]): ReadonlyArray<Rule> =>
    typeof value === "string"
      ? [{ permission, pattern: "*", action: value }]
      : Object.entries(value).map(([pattern, action]) => ({ permission, pattern, action }))
  )

const builtIn = (name: string, mode: HostAgent["mode"]): HostAgent => ({
  name,
  mode,
  description: undefined,
  model: undefined,
  hidden: false,
  permission: [{ permission: "*", pattern: "*", action: "allow" }]
})

const simulatedAgents: ReadonlyArray<HostAgent> = [
  builtIn("build", "primary"),
  builtIn("general", "subagent"),
  ...team.map((agent): HostAgent => ({
    name: agent.name,
    mode: agent.mode,
    description: agent.description,
    model: undefined,
    hidden: false,
    permission: [...toRules({ "*": "deny", ...agent.rights }), endOfRole]
  }))
]

/** How calls reach a process. */
type Way = <A, E>(
  operation: Operation,
  effect: Effect.Effect<A, E>
) => Effect.Effect<A, E | HostUnavailable | HostRefused>

/** A process as the simulation sees it. */
interface Running {
  readonly hub: PubSub.PubSub<HostEvent>
  /** Prompts that are accepted and not stored yet, and events on their way. */
  readonly pending: FiberSet.FiberSet
  life: Life
}

/** One life of a process, from its start to its crash. */
interface Life {
  readonly ended: Deferred.Deferred<void>
  isOver: boolean
}

const newLife = (): Life => ({ ended: Deferred.makeUnsafe(), isOver: false })

const simulate = Effect.fnUntraced(function*(options: SimulatedHostOptions) {
  const sessions = new Map<SessionId, HostSession<Running>>()
  const agents = [...simulatedAgents, ...(options.agents ?? [])]
  const scope = yield* Effect.scope
  const failures = new Map<Operation, number>()
  let lost: (event: HostEvent) => boolean = () => false
  let faults = options.faults ?? noFaults
  let created = 0

  const publish = ({ hub, pending }: Running, event: HostEvent): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (lost(event)) return Effect.void
      return Effect.flatMap(drawEvent(faults), (arrivals) =>
        Effect.forEach(arrivals, (after) => {
          const arriving = Effect.asVoid(PubSub.publish(hub, event))
          return after === 0 ? arriving : Effect.asVoid(FiberSet.run(pending, Effect.delay(arriving, after)))
        }, { discard: true }))
    })

  const startProcess: Effect.Effect<Running> = Effect.gen(function*() {
    const hub = yield* PubSub.unbounded<HostEvent>()
    const pending = yield* FiberSet.make()
    return { hub, pending, life: newLife() }
  }).pipe(Effect.provideService(Scope.Scope, scope))

  const turns = yield* makeTurns<Running>({
    agents,
    script: options.script,
    gauge: options.gauge,
    publish,
    find: (id) => sessions.get(id)
  })

  const find = (session: SessionId) =>
    Effect.suspend(() => {
      const found = sessions.get(session)
      return found === undefined || found.deleted
        ? Effect.fail(new SessionNotFound({ session }))
        : Effect.succeed(found)
    })

  const existing = () => [...sessions.values()].filter((session) => !session.deleted)

  // ---- what operations do -----------------------------------------------------------------------------------------

  /** What happens after the host has said yes to a prompt. */
  const accept = Effect.fnUntraced(function*(process: Running, session: HostSession<Running>, prompt: Prompt) {
    yield* Effect.sleep(1)
    const agent = prompt.agent ?? "build"
    if (!agents.some((known) => known.name === agent)) {
      const error: TurnError = { name: "UnknownError", message: `Agent not found: "${agent}".` }
      return yield* publish(process, { type: "error", session: prompt.session, error })
    }
    if (session.deleted || session.stored.some(({ message }) => message.id === prompt.id)) return
    const part = { type: "text" as const, text: prompt.text, metadata: prompt.metadata ?? {} }
    session.stored.push({
      message: { role: "user", id: prompt.id, parts: [part] },
      text: prompt.text,
      tools: [],
      agent
    })
    session.info = { ...session.info, agent, model: prompt.model ?? session.info.model ?? simulatedModel }
    if (prompt.noReply === true || session.turn !== undefined) return
    yield* Effect.sleep(options.startDelay ?? 10)
    if (!session.deleted) yield* turns.start(session, process)
  })

  const deleteTree = (process: Running, id: SessionId): Effect.Effect<void> =>
    Effect.gen(function*() {
      for (const child of existing()) if (child.info.parent === id) yield* deleteTree(process, child.info.id)
      const session = sessions.get(id)
      if (session === undefined || session.deleted) return
      session.deleted = true
      yield* publish(process, { type: "deleted", session: id })
    })

  const answerAsk = (id: string, text: string) =>
    Effect.suspend(() =>
      turns.answer(id, text)
        ? Effect.void
        : Effect.fail(new HostRefused({ operation: "reply", status: 404, detail: `no request ${id}` }))
    )

  // ---- the port ---------------------------------------------------------------------------------------------------

  /** An operation on its way to the host and back: it takes a moment, and may go wrong at each end. */
  const sent = (process: Running): Way => (operation, effect) =>
    Effect.gen(function*() {
      const called = process.life
      const unavailable = (detail: string) => new HostUnavailable({ operation, detail })
      const { after, before, slowBy } = yield* drawCall(faults, operation)
      if (slowBy === 0) yield* Effect.sleep(1)
      else yield* Effect.timeoutOption(Deferred.await(called.ended), slowBy)
      if (called.isOver) return yield* unavailable("the simulated host is down")
      const left = failures.get(operation) ?? 0
      if (left > 0) {
        failures.set(operation, left - 1)
        return yield* unavailable("a simulated failure")
      }
      if (before !== undefined) return yield* before
      const answer = yield* effect
      if (after !== undefined) return yield* after
      return answer
    })

  /** The same without faults. */
  const straight = (process: Running): Way => <A, E>(operation: Operation, effect: Effect.Effect<A, E>) =>
    Effect.suspend((): Effect.Effect<A, E | HostUnavailable> =>
      process.life.isOver
        ? Effect.fail(new HostUnavailable({ operation, detail: "the simulated host is down" }))
        : effect
    )

  const makeClient = (process: Running, through: Way) =>
    SessionClient.of({
      create: (input) =>
        through(
          "create",
          Effect.sync(() => {
            const id = SessionId.make(`ses_${String(++created).padStart(6, "0")}`)
            const info: Session = {
              id,
              parent: input.parent,
              title: input.title,
              agent: input.agent,
              model: undefined,
              permission: input.permission ?? [],
              metadata: input.metadata ?? {},
              usage: noUsage
            }
            sessions.set(id, {
              info,
              stored: [],
              todos: [],
              status: undefined,
              turn: undefined,
              process,
              deleted: false
            })
            return info
          })
        ),
      get: (session) => through("get", Effect.map(find(session), ({ info }) => info)),
      children: (session) =>
        through(
          "children",
          Effect.map(
            find(session),
            () => existing().filter(({ info }) => info.parent === session).map(({ info }) => info)
          )
        ),
      sessions: through("sessions", Effect.sync(() => existing().slice(-1_000).map(({ info }) => info))),
      prompt: (prompt) =>
        through(
          "prompt",
          Effect.flatMap(
            find(prompt.session),
            (session) => Effect.asVoid(FiberSet.run(process.pending, accept(process, session, prompt)))
          )
        ),
      messages: (session, limit) =>
        through(
          "messages",
          Effect.map(
            find(session),
            ({ stored }) =>
              stored.filter(({ compaction }) => compaction !== true).slice(-limit).map(({ message }) => message)
          )
        ),
      todos: (session) => through("todos", Effect.map(find(session), ({ todos }) => todos)),
      compact: (id) =>
        through(
          "compact",
          Effect.flatMap(
            find(id),
            (session) => Effect.andThen(turns.compact(session), publish(process, { type: "idle", session: id }))
          )
        ),
      hasMessage: (session, id) =>
        through(
          "hasMessage",
          Effect.sync(() => {
            const found = sessions.get(session)
            return found?.deleted === false && found.stored.some(({ message }) => message.id === id)
          })
        ),
      statuses: through(
        "statuses",
        Effect.sync(() =>
          new Map(
            [...sessions].flatMap(([id, session]): ReadonlyArray<[SessionId, SessionStatus]> =>
              session.status === undefined || session.process !== process ? [] : [[id, session.status]]
            )
          )
        )
      ),
      abort: (session) =>
        through(
          "abort",
          Effect.suspend(() =>
            turns.abort(sessions.get(session), process) ?? publish(process, { type: "idle", session })
          )
        ),
      delete: (session) => through("delete", deleteTree(process, session)),
      events: Stream.fromPubSub(process.hub),
      agents: through("agents", Effect.succeed(agents)),
      models: through("models", Effect.succeed([simulatedModel, { provider: "scripted", model: "other" }])),
      replyPermission: (id, reply) => through("reply", answerAsk(id, reply)),
      replyQuestion: (id, answers) =>
        through(
          "reply",
          answerAsk(id, answers === undefined ? "The user dismissed the question." : JSON.stringify(answers))
        )
    })

  const handle = (process: Running): SimulatedProcess => ({
    client: makeClient(process, sent(process)),
    direct: makeClient(process, straight(process)),
    crash: Effect.suspend(() => {
      if (process.life.isOver) return Effect.void
      process.life.isOver = true
      Deferred.doneUnsafe(process.life.ended, Effect.void)
      turns.crash(sessions.values(), process)
      return FiberSet.clear(process.pending)
    }),
    restart: Effect.sync(() => {
      if (process.life.isOver) process.life = newLife()
    })
  })

  const process = handle(yield* startProcess)
  const host = SimulatedHost.of({
    offer: (tools, root) => Effect.sync(() => turns.offer(tools, root)),
    withdraw: (root) => Effect.sync(() => turns.withdraw(root)),
    calls: turns.calls,
    sessions: Effect.sync(() => existing().map(({ info }) => info)),
    lose: (predicate) => Effect.sync(() => void (lost = predicate)),
    fail: (operation, times) => Effect.sync(() => void failures.set(operation, times)),
    setFaults: (next) => Effect.sync(() => void (faults = next)),
    process,
    direct: process.direct,
    crash: process.crash,
    restart: process.restart,
    another: Effect.map(startProcess, handle)
  })

  return Context.make(SessionClient, process.client).pipe(Context.add(SimulatedHost, host))
})
