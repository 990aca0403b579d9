/**
 * A plan without a Commander: how long 30 tasks of 2 s each take within a limit of 6, on the real OpenCode with a scripted
 * model, against the ideal schedule and against what the host itself adds to it: the same 30 sessions, prompted six at a
 * time over the SDK without the orchestrator, in alternation on the same server.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Array, Clock, Console, Effect, Schema } from "effect"
import { Command } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as os from "node:os"
import { fileURLToPath } from "node:url"
import { RunLine } from "../adapters/node-cli/runLines.ts"
import { register } from "../adapters/opencode-plugin/registration.ts"
import { makeProject, type RealHost, startHost } from "../adapters/test/RealHost.ts"
import type { Script } from "../adapters/test/Script.ts"
import { ScriptedModel } from "../adapters/test/ScriptedModel.ts"
import { defaults } from "../src/Config.ts"
import { BenchmarkFailed, count, median } from "./measure.ts"

interface Shape {
  readonly tasks: number
  readonly limit: number
  /** Of the model, for each task, in ms. */
  readonly delay: number
}

/** From the issue: at most this much of the ideal schedule, and what the host adds. */
const target = 1.1

const cli = fileURLToPath(new URL("../dist/cli.js", import.meta.url))
const agent = "Builder"

const orders = ({ tasks }: Shape) => Array.range(1, tasks).map((index) => `ORDER-${index}: find out, and report.`)

/** How many of the model's calls were open at once, at most. */
const script = (shape: Shape, gauge: { open: number; most: number; calls: number }): Script => () =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      gauge.calls++
      gauge.most = Math.max(gauge.most, ++gauge.open)
    }),
    () => Effect.as(Effect.sleep(shape.delay), { text: "It is done." }),
    () => Effect.sync(() => gauge.open--)
  )

/** The sessions alone, six at a time: what the host takes for them. */
const direct = Effect.fnUntraced(function*(host: RealHost, shape: Shape) {
  const from = yield* Clock.currentTimeMillis
  yield* Effect.forEach(orders(shape), (text) =>
    Effect.promise(async () => {
      const session = await host.client.session.create({ title: "A task" }, { throwOnError: true })
      await host.client.session.prompt(
        { sessionID: session.data.id, agent, parts: [{ type: "text", text }] },
        { throwOnError: true }
      )
    }), { concurrency: shape.limit, discard: true })
  return (yield* Clock.currentTimeMillis) - from
})

/** The same as a plan: from its mission's beginning to its end, as the run tells them. */
const planned = Effect.fnUntraced(function*(host: RealHost, plan: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const args = ["run", "--plan", plan, "--no-inspect", "--json", "--url", host.url, "--dir", host.directory]
  const output = yield* spawner.string(ChildProcess.make(process.execPath, [cli, ...args], { extendEnv: true }))
  const lines = yield* Effect.forEach(
    output.trim().split("\n"),
    (line) => Schema.decodeEffect(Schema.fromJsonString(RunLine))(line)
  )
  const first = lines.find(({ type }) => type === "mission")
  const end = lines.at(-1)
  if (first === undefined || end?.type !== "end" || end.state !== "complete") {
    return yield* new BenchmarkFailed({ why: `The plan was not completed:\n${output.slice(-2_000)}` })
  }
  return end.at - first.at
})

const range = (numbers: ReadonlyArray<number>): string =>
  `${Math.round(median(numbers))} ms (${Math.min(...numbers)}..${Math.max(...numbers)})`

const bench = Effect.fnUntraced(function*({ runs, ...shape }: Shape & { readonly runs: number }) {
  const gauge = { open: 0, most: 0, calls: 0 }
  yield* Effect.gen(function*() {
    const agents = {}
    register(agents, defaults, [])
    const directory = yield* makeProject({
      ".opencode/orchestrator.jsonc": JSON.stringify({ concurrency: { total: shape.limit } }),
      "plan.json": JSON.stringify(orders(shape).map((text, index) => ({ id: `T${index + 1}`, text, agent })))
    })
    const host = yield* startHost({ directory, config: agents })
    const ideal = Math.ceil(shape.tasks / shape.limit) * shape.delay
    yield* Console.log(
      `${os.availableParallelism()} cores, load ${
        os.loadavg()[0]?.toFixed(1)
      }, Node ${process.version}; ${shape.tasks} `
        + `tasks of ${shape.delay} ms, ${shape.limit} at a time: ideal ${ideal} ms; medians of ${runs} (min..max)`
    )
    yield* direct(host, { ...shape, tasks: shape.limit }) // so that neither pays for what the host loads first
    const alone: Array<number> = []
    const ours: Array<number> = []
    for (let run = 0; run < runs; run++) {
      alone.push(yield* direct(host, shape))
      gauge.most = 0
      gauge.calls = 0
      ours.push(yield* planned(host, `${directory}/plan.json`))
      if (gauge.most !== shape.limit || gauge.calls !== shape.tasks) {
        return yield* new BenchmarkFailed({
          why:
            `${gauge.calls} calls of the model, ${gauge.most} at once, where ${shape.tasks} and ${shape.limit} are right.`
        })
      }
    }
    const overhead = Math.max(0, median(alone) - ideal)
    const most = target * ideal + overhead
    const took = median(ours)
    yield* Console.log(
      [
        `sessions over the SDK  ${range(alone)}: the host adds ${Math.round(overhead)} ms`,
        `run --plan             ${range(ours)}: ${(took / ideal).toFixed(2)} x ideal, ${
          ((took - overhead) / ideal).toFixed(2)
        } x without what the host adds, ${(took / median(alone)).toFixed(2)} x the sessions alone`,
        `target: at most ${target} x ideal and what the host adds, ${Math.round(most)} ms: ${
          took <= most ? "met" : "missed"
        }; load ${os.loadavg()[0]?.toFixed(1)} in the end`
      ].join("\n")
    )
  }).pipe(Effect.scoped, Effect.provide(ScriptedModel.layer(script(shape, gauge))))
})

Command.make("plan", {
  tasks: count("tasks", 30, "Tasks of the plan, at most 200"),
  limit: count("limit", 6, "Sessions at a time"),
  delay: count("delay", 2_000, "The model's time for each task, in ms"),
  runs: count("runs", 3, "Measured rounds of each")
}, bench).pipe(
  Command.withDescription("Measures a plan of independent tasks against its ideal schedule"),
  Command.run({ version: "1" }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
