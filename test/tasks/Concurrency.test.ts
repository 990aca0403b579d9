import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Config, readConfig } from "../../src/Config.ts"
import type { ModelRef } from "../../src/domain/Session.ts"
import { TaskId } from "../../src/domain/Task.ts"
import { Concurrency, type SlotRequest } from "../../src/tasks/Concurrency.ts"

interface Limits {
  readonly total?: number
  readonly agent?: number
  readonly agents?: Readonly<Record<string, number>>
  readonly models?: Readonly<Record<string, number>>
  readonly providers?: Readonly<Record<string, number>>
  readonly growEvery?: string
}

const withLimits = (concurrency: Limits) =>
  Concurrency.layer.pipe(Layer.provide(Config.layer(readConfig({ concurrency }, "test").values)))

const sonnet: ModelRef = { provider: "anthropic", model: "sonnet" }
const haiku: ModelRef = { provider: "anthropic", model: "haiku" }
const gpt: ModelRef = { provider: "openai", model: "gpt" }

const request = (task: string, agent = "Builder", model?: ModelRef): SlotRequest => ({
  task: TaskId.make(task),
  agent,
  model
})

/** Lets every fiber run as far as it can. */
const settle = TestClock.adjust(0)

/** A task that holds its slot until `finish`; `started` and `ended` tell what has become of it. */
const hold = Effect.fnUntraced(function*(request: SlotRequest) {
  const concurrency = yield* Concurrency
  const finish = yield* Deferred.make<void>()
  const state = { started: false, ended: false }
  const fiber = yield* Effect.forkChild(
    Effect.gen(function*() {
      yield* concurrency.slot(request)
      state.started = true
      yield* Deferred.await(finish)
    }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => (state.ended = true))))
  )
  yield* settle
  return { state, fiber, finish: Deferred.succeed(finish, undefined).pipe(Effect.andThen(settle)) }
})

/** Takes a slot in a scope of its own, which `close` closes; after `closeNow`, nobody has acted on it yet. */
const take = Effect.fnUntraced(function*(request: SlotRequest) {
  const concurrency = yield* Concurrency
  const scope = yield* Scope.make()
  const slot = yield* concurrency.slot(request).pipe(Scope.provide(scope))
  const closeNow = Scope.close(scope, Exit.void)
  return { slot, closeNow, close: Effect.andThen(closeNow, settle) }
})

/** Parks a slot until `unpark`; the fiber ends when the slot is held again. */
const park = Effect.fnUntraced(function*({ slot }: Effect.Success<ReturnType<typeof take>>) {
  const over = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkChild(slot.parkedWhile(Deferred.await(over)))
  yield* settle
  return { fiber, unpark: Deferred.succeed(over, undefined).pipe(Effect.andThen(settle)) }
})

const done = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.pollUnsafe() !== undefined

const held = Concurrency.use((concurrency) => concurrency.held)
const position = (task: string) => Concurrency.use((concurrency) => concurrency.position(TaskId.make(task)))

/** Every slot that the limits allow is there again: as many tasks as `total` start at once. */
const allFree = Effect.fnUntraced(function*(total: number) {
  assert.strictEqual(yield* held, 0)
  const takes = Array.from({ length: total }, (_, n) => take(request(`task_free${n}`, `agent ${n}`)))
  const taken = yield* Effect.forkChild(Effect.all(takes))
  yield* settle
  assert.isTrue(done(taken), "not all slots are free")
  for (const { close } of yield* Fiber.join(taken)) yield* close
  assert.strictEqual(yield* held, 0)
})

describe("limits", () => {
  const limits = {
    total: 9,
    agent: 3,
    agents: { Builder: 5, Architect: 1 },
    models: { "anthropic/sonnet": 2 },
    providers: { anthropic: 4 }
  }
  const limitOf: Readonly<Record<string, number>> = {
    total: 9,
    Builder: 5,
    Architect: 1,
    Inspector: 3,
    Researcher: 3,
    "anthropic/sonnet": 2,
    anthropic: 4
  }
  const agents = ["Builder", "Architect", "Inspector", "Researcher"]
  const models = [undefined, sonnet, haiku, gpt]

  it.effect.each([1, 2, 3, 4, 5, 6, 7, 8])(
    "hold at every moment for 200 tasks that finish, fail, park and are interrupted, and all slots are free afterwards (seed %i)",
    (seed) =>
      Effect.gen(function*() {
        const concurrency = yield* Concurrency
        const running = new Map<string, number>()
        const most = new Map<string, number>()
        let finished = 0
        const counted = (names: ReadonlyArray<string>, by: 1 | -1) =>
          Effect.sync(() => {
            for (const name of names) {
              const now = (running.get(name) ?? 0) + by
              running.set(name, now)
              most.set(name, Math.max(most.get(name) ?? 0, now))
            }
          })
        const pick = <A>(from: ReadonlyArray<A>) =>
          Effect.map(Random.nextIntBetween(0, from.length, { halfOpen: true }), (n) => from.slice(n)[0])
        const wait = Effect.flatMap(Random.nextIntBetween(1, 200), Effect.sleep)

        const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
        for (let n = 0; n < 200; n++) {
          const agent = (yield* pick(agents)) ?? "Builder"
          const model = yield* pick(models)
          const names = ["total", agent, ...(model ? [model.provider, `${model.provider}/${model.model}`] : [])]
          const work = Effect.acquireUseRelease(counted(names, 1), () => wait, () => counted(names, -1))
          const kind = yield* Random.nextIntBetween(0, 4)
          const task = Effect.scoped(Effect.gen(function*() {
            const slot = yield* concurrency.slot(request(`task_${n}`, agent, model))
            yield* work
            if (kind === 0) return yield* Effect.fail("no")
            if (kind === 1) return yield* Effect.die("oh")
            if (kind === 2) {
              yield* Effect.all([slot.parkedWhile(wait), slot.parkedWhile(wait)], { concurrency: "unbounded" })
              yield* work
            }
            finished++
          }))
          fibers.push(yield* Effect.forkChild(Effect.andThen(wait, task)))
        }
        const interrupter = yield* Effect.forkChild(Effect.forEach(fibers, (fiber) =>
          Effect.gen(function*() {
            if ((yield* Random.nextIntBetween(0, 4)) > 0) return
            yield* wait
            yield* Fiber.interrupt(fiber)
          }), { concurrency: 5, discard: true }))
        yield* TestClock.adjust("5 minutes")

        assert.isTrue(done(interrupter))
        assert.isTrue(fibers.every(done), "every task has ended")
        for (const [name, limit] of Object.entries(limitOf)) assert.isAtMost(most.get(name) ?? 0, limit, name)
        // The limits were reached, so the test has tried them.
        assert.strictEqual(most.get("Architect"), 1)
        assert.strictEqual(most.get("anthropic/sonnet"), 2)
        assert.isAbove(finished, 20)
        yield* allFree(9)
      }).pipe(Effect.provide(withLimits(limits)), Random.withSeed(`concurrency ${seed}`))
  )

  it.effect("a task whose model has no limit of its own counts against its provider and the total alone", () =>
    Effect.gen(function*() {
      yield* take(request("task_1", "Builder", haiku))
      assert.isTrue((yield* hold(request("task_2", "Builder", gpt))).state.started)
      assert.isFalse((yield* hold(request("task_3", "Builder", haiku))).state.started)
      assert.isTrue((yield* hold(request("task_4", "Builder"))).state.started)
      assert.isFalse((yield* hold(request("task_5", "Builder"))).state.started)
    }).pipe(Effect.provide(withLimits({ total: 3, providers: { anthropic: 1 } }))))

  it.effect("an agent may have the name of something that every object has", () =>
    Effect.gen(function*() {
      const model = { provider: "toString", model: "m" }
      assert.isTrue((yield* hold(request("task_1", "constructor", model))).state.started)
    }).pipe(Effect.provide(withLimits({}))))
})

describe("the line", () => {
  it.effect("an agent whose limit is reached does not hold up another agent", () =>
    Effect.gen(function*() {
      const first = yield* hold(request("task_1", "Builder"))
      const second = yield* hold(request("task_2", "Builder"))
      const other = yield* hold(request("task_3", "Inspector"))
      assert.deepStrictEqual([first, second, other].map(({ state }) => state.started), [true, false, true])
      yield* first.finish
      assert.isTrue(second.state.started)
    }).pipe(Effect.provide(withLimits({ agent: 1 }))))

  it.effect("the first in line does not hold up those behind it for whom there is room", () =>
    Effect.gen(function*() {
      yield* hold(request("task_1", "Builder"))
      const inspector = yield* hold(request("task_2", "Inspector"))
      const builder = yield* hold(request("task_3", "Builder"))
      const next = yield* hold(request("task_4", "Inspector"))
      yield* inspector.finish
      assert.isFalse(builder.state.started)
      assert.isTrue(next.state.started)
    }).pipe(Effect.provide(withLimits({ agent: 1 }))))

  it.effect("tasks of one agent start in the order in which they asked", () =>
    Effect.gen(function*() {
      const tasks = yield* Effect.forEach([1, 2, 3, 4, 5], (n) => hold(request(`task_${n}`)))
      for (let n = 0; n < tasks.length; n++) {
        assert.deepStrictEqual(tasks.map(({ state }) => state.started), tasks.map((_, index) => index <= n))
        yield* tasks[n]?.finish ?? Effect.void
      }
      yield* allFree(5)
    }).pipe(Effect.provide(withLimits({ agent: 1, total: 5 }))))

  it.effect("a newcomer does not overtake one who waits for the same slot", () =>
    Effect.gen(function*() {
      const first = yield* hold(request("task_1"))
      const second = yield* hold(request("task_2"))
      // In the same step as the slot comes free, before the second task's fiber runs.
      const finish = Fiber.interrupt(first.fiber)
      const [, third] = yield* Effect.all([finish, hold(request("task_3"))], { concurrency: "unbounded" })
      assert.isTrue(second.state.started)
      assert.isFalse(third.state.started)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("one slot that comes free lets everybody start for whom there is room now", () =>
    Effect.gen(function*() {
      const first = yield* hold(request("task_1", "Builder", sonnet))
      const sameModel = yield* hold(request("task_2", "Inspector", sonnet))
      const sameAgent = yield* hold(request("task_3", "Builder", gpt))
      const both = yield* hold(request("task_4", "Builder", sonnet))
      assert.deepStrictEqual([sameModel, sameAgent, both].map(({ state }) => state.started), [false, false, false])
      yield* first.finish
      assert.deepStrictEqual([sameModel, sameAgent, both].map(({ state }) => state.started), [true, true, false])
    }).pipe(Effect.provide(withLimits({ agent: 1, models: { "anthropic/sonnet": 1 } }))))

  it.effect("a task waits without holding what it already could have", () =>
    Effect.gen(function*() {
      yield* hold(request("task_1", "Builder", sonnet))
      yield* hold(request("task_2", "Builder", gpt))
      assert.strictEqual(yield* held, 1)
      assert.isTrue((yield* hold(request("task_3", "Inspector", gpt))).state.started)
    }).pipe(Effect.provide(withLimits({ agent: 1, models: { "openai/gpt": 1 } }))))

  it.effect("a place is counted from 1, moves up, and is gone when the slot is granted", () =>
    Effect.gen(function*() {
      const places = Effect.all([position("task_1"), position("task_2"), position("task_3"), position("task_none")])
      const first = yield* hold(request("task_1"))
      const second = yield* hold(request("task_2"))
      yield* hold(request("task_3"))
      assert.deepStrictEqual(yield* places, [undefined, 1, 2, undefined])
      yield* first.finish
      assert.deepStrictEqual(yield* places, [undefined, undefined, 1, undefined])
      yield* second.finish
      assert.deepStrictEqual(yield* places, [undefined, undefined, undefined, undefined])
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("a task interrupted in line leaves it, and the others move up", () =>
    Effect.gen(function*() {
      const first = yield* hold(request("task_1"))
      const second = yield* hold(request("task_2"))
      const third = yield* hold(request("task_3"))
      yield* Fiber.interrupt(second.fiber)
      assert.isUndefined(yield* position("task_2"))
      assert.strictEqual(yield* position("task_3"), 1)
      yield* first.finish
      assert.isFalse(second.state.started)
      assert.isTrue(third.state.started)
      yield* third.finish
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("a task interrupted in the moment its slot is granted gives it back", () =>
    Effect.gen(function*() {
      const first = yield* take(request("task_1"))
      const second = yield* hold(request("task_2"))
      const third = yield* hold(request("task_3"))
      yield* first.closeNow
      second.fiber.interruptUnsafe()
      yield* settle
      assert.isTrue(third.state.started)
      yield* third.finish
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("tasks that end as soon as they start let the next one start, once each, and leak nothing", () =>
    Effect.gen(function*() {
      const concurrency = yield* Concurrency
      const first = yield* take(request("task_1"))
      const started: Array<number> = []
      for (const n of [2, 3, 4, 5]) {
        const work = Effect.andThen(concurrency.slot(request(`task_${n}`)), Effect.sync(() => started.push(n)))
        yield* Effect.forkChild(Effect.scoped(work))
      }
      yield* settle
      yield* first.close
      assert.deepStrictEqual(started, [2, 3, 4, 5])
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("tasks that end as soon as they start push nobody else out of the line", () =>
    Effect.gen(function*() {
      const concurrency = yield* Concurrency
      const builder = yield* take(request("task_1", "Builder"))
      const inspector = yield* take(request("task_2", "Inspector"))
      for (const n of [3, 4]) {
        yield* Effect.forkChild(Effect.scoped(concurrency.slot(request(`task_${n}`, "Builder"))))
      }
      yield* settle
      const waiting = yield* hold(request("task_5", "Inspector"))
      yield* builder.close
      assert.strictEqual(yield* position("task_5"), 1)
      yield* inspector.close
      assert.isTrue(waiting.state.started)
    }).pipe(Effect.provide(withLimits({ agent: 1 }))))

  it.effect("a task that starts and at once interrupts another, granted a slot by the same release, leaks nothing", () =>
    Effect.gen(function*() {
      const concurrency = yield* Concurrency
      const first = yield* take(request("task_1", "Builder", sonnet))
      const others: Array<Fiber.Fiber<unknown, unknown>> = []
      const interrupting = Effect.andThen(
        concurrency.slot(request("task_2", "Inspector", sonnet)),
        Effect.sync(() => others.forEach((fiber) => fiber.interruptUnsafe()))
      )
      yield* Effect.forkChild(Effect.scoped(interrupting))
      yield* settle
      const other = yield* hold(request("task_3", "Builder", gpt))
      others.push(other.fiber)
      yield* first.close
      assert.isTrue(other.state.ended)
      yield* allFree(2)
    }).pipe(Effect.provide(withLimits({ total: 2, agent: 1, models: { "anthropic/sonnet": 1 } }))))
})

describe("a slot", () => {
  it.effect("is given back once when its scope closes", () =>
    Effect.gen(function*() {
      const first = yield* take(request("task_1"))
      const second = yield* take(request("task_2"))
      assert.strictEqual(yield* held, 2)
      yield* first.close
      yield* first.close
      assert.strictEqual(yield* held, 1)
      yield* take(request("task_3"))
      const fourth = yield* hold(request("task_4"))
      assert.isFalse(fourth.state.started)
      yield* second.close
      assert.isTrue(fourth.state.started)
    }).pipe(Effect.provide(withLimits({ total: 2 }))))

  it.effect.each(["a failure", "a defect", "an interruption"])(
    "is given back after %s",
    (how) =>
      Effect.gen(function*() {
        const ends = {
          "a failure": Effect.fail("no"),
          "a defect": Effect.die("oh"),
          "an interruption": Effect.interrupt
        }
        const end = Object.entries(ends).find(([name]) => name === how)?.[1] ?? Effect.void
        yield* Effect.exit(
          Effect.scoped(Effect.andThen(Concurrency.use((slots) => slots.slot(request("task_1"))), end))
        )
        yield* allFree(1)
      }).pipe(Effect.provide(withLimits({ total: 1 })))
  )
})

describe("a parked slot", () => {
  it.effect("is free for others, and taken again after the wait, before those that have not begun", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const parked = yield* park(parent)
      assert.strictEqual(yield* held, 0)
      const child = yield* hold(request("task_child"))
      const next = yield* hold(request("task_next"))
      assert.isTrue(child.state.started)
      yield* parked.unpark
      assert.isFalse(done(parked.fiber))
      assert.strictEqual(yield* position("task_parent"), 1)
      assert.strictEqual(yield* position("task_next"), 2)
      yield* child.finish
      assert.isTrue(done(parked.fiber))
      assert.isFalse(next.state.started)
      assert.strictEqual(yield* held, 1)
      yield* parent.close
      yield* next.finish
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("is taken again after a wait that failed, and the failure is passed on", () =>
    Effect.gen(function*() {
      const { close, slot } = yield* take(request("task_1"))
      assert.deepStrictEqual(yield* Effect.exit(slot.parkedWhile(Effect.fail("no"))), Exit.fail("no"))
      assert.strictEqual(yield* held, 1)
      assert.strictEqual(yield* slot.parkedWhile(Effect.succeed(3)), 3)
      assert.strictEqual(yield* held, 1)
      yield* close
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("stays parked until the last of two overlapping waits is over", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const first = yield* park(parent)
      const second = yield* park(parent)
      assert.strictEqual(yield* held, 0)
      yield* first.unpark
      assert.strictEqual(yield* held, 0)
      yield* second.unpark
      assert.isTrue(done(first.fiber))
      assert.isTrue(done(second.fiber))
      assert.strictEqual(yield* held, 1)
      yield* parent.close
      yield* allFree(2)
    }).pipe(Effect.provide(withLimits({ total: 2 }))))

  it.effect("stays parked when a new wait begins while it is in line to be taken again", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const first = yield* park(parent)
      const child = yield* hold(request("task_child"))
      yield* first.unpark
      const second = yield* park(parent)
      yield* child.finish
      assert.strictEqual(yield* held, 0)
      yield* second.unpark
      assert.isTrue(done(first.fiber))
      assert.isTrue(done(second.fiber))
      assert.strictEqual(yield* held, 1)
      yield* parent.close
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("is taken again once when a second wait begins and ends while the first is in line", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const first = yield* park(parent)
      const child = yield* hold(request("task_child"))
      yield* first.unpark
      const second = yield* park(parent)
      yield* second.unpark
      yield* child.finish
      assert.isTrue(done(first.fiber), "the first wait goes on")
      assert.isTrue(done(second.fiber), "the second wait goes on")
      assert.strictEqual(yield* held, 1)
      yield* parent.close
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("is not taken again for a task that ended while it was parked", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const parked = yield* park(parent)
      yield* parent.close
      assert.strictEqual(yield* held, 0)
      yield* parked.unpark
      // Its child is being stopped: what it waited for must not let it go on meanwhile.
      assert.isFalse(done(parked.fiber))
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(done(parked.fiber))
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("is not kept by a task that ended while it was in line to take it again", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const parked = yield* park(parent)
      const child = yield* hold(request("task_child"))
      yield* parked.unpark
      yield* parent.close
      const next = yield* hold(request("task_next"))
      yield* child.finish
      assert.isTrue(next.state.started)
      yield* next.finish
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(done(parked.fiber))
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("leaks nothing when the task is interrupted while parked", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const parked = yield* park(parent)
      yield* Fiber.interrupt(parked.fiber)
      yield* parent.close
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("leaks nothing when the task is interrupted in line to take it again", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const parked = yield* park(parent)
      const child = yield* hold(request("task_child"))
      yield* parked.unpark
      assert.strictEqual(yield* position("task_parent"), 1)
      yield* Fiber.interrupt(parked.fiber)
      // The task itself goes on, and still wants its slot.
      assert.strictEqual(yield* position("task_parent"), 1)
      yield* parent.close
      assert.isUndefined(yield* position("task_parent"))
      yield* child.finish
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))

  it.effect("leaks nothing when the task is interrupted in the moment it is granted again", () =>
    Effect.gen(function*() {
      const parent = yield* take(request("task_parent"))
      const parked = yield* park(parent)
      const child = yield* take(request("task_child"))
      yield* parked.unpark
      yield* child.closeNow
      parked.fiber.interruptUnsafe()
      yield* settle
      yield* parent.close
      yield* allFree(1)
    }).pipe(Effect.provide(withLimits({ total: 1 }))))
})

describe("a provider that limits requests", () => {
  const throttle = (provider: string, until?: number) =>
    Concurrency.use((concurrency) => concurrency.throttle(provider, until))
  const limitOf = (provider: string) =>
    Concurrency.use((concurrency) => Effect.map(concurrency.throttled, (all) => all.get(provider)))
  const holdMany = (count: number, model: ModelRef, name: string) =>
    Effect.forEach(Array.from({ length: count }), (_, n) => hold(request(`task_${name}${n}`, "Builder", model)))
  const started = (held: ReadonlyArray<Effect.Success<ReturnType<typeof hold>>>) =>
    held.filter(({ state }) => state.started && !state.ended).length

  it.effect("has half of what ran, and one more after each quiet time, until it has all again", () =>
    Effect.gen(function*() {
      const first = yield* holdMany(8, sonnet, "first")
      const next = yield* holdMany(8, haiku, "next")
      yield* throttle("anthropic")
      assert.strictEqual(yield* limitOf("anthropic"), 4)
      for (const one of first.slice(0, 4)) yield* one.finish
      assert.strictEqual(started(next), 0, "four that run are all that may")
      yield* first[4]?.finish ?? Effect.void
      assert.strictEqual(started(next), 1)
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(started(next), 1)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(started(next), 2)
      assert.strictEqual(yield* limitOf("anthropic"), 5)
      yield* TestClock.adjust("45 seconds")
      assert.strictEqual(started(next), 5)
      assert.strictEqual(yield* limitOf("anthropic"), undefined)
      for (const one of [...first.slice(5), ...next]) yield* one.finish
      yield* allFree(8)
    }).pipe(Effect.provide(withLimits({ total: 8 }))))

  it.effect("is halved once for refusals side by side, and again for those that come later", () =>
    Effect.gen(function*() {
      const all = yield* holdMany(8, sonnet, "one")
      for (const _ of all) yield* throttle("anthropic")
      assert.strictEqual(yield* limitOf("anthropic"), 4)
      yield* TestClock.adjust("14 seconds")
      yield* throttle("anthropic")
      assert.strictEqual(yield* limitOf("anthropic"), 4)
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(yield* limitOf("anthropic"), 4, "it was not quiet for long enough")
      yield* throttle("anthropic")
      assert.strictEqual(yield* limitOf("anthropic"), 2)
      for (const one of all) yield* one.finish
    }).pipe(Effect.provide(withLimits({ total: 8 }))))

  it.effect("is never without a slot: what waits goes on, one after the other", () =>
    Effect.gen(function*() {
      const all = yield* holdMany(6, sonnet, "one")
      for (let times = 0; times < 10; times++) {
        yield* throttle("anthropic")
        yield* TestClock.adjust("14 seconds")
        yield* throttle("anthropic")
        yield* TestClock.adjust("14 seconds")
      }
      assert.strictEqual(yield* limitOf("anthropic"), 1)
      for (const one of all) yield* one.finish
      assert.isTrue(all.every(({ state }) => state.ended))
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual(yield* limitOf("anthropic"), undefined)
    }).pipe(Effect.provide(withLimits({ total: 3 }))))

  it.effect("is left alone until the time it names", () =>
    Effect.gen(function*() {
      const all = yield* holdMany(4, sonnet, "one")
      yield* throttle("anthropic", 120_000)
      yield* TestClock.adjust("119 seconds")
      assert.strictEqual(yield* limitOf("anthropic"), 2)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* limitOf("anthropic"), 3)
      for (const one of all) yield* one.finish
    }).pipe(Effect.provide(withLimits({ total: 4 }))))

  it.effect("holds up no other provider", () =>
    Effect.gen(function*() {
      yield* holdMany(2, sonnet, "one")
      yield* throttle("anthropic")
      assert.strictEqual(started(yield* holdMany(2, gpt, "other")), 2)
      assert.strictEqual(started(yield* holdMany(1, sonnet, "same")), 0)
    }).pipe(Effect.provide(withLimits({ total: 10 }))))

  it.effect("never gets more than its own limit by growing", () =>
    Effect.gen(function*() {
      yield* holdMany(6, sonnet, "one")
      yield* throttle("anthropic")
      yield* TestClock.adjust("10 minutes")
      assert.strictEqual(yield* held, 3)
    }).pipe(Effect.provide(withLimits({ total: 10, providers: { anthropic: 3 } }))))
})

describe("a slot that goes on for another model", () => {
  it.effect("counts for that one, and no more for the first", () =>
    Effect.gen(function*() {
      const { close, slot } = yield* take(request("task_1", "Builder", sonnet))
      const same = yield* hold(request("task_2", "Builder", sonnet))
      const other = yield* hold(request("task_3", "Builder", gpt))
      assert.isFalse(same.state.started)
      assert.isTrue(other.state.started)
      const switching = yield* Effect.forkChild(slot.switchTo(gpt))
      yield* settle
      assert.isTrue(same.state.started, "the first model has room again")
      assert.isFalse(done(switching), "the other has none yet")
      yield* other.finish
      assert.isTrue(done(switching))
      assert.isFalse((yield* hold(request("task_4", "Builder", gpt))).state.started)
      yield* close
      yield* same.finish
      assert.strictEqual(yield* held, 1) // task_4
    }).pipe(Effect.provide(withLimits({ total: 10, providers: { anthropic: 1, openai: 1 } }))))
})
