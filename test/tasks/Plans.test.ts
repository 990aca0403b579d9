import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { Config, defaults } from "../../src/Config.ts"
import type { StartedPlan } from "../../src/domain/Plan.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { TaskId } from "../../src/domain/Task.ts"
import { Plans } from "../../src/tasks/Plans.ts"
import { TaskJournal } from "../../src/tasks/TaskJournal.ts"

const plan: StartedPlan = {
  id: "plan_1",
  root: SessionId.make("ses_root"),
  by: "Commander",
  nodes: ["T1", "T2"].map((id) => ({
    id,
    text: id,
    agent: "Builder",
    depends: [],
    files: [],
    prompt: id,
    task: TaskId.make(`task_${id}`)
  })),
  createdAt: 1,
  ended: {},
  retries: 1,
  state: "running"
}

/** T1 has failed, and is to be run again. */
const later = Effect.gen(function*() {
  const plans = yield* Plans
  yield* plans.add({ ...plan, ended: { T1: "failed", T2: "completed" } })
  const [first] = plan.nodes
  if (first !== undefined) yield* plans.redo(plan.id, [{ ...first, task: TaskId.make("task_again") }], "T1")
  const [found] = yield* plans.all
  return found ?? assert.fail("there is no plan")
})

const fresh = Plans.layer.pipe(Layer.provide(Layer.mergeAll(TaskJournal.layerMemory, Config.layer(defaults))))

it.effect("what is to be run again has a new task, and no end any more", () =>
  Effect.gen(function*() {
    const { ended, nodes, tried } = yield* later
    assert.deepStrictEqual(nodes.map(({ task }) => task as string), ["task_again", "task_T2"])
    assert.deepStrictEqual(ended, { T2: "completed" })
    assert.deepStrictEqual(tried, { T1: 1 })
  }).pipe(Effect.provide(fresh)))

it.effect.each([[0, 1], [1, 0]])(
  "of two records of a plan, the one that is further along is kept: %s",
  (order) =>
    Effect.gen(function*() {
      const ahead = yield* Effect.provide(later, Layer.fresh(fresh))
      const records = [{ ...plan, ended: { T1: "failed" as const } }, ahead]
      const plans = yield* Plans
      for (const index of order) yield* plans.adopt(records[index] ?? plan)
      assert.deepStrictEqual(yield* plans.all, [ahead])
    }).pipe(Effect.provide(fresh))
)

it.effect("who waits for the end of a plan is given it as it is then; also who comes later", () =>
  Effect.gen(function*() {
    const plans = yield* Plans
    yield* plans.add(plan)
    const waiting = yield* Effect.forkChild(plans.settled(plan.id), { startImmediately: true })
    yield* plans.ended(plan.id, "T1", "completed")
    assert.isUndefined(waiting.pollUnsafe())
    yield* plans.over(plan.id)
    const over: StartedPlan = { ...plan, ended: { T1: "completed" }, state: "over" }
    assert.deepStrictEqual(yield* plans.settled(plan.id), over)
    yield* plans.forget(plan.id)
    assert.deepStrictEqual(yield* Fiber.join(waiting), over)
    assert.isUndefined(yield* plans.settled(plan.id))
  }).pipe(Effect.provide(fresh)))
