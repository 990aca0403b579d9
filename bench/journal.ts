/**
 * What the journal costs on disk and at a start: the size of 1,000 retained tasks, and how long it takes to claim, read
 * and take over a journal of 10 MB that a dead instance has left, on Node's file system.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Clock, Console, Context, Effect, Exit, FileSystem, Layer, Scope } from "effect"
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as RecordingNotifier from "../adapters/test/RecordingNotifier.ts"
import { Config, defaults } from "../src/Config.ts"
import { MessageId, noUsage, SessionId } from "../src/domain/Session.ts"
import { type Task, TaskId } from "../src/domain/Task.ts"
import { Instance } from "../src/host/Instance.ts"
import { Lease } from "../src/tasks/Lease.ts"
import { TaskArchive } from "../src/tasks/TaskArchive.ts"
import { readJournal, TaskJournal } from "../src/tasks/TaskJournal.ts"
import { TaskStore } from "../src/tasks/TaskStore.ts"
import { median } from "./measure.ts"

const words = (length: number) => "the quick brown fox jumps over the lazy dog ".repeat(length).slice(0, length)

/** What a delegated task looks like: an order of 1,500 characters, a result of `result`. */
const order = (index: number, now: number): Task => ({
  id: TaskId.make(`task_${String(index).padStart(10, "0")}`),
  mission: SessionId.make("ses_root"),
  parent: SessionId.make("ses_root"),
  agent: "Builder",
  description: `look at part ${index}`,
  prompt: words(1_500),
  background: true,
  depth: 1,
  run: 1,
  state: "queued",
  waiting: false,
  createdAt: now,
  activityAt: now,
  usage: noUsage,
  told: false
})

/** The records of one instance in a folder; its process counts as dead for every other one. */
const startIn = Effect.fnUntraced(function*(root: string, pid: number) {
  const scope = yield* Scope.make()
  const context = yield* TaskStore.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(TaskJournal.layer, TaskArchive.layer)),
    Layer.provideMerge(Lease.layer),
    Layer.provideMerge(Layer.mergeAll(
      Config.layer(defaults),
      RecordingNotifier.layer,
      Layer.succeed(Instance, {
        root,
        owner: { pid, startedAt: "bench", machine: "bench01" },
        isAlive: () => Effect.succeed("dead")
      })
    )),
    Layer.buildWithScope(scope)
  )
  return { scope, lease: Context.get(context, Lease), store: Context.get(context, TaskStore), context }
})

/** Lets 1,000 tasks live their whole life, at most 50 at once. */
const fill = Effect.fnUntraced(function*(store: TaskStore["Service"], resultChars: number) {
  yield* Effect.forEach(Array.from({ length: 1_000 }, (_, index) => index), (index) =>
    Effect.gen(function*() {
      const task = order(index, yield* Clock.currentTimeMillis)
      const promptId = MessageId.make(`msg_${String(index).padStart(26, "0")}`)
      yield* store.add(task)
      yield* store.apply(task.id, { type: "launching", run: 1 })
      yield* store.apply(task.id, { type: "created", run: 1, session: SessionId.make(`ses_${index}`) })
      yield* store.apply(task.id, { type: "prompting", run: 1, promptId })
      yield* store.apply(task.id, { type: "prompted", run: 1 })
      yield* store.apply(task.id, { type: "used", usage: { ...noUsage, input: 1_000, output: 200, cost: 0.01 } })
      yield* store.apply(task.id, { type: "ended", run: 1, end: { state: "completed", result: words(resultChars) } })
      yield* store.apply(task.id, { type: "telling", notice: promptId })
      yield* store.apply(task.id, { type: "told" })
    }), { concurrency: 50, discard: true })
})

const megabytes = (bytes: number) => (bytes / 1_000_000).toFixed(2)

const measure = Effect.fnUntraced(function*(resultChars: number) {
  const fs = yield* FileSystem.FileSystem
  const root = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-bench-" })
  const first = yield* startIn(root, 1)
  const filledFrom = performance.now()
  yield* fill(first.store, resultChars)
  const filled = performance.now() - filledFrom
  const bytes = Number((yield* fs.stat(first.lease.journal)).size)
  // Not closed: it is as dead as after SIGKILL.
  const second = yield* startIn(root, 2)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  yield* Effect.sleep("20 millis")
  delay.reset()
  const start = performance.now()
  const { claimed } = yield* second.lease.claim(false)
  let tasks = 0
  for (const journal of claimed) {
    const contents = yield* readJournal(journal.path)
    yield* Effect.forEach(contents.tasks, second.store.adopt, { concurrency: "unbounded", discard: true })
    tasks += contents.tasks.length
  }
  const took = performance.now() - start
  yield* Effect.sleep("20 millis")
  delay.disable()
  for (const { scope } of [second, first]) yield* Scope.close(scope, Exit.void)
  return { bytes, filled, took, tasks, blocked: delay.max / 1_000_000 }
}, Effect.scoped)

const runs = 5

Effect.gen(function*() {
  for (const resultChars of [4_000, 8_200]) {
    const measured = yield* Effect.replicateEffect(measure(resultChars), runs)
    const of = (read: (one: (typeof measured)[number]) => number) => median(measured.map(read))
    yield* Console.log(
      `1,000 tasks with results of ${resultChars} characters: journal ${megabytes(of((one) => one.bytes))} MB; `
        + `9,000 transitions recorded in ${of((one) => one.filled).toFixed(0)} ms; `
        + `claimed, read and taken over (${measured[0]?.tasks} tasks) in ${of((one) => one.took).toFixed(0)} ms, `
        + `event loop blocked for ${of((one) => one.blocked).toFixed(0)} ms at most (medians of ${runs})`
    )
  }
}).pipe(Effect.provide(NodeServices.layer), NodeRuntime.runMain)
