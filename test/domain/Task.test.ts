import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Option, Schema } from "effect"
import { MessageId, noTries, noUsage, SessionId } from "../../src/domain/Session.ts"
import {
  duration,
  endStates,
  formatDuration,
  further,
  headline,
  isSettled,
  isUntold,
  outcome,
  Task,
  type TaskEnd,
  type TaskEvent,
  TaskId,
  transition
} from "../../src/domain/Task.ts"

const child = SessionId.make("ses_child")
const prompt = MessageId.make("msg_1")

const queued: Task = {
  id: TaskId.make("task_1"),
  mission: SessionId.make("ses_root"),
  parent: SessionId.make("ses_root"),
  agent: "Builder",
  description: "write the parser",
  prompt: "Write the parser.",
  background: true,
  depth: 1,
  run: 1,
  state: "queued",
  waiting: false,
  createdAt: 1_000,
  activityAt: 1_000,
  usage: noUsage,
  told: false
}

const life: ReadonlyArray<TaskEvent> = [
  { type: "launching", run: 1 },
  { type: "created", run: 1, session: child },
  { type: "prompting", run: 1, promptId: prompt },
  { type: "prompted", run: 1 },
  { type: "resumed", run: 2, promptId: MessageId.make("msg_2") },
  { type: "ended", run: 2, end: { state: "completed", result: "done" } },
  { type: "telling", notice: MessageId.make("msg_notice") },
  { type: "told" }
]

/** A task that has lived through the first `steps` events of an ordinary life, one second apart. */
const after = (steps: number): Task =>
  life.slice(0, steps).reduce((task, event, step) => transition(task, event, 2_000 + step * 1_000), queued)

const running = after(4)
const completed = transition(running, { type: "ended", run: 1, end: { state: "completed", result: "done" } }, 9_000)

const ended = (end: TaskEnd): Task => transition(running, { type: "ended", run: 1, end }, 9_000)

const mending = { says: "Overloaded: goes on in 10 s.", until: 15_000, instruction: "Go on." }

const text = Schema.Literals(["", "a", "b"])
const run = Schema.Literals([0, 1, 2, 3])

const anyEnd: Arbitrary.Arbitrary<TaskEnd> = Arbitrary.map(
  Arbitrary.schema(Schema.Struct({ state: Schema.Literals(endStates), text })),
  ({ state, text }) => state === "completed" ? { state, result: text } : { state, reason: text }
)

const anyEvent: Arbitrary.Arbitrary<TaskEvent> = Arbitrary.map(
  Arbitrary.all({
    type: Arbitrary.schema(
      Schema.Literals([
        "launching",
        "created",
        "prompting",
        "prompted",
        "resumed",
        "mending",
        "retrying",
        "retried",
        "waiting",
        "interrupted",
        "stalled",
        "detached",
        "seen",
        "used",
        "ended",
        "telling",
        "told"
      ])
    ),
    run: Arbitrary.schema(run),
    flag: Arbitrary.schema(Schema.Boolean),
    text: Arbitrary.schema(text),
    end: anyEnd
  }),
  ({ end, flag, run, text, type }): TaskEvent => {
    switch (type) {
      case "launching":
        return { type, run }
      case "created":
        return { type, run, session: SessionId.make(`ses_${text}`) }
      case "prompted":
      case "interrupted":
      case "retried":
        return { type, run }
      case "mending":
        return { type, run, tries: { ...noTries, spent: text.length }, mending: { ...mending, instruction: text } }
      case "stalled":
        return { type, run, what: text }
      case "prompting":
      case "resumed":
      case "retrying":
        return { type, run, promptId: MessageId.make(`msg_${text}`) }
      case "waiting":
        return { type, run, waiting: flag }
      case "seen":
        return { type, retrying: flag ? text : undefined, asking: text === "a" }
      case "used":
        return { type, usage: { ...noUsage, output: text.length } }
      case "ended":
        return { type, run, end }
      case "telling":
        return { type, notice: MessageId.make(`msg_notice_${text}`) }
      case "detached":
      case "told":
        return { type }
    }
  }
)

const stage = Schema.Literals([0, 1, 2, 3, 4, 5, 6, 7, 8])
const histories = { stage, events: Arbitrary.array(anyEvent, { maxLength: 25 }) }
const seeded = { arbitrary: { runs: 500, seed: 20_260_727 } }

/** Every step of a task's life from `stage` on: before, event, after. */
const steps = ({ events, stage }: { readonly stage: number; readonly events: ReadonlyArray<TaskEvent> }) => {
  let before = after(stage)
  return events.map((event, index) => {
    const now = 20_000 + index
    const next = transition(before, event, now)
    const step = { before, event, next, now }
    before = next
    return step
  })
}

describe("whatever happens to a task", () => {
  it.prop("it stays a task that can be stored", histories, (history) => {
    for (const { next } of steps(history)) assert.isTrue(Schema.is(Task)(next), JSON.stringify(next))
  }, seeded)

  it.prop("an end state absorbs: only the telling, the way of it and the usage still change", histories, (history) => {
    for (const { before, next } of steps(history)) {
      if (!isSettled(before)) continue
      const { notice: _notice, ...rest } = next
      const { notice: _before, ...expected } = before
      assert.deepStrictEqual(
        { ...rest, told: before.told, usage: before.usage, background: before.background },
        expected
      )
    }
  }, seeded)

  it.prop("news of another run changes nothing, save the resumption that starts the next", histories, (history) => {
    for (const { before, event, next } of steps(history)) {
      if (!("run" in event) || event.run === before.run) continue
      if (event.type === "resumed" && event.run === before.run + 1 && before.state === "running") {
        assert.strictEqual(next.run, event.run)
      } else {
        assert.strictEqual(next, before)
      }
    }
  }, seeded)

  it.prop("the run never decreases and grows one at a time", histories, (history) => {
    for (const { before, next } of steps(history)) assert.include([before.run, before.run + 1], next.run)
  }, seeded)

  it.prop("it is completed only from running, and has a result exactly then", histories, (history) => {
    for (const { before, next } of steps(history)) {
      if (next.state === "completed" && before.state !== "completed") assert.strictEqual(before.state, "running")
      assert.strictEqual(next.result !== undefined, next.state === "completed")
    }
  }, seeded)

  it.prop("it is told, and its notice made, only after it has settled; neither is taken back", histories, (history) => {
    for (const { before, next } of steps(history)) {
      if (next.told || next.notice !== undefined) assert.isTrue(isSettled(next))
      if (before.told) assert.isTrue(next.told)
      if (before.notice !== undefined) assert.strictEqual(next.notice, before.notice)
    }
  }, seeded)

  it.prop("its state only moves forward", histories, (history) => {
    const order = ["queued", "launching", "running"]
    for (const { before, next } of steps(history)) {
      if (isSettled(next)) continue
      assert.isFalse(isSettled(before))
      assert.isAtLeast(order.indexOf(next.state), order.indexOf(before.state))
    }
  }, seeded)

  it.prop("it has an end time exactly when it has ended, and then neither waits nor retries", histories, (history) => {
    for (const { next } of steps(history)) {
      assert.strictEqual(next.endedAt !== undefined, isSettled(next))
      if (isSettled(next)) {
        assert.isFalse(next.waiting)
        assert.isUndefined(next.retrying)
        assert.isUndefined(next.asking)
        assert.isUndefined(next.stalled)
      }
    }
  }, seeded)

  it.prop("the same end seen twice changes nothing the second time", { ...histories, end: anyEnd }, (history) => {
    const task = steps(history).at(-1)?.next ?? after(history.stage)
    const once = transition(task, { type: "ended", run: task.run, end: history.end }, 50_000)
    assert.strictEqual(transition(once, { type: "ended", run: task.run, end: history.end }, 60_000), once)
  }, seeded)

  it.prop("a live task can always be ended in every way but completion", { stage, end: anyEnd }, ({ end, stage }) => {
    const task = after(stage)
    if (isSettled(task) || end.state === "completed") return
    const next = transition(task, { type: "ended", run: task.run, end }, 50_000)
    assert.strictEqual(next.state, end.state)
    assert.strictEqual(next.reason, end.reason)
    assert.strictEqual(next.endedAt, 50_000)
  }, seeded)
})

describe("an ordinary life", () => {
  it("goes from queued through launching and running to its end, and is told once", () => {
    assert.deepStrictEqual([0, 1, 2, 3, 4, 5, 6].map((steps) => after(steps).state), [
      "queued",
      "launching",
      "launching",
      "launching",
      "running",
      "running",
      "completed"
    ])
    assert.strictEqual(after(4).startedAt, 5_000)
    assert.strictEqual(after(5).startedAt, 5_000)
    assert.strictEqual(after(5).promptId, "msg_2")
    assert.isTrue(isUntold(after(6)))
    assert.isTrue(isUntold(after(7)))
    assert.isFalse(isUntold(after(8)))
    const told = after(8)
    assert.strictEqual(transition(told, { type: "told" }, 99_000), told)
  })

  it("a task is not prompted before it has a session", () => {
    const launching = after(1)
    assert.strictEqual(transition(launching, { type: "prompting", run: 1, promptId: prompt }, 5_000), launching)
    assert.strictEqual(transition(launching, { type: "prompted", run: 1 }, 5_000), launching)
  })

  it("a task that goes on in an earlier session keeps that session", () => {
    const launching = transition({ ...queued, session: child }, { type: "launching", run: 1 }, 2_000)
    const other: TaskEvent = { type: "created", run: 1, session: SessionId.make("ses_other") }
    assert.strictEqual(transition(launching, other, 3_000), launching)
    assert.strictEqual(transition(launching, { type: "prompting", run: 1, promptId: prompt }, 3_000).session, child)
  })

  it("a provider's retry is shown until the host reports something else", () => {
    const retrying = transition(running, { type: "seen", retrying: "overloaded" }, 5_000)
    assert.deepStrictEqual(retrying.retrying, { message: "overloaded", since: 5_000 })
    assert.strictEqual(retrying.activityAt, 5_000)
    const still = transition(retrying, { type: "seen", retrying: "still overloaded" }, 5_500)
    assert.deepStrictEqual(still.retrying, { message: "still overloaded", since: 5_000 })
    const again = transition(retrying, { type: "seen" }, 6_000)
    assert.isFalse("retrying" in again)
    assert.strictEqual(again.activityAt, 6_000)
  })

  it("usage reported after the end is still counted, without a sign of life", () => {
    const usage = { ...noUsage, output: 7, cost: 0.5 }
    const late = transition(completed, { type: "used", usage }, 10_000)
    assert.deepStrictEqual(late, { ...completed, usage })
    assert.strictEqual(transition(completed, { type: "seen" }, 10_000), completed)
  })

  it("a resumed task no longer waits", () => {
    const waiting = transition(running, { type: "waiting", run: 1, waiting: true }, 5_000)
    assert.isTrue(waiting.waiting)
    assert.strictEqual(transition(waiting, { type: "waiting", run: 1, waiting: true }, 6_000), waiting)
    assert.isFalse(transition(waiting, { type: "resumed", run: 2, promptId: prompt }, 6_000).waiting)
  })

  it("an ended task neither waits nor retries any more", () => {
    const waiting = transition(running, { type: "waiting", run: 1, waiting: true }, 5_000)
    const retrying = transition(waiting, { type: "seen", retrying: "overloaded" }, 6_000)
    const failed = transition(retrying, { type: "ended", run: 1, end: { state: "failed", reason: "no" } }, 7_000)
    assert.isFalse(failed.waiting)
    assert.isFalse("retrying" in failed)
  })
})

describe("a task that gets over an error of its turn", () => {
  const again = MessageId.make("msg_again")
  const other = { provider: "openai", model: "gpt" }
  const tries = { ...noTries, spent: 1 }
  const held = transition(running, { type: "mending", run: 1, tries, mending: { ...mending, model: other } }, 5_000)
  const going = transition(held, { type: "retrying", run: 1, promptId: again }, 15_000)
  const gone = transition(going, { type: "retried", run: 1 }, 16_000)

  it("stays in its run, and is prompted anew, with the other model", () => {
    assert.deepStrictEqual(gone, { ...running, tries, model: other, promptId: again, activityAt: 16_000 })
  })

  it("keeps its prompt and its model until it was told to go on", () => {
    for (const task of [held, going]) {
      assert.strictEqual(task.promptId, running.promptId)
      assert.strictEqual(task.model, running.model)
    }
  })

  it("is told under one id only", () => {
    const twice = { type: "retrying", run: 1, promptId: MessageId.make("msg_other") } as const
    assert.strictEqual(transition(going, twice, 15_500), going)
    assert.strictEqual(transition(gone, { type: "retried", run: 1 }, 17_000), gone)
    assert.strictEqual(transition(gone, twice, 17_000), gone)
  })

  it("can end all the while, and then goes nowhere", () => {
    const cancelled = transition(held, { type: "ended", run: 1, end: { state: "cancelled", reason: "no" } }, 6_000)
    assert.strictEqual(cancelled.mending, undefined)
    assert.strictEqual(transition(cancelled, { type: "retrying", run: 1, promptId: again }, 15_000), cancelled)
  })

  it("moves forward only: the later of two records is kept", () => {
    const moments = [running, held, going, gone]
    moments.forEach((later, place) => {
      for (const earlier of moments.slice(0, place)) {
        assert.strictEqual(further(earlier, later), later)
        assert.strictEqual(further(later, earlier), later)
      }
    })
  })

  it("is read from a journal of an earlier release, which knows nothing of it", () => {
    const { mending: _, tries: __, ...old } = held
    const read = (task: unknown) =>
      Option.getOrThrow(Schema.decodeUnknownOption(Task)(JSON.parse(JSON.stringify(task))))
    assert.deepStrictEqual(read(old), old)
    assert.deepStrictEqual(read(going), going)
  })
})

describe("further", () => {
  it.prop("of two moments of one life, the later one is kept, whichever comes first", histories, (history) => {
    let before = after(history.stage)
    for (const { next } of steps(history)) {
      assert.deepStrictEqual(progress(further(before, next)), progress(next))
      assert.deepStrictEqual(progress(further(next, before)), progress(next))
      before = next
    }
  }, seeded)
})

/** All of a task that only moves forward. */
const progress = (task: Task) => [task.state, task.told, task.run, task.result, task.reason]

describe("headline", () => {
  const line = (task: Task) => isSettled(task) ? headline(task, 60_000) : "not ended"

  it("says what became of the task, how long it took, who did it and what it was", () => {
    assert.strictEqual(line(completed), "task_1 completed after 4 s · Builder · write the parser")
    assert.strictEqual(
      line(ended({ state: "failed", reason: "no" })),
      "task_1 failed after 4 s · Builder · write the parser"
    )
    assert.strictEqual(
      line(ended({ state: "cancelled", reason: "no" })),
      "task_1 was cancelled after 4 s · Builder · write the parser"
    )
    assert.strictEqual(
      line(ended({ state: "timed_out", reason: "no" })),
      "task_1 ran out of time after 4 s · Builder · write the parser"
    )
  })
})

describe("outcome", () => {
  it("is the result, without the space around it", () => {
    assert.strictEqual(outcome({ ...completed, result: "\n All done.\n" }), "All done.")
  })

  it("says (no output) for a blank result", () => {
    assert.strictEqual(outcome({ ...completed, result: " \n\t" }), "(no output)")
    assert.strictEqual(outcome({ ...completed, result: "" }), "(no output)")
  })

  it("is the reason of a task that ended without a result", () => {
    assert.strictEqual(outcome(ended({ state: "failed", reason: "The model is gone." })), "The model is gone.")
    const { reason: _, ...unexplained } = ended({ state: "failed", reason: "" })
    assert.strictEqual(outcome(unexplained), "No reason was recorded.")
  })
})

describe("duration", () => {
  it("counts from the start of the work to its end", () => assert.strictEqual(duration(completed, 60_000), 4_000))
  it("counts to now while the task runs", () => assert.strictEqual(duration(running, 6_500), 1_500))
  it("counts from the order before the task has started", () => assert.strictEqual(duration(queued, 6_500), 5_500))
})

describe("formatDuration", () => {
  it.each([
    [-5, "0 ms"],
    [0, "0 ms"],
    [320, "320 ms"],
    [999, "999 ms"],
    [1_000, "1 s"],
    [12_400, "12 s"],
    [59_499, "59 s"],
    [59_999, "1 min"],
    [60_000, "1 min"],
    [184_000, "3 min 4 s"],
    [3_599_999, "1 h"],
    [3_600_000, "1 h"],
    [7_500_000, "2 h 5 min"],
    [90_000_000, "25 h"]
  ])("writes %i ms as %s", (ms, words) => assert.strictEqual(formatDuration(ms), words))

  it.prop(
    "never writes a part that belongs to the next unit",
    { ms: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 400_000_000 })) },
    ({ ms }) => assert.notMatch(formatDuration(ms), /\b(60|1000) (ms|s|min)|\b0 (s|min)/),
    seeded
  )
})
