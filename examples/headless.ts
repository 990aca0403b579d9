import { NodeRuntime } from "@effect/platform-node"
import { Config, Console, Effect, Layer, Option } from "effect"
import { defaults, Notifier, Orchestrator, SessionClient, TaskManager } from "opencode-orchestrator-effect"
import * as NodeHost from "opencode-orchestrator-effect/node"

/** Has an Inspector review each file that the command line names, as many at a time as the limits allow. */
const program = Effect.gen(function*() {
  const sessions = yield* SessionClient
  const tasks = yield* TaskManager
  const { id: parent } = yield* sessions.create({ title: "Reviews", agent: "Commander" })
  const review = (file: string) =>
    tasks.run({
      parent,
      by: "Commander",
      agent: "Inspector",
      description: `Review ${file}`,
      prompt: `Review ${file}. End with PASS or FAIL, and why.`,
      background: false
    })
  const reviewed = yield* Effect.forEach(process.argv.slice(2), review, { concurrency: "unbounded" })
  for (const { description, reason, result, state } of reviewed) {
    yield* Console.log(`${description}: ${state}. ${result ?? reason ?? ""}`)
  }
})

const host = Layer.unwrap(Effect.gen(function*() {
  const url = yield* Config.String("OPENCODE_URL").pipe(Config.withDefault("http://127.0.0.1:4096"))
  const password = yield* Config.option(Config.String("OPENCODE_SERVER_PASSWORD"))
  return NodeHost.layer({ url, directory: process.cwd(), password: Option.getOrUndefined(password) })
}))
const notifier = Layer.succeed(Notifier, { show: ({ message, title }) => Console.error(`${title}: ${message}`) })
const core = Orchestrator.layer(defaults).pipe(Layer.provideMerge(Layer.merge(host, notifier)))

program.pipe(Effect.provide(core), NodeRuntime.runMain)
