/**
 * The turns of a simulated OpenCode: it calls the model and the tools it asks for, until the model has said its last
 * word, and shows all of it in messages, states and events, as the real one does.
 */
import { Clock, Deferred, Effect, Exit, Fiber, FiberSet, Random, Schema } from "effect"
import { team } from "../../src/agents/team.ts"
import { evaluate, type HostAgent } from "../../src/domain/Agent.ts"
import {
  type HostEvent,
  makeMessageId,
  type Message,
  type MessageId,
  type MessagePart,
  type ModelRef,
  type Rule,
  type Session,
  type SessionId,
  type SessionStatus,
  type TurnError
} from "../../src/domain/Session.ts"
import { HostTodo } from "../../src/domain/Todo.ts"
import { type Caller, PermissionDenied } from "../../src/tools/Tool.ts"
import { toDelay } from "../opencode-sdk/wire.ts"
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

/** A Script, which may let a turn die as well, and knows whose turn it is. */
export type SimulatedScript = (request: ModelRequest, session: SessionId) => Effect.Effect<ModelReply | SilentDeath>

export interface CallGauge {
  readonly begin: (session: Session) => void
  readonly end: (session: Session) => void
}

export interface ToolCall {
  readonly name: string
  /** JSON of its arguments. */
  readonly input: string
  readonly status: "running" | "completed" | "error"
  /** What the model is told; empty while it runs. */
  readonly result: string
}

export interface StoredMessage {
  readonly message: Message
  readonly text: string
  /** Those of an assistant message, in order. */
  readonly tools: ReadonlyArray<ToolCall>
  readonly agent: string | undefined
  /** The host's own, when it made the conversation shorter: hidden from the port, and all the model sees of what was before. */
  readonly compaction?: true
}

export interface HostSession<Process> {
  info: Session
  readonly stored: Array<StoredMessage>
  /** What the host's own `todowrite` has put down. */
  todos: ReadonlyArray<HostTodo>
  status: SessionStatus | undefined
  /** The running turn. One that is not here any more has died: whatever it still does shows nowhere. */
  turn: Turn | undefined
  /** The process of the host that ran its newest turn: the only one that has it in its states, and tells of it. */
  process: Process
  deleted: boolean
}

interface Turn {
  fiber: Fiber.Fiber<void> | undefined
  /** The conversation has been shortened in it, which the host does once. */
  compacted: boolean
}

/** Tools that a program serves, for as long as it does. */
interface Offer {
  readonly tools: Readonly<Record<string, SimulatedTool>>
  readonly withdrawn: Deferred.Deferred<void>
}

export const simulatedModel: ModelRef = { provider: "scripted", model: "model" }

type Failure = Extract<ModelReply, { readonly status: number }>

const toError = ({ headers, message, status }: Failure): TurnError => {
  if (isOverflow({ message, status })) return { name: "ContextOverflowError", message }
  const retryAfter = toDelay(headers ?? {}, 0)
  return {
    name: "APIError",
    message,
    status,
    retryable: isRetried(status),
    ...(retryAfter === undefined ? {} : { retryAfter })
  }
}
const aborted: TurnError = { name: "MessageAbortedError", message: "The operation was aborted." }

/** Provider errors that the host itself retries, so often, before it gives the turn up. */
const isRetried = (status: number) => status === 429 || status >= 500
const hostRetries = 5

const isOverflow = ({ message, status }: Failure) => status === 413 || (status === 400 && /too long/i.test(message))

/** `Process` is what the host takes for one of its processes; here they are only told apart. */
export const makeTurns = Effect.fnUntraced(function*<Process>(host: {
  readonly agents: ReadonlyArray<HostAgent>
  readonly script: SimulatedScript
  readonly gauge: CallGauge | undefined
  readonly publish: (process: Process, event: HostEvent) => Effect.Effect<void>
  readonly find: (session: SessionId) => HostSession<Process> | undefined
}) {
  const publish = (event: HostEvent) => {
    const session = host.find(event.session)
    return session === undefined ? Effect.void : host.publish(session.process, event)
  }
  const calls: Array<{ request: ModelRequest; outcome: ModelCall["outcome"]; session: SessionId }> = []
  const turns = yield* FiberSet.make()
  const asks = new Map<string, Deferred.Deferred<string>>()
  const offers = new Map<SessionId | undefined, Offer>()
  let asked = 0
  let counter = 0

  const nextMessageId = Effect.gen(function*() {
    const random = yield* Random.Random
    counter = (counter + 1) % 0x700
    return makeMessageId(yield* Clock.currentTimeMillis, counter, () => random.nextDoubleUnsafe())
  })

  const replace = (session: HostSession<Process>, id: MessageId, change: (stored: StoredMessage) => StoredMessage) => {
    const index = session.stored.findLastIndex((stored) => stored.message.id === id)
    const stored = session.stored[index]
    if (stored !== undefined) session.stored[index] = change(stored)
  }

  const agentOf = (session: HostSession<Process>) =>
    session.stored.findLast(({ message }) => message.role === "user")?.agent ?? "build"

  const rulesOf = (session: HostSession<Process>): ReadonlyArray<Rule> => [
    ...(host.agents.find((agent) => agent.name === agentOf(session))?.permission ?? []),
    ...session.info.permission
  ]

  // ---- tools ------------------------------------------------------------------------------------------------------

  /** What is served to a session: by whom it was begun, or to all. */
  const offerTo = (session: HostSession<Process>): Offer | undefined => {
    let root = session
    while (root.info.parent !== undefined) {
      const parent = host.find(root.info.parent)
      if (parent === undefined) break
      root = parent
    }
    return offers.get(root.info.id) ?? offers.get(undefined)
  }

  const ask = (event: (id: string) => HostEvent) =>
    Effect.gen(function*() {
      const id = `ask_${++asked}`
      const answer = yield* Deferred.make<string>()
      asks.set(id, answer)
      yield* publish(event(id))
      return yield* Deferred.await(answer)
    })

  const hostTool = (session: HostSession<Process>, name: string, args: unknown): Effect.Effect<string> | undefined => {
    const id = session.info.id
    if (name === "question") return ask((ask) => ({ type: "question", session: id, id: ask }))
    if (name === "todowrite") {
      const list = Schema.decodeUnknownOption(Schema.Struct({ todos: Schema.Array(HostTodo) }))(args)
      if (list._tag === "Some") session.todos = list.value.todos
      return Effect.succeed(JSON.stringify(session.todos))
    }
    if (name !== "bash") return undefined
    const command = Schema.decodeUnknownOption(Schema.Struct({ command: Schema.String }))(args)
    const pattern = command._tag === "Some" ? command.value.command : ""
    if (evaluate(rulesOf(session), "bash", pattern) !== "ask") return Effect.succeed(`(simulated) ${pattern}`)
    return Effect.map(
      ask((ask) => ({ type: "permission", session: id, id: ask, permission: "bash" })),
      (answer) => answer === "reject" ? "The user rejected permission to use this tool." : `(simulated) ${pattern}`
    )
  }

  /** A tool asks for a right: the session's rules decide, or whoever answers the question. */
  const askFor = (session: HostSession<Process>): Caller["ask"] => ({ patterns, permission }) =>
    Effect.gen(function*() {
      const actions = patterns.map((pattern) => evaluate(rulesOf(session), permission, pattern))
      const denied = (reason: string) => new PermissionDenied({ permission, patterns, reason })
      if (actions.includes("deny")) return yield* denied("a rule forbids it")
      if (!actions.includes("ask")) return
      const answer = yield* ask((id) => ({ type: "permission", session: session.info.id, id, permission }))
      if (answer === "reject") return yield* denied("the user rejected it")
    })

  const useTool = (session: HostSession<Process>, name: string, args: unknown): Effect.Effect<ToolCall> => {
    const input = JSON.stringify(args)
    const completed = (result: string): ToolCall => ({ name, input, status: "completed", result })
    const failed = (result: string): ToolCall => ({ name, input, status: "error", result })
    if (!isOffered(rulesOf(session), name)) return Effect.succeed(failed(`The tool ${name} is not available.`))
    const own = hostTool(session, name, args)
    if (own !== undefined) return Effect.map(own, completed)
    const offer = offerTo(session)
    const tool = offer?.tools[name]
    if (offer === undefined || tool === undefined) return Effect.succeed(failed(`There is no tool ${name}.`))
    return tool(args, { session: session.info.id, agent: agentOf(session), ask: askFor(session) }).pipe(
      Effect.map(completed),
      Effect.catch((error) => Effect.succeed(failed(`Error: ${error.message}`))),
      Effect.catchDefect((defect) => Effect.succeed(failed(`Error: ${String(defect)}`))),
      Effect.raceFirst(Effect.as(Deferred.await(offer.withdrawn), failed("Error: Tool execution aborted")))
    )
  }

  /** Calls a tool; its part of the message says how that goes. */
  const callTool = Effect.fnUntraced(function*(
    session: HostSession<Process>,
    message: MessageId,
    place: number,
    call: { readonly name: string; readonly args: unknown }
  ) {
    const shown = (status: string): HostEvent => ({
      type: "tool",
      session: session.info.id,
      tool: call.name,
      status,
      call: `${message} ${place}`
    })
    yield* publish(shown("running"))
    const result = yield* useTool(session, call.name, call.args)
    replace(session, message, (stored) => withTools(stored, stored.tools.with(place, result)))
    yield* publish(shown(result.status))
  })

  // ---- turns ------------------------------------------------------------------------------------------------------

  const conversation = (session: HostSession<Process>): ReadonlyArray<ConversationMessage> => [
    { role: "system", text: team.find((agent) => agent.name === agentOf(session))?.prompt ?? "", toolCalls: [] },
    ...sinceCompaction(session.stored).flatMap(({ message, text, tools }): ReadonlyArray<ConversationMessage> =>
      // A turn that was cut off is shown with what its calls had answered by then; one that has just begun is empty.
      text === "" && tools.length === 0 ? [] : [
        { role: message.role, text, toolCalls: tools.map(({ name }) => name) },
        ...tools.map(({ result, status }): ConversationMessage => ({
          role: "tool",
          text: status === "running" ? "[Tool execution was interrupted]" : result,
          toolCalls: []
        }))
      ]
    )
  ]

  /** Calls the model until it answers something that the host does not retry. */
  const callModel = Effect.fnUntraced(function*(
    session: HostSession<Process>,
    say: (session: HostSession<Process>) => ReadonlyArray<ConversationMessage> = conversation
  ) {
    for (let attempt = 1;; attempt++) {
      const messages = say(session)
      const rules = rulesOf(session)
      const request = describeRequest({
        index: calls.length + 1,
        at: yield* Clock.currentTimeMillis,
        model: (session.info.model ?? simulatedModel).model,
        tools: ["bash", "question", "todowrite", ...Object.keys(offerTo(session)?.tools ?? {})].filter((name) =>
          isOffered(rules, name)
        ),
        get raw() {
          return JSON.stringify(messages)
        }
      }, messages)
      const call: (typeof calls)[number] = { request, outcome: "open", session: session.info.id }
      calls.push(call)
      host.gauge?.begin(session.info)
      const reply = yield* host.script(request, session.info.id).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            host.gauge?.end(session.info)
            call.outcome = Exit.isSuccess(exit) ? "answered" : "hung up"
          })
        )
      )
      if (!("status" in reply) || !isRetried(reply.status) || attempt > hostRetries) return reply
      const wait = toDelay(reply.headers ?? {}, 0) ?? Math.min(30_000, 2 ** attempt * 1_000)
      const next = (yield* Clock.currentTimeMillis) + wait
      session.status = { type: "retry", attempt, message: reply.message, next }
      yield* publish({ type: "status", session: session.info.id, status: session.status })
      yield* Effect.sleep(wait)
      session.status = { type: "busy" }
    }
  })

  const sayAsHost = Effect.fnUntraced(function*(
    session: HostSession<Process>,
    role: "user" | "assistant",
    text: string,
    more: Partial<StoredMessage> = {}
  ) {
    const id = yield* nextMessageId
    const parts = [{ type: "text" as const, text, metadata: {} }]
    session.stored.push({
      message: role === "user"
        ? { role, id, parts }
        : { role, id, completed: true, finish: "stop", error: undefined, parts },
      text,
      tools: [],
      agent: role === "user" ? agentOf(session) : undefined,
      ...more
    })
  })

  /** Has the model sum up the conversation, which then begins with that. */
  const compact = Effect.fnUntraced(function*(session: HostSession<Process>) {
    const reply = yield* callModel(session, (session) => [
      { role: "system", text: "You are a context summarization agent.", toolCalls: [] },
      {
        role: "user",
        text: `Here is the conversation so far:\n${conversation(session).slice(1).map(({ text }) => text).join("\n")}`,
        toolCalls: []
      }
    ])
    yield* sayAsHost(session, "user", "What did we do so far?", { compaction: true })
    yield* sayAsHost(session, "assistant", "text" in reply ? reply.text ?? "" : "", { compaction: true })
  })

  /** After a request that was too long: the prompt before is shown once more, unless it was all there is. */
  const shorten = Effect.fnUntraced(function*(session: HostSession<Process>) {
    const spoken = session.stored.filter(({ compaction }) => compaction !== true)
    const last = spoken.findLast(({ message }) => message.role === "user")
    yield* compact(session)
    if (last === undefined || last === spoken[0] || last.message.role !== "user") {
      return yield* sayAsHost(session, "user", "The previous request was too large. Continue with what is left of it.")
    }
    const id = yield* nextMessageId
    session.stored.push({ ...last, message: { ...last.message, id, repeated: true } })
  })

  /** One step: a model call and the tools it asks for. Tells whether the turn goes on. */
  const step = Effect.fnUntraced(function*(session: HostSession<Process>, turn: Turn) {
    const id = session.info.id
    const message = yield* nextMessageId
    session.stored.push({
      message: { role: "assistant", id: message, completed: false, finish: undefined, error: undefined, parts: [] },
      text: "",
      tools: [],
      agent: undefined
    })
    const finish = (finish: string | undefined, error?: TurnError) => {
      if (session.turn === turn) replace(session, message, (stored) => finished(stored, finish, error))
    }
    return yield* Effect.gen(function*() {
      const reply = yield* callModel(session)
      if ("silentDeath" in reply) {
        die(session)
        return false
      }
      if (session.deleted) {
        const error: TurnError = { name: "UnknownError", message: "Failed query: insert" }
        yield* publish({ type: "error", session: id, error })
        return false
      }
      if ("status" in reply) {
        const error = toError(reply)
        if (isOverflow(reply) && !turn.compacted) {
          turn.compacted = true
          finish(undefined)
          yield* shorten(session)
          return true
        }
        // The real host reports the error and goes idle before the message shows it, and then goes idle again. A prompt
        // that comes in between is stored, and not begun.
        session.status = undefined
        // Of an overflow it tells already when it makes the conversation shorter: the port does not tell of that.
        if (error.name !== "ContextOverflowError") yield* publish({ type: "error", session: id, error })
        yield* publish({ type: "idle", session: id })
        yield* Effect.sleep(100)
        finish(undefined, error)
        return false
      }
      session.info = { ...session.info, usage: add(session.info.usage, reply.usage ?? defaultUsage) }
      const text = reply.text ?? ""
      const toolCalls = reply.toolCalls ?? []
      if (text !== "") yield* publish({ type: "activity", session: id })
      const running = toolCalls.map(({ args, name }): ToolCall => ({
        name,
        input: JSON.stringify(args),
        status: "running",
        result: ""
      }))
      replace(session, message, (stored) => withTools({ ...stored, text }, running))
      yield* Effect.forEach(toolCalls, (call, place) => callTool(session, message, place, call), {
        concurrency: "unbounded",
        discard: true
      })
      finish(toolCalls.length > 0 ? "tool-calls" : "stop")
      yield* publish({ type: "usage", session: id, usage: session.info.usage })
      if ((reply.usage?.input ?? 0) > contextLimit) {
        yield* compact(session)
        yield* sayAsHost(session, "user", "Continue if you have next steps, or stop and ask for clarification.")
      }
      const newer = session.stored.some((stored) => stored.message.role === "user" && stored.message.id > message)
      return toolCalls.length > 0 || newer
    }).pipe(Effect.onInterrupt(() => Effect.sync(() => finish(undefined, aborted))))
  })

  const runTurn = (session: HostSession<Process>, turn: Turn) =>
    Effect.gen(function*() {
      session.status = { type: "busy" }
      yield* publish({ type: "status", session: session.info.id, status: session.status })
      while (yield* step(session, turn)) { /* until the model has said its last word */ }
    }).pipe(
      Effect.onInterrupt(() =>
        session.turn === turn ? publish({ type: "error", session: session.info.id, error: aborted }) : Effect.void
      ),
      Effect.ensuring(Effect.suspend(() => {
        if (session.turn !== turn) return Effect.void
        die(session)
        return publish({ type: "idle", session: session.info.id })
      }))
    )

  return {
    /** Begins a turn, unless one is running: that one reads what is new. */
    start: Effect.fnUntraced(function*(session: HostSession<Process>, process: Process) {
      if (session.turn !== undefined) return
      session.process = process
      const turn: Turn = { fiber: undefined, compacted: false }
      session.turn = turn
      turn.fiber = yield* FiberSet.run(turns, runTurn(session, turn))
    }),
    compact,
    /** Ends the session's turn, if it is this process's, and waits until its end shows. */
    abort: (session: HostSession<Process> | undefined, process: Process) => {
      const fiber = session?.process === process ? session.turn?.fiber : undefined
      return fiber === undefined ? undefined : Fiber.interrupt(fiber)
    },
    /** Every turn of the process dies where it is. */
    crash: (sessions: Iterable<HostSession<Process>>, process: Process) => {
      for (const session of sessions) {
        if (session.process !== process) continue
        const fiber = session.turn?.fiber
        die(session)
        fiber?.interruptUnsafe() // whatever it still has to end, nobody waits for it
      }
    },
    offer: (tools: Readonly<Record<string, SimulatedTool>>, root: SessionId | undefined) => {
      const before = offers.get(root)
      offers.set(root, { tools, withdrawn: Deferred.makeUnsafe() })
      if (before !== undefined) Deferred.doneUnsafe(before.withdrawn, Effect.void)
    },
    withdraw: (root: SessionId | undefined) => {
      const before = offers.get(root)
      offers.delete(root)
      if (before !== undefined) Deferred.doneUnsafe(before.withdrawn, Effect.void)
    },
    /** Answers a permission or a question; tells whether it was asked. */
    answer: (id: string, text: string) => {
      const answer = asks.get(id)
      asks.delete(id)
      return answer !== undefined && Deferred.doneUnsafe(answer, Effect.succeed(text))
    },
    calls: Effect.sync(() => calls.map((call) => ({ ...call })))
  }
})

/** Tokens of a request, beyond which the host makes the conversation shorter. */
const contextLimit = 190_000

const sinceCompaction = (stored: ReadonlyArray<StoredMessage>): ReadonlyArray<StoredMessage> =>
  stored.slice(Math.max(0, stored.findLastIndex(({ compaction }) => compaction === true) - 1))

/** The session has no turn any more, and nothing of it runs on. */
const die = (session: HostSession<unknown>) => {
  session.turn = undefined
  session.status = undefined
}

/** A tool is hidden when the last rule for it denies every pattern. */
const isOffered = (rules: ReadonlyArray<Rule>, tool: string) => {
  const last = rules.findLast((rule) => rule.permission === tool || rule.permission === "*")
  return last !== undefined && !(last.action === "deny" && last.pattern === "*")
}

const add = (usage: Session["usage"], more: { readonly input: number; readonly output: number }) => ({
  ...usage,
  input: usage.input + more.input,
  output: usage.output + more.output,
  cost: usage.cost + (more.input + 2 * more.output) / 1_000_000
})

const withTools = (stored: StoredMessage, tools: ReadonlyArray<ToolCall>): StoredMessage => ({
  ...stored,
  tools,
  message: { ...stored.message, parts: partsOf(stored.text, tools) }
})

const partsOf = (text: string, tools: ReadonlyArray<ToolCall>): ReadonlyArray<MessagePart> => [
  ...(text === "" ? [] : [{ type: "text" as const, text, metadata: {} }]),
  ...tools.map(({ input, name, result, status }) => ({
    type: "tool" as const,
    tool: name,
    status,
    input,
    output: status === "completed" ? result : undefined
  }))
]

/** The message with its end; calls that an error has cut off have failed. */
const finished = (stored: StoredMessage, finish: string | undefined, error: TurnError | undefined): StoredMessage => {
  const tools = error === undefined
    ? stored.tools
    : stored.tools.map((tool) => tool.status === "running" ? { ...tool, status: "error" as const } : tool)
  const { id } = stored.message
  const parts = partsOf(stored.text, tools)
  return { ...stored, tools, message: { role: "assistant", id, completed: true, finish, error, parts } }
}
