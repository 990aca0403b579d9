/**
 * A simulated OpenCode on the runtime's clock: sessions, turns, tools, permissions and events as the real one shows
 * them, faults on request. It passes the same contract suite as the real host.
 */
import { Clock, Context, Deferred, Effect, Exit, Fiber, FiberSet, Layer, PubSub, Random, Schema, Stream } from "effect"
import { team } from "../../src/agents/team.ts"
import { endOfRole, evaluate, type HostAgent, type Permission } from "../../src/domain/Agent.ts"
import {
  type HostEvent,
  makeMessageId,
  type Message,
  MessageId,
  type ModelRef,
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
import type { Caller } from "../../src/tools/Tool.ts"
import {
  type ConversationMessage,
  defaultUsage,
  describeRequest,
  type ModelCall,
  type ModelReply,
  type ModelRequest
} from "./Script.ts"

export type SimulatedTool = (args: unknown, caller: Caller) => Effect.Effect<string, { readonly message: string }>

/** The turn dies: its message stays unfinished, the session is idle, and no event tells of it. */
export interface SilentDeath {
  readonly silentDeath: true
}

/** A Script, which may let a turn die as well. */
export type SimulatedScript = (request: ModelRequest) => Effect.Effect<ModelReply | SilentDeath>

export interface SimulatedHostOptions {
  readonly script: SimulatedScript
  /** From the acceptance of a prompt to the start of its turn, ms. An abort in between is forgotten, as by the real host. */
  readonly startDelay?: number
  /** Agents beside the orchestrator's seven and the host's own `build` and `general`. */
  readonly agents?: ReadonlyArray<HostAgent>
}

/** Operations that can be made to fail. */
export type Operation = "create" | "get" | "prompt" | "messages" | "statuses" | "abort" | "delete" | "agents" | "models"

/** The test's side of the simulation. */
export class SimulatedHost extends Context.Service<SimulatedHost, {
  /** The tools that the host offers, by name, beside its own `bash` and `question`. */
  readonly offer: (tools: Readonly<Record<string, SimulatedTool>>) => Effect.Effect<void>
  /** All calls of the model so far, oldest first. */
  readonly calls: Effect.Effect<ReadonlyArray<ModelCall & { readonly session: SessionId }>>
  /** All sessions that exist. */
  readonly sessions: Effect.Effect<ReadonlyArray<Session>>
  /** Events that fit are lost from now on. */
  readonly lose: (lost: (event: HostEvent) => boolean) => Effect.Effect<void>
  /** The next `times` calls of an operation fail: unavailable, before they have any effect. */
  readonly fail: (operation: Operation, times: number) => Effect.Effect<void>
}>()("orchestrator/test/SimulatedHost") {
  static readonly layer = (options: SimulatedHostOptions): Layer.Layer<SimulatedHost | SessionClient> =>
    Layer.effectContext(simulate(options))
}

interface StoredMessage {
  readonly message: Message
  readonly text: string
  /** Names and results of the tool calls of an assistant message. */
  readonly tools: ReadonlyArray<{ readonly name: string; readonly result: string }>
  readonly agent: string | undefined
}

interface Sim {
  info: Session
  readonly stored: Array<StoredMessage>
  status: SessionStatus | undefined
  /** The running turn, and how to end it. */
  turn: { fiber: Fiber.Fiber<void> | undefined; died: boolean } | undefined
  deleted: boolean
}

const simulatedModel: ModelRef = { provider: "scripted", model: "model" }

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

const apiError = (status: number, message: string): TurnError => ({ name: "APIError", message, status })
const aborted: TurnError = { name: "MessageAbortedError", message: "The operation was aborted." }

/** Provider errors that the host itself retries. */
const isRetried = (status: number) => status === 429 || status >= 500

const simulate = Effect.fnUntraced(function*(options: SimulatedHostOptions) {
  const sims = new Map<SessionId, Sim>()
  const agents = [...simulatedAgents, ...(options.agents ?? [])]
  const calls: Array<{ request: ModelRequest; outcome: ModelCall["outcome"]; session: SessionId }> = []
  const hub = yield* PubSub.sliding<HostEvent>(10_000)
  const turns = yield* FiberSet.make()
  const answers = new Map<string, Deferred.Deferred<string>>()
  const failures = new Map<Operation, number>()
  let tools: Readonly<Record<string, SimulatedTool>> = {}
  let lost: (event: HostEvent) => boolean = () => false
  let counter = 0

  const publish = (event: HostEvent) => Effect.suspend(() => (lost(event) ? Effect.void : PubSub.publish(hub, event)))

  const nextMessageId = Effect.gen(function*() {
    const random = yield* Random.Random
    counter = (counter + 1) % 0x700
    return makeMessageId(yield* Clock.currentTimeMillis, counter, () => random.nextDoubleUnsafe())
  })

  /** Every answer takes a moment, and may be made to fail. */
  const operation = Effect.fnUntraced(function*(name: Operation) {
    yield* Effect.sleep(1)
    const left = failures.get(name) ?? 0
    if (left === 0) return
    failures.set(name, left - 1)
    return yield* new HostUnavailable({ operation: name, detail: "a simulated failure" })
  })

  const find = (session: SessionId) =>
    Effect.suspend(() => {
      const sim = sims.get(session)
      return sim === undefined || sim.deleted ? Effect.fail(new SessionNotFound({ session })) : Effect.succeed(sim)
    })

  const replace = (sim: Sim, id: MessageId, change: (stored: StoredMessage) => StoredMessage) => {
    const index = sim.stored.findIndex((stored) => stored.message.id === id)
    const stored = sim.stored[index]
    if (stored !== undefined) sim.stored[index] = change(stored)
  }

  // ---- turns ----------------------------------------------------------------------------------------------------

  const agentOf = (sim: Sim) => sim.stored.findLast(({ message }) => message.role === "user")?.agent ?? "build"

  const rulesOf = (sim: Sim) => [
    ...(agents.find((agent) => agent.name === agentOf(sim))?.permission ?? []),
    ...sim.info.permission
  ]

  /** A tool is hidden when the last rule for it denies every pattern. */
  const isOffered = (rules: ReadonlyArray<Rule>, tool: string) => {
    const last = rules.findLast((rule) => rule.permission === tool || rule.permission === "*")
    return last !== undefined && !(last.action === "deny" && last.pattern === "*")
  }

  const conversation = (sim: Sim): ReadonlyArray<ConversationMessage> => [
    { role: "system", text: team.find((agent) => agent.name === agentOf(sim))?.prompt ?? "", toolCalls: [] },
    ...sim.stored.flatMap(({ message, text, tools }): ReadonlyArray<ConversationMessage> =>
      message.role === "assistant" && !message.completed ? [] : [
        { role: message.role, text, toolCalls: tools.map(({ name }) => name) },
        ...tools.map(({ result }): ConversationMessage => ({ role: "tool", text: result, toolCalls: [] }))
      ]
    )
  ]

  const ask = (event: (id: string) => HostEvent) =>
    Effect.gen(function*() {
      const id = `ask_${answers.size + 1}`
      const answer = yield* Deferred.make<string>()
      answers.set(id, answer)
      yield* publish(event(id))
      return yield* Deferred.await(answer)
    })

  const hostTool = (sim: Sim, name: string, args: unknown): Effect.Effect<string> | undefined => {
    const session = sim.info.id
    if (name === "question") return ask((id) => ({ type: "question", session, id }))
    if (name !== "bash") return undefined
    const command = Schema.decodeUnknownOption(Schema.Struct({ command: Schema.String }))(args)
    const pattern = command._tag === "Some" ? command.value.command : ""
    if (evaluate(rulesOf(sim), "bash", pattern) !== "ask") return Effect.succeed(`(simulated) ${pattern}`)
    return Effect.map(
      ask((id) => ({ type: "permission", session, id, permission: "bash" })),
      (answer) => answer === "reject" ? "The user rejected permission to use this tool." : `(simulated) ${pattern}`
    )
  }

  const callTool = Effect.fnUntraced(function*(sim: Sim, name: string, args: unknown) {
    const session = sim.info.id
    yield* publish({ type: "tool", session, tool: name, status: "running" })
    const tool = tools[name]
    const own = hostTool(sim, name, args)
    const result = yield* !isOffered(rulesOf(sim), name)
      ? Effect.succeed(`The tool ${name} is not available.`)
      : own ?? (tool === undefined
        ? Effect.succeed(`There is no tool ${name}.`)
        : Effect.catch(
          tool(args, { session, agent: agentOf(sim) }),
          (error) => Effect.succeed(`Error: ${error.message}`)
        ))
    yield* publish({ type: "tool", session, tool: name, status: "completed" })
    return { name, result }
  })

  /** Calls the model until it answers something that the host does not retry. */
  const callModel = Effect.fnUntraced(function*(sim: Sim) {
    for (let attempt = 1;; attempt++) {
      const messages = conversation(sim)
      const request = describeRequest({
        index: calls.length + 1,
        at: yield* Clock.currentTimeMillis,
        model: simulatedModel.model,
        tools: ["bash", "question", ...Object.keys(tools)].filter((name) => isOffered(rulesOf(sim), name)),
        raw: JSON.stringify(messages)
      }, messages)
      const call: (typeof calls)[number] = { request, outcome: "open", session: sim.info.id }
      calls.push(call)
      const reply = yield* options.script(request).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            call.outcome = Exit.isSuccess(exit) ? "answered" : "hung up"
          })
        )
      )
      if (!("status" in reply) || !isRetried(reply.status)) return reply
      const wait = Number(reply.headers?.["retry-after"] ?? 2 ** attempt) * 1_000
      const next = (yield* Clock.currentTimeMillis) + wait
      sim.status = { type: "retry", attempt, message: reply.message, next }
      yield* publish({ type: "status", session: sim.info.id, status: sim.status })
      yield* Effect.sleep(wait)
      sim.status = { type: "busy" }
    }
  })

  /** One step: a model call and the tools it asks for. Tells whether the turn goes on. */
  const step = Effect.fnUntraced(function*(sim: Sim) {
    const session = sim.info.id
    const id = yield* nextMessageId
    const empty: Message = { role: "assistant", id, completed: false, finish: undefined, error: undefined, parts: [] }
    sim.stored.push({ message: empty, text: "", tools: [], agent: undefined })
    const finish = (text: string, finish: string | undefined, error?: TurnError) =>
      replace(sim, id, (stored) => ({
        ...stored,
        text,
        message: {
          ...empty,
          completed: true,
          finish,
          error,
          parts: text === "" ? [] : [{ type: "text", text, metadata: {} }]
        }
      }))
    return yield* Effect.gen(function*() {
      const reply = yield* callModel(sim)
      if ("silentDeath" in reply) {
        if (sim.turn !== undefined) sim.turn.died = true
        return false
      }
      if (sim.deleted) {
        yield* publish({ type: "error", session, error: { name: "UnknownError", message: "Failed query: insert" } })
        return false
      }
      if ("status" in reply) {
        const error = apiError(reply.status, reply.message)
        // The real host reports the error and goes idle before the message shows it, and then goes idle again.
        yield* publish({ type: "error", session, error })
        yield* publish({ type: "idle", session })
        finish("", undefined, error)
        return false
      }
      const usage = reply.usage ?? defaultUsage
      const { cost, input, output } = sim.info.usage
      sim.info = {
        ...sim.info,
        usage: {
          ...sim.info.usage,
          input: input + usage.input,
          output: output + usage.output,
          cost: cost + (usage.input + 2 * usage.output) / 1_000_000
        }
      }
      const toolCalls = reply.toolCalls ?? []
      const called = yield* Effect.forEach(toolCalls, ({ args, name }) => callTool(sim, name, args), {
        concurrency: "unbounded"
      })
      replace(sim, id, (stored) => ({ ...stored, tools: called }))
      finish(reply.text ?? "", toolCalls.length > 0 ? "tool-calls" : "stop")
      yield* publish({ type: "usage", session, usage: sim.info.usage })
      const newer = sim.stored.some(({ message }) => message.role === "user" && message.id > id)
      return toolCalls.length > 0 || newer
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => finish("", undefined, aborted))))
  })

  const runTurn = (sim: Sim) =>
    Effect.gen(function*() {
      const session = sim.info.id
      sim.status = { type: "busy" }
      yield* publish({ type: "status", session, status: sim.status })
      while (yield* step(sim)) { /* until the model has said its last word */ }
    }).pipe(
      Effect.onInterrupt(() => publish({ type: "error", session: sim.info.id, error: aborted })),
      Effect.ensuring(Effect.suspend(() => {
        const died = sim.turn?.died === true
        sim.status = undefined
        sim.turn = undefined
        return died ? Effect.void : publish({ type: "idle", session: sim.info.id })
      }))
    )

  const startTurn = Effect.fnUntraced(function*(sim: Sim) {
    if (sim.turn !== undefined) return
    const turn: NonNullable<Sim["turn"]> = { fiber: undefined, died: false }
    sim.turn = turn
    turn.fiber = yield* FiberSet.run(turns, runTurn(sim))
  })

  // ---- the port ---------------------------------------------------------------------------------------------------

  /** What happens after the host has said yes to a prompt. */
  const accept = Effect.fnUntraced(function*(sim: Sim, prompt: Prompt) {
    const agent = prompt.agent ?? "build"
    const session = prompt.session
    if (!agents.some((known) => known.name === agent)) {
      const error: TurnError = { name: "UnknownError", message: `Agent not found: "${agent}".` }
      return yield* publish({ type: "error", session, error })
    }
    if (sim.deleted || sim.stored.some(({ message }) => message.id === prompt.id)) return
    const part = { type: "text" as const, text: prompt.text, metadata: prompt.metadata ?? {} }
    sim.stored.push({ message: { role: "user", id: prompt.id, parts: [part] }, text: prompt.text, tools: [], agent })
    sim.info = { ...sim.info, agent, model: prompt.model ?? sim.info.model ?? simulatedModel }
    if (prompt.noReply === true || sim.turn !== undefined) return
    yield* Effect.sleep(options.startDelay ?? 10)
    if (!sim.deleted) yield* startTurn(sim)
  })

  const deleteTree = (session: SessionId): Effect.Effect<void> =>
    Effect.gen(function*() {
      for (const child of sims.values()) {
        if (child.info.parent === session && !child.deleted) yield* deleteTree(child.info.id)
      }
      const sim = sims.get(session)
      if (sim === undefined || sim.deleted) return
      sim.deleted = true
      yield* publish({ type: "deleted", session })
    })

  const client = SessionClient.of({
    create: Effect.fnUntraced(function*(input) {
      yield* operation("create")
      const id = SessionId.make(`ses_${String(sims.size + 1).padStart(6, "0")}`)
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
      sims.set(id, { info, stored: [], status: undefined, turn: undefined, deleted: false })
      return info
    }),
    get: (session) => Effect.andThen(operation("get"), Effect.map(find(session), ({ info }) => info)),
    children: (session) =>
      Effect.map(
        find(session),
        () => [...sims.values()].filter((sim) => sim.info.parent === session && !sim.deleted).map(({ info }) => info)
      ),
    sessions: Effect.sync(() => [...sims.values()].filter((sim) => !sim.deleted).map(({ info }) => info)),
    prompt: Effect.fnUntraced(function*(prompt) {
      yield* operation("prompt")
      const sim = yield* find(prompt.session)
      yield* FiberSet.run(turns, Effect.andThen(Effect.sleep(1), accept(sim, prompt)))
    }),
    messages: Effect.fnUntraced(function*(session, limit) {
      yield* operation("messages")
      return (yield* find(session)).stored.slice(-limit).map(({ message }) => message)
    }),
    hasMessage: (session, id) =>
      Effect.sync(() => sims.get(session)?.stored.some(({ message }) => message.id === id) ?? false),
    statuses: Effect.gen(function*() {
      yield* operation("statuses")
      return new Map(
        [...sims].flatMap(([id, { status }]): ReadonlyArray<[SessionId, SessionStatus]> =>
          status === undefined ? [] : [[id, status]]
        )
      )
    }),
    abort: Effect.fnUntraced(function*(session) {
      yield* operation("abort")
      const fiber = sims.get(session)?.turn?.fiber
      if (fiber === undefined) yield* publish({ type: "idle", session })
      else yield* Fiber.interrupt(fiber)
    }),
    delete: (session) => Effect.andThen(operation("delete"), deleteTree(session)),
    events: Stream.fromPubSub(hub),
    agents: Effect.as(operation("agents"), agents),
    models: Effect.as(operation("models"), [simulatedModel, { provider: "scripted", model: "other" }]),
    replyPermission: (id, reply) => answerAsk(id, reply),
    replyQuestion: (id, replies) =>
      answerAsk(id, replies === undefined ? "The user dismissed the question." : JSON.stringify(replies))
  })

  const answerAsk = (id: string, text: string) =>
    Effect.suspend(() => {
      const answer = answers.get(id)
      if (answer === undefined) {
        return Effect.fail(new HostRefused({ operation: "answer a request", status: 404, detail: `no request ${id}` }))
      }
      return Effect.asVoid(Deferred.succeed(answer, text))
    })

  return Context.make(SessionClient, client).pipe(Context.add(
    SimulatedHost,
    SimulatedHost.of({
      offer: (offered) =>
        Effect.sync(() => {
          tools = offered
        }),
      calls: Effect.sync(() => calls.map((call) => ({ ...call }))),
      sessions: Effect.sync(() => [...sims.values()].filter((sim) => !sim.deleted).map(({ info }) => info)),
      lose: (predicate) =>
        Effect.sync(() => {
          lost = predicate
        }),
      fail: (name, times) => Effect.sync(() => void failures.set(name, times))
    })
  ))
})
