/** What the table, the settings and the host's models say together; the Commander's own turns are asked about like this. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { Config, readConfig } from "../../src/Config.ts"
import type { Tries, TurnError } from "../../src/domain/Session.ts"
import { type Decision, TurnRecovery } from "../../src/recovery/TurnRecovery.ts"
import { doing } from "../tasks/scripts.ts"

const withConfig = (config: unknown) =>
  TurnRecovery.layer.pipe(
    Layer.provideMerge(SimulatedHost.layer({ script: () => Effect.succeed({ text: "" }) })),
    Layer.provide(Config.layer(readConfig(config, "test").values))
  )

const overloaded: TurnError = { name: "APIError", message: "Overloaded", status: 529, retryable: true }
const decide = (error: TurnError, tries?: Tries) =>
  Effect.flatMap(TurnRecovery, (recovery) => doing(recovery.decide(error, tries)))

describe("what is to be done about a failed turn", () => {
  it.effect("follows from what was done before, and comes to an end", () =>
    Effect.gen(function*() {
      const decisions: Array<Decision> = []
      let tries: Tries | undefined
      do {
        const decision = yield* decide(overloaded, tries)
        decisions.push(decision)
        tries = decision.tries
      } while (decisions.at(-1)?.action.type !== "give up")
      assert.deepStrictEqual(decisions.map(({ action }) => action.type), ["wait", "switch", "wait", "give up"])
      assert.deepStrictEqual(decisions.map(({ tries }) => tries.spent), [1, 2, 3, 3])
      assert.strictEqual(decisions.at(-1)?.says, "Overloaded (it was told to go on 3 times)")
    }).pipe(Effect.provide(withConfig({ retries: { count: 3 }, fallbackModels: ["scripted/other"] }))))

  it.effect("is never done before the host has ended the turn", () =>
    Effect.gen(function*() {
      const refused = { name: "APIError", message: "no", status: 401 }
      for (const error of [refused, { ...overloaded, retryAfter: 5 }]) {
        assert.strictEqual((yield* decide(error)).wait, 2_000)
      }
      assert.isAtLeast((yield* decide({ ...overloaded, retryAfter: 30_000 })).wait, 30_000)
    }).pipe(Effect.provide(withConfig({ retries: { backoff: "1 millis" } }))))

  it.effect("is another model only where the host has it", () =>
    Effect.gen(function*() {
      const { action } = yield* decide({ name: "APIError", message: "no credit", status: 402 })
      assert.deepStrictEqual(action, { type: "switch", model: { provider: "scripted", model: "other" } })
      const next = yield* decide({ name: "APIError", message: "no credit", status: 402 }, {
        spent: 1,
        waited: 0,
        waits: 0,
        models: 1
      })
      assert.strictEqual(next.action.type, "give up")
    }).pipe(Effect.provide(withConfig({ fallbackModels: ["nobody/nothing", "scripted/other"] }))))

  it.effect("is no other model while the host does not say which it has", () =>
    Effect.gen(function*() {
      const host = yield* SimulatedHost
      yield* host.fail("models", 10)
      assert.strictEqual(
        (yield* decide({ name: "APIError", message: "no credit", status: 402 })).action.type,
        "give up"
      )
    }).pipe(Effect.provide(withConfig({ fallbackModels: ["scripted/other"] }))))
})
