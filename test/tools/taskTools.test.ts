import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { HostAgent } from "../../src/domain/Agent.ts"
import {
  calls,
  delegate,
  delegates,
  hangs,
  isWorking,
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
} from "../tasks/scripts.ts"

const misconfigured: HostAgent = {
  name: "dreamer",
  mode: "subagent",
  description: undefined,
  model: { provider: "scripted", model: "gone" },
  hidden: false,
  permission: []
}
const named = (name: string, extra: Partial<HostAgent>): HostAgent => ({
  ...misconfigured,
  name,
  model: undefined,
  ...extra
})
const agents = [
  misconfigured,
  named("other", { model: { provider: "scripted", model: "other" } }),
  named("secret", { hidden: true })
]

/** The order is refused in words that fit, and leaves nothing behind. */
const refuses = (tool: string, args: unknown, ...words: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const root = yield* say("quiet", { agent: "build" })
    const answer = yield* use(root, tool, args)
    for (const word of words) assert.include(answer, word)
    assert.notInclude(answer, "\n")
    yield* pass("1 minute")
    assert.deepStrictEqual(yield* tasks, [])
    assert.strictEqual(yield* sessionCount, 1)
    assert.lengthOf(yield* calls(), 1)
  }).pipe(withActors({ quiet: says("I am here.") }, { agents }))

describe("delegate_task", () => {
  it.effect.each<[string, unknown, ReadonlyArray<string>]>([
    ["an unknown agent", delegate({ agent: "Bilder", prompt: "x" }).args, [
      "\"Bilder\"",
      "Use one of:",
      "Builder",
      "Inspector"
    ]],
    ["a primary agent", delegate({ agent: "Commander", prompt: "x" }).args, [
      "\"Commander\"",
      "Use one of:",
      "Builder"
    ]],
    ["a hidden agent", delegate({ agent: "secret", prompt: "x" }).args, ["\"secret\"", "Use one of:", "Builder"]],
    ["an agent whose model is not available", delegate({ agent: "dreamer", prompt: "x" }).args, [
      "\"scripted/gone\"",
      "scripted/model",
      "scripted/other"
    ]],
    ["an empty prompt", delegate({ prompt: " \n" }).args, ["The prompt is empty.", "Say what the agent should do"]],
    ["an unknown task to resume", delegate({ prompt: "x", resume: "task_none" }).args, [
      "\"task_none\"",
      "leave resume out"
    ]],
    ["arguments of the wrong kind", { agent: "Builder" }, ["prompt", "Correct them and call again."]]
  ])(
    "refuses %s, says what to use instead, and leaves nothing behind",
    ([, args, words]) => refuses("delegate_task", args, ...words)
  )

  it.effect("names no agent that it would refuse", () =>
    Effect.gen(function*() {
      const root = yield* say("quiet", { agent: "build" })
      const answer = yield* use(root, "delegate_task", delegate({ agent: "nobody", prompt: "x" }).args)
      for (const name of ["Commander", "build", "secret"]) assert.notMatch(answer, new RegExp(`[ ,]${name}[,.]`))
    }).pipe(withActors({ quiet: says("I am here.") }, { agents })))

  it.effect("takes an agent's name in any case, and works with the agent's own model", () =>
    Effect.gen(function*() {
      const root = yield* say("quiet", { agent: "build" })
      yield* use(root, "delegate_task", delegate({ agent: " OTHER ", prompt: "work" }).args)
      yield* until(Effect.map(states, (all) => all[0] === "completed"))
      const { agent, model } = yield* task("work")
      assert.strictEqual(agent, "other")
      assert.deepStrictEqual(model, { provider: "scripted", model: "other" })
    }).pipe(withActors({ quiet: says("I am here."), work: works("1 second") }, { agents })))

  it.effect("lets an Architect delegate to its two helpers only", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.some(({ prompt }) => prompt === "find")))
      yield* pass("1 minute")
      const read = (yield* calls(yield* sessionOf("plan")))[1]?.request.toolResults ?? []
      assert.include(read[0], "No agent \"Builder\" to delegate to. Use one of: Librarian, Researcher.")
      assert.include(read[1], "started (Researcher: find)")
      assert.deepStrictEqual((yield* tasks).map(({ agent }) => agent), ["Architect", "Researcher"])
    }).pipe(withActors({
      goal: delegates([{ agent: "Architect", prompt: "plan" }]),
      plan: delegates([{ agent: "Builder", prompt: "build" }, { agent: "Researcher", prompt: "find" }], "the plan"),
      find: works("1 second")
    })))

  it.effect("answers at once with the id, and with the place in line", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 3))
      yield* pass("1 second")
      const read = (yield* calls(root))[1]?.request.toolResults ?? []
      const ids = (yield* tasks).map(({ id }) => id)
      assert.deepStrictEqual(read, [
        `${ids[0] ?? ""} started (Builder: work 1). You will be told of its end.`,
        `${ids[1] ?? ""} waits in line at place 1 (Builder: work 2). You will be told of its end.`,
        `${ids[2] ?? ""} waits in line at place 2 (Builder: work 3). You will be told of its end.`
      ])
    }).pipe(withActors({
      goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }, { prompt: "work 3" }]),
      work: hangs
    }, { config: { concurrency: { agent: 1 } } })))

  describe("resume", () => {
    const world = withActors({
      goal: delegates([{ prompt: "work 1" }], "done"),
      lead: delegates([{ prompt: "work 2" }], "done"),
      slow: hangs,
      quiet: says("I am here."),
      work: works("1 second")
    })
    const refusal = (root: Parameters<typeof use>[0], resume: string, agent = "Builder") =>
      Effect.gen(function*() {
        const [before, sessions] = [(yield* tasks).length, yield* sessionCount]
        const answer = yield* use(root, "delegate_task", delegate({ agent, prompt: "more", resume }).args)
        yield* pass("10 seconds")
        assert.lengthOf(yield* tasks, before)
        assert.strictEqual(yield* sessionCount, sessions)
        return answer
      })

    it.effect("of a task of another session is refused, with the ids that can be resumed", () =>
      Effect.gen(function*() {
        const other = yield* say("lead", { agent: "build" })
        const root = yield* say("goal", { agent: "build" })
        yield* until(Effect.map(states, (all) => all.length === 2 && all.every((state) => state === "completed")))
        const [own, foreign] = [yield* task("work 1"), yield* task("work 2")]
        for (const resume of [foreign.id, foreign.session ?? "", other]) {
          const answer = yield* refusal(root, resume)
          assert.include(answer, `Cannot resume "${resume}": it is not one of your tasks. You can resume: ${own.id}.`)
        }
      }).pipe(world))

    it.effect("of a session that no task worked in is refused", () =>
      Effect.gen(function*() {
        const root = yield* say("quiet", { agent: "build" })
        assert.include(yield* refusal(root, root), "you have no ended task to resume; leave resume out")
      }).pipe(world))

    it.effect("of a running task is refused", () =>
      Effect.gen(function*() {
        const root = yield* say("quiet", { agent: "build" })
        yield* use(root, "delegate_task", delegate({ prompt: "slow" }).args)
        yield* until(isWorking("slow"))
        assert.include(
          yield* refusal(root, (yield* task("slow")).id),
          "it is still working; wait for its end, or cancel it"
        )
      }).pipe(world))

    it.effect("with another agent is refused", () =>
      Effect.gen(function*() {
        const root = yield* say("goal", { agent: "build" })
        yield* until(Effect.map(states, (all) => all[0] === "completed"))
        assert.include(
          yield* refusal(root, (yield* task("work 1")).id, "Inspector"),
          "it belongs to the agent Builder; resume it with that agent"
        )
      }).pipe(world))

    it.effect("of a task whose session has been deleted is refused", () =>
      Effect.gen(function*() {
        const root = yield* say("goal", { agent: "build" })
        yield* until(Effect.map(states, (all) => all[0] === "completed"))
        yield* pass("12 minutes")
        assert.include(
          yield* refusal(root, (yield* task("work 1")).id),
          "its session has been deleted; delegate a new task"
        )
      }).pipe(world))

    it.effect("works with the id of the session as well as with that of the task", () =>
      Effect.gen(function*() {
        const root = yield* say("goal", { agent: "build" })
        yield* until(Effect.map(states, (all) => all[0] === "completed"))
        const session = yield* sessionOf("work 1")
        yield* use(root, "delegate_task", delegate({ prompt: "more", resume: session }).args)
        yield* until(Effect.map(states, (all) => all[1] === "completed"))
        assert.strictEqual(yield* sessionOf("more"), session)
      }).pipe(world))
  })

  it.effect("is refused below the greatest depth", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(isWorking("slow"))
      const sessions = yield* sessionCount
      const child = yield* sessionOf("slow")
      for (const tool of ["delegate_task", "call_agent"]) {
        const args = { ...delegate({ prompt: "deeper" }).args, task: "deeper" }
        const answer = yield* use(child, tool, args, "general")
        assert.include(answer, "Tasks may be delegated 1 levels deep, and this is the last. Do the work yourself.")
      }
      assert.lengthOf(yield* tasks, 1)
      assert.strictEqual(yield* sessionCount, sessions)
    }).pipe(withActors(
      { goal: delegates([{ agent: "general", prompt: "slow" }]), slow: hangs },
      { config: { maxDepth: 1 } }
    )))

  it.effect("is refused when too many tasks are at hand", () =>
    Effect.gen(function*() {
      const root = yield* say("quiet", { agent: "build" })
      for (let n = 1; n <= 10; n++) yield* use(root, "delegate_task", delegate({ prompt: `slow ${n}` }).args)
      assert.include(
        yield* use(root, "delegate_task", delegate({ prompt: "slow 11" }).args),
        "10 tasks are waiting or running already. Wait for some to end, or cancel some."
      )
      assert.lengthOf(yield* tasks, 10)
    }).pipe(withActors({ quiet: says("I am here."), slow: hangs }, { config: { retention: { tasks: 10 } } })))
})

describe("call_agent", () => {
  it.effect.each<[string, unknown, ReadonlyArray<string>]>([
    ["an unknown agent", { agent: "Bilder", task: "x" }, ["\"Bilder\"", "Use one of:", "Builder"]],
    ["a primary agent", { agent: "build", task: "x" }, ["\"build\"", "Use one of:", "Builder"]],
    ["an agent whose model is not available", { agent: "dreamer", task: "x" }, ["\"scripted/gone\"", "scripted/model"]],
    ["an empty task, whatever its context", { agent: "Builder", task: "", context: "c" }, ["The prompt is empty."]]
  ])(
    "refuses %s, says what to use instead, and leaves nothing behind",
    ([, args, words]) => refuses("call_agent", args, ...words)
  )

  it.effect("gives the agent the task and its context, and returns the answer under a line that says how it went", () =>
    Effect.gen(function*() {
      const root = yield* say("quiet", { agent: "build" })
      const answer = yield* use(root, "call_agent", { agent: "Researcher", task: "ask it", context: "the facts" })
      const [known] = yield* tasks
      assert.strictEqual(known?.prompt, "ask it\n\nContext:\nthe facts")
      assert.strictEqual(answer, `${known?.id ?? ""} completed after 2 s · Researcher · ask it\nthe answer`)
    }).pipe(withActors({ quiet: says("I am here."), ask: says("the answer", "2 seconds") })))
})

describe("get_task_result, list_tasks and cancel_task", () => {
  it.effect.each(["get_task_result", "cancel_task"])(
    "%s refuses an unknown id",
    (tool) => refuses(tool, { taskId: "task_none" }, "There is no task \"task_none\".", "list_tasks shows the ids")
  )

  it.effect("a task of another mission is unknown", () =>
    Effect.gen(function*() {
      yield* say("goal")
      const other = yield* say("quiet", { agent: "build" })
      yield* until(isWorking("slow"))
      const { id } = yield* task("slow")
      for (const tool of ["get_task_result", "cancel_task"]) {
        assert.include(yield* use(other, tool, { taskId: id }), `There is no task "${id}"`)
      }
      assert.strictEqual(yield* use(other, "list_tasks", {}), "There are no tasks.")
      assert.strictEqual((yield* task("slow")).state, "running")
    }).pipe(withActors({ goal: delegates([{ prompt: "slow" }]), slow: hangs, quiet: says("I am here.") })))

  it.effect("a running task shows its state, and a cancelled one says so", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("slow"))
      const { id } = yield* task("slow")
      yield* pass("10 seconds")
      assert.match(yield* use(root, "get_task_result", { taskId: id }), new RegExp(`^${id} running · 10 s · Builder`))
      assert.strictEqual(yield* use(root, "cancel_task", { taskId: id }), `${id} is cancelled.`)
      assert.include(yield* use(root, "get_task_result", { taskId: id }), `${id} was cancelled after 10 s`)
      assert.include(yield* use(root, "get_task_result", { taskId: id }), "Commander cancelled it")
      assert.strictEqual(
        yield* use(root, "cancel_task", { taskId: id }),
        `${id} has ended already; nothing to cancel.`
      )
    }).pipe(withActors({ goal: delegates([{ prompt: "slow" }]), slow: hangs })))

  it.effect("list_tasks shows state, age, agent, place in line, tokens and cost, and filters by state", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("slow 2"))
      yield* pass("10 seconds")
      const [done, slow, queued] = yield* tasks
      const list = yield* use(root, "list_tasks", {})
      assert.strictEqual(
        list,
        [
          "3 tasks:",
          `${done?.id ?? ""} completed · 5 s · Builder · work 1 · 110 tokens · $0.0001 · scripted/model`,
          `${slow?.id ?? ""} running · 10 s · Builder · slow 2 · 0 tokens · $0.0000 · scripted/model`,
          `${queued?.id ?? ""} queued at place 1 · 15 s · Builder · work 3 · 0 tokens · $0.0000 · scripted/model`,
          "Budget used: 15 s of 8 h · 330 of 50M tokens · $0.00 of $50 · 3 of 500 tasks · 3 of 3000 turns"
        ].join("\n")
      )
      assert.match(
        yield* use(root, "list_tasks", { status: "queued" }),
        /^1 task:\n\S+ queued at place 1 [^\n]+\nBudget used: [^\n]+$/
      )
      assert.match(yield* use(root, "list_tasks", { status: "failed" }), /^There are no failed tasks\.\n/)
      assert.include(yield* use(root, "list_tasks", { status: "done" }), "completed")
    }).pipe(withActors(
      {
        goal: delegates([{ prompt: "work 1" }, { prompt: "slow 2" }, { prompt: "work 3" }]),
        work: works("5 seconds"),
        slow: hangs
      },
      { config: { concurrency: { agent: 1 } } }
    )))

  it.effect("a result that a tool has read is whole, however long", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(states, (all) => all[0] === "completed"))
      const answer = yield* use(root, "get_task_result", { taskId: (yield* task("work")).id })
      assert.include(answer, "z".repeat(20_000))
    }).pipe(withActors({ goal: delegates([{ prompt: "work" }]), work: replies({ text: "z".repeat(20_000) }) })))
})
