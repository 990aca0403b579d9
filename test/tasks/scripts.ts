/** What the tests of the core share: models that act by script, and a user who acts while virtual time passes. */
import { assert } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as CrashGate from "../../adapters/test/CrashGate.ts"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { ShownToasts } from "../../adapters/test/RecordingNotifier.ts"
import type { ModelReply, ModelRequest } from "../../adapters/test/Script.ts"
import * as ScriptedPermissions from "../../adapters/test/ScriptedPermissions.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import type { SilentDeath, SimulatedScript } from "../../adapters/test/SimulatedTurns.ts"
import * as TestOrchestrator from "../../adapters/test/TestOrchestrator.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import type { Task } from "../../src/domain/Task.ts"
import type { Owner } from "../../src/host/Instance.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import { TaskStore } from "../../src/tasks/TaskStore.ts"

export type Reply = ModelReply | SilentDeath
export type Actor = (request: ModelRequest) => Effect.Effect<Reply>

// ---- models ---------------------------------------------------------------------------------------------------

/**
 * Each session is played by the actor who is named by the first word of its first prompt. After a summary, which takes the
 * place of what was said before, that prompt stands before it for the actor.
 */
const cast = (actors: Readonly<Record<string, Actor>>): SimulatedScript => {
  const begun = new Map<SessionId, string>()
  return (request, session) => {
    if (request.system.includes("summarization")) return Effect.succeed({ text: "A summary." })
    const first = begun.get(session) ?? request.users[0] ?? ""
    begun.set(session, first)
    const name = first.split(" ")[0] ?? ""
    const users = request.users[0] === first ? request.users : [first, ...request.users]
    return actors[name]?.({ ...request, users }) ?? Effect.succeed({ text: `nobody plays "${name}"` })
  }
}

/** Gives one reply after the other, by model call; the last one for ever. */
export const replies = (...script: ReadonlyArray<Reply | Actor>): Actor => {
  const calls = new Map<string, number>()
  return (request) => {
    const session = request.users[0] ?? ""
    const index = calls.get(session) ?? 0
    calls.set(session, index + 1)
    const reply = script[Math.min(index, script.length - 1)] ?? { text: "" }
    return typeof reply === "function" ? reply(request) : Effect.succeed(reply)
  }
}

/** Answers with a text, after some time of thought. */
export const says = (text: string, time: Duration.Input = 0): Actor => () =>
  Effect.delay(Effect.succeed({ text }), time)

/** Repeats its order, after some time. */
export const works = (time: Duration.Input): Actor => (request) =>
  Effect.delay(Effect.succeed({ text: `done: ${request.users[0] ?? ""}` }), time)

/** Never answers. */
export const hangs: Actor = () => Effect.never

export interface Order {
  readonly agent?: string
  readonly prompt: string
  readonly background?: boolean
  readonly resume?: string
}

export const delegate = ({ agent = "Builder", background = true, prompt, resume }: Order) => ({
  name: "delegate_task",
  args: { agent, description: prompt, prompt, background, ...(resume === undefined ? {} : { resume }) }
})

export const isNotice = (text: string): boolean => /^\d+ tasks? ha(s|ve) ended/.test(text)

/** The failed tasks that an instruction to go on asks for an answer to. */
const askedFor = (request: ModelRequest): ReadonlyArray<string> =>
  request.users.at(-1)?.startsWith("CONTINUE") === true ? request.users.at(-1)?.match(/task_\w+/g) ?? [] : []

/** Delegates, ends its turn, and says `last` once it is told of ends, or to go on; it answers for what has failed. */
export const delegates = (orders: ReadonlyArray<Order>, last = "All is done.\nMISSION COMPLETE"): Actor => (request) =>
  Effect.succeed(
    request.turns === 0
      ? { toolCalls: orders.map(delegate) }
      : { text: request.toolResults.length > 0 ? "I wait for them." : [last, ...askedFor(request)].join("\n") }
  )

/** Counts the model calls that are open at once. */
export const gauge = () => {
  let open = 0
  let most = 0
  return {
    most: () => most,
    measured: (actor: Actor): Actor => (request) =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          open++
          most = Math.max(most, open)
        }),
        () => actor(request),
        () => Effect.sync(() => open--)
      )
  }
}

// ---- the world ------------------------------------------------------------------------------------------------

type World = Layer.Success<ReturnType<typeof TestOrchestrator.layer>>

/** The whole orchestrator on a simulated host with these actors. Time goes on while it shuts down. */
export const withActors =
  (actors: Readonly<Record<string, Actor>>, options?: Omit<TestOrchestrator.TestOptions, "script">) =>
  <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<R, World>> =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const world = yield* Layer.buildWithScope(TestOrchestrator.layer({ script: cast(actors), ...options }), scope)
      const exit = yield* Effect.exit(Effect.provide(test, world))
      yield* doing(Scope.close(scope, exit))
      return yield* exit
    })

/** One instance in a world that outlives it, in its turn or beside others. */
export interface Life {
  readonly owner: Owner
  readonly gate: CrashGate.CrashGate
  /** Does something with this instance. */
  readonly do: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, Exclude<R, World>>
  /** It ends in order, as at the end of its OpenCode; the host itself goes on. */
  readonly end: Effect.Effect<void>
  /** It is killed, and its process with it; the host itself goes on, without the orchestrator's tools. */
  readonly kill: Effect.Effect<void>
  /** `kill -9` of the whole OpenCode process that it lives in. */
  readonly killHost: Effect.Effect<void>
}

type Outside = Layer.Success<ReturnType<typeof TestOrchestrator.world>>

/** A host, a disk and processes, in which instances start and end. Those that are left at the end, end in order. */
export const withWorld =
  (actors: Readonly<Record<string, Actor>>, options?: Omit<TestOrchestrator.TestOptions, "script" | "config">) =>
  <A, E, R>(test: Effect.Effect<A, E, R>): Effect.Effect<A, E, Exclude<Exclude<R, Scope.Scope>, Outside>> =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const outside = yield* Layer.buildWithScope(TestOrchestrator.world({ script: cast(actors), ...options }), scope)
      const exit = yield* Effect.exit(Effect.provide(Scope.provide(test, scope), outside))
      yield* doing(Scope.close(scope, exit))
      return yield* exit
    })

/** Starts an instance in a new process, and OpenCode with it if that is down. */
export const start = Effect.fnUntraced(function*(
  options?: Partial<Omit<TestOrchestrator.InstanceOptions, "gate">> & {
    /** What it is to die at. */
    readonly arm?: Parameters<CrashGate.CrashGate["arm"]>
  }
) {
  const host = yield* SimulatedHost
  const processes = yield* SimulatedInstance.SimulatedProcesses
  const process = options?.process ?? host.process
  yield* process.restart
  const owner = options?.owner ?? (yield* processes.start())
  const gate = yield* CrashGate.make
  if (options?.arm !== undefined) yield* gate.arm(...options.arm)
  const scope = yield* Scope.fork(yield* Effect.scope)
  const outside = yield* Effect.context<Outside>()
  const context = yield* doing(
    TestOrchestrator.instance({ ...options, owner, gate }).pipe(
      Layer.provideMerge(Layer.succeedContext(outside)),
      Layer.buildWithScope(scope)
    )
  )
  const over = Effect.andThen(
    Effect.andThen(processes.end(owner), Effect.exit(doing(Scope.close(scope, Exit.void)))), // nothing of a killed one can end in order
    options?.process === undefined ? host.withdraw() : Effect.void
  )
  const life: Life = {
    owner,
    gate,
    do: (effect) => Effect.provide(effect, context),
    end: over,
    kill: Effect.andThen(gate.crash, over),
    killHost: Effect.andThen(gate.crash, Effect.andThen(process.crash, over))
  }
  return life
})

/** The toasts that instances have shown, in words. */
export const toasts = Effect.flatMap(
  ShownToasts,
  ({ all }) => Effect.map(all, (toasts) => toasts.map(({ message, title }) => `${title}: ${message}`))
)

/** The text of a file. */
export const fileText = (path: string) =>
  Effect.flatMap(MemoryDisk, (disk) => Effect.map(disk.read(path), (text) => text ?? assert.fail(`no file ${path}`)))

export const folder = "/project/.opencode/orchestrator"

/** Files in the orchestrator's folder whose names end so. */
export const files = (end: string) =>
  Effect.flatMap(MemoryDisk, (disk) => Effect.map(disk.list(folder), (all) => all.filter((path) => path.endsWith(end))))

/** Does something that takes a moment of virtual time, and lets no more time pass than it takes. */
export const doing = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(effect, { startImmediately: true })
    for (let ms = 0; fiber.pollUnsafe() === undefined; ms++) {
      assert.isBelow(ms, 60_000, "it takes more than a minute")
      yield* TestClock.adjust(1)
    }
    return yield* Fiber.join(fiber)
  })

/** Lets time pass until the condition holds, and tells how much did; fails at the limit. */
export const until = Effect.fnUntraced(function*<E, R>(
  condition: Effect.Effect<boolean, E, R>,
  limit: Duration.Input = "5 minutes",
  step: Duration.Input = "10 millis"
) {
  const start = yield* Clock.currentTimeMillis
  while (!(yield* condition)) {
    const passed = (yield* Clock.currentTimeMillis) - start
    assert.isBelow(passed, Duration.toMillis(Duration.fromInputUnsafe(limit)), "the condition did not come to hold")
    yield* TestClock.adjust(step)
  }
  return (yield* Clock.currentTimeMillis) - start
})

export const pass = (time: Duration.Input) => TestClock.adjust(time)

/** The user says something; a mission, when it is to the Commander. */
export const say = (text: string, to?: { readonly session?: SessionId; readonly agent?: string }) =>
  Effect.flatMap(TestOrchestrator.TestUser, (user) => doing(user.say(text, to)))

export const heard = (session: SessionId) =>
  Effect.flatMap(TestOrchestrator.TestUser, (user) => doing(user.heard(session)))

/** The notices that a session has received. */
export const notices = (session: SessionId) => Effect.map(heard(session), (texts) => texts.filter(isNotice))

export const tasks: Effect.Effect<ReadonlyArray<Task>, never, TaskStore> = Effect.flatMap(
  TaskStore,
  (store) => store.all
)

export const states = Effect.map(tasks, (all) => all.map((task) => task.state))

/** The task with this prompt. */
export const task = (prompt: string) =>
  Effect.map(tasks, (all) => {
    const found = all.findLast((task) => task.prompt === prompt)
    return found ?? assert.fail(`no task "${prompt}" among ${all.map((task) => task.prompt).join(", ")}`)
  })

/** The session of the task with this prompt. */
export const sessionOf = (prompt: string) =>
  Effect.map(task(prompt), ({ session }) => session ?? assert.fail(`no session for "${prompt}"`))

/** The model calls of a session, or of all. */
export const calls = (session?: SessionId) =>
  Effect.flatMap(SimulatedHost, (host) => host.calls).pipe(
    Effect.map((all) => all.filter((call) => session === undefined || call.session === session))
  )

/** Calls that answer a notice, oldest first. */
export const callsWithNotice = (session: SessionId) =>
  Effect.map(calls(session), (all) => all.filter(({ request }) => isNotice(request.users.at(-1) ?? "")))

/** The child works: a model call of it is open. */
export const isWorking = (prompt: string) =>
  Effect.map(
    calls(),
    (all) => all.some(({ outcome, request }) => outcome === "open" && request.users[0] === prompt)
  )

export const sessionCount = Effect.flatMap(SimulatedHost, (host) => Effect.map(host.sessions, (all) => all.length))

/** Calls one of the orchestrator's tools on behalf of a session; a refusal is answered as its words. */
export const use = Effect.fnUntraced(function*(session: SessionId, tool: string, args: unknown, agent = "Commander") {
  const { tools } = yield* Orchestrator
  const found = tools.find(({ name }) => name === tool) ?? assert.fail(`no tool ${tool}`)
  const { ask } = ScriptedPermissions.make()
  const call = found.call(args, { session, agent, ask })
  return yield* doing(Effect.catch(call, (refusal) => Effect.succeed(refusal.message)))
})
