import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import { Instance } from "../../src/host/Instance.ts"

const { SimulatedProcesses } = SimulatedInstance

describe("simulated processes", () => {
  it.effect("are alive until they end, and nobody takes a new one with an old pid for the old one", () =>
    Effect.gen(function*() {
      const processes = yield* SimulatedProcesses
      const first = yield* processes.start()
      const second = yield* processes.start()
      assert.notStrictEqual(first.pid, second.pid)
      const { isAlive, owner, root } = yield* Effect.provide(Instance, SimulatedInstance.layer(second))
      assert.deepStrictEqual(owner, second)
      assert.strictEqual(root, "/project")
      assert.strictEqual(yield* isAlive(first), "alive")
      yield* processes.end(first)
      assert.strictEqual(yield* isAlive(first), "dead")
      const third = yield* processes.start(first.pid)
      assert.strictEqual(third.pid, first.pid)
      assert.strictEqual(yield* isAlive(first), "dead")
      assert.strictEqual(yield* isAlive(third), "alive")
      assert.deepStrictEqual(yield* processes.running, [second, third])
    }).pipe(Effect.provide(SimulatedProcesses.layer)))

  it.effect("are unknown when they are of another machine, or out of sight", () =>
    Effect.gen(function*() {
      const processes = yield* SimulatedProcesses
      const first = yield* processes.start()
      const { isAlive } = processes.instance(yield* processes.start(), "/elsewhere")
      assert.strictEqual(yield* isAlive({ ...first, machine: "anothermachine" }), "unknown")
      yield* processes.see(first, false)
      assert.strictEqual(yield* isAlive(first), "unknown")
      yield* processes.end(first)
      assert.strictEqual(yield* isAlive(first), "unknown")
      yield* processes.see(first, true)
      assert.strictEqual(yield* isAlive(first), "dead")
    }).pipe(Effect.provide(SimulatedProcesses.layer)))
})
