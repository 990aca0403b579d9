/**
 * A mission on the real OpenCode that is killed with SIGKILL, started again, and checked: every result reached its
 * parent once, no child ran more often than it may, finished work was not done again.
 */
import { Clock, Effect, FileSystem, Option, Path, Schedule, Schema, Stream } from "effect"
import { makeProject, pluginUrl, type RealHost, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import type { ModelReply, ModelRequest, Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"

/** An order of the mission, or of one of its agents; the model answers it after `ms`. */
interface Order {
  readonly name: string
  readonly agent: string
  readonly background: boolean
  readonly ms: number
  /** Does something with a tool of the host first. */
  readonly tool?: boolean
  /** Has to be delegated by the one who works on this order. */
  readonly below?: Order
}

/** Two missions never have an order in common. */
const mission = (label: string): ReadonlyArray<Order> => [
  { name: `${label}-one`, agent: "Builder", background: true, ms: 300 },
  { name: `${label}-two`, agent: "Builder", background: true, ms: 1_500, tool: true },
  { name: `${label}-three`, agent: "Inspector", background: true, ms: 900, tool: true },
  {
    name: `${label}-four`,
    agent: "Architect",
    background: true,
    ms: 200,
    below: { name: `${label}-four-below`, agent: "Researcher", background: true, ms: 700 }
  },
  {
    name: `${label}-five`,
    agent: "Architect",
    background: true,
    ms: 200,
    below: { name: `${label}-five-below`, agent: "Researcher", background: false, ms: 700 }
  },
  { name: `${label}-six`, agent: "Builder", background: false, ms: 1_000 }
]
const ordersOf = (label: string) =>
  mission(label).flatMap((order) => (order.below === undefined ? [order] : [order, order.below]))
const labels = ["a", "b"] as const
const allOrders = labels.flatMap(ordersOf)
const goalOf = (label: string) => `MISSION <${label}>: have all orders carried out.`

const promptOf = (order: Order) => `ORDER <${order.name}> of the crash test.`
const resultOf = (order: Order) => `RESULT <${order.name}>`
const delegate = (order: Order) => ({
  name: "delegate_task",
  args: {
    agent: order.agent,
    description: `task <${order.name}>`,
    prompt: promptOf(order),
    background: order.background
  }
})

/** When the model has given the last answer to each order, epoch ms. */
type Answered = Map<string, Array<number>>

/** Acts as sensible agents would: whatever the conversation shows as delegated is not delegated again. */
const script = (answered: Answered): Script => (request) =>
  Effect.gen(function*(): Effect.fn.Return<ModelReply> {
    const first = request.users[0] ?? ""
    const label = labels.find((label) => first === goalOf(label))
    if (label !== undefined) return command(request, mission(label))
    const order = allOrders.find((order) => first === promptOf(order))
    if (order === undefined) return { text: "Nothing to do." }
    yield* Effect.sleep(order.ms)
    if (order.tool === true && !request.calledTools.includes("bash")) {
      return { toolCalls: [{ name: "bash", args: { command: "sleep 0.2", description: "take a moment" } }] }
    }
    const { below } = order
    if (below !== undefined && !knows(request, resultOf(below))) {
      return isDelegated(request, below) ? { text: "I wait for it." } : { toolCalls: [delegate(below)] }
    }
    answered.set(order.name, [...(answered.get(order.name) ?? []), yield* Clock.currentTimeMillis])
    return { text: `${resultOf(order)}${below === undefined ? "" : ` with ${resultOf(below)}`}` }
  })

const command = (request: ModelRequest, orders: ReadonlyArray<Order>): ModelReply => {
  const open = orders.filter((order) => !isDelegated(request, order))
  if (open.length > 0) return { toolCalls: open.map(delegate) }
  return orders.every((order) => knows(request, resultOf(order)))
    ? { text: "All results are here.\nMISSION COMPLETE" }
    : { text: "I wait for them." }
}

/** What the agent was told: words of the user and of the orchestrator, and answers of tools. Not its own words. */
const told = (request: ModelRequest) =>
  Option.getOrThrow(Schema.decodeOption(Conversation)(request.raw)).messages // the scripted model has decoded it before
    .filter(({ role }) => role === "user" || role === "tool").map(({ content }) => JSON.stringify(content)).join("\n")

const Conversation = Schema.fromJsonString(Schema.Struct({
  messages: Schema.Array(Schema.Struct({ role: Schema.String, content: Schema.optionalKey(Schema.Unknown) }))
}))

const knows = (request: ModelRequest, words: string) => told(request).includes(words)
const isDelegated = (request: ModelRequest, order: Order) => knows(request, `task <${order.name}>`)

// ---- a round -------------------------------------------------------------------------------------------------------

export class RoundFailed extends Schema.TaggedError<RoundFailed>()("RoundFailed", { message: Schema.String }) {}

export interface Round {
  /** From the record of the mission to SIGKILL, ms; undefined when the mission ended before. */
  readonly killedAt: number | undefined
  /** From the record of the mission to its end, ms, the restart included. */
  readonly took: number
  /** Runs of all tasks, beyond the first of each. */
  readonly resumed: number
}

const ask = <A>(request: () => Promise<{ readonly data?: A | undefined; readonly error?: unknown }>) =>
  Effect.flatMap(Effect.promise(request), ({ data, error }) =>
    data === undefined
      ? Effect.fail(
        new RoundFailed({
          message: `OpenCode refused ${String(request)}: ${
            error instanceof Error ? `${error.message} ${String(error.cause)}` : JSON.stringify(error)
          }`
        })
      )
      : Effect.succeed(data))

const options = { stabilityWait: "1 second", noticeMaxWait: "20 seconds" }
const plugin = [[pluginUrl, options]] as const

/** All texts that the user, the orchestrator and tools put into a session. */
const heardIn = Effect.fnUntraced(function*(host: RealHost, session: string) {
  const messages = yield* ask(() => host.client.session.messages({ sessionID: session }))
  return messages.flatMap(({ info, parts }) =>
    parts.flatMap((part) =>
      info.role === "user" && part.type === "text"
        ? [part.text]
        : part.type === "tool" && part.state.status === "completed"
        ? [part.state.output]
        : []
    )
  )
})

const isComplete = Effect.fnUntraced(function*(host: RealHost, root: string) {
  const busy = yield* ask(() => host.client.session.status())
  if (Object.keys(busy).length > 0) return false
  const last = (yield* ask(() => host.client.session.messages({ sessionID: root, limit: 1 }))).at(-1)
  return last?.info.role === "assistant"
    && last.parts.some((part) => part.type === "text" && part.text.includes("MISSION COMPLETE"))
})

/** When each session last became idle, epoch ms: by then the host had stored all of its turn. */
const listen = Effect.fnUntraced(function*(host: RealHost) {
  const idleAt = new Map<string, number>()
  const signal = yield* Effect.abortSignal
  const { stream } = yield* Effect.promise(() => host.client.event.subscribe({}, { signal, sseMaxRetryAttempts: 1 }))
  yield* Stream.fromAsyncIterable<unknown, unknown>(stream, (cause) => cause).pipe(
    Stream.runForEach((raw) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        if (Schema.is(Idle)(raw)) idleAt.set(raw.properties.sessionID, now)
      })
    ),
    Effect.ignore, // it breaks when the server is killed
    Effect.forkScoped
  )
  return idleAt
})

const Idle = Schema.Struct({
  type: Schema.Literal("session.idle"),
  properties: Schema.Struct({ sessionID: Schema.String })
})

/**
 * A server on a project; the first request for a folder loads its plugins. It may have the port of the one before, and a
 * connection to that one may still be in the pool.
 */
const startOn = (directory: string, home: string) =>
  startHost({ plugin, directory, home, env: shortLived }).pipe(
    Effect.tap((host) => Effect.retry(ask(() => host.client.tool.ids()), { times: 3 }))
  )

/**
 * Gives the Commander the goal, and waits until the orchestrator has recorded it: the host says yes to a prompt before it
 * has shown it to anybody, and one that it loses until then nobody can know of.
 */
const begin = Effect.fnUntraced(function*(host: RealHost, label: string) {
  const root = (yield* ask(() => host.client.session.create({ title: "crash test" }))).id
  yield* Effect.promise(() =>
    host.client.session.promptAsync({
      sessionID: root,
      agent: "Commander",
      parts: [{ type: "text", text: goalOf(label) }]
    })
  )
  yield* isRecorded(host.directory, goalOf(label)).pipe(
    Effect.repeat({ until: (recorded) => recorded, schedule: Schedule.spaced("5 millis") }),
    Effect.timeout("30 seconds")
  )
  return root
})

const isRecorded = Effect.fnUntraced(function*(directory: string, goal: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(directory, ".opencode", "orchestrator")
  const names = yield* Effect.orElseSucceed(fs.readDirectory(folder), () => [])
  for (const name of names.filter((name) => name.endsWith(".jsonl"))) {
    if ((yield* fs.readFileString(path.join(folder, name))).includes(goal)) return true
  }
  return false
})

const untilComplete = (host: RealHost, root: string) =>
  isComplete(host, root).pipe(
    // Each look costs the host what a tenth of a turn does.
    Effect.repeat({ until: (complete) => complete, schedule: Schedule.spaced("500 millis") }),
    Effect.timeoutOrElse({
      duration: "60 seconds",
      orElse: () =>
        Effect.flatMap(heardIn(host, root), (heard) =>
          Effect.fail(
            new RoundFailed({
              message: `the mission did not end. The Commander heard:\n${heard.join("\n---\n")}`
            })
          ))
    })
  )

/** What was done of a mission, and everything about it that must not be. */
const inspect = Effect.fnUntraced(function*(
  host: RealHost,
  label: string,
  answered: Answered,
  /** When each session had become idle before the kill, and when that was, epoch ms. */
  before: { readonly idleAt: ReadonlyMap<string, number>; readonly killedAt: number } | undefined
) {
  const problems: Array<string> = []
  const sessions = yield* ask(() => host.client.session.list({ limit: 1_000 }))
  let resumed = 0
  for (const order of ordersOf(label)) {
    const own = sessions.filter(({ title }) => title.startsWith(`task <${order.name}> `))
    if (own.length !== 1) problems.push(`${own.length} sessions worked on ${order.name} instead of 1`)
    for (const { id, parentID } of own) {
      const prompts = (yield* heardIn(host, id)).filter((text) =>
        text === promptOf(order) || text.startsWith("OpenCode was stopped") || text.startsWith("Your last turn ended")
      )
      resumed += prompts.length - 1
      if (prompts.length > 2) problems.push(`${order.name} was run ${prompts.length} times`)
      const answers = answered.get(order.name) ?? []
      const [first = Infinity] = answers
      const finishedAt = before?.idleAt.get(id) ?? 0
      if (answers.length > 1 && before !== undefined && first < finishedAt && finishedAt < before.killedAt) {
        problems.push(
          `${order.name} was finished ${before.killedAt - finishedAt} ms before the end and was run again; it heard:\n${
            (yield* heardIn(host, id)).join("\n---\n")
          }`
        )
      }
      const told = (yield* heardIn(host, parentID ?? "")).filter((text) =>
        text.split("\n").some((line) => line.startsWith(resultOf(order)))
      )
      if (told.length !== 1) problems.push(`the result of ${order.name} reached its parent ${told.length} times`)
    }
  }
  if (problems.length > 0) return yield* new RoundFailed({ message: problems.join("; ") })
  return { resumed }
})

/** When to kill: some ms after the mission was recorded, or at the first call of the model that fits. */
export type Moment = number | ((request: ModelRequest) => boolean)

const untilMoment = Effect.fnUntraced(function*(moment: Moment) {
  if (typeof moment === "number") return yield* Effect.sleep(moment)
  const model = yield* ScriptedModel
  while (!moment(yield* model.next)) { /* not this one */ }
})

/** Runs the mission, kills the host (never, when undefined), starts it again, and checks the end. */
export const runRound = Effect.fn("runRound")(function*(moment: Moment | undefined) {
  const fs = yield* FileSystem.FileSystem
  const answered: Answered = new Map()
  return yield* Effect.gen(function*() {
    const directory = yield* makeProject()
    const home = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" })
    let host = yield* startOn(directory, home)
    const idleAt = yield* listen(host)
    const root = yield* begin(host, "a")
    const startedAt = yield* Clock.currentTimeMillis
    let killedAt: number | undefined
    if (moment !== undefined) {
      yield* untilMoment(moment)
      if (!(yield* isComplete(host, root))) {
        yield* host.kill("SIGKILL")
        killedAt = (yield* Clock.currentTimeMillis) - startedAt
        host = yield* startOn(directory, home)
      }
    }
    yield* untilComplete(host, root)
    const took = (yield* Clock.currentTimeMillis) - startedAt
    const before = killedAt === undefined ? undefined : { idleAt, killedAt: startedAt + killedAt }
    const { resumed } = yield* inspect(host, "a", answered, before)
    return { killedAt, took, resumed } satisfies Round
  }).pipe(Effect.scoped, Effect.provide(ScriptedModel.layer(script(answered))))
})

/** Two servers in one folder, each with a mission: `a` in the one that is killed and started again, `b` in the other. */
export const runTwins = Effect.fn("runTwins")(function*(moment: Moment) {
  const fs = yield* FileSystem.FileSystem
  const answered: Answered = new Map()
  return yield* Effect.gen(function*() {
    const directory = yield* makeProject()
    const home = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" })
    const lives = yield* startOn(directory, home)
    const dies = yield* startOn(directory, home)
    const roots = { a: yield* begin(dies, "a"), b: yield* begin(lives, "b") }
    yield* untilMoment(moment)
    yield* dies.kill("SIGKILL")
    const again = yield* startOn(directory, home)
    yield* untilComplete(lives, roots.b)
    yield* untilComplete(again, roots.a)
    const disturbed = yield* inspect(lives, "b", answered, undefined)
    if (disturbed.resumed > 0) {
      return yield* new RoundFailed({ message: `${disturbed.resumed} tasks of the living instance were resumed` })
    }
    return yield* inspect(again, "a", answered, undefined)
  }).pipe(Effect.scoped, Effect.provide(ScriptedModel.layer(script(answered))))
})
