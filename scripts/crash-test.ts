/**
 * Kills the real OpenCode with SIGKILL at moments spread over a mission, starts it again, and checks that nothing was
 * lost: every result reaches its parent once, no child runs more often than it may, finished work is not done again.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Effect, FileSystem, Option, Schedule, Schema, Scope, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { makeProject, pluginUrl, type RealHost, startHost } from "../adapters/test/RealHost.ts"
import type { ModelReply, ModelRequest, Script } from "../adapters/test/Script.ts"
import { ScriptedModel } from "../adapters/test/ScriptedModel.ts"

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

const mission: ReadonlyArray<Order> = [
  { name: "one", agent: "Builder", background: true, ms: 300 },
  { name: "two", agent: "Builder", background: true, ms: 1_500, tool: true },
  { name: "three", agent: "Inspector", background: true, ms: 900, tool: true },
  {
    name: "four",
    agent: "Architect",
    background: true,
    ms: 200,
    below: { name: "four-below", agent: "Researcher", background: true, ms: 700 }
  },
  {
    name: "five",
    agent: "Architect",
    background: true,
    ms: 200,
    below: { name: "five-below", agent: "Researcher", background: false, ms: 700 }
  },
  { name: "six", agent: "Builder", background: false, ms: 1_000 }
]
const orders = mission.flatMap((order) => (order.below === undefined ? [order] : [order, order.below]))

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
    if (first.startsWith("MISSION")) return command(request)
    const order = orders.find((order) => first === promptOf(order))
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

const command = (request: ModelRequest): ModelReply => {
  const open = mission.filter((order) => !isDelegated(request, order))
  if (open.length > 0) return { toolCalls: open.map(delegate) }
  return mission.every((order) => knows(request, resultOf(order)))
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

class RoundFailed extends Schema.TaggedError<RoundFailed>()("RoundFailed", { message: Schema.String }) {}

export interface Round {
  /** From the prompt to SIGKILL, ms; undefined when the mission ended before. */
  readonly killedAt: number | undefined
  /** From the prompt to the end of the mission, ms, the restart included. */
  readonly took: number
  /** Runs of all tasks, beyond the first of each. */
  readonly resumed: number
}

const ask = <A>(request: () => Promise<{ readonly data?: A | undefined; readonly error?: unknown }>) =>
  Effect.flatMap(Effect.promise(request), ({ data, error }) =>
    data === undefined
      ? Effect.fail(new RoundFailed({ message: `OpenCode refused ${String(request)}: ${JSON.stringify(error)}` }))
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

/** Runs the mission, kills the host after `killAfter` ms (never, when undefined), starts it again, and checks the end. */
export const runRound = Effect.fn("runRound")(function*(killAfter: number | undefined) {
  const fs = yield* FileSystem.FileSystem
  const answered: Answered = new Map()
  const problems: Array<string> = []
  return yield* Effect.gen(function*() {
    const directory = yield* makeProject()
    const home = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" })
    const start = startHost({ plugin, directory, home }).pipe(
      Effect.tap((host) => ask(() => host.client.tool.ids())) // the first request for a folder loads its plugins
    )
    const firstLife = yield* Scope.make()
    let host = yield* Scope.provide(start, firstLife)
    const root = (yield* ask(() => host.client.session.create({ title: "crash test" }))).id
    const idleAt = yield* Scope.provide(listen(host), firstLife)
    const startedAt = yield* Clock.currentTimeMillis
    yield* Effect.promise(() =>
      host.client.session.promptAsync({
        sessionID: root,
        agent: "Commander",
        parts: [{ type: "text", text: "MISSION: have all orders carried out." }]
      })
    )
    let killedAt: number | undefined
    if (killAfter !== undefined) {
      yield* Effect.sleep(killAfter)
      if (!(yield* isComplete(host, root))) {
        yield* host.kill("SIGKILL")
        killedAt = (yield* Clock.currentTimeMillis) - startedAt
        host = yield* start
      }
    }
    yield* isComplete(host, root).pipe(
      Effect.repeat({ until: (complete) => complete, schedule: Schedule.spaced("100 millis") }),
      Effect.timeoutOrElse({
        duration: "60 seconds",
        orElse: () =>
          Effect.flatMap(
            heardIn(host, root),
            (heard) =>
              Effect.fail(
                new RoundFailed({ message: `the mission did not end. The Commander heard:\n${heard.join("\n---\n")}` })
              )
          )
      })
    )
    const took = (yield* Clock.currentTimeMillis) - startedAt
    const sessions = yield* ask(() => host.client.session.list({ limit: 1_000 }))
    let resumed = 0
    for (const order of orders) {
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
        const finishedAt = idleAt.get(id) ?? 0
        if (answers.length > 1 && killedAt !== undefined && first < finishedAt && finishedAt < startedAt + killedAt) {
          problems.push(
            `${order.name} was finished ${startedAt + killedAt - finishedAt} ms before the end and was run again`
          )
        }
        const told = (yield* heardIn(host, parentID ?? "")).filter((text) =>
          text.split("\n").some((line) => line.startsWith(resultOf(order)))
        )
        if (told.length !== 1) problems.push(`the result of ${order.name} reached its parent ${told.length} times`)
      }
    }
    yield* Scope.close(firstLife, yield* Effect.exit(Effect.void))
    if (problems.length > 0) return yield* new RoundFailed({ message: problems.join("; ") })
    return { killedAt, took, resumed } satisfies Round
  }).pipe(Effect.scoped, Effect.provide(ScriptedModel.layer(script(answered))))
})

// ---- the command ---------------------------------------------------------------------------------------------------

const crashTest = Effect.fnUntraced(function*({ rounds }: { readonly rounds: number }) {
  const { took } = yield* runRound(undefined)
  yield* Console.log(`without a kill the mission takes ${took} ms`)
  let failed = 0
  for (let round = 0; round < rounds; round++) {
    const killAfter = Math.round((took * (round + 0.5)) / rounds)
    yield* runRound(killAfter).pipe(
      Effect.flatMap((result) =>
        Console.log(
          `round ${round + 1}: killed after ${result.killedAt ?? "(it had ended)"} ms, ended after ${result.took} ms, `
            + `${result.resumed} tasks resumed`
        )
      ),
      Effect.catchTag("RoundFailed", (error) => {
        failed++
        return Console.log(`round ${round + 1}: killed after ${killAfter} ms: FAILED: ${error.message}`)
      })
    )
  }
  yield* Console.log(`${rounds - failed} rounds passed, ${failed} failed`)
  if (failed > 0) return yield* new RoundFailed({ message: `${failed} of ${rounds} rounds failed` })
})

if (import.meta.main) {
  Command.make("crash-test", {
    rounds: Flag.Int("rounds").pipe(
      Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 }))),
      Flag.withDefault(30),
      Flag.withDescription("Missions, each killed once, at moments spread evenly over its course")
    )
  }, crashTest).pipe(
    Command.withDescription("Kills the real OpenCode in the middle of missions, and checks that nothing is lost"),
    Command.run({ version: "1" }),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
}
