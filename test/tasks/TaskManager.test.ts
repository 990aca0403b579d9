import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { running } from "../../src/agents/rights.ts"
import { evaluate, type HostAgent } from "../../src/domain/Agent.ts"
import { totalTokens } from "../../src/domain/Session.ts"
import { isSettled } from "../../src/domain/Task.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import { Concurrency } from "../../src/tasks/Concurrency.ts"
import { TaskManager } from "../../src/tasks/TaskManager.ts"
import {
  type Actor,
  calls,
  callsWithNotice,
  delegate,
  delegates,
  doing,
  gauge,
  hangs,
  heard,
  isNotice,
  isWorking,
  notices,
  type Order,
  pass,
  replies,
  say,
  says,
  sessionCount,
  sessionOf,
  states,
  task,
  tasks,
  until,
  use,
  withActors,
  works
} from "./scripts.ts"

const numbered = (count: number, agent = "Builder"): ReadonlyArray<Order> =>
  Array.from({ length: count }, (_, index) => ({ agent, prompt: `work ${index + 1}` }))

interface ToolCall {
  readonly name: string
  readonly args: unknown
}

const held = Effect.flatMap(Concurrency, (concurrency) => concurrency.held)
const allSettled = Effect.map(tasks, (all) => all.length > 0 && all.every(isSettled))
const isState = (prompt: string, state: string) =>
  Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.state === state))
const manager = <A, E, R>(use: (manager: typeof TaskManager.Service) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(TaskManager, use)
const openCalls = Effect.map(calls(), (all) => all.filter(({ outcome }) => outcome === "open").length)
const unauthorized = { status: 401, message: "invalid key, says the provider" }

describe("limits", () => {
  it.effect("twelve tasks to an agent with a limit of ten: never more than ten work, all end, no slot stays held", () => {
    const { measured, most } = gauge()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(openCalls, (open) => open === 10))
      assert.strictEqual(yield* held, 10)
      assert.strictEqual((yield* states).filter((state) => state === "queued").length, 2)
      yield* until(allSettled)
      yield* pass("5 seconds")
      assert.strictEqual(most(), 10)
      assert.deepStrictEqual(yield* states, Array.from({ length: 12 }, () => "completed"))
      assert.strictEqual(yield* held, 0)
      const [notice, ...others] = yield* notices(root)
      assert.lengthOf(others, 0)
      for (const { prompt } of numbered(12)) assert.include(notice, `done: ${prompt}`)
    }).pipe(withActors({ goal: delegates(numbered(12)), work: measured(works("2 seconds")) }))
  })

  it.effect("ten tasks that fail at once give way to the two that wait, and no slot stays held", () => {
    const { measured, most } = gauge()
    const work: Actor = (request) =>
      Number(request.users[0]?.split(" ")[1]) <= 10
        ? Effect.delay(Effect.succeed(unauthorized), "2 seconds")
        : works("2 seconds")(request)
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      yield* pass("5 seconds")
      assert.strictEqual(most(), 10)
      assert.strictEqual((yield* states).filter((state) => state === "failed").length, 10)
      assert.strictEqual((yield* states).filter((state) => state === "completed").length, 2)
      assert.strictEqual(yield* held, 0)
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "12 tasks have ended, 10 without success.")
    }).pipe(withActors({ goal: delegates(numbered(12)), work: measured(work) }))
  })

  it.effect.each([
    ["the model", { models: { "scripted/model": 2 } }],
    ["the provider", { providers: { scripted: 2 } }],
    ["the agent by name", { agents: { Builder: 2 } }],
    ["everything together", { total: 2 }]
  ])("a limit of two for %s holds", ([, concurrency]) => {
    const { measured, most } = gauge()
    return Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled)
      yield* pass("1 second")
      assert.strictEqual(most(), 2)
      assert.strictEqual((yield* states).filter((state) => state === "completed").length, 6)
      assert.strictEqual(yield* held, 0)
    }).pipe(
      withActors({ goal: delegates(numbered(6)), work: measured(works("2 seconds")) }, { config: { concurrency } })
    )
  })

  it.effect("agents have limits of their own", () => {
    const { measured, most } = gauge()
    return Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled)
      assert.strictEqual(most(), 4)
    }).pipe(withActors({
      goal: delegates([...numbered(3), ...numbered(3, "Inspector")]),
      work: measured(works("2 seconds"))
    }, { config: { concurrency: { agent: 2 } } }))
  })
})

describe("cancelling", () => {
  it.effect("a task cancelled while queued never creates a session", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      for (const prompt of ["work 2", "work 3"]) {
        const { id } = yield* task(prompt)
        assert.isTrue(yield* doing(manager((manager) => manager.cancel(id, root, "not needed"))))
      }
      yield* until(allSettled)
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* states, ["completed", "cancelled", "cancelled"])
      assert.strictEqual(yield* sessionCount, 2)
      assert.strictEqual(yield* held, 0)
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors(
      { goal: delegates(numbered(3)), work: works("10 seconds") },
      { config: { concurrency: { agent: 1 } } }
    )))

  it.effect("cancelling running tasks hangs up their model calls and frees their slots for those that wait", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 2"))
      for (const prompt of ["work 1", "work 2"]) {
        const { id } = yield* task(prompt)
        yield* doing(manager((manager) => manager.cancel(id, root, "not needed")))
        assert.isFalse(yield* isWorking(prompt))
      }
      yield* until(isWorking("work 3"))
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled", "running"])
      assert.strictEqual(yield* held, 1)
      const outcomes = (yield* calls()).filter(({ request }) => request.users[0]?.startsWith("work"))
      assert.deepStrictEqual(outcomes.map(({ outcome }) => outcome), ["hung up", "hung up", "open"])
    }).pipe(withActors({ goal: delegates(numbered(3)), work: hangs }, { config: { concurrency: { agent: 2 } } })))

  it.effect("a task cancelled before its turn has begun does not begin it unseen", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.some(({ state }) => state === "running")))
      const { id } = yield* task("work 1")
      yield* doing(manager((manager) => manager.cancel(id, root, "not needed")))
      yield* pass("1 minute")
      assert.isFalse(yield* isWorking("work 1"))
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal: delegates(numbered(1)), work: hangs }, { startDelay: 500 })))

  it.effect("an ended task stays as it is", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      const before = yield* task("work 1")
      assert.isFalse(yield* doing(manager((manager) => manager.cancel(before.id, root, "too late"))))
      assert.strictEqual((yield* task("work 1")).state, "completed")
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("1 second") })))

  it.effect("cancelling a task cancels what it has delegated", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      const { id } = yield* task("lead")
      yield* doing(manager((manager) => manager.cancel(id, root, "not needed")))
      assert.deepStrictEqual(yield* states, ["cancelled", "cancelled"])
      assert.isFalse(yield* isWorking("work 1"))
      assert.strictEqual(yield* held, 0)
      yield* pass("2 minutes")
      assert.lengthOf(yield* notices(root), 1)
      assert.lengthOf(yield* notices(yield* sessionOf("lead")), 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: delegates(numbered(1)),
      work: hangs
    })))
})

describe("launching", () => {
  it.effect("a session that cannot be created fails the task with the reason and frees its slot", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* Effect.flatMap(SimulatedHost, (host) => host.fail("create", 11)) // six tries of the first task, five of the second
      yield* until(allSettled)
      yield* pass("1 second")
      assert.deepStrictEqual(yield* states, ["failed", "completed"])
      assert.strictEqual(yield* sessionCount, 2)
      assert.strictEqual(yield* held, 0)
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "OpenCode did not answer create: a simulated failure")
    }).pipe(withActors(
      { goal: delegates(numbered(2)), work: works("1 second") },
      { config: { concurrency: { agent: 1 } } }
    )))

  it.effect("a host that does not answer the prompt is asked again, and the child is prompted once", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* Effect.flatMap(SimulatedHost, (host) => host.fail("prompt", 3))
      yield* until(allSettled)
      assert.deepStrictEqual(yield* states, ["completed"])
      assert.deepStrictEqual(yield* heard(yield* sessionOf("work 1")), ["work 1"])
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("1 second") })))

  it.effect("a resumed task goes on in the session of the ended one, as a new task", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      const first = yield* task("work 1")
      yield* use(root, "delegate_task", delegate({ prompt: "more", resume: first.id }).args)
      yield* until(isState("more", "completed"))
      const second = yield* task("more")
      assert.notStrictEqual(second.id, first.id)
      assert.strictEqual(second.session, first.session)
      assert.strictEqual(second.result, "second answer")
      assert.strictEqual((yield* task("work 1")).result, "first answer")
      assert.deepStrictEqual(yield* heard(yield* sessionOf("more")), ["work 1", "more"])
      assert.strictEqual(yield* sessionCount, 2)
      yield* pass("1 second")
      assert.lengthOf(yield* notices(root), 2)
    }).pipe(withActors({
      goal: delegates(numbered(1)),
      work: replies(says("first answer", "1 second"), says("second answer", "1 second"))
    })))
})

describe("a task in the session of an earlier one", () => {
  const resumed = (prompt: string) =>
    Effect.gen(function*() {
      const { id, parent } = yield* task(prompt)
      yield* use(parent, "delegate_task", delegate({ prompt: "more", resume: id }).args)
    })

  it.effect("begins when nothing of that one goes on any more", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(isWorking("work 1"))
      const host = yield* SimulatedHost
      yield* host.fail("abort", 40)
      yield* until(isState("work 1", "timed_out"))
      yield* resumed("work 1") // while its child is still to be stopped
      yield* until(isState("more", "completed"))
      const { result, run } = yield* task("more")
      assert.deepStrictEqual({ result, run }, { result: "done", run: 1 })
    }).pipe(withActors(
      { goal: delegates(numbered(1)), work: replies(hangs, says("done", "5 seconds")) },
      { config: { taskTimeLimit: "30 seconds" } }
    )))

  it.effect("is charged with what it has used itself", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled)
      yield* resumed("work 1")
      yield* until(isState("more", "completed"))
      assert.deepStrictEqual((yield* tasks).map(({ usage }) => totalTokens(usage)), [110, 110])
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("1 second") })))
})

describe("the end of a child", () => {
  const abort = Effect.gen(function*() {
    const client = yield* SessionClient
    yield* doing(Effect.orDie(client.abort(yield* sessionOf("work 1"))))
  })
  const remove = Effect.gen(function*() {
    const client = yield* SessionClient
    yield* doing(Effect.orDie(client.delete(yield* sessionOf("work 1"))))
  })

  it.effect.each<[
    string,
    {
      readonly work: Actor
      readonly disturb?: typeof abort
      readonly state: string
      readonly words: string
    }
  ]>([
    ["an answer completes it", { work: works("2 seconds"), state: "completed", words: "done: work 1" }],
    ["an empty answer completes it", { work: says("", "2 seconds"), state: "completed", words: "(no output)" }],
    ["a refusal of the provider fails it", {
      work: () => Effect.delay(Effect.succeed(unauthorized), "2 seconds"),
      state: "failed",
      words: "invalid key, says the provider"
    }],
    ["an abort cancels it", { work: hangs, disturb: abort, state: "cancelled", words: "its session was aborted" }],
    ["deleting its session fails it", {
      work: hangs,
      disturb: remove,
      state: "failed",
      words: "Its session was deleted"
    }]
  ])(
    "%s; the parent is told once, within 300 ms, in words",
    ([, { disturb, state, words, work }]) =>
      Effect.gen(function*() {
        const root = yield* say("goal")
        yield* until(isWorking("work 1"))
        const began = (yield* calls()).find(({ request }) => request.users[0] === "work 1")?.request.at ?? 0
        const now = yield* TestClock.testClockWith((clock) => Effect.succeed(clock.currentTimeMillisUnsafe()))
        yield* pass(began + 2_000 - now)
        if (disturb !== undefined) yield* disturb
        yield* until(Effect.map(callsWithNotice(root), (told) => told.length > 0))
        const read = (yield* callsWithNotice(root))[0]?.request
        assert.isAtMost((read?.at ?? Infinity) - (began + 2_000), 300)
        assert.include(read?.users.at(-1), words)
        assert.strictEqual((yield* task("work 1")).state, state)
        assert.strictEqual(yield* openCalls, 0)
        yield* pass("5 minutes")
        assert.lengthOf(yield* notices(root), 1)
        assert.strictEqual(yield* held, 0)
      }).pipe(withActors({ goal: delegates(numbered(1)), work }))
  )

  it.effect("a child that spends ten seconds in one tool call is not done before its last turn", () =>
    Effect.gen(function*() {
      const { tools } = yield* Orchestrator
      const host = yield* SimulatedHost
      yield* host.offer({
        ...Object.fromEntries(tools.map((tool) => [tool.name, tool.call])),
        long_work: () => Effect.delay(Effect.succeed("ready"), "10 seconds")
      })
      const root = yield* say("goal")
      yield* until(isState("work 1", "running"))
      yield* pass("9 seconds")
      assert.strictEqual((yield* task("work 1")).state, "running")
      assert.lengthOf(yield* notices(root), 0)
      yield* until(isState("work 1", "completed"), "5 seconds")
      assert.strictEqual((yield* task("work 1")).result, "the tool said ready")
      yield* pass("1 second")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({
      goal: delegates(numbered(1, "general")),
      work: (request) =>
        Effect.succeed(
          request.turns === 0
            ? { text: "I begin.", toolCalls: [{ name: "long_work", args: {} }] }
            : { text: `the tool said ${request.toolResults[0] ?? "nothing"}` }
        )
    })))

  it.effect("a child that the provider holds off is running, shown as retried, until it can answer", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* pass("4 seconds")
      assert.strictEqual((yield* task("work 1")).state, "running")
      assert.include(yield* use(root, "list_tasks", {}), "the host retries: too many requests")
      yield* until(isState("work 1", "completed"), "15 seconds")
      assert.notInclude(yield* use(root, "list_tasks", {}), "retries")
      yield* pass("1 second")
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "at last")
    }).pipe(withActors({
      goal: delegates(numbered(1)),
      work: replies(
        () =>
          Effect.delay(
            Effect.succeed({ status: 429, message: "too many requests", headers: { "retry-after": "10" } }),
            "1 second"
          ),
        says("at last", "1 second")
      )
    })))

  it.effect("a rate limit that the Commander meets holds back what runs of its provider", () =>
    Effect.gen(function*() {
      yield* say("goal")
      const { throttled } = yield* Concurrency
      yield* until(Effect.map(throttled, ({ size }) => size > 0))
      assert.deepStrictEqual([...(yield* throttled).values()], [2])
      yield* until(allSettled)
      assert.deepStrictEqual(yield* states, Array(4).fill("completed"))
    }).pipe(withActors({
      goal: replies(
        { toolCalls: numbered(4).map(delegate) },
        { status: 429, message: "too many requests", headers: { "retry-after": "10" } },
        { text: "I wait." },
        { text: "All is done.\nMISSION COMPLETE" }
      ),
      work: works("2 minutes")
    })))

  it.effect("ends whose events are lost are found by the poll", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      yield* host.lose((event) => event.type === "idle" || event.type === "error")
      const root = yield* say("goal")
      yield* until(isWorking("fails"))
      const at = (yield* calls()).at(-1)?.request.at ?? 0
      yield* until(allSettled)
      const all = yield* tasks
      assert.deepStrictEqual(all.map(({ state }) => state), ["completed", "failed"])
      for (const { endedAt } of all) assert.isAtMost(endedAt ?? Infinity, at + 2_000 + 1_100)
      yield* pass("2 minutes")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({
      goal: delegates([...numbered(1), { prompt: "fails" }]),
      work: works("2 seconds"),
      fails: () => Effect.delay(Effect.succeed(unauthorized), "2 seconds")
    })))

  it.effect("an end that is reported twice is told once", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      const session = yield* sessionOf("work 1")
      yield* until(isState("work 1", "completed"))
      yield* doing(manager((manager) => manager.observe({ type: "idle", session })))
      yield* doing(
        manager((manager) => manager.observe({ type: "error", session, error: { name: "X", message: "x" } }))
      )
      yield* doing(manager((manager) => manager.observe({ type: "idle", session })))
      yield* pass("2 minutes")
      assert.strictEqual((yield* task("work 1")).state, "completed")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("2 seconds") })))

  it.effect("a child that goes idle in the middle of its work is told to go on after the stability wait", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* pass("1 second")
      const waited = yield* until(Effect.map(task("work 1"), ({ run }) => run === 2))
      assert.isAtLeast(waited, 2_900)
      assert.isAtMost(waited, 4_500)
      yield* until(isState("work 1", "completed"))
      assert.strictEqual((yield* task("work 1")).result, "finished after all")
      assert.strictEqual((yield* task("work 1")).run, 2)
      assert.lengthOf(yield* heard(yield* sessionOf("work 1")), 2)
      yield* pass("2 minutes")
      assert.lengthOf(yield* notices(root), 1)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates(numbered(1)),
      work: replies(
        () => Effect.delay(Effect.succeed({ silentDeath: true }), "1 second"),
        says("finished after all", "1 second")
      )
    })))

  it.effect("a child that goes idle again after it was told to go on has failed", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      const { reason, run, session, state } = yield* task("work 1")
      assert.strictEqual(state, "failed")
      assert.strictEqual(run, 2)
      assert.include(reason, "went idle in the middle of its work")
      yield* pass("2 minutes")
      assert.lengthOf(yield* notices(root), 1)
      assert.lengthOf(session === undefined ? [] : yield* heard(session), 2)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal: delegates(numbered(1)), work: replies({ silentDeath: true }) })))

  it.effect("a turn that the host is slow to begin is not taken for a stalled one", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      const { run, state } = yield* task("work 1")
      assert.strictEqual(state, "completed")
      assert.strictEqual(run, 1)
      yield* pass("1 minute")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("1 second") }, { startDelay: 20_000 })))

  it.effect("a task that reaches its time limit is stopped, and its parent is told", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* pass("110 seconds")
      assert.strictEqual((yield* task("work 1")).state, "running")
      yield* pass("15 seconds")
      assert.strictEqual((yield* task("work 1")).state, "timed_out")
      assert.isFalse(yield* isWorking("work 1"))
      assert.strictEqual(yield* held, 0)
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "It was stopped at its time limit of 2 min.")
    }).pipe(withActors({ goal: delegates(numbered(1)), work: hangs }, { config: { taskTimeLimit: "2 minutes" } })))

  it.effect("time in line does not count against the time limit", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled)
      assert.deepStrictEqual(yield* states, ["completed", "completed", "completed"])
    }).pipe(withActors(
      { goal: delegates(numbered(3)), work: works("50 seconds") },
      { config: { taskTimeLimit: "1 minute", concurrency: { agent: 1 } } }
    )))

  it.effect("a host that stops answering settles nothing; the end is seen once it answers again", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* host.fail("messages", 10)
      yield* host.fail("statuses", 10)
      yield* pass("8 seconds")
      assert.strictEqual((yield* task("work 1")).state, "running")
      yield* until(isState("work 1", "completed"), "1 minute")
      yield* pass("1 minute")
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("2 seconds") })))
})

describe("a parent that is gone", () => {
  it.effect.each<[string, number, number]>([
    ["while they work", 10, 5_000],
    ["before their turns have begun", 400, 0]
  ])(
    "its children are stopped within two seconds when it is deleted %s",
    ([, startDelay, wait]) =>
      Effect.gen(function*() {
        const client = yield* SessionClient
        const root = yield* say("goal")
        yield* until(Effect.map(tasks, (all) => all.length >= 4 && all.every(({ state }) => state === "running")))
        yield* pass(wait)
        yield* doing(client.delete(root))
        yield* pass("2 seconds")
        const before = yield* calls()
        assert.deepStrictEqual(before.filter(({ outcome }) => outcome === "open"), [])
        assert.isTrue(yield* allSettled)
        yield* pass("10 minutes")
        assert.lengthOf(yield* calls(), before.length)
        assert.strictEqual(yield* held, 0)
        assert.isTrue((yield* tasks).every((task) => task.told))
      }).pipe(withActors({
        goal: delegates([...numbered(2), { agent: "general", prompt: "lead" }]),
        lead: (request) =>
          request.turns === 0 ? Effect.succeed({ toolCalls: [delegate({ prompt: "work 3" })] }) : Effect.never,
        work: hangs
      }, { startDelay }))
  )

  it.effect("delegates nothing more, though its turn goes on", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal", { agent: "build" })
      yield* until(isWorking("work 1"))
      yield* doing(client.delete(root))
      yield* pass("10 minutes")
      assert.deepStrictEqual((yield* tasks).map(({ prompt, state }) => `${prompt} ${state}`), ["work 1 cancelled"])
      assert.strictEqual(yield* openCalls, 0)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: replies({ toolCalls: [delegate({ prompt: "work 1" })] }, () =>
        Effect.delay(Effect.succeed({ toolCalls: [delegate({ prompt: "work 2" })] }), "400 millis"), {
        text: "I wait."
      }),
      work: hangs
    })))

  it.effect("tasks in line are cancelled with it, and never create a session", () =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* doing(client.delete(root))
      yield* pass("10 minutes")
      assert.isTrue(yield* allSettled)
      assert.lengthOf((yield* calls()).filter(({ request }) => request.users[0]?.startsWith("work")), 1)
      assert.strictEqual(yield* sessionCount, 0)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal: delegates(numbered(4)), work: hangs }, { config: { concurrency: { agent: 1 } } })))
})

describe("a child that delegates", () => {
  it.effect("is running but waiting until its own tasks are settled and it has spoken again", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.some(({ waiting }) => waiting)))
      assert.strictEqual((yield* task("lead")).state, "running")
      assert.strictEqual(yield* held, 1)
      assert.include(yield* use(root, "list_tasks", {}), "waits for its own tasks")
      yield* pass("10 seconds")
      assert.isTrue((yield* task("lead")).waiting)
      yield* until(allSettled)
      const lead = yield* task("lead")
      assert.strictEqual(lead.state, "completed")
      assert.strictEqual(lead.result, "both are done")
      assert.isAtLeast(lead.endedAt ?? 0, (yield* task("work 2")).endedAt ?? Infinity)
      yield* pass("5 minutes")
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "both are done")
      const toldLead = yield* notices(yield* sessionOf("lead"))
      assert.lengthOf(toldLead, 1)
      assert.include(toldLead[0], "done: work 1")
      assert.include(toldLead[0], "done: work 2")
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: delegates(numbered(2), "both are done"),
      work: works("15 seconds")
    }, { config: { concurrency: { agents: { Builder: 1 } } } })))

  it.effect("hears of its ended tasks after a minute, and is done only after the last one", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(isState("quick", "completed"))
      yield* until(
        Effect.flatMap(sessionOf("lead"), (session) => Effect.map(callsWithNotice(session), (told) => told.length > 0)),
        "62 seconds"
      )
      assert.strictEqual((yield* task("lead")).state, "running")
      yield* until(isState("lead", "completed"))
      assert.isAtLeast((yield* task("lead")).endedAt ?? 0, (yield* task("work 1")).endedAt ?? Infinity)
      const told = yield* notices(yield* sessionOf("lead"))
      assert.lengthOf(told, 2)
      assert.include(told[0], "quick done")
      assert.include(told[1], "done: work 1")
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: delegates([{ prompt: "quick" }, { prompt: "work 1" }], "I have heard"),
      quick: says("quick done", "1 second"),
      work: works("100 seconds")
    })))

  it.effect.each<[string, ToolCall]>([
    ["in the background", delegate({ agent: "general", prompt: "work 1" })],
    ["and waits for it", delegate({ agent: "general", prompt: "work 1", background: false })],
    ["by call_agent", { name: "call_agent", args: { agent: "general", task: "work 1" } }]
  ])("%s does not stand in the way of its own task where only one may run", ([, order]) =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"), "10 seconds")
      assert.strictEqual(yield* held, 1)
      yield* until(allSettled, "1 minute")
      assert.deepStrictEqual(yield* states, ["completed", "completed"])
      assert.strictEqual((yield* task("lead")).result, "the lead is done")
      yield* pass("5 minutes")
      assert.lengthOf(yield* notices(root), 1)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: (request) =>
        Effect.succeed(
          request.turns === 0
            ? { toolCalls: [order] }
            : { text: request.toolResults[0]?.includes("started") === true ? "I wait" : "the lead is done" }
        ),
      work: works("5 seconds")
    }, { config: { concurrency: { agent: 1, total: 1 } } })))

  it.effect("several waiting calls of one child at once give its slot up once and take it again once", () => {
    const { measured, most } = gauge()
    return Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled, "1 minute")
      assert.deepStrictEqual(yield* states, ["completed", "completed", "completed", "completed"])
      assert.strictEqual(most(), 1)
      yield* pass("1 second")
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: measured((request) =>
        Effect.succeed(
          request.turns === 0
            ? { toolCalls: numbered(3).map((order) => delegate({ ...order, background: false })) }
            : { text: request.toolResults.join(" ") }
        )
      ),
      work: measured(works("5 seconds"))
    }, { config: { concurrency: { total: 1 } } }))
  })

  it.effect("is stopped before its cancelled calls return to it: it says nothing more and delegates nothing more", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work 1"))
      yield* use(root, "cancel_task", { taskId: (yield* task("lead")).id })
      yield* pass("10 minutes")
      assert.deepStrictEqual((yield* tasks).map(({ prompt, state }) => `${prompt} ${state}`), [
        "lead cancelled",
        "work 1 cancelled"
      ])
      assert.lengthOf(yield* calls(yield* sessionOf("lead")), 1)
      assert.strictEqual(yield* openCalls, 0)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: replies(
        { toolCalls: [delegate({ prompt: "work 1", background: false })] },
        { toolCalls: [delegate({ prompt: "work 2" })] },
        { text: "I wait." }
      ),
      work: hangs
    })))

  it.effect("that failed is not woken by the ends of its own tasks, which are cancelled", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* states, ["failed", "cancelled"])
      assert.lengthOf(yield* calls(yield* sessionOf("lead")), 2)
      assert.deepStrictEqual(yield* heard(yield* sessionOf("lead")), ["lead"])
      assert.lengthOf(yield* notices(root), 1)
      assert.strictEqual(yield* openCalls, 0)
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: replies(
        { toolCalls: [delegate({ prompt: "work 1" })] },
        () => Effect.delay(Effect.succeed(unauthorized), "5 seconds"),
        { text: "woken" }
      ),
      work: hangs
    })))
})

describe("a call that waits", () => {
  it.effect.each<[string, ToolCall]>([
    ["delegate_task", delegate({ prompt: "work 1", background: false })],
    ["call_agent", { name: "call_agent", args: { agent: "Builder", task: "work 1" } }]
  ])("%s: when the turn it belongs to is aborted, its task is cancelled", ([, order]) =>
    Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal", { agent: "build" })
      yield* until(isWorking("work 1"))
      yield* doing(client.abort(root))
      yield* pass("3 seconds")
      assert.deepStrictEqual(yield* states, ["cancelled"])
      assert.isFalse(yield* isWorking("work 1"))
      assert.strictEqual(yield* held, 0)
      yield* pass("5 minutes")
      assert.deepStrictEqual(yield* heard(root), ["goal"])
    }).pipe(withActors({ goal: replies({ toolCalls: [order] }), work: hangs })))

  it.effect("returns the result, and no notice follows", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allSettled)
      yield* pass("5 minutes")
      const read = (yield* calls(root))[1]?.request.toolResults[0]
      assert.include(read, "completed after 2 s")
      assert.include(read, "done: work 1")
      assert.isFalse((yield* heard(root)).some(isNotice))
    }).pipe(withActors({
      goal: delegates([{ prompt: "work 1", background: false }]),
      work: works("2 seconds")
    })))

  it.effect("and is cut off while its task is recorded takes that along", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("1 second")
      yield* Effect.flatMap(MemoryDisk, (disk) => disk.slow("20 millis"))
      const order = {
        parent: root,
        by: "Commander",
        agent: "Builder",
        description: "",
        prompt: "work 1",
        background: false
      }
      const call = yield* Effect.forkChild(manager(({ run }) => run(order)), { startImmediately: true })
      yield* pass("10 millis")
      assert.lengthOf(yield* tasks, 1)
      yield* doing(Fiber.interrupt(call))
      yield* pass("5 seconds")
      const [ended] = yield* tasks
      assert.deepInclude(ended, { state: "cancelled", told: true })
      assert.strictEqual(yield* held, 0)
    }).pipe(withActors({ goal: says("So be it."), work: hangs }, { config: { journal: "required" } })))

  it.effect("returns the failure in words", () =>
    Effect.gen(function*() {
      const root = yield* say("goal", { agent: "build" })
      yield* until(allSettled)
      yield* pass("1 second")
      const read = (yield* calls(root))[1]?.request.toolResults[0]
      assert.include(read, "failed after")
      assert.include(read, "invalid key, says the provider")
    }).pipe(withActors({ goal: delegates([{ prompt: "work 1", background: false }]), work: replies(unauthorized) })))
})

describe("rights", () => {
  const careful: HostAgent = {
    name: "careful",
    mode: "primary",
    description: undefined,
    model: undefined,
    hidden: false,
    permission: [
      { permission: "*", pattern: "*", action: "allow" },
      { permission: "edit", pattern: "*", action: "deny" },
      { permission: "bash", pattern: "*", action: "deny" }
    ]
  }
  const toolsOf = (prompt: string) =>
    Effect.map(calls(), (all) => all.find(({ request }) => request.users[0] === prompt)?.request.tools ?? [])

  it.effect("a child may not do what its parent may not", () =>
    Effect.gen(function*() {
      yield* say("goal", { agent: "careful" })
      yield* until(allSettled)
      const session = yield* sessionOf("work 1")
      const { sessions } = yield* SimulatedHost
      const { permission } = (yield* sessions).find(({ id }) => id === session) ?? assert.fail("no session")
      assert.strictEqual(evaluate(permission, "edit", "src/index.ts"), "deny")
      assert.notInclude(yield* toolsOf("work 1"), "bash")
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("1 second") }, { agents: [careful] })))

  it.effect("a child of a child may not do what the first parent may not", () =>
    Effect.gen(function*() {
      yield* say("goal", { agent: "careful" })
      yield* until(allSettled)
      assert.notInclude(yield* toolsOf("lead"), "bash")
      assert.notInclude(yield* toolsOf("work 1"), "bash")
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: delegates(numbered(1)),
      work: works("1 second")
    }, { agents: [careful] })))

  it.effect("a child of the Commander keeps the rights of its role", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled)
      assert.deepStrictEqual(
        yield* toolsOf("work 1"),
        [...Object.keys(running), "grep_search", "glob_search", "mgrep"]
      )
    }).pipe(withActors({ goal: delegates(numbered(1)), work: works("1 second") })))

  it.effect("a child at the greatest depth is not offered the tools that delegate; those above it are", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(allSettled)
      assert.include(yield* toolsOf("lead"), "delegate_task")
      assert.include(yield* toolsOf("lead"), "call_agent")
      assert.include(yield* toolsOf("work 1"), "list_tasks")
      assert.notInclude(yield* toolsOf("work 1"), "delegate_task")
      assert.notInclude(yield* toolsOf("work 1"), "call_agent")
    }).pipe(withActors({
      goal: delegates([{ agent: "general", prompt: "lead" }]),
      lead: delegates(numbered(1, "general")),
      work: works("1 second")
    }, { config: { maxDepth: 2 } })))
})
