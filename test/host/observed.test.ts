/** A mission in the real OpenCode as others see it: the command line beside it, an OTLP collector, the log file. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer, Path, Schedule, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { pluginUrl, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { collector, pathsOf, pointsOf, valueOf } from "../adapters/collector.ts"
import { isToast, openProject, Server, settings } from "./project.ts"

const main = fileURLToPath(new URL("../../dist/cli.js", import.meta.url))

const run = Effect.fnUntraced(function*(directory: string, ...args: ReadonlyArray<string>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [main, ...args], {
    cwd: directory,
    extendEnv: true,
    env: { FORCE_COLOR: undefined, NO_COLOR: "1" }
  }))
  const output = yield* handle.all.pipe(Stream.decodeText, Stream.mkString)
  return { output, code: Number(yield* handle.exitCode) }
}, Effect.scoped)

const delegate = (prompt: string) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: prompt, prompt, background: true }
})

const script: Script = (request) => {
  if (!/^You are the Commander/m.test(request.system)) {
    if (request.users[0]?.startsWith("long") === true) return Effect.never
    return Effect.succeed(
      request.toolResults.length > 0
        ? { text: "quick is done" }
        : { toolCalls: [{ name: "bash", args: { command: "echo private words", description: "a command" } }] }
    )
  }
  return Effect.succeed(
    request.turns === 0
      ? { toolCalls: [delegate("long work"), delegate("quick work")] }
      : request.users.at(-1)?.includes("was cancelled") === true
      ? { text: "The quick work is done, the long one was not wanted.\n\nMISSION COMPLETE" }
      : { text: "I wait." }
  )
}

const Numbers = Schema.fromJsonString(Schema.Struct({
  spent: Schema.Struct({ tokens: Schema.Finite, cost: Schema.Finite }),
  tasks: Schema.Array(Schema.Unknown)
}))

class Collector extends Context.Service<Collector, Effect.Success<typeof collector>>()("test/Collector") {
  static readonly layer = Layer.effect(this, collector)
}

const observed = Layer.effect(
  Server,
  Effect.gen(function*() {
    const { url } = yield* Collector
    return yield* startHost({
      plugin: [[pluginUrl, {}]],
      env: {
        ...shortLived,
        OTEL_EXPORTER_OTLP_ENDPOINT: url,
        OTEL_BSP_SCHEDULE_DELAY: "200",
        OTEL_METRIC_EXPORT_INTERVAL: "200"
      }
    })
  })
).pipe(
  Layer.provideMerge(Collector.layer),
  Layer.provideMerge(ScriptedModel.layer(script)),
  Layer.provideMerge(NodeServices.layer),
  Layer.orDie
)

layer(observed, { excludeTestServices: true, timeout: "60 seconds" })("a mission in a real OpenCode", (it) => {
  it.effect("is seen, cancelled and reported from the command line, and its spans come as a tree", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const { bodies, missionCame, spans } = yield* Collector
      const { directory, say, until } = yield* openProject(settings("{ \"logLevel\": \"debug\" }"))
      const root = yield* say("Do the work")
      yield* until(isToast("completed"))

      const { output } = yield* run(directory, "tasks")
      const [, id = ""] = /- (task_\w+) running .* long work/.exec(output) ?? assert.fail(output)
      assert.match(output, /- task_\w+ completed .* quick work/)
      assert.include(output, `${root} active · `)

      const cancelled = yield* run(directory, "cancel", id)
      assert.match(cancelled.output, new RegExp(`^${id} was cancelled `))
      assert.strictEqual(cancelled.code, 0)
      yield* until(isToast("Mission complete"))

      const report = yield* run(directory, "report")
      assert.strictEqual(report.code, 0, report.output)
      const html = yield* fs.readFileString(report.output.trim())
      assert.include(html, "<pre>The quick work is done, the long one was not wanted.")
      assert.include(html, "the user asked for it on the command line")

      const again = yield* run(directory, "cancel", root)
      assert.include(again.output, `Nothing to cancel: ${root} is complete`)

      yield* missionCame
      const all = (yield* spans).filter(({ resource }) => valueOf(resource, "service.name") === "opencode-orchestrator")
        .flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const paths = pathsOf(all)
      for (
        const way of [
          "mission",
          "mission > turn > tool call delegate_task",
          "mission > task Builder > run 1 > turn > tool call bash"
        ]
      ) assert.include(paths, way)
      assert.lengthOf(paths.filter((way) => way === "mission > task Builder"), 2)
      assert.lengthOf(paths.filter((way) => way === "mission > turn > tool call delegate_task"), 2)
      // The host sends spans of its own by the same variables, which tell more.
      const own = () => bodies.filter(({ text }) => text.includes("\"stringValue\":\"opencode-orchestrator\""))
      const sent = JSON.stringify(own())
      for (const word of ["private words", directory, "Do the work", "long work", "echo"]) assert.notInclude(sent, word)

      // The numbers are those of the records.
      const told = yield* run(directory, "report", "--format", "json", "--out", "-")
      const { spent, tasks } = yield* Schema.decodeEffect(Numbers)(told.output)
      const sums = Effect.gen(function*() {
        const sum = (points: Effect.Success<ReturnType<typeof pointsOf>>) =>
          points.reduce((sum, { asDouble, asInt }) => sum + Number(asDouble ?? asInt), 0)
        return {
          tokens: sum(yield* pointsOf(own(), "orchestrator.tokens")),
          tasks: sum(yield* pointsOf(own(), "orchestrator.task.ends")),
          cost: sum(yield* pointsOf(own(), "orchestrator.cost"))
        }
      })
      yield* sums.pipe(
        Effect.repeat({ schedule: Schedule.spaced("100 millis"), until: ({ tokens }) => tokens >= spent.tokens }),
        Effect.timeoutOption("10 seconds")
      )
      assert.deepStrictEqual(yield* sums, { tokens: spent.tokens, tasks: tasks.length, cost: spent.cost })
      assert.isAbove(spent.tokens, 0)

      assert.isTrue(yield* fs.exists(path.join(directory, ".opencode", "orchestrator", ".gitignore")))
    }))
})
