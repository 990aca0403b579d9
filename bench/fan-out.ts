/**
 * Fan-out: how long from the prompt until the parent holds the results of N tasks that it delegated in one turn, on the
 * real OpenCode with a scripted model. Ours (`delegate_task`) against the host's built-in `task` tool on a server
 * without plugins, in alternation.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import type { OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Array, Clock, Console, Deferred, Effect, FileSystem, Option, Schedule, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import * as os from "node:os"
import { pluginUrl, type RealHost, startHost } from "../adapters/test/RealHost.ts"
import type { ModelReply, ModelRequest, Script } from "../adapters/test/Script.ts"
import { ScriptedModel } from "../adapters/test/ScriptedModel.ts"
import { BenchmarkFailed, cpuSeconds } from "./measure.ts"

// ---- what is measured ----------------------------------------------------------------------------------------------

/** `tasks` tasks, each answered by the model after `delay` ms. */
interface Case {
  readonly tasks: number
  readonly delay: number
}

/** `built-in` stands for whatever ours is measured against. */
type SideName = "ours" | "built-in"

interface Side {
  readonly name: SideName
  readonly host: RealHost
  /** The agent that delegates. */
  readonly parent: string
  readonly tool: string
  readonly order: (index: number, prompt: string) => unknown
}

/** A call of the model, in ms since the prompt. */
interface Call {
  readonly who: "parent" | "child"
  readonly at: number
  /** Undefined while the model has not answered. */
  answeredAt: number | undefined
  readonly chars: number
  /** How many results its conversation holds. */
  readonly results: number
}

/** One round as the scripted model sees it. */
interface Round {
  readonly id: number
  readonly fanOut: Case
  readonly side: Side
  /** Epoch ms of the prompt. */
  startedAt: number
  readonly calls: Array<Call>
  /** The first call whose conversation holds every result. */
  readonly done: Deferred.Deferred<Call>
}

interface Measurement {
  readonly side: SideName
  readonly case: string
  readonly round: number
  /** From the prompt to the parent's request that holds every result. */
  readonly elapsed: number
  readonly calls: ReadonlyArray<Call>
  /** The server's peak memory since the round began. */
  readonly peakBytes: number | undefined
  /** The server's CPU time from the prompt to the results. */
  readonly cpuSeconds: number | undefined
}

class RoundBroken extends Schema.TaggedError<RoundBroken>()("RoundBroken", {
  round: Schema.String,
  why: Schema.String
}) {
  override get message() {
    return `${this.round} is broken: ${this.why}`
  }
}

/** The most that ours may take, as a multiple of built-in. From the issue. */
const targets: Readonly<Record<string, number>> = { "8x2000": 1.1, "24x1000": 0.9 }

/** The most that the journal may cost. From the issue. */
const journalTarget = 1.05

/** How much longer than the model's delay a round may take. */
const patience = 60_000

/** How long a parent must stay quiet after its last turn before its turns are counted. */
const quietAfter = "1 second"

const caseName = ({ delay, tasks }: Case) => `${tasks}x${delay}`
const roundName = (round: Round) => `${round.side.name} ${caseName(round.fanOut)} (round ${round.id})`

// ---- the model -----------------------------------------------------------------------------------------------------

// Orders and results are named by different words: a result's mark is in no prompt, only in a child's answer.
const goal = (round: Round) => `FANOUT in ROUND-${round.id}: delegate all ${round.fanOut.tasks} tasks, wait, sum up.`
const order = (round: Round, index: number) =>
  `ORDER-${index}-of-${round.fanOut.tasks} in ROUND-${round.id}: find out what this part does, and report.`
const result = (round: Round, index: number) => `RESULT-${index}-of-${round.fanOut.tasks}-in-${round.id}.`

const indexes = (round: Round) => Array.range(1, round.fanOut.tasks)

const missingIn = (round: Round, raw: string) => indexes(round).filter((index) => !raw.includes(result(round, index)))

/** Answers as sensible agents would. Calls that belong to no round are counted as strays. */
const script = (rounds: ReadonlyMap<number, Round>, strays: Array<string>): Script =>
  Effect.fnUntraced(function*(request: ModelRequest) {
    const first = request.users[0] ?? ""
    const round = rounds.get(Number(/ROUND-(\d+)/.exec(first)?.[1]))
    if (round === undefined) {
      strays.push(first.slice(0, 100))
      return { text: "Nothing to do." }
    }
    const task = /ORDER-(\d+)-of-/.exec(first)?.[1]
    const call: Call = {
      who: task === undefined ? "parent" : "child",
      at: request.at - round.startedAt,
      answeredAt: undefined,
      chars: request.chars,
      results: round.fanOut.tasks - missingIn(round, request.raw).length
    }
    round.calls.push(call)
    const reply = task === undefined
      ? yield* answerAsParent(round, request, call)
      : yield* answerAsChild(round, Number(task))
    call.answeredAt = (yield* Clock.currentTimeMillis) - round.startedAt
    return reply
  })

const answerAsChild = (round: Round, index: number): Effect.Effect<ModelReply> =>
  Effect.as(Effect.sleep(round.fanOut.delay), { text: `It does its part.\n${result(round, index)}` })

const answerAsParent = Effect.fnUntraced(function*(
  round: Round,
  request: ModelRequest,
  call: Call
): Effect.fn.Return<ModelReply> {
  const { side } = round
  if (!request.calledTools.includes(side.tool)) {
    return {
      toolCalls: indexes(round).map((index) => ({ name: side.tool, args: side.order(index, order(round, index)) }))
    }
  }
  if (call.results < round.fanOut.tasks) return { text: "Waiting." }
  yield* Deferred.succeed(round.done, call)
  return { text: "Every part is known.\nMISSION COMPLETE" }
})

// ---- the server ----------------------------------------------------------------------------------------------------

const toJson = (value: unknown) => Effect.orDie(Schema.encodeEffect(Schema.fromJsonString(Schema.Unknown))(value)) // all of it came as JSON or was built here

/** What the host answers, if it does not refuse. */
const ask = Effect.fnUntraced(
  function*<A>(request: () => Promise<{ readonly data?: A | undefined; readonly error?: unknown }>) {
    const { data, error } = yield* Effect.promise(request)
    if (error !== undefined) return yield* new BenchmarkFailed({ why: `OpenCode refused: ${yield* toJson(error)}` })
    return data as NonNullable<A> // the SDK's types leave `data` open although there is no error
  }
)

const procFile = (host: RealHost, name: string) => `/proc/${host.pid}/${name}`

/** Lets the peak begin anew at what is in use now. Without Linux nothing happens, and no peak is read either. */
const resetPeak = Effect.fnUntraced(function*(host: RealHost) {
  const fs = yield* FileSystem.FileSystem
  yield* Effect.ignore(fs.writeFileString(procFile(host, "clear_refs"), "5")) // no Linux, no peak
})

const peakBytes = Effect.fnUntraced(function*(host: RealHost) {
  const fs = yield* FileSystem.FileSystem
  const status = yield* Effect.option(fs.readFileString(procFile(host, "status")))
  const kilobytes = Option.map(status, (text) => Number(/VmHWM:\s+(\d+) kB/.exec(text)?.[1]))
  return Option.getOrUndefined(Option.map(kilobytes, (count) => count * 1024))
})

const untilIdle = (client: OpencodeClient) =>
  ask(() => client.session.status()).pipe(
    Effect.repeat({ schedule: Schedule.spaced("50 millis"), until: (busy) => Object.keys(busy).length === 0 })
  )

const ways = ["background", "waiting", "bare"] as const

/** What is measured: tasks in the background, or waited for; or, in the place of ours, the least that a plugin can do. */
interface Ours {
  readonly agent: string
  readonly way: typeof ways[number]
}

const startOurs = Effect.fnUntraced(function*(name: SideName, ours: Ours, settings: Record<string, unknown>) {
  const settled = { concurrency: { total: 64, agent: 64 }, ...settings }
  const isBare = ours.way === "bare"
  const plugin = isBare ? new URL("barePlugin.ts", import.meta.url).href : [pluginUrl, settled] as const
  const tool = isBare ? "bare_task" : "delegate_task"
  const host = yield* startHost({ plugin: [plugin], config: usersConfig })
  const tools = yield* ask(() => host.client.tool.ids())
  if (!tools.includes(tool)) {
    return yield* new BenchmarkFailed({ why: "OpenCode did not load the plugin; `npm run build` makes it." })
  }
  const side: Side = {
    name,
    host,
    parent: isBare ? "Lead" : "Commander",
    tool,
    order: (index, prompt) => {
      const description = `look at part ${index}`
      return isBare
        ? { agent: "Worker", description, prompt }
        : { agent: ours.agent, description, prompt, background: ours.way === "background" }
    }
  }
  return side
})

const describe = ({ agent, way }: Ours) =>
  way === "bare"
    ? "a plugin that only makes sessions and prompts them, in the place of ours"
    : `children of ours: ${agent}, ${way === "waiting" ? "waited for" : "in the background"}`

/** As the host is by default: it keeps snapshots of the project. */
const usersConfig = { snapshot: true }

const startBuiltIn = Effect.gen(function*() {
  const host = yield* startHost({ config: usersConfig })
  yield* ask(() => host.client.tool.ids())
  const side: Side = {
    name: "built-in",
    host,
    parent: "build",
    tool: "task",
    order: (index, prompt) => ({ description: `look at part ${index}`, prompt, subagent_type: "general" })
  }
  return side
})

// ---- a round -------------------------------------------------------------------------------------------------------

const runRound = Effect.fnUntraced(function*(round: Round) {
  const { client } = round.side.host
  const { host } = round.side
  const broken = (why: string) => new RoundBroken({ round: roundName(round), why })

  const session = yield* ask(() => client.session.create({ title: roundName(round) }))
  yield* resetPeak(host)
  const cpuBefore = yield* cpuSeconds(host.pid)
  round.startedAt = yield* Clock.currentTimeMillis
  yield* ask(() =>
    client.session.promptAsync({
      sessionID: session.id,
      agent: round.side.parent,
      parts: [{ type: "text", text: goal(round) }]
    })
  )
  const last = yield* Deferred.await(round.done).pipe(
    Effect.timeoutOption(round.fanOut.delay + patience),
    Effect.map(Option.getOrUndefined)
  )
  const cpuAfter = yield* cpuSeconds(host.pid)
  if (last === undefined) {
    const messages = yield* ask(() => client.session.messages({ sessionID: session.id }))
    yield* ask(() => client.session.abort({ sessionID: session.id }))
    const missing = missingIn(round, yield* toJson(messages))
    return yield* broken(
      missing.length === 0
        ? "every result reached the parent's session, and no model call had them all"
        : `the parent never got the results ${missing.join(", ")}`
    )
  }
  yield* untilIdle(client).pipe(Effect.timeoutOrElse({
    duration: "30 seconds",
    orElse: () => Effect.fail(broken("the server was still busy 30 s after the results"))
  }))
  yield* Effect.sleep(quietAfter)
  const turns = turnsAfter({ calls: round.calls, elapsed: last.at })
  if (turns !== 1) return yield* broken(`the parent took ${turns} turns after the results instead of 1`)
  const measured: Measurement = {
    side: round.side.name,
    case: caseName(round.fanOut),
    round: round.id,
    elapsed: last.at,
    calls: round.calls,
    peakBytes: yield* peakBytes(host),
    cpuSeconds: cpuBefore === undefined || cpuAfter === undefined ? undefined : cpuAfter - cpuBefore
  }
  return measured
})

// ---- what is read from a round -------------------------------------------------------------------------------------

type Timed = Pick<Measurement, "calls" | "elapsed">

const callsOf = (measured: Timed, who: Call["who"]) => measured.calls.filter((call) => call.who === who)
const turnsAfter = (measured: Timed) => callsOf(measured, "parent").filter((call) => call.at >= measured.elapsed).length
const arrivals = (measured: Timed) => callsOf(measured, "child").map((call) => call.at)
const answers = (measured: Timed) => callsOf(measured, "child").map((call) => call.answeredAt ?? Number.NaN)

interface Metric {
  readonly name: string
  readonly digits: number
  /** Undefined where it cannot be measured. */
  readonly read: (measured: Measurement) => number | undefined
}

const delayOf = (measured: Measurement) => Number(measured.case.split("x")[1])

const metrics: ReadonlyArray<Metric> = [
  { name: "prompt to results, ms", digits: 0, read: (m) => m.elapsed },
  { name: "  beyond the model's delay", digits: 0, read: (m) => m.elapsed - delayOf(m) },
  { name: "  prompt to parent's first call", digits: 0, read: (m) => callsOf(m, "parent")[0]?.at },
  {
    name: "  parent's answer to first child's call",
    digits: 0,
    read: (m) => Math.min(...arrivals(m)) - (callsOf(m, "parent")[0]?.answeredAt ?? Number.NaN)
  },
  { name: "  first to last child's call", digits: 0, read: (m) => Math.max(...arrivals(m)) - Math.min(...arrivals(m)) },
  {
    name: "  last child's call to last answer",
    digits: 0,
    read: (m) => Math.max(...answers(m)) - Math.max(...arrivals(m))
  },
  { name: "  last child's answer to results", digits: 0, read: (m) => m.elapsed - Math.max(...answers(m)) },
  { name: "model calls", digits: 0, read: (m) => m.calls.length },
  { name: "  of the parent", digits: 0, read: (m) => callsOf(m, "parent").length },
  { name: "  of the parent, with all results", digits: 0, read: turnsAfter },
  { name: "characters sent to the model", digits: 0, read: (m) => sum(m.calls.map((call) => call.chars)) },
  { name: "  by the parent", digits: 0, read: (m) => sum(callsOf(m, "parent").map((call) => call.chars)) },
  {
    name: "peak memory, MiB",
    digits: 0,
    read: (m) => (m.peakBytes === undefined ? undefined : m.peakBytes / 1024 / 1024)
  },
  { name: "CPU, s", digits: 2, read: (m) => m.cpuSeconds }
]

const sum = (numbers: ReadonlyArray<number>) => numbers.reduce((a, b) => a + b, 0)

interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

const spread = (numbers: ReadonlyArray<number>): Spread | undefined => {
  if (numbers.length === 0) return undefined
  const sorted = numbers.toSorted((a, b) => a - b)
  const at = (index: number) => sorted[index] ?? Number.NaN
  const median = (at(Math.floor((sorted.length - 1) / 2)) + at(Math.ceil((sorted.length - 1) / 2))) / 2
  return { median, min: at(0), max: at(sorted.length - 1) }
}

interface Row {
  readonly metric: string
  readonly digits: number
  readonly ours: Spread | undefined
  readonly builtIn: Spread | undefined
  /** Ours divided by built-in, of the medians. */
  readonly ratio: number | undefined
}

const summarize = (measured: ReadonlyArray<Measurement>): ReadonlyArray<Row> =>
  metrics.map(({ digits, name, read }) => {
    const of = (side: SideName) =>
      spread(measured.filter((m) => m.side === side).map(read).filter((value) => value !== undefined))
    const ours = of("ours")
    const builtIn = of("built-in")
    const ratio = ours === undefined || builtIn === undefined || builtIn.median === 0
      ? undefined
      : ours.median / builtIn.median
    return { metric: name.trim(), digits, ours, builtIn, ratio }
  })

const table = (rows: ReadonlyArray<Row>, other: string): string => {
  const cell = (values: Spread | undefined, digits: number) => {
    if (values === undefined) return "-"
    const [median, min, max] = [values.median, values.min, values.max].map((value) => value.toFixed(digits))
    return min === max ? `${median}` : `${median} (${min}..${max})`
  }
  const lines = rows.map((row, index) => [
    metrics[index]?.name ?? row.metric,
    cell(row.ours, row.digits),
    cell(row.builtIn, row.digits),
    row.ratio === undefined ? "-" : row.ratio.toFixed(2)
  ])
  return [["", "ours", other, "ratio"], ...lines]
    .map(([name = "", ...cells]) => name.padEnd(40) + cells.map((text, i) => text.padStart(i < 2 ? 26 : 8)).join(""))
    .join("\n")
}

const verdict = (fanOut: Case, rows: ReadonlyArray<Row>, against: "built-in" | "memory"): string => {
  const target = against === "memory" ? journalTarget : targets[caseName(fanOut)]
  const ratio = rows[0]?.ratio
  if (target === undefined) return "no target for this case"
  if (ratio === undefined) return `target: at most ${target}x; not measured`
  return `target: at most ${target}x; measured ${ratio.toFixed(2)}x, ${ratio <= target ? "met" : "missed"}`
}

// ---- the command ---------------------------------------------------------------------------------------------------

const parseCases = (text: string): ReadonlyArray<Case> =>
  text.split(",").map((part) => {
    const match = /^([1-9]\d*)x(\d+)$/.exec(part.trim())
    if (match === null) throw new Error(`"${part}" is not a case; write tasks x ms, for example 8x2000`)
    return { tasks: Number(match[1]), delay: Number(match[2]) }
  })

interface Options extends Ours {
  readonly against: "built-in" | "memory"
  readonly cases: ReadonlyArray<Case>
  readonly runs: number
  readonly json: Option.Option<string>
}

const bench = Effect.fnUntraced(function*(options: Options) {
  if (options.way === "bare" && options.against === "memory") {
    return yield* new BenchmarkFailed({ why: "The bare plugin has no journal: leave out --against memory." })
  }
  const rounds = new Map<number, Round>()
  const strays: Array<string> = []
  yield* Effect.gen(function*() {
    const ours = yield* startOurs("ours", options, {})
    const sides = [
      ours,
      options.against === "memory"
        ? yield* startOurs("built-in", options, { journal: "off" })
        : yield* startBuiltIn
    ]
    const { version } = yield* ask(() => ours.host.client.global.health())
    const machine = {
      cores: os.availableParallelism(),
      cpu: os.cpus()[0]?.model ?? "unknown",
      load: os.loadavg()[0] ?? Number.NaN,
      node: process.version,
      opencode: version
    }
    yield* Console.log(
      `${machine.cores} cores (${machine.cpu}), load ${machine.load.toFixed(1)}, Node ${machine.node}, `
        + `OpenCode ${machine.opencode}; medians of ${options.runs} (min..max); ${describe(options)}; `
        + `against ${options.against === "memory" ? "ours without a journal" : "the built-in task tool"}`
    )

    const newRound = (side: Side, fanOut: Case) => {
      const round: Round = { id: rounds.size + 1, fanOut, side, startedAt: 0, calls: [], done: Deferred.makeUnsafe() }
      rounds.set(round.id, round)
      return runRound(round)
    }

    const widest = options.cases.reduce((a, b) => (b.tasks > a.tasks ? b : a))
    for (const side of sides) yield* newRound(side, widest)

    const problems: Array<string> = []
    const report: Array<unknown> = []
    for (const fanOut of options.cases) {
      const measured: Array<Measurement> = []
      for (let run = 0; run < options.runs; run++) {
        for (const side of sides) {
          yield* newRound(side, fanOut).pipe(
            Effect.map((one) => void measured.push(one)),
            Effect.catchTag("RoundBroken", (error) => {
              problems.push(error.message)
              return Console.error(error.message)
            })
          )
        }
      }
      const rows = summarize(measured)
      yield* Console.log(
        `\n${fanOut.tasks} tasks of ${fanOut.delay} ms (${verdict(fanOut, rows, options.against)})\n${
          table(rows, options.against)
        }`
      )
      report.push({ case: caseName(fanOut), target: targets[caseName(fanOut)], rows, rounds: measured })
    }
    if (strays.length > 0) yield* Console.log(`\nmodel calls that belong to no round: ${strays.join(" | ")}`)

    if (Option.isSome(options.json)) {
      const fs = yield* FileSystem.FileSystem
      yield* fs.writeFileString(
        options.json.value,
        `${yield* toJson({ machine, runs: options.runs, ours: describe(options), cases: report, problems })}\n`
      )
    }
    if (problems.length > 0) {
      return yield* new BenchmarkFailed({ why: `${problems.length} broken rounds:\n${problems.join("\n")}` })
    }
  }).pipe(Effect.scoped, Effect.provide(ScriptedModel.layer(script(rounds, strays))))
})

Command.make("fan-out", {
  runs: Flag.Int("runs").pipe(
    Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100 }))),
    Flag.withDefault(5),
    Flag.withDescription("Measured rounds per case and side")
  ),
  cases: Flag.String("cases").pipe(
    Flag.mapTryCatch(parseCases, (error) => (error instanceof Error ? error.message : String(error))),
    Flag.withDefault(parseCases("8x2000,24x1000")),
    Flag.withDescription("Tasks x ms of the model's delay, separated by commas")
  ),
  against: Flag.Literals("against", ["built-in", "memory"]).pipe(
    Flag.withDefault("built-in"),
    Flag.withDescription("The host's built-in task tool, or this plugin without its journal")
  ),
  agent: Flag.String("agent").pipe(Flag.withDefault("Builder"), Flag.withDescription("The agent of our children")),
  way: Flag.Literals("way", ways).pipe(
    Flag.withDefault("background"),
    Flag.withDescription(
      "Our parent is woken, or waits in its calls as that of the built-in tool does; or a bare plugin"
    )
  ),
  json: Flag.String("json").pipe(Flag.optional, Flag.withDescription("Writes every round to this file"))
}, bench).pipe(
  Command.withDescription("Measures delegated tasks against the host's built-in task tool"),
  Command.run({ version: "1" }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
