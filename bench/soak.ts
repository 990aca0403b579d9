/**
 * A long mission: round after round of tasks delegated in one turn, on the real OpenCode with a scripted model. What a
 * round takes, and what memory the server holds, at the beginning and at the end; and what is left when it is over.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Deferred, Effect, FileSystem } from "effect"
import { Command } from "effect/cli"
import * as os from "node:os"
import { pluginUrl, type RealHost, startHost } from "../adapters/test/RealHost.ts"
import type { Script } from "../adapters/test/Script.ts"
import { ScriptedModel } from "../adapters/test/ScriptedModel.ts"
import { BenchmarkFailed, count, cpuSeconds, median } from "./measure.ts"

interface Shape {
  readonly rounds: number
  readonly tasks: number
}

/** Characters of one result. */
const resultChars = 2_000

/** All that waits is short, so that a mission of minutes shows what one of hours does. */
const settings = (shape: Shape) => ({
  budget: { tasks: shape.rounds * shape.tasks, turns: 10 * shape.rounds * shape.tasks, tokens: 1e12, cost: 1e6 },
  concurrency: { agent: shape.tasks },
  retention: { completed: "20 seconds", sessions: "10 seconds" }
})

/** What the server is like when a round begins. */
interface Moment {
  readonly at: number
  readonly cpuSeconds: number
  readonly megabytes: number
  readonly journalBytes: number
}

const result = (round: number, index: number) => `RESULT-${round}-${index}. `

/** The Commander delegates round after round, each when it holds all results of the one before. */
const script = (shape: Shape, begun: (round: number) => Effect.Effect<void>): Script => {
  let round = 0
  return (request) =>
    Effect.gen(function*() {
      if (!/^You are the Commander/m.test(request.system)) {
        const [, order = ""] = /ORDER-(\d+-\d+)/.exec(request.users[0] ?? "") ?? []
        return { text: `RESULT-${order}. `.padEnd(resultChars, "x") }
      }
      if (request.toolResults.length > 0) return { text: "I wait." }
      const isTold = Array.from({ length: shape.tasks }, (_, index) => result(round, index)).every((text) =>
        request.raw.includes(text)
      )
      if (round > 0 && !isTold) return { text: "I wait." }
      yield* begun(round)
      if (round === shape.rounds) return { text: "MISSION COMPLETE" }
      round++
      return {
        toolCalls: Array.from({ length: shape.tasks }, (_, index) => ({
          name: "delegate_task",
          args: { agent: "Builder", description: "A part", prompt: `ORDER-${round}-${index}: do it`, background: true }
        }))
      }
    })
}

const moment = Effect.fnUntraced(function*(host: RealHost) {
  const fs = yield* FileSystem.FileSystem
  const status = yield* fs.readFileString(`/proc/${host.pid}/status`)
  const folder = `${host.directory}/.opencode/orchestrator`
  const journals = (yield* fs.readDirectory(folder)).filter((name) => name.endsWith(".jsonl"))
  const sizes = yield* Effect.forEach(journals, (name) => fs.stat(`${folder}/${name}`))
  return {
    at: yield* Clock.currentTimeMillis,
    cpuSeconds: (yield* cpuSeconds(host.pid)) ?? Number.NaN,
    megabytes: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1_024,
    journalBytes: sizes.reduce((sum, { size }) => sum + Number(size), 0)
  } satisfies Moment
}, Effect.orDie) // Linux has these files, and the plugin has written its journal

/** Medians of some rounds in a row. */
const summary = (name: string, moments: ReadonlyArray<Moment>) => {
  const steps = moments.slice(1).map((after, index) => ({ before: moments[index] ?? after, after }))
  const took = median(steps.map(({ after, before }) => after.at - before.at))
  const cpu = median(steps.map(({ after, before }) => after.cpuSeconds - before.cpuSeconds))
  return `${name.padEnd(24)} ${took} ms and ${cpu.toFixed(2)} s of CPU a round; memory ${
    median(moments.map(({ megabytes }) => megabytes)).toFixed(0)
  } MB (at most ${Math.max(...moments.map(({ megabytes }) => megabytes)).toFixed(0)})`
}

const bench = (shape: Shape) =>
  Effect.gen(function*() {
    const moments: Array<Moment> = []
    const over = yield* Deferred.make<void>()
    const started = yield* Deferred.make<RealHost>()
    const services = yield* Effect.context<FileSystem.FileSystem>()
    const begun = (round: number) =>
      Effect.gen(function*() {
        moments.push(yield* moment(yield* Deferred.await(started)))
        if (round === shape.rounds) yield* Deferred.succeed(over, undefined)
      }).pipe(Effect.provide(services))
    yield* Effect.gen(function*() {
      const host = yield* startHost({ plugin: [[pluginUrl, settings(shape)]] })
      yield* Deferred.succeed(started, host)
      const create = host.client.session.create.bind(host.client.session)
      const root = yield* Effect.promise(() => create({ title: "A long mission" }, { throwOnError: true }))
      const sessionID = root.data.id
      yield* Effect.promise(() =>
        host.client.session.promptAsync({ sessionID, agent: "Commander", parts: [{ type: "text", text: "All of it" }] })
      )
      const late: Array<number> = []
      yield* Effect.gen(function*() {
        const from = yield* Clock.currentTimeMillis
        yield* Effect.promise(() => host.client.session.status())
        late.push((yield* Clock.currentTimeMillis) - from)
        yield* Effect.sleep("200 millis")
      }).pipe(Effect.forever, Effect.forkScoped)
      yield* Deferred.await(over)
      const answers = [...late] // from here on the server is at rest, and answers at once
      const part = Math.max(2, Math.floor(shape.rounds / 4))
      const childrenLeft = Effect.promise(() => host.client.session.children({ sessionID })).pipe(
        Effect.map(({ data }) => data?.length ?? Number.NaN)
      )
      const left = yield* childrenLeft.pipe(
        Effect.delay("5 seconds"),
        Effect.repeat({ until: (count) => count === 0, times: 24 })
      )
      const rest = yield* moment(host)
      yield* Console.log(
        [
          `${os.availableParallelism()} cores, load ${os.loadavg()[0]?.toFixed(1)}, Node ${process.version}; `
          + `${shape.rounds} rounds of ${shape.tasks} tasks in one mission`,
          summary("the first quarter", moments.slice(1, part + 1)),
          summary("the last quarter", moments.slice(-part)),
          `the journal              at most ${
            (Math.max(...moments.map(({ journalBytes }) => journalBytes)) / 1_000_000).toFixed(1)
          } MB`,
          `the server answered      in ${median(answers)} ms (median), ${Math.max(...answers)} ms at most`,
          `when all is over         memory ${rest.megabytes.toFixed(0)} MB; ${left} child sessions left`
        ].join("\n")
      )
      if (left > 0) return yield* new BenchmarkFailed({ why: `${left} child sessions were not deleted` })
    }).pipe(Effect.scoped, Effect.provide(ScriptedModel.layer(script(shape, begun))))
  })

Command.make("soak", {
  rounds: count("rounds", 40, "Rounds"),
  tasks: count("tasks", 25, "Tasks of each round, all at once")
}, bench).pipe(
  Command.withDescription("How a mission of many tasks develops"),
  Command.run({ version: "1" }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
