import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, FileSystem, Layer, Path, Random, Schema, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as CrashGate from "../../adapters/test/CrashGate.ts"
import * as EmptySearch from "../../adapters/test/EmptySearch.ts"
import * as MemoryFileSystem from "../../adapters/test/MemoryFileSystem.ts"
import * as RecordingNotifier from "../../adapters/test/RecordingNotifier.ts"
import type { ModelRequest } from "../../adapters/test/Script.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import * as SimulatedProcessGroups from "../../adapters/test/SimulatedProcessGroups.ts"
import * as SimulatedWeb from "../../adapters/test/SimulatedWeb.ts"
import { commander } from "../../src/agents/team.ts"
import { defaults } from "../../src/Config.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { Instance } from "../../src/host/Instance.ts"
import { Notifier, presets } from "../../src/host/Notifier.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"

/** A Commander that delegates twice, and Builders that take ten seconds. */
const script = (request: ModelRequest) => {
  if (request.users[0] !== "goal") return Effect.delay(Effect.succeed({ text: "built" }), "10 seconds")
  const delegate = (prompt: string) => ({
    name: "delegate_task",
    args: { agent: "Builder", description: prompt, prompt, background: true }
  })
  if (request.turns === 0) return Effect.succeed({ toolCalls: [delegate("one"), delegate("two")] })
  return Effect.succeed({ text: request.toolResults.length > 0 ? "I wait." : "MISSION COMPLETE" })
}

/** All that outlives an instance. */
const world = Layer.mergeAll(
  SimulatedHost.layer({ script }),
  RecordingNotifier.layer,
  SimulatedWeb.layer(),
  Layer.provideMerge(MemoryFileSystem.layer, MemoryFileSystem.MemoryDisk.layer),
  SimulatedInstance.SimulatedProcesses.layer,
  SimulatedProcessGroups.SimulatedPrograms.layer,
  EmptySearch.layer,
  Ids.layer,
  Path.layer
)

/** The ports as an instance in a new process sees them, and the gate they are behind. */
const gated = Effect.gen(function*() {
  const gate = yield* CrashGate.make
  const processes = yield* SimulatedInstance.SimulatedProcesses
  const owner = yield* processes.start()
  const ports = CrashGate.layer(gate).pipe(Layer.provide(SimulatedInstance.layer(owner)))
  return { gate, owner, ports }
})

const isCrash = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit)
  && exit.cause.reasons.some((reason) => Cause.isDieReason(reason) && Schema.is(CrashGate.Crashed)(reason.defect))

/** Whether it is over without any time passing. */
const atOnce = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.exit(effect), { startImmediately: true })
    for (let i = 0; i < 1_000 && fiber.pollUnsafe() === undefined; i++) yield* Effect.yieldNow
    assert.isDefined(fiber.pollUnsafe(), "it waits for time to pass")
    return yield* Fiber.join(fiber)
  })

const doing = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.exit(effect), { startImmediately: true })
    while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust(1)
    return yield* Fiber.join(fiber)
  })

const bytes = (text: string) => new TextEncoder().encode(text)

describe("a crash gate", () => {
  it.effect("lets everything through, and counts what has an effect", () =>
    Effect.gen(function*() {
      const { gate, ports } = yield* gated
      yield* Effect.gen(function*() {
        const client = yield* SessionClient
        const fs = yield* FileSystem.FileSystem
        yield* (yield* Notifier).show(presets.missionStopped())
        yield* fs.writeFileString("/tmp/a", "1", { flag: "a" })
        yield* fs.readFileString("/tmp/a")
        const file = yield* fs.open("/tmp/a", { flag: "a" })
        yield* file.writeAll(bytes("2"))
        yield* file.sync
        yield* fs.rename("/tmp/a", "/tmp/b")
        const { id } = yield* yield* doing(client.create({ title: "a session" }))
        yield* doing(client.get(id))
        yield* doing(client.abort(id))
        assert.strictEqual(yield* fs.readFileString("/tmp/b"), "12")
      }).pipe(Effect.scoped, Effect.provide(ports))
      assert.deepStrictEqual(yield* gate.effects, [
        "write /tmp/a",
        "open /tmp/a",
        "write /tmp/a",
        "rename /tmp/a /tmp/b",
        "create \"a session\"",
        "abort ses_000001"
      ])
      assert.isFalse(yield* gate.isCrashed)
    }).pipe(Effect.provide(world)))

  it.effect("after the crash every operation dies at once, without effect", () =>
    Effect.gen(function*() {
      const { gate, owner, ports } = yield* gated
      yield* Effect.gen(function*() {
        const client = yield* SessionClient
        const fs = yield* FileSystem.FileSystem
        const notifier = yield* Notifier
        const { isAlive } = yield* Instance
        const file = yield* fs.open("/tmp/a", { flag: "a" })
        yield* gate.crash
        const ended = [
          yield* atOnce(fs.writeFileString("/tmp/b", "1")),
          yield* atOnce(fs.exists("/tmp/b")),
          yield* atOnce(file.writeAll(bytes("1"))),
          yield* atOnce(file.sync),
          yield* atOnce(client.create({ title: "no" })),
          yield* atOnce(client.statuses),
          yield* atOnce(notifier.show(presets.missionStopped())),
          yield* atOnce(isAlive(owner)),
          yield* atOnce(gate.guard(Effect.void))
        ]
        for (const exit of ended) assert.isTrue(isCrash(exit))
      }).pipe(Effect.scoped, Effect.provide(ports))
      const disk = yield* MemoryFileSystem.MemoryDisk
      assert.deepStrictEqual(yield* disk.list(), ["/tmp/a"])
      assert.strictEqual(yield* disk.read("/tmp/a"), "")
      assert.deepStrictEqual(yield* (yield* SimulatedHost).sessions, [])
      assert.deepStrictEqual(yield* (yield* RecordingNotifier.ShownToasts).all, [])
      yield* gate.crashed
    }).pipe(Effect.provide(world)))

  it.effect("a call under way dies at the crash, even where it cannot be interrupted, and does not reach the host", () =>
    Effect.gen(function*() {
      const { gate, ports } = yield* gated
      yield* Effect.gen(function*() {
        const client = yield* SessionClient
        const call = yield* Effect.forkChild(
          Effect.exit(Effect.uninterruptible(client.create({ title: "a session" }))),
          { startImmediately: true }
        )
        yield* gate.crash
        assert.isTrue(isCrash(yield* Fiber.join(call)))
        yield* TestClock.adjust("1 minute")
      }).pipe(Effect.provide(ports))
      assert.deepStrictEqual(yield* (yield* SimulatedHost).sessions, [])
    }).pipe(Effect.provide(world)))

  it.effect("crashes at the effect it is armed for: before it, after it, or in the middle of a write", () =>
    Effect.gen(function*() {
      const disk = yield* MemoryFileSystem.MemoryDisk
      const crashing = (at: number, moment: CrashGate.Moment) =>
        Effect.gen(function*() {
          const { gate, ports } = yield* gated
          yield* gate.arm(at, moment)
          const writing = Effect.gen(function*() {
            const fs = yield* FileSystem.FileSystem
            yield* fs.writeFileString("/tmp/a", "first ")
            const file = yield* fs.open("/tmp/a", { flag: "a" })
            yield* file.writeAll(bytes("second "))
            yield* fs.writeFileString("/tmp/a", "third", { flag: "a" })
          })
          const exit = yield* Effect.exit(writing.pipe(Effect.scoped, Effect.provide(ports)))
          assert.isTrue(isCrash(exit))
          assert.lengthOf(yield* gate.effects, at)
          return (yield* disk.read("/tmp/a")) ?? ""
        })
      assert.strictEqual(yield* crashing(3, "before"), "first ")
      assert.strictEqual(yield* crashing(3, "after"), "first second ")
      assert.strictEqual(yield* crashing(4, "before"), "first second ")
      assert.strictEqual(yield* crashing(4, "after"), "first second third")
      for (const seed of ["a", "b", "c"]) {
        const torn = yield* Random.withSeed(crashing(4, "torn"), seed)
        assert.isTrue("first second third".startsWith(torn) && torn.startsWith("first second "), torn)
        assert.notStrictEqual(torn, "first second third")
      }
    }).pipe(Effect.provide(world)))

  it.effect("crashes after a call of the host that happened, and of which the instance never heard", () =>
    Effect.gen(function*() {
      const { gate, ports } = yield* gated
      yield* gate.arm((name) => name.startsWith("create"), "after")
      const client = yield* Effect.provide(SessionClient, ports)
      assert.isTrue(isCrash(yield* doing(client.create({ title: "an orphan" }))))
      assert.deepStrictEqual((yield* (yield* SimulatedHost).sessions).map(({ title }) => title), ["an orphan"])
    }).pipe(Effect.provide(world)))

  it.effect("a call that waits to be cut off in the world does not hold up the crash", () =>
    Effect.gen(function*() {
      const { gate } = yield* gated
      const busy = Effect.uninterruptible(Effect.sleep("1 minute"))
      const call = yield* Effect.forkChild(gate.guard(busy), { startImmediately: true })
      const cut = yield* Effect.forkChild(Fiber.interrupt(call), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isUndefined(cut.pollUnsafe())
      yield* gate.crash
      yield* atOnce(Fiber.join(cut))
    }).pipe(Effect.provide(world)))

  it.effect("an interrupted call is cut off in the world as well", () =>
    Effect.gen(function*() {
      const { ports } = yield* gated
      const client = yield* Effect.provide(SessionClient, ports)
      const call = yield* Effect.forkChild(client.create({ title: "no" }), { startImmediately: true })
      yield* Fiber.interrupt(call)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* (yield* SimulatedHost).sessions, [])
    }).pipe(Effect.provide(world)))
})

/** An instance in a process of its own, its tools on the host. */
const startInstance = Effect.gen(function*() {
  const host = yield* SimulatedHost
  const { gate, owner, ports } = yield* gated
  const scope = yield* Scope.make()
  const context = yield* Layer.buildWithScope(Layer.provide(Orchestrator.layer(defaults), ports), scope)
  yield* Effect.gen(function*() {
    const { tools } = yield* Orchestrator
    yield* host.offer(
      Object.fromEntries(tools.map((tool) => [tool.name, (args, caller) => gate.guard(tool.call(args, caller))]))
    )
  }).pipe(Effect.provide(context))
  return { gate, owner, scope, context }
})

/** The user gives a goal to the Commander, whose instance may die of it. */
const say = Effect.fnUntraced(function*(session: SessionId) {
  const host = yield* SimulatedHost
  const ids = yield* Ids
  const missions = yield* MissionLoop
  yield* doing(missions.userSpoke(session, true, "goal"))
  yield* host.direct.prompt({ session, id: yield* ids.message, text: "goal", agent: commander })
})

/** Lets time pass until the mission is complete, or its instance dead. */
const untilOver = Effect.fnUntraced(function*(gate: CrashGate.CrashGate) {
  const missions = yield* Missions
  const isOver = Effect.gen(function*() {
    return (yield* gate.isCrashed) || (yield* missions.all).every(({ state }) => state === "complete")
  })
  for (let passes = 0; !(yield* isOver); passes++) {
    assert.isBelow(passes, 6_000, "ten minutes have passed")
    yield* TestClock.adjust("100 millis")
  }
})

describe("an orchestrator behind a crash gate", () => {
  /** Runs a mission up to its crash or its end, and closes the instance: without letting time pass, if it is dead. */
  const mission = (at: number, moment: CrashGate.Moment) =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const root = (yield* host.direct.create({ title: "A mission" })).id
      const { context, gate, scope } = yield* startInstance
      yield* gate.arm(at, moment)
      yield* Effect.andThen(say(root), untilOver(gate)).pipe(Effect.provide(context))
      const crashed = yield* gate.isCrashed
      const effects = yield* gate.effects
      const closing = Scope.close(scope, Exit.void)
      yield* crashed ? atOnce(closing) : doing(closing)
      yield* TestClock.adjust("1 minute")
      if (crashed) assert.lengthOf(yield* gate.effects, effects.length)
      return { crashed, effects, diedAt: yield* gate.diedAt }
    }).pipe(Effect.provide(world, { local: true }))

  it.effect("closes at once wherever it was killed, and does nothing more to the world", () =>
    Effect.gen(function*() {
      const whole = yield* mission(Infinity, "before")
      assert.isFalse(whole.crashed)
      assert.isAbove(whole.effects.length, 4)
      for (let at = 1; at <= whole.effects.length; at++) {
        for (const moment of ["before", "after", "torn"] as const) {
          const { crashed, diedAt, effects } = yield* mission(at, moment)
          assert.isTrue(crashed, `effect ${at}`)
          assert.isAtLeast(effects.length, at) // others may have begun by the time that one has happened
          assert.strictEqual(diedAt, `${moment} ${effects[at - 1]}`)
        }
      }
    }))

  it.effect("that died with its host is followed by another one, which serves the same sessions", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      const processes = yield* SimulatedInstance.SimulatedProcesses
      const root = (yield* host.direct.create({ title: "A mission" })).id
      const first = yield* startInstance
      yield* first.gate.arm((effect) => effect.startsWith("prompt"), "after")
      yield* Effect.andThen(say(root), untilOver(first.gate)).pipe(Effect.provide(first.context))
      yield* host.crash
      yield* atOnce(Scope.close(first.scope, Exit.void))
      yield* processes.end(first.owner)
      yield* TestClock.adjust("1 minute")
      yield* host.restart
      const second = yield* startInstance
      yield* Effect.andThen(say(root), untilOver(second.gate)).pipe(Effect.provide(second.context))
      assert.isFalse(yield* second.gate.isCrashed)
      yield* doing(Scope.close(second.scope, Exit.void))
    }).pipe(Effect.provide(world)))
})
