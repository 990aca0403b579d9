import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Result } from "effect"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { again, withChecks } from "../../src/domain/Inspection.ts"
import { readPlan } from "../../src/domain/Plan.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { TaskDecomposer } from "../../src/mission/TaskDecomposer.ts"
import { Plans } from "../../src/tasks/Plans.ts"
import { readJournal } from "../../src/tasks/TaskJournal.ts"
import { TaskManager } from "../../src/tasks/TaskManager.ts"
import {
  type Actor,
  calls,
  delegate,
  doing,
  files,
  hangs,
  heard,
  isNotice,
  isWorking,
  type Life,
  notices,
  pass,
  replies,
  say,
  start,
  task,
  tasks,
  until,
  use,
  withActors,
  withWorld
} from "../tasks/scripts.ts"

const runPlan = (...lines: ReadonlyArray<string>) => ({ name: "run_plan", args: { plan: lines.join("\n") } })
const done = { text: "All is done.\nMISSION COMPLETE" }

/** Runs a plan once, ends its turn, and says that it is done once it is told of ends. */
const plans = (...lines: ReadonlyArray<string>): Actor => (request) => {
  const text = request.users.at(-1) ?? ""
  if (isNotice(text)) return Effect.succeed(done)
  const isAnswered = request.allToolResults.some((result) => /^plan_\w+ runs/.test(result))
  return Effect.succeed(
    isAnswered || request.toolResults.length > 0 || /The plan \w+ goes on/.test(text)
      ? { text: "I wait." }
      : { toolCalls: [runPlan(...lines)] }
  )
}

/** Works that take as long as their order says (`work T1 for 2 seconds`), and when each of their turns began and ended. */
const works = () => {
  const spans: Array<{ readonly name: string; readonly from: number; to: number }> = []
  const zero = Effect.runSync(Clock.currentTimeMillis)
  const of = (name: string) => spans.findLast((span) => span.name === name) ?? assert.fail(`${name} did not work`)
  const actor: Actor = (request) =>
    Effect.gen(function*() {
      const [, name = "", what = "", time = ""] =
        /^work (\S+) (for|fails after|hangs) ?(.*)$/m.exec(request.users[0] ?? "") ?? []
      const span = { name, from: yield* Clock.currentTimeMillis, to: Infinity }
      spans.push(span)
      if (what === "hangs") {
        return yield* Effect.onInterrupt(Effect.never, () =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            span.to = now
          }))
      }
      yield* Effect.sleep(Duration.fromInputUnsafe(time as Duration.Input)) // the tests write durations
      span.to = yield* Clock.currentTimeMillis
      return what === "for" ? { text: `result of ${name}` } : { status: 401, message: `no key for ${name}` }
    })
  return { actor, of, spans, zero }
}

const byNode = Effect.map(tasks, (all) => Object.fromEntries(all.map((task) => [task.plan?.node ?? "", task.state])))
const allTold = Effect.map(tasks, (all) => all.length > 0 && all.every((task) => task.told))
/** Within the steps of the virtual clock. */
const soon = (from: number, to: number) => {
  assert.isAtLeast(to, from)
  assert.isBelow(to, from + 150)
}

describe("a plan", () => {
  it.effect("starts each task as soon as those it depends on are completed, and tells all results at once", () => {
    const { actor, of, spans } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allTold)
      yield* pass("1 minute")
      assert.lengthOf(spans, 6)
      soon(of("T1").from, of("T2").from)
      soon(of("T1").to, of("T3").from)
      soon(of("T2").to, of("T4").from)
      soon(of("T4").to, of("T5").from)
      soon(of("T5").to, of("T6").from)
      assert.isBelow(of("T3").from, of("T2").to) // T1 was enough for it
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.match(told[0] ?? "", /^6 tasks have ended\./)
      for (const { name } of spans) assert.include(told[0], `result of ${name}`)
      assert.strictEqual((yield* heard(root)).length, 2)
    }).pipe(withActors({
      goal: plans(
        "- [ ] T6: work T6 for 1 second | depends:T5,T3",
        "- [ ] T1: work T1 for 2 seconds",
        "- [ ] T2: work T2 for 90 seconds",
        "- [ ] T3: work T3 for 50 seconds | depends:T1",
        "- [ ] T4: work T4 for 80 seconds | depends:T1,T2",
        "- [ ] T5: work T5 for 1 second | depends:T4"
      ),
      work: actor
    }))
  })

  it.effect("is answered at once with what was started, and what waits for what", () => {
    const { actor } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("1 second")
      const answer = yield* use(
        root,
        "run_plan",
        runPlan(
          "- [ ] T1: work T1 for 2 seconds | files:src/a.ts",
          "- [ ] T2: work T2 for 2 seconds | agent:Inspector | depends:T1",
          "- [ ] T3: work T3 for 2 seconds | files:./src/a.ts",
          "- [x] T4: work T4 for 2 seconds"
        ).args
      )
      assert.match(
        answer,
        new RegExp([
          "^plan_\\w+ runs: 3 tasks, 1 started\\.",
          "Started:",
          "- T1 task_\\w+ \\(Builder\\): work T1 for 2 seconds",
          "Waiting:",
          "- T2 \\(Inspector\\) waits for T1: work T2 for 2 seconds",
          "- T3 \\(Builder\\) waits for T1, which works on \\./src/a\\.ts: work T3 for 2 seconds",
          "You will be told of all results in one message when the plan is over\\. End your turn\\.$"
        ].join("\\n"))
      )
      const listed = yield* use(root, "list_tasks", {})
      assert.match(listed, /^1 task:\ntask_\w+ .* T1: work T1 .*\nStill to come of plan_\w+:\n/)
      assert.include(listed, "- T2 (Inspector) waits for T1: work T2 for 2 seconds\n- T3 (Builder) waits for T1, which")
    }).pipe(withActors({ goal: hangs, work: actor }))
  })

  it.effect("that is bad is refused with all its problems, and nothing of it starts", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("1 second")
      const answer = yield* use(
        root,
        "run_plan",
        runPlan("- [ ] T1: a | agent:Commander", "- [ ] T2: b | depends:T9").args
      )
      assert.match(answer, /^The plan was not started\./)
      assert.match(
        answer,
        /- line 1: there is no agent "Commander" to delegate to; there are general, Architect, Builder/
      )
      assert.match(answer, /- line 2: it depends on "T9"/)
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* tasks, [])
    }).pipe(withActors({ goal: hangs })))

  it.effect("gives each task its order, its files, and the results of those it depends on, and of no others", () => {
    const { actor } = works()
    return Effect.gen(function*() {
      yield* say("goal")
      yield* until(allTold)
      const all = yield* tasks
      const prompt = all.find(({ plan }) => plan?.node === "T3")?.prompt
      assert.strictEqual(
        prompt,
        "work T3 for 1 second\n\nIn TypeScript.\n\nOthers work at the same time. Change only: src/a.ts.\n\n"
          + "What came before:\n\n## T1 (Builder): work T1 for 1 second\nresult of T1"
      )
      assert.deepStrictEqual(all.map(({ description }) => description).toSorted(), [
        "T1: work T1 for 1 second",
        "T2: work T2 for 1 second",
        "T3: work T3 for 1 second"
      ])
    }).pipe(withActors({
      goal: plans(
        "- [ ] T1: work T1 for 1 second",
        "- [ ] T2: work T2 for 1 second",
        "- [ ] T3: work T3 for 1 second | depends:T1 | files:src/a.ts",
        "  In TypeScript."
      ),
      work: actor
    }))
  })

  it.effect("loses by a failure what depends on it, and nothing else; the notice says so", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allTold)
      assert.deepStrictEqual(yield* byNode, { T1: "failed", T2: "completed", T5: "completed" })
      assert.lengthOf(spans, 3)
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.match(told[0] ?? "", /^3 tasks have ended, 1 without success\./)
      assert.match(
        told[0] ?? "",
        /no key for T1[^\n]*\nNot run, because it depends on this: T3 \(work T3 for 1 second\), T4 \(work T4 for 1 second\)\./
      )
      yield* pass("10 minutes")
      assert.lengthOf(spans, 3)
    }).pipe(withActors({
      goal: plans(
        "- [ ] T1: work T1 fails after 1 second",
        "- [ ] T2: work T2 for 20 seconds",
        "- [ ] T3: work T3 for 1 second | depends:T1",
        "- [ ] T4: work T4 for 1 second | depends:T2,T3",
        "- [ ] T5: work T5 for 1 second | depends:T2"
      ),
      work: actor
    }))
  })

  it.effect("runs two tasks that name the same file one after the other, also beside another plan", () => {
    const { actor, of, spans } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("1 second")
      yield* use(root, "run_plan", runPlan("- [ ] B1: work B1 for 5 seconds | files:src").args)
      yield* until(allTold)
      for (const a of spans) {
        for (const b of spans) {
          const isApart = a.name === b.name || a.to <= b.from || b.to <= a.from
          assert.isTrue(isApart || [a, b].some(({ name }) => name === "A3"), `${a.name} and ${b.name}`)
        }
      }
      soon(of("A1").from, of("A3").from)
    }).pipe(withActors({
      goal: plans(
        "- [ ] A1: work A1 for 5 seconds | files:src/a.ts,x.md",
        "- [ ] A2: work A2 for 5 seconds | files:src\\A.ts",
        "- [ ] A3: work A3 for 5 seconds | files:lib/a.ts"
      ),
      work: actor
    }))
  })

  it.effect("gives a file to the next only when the child that was stopped has let go of it", () => {
    const { actor, of } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isWorking("work T1 hangs\n\nOthers work at the same time. Change only: a.ts."))
      const t1 = (yield* tasks).find(({ plan }) => plan?.node === "T1")
      yield* (yield* SimulatedHost).fail("abort", 20)
      assert.match(yield* use(root, "cancel_task", { taskId: t1?.id }), /is cancelled/)
      yield* until(allTold)
      assert.deepStrictEqual(yield* byNode, { T1: "cancelled", T2: "completed" })
      assert.isAtMost(of("T1").to, of("T2").from)
      assert.isAbove(of("T1").to - of("T1").from, 2_000) // the aborts that failed
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "Not run, because it depends on this: T3 (")
    }).pipe(withActors({
      goal: plans(
        "- [ ] T1: work T1 hangs | files:a.ts",
        "- [ ] T2: work T2 for 5 seconds | files:a.ts",
        "- [ ] T3: work T3 for 5 seconds | depends:T1"
      ),
      work: actor
    }))
  })

  it.effect("is told on the way only when its first end has waited half an hour, and each end once", () => {
    const { actor } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("30 minutes")
      assert.deepStrictEqual(yield* notices(root), [])
      yield* pass("1 minute")
      assert.lengthOf(yield* notices(root), 1)
      yield* until(allTold, "2 hours", "1 second")
      const told = yield* notices(root)
      assert.lengthOf(told, 2)
      for (const name of ["T1", "T2"]) assert.include(told[0], `result of ${name}`)
      for (const name of ["T3", "T4"]) assert.include(told[1], `result of ${name}`)
      assert.notInclude(told[1], "result of T1\n")
    }).pipe(withActors({
      goal: plans(
        "- [ ] T1: work T1 for 20 seconds",
        "- [ ] T2: work T2 for 20 minutes | depends:T1",
        "- [ ] T3: work T3 for 25 minutes | depends:T2",
        "- [ ] T4: work T4 for 25 minutes | depends:T3"
      ),
      work: actor
    }, { config: { stallAfter: "5 hours" } }))
  })

  it.effect("does not keep other tasks of its parent from being told", () => {
    const { actor } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(Effect.map(notices(root), (told) => told.length > 0))
      assert.match((yield* notices(root))[0] ?? "", /^1 task has ended\.\n.*\nresult of X$/s)
      yield* until(allTold)
      const told = yield* notices(root)
      assert.lengthOf(told, 2)
      assert.match(told[1] ?? "", /^2 tasks have ended\./)
    }).pipe(withActors({
      goal: replies(
        {
          toolCalls: [
            runPlan("- [ ] T1: work T1 for 1 second", "- [ ] T2: work T2 for 30 seconds | depends:T1"),
            delegate({ prompt: "work X for 10 seconds" })
          ]
        },
        { text: "I wait." },
        { text: "I wait on." },
        done
      ),
      work: actor
    }))
  })

  it.effect("tells of an order that is refused like of any task that failed", () => {
    const { actor } = works()
    const misconfigured = {
      name: "dreamer",
      mode: "subagent",
      description: undefined,
      model: { provider: "scripted", model: "gone" },
      hidden: false,
      permission: []
    } as const
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(allTold)
      assert.deepStrictEqual(yield* byNode, { T1: "failed", T3: "completed" })
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.match(told[0] ?? "", /T1: dream\n.* set to the model "scripted\/gone".*\nNot run, .*: T2 \(wake up\)\./)
    }).pipe(withActors({
      goal: plans(
        "- [ ] T1: dream | agent:dreamer",
        "- [ ] T2: wake up | depends:T1",
        "- [ ] T3: work T3 for 5 seconds"
      ),
      work: actor
    }, { agents: [misconfigured] }))
  })

  it.effect("waits with what could not be recorded, until the disk has room again", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const life = yield* start()
      yield* life.do(say("goal"))
      yield* life.do(until(Effect.map(byNode, ({ T1 }) => T1 === "running")))
      yield* disk.full(true)
      yield* pass("2 minutes")
      assert.lengthOf(spans, 1)
      yield* disk.full(false)
      yield* life.do(until(allTold))
      assert.deepStrictEqual(yield* life.do(byNode), { T1: "completed", T2: "completed" })
      assert.lengthOf(spans, 2)
    }).pipe(withWorld({
      goal: plans("- [ ] T1: work T1 for 5 seconds", "- [ ] T2: work T2 for 5 seconds | depends:T1"),
      work: actor
    }))
  })

  it.effect("goes on to its end although the call was cut off while it was recorded", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      yield* pass("1 second")
      yield* Effect.flatMap(MemoryDisk, (disk) => disk.slow("20 millis"))
      const running = Effect.flatMap(TaskDecomposer, ({ run }) =>
        run("- [ ] T1: work T1 for 2 seconds", { session: root, agent: "Commander" }))
      const call = yield* Effect.forkChild(running, { startImmediately: true })
      yield* pass("10 millis")
      yield* doing(Fiber.interrupt(call))
      yield* until(Effect.map(tasks, (all) =>
        all[0]?.told === true))
      assert.strictEqual((yield* tasks)[0]?.state, "completed")
    }).pipe(withActors({ goal: replies(done), work: works().actor }, { config: { journal: "required" } })))

  it.effect("is not for the session of a task", () =>
    Effect.gen(function*() {
      yield* say("goal")
      yield* until(isWorking("work"))
      const { session } = yield* task("work")
      const answer = yield* use(session ?? SessionId.make(""), "run_plan", runPlan("- [ ] T1: a").args)
      assert.include(answer, "Only the session that the user talks to may run a plan.")
    }).pipe(withActors({ goal: replies({ toolCalls: [delegate({ prompt: "work" })] }, hangs), work: hangs })))
})

describe("a plan ends for good", () => {
  const lines = [
    "- [ ] T1: work T1 hangs | files:a.ts",
    "- [ ] T2: work T2 for 1 second | files:a.ts",
    "- [ ] T3: work T3 for 1 second | depends:T1"
  ]
  const isAtWork = Effect.map(
    calls(),
    (all) => all.some(({ outcome, request }) => outcome === "open" && request.users[0]?.startsWith("work T1") === true)
  )

  it.effect("when the user aborts, also when the user goes on later", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isAtWork)
      yield* pass("5 seconds")
      yield* doing(client.abort(root))
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* byNode, { T1: "cancelled" })
      yield* say("go on", { session: root })
      yield* pass("10 minutes")
      assert.deepStrictEqual(spans.map(({ name }) => name), ["T1"])
      assert.lengthOf(yield* notices(root), 1)
    }).pipe(withActors({ goal: replies({ toolCalls: [runPlan(...lines)] }, hangs, done), work: actor }))
  })

  it.effect("when the Commander cancels it; and its parent is told", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* until(isAtWork)
      const plan = (yield* tasks)[0]?.plan?.id ?? ""
      const other = yield* say("other")
      assert.match(yield* use(other, "cancel_task", { taskId: plan }), /nothing to cancel/)
      assert.strictEqual(yield* use(root, "cancel_task", { taskId: plan }), `${plan} is cancelled.`)
      yield* pass("5 minutes")
      assert.deepStrictEqual(yield* byNode, { T1: "cancelled" })
      assert.deepStrictEqual(spans.map(({ name }) => name), ["T1"])
      const told = yield* notices(root)
      assert.lengthOf(told, 1)
      assert.include(told[0], "Cancelled: its plan was stopped.\nNot run, because it depends on this: T3 (")
      assert.match(yield* use(root, "cancel_task", { taskId: plan }), /has ended already/)
    }).pipe(withActors({ goal: plans(...lines), other: hangs, work: actor }))
  })

  it.effect("when its session is deleted", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const client = yield* SessionClient
      const root = yield* say("goal")
      yield* until(isAtWork)
      yield* doing(client.delete(root))
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* byNode, { T1: "cancelled" })
      assert.deepStrictEqual(spans.map(({ name }) => name), ["T1"])
      assert.isTrue((yield* calls()).every(({ outcome }) => outcome !== "open"))
    }).pipe(withActors({ goal: plans(...lines), work: actor }))
  })
})

describe("a plan with checks", () => {
  const text = [
    "- [ ] T1: work T1 for 5 seconds | parallel:A",
    "- [ ] T2: work T2 for 20 seconds | parallel:A",
    "- [ ] T3: work T3 for 5 seconds | depends:T1",
    "- [ ] T4: work T4 for 60 seconds"
  ].join("\n")
  const started = Effect.fnUntraced(function*(root: SessionId) {
    const decomposer = yield* TaskDecomposer
    const plan = Result.getOrThrow(readPlan(text, ["Builder", "Inspector"]))
    return yield* doing(
      decomposer.start(withChecks(plan, "Inspector", "a goal"), { session: root, agent: "Commander" })
    )
  })
  /** The Inspector's session at a group, which takes 10 s; and how the whole is judged. */
  const inspects = (verdict: string) => {
    const heard: Array<{ readonly text: string; readonly at: number }> = []
    const actor: Actor = (request) =>
      Effect.gen(function*() {
        heard.push({ text: request.users[0] ?? "", at: yield* Clock.currentTimeMillis })
        yield* Effect.sleep("10 seconds")
        return { text: verdict }
      })
    return { heard, actor }
  }

  it.effect("has a group checked when all of it is completed; who depends on it waits for the PASS, others go on", () => {
    const { actor, of, spans } = works()
    const group = inspects("PASS, all there")
    const last = inspects("PASS")
    return Effect.gen(function*() {
      const root = yield* say("goal")
      yield* started(root)
      yield* until(Effect.map(tasks, (all) => all.length === 6 && all.every(({ told }) => told)))
      soon(of("T2").to, group.heard[0]?.at ?? 0)
      soon((group.heard[0]?.at ?? 0) + 10_000, of("T3").from)
      soon(of("T4").to, last.heard[0]?.at ?? 0)
      assert.lengthOf(spans, 4)
      assert.include(group.heard[0]?.text, "## T2 (Builder): work T2 for 20 seconds\nresult of T2")
      assert.notInclude(group.heard[0]?.text, "result of T4")
      assert.include(last.heard[0]?.text, "## check-A (Inspector): Check the results of T1, T2\nPASS, all there")
      assert.isTrue((yield* tasks).every(({ mission, state }) => mission === root && state === "completed"))
    }).pipe(withActors({ goal: hangs, work: actor, These: group.actor, A: last.actor }))
  })

  it.effect("runs nothing that depends on a group without a PASS, and all the rest", () => {
    const { actor, spans } = works()
    const group = inspects("FAIL T1: it is not there")
    return Effect.gen(function*() {
      const root = yield* say("goal")
      const plan = yield* started(root)
      const plans = yield* Plans
      yield* until(Effect.map(plans.all, (all) => all.every(({ id, state }) => id !== plan.id || state === "over")))
      yield* pass("1 minute")
      assert.sameMembers(spans.map(({ name }) => name), ["T1", "T2", "T4"])
      const { ends } = yield* TaskDecomposer
      assert.deepStrictEqual(again(yield* ends(plan)).map(({ depends, id }) => [id, ...depends]), [
        ["T1"],
        ["check-A", "T1"],
        ["T3", "T1", "check-A"],
        ["check", "T1", "T3", "check-A"]
      ])
    }).pipe(withActors({ goal: hangs, work: actor, These: group.actor, A: hangs }))
  })

  it.effect.each(["FAIL", "PASS"])("heeds a verdict that was given before a restart: %s", (verdict) => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(started(root))
      yield* first.do(until(Effect.map(byNode, (states) => states["check-A"] === "completed"), "5 minutes", 1))
      yield* first.killHost
      const next = yield* start()
      yield* next.do(until(Effect.map(byNode, ({ T4 }) => T4 === "completed")))
      yield* pass("1 minute")
      assert.strictEqual((yield* next.do(byNode))["T3"], verdict === "PASS" ? "completed" : undefined)
      assert.lengthOf(spans.filter(({ name }) => name === "T1"), 1)
    }).pipe(withWorld({ goal: hangs, work: actor, These: inspects(verdict).actor, A: hangs }))
  })
})

describe("a plan that may be tried again", () => {
  /** As `works`, but what is `flaky` fails until it is told of an earlier attempt. */
  const flaky = () => {
    const { actor, of, spans } = works()
    const attempt: Actor = (request) => {
      const order = request.users[0] ?? ""
      return actor({
        ...request,
        users: [order.includes("An earlier attempt") ? order.replace("fails after", "for") : order]
      })
    }
    return { actor: attempt, of, spans }
  }
  const begin = (root: SessionId, retries: number, lines: ReadonlyArray<string>, inspect = false) =>
    Effect.gen(function*() {
      const decomposer = yield* TaskDecomposer
      const plan = Result.getOrThrow(readPlan(lines.join("\n"), ["Builder", "Inspector"]))
      const nodes = inspect ? withChecks(plan, "Inspector", "a goal") : plan
      return yield* doing(decomposer.start(nodes, { session: root, agent: "Commander" }, retries))
    })
  const settled = Effect.fnUntraced(function*(id: string) {
    const { settled } = yield* Plans
    const plan = yield* Effect.forkChild(settled(id))
    yield* pass("4 minutes")
    return yield* Fiber.join(plan)
  })
  const lines = [
    "- [ ] T1: work T1 fails after 5 seconds",
    "- [ ] T2: work T2 for 60 seconds",
    "- [ ] T3: work T3 for 5 seconds | depends:T1"
  ]

  it.effect("has what failed run again at once, with what was wrong, while the rest goes on", () => {
    const { actor, of, spans } = flaky()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      const { id } = yield* begin(root, 1, lines)
      yield* until(Effect.map(byNode, ({ T2 }) => T2 === "completed"))
      assert.strictEqual((yield* settled(id))?.state, "over")
      assert.deepStrictEqual(yield* byNode, { T1: "completed", T2: "completed", T3: "completed" })
      const [first, second] = spans.filter(({ name }) => name === "T1")
      assert.isBelow((second?.from ?? Infinity) - (first?.to ?? 0), 3_000) // the first child is stopped meanwhile
      assert.isBelow(of("T3").to, of("T2").to)
      yield* until(allTold)
      const failed = (yield* tasks).find(({ state }) => state === "failed")
      const again = (yield* tasks).find((task) => task.plan?.node === "T1" && task.state === "completed")
      assert.include((yield* notices(root)).join("\n"), `It is run again, as ${again?.id}.`)
      assert.include(again?.prompt, `An earlier attempt at this came to no good end: ${failed?.reason}`)
    }).pipe(withActors({ goal: hangs, work: actor }))
  })

  it.effect("gives a task up after its tries, and does not run what depends on it", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const { id } = yield* begin(yield* say("goal"), 2, lines)
      yield* settled(id)
      assert.sameMembers(spans.map(({ name }) => name), ["T1", "T1", "T1", "T2"])
      assert.lengthOf((yield* tasks).filter(({ state }) => state === "failed"), 3)
    }).pipe(withActors({ goal: hangs, work: actor }))
  })

  it.effect("does not run again what was cancelled, or refused", () => {
    const { actor, spans } = works()
    return Effect.gen(function*() {
      const root = yield* say("goal")
      const { id, nodes: [first] } = yield* begin(root, 3, [
        "- [ ] T1: work T1 hangs",
        "- [ ] T2: work T2 for 1 second"
      ])
      yield* until(Effect.map(byNode, ({ T1, T2 }) => T1 === "running" && T2 === "completed"))
      const { cancel } = yield* TaskManager
      yield* doing(cancel(first?.task ?? "", root, "you cancelled it"))
      yield* settled(id)
      assert.deepStrictEqual(yield* byNode, { T1: "cancelled", T2: "completed" })
      assert.lengthOf(spans, 2)
      const decomposer = yield* TaskDecomposer
      const nodes = Result.getOrThrow(readPlan("- [ ] T3: work T3 for 1 second", ["Builder"]))
      const nobodys = nodes.map((node) => ({ ...node, agent: "Nobody" }))
      const { id: other } = yield* doing(decomposer.start(nobodys, { session: root, agent: "Commander" }, 3))
      yield* settled(other)
      assert.strictEqual((yield* byNode)["T3"], "failed")
      assert.lengthOf(yield* tasks, 3)
    }).pipe(withActors({ goal: hangs, work: actor }))
  })

  it.effect.each([1, 2])("has what a check finds fault with done again, and the check, up to %s times", (retries) => {
    const { actor, spans } = works()
    const verdicts = ["FAIL T2: not there", "FAIL T2: still not there", "PASS"]
    let checks = 0
    return Effect.gen(function*() {
      const { id } = yield* begin(yield* say("goal"), retries, [
        "- [ ] T1: work T1 for 5 seconds | parallel:A",
        "- [ ] T2: work T2 for 5 seconds | parallel:A",
        "- [ ] T3: work T3 for 5 seconds | depends:T1",
        "- [ ] T4: work T4 for 120 seconds"
      ], true)
      yield* settled(id)
      const isGood = retries === 2
      assert.strictEqual(checks, retries + 1)
      const names = spans.map(({ name }) => name).toSorted()
      assert.deepStrictEqual(names, ["T1", ...Array(retries + 1).fill("T2"), ...(isGood ? ["T3"] : []), "T4"])
      const told = (yield* tasks).filter((task) => task.plan?.node === "T2").at(-1)?.prompt ?? ""
      assert.include(told, isGood ? "still not there" : "FAIL T2: not there")
      assert.lengthOf(told.split("An earlier attempt"), 2)
      assert.strictEqual((yield* byNode)["check"], isGood ? "completed" : undefined)
    }).pipe(withActors({
      goal: hangs,
      work: actor,
      These: () => Effect.sync(() => ({ text: verdicts[checks++] ?? "" })),
      A: () => Effect.succeed({ text: "PASS" })
    }))
  })

  it.effect("comes to the same end although the instance dies at any of its effects", () =>
    Effect.gen(function*() {
      const short = [
        "- [ ] T1: work T1 fails after 5 seconds",
        "- [ ] T2: work T2 for 10 seconds",
        "- [ ] T3: work T3 for 5 seconds | depends:T1"
      ]
      let crashes = 0
      for (let effect = 1;; effect++) {
        const { actor } = flaky()
        const isCrashed = yield* Effect.gen(function*() {
          const first = yield* start()
          const root = yield* first.do(say("goal"))
          yield* first.do(begin(root, 1, short))
          const before = (yield* first.gate.effects).length
          yield* first.gate.arm(before + effect, effect % 2 === 0 ? "after" : "before")
          yield* pass("1 minute")
          const crashed = yield* first.gate.isCrashed
          const where = `${effect} ${yield* first.gate.diedAt}`
          yield* first.killHost
          const next = yield* start()
          yield* next.do(until(allTold, "10 minutes", "100 millis"))
          yield* pass("1 minute")
          assert.deepStrictEqual(
            yield* next.do(byNode),
            { T1: "completed", T2: "completed", T3: "completed" },
            where
          )
          assert.lengthOf((yield* next.do(tasks)).filter(({ plan }) => plan?.node === "T1"), 2, where)
          assert.deepStrictEqual(yield* next.do(Effect.flatMap(Plans, ({ all }) => all)), [], where)
          return crashed
        }).pipe(withWorld({ goal: hangs, work: actor }))
        if (!isCrashed) break
        crashes++
      }
      assert.isAbove(crashes, 20)
    }), 120_000)
})

// ---- restarts -------------------------------------------------------------------------------------------------------

const chain = [
  "- [ ] T1: work T1 for 5 seconds",
  "- [ ] T2: work T2 for 10 seconds | files:a.ts",
  "- [ ] T3: work T3 for 5 seconds | depends:T1",
  "- [ ] T4: work T4 for 5 seconds | depends:T2,T3",
  "- [ ] T5: work T5 for 5 seconds | files:a.ts",
  "- [ ] T6: work T6 for 5 seconds | depends:T4,T5"
]

/** All of the chain has run in one task each, and its ends were told once. */
const ranOnce = Effect.fnUntraced(function*(root: SessionId, where: string) {
  yield* until(
    Effect.map(tasks, (all) => all.length === 6 && all.every(({ told }) => told)),
    "10 minutes",
    "100 millis"
  )
  yield* pass("2 minutes")
  assert.deepStrictEqual(
    yield* byNode,
    Object.fromEntries(["T1", "T2", "T3", "T4", "T5", "T6"].map((id) => [id, "completed"])),
    where
  )
  const told = (yield* notices(root)).join("\n")
  const host = yield* SimulatedHost
  for (const { id, plan, run, session } of yield* tasks) {
    assert.lengthOf(told.split(`${id} completed`), 2, `${where}: ${plan?.node} in ${told}`)
    assert.isAtMost(run, 2, where)
    assert.isDefined(session)
  }
  assert.lengthOf(yield* host.sessions, 7, where)
})

const ends = [
  ["the instance was killed", (life: Life) => Effect.andThen(life.kill, pass("100 millis"))],
  ["the host was killed with it", (life: Life) => life.killHost],
  ["it ended in order", (life: Life) => life.end]
] as const

describe("a restart", () => {
  it.effect.each(ends)("goes on with a plan in the middle, and runs no task twice: %s", ([name, end]) => {
    const { actor, of } = works()
    return Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(Effect.map(byNode, ({ T1, T3 }) => T1 === "completed" && T3 === "running")))
      yield* end(first)
      const next = yield* start()
      yield* next.do(ranOnce(root, name))
      assert.lengthOf(yield* next.do(notices(root)), 1)
      assert.isAtLeast(of("T4").from, of("T3").to)
      assert.isAtLeast(of("T6").from, of("T4").to)
    }).pipe(withWorld({ goal: plans(...chain), work: actor }))
  })

  it.effect("tells of a plan that was over and not told, once", () => {
    const { actor } = works()
    return Effect.gen(function*() {
      const first = yield* start({ arm: [(effect) => effect.startsWith("prompt ses_000001"), "before"] })
      const root = yield* first.do(say("goal"))
      yield* doing(first.gate.crashed)
      yield* first.killHost
      yield* (yield* start()).do(ranOnce(root, "before the notice"))
    }).pipe(withWorld({ goal: plans(...chain), work: actor }))
  }, 20_000)

  it.effect("leaves no record of a plan that was told", () => {
    const { actor } = works()
    return Effect.gen(function*() {
      const first = yield* start()
      yield* first.do(say("goal"))
      yield* first.do(until(allTold))
      yield* pass("1 minute")
      const [path = ""] = yield* files(".jsonl")
      const { missions, plans } = yield* first.do(readJournal(path))
      assert.lengthOf(missions, 1)
      assert.deepStrictEqual(plans, [])
    }).pipe(withWorld({ goal: plans("- [ ] T1: work T1 for 1 second"), work: actor }))
  })

  it.effect.each([1, 2, 3, 4, 5, 6])(
    "goes on although the instance dies at any of its effects (%s of 6)",
    (part) =>
      Effect.gen(function*() {
        const count = yield* effectsOfAChain
        for (let effect = part; effect <= count; effect += 6) {
          for (const kill of ["kill", "killHost"] as const) {
            const { actor } = works()
            yield* Effect.gen(function*() {
              const first = yield* start()
              const root = yield* first.do(say("goal"))
              const before = (yield* first.gate.effects).length
              yield* first.gate.arm(before + effect, effect % 2 === 0 ? "after" : "before")
              yield* pass("2 minutes")
              const where = `${effect} ${yield* first.gate.diedAt} ${kill}`
              yield* first[kill]
              yield* pass("100 millis")
              yield* (yield* start()).do(ranOnce(root, where))
            }).pipe(withWorld({ goal: plans(...chain), work: actor }))
          }
        }
      }),
    120_000
  )
})

/** How many effects an undisturbed instance has from the goal on, while it runs the chain. */
const effectsOfAChain = Effect.suspend(() => {
  const { actor } = works()
  return Effect.gen(function*() {
    const first = yield* start()
    yield* first.do(say("goal"))
    const before = (yield* first.gate.effects).length
    yield* first.do(until(allTold))
    yield* pass("1 minute")
    return (yield* first.gate.effects).length - before
  }).pipe(withWorld({ goal: plans(...chain), work: actor }))
})
