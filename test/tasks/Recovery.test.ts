import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Moment } from "../../adapters/test/CrashGate.ts"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import type { Mission } from "../../src/domain/Mission.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { isSettled } from "../../src/domain/Task.ts"
import { interruptedInstruction } from "../../src/mission/instructions.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { Concurrency } from "../../src/tasks/Concurrency.ts"
import { Recovery } from "../../src/tasks/Recovery.ts"
import { readJournal } from "../../src/tasks/TaskJournal.ts"
import {
  type Actor,
  calls,
  callsWithNotice,
  delegate,
  delegates,
  doing,
  files,
  fileText,
  folder,
  hangs,
  heard,
  isNotice,
  isWorking,
  type Life,
  notices,
  pass,
  replies,
  say,
  says,
  sessionCount,
  sessionOf,
  start,
  states,
  task,
  tasks,
  toasts,
  until,
  use,
  withWorld,
  works
} from "./scripts.ts"

const stopped = "OpenCode was stopped while you worked, and your last turn was cut off"
const isState = (prompt: string, state: string) =>
  Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.state === state))
const isTold = (prompt: string) => Effect.map(tasks, (all) => all.some((task) => task.prompt === prompt && task.told))
const allTold = Effect.map(tasks, (all) => all.length > 0 && all.every(({ told }) => told))
const missions = Effect.flatMap(Missions, ({ all }) => all)
const mission = Effect.map(missions, ([first]) => first ?? assert.fail("no mission"))
const resume = Effect.flatMap(Recovery, ({ resume }) => doing(resume))
const recoveryToasts = Effect.map(
  toasts,
  (all) => all.filter((text) => /^(Picked up|Unfinished|A journal)/.test(text))
)

/** Ways to end an instance. A host that lives on has begun the turns that it was asked for when the next one starts. */
const ends = [
  ["the instance was killed", (life: Life) => Effect.andThen(life.kill, pass("100 millis"))],
  ["the host was killed with it", (life: Life) => life.killHost],
  ["it ended in order", (life: Life) => life.end]
] as const
const kills = [ends[0], ends[1]] as const

const one: Readonly<Record<string, Actor>> = { goal: delegates([{ prompt: "work 1" }]), work: works("20 seconds") }

/** Says the goal, and waits until the task with this prompt works. */
const working = (prompt: string) => Effect.tap(say("goal"), () => until(isWorking(prompt)))

/** The one task has ended well, its parent was told of it once, and its work was prompted with these texts. */
const endedOnce = Effect.fnUntraced(function*(root: SessionId, run: number, ...prompts: ReadonlyArray<string>) {
  yield* until(allTold)
  yield* pass("5 minutes")
  const all = yield* tasks
  assert.deepStrictEqual(all.map(({ run, state }) => ({ run, state })), [{ run, state: "completed" }])
  assert.strictEqual(all[0]?.result, "done: work 1")
  const told = yield* notices(root)
  assert.lengthOf(told, 1)
  assert.include(told[0], "done: work 1")
  const texts = yield* heard(yield* sessionOf("work 1"))
  assert.lengthOf(texts, prompts.length)
  for (const [index, text] of prompts.entries()) assert.isTrue(texts[index]?.startsWith(text), texts[index])
  assert.strictEqual(yield* sessionCount, 2)
  assert.strictEqual((yield* mission).state, "complete")
})

/** An instance that dies at an effect. */
const dies = Effect.fnUntraced(function*(
  name: RegExp,
  moment: Moment,
  kill: (life: Life) => Effect.Effect<void> = (life) => life.killHost
) {
  const first = yield* start({ arm: [(effect) => name.test(effect), moment] })
  const root = yield* first.do(say("goal"))
  yield* doing(first.gate.crashed)
  yield* kill(first)
  return root
})

describe("a task", () => {
  it.effect("that ended while nobody looked is harvested, and not run again", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.kill
      yield* pass("1 minute")
      const next = yield* start()
      yield* next.do(endedOnce(root, 1, "work 1"))
      assert.lengthOf(yield* next.do(Effect.flatMap(sessionOf("work 1"), calls)), 1)
    }).pipe(withWorld(one)))

  it.effect("that ended just before its host was killed is harvested, and not run again", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const session = yield* first.do(working("work 1"))
      const host = yield* SimulatedHost
      yield* first.gate.arm((name) => name.startsWith("write"), "before")
      yield* doing(first.gate.crashed)
      yield* until(Effect.map(host.direct.statuses, (all) => all.size === 0))
      yield* first.killHost
      yield* (yield* start()).do(endedOnce(session, 1, "work 1"))
    }).pipe(withWorld(one)))

  it.effect("that was interrupted is resumed once, in its session, as run 2, and told what happened", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const next = yield* start()
      yield* next.do(until(isWorking("work 1")))
      assert.strictEqual((yield* next.do(task("work 1"))).run, 2)
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
      assert.deepStrictEqual(yield* recoveryToasts, [
        "Picked up after a restart: 1 mission goes on, 1 of the others goes on."
      ])
    }).pipe(withWorld(one)))

  it.effect("whose child still works in a host that lives on is waited for, and not resumed", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.kill
      const next = yield* start()
      yield* next.do(endedOnce(root, 1, "work 1"))
    }).pipe(withWorld(one)))

  it.effect("that an instance broke off at its end is resumed by the next", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.end
      const next = yield* start()
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
    }).pipe(withWorld(one)))

  it.effect.each(ends)("is never run more than maxRuns times: %s", ([, end]) =>
    Effect.gen(function*() {
      let root: SessionId | undefined
      for (const run of [1, 2, 3]) {
        const life = yield* start({ config: { maxRuns: 3 } })
        root ??= yield* life.do(say("goal"))
        yield* life.do(until(isWorking("work 1")))
        assert.strictEqual((yield* life.do(task("work 1"))).run, run)
        yield* end(life)
        // A host that lives on has its turn under way: that is no new run.
        yield* (yield* SimulatedHost).crash
      }
      const last = yield* start({ config: { maxRuns: 3 } })
      yield* last.do(until(allTold))
      const failed = yield* last.do(task("work 1"))
      assert.strictEqual(failed.state, "failed")
      assert.strictEqual(failed.reason, "OpenCode was stopped during its run 3, which was the last it may have.")
      yield* pass("5 minutes")
      const told = yield* last.do(notices(root ?? assert.fail("no root")))
      assert.lengthOf(told, 1)
      assert.include(told[0], "OpenCode was stopped during its run 3")
      assert.lengthOf(yield* last.do(Effect.flatMap(sessionOf("work 1"), calls)), 3)
    }).pipe(withWorld({ ...one, work: hangs })))

  it.effect.each(kills)("that was recorded and has no session is launched: %s", ([, kill]) =>
    Effect.gen(function*() {
      const root = yield* dies(/^create "work/, "before", kill)
      assert.strictEqual(yield* sessionCount, 1)
      yield* (yield* start()).do(endedOnce(root, 1, "work 1"))
    }).pipe(withWorld(one)))

  it.effect("that waited in line is launched, within the limits", () =>
    Effect.gen(function*() {
      const config = { concurrency: { total: 1 } }
      const first = yield* start({ config })
      const root = yield* first.do(working("work 1"))
      assert.deepStrictEqual(yield* first.do(states), ["running", "queued", "queued"])
      yield* first.killHost
      const next = yield* start({ config })
      yield* next.do(until(isWorking("work 1")))
      assert.deepStrictEqual((yield* next.do(states)).toSorted(), ["queued", "queued", "running"])
      yield* next.do(until(allTold))
      assert.deepStrictEqual((yield* next.do(tasks)).map(({ run }) => run), [2, 1, 1])
      assert.strictEqual(yield* sessionCount, 4)
      yield* pass("1 minute")
      const told = (yield* next.do(notices(root))).join("\n")
      for (const prompt of ["work 1", "work 2", "work 3"]) assert.lengthOf(told.split(`done: ${prompt}`), 2)
    }).pipe(withWorld({
      goal: delegates(["work 1", "work 2", "work 3"].map((prompt) => ({ prompt }))),
      work: works("20 seconds")
    })))

  it.effect.each(kills)(
    "whose session was made and not recorded goes on in it, and gets no second one: %s",
    ([, kill]) =>
      Effect.gen(function*() {
        const root = yield* dies(/^create "work/, "after", kill)
        assert.strictEqual(yield* sessionCount, 2)
        yield* (yield* start()).do(endedOnce(root, 1, "work 1"))
      }).pipe(withWorld(one))
  )

  it.effect.each(
    (["before", "after"] as const).flatMap((moment) => kills.map(([name, kill]) => [moment, name, kill] as const))
  )(
    "whose prompt was recorded and perhaps sent is prompted once, in the same run: %s it was sent, %s",
    ([moment, , kill]) =>
      Effect.gen(function*() {
        const root = yield* dies(/^prompt ses_000002/, moment, kill)
        yield* (yield* start()).do(endedOnce(root, 1, "work 1"))
      }).pipe(withWorld(one))
  )

  it.effect("whose next run was recorded and not sent is prompted with that, in that run", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const second = yield* start({ arm: [(name) => name.startsWith("prompt ses_000002"), "before"] })
      yield* doing(second.gate.crashed)
      yield* second.killHost
      yield* (yield* start()).do(endedOnce(root, 2, "work 1", stopped))
    }).pipe(withWorld(one)))

  it.effect("whose session was deleted meanwhile has failed, and its parent is told so", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      const session = yield* first.do(sessionOf("work 1"))
      yield* first.killHost
      const host = yield* SimulatedHost
      yield* host.restart
      yield* host.direct.delete(session)
      const next = yield* start()
      yield* next.do(until(allTold))
      assert.strictEqual((yield* next.do(task("work 1"))).state, "failed")
      yield* pass("1 minute")
      const told = yield* next.do(notices(root))
      assert.lengthOf(told, 1)
      assert.include(told[0], "Its session was deleted while OpenCode was stopped.")
    }).pipe(withWorld(one)))

  it.effect("whose parent was deleted meanwhile does not go on", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const host = yield* SimulatedHost
      yield* host.restart
      yield* host.direct.delete(root)
      const next = yield* start()
      yield* next.do(until(Effect.map(tasks, (all) => all.every((task) => isSettled(task) && task.told))))
      assert.isFalse(yield* next.do(isWorking("work 1")))
      assert.deepStrictEqual(yield* next.do(missions), [])
    }).pipe(withWorld(one)))

  it.effect("whose child could not be recorded, and was deleted with its parent, leaves nothing at work", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const host = yield* SimulatedHost
      const first = yield* start({ config: { concurrency: { total: 1 } } })
      const root = yield* first.do(working("work 1"))
      yield* disk.readOnly(true)
      yield* first.do(until(isWorking("stuck")))
      yield* first.kill
      yield* disk.readOnly(false)
      yield* host.direct.delete(root)
      assert.strictEqual((yield* host.direct.statuses).size, 1)
      const next = yield* start()
      yield* next.do(until(Effect.map(host.direct.statuses, (all) => all.size === 0), "10 seconds"))
    }).pipe(withWorld({ ...one, goal: delegates([{ prompt: "work 1" }, { prompt: "stuck" }]), stuck: hangs })))

  it.effect("that waits in line while its child still works is stopped when its parent is deleted", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(
        until(Effect.map(Effect.all([isWorking("work 1"), isWorking("work 2")]), (all) => all.every(Boolean)))
      )
      yield* first.kill
      const next = yield* start({ config: { concurrency: { total: 1 } } })
      yield* next.do(until(Effect.gen(function*() {
        const { position } = yield* Concurrency
        return (yield* Effect.forEach(yield* tasks, ({ id }) => position(id))).some((place) => place === 1)
      })))
      const host = yield* SimulatedHost
      yield* host.direct.delete(root)
      yield* next.do(until(Effect.map(host.direct.statuses, (all) => all.size === 0), "10 seconds"))
    }).pipe(withWorld({ goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }]), work: hangs })))

  it.effect("whose agent is not there any more fails with the names of those that are", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const root = yield* dies(/^create "work/, "before")
      const [path] = yield* files(".jsonl")
      yield* disk.put(path ?? "", yield* rewritten(path ?? "", (line) => line.replace("\"Builder\"", "\"Mason\"")))
      const next = yield* start()
      yield* next.do(until(allTold))
      assert.include((yield* next.do(task("work 1"))).reason, "No agent \"Mason\" to delegate to. Use one of: ")
      assert.lengthOf(yield* next.do(notices(root)), 1)
    }).pipe(withWorld(one)))
})

describe("goes on across restarts", () => {
  it.effect("a task that goes on in the session of an earlier one", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(isTold("work 1")))
      const session = yield* first.do(sessionOf("work 1"))
      const { id } = yield* first.do(task("work 1"))
      yield* first.do(use(root, "delegate_task", delegate({ prompt: "more", resume: id }).args))
      yield* first.do(until(Effect.map(tasks, (all) => all[1]?.state === "running")))
      yield* first.killHost
      const next = yield* start()
      yield* next.do(until(isTold("more")))
      const more = yield* next.do(task("more"))
      assert.strictEqual(more.session, session)
      assert.strictEqual(more.run, 2)
      assert.strictEqual(more.state, "completed")
      assert.strictEqual((yield* next.do(task("work 1"))).run, 1)
      yield* next.do(use(root, "delegate_task", delegate({ prompt: "still more", resume: id }).args))
      yield* next.do(until(isTold("still more")))
      assert.strictEqual(yield* next.do(sessionOf("still more")), session)
      assert.strictEqual(yield* sessionCount, 2)
    }).pipe(withWorld(one)))

  it.effect("a task that waited in line to go on in the session of an earlier one, and is no answer of that", () =>
    Effect.gen(function*() {
      const config = { concurrency: { total: 1 } }
      const first = yield* start({ config })
      const root = yield* first.do(say("goal"))
      yield* first.do(until(isTold("work 1")))
      const { id } = yield* first.do(task("work 1"))
      yield* first.do(use(root, "delegate_task", delegate({ prompt: "other 1" }).args))
      yield* first.do(until(isWorking("other 1")))
      yield* first.do(use(root, "delegate_task", delegate({ prompt: "more", resume: id }).args))
      assert.strictEqual((yield* first.do(task("more"))).state, "queued")
      yield* first.killHost
      const next = yield* start({ config })
      yield* next.do(until(isTold("more")))
      const { run, session, state } = yield* next.do(task("more"))
      assert.deepStrictEqual({ run, state }, { run: 1, state: "completed" })
      assert.deepStrictEqual(yield* next.do(heard(session ?? assert.fail("no session"))), ["work 1", "more"])
    }).pipe(withWorld({ ...one, other: works("30 seconds") })))

  it.effect("a cancelled task: its child is stopped, although its instance died before it had stopped it", () =>
    Effect.gen(function*() {
      const first = yield* start({ arm: [(name) => name.startsWith("abort"), "before"] })
      const root = yield* first.do(working("work 1"))
      const { id } = yield* first.do(task("work 1"))
      yield* first.do(Effect.exit(use(root, "cancel_task", { taskId: id })))
      assert.isTrue(yield* first.gate.isCrashed)
      yield* first.kill
      const next = yield* start()
      yield* next.do(until(allTold))
      assert.isFalse(yield* next.do(isWorking("work 1")))
      assert.strictEqual((yield* next.do(task("work 1"))).state, "cancelled")
      yield* pass("1 minute")
      assert.lengthOf(yield* next.do(notices(root)), 1)
    }).pipe(withWorld({ ...one, work: hangs })))

  it.effect(
    "everything, whatever effect of the recovering instance is its last, before or after it",
    () =>
      Effect.gen(function*() {
        const host = yield* SimulatedHost
        const disk = yield* MemoryDisk
        const config = { maxRuns: 3 }
        let crashes = 0
        for (const moment of ["before", "after", "torn"] as const) {
          for (let effect = 1;; effect++) {
            for (const path of yield* disk.list("/project")) yield* disk.fileSystem.remove(path)
            const first = yield* start({ config })
            const root = yield* first.do(say("goal"))
            yield* first.do(until(isWorking("slow")))
            yield* first.do(until(isState("quick", "completed")))
            yield* first.killHost
            const second = yield* start({ config, arm: [effect, moment] })
            yield* pass("2 minutes")
            const crashed = yield* second.gate.isCrashed
            const where = `${yield* second.gate.diedAt}`
            yield* second.killHost
            const third = yield* start({ config })
            yield* pass("3 minutes")
            const told = (yield* third.do(notices(root))).join("\n")
            for (const words of ["quick words", "slow words"]) {
              assert.lengthOf(told.split(words), 2, `${where}: ${told}`)
            }
            assert.isTrue(
              (yield* third.do(tasks)).every((task) => task.told && task.run <= 3),
              where
            )
            assert.lengthOf((yield* host.sessions).filter(({ parent }) => parent === root), 2, where)
            yield* third.end
            for (const { id } of yield* host.sessions) yield* host.direct.delete(id)
            if (!crashed) break
            crashes++
          }
        }
        assert.isAbove(crashes, 60)
      }).pipe(withWorld({
        goal: delegates([{ prompt: "quick" }, { prompt: "slow" }]),
        quick: says("quick words", "1 second"),
        slow: says("slow words", "30 seconds")
      })),
    60_000
  )
})

/** The text of a journal with changed lines, each with its checksum; an empty one is left out. */
const rewritten = (path: string, change: (line: string) => string) =>
  Effect.map(fileText(path), (text) =>
    text.split("\n").flatMap((line) => {
      const content = change(line.slice(9))
      let hash = 0x811c9dc5
      for (let i = 0; i < content.length; i++) hash = Math.imul(hash ^ content.charCodeAt(i), 0x01000193)
      return content === "" ? [] : [`${(hash >>> 0).toString(16).padStart(8, "0")} ${content}\n`]
    }).join(""))

/** The records of all tasks are gone. */
const forgetTasks = Effect.gen(function*() {
  const disk = yield* MemoryDisk
  for (const path of yield* files(".jsonl")) {
    yield* disk.put(path, yield* rewritten(path, (line) => line.includes("\"kind\":\"task\"") ? "" : line))
  }
})

describe("a child whose record is lost", () => {
  it.effect("is recognised by its metadata and resumed", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      const { id } = yield* first.do(task("work 1"))
      yield* first.killHost
      yield* forgetTasks
      const next = yield* start()
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
      const adopted = yield* next.do(task("work 1"))
      assert.strictEqual(adopted.id, id)
      assert.strictEqual(adopted.agent, "Builder")
      assert.strictEqual(adopted.description, "work 1")
      assert.strictEqual(adopted.mission, root)
    }).pipe(withWorld(one)))

  it.effect("is harvested when it had ended", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.kill
      yield* forgetTasks
      yield* pass("1 minute")
      const next = yield* start()
      yield* next.do(endedOnce(root, 1, "work 1"))
    }).pipe(withWorld(one)))

  it.effect("and that cannot be read keeps nothing else from going on", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      yield* forgetTasks
      yield* host.setFaults({ operations: { messages: { refused: 1 } } })
      const next = yield* start()
      yield* pass("8 seconds")
      yield* host.setFaults({})
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
    }).pipe(withWorld(one)))

  it.effect("is deleted when it never got an order", () =>
    Effect.gen(function*() {
      const root = yield* dies(/^prompt ses_000002/, "before")
      yield* forgetTasks
      const next = yield* start()
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* next.do(tasks), [])
      assert.strictEqual(yield* sessionCount, 1)
      assert.deepStrictEqual(yield* next.do(notices(root)), [])
    }).pipe(withWorld(one)))

  it.effect("is left alone while the instance that made it lives", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const other = yield* start({ process: yield* host.another })
      const otherRoot = yield* other.do(say("other"))
      yield* other.do(until(isWorking("slow")))
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const next = yield* start()
      yield* next.do(endedOnceOf(root))
      assert.deepStrictEqual((yield* next.do(tasks)).map(({ prompt }) => prompt), ["work 1"])
      yield* other.do(until(allTold))
      const slow = yield* other.do(task("slow"))
      assert.strictEqual(slow.run, 1)
      assert.deepStrictEqual(yield* other.do(heard(slow.session ?? assert.fail("no session"))), ["slow"])
      assert.lengthOf(yield* other.do(notices(otherRoot)), 1)
    }).pipe(withWorld({ ...one, other: delegates([{ prompt: "slow" }]), slow: works("3 minutes") })))
})

/** The root was told of the end of `work 1` once. */
const endedOnceOf = Effect.fnUntraced(function*(root: SessionId) {
  yield* until(isTold("work 1"))
  const told = yield* notices(root)
  assert.lengthOf(told, 1)
  assert.include(told[0], "done: work 1")
})

describe("a second OpenCode in the folder", () => {
  it.effect("is not disturbed by one that starts, dies and starts again", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      for (const round of [1, 2, 3]) {
        const other = yield* start({ process: yield* host.another })
        yield* pass("2 seconds")
        assert.deepStrictEqual(yield* other.do(tasks), [], `round ${round}`)
        yield* round === 3 ? other.end : other.killHost
      }
      yield* first.do(endedOnce(root, 1, "work 1"))
      assert.deepStrictEqual(yield* recoveryToasts, [])
    }).pipe(withWorld(one)))

  it.effect("goes on with what a dead one left when it starts, and that one finds nothing to do when it is back", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const other = yield* start({ process: yield* host.another })
      yield* host.offer({}, root)
      yield* other.do(until(isWorking("work 1")))
      const back = yield* start()
      yield* other.do(endedOnce(root, 2, "work 1", stopped))
      assert.deepStrictEqual(yield* back.do(tasks), [])
    }).pipe(withWorld(one)))
})

describe("tasks of tasks", () => {
  const lead = {
    goal: delegates([{ agent: "general", prompt: "lead" }]),
    lead: delegates([{ prompt: "work 1" }, { prompt: "work 2" }], "led"),
    work: works("20 seconds")
  }

  it.effect.each(ends)(
    "a parent that waits for its tasks goes on waiting, and is told of them: %s",
    ([, end]) =>
      Effect.gen(function*() {
        const first = yield* start()
        const root = yield* first.do(say("goal"))
        yield* first.do(until(Effect.map(tasks, (all) => all.some(({ waiting }) => waiting))))
        yield* first.do(until(isWorking("work 2")))
        yield* end(first)
        const next = yield* start()
        yield* next.do(until(allTold))
        yield* pass("5 minutes")
        assert.deepStrictEqual(yield* next.do(states), ["completed", "completed", "completed"])
        const leading = yield* next.do(task("lead"))
        assert.strictEqual(leading.result, "led")
        assert.strictEqual(leading.run, 1)
        const told = (yield* next.do(notices(leading.session ?? assert.fail("no session")))).join("\n")
        for (const prompt of ["work 1", "work 2"]) assert.lengthOf(told.split(`done: ${prompt}`), 2)
        const toldRoot = yield* next.do(notices(root))
        assert.lengthOf(toldRoot, 1)
        assert.include(toldRoot[0], "\nled")
        assert.strictEqual(yield* sessionCount, 4)
      }).pipe(withWorld(lead))
  )

  it.effect("a parent that was cut off in mid-work is told which of its tasks go on", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* first.do(say("goal"))
      yield* first.do(until(isWorking("lead")))
      yield* first.do(until(isWorking("work 1")))
      const { id } = yield* first.do(task("work 1"))
      yield* first.killHost
      const next = yield* start()
      yield* next.do(until(allTold))
      const leading = yield* next.do(task("lead"))
      assert.strictEqual(leading.run, 2)
      const texts = yield* next.do(heard(leading.session ?? assert.fail("no session")))
      assert.isTrue(texts[1]?.startsWith(stopped))
      assert.include(
        texts[1],
        `You need not delegate these tasks again, and will be told of their ends:\n- ${id} (Builder): work 1`
      )
      assert.lengthOf(texts.filter(isNotice), 1)
      assert.strictEqual(yield* sessionCount, 3)
    }).pipe(withWorld({
      ...lead,
      lead: replies({ toolCalls: [delegate({ prompt: "work 1" })] }, hangs, { text: "I wait." }, { text: "led" })
    })))

  it.effect.each(ends)(
    "a call that waited for its task is answered by a notice: %s",
    ([, end]) =>
      Effect.gen(function*() {
        const first = yield* start()
        const root = yield* first.do(working("work 1"))
        yield* end(first)
        const next = yield* start()
        yield* next.do(until(allTold))
        yield* pass("5 minutes")
        const told = yield* next.do(notices(root))
        assert.lengthOf(told, 1)
        const { reason, result, state } = yield* next.do(task("work 1"))
        assert.isTrue(state === "completed" || reason?.startsWith("Cancelled: the call that waited"), reason)
        assert.include(told[0], result ?? reason)
      }).pipe(withWorld({
        ...one,
        goal: delegates([{ prompt: "work 1", background: false }])
      }))
  )
})

describe("a notice", () => {
  it.effect.each(
    [
      ["before it was sent", "before", kills[0]],
      ["before it was sent", "before", kills[1]],
      ["after it was sent", "after", kills[0]],
      ["after it was sent", "after", kills[1]]
    ] as const
  )("comes once, and starts one turn, when the crash came %s", ([, moment, [, kill]]) =>
    Effect.gen(function*() {
      let spoken = 0
      // The first prompt to the root is the notice: the user's goes past the gate.
      const first = yield* start({ arm: [(name) => name === "prompt ses_000001" && ++spoken === 1, moment] })
      const root = yield* first.do(say("goal"))
      yield* doing(first.gate.crashed)
      yield* kill(first)
      const next = yield* start()
      yield* next.do(endedOnce(root, 1, "work 1"))
      assert.lengthOf(yield* next.do(callsWithNotice(root)), 1)
    }).pipe(withWorld(one)))

  it.effect.each(kills)(
    "comes once when the crash came after it had arrived: %s",
    ([, kill]) =>
      Effect.gen(function*() {
        let isSent = false
        const first = yield* start({
          arm: [(name) => {
            if (name === "prompt ses_000001") isSent = true
            return isSent && name.startsWith("write")
          }, "before"]
        })
        const root = yield* first.do(say("goal"))
        yield* doing(first.gate.crashed)
        assert.include(yield* first.gate.diedAt, "write")
        yield* kill(first)
        const next = yield* start()
        yield* next.do(endedOnce(root, 1, "work 1"))
      }).pipe(withWorld(one))
  )

  it.effect("comes once, whatever effect of an instance is its last, before or after it", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const disk = yield* MemoryDisk
      let crashes = 0
      for (const [, kill] of kills) {
        for (const moment of ["before", "after", "torn"] as const) {
          for (let effect = 1;; effect++) {
            for (const path of yield* disk.list("/project")) yield* disk.fileSystem.remove(path)
            const first = yield* start({ arm: [effect, moment] })
            const root = yield* first.do(Effect.exit(say("goal"))).pipe(
              Effect.flatMap((exit) =>
                exit._tag === "Success" ? Effect.succeed(exit.value) : Effect.map(
                  host.sessions,
                  (all) => all.findLast(({ parent }) => parent === undefined)?.id ?? assert.fail("no root")
                )
              )
            )
            yield* first.do(until(Effect.map(
              Effect.all([
                first.gate.isCrashed,
                Effect.map(missions, (all) => all.some(({ state }) => state !== "active"))
              ]),
              ([crashed, ended]) => crashed || ended
            )))
            yield* pass("2 seconds") // whatever still follows
            const crashed = yield* first.gate.isCrashed
            const where = `${yield* first.gate.diedAt}`
            yield* kill(first)
            const next = yield* start()
            yield* pass("90 seconds")
            const told = yield* next.do(notices(root))
            const all = yield* host.sessions
            const children = all.filter(({ parent }) => parent === root)
            if (told.length > 0 || children.length > 0) {
              assert.lengthOf(told.join("\n").split("done: work 1"), 2, `crash ${where}: ${told.join("\n---\n")}`)
              assert.isAtMost((yield* next.do(callsWithNotice(root))).length, 1, where)
              assert.lengthOf(children, 1, where)
            }
            yield* next.end
            for (const { id } of yield* host.sessions) yield* host.direct.delete(id)
            if (!crashed) break
            crashes++
          }
        }
      }
      assert.isAbove(crashes, 60)
    }).pipe(withWorld(one)), 60_000)

  it.effect.each(ends)("does not wake a parent that the user had aborted: %s", ([, end]) =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(isState("quick", "completed")))
      const host = yield* SimulatedHost
      yield* first.do(say("more", { session: root }))
      yield* first.do(until(Effect.map(calls(root), (all) => all.at(-1)?.outcome === "open")))
      yield* host.direct.abort(root)
      yield* first.do(until(Effect.map(mission, ({ state }) => state === "stopped")))
      yield* pass("100 millis")
      yield* end(first)
      const before = (yield* calls(root)).length
      const next = yield* start()
      yield* pass("5 minutes")
      assert.lengthOf(yield* calls(root), before)
      assert.strictEqual((yield* next.do(mission)).state, "stopped")
      assert.include((yield* next.do(notices(root))).join("\n"), "quick words")
      assert.isTrue((yield* next.do(tasks)).every((task) => isSettled(task) && task.told))
    }).pipe(withWorld({
      goal: replies(
        { toolCalls: [delegate({ prompt: "quick" }), delegate({ prompt: "slow" })] },
        { text: "I wait." },
        hangs
      ),
      quick: says("quick words", "1 second"),
      slow: hangs
    })))
})

describe("the record", () => {
  const prompted = () => {
    let prompts = 0
    return (name: string) => name.startsWith("prompt") && ++prompts === 2
  }

  it.effect.each(
    [
      ["making of a session", (name: string) => name.startsWith("create"), { state: "launching", ids: [] }],
      ["order", (name: string) => name.startsWith("prompt"), { state: "launching", ids: ["session", "promptId"] }],
      ["notice", prompted(), { state: "completed", ids: ["session", "promptId", "result", "notice"] }]
    ] as const
  )("is on disk before the %s that follows from it", ([, effect, { ids, state }]) =>
    Effect.gen(function*() {
      const first = yield* start({ arm: [effect, "before"] })
      yield* first.do(say("goal"))
      yield* doing(first.gate.crashed)
      const [path] = yield* files(".jsonl")
      const { tasks } = yield* readJournal(path ?? assert.fail("nothing was recorded"))
      const task = tasks[0] ?? assert.fail("no task was recorded")
      assert.strictEqual(task.state, state)
      const known = (["session", "promptId", "result", "notice"] as const).filter((id) => task[id] !== undefined)
      assert.deepStrictEqual(known, [...ids])
      yield* first.kill
    }).pipe(withWorld(one)))
})

describe("a mission", () => {
  const restarts = Effect.fnUntraced(function*(life: Life, end: (life: Life) => Effect.Effect<void>) {
    yield* pass("1 second") // what it knows is on disk by then
    yield* end(life)
    const next = yield* start()
    yield* next.do(until(Effect.map(missions, (all) => all.length > 0)))
    return next
  })

  it.effect.each(ends)(
    "comes back with its goal, its start and its continuations: %s",
    ([, end]) =>
      Effect.gen(function*() {
        const first = yield* start()
        const root = yield* first.do(say("goal: all of it"))
        yield* first.do(until(Effect.map(mission, ({ continuations }) => continuations === 3)))
        const before: Mission = yield* first.do(mission)
        const next = yield* restarts(first, end)
        const after = yield* next.do(mission)
        assert.deepStrictEqual({ ...after, countedAt: before.countedAt }, before)
        assert.isAbove(after.countedAt, before.countedAt)
        yield* next.do(until(Effect.map(mission, ({ state }) => state === "halted")))
        const texts = yield* next.do(heard(root))
        assert.isAtMost(texts.filter((text) => text.startsWith("CONTINUE.")).length, 5)
      }).pipe(withWorld({ "goal:": says("Hm.", "10 seconds") }))
  )

  it.effect.each(ends)("that the user stopped stays stopped: %s", ([, end]) =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(isWorking("goal")))
      yield* (yield* SimulatedHost).direct.abort(root)
      yield* first.do(until(Effect.map(mission, ({ state }) => state === "stopped")))
      const next = yield* restarts(first, end)
      yield* pass("10 minutes")
      assert.strictEqual((yield* next.do(mission)).state, "stopped")
      assert.deepStrictEqual(yield* next.do(heard(root)), ["goal"])
      assert.lengthOf(yield* calls(root), 1)
    }).pipe(withWorld({ goal: hangs })))

  it.effect.each(kills)(
    "that the user stopped just before the end, unrecorded, is stopped, with its tasks: %s",
    ([, kill]) =>
      Effect.gen(function*() {
        const first = yield* start()
        const root = yield* first.do(say("goal"))
        yield* first.do(until(isState("quick", "completed")))
        yield* first.do(until(isWorking("slow")))
        const host = yield* SimulatedHost
        yield* first.gate.arm((name) => name.startsWith("write"), "before")
        yield* host.direct.abort(root)
        yield* doing(first.gate.crashed)
        yield* kill(first)
        const before = (yield* calls(root)).length
        const next = yield* start()
        yield* next.do(until(allTold))
        yield* pass("5 minutes")
        assert.strictEqual((yield* next.do(mission)).state, "stopped")
        assert.lengthOf(yield* calls(root), before)
        assert.isFalse(yield* next.do(isWorking("slow")))
      }).pipe(withWorld({
        goal: replies({ toolCalls: [delegate({ prompt: "quick" }), delegate({ prompt: "slow" })] }, hangs),
        quick: says("quick words", "1 second"),
        slow: hangs
      }))
  )

  it.effect("whose Commander's turn had failed just before the end is halted, and says why", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.gate.arm((name) => name.startsWith("write"), "before")
      yield* doing(first.gate.crashed)
      yield* pass("1 second")
      yield* first.killHost
      const next = yield* start()
      yield* next.do(until(Effect.map(missions, (all) => all.some(({ state }) => state !== "active"))))
      assert.strictEqual((yield* next.do(mission)).state, "halted")
      assert.match((yield* toasts).join("\n"), /The Commander's turn failed: .*no credit/)
      assert.deepStrictEqual(yield* next.do(heard(root)), ["goal"])
    }).pipe(
      withWorld({ goal: () => Effect.delay(Effect.succeed({ status: 402, message: "no credit" }), "5 seconds") })
    ))

  it.effect("that was halted by a turn that failed is not woken by what its tasks still come to", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* until(first.do(Effect.map(mission, ({ state }) => state === "halted")))
      yield* first.kill
      yield* pass("1 minute")
      const before = yield* calls(root)
      const next = yield* start()
      yield* next.do(until(isTold("work 1")))
      yield* pass("1 minute")
      assert.lengthOf(yield* next.do(notices(root)), 1)
      assert.lengthOf(yield* calls(root), before.length)
    }).pipe(withWorld({
      ...one,
      goal: replies({ toolCalls: [delegate({ prompt: "work 1" })] }, { status: 401, message: "invalid api key" })
    })))

  it.effect("whose Commander was cut off in its turn goes on, and is told what happened and which tasks go on", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.do(until(isWorking("goal")))
      const { id } = yield* first.do(task("work 1"))
      const next = yield* restarts(first, (life) => life.killHost)
      yield* next.do(until(Effect.map(mission, ({ state }) => state === "complete")))
      const texts = yield* next.do(heard(root))
      assert.strictEqual(
        texts[1],
        [
          interruptedInstruction,
          "You need not delegate these tasks again, and will be told of their ends:",
          `- ${id} (Builder): work 1`
        ].join("\n")
      )
      assert.lengthOf(texts.filter(isNotice), 1)
      assert.strictEqual(yield* sessionCount, 2)
    }).pipe(withWorld({
      ...one,
      goal: replies({ toolCalls: [delegate({ prompt: "work 1" })] }, hangs, { text: "I wait." }, {
        text: "MISSION COMPLETE"
      })
    })))

  it.effect("whose goal the host had taken and not stored when it was killed gets it", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal")) // the host has said yes, and stores it a moment later
      yield* first.killHost
      const next = yield* start()
      yield* next.do(endedOnce(root, 1, "work 1"))
      assert.strictEqual((yield* next.do(heard(root)))[0], "goal")
    }).pipe(withWorld(one)))

  it.effect("that is complete wakes nobody", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(Effect.map(mission, ({ state }) => state === "complete")))
      const next = yield* restarts(first, (life) => life.killHost)
      const before = (yield* calls()).length
      yield* pass("10 minutes")
      assert.lengthOf(yield* calls(), before)
      assert.strictEqual((yield* next.do(mission)).root, root)
    }).pipe(withWorld(one)))
})

describe("the setting recovery", () => {
  const unfinished =
    "Unfinished tasks: An earlier OpenCode left unfinished tasks here. Type /resume to go on with them."

  it.effect("ask: says what was left, and does nothing until it is told to", () =>
    Effect.gen(function*() {
      const config = { recovery: "ask" }
      const first = yield* start({ config })
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const next = yield* start({ config })
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* recoveryToasts, [unfinished])
      assert.isFalse(yield* next.do(isWorking("work 1")))
      assert.deepStrictEqual(yield* next.do(tasks), [])
      assert.strictEqual(yield* next.do(resume), "1 mission goes on, 1 of the others goes on.")
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
      assert.strictEqual(yield* next.do(resume), "Nothing was left unfinished.")
    }).pipe(withWorld(one)))

  it.effect("ask: is silent where nothing is left to do", () =>
    Effect.gen(function*() {
      const config = { recovery: "ask" }
      const first = yield* start({ config })
      yield* first.do(say("goal"))
      yield* first.do(until(Effect.map(mission, ({ state }) => state === "complete")))
      yield* first.killHost
      yield* start({ config })
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* recoveryToasts, [])
    }).pipe(withWorld(one)))

  it.effect("off: leaves everything as it is", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* first.do(working("work 1"))
      yield* first.killHost
      const before = yield* files(".jsonl")
      const next = yield* start({ config: { recovery: "off" } })
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* recoveryToasts, [])
      assert.deepStrictEqual(yield* next.do(tasks), [])
      assert.deepStrictEqual(yield* files(".jsonl"), before)
    }).pipe(withWorld(one)))

  it.effect("auto: what another machine left, as in a repository, waits for the user's word", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const [path] = yield* files(".jsonl")
      const text = yield* fileText(path ?? "")
      for (const file of yield* disk.list(folder)) yield* disk.fileSystem.remove(file)
      yield* disk.put(`${folder}/elsewhere1-abcdefghij.jsonl`, text)
      const next = yield* start()
      yield* pass("10 minutes")
      assert.deepStrictEqual(yield* next.do(tasks), [])
      assert.deepStrictEqual(yield* recoveryToasts, [
        "Unfinished tasks: The project holds unfinished tasks from another machine. Type /resume to go on with them, if "
        + "you trust their origin."
      ])
      assert.strictEqual(yield* next.do(resume), "1 mission goes on, 1 of the others goes on.")
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
    }).pipe(withWorld(one)))
})

describe("a damaged journal", () => {
  const damage = Effect.gen(function*() {
    const disk = yield* MemoryDisk
    const [path] = yield* files(".jsonl")
    yield* disk.put(path ?? "", `${yield* fileText(path ?? "")}garbage\n12345678 {"half`)
  })

  it.effect("is set aside as far as it cannot be read, which is told once; the rest goes on", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      yield* damage
      const next = yield* start()
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
      const [aside, ...others] = yield* files(".damaged")
      assert.deepStrictEqual(others, [])
      assert.strictEqual(yield* fileText(aside ?? ""), "garbage\n12345678 {\"half\n")
      yield* next.killHost
      yield* start()
      yield* pass("1 minute")
      assert.deepStrictEqual((yield* recoveryToasts).filter((text) => text.startsWith("A journal")), [
        `A journal was damaged: 2 records of an earlier run could not be read; kept in ${aside}.`
      ])
    }).pipe(withWorld(one)))

  it.effect("that cannot be taken over is told of once for each restart at most", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      yield* damage
      for (const round of [1, 2]) {
        const next = yield* start({ arm: [(name) => name.startsWith("remove") && name.endsWith(".jsonl"), "before"] })
        yield* doing(next.gate.crashed)
        yield* next.killHost
        assert.lengthOf((yield* recoveryToasts).filter((text) => text.startsWith("A journal")), round)
      }
      yield* (yield* start()).do(endedOnceOf(root))
    }).pipe(withWorld(one)))

  it.effect("of a release to come is kept as it is, under a name that says so", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const first = yield* start()
      yield* first.do(working("work 1"))
      yield* first.killHost
      const [path] = yield* files(".jsonl")
      const text = yield* rewritten(path ?? "", (line) => line.replace("\"version\":1", "\"version\":2"))
      yield* disk.put(path ?? "", text)
      const next = yield* start()
      yield* pass("1 minute")
      const [aside, ...others] = yield* files(".unknown-version")
      assert.deepStrictEqual(others, [])
      assert.strictEqual(yield* fileText(aside ?? ""), text)
      assert.lengthOf((yield* recoveryToasts).filter((text) => text.startsWith("A journal of another release")), 1)
      assert.deepStrictEqual(yield* next.do(missions), [])
    }).pipe(withWorld(one)))

  it.effect("leaves no file behind when its owner died while it compacted", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      const [path] = yield* files(".jsonl")
      yield* disk.put(`${path}.new`, "half of it")
      const next = yield* start()
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
      assert.deepStrictEqual(yield* files(".new"), [])
      const journals = yield* files(".jsonl")
      assert.lengthOf(journals, 1)
      assert.lengthOf((yield* readJournal(journals[0] ?? "")).tasks, 1)
    }).pipe(withWorld(one)))
})

describe("a disk that cannot be written when an instance starts", () => {
  it.effect.each(
    [
      ["read-only", (disk: MemoryDisk["Service"]) => disk.readOnly(true)],
      ["full", (disk: MemoryDisk["Service"]) => disk.full(true)],
      ["full after the lease", (disk: MemoryDisk["Service"]) => disk.full(true, 300)]
    ] as const
  )(
    "%s: what was left waits, and goes on by itself when that is mended",
    ([, spoil]) =>
      Effect.gen(function*() {
        const disk = yield* MemoryDisk
        const first = yield* start()
        const root = yield* first.do(working("work 1"))
        yield* first.killHost
        yield* spoil(disk)
        const next = yield* start()
        yield* pass("2 minutes")
        assert.deepStrictEqual(yield* next.do(tasks), [])
        assert.isTrue((yield* next.do(resume)).startsWith("Some tasks cannot be taken over yet"))
        yield* disk.readOnly(false)
        yield* disk.full(false)
        yield* next.do(endedOnce(root, 2, "work 1", stopped))
      }).pipe(withWorld(one))
  )

  it.effect("preferred: what goes on without a record keeps the one it had, and survives the next crash", () =>
    Effect.gen(function*() {
      const config = { journal: "preferred", maxRuns: 3 }
      const disk = yield* MemoryDisk
      const first = yield* start({ config })
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      yield* disk.full(true, 300)
      const second = yield* start({
        config,
        arm: [(name) => name.startsWith("remove") && name.includes(".claims."), "after"]
      })
      yield* second.do(until(isWorking("work 1")))
      assert.strictEqual((yield* second.do(task("work 1"))).run, 2)
      yield* second.do(resume)
      assert.strictEqual((yield* second.do(task("work 1"))).run, 2)
      assert.lengthOf(yield* calls(yield* second.do(sessionOf("work 1"))), 2)
      yield* second.killHost
      yield* disk.full(false)
      const third = yield* start({ config })
      yield* third.do(until(allTold))
      assert.strictEqual((yield* third.do(task("work 1"))).state, "completed")
      yield* pass("1 minute")
      assert.lengthOf(yield* third.do(notices(root)), 1)
    }).pipe(withWorld(one)))

  it.effect("one journal that cannot be read does not keep the others from going on", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      const first = yield* start()
      const root = yield* first.do(working("work 1"))
      yield* first.killHost
      yield* disk.fileSystem.makeDirectory(`${folder}/simulated1-aaaaaaaaaa.jsonl`)
      const next = yield* start()
      yield* next.do(endedOnce(root, 2, "work 1", stopped))
    }).pipe(withWorld(one)))
})

describe("a result", () => {
  it.effect("of a megabyte comes through a restart whole", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const root = yield* first.do(say("goal"))
      yield* first.do(until(isTold("work 1")))
      const { id } = yield* first.do(task("work 1"))
      yield* first.killHost
      const next = yield* start()
      yield* pass("1 second")
      const answer = yield* next.do(use(root, "get_task_result", { taskId: id }))
      assert.strictEqual(answer.slice(answer.indexOf("\n") + 1), "0123456789".repeat(100_000))
    }).pipe(withWorld({ ...one, work: says("0123456789".repeat(100_000), "5 seconds") })))
})
