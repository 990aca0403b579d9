import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mutate, tryMutation } from "./mutate.ts"
import { mutations } from "./mutations.ts"
import { describe as explain, simulate } from "./simulate.ts"

describe("simulated missions with faults, crashes and a user", () => {
  for (let first = 0; first < 500; first += 100) {
    it.effect(`keep every promise, seeds ${first} to ${first + 99}`, () =>
      Effect.gen(function*() {
        for (let seed = first; seed < first + 100; seed++) {
          const outcome = yield* simulate(seed)
          assert.deepStrictEqual(outcome.broken, [], explain(outcome))
        }
      }), 120_000) // a tenth of it where nothing else goes on
  }

  // Found defects: a notice to a child without a slot, tries spent on a host that was away, a notice between two runs, a
  // run begun while a notice was answered, an abort not looked for again, a child that outlived its parent over a crash, a
  // deleted child that could not be recorded, a notice on its way as a turn failed, an old abort read beside a new end, a
  // life begun for a task that had ended meanwhile.
  for (const seed of [702375, 702827, 720909, 811957, 902209, 907656, 1001698, 1002315, 1004425, 1103102]) {
    it.effect(`keep every promise, seed ${seed}`, () =>
      Effect.gen(function*() {
        const outcome = yield* simulate(seed)
        assert.deepStrictEqual(outcome.broken, [], explain(outcome))
      }))
  }

  // Seeds with crashes of the instance and of its host, faults, a full disk, and a user who interferes.
  for (const seed of [22, 33, 112, 197]) {
    it.effect(`go the same way when seed ${seed} is replayed`, () =>
      Effect.gen(function*() {
        const [one, again] = [yield* simulate(seed), yield* simulate(seed)]
        assert.isAbove(one.crashes, 0)
        assert.deepStrictEqual(again, one)
      }))
  }
})

describe("the checker of the simulation", () => {
  it.effect("is tested by mutations that fit the source", () =>
    Effect.forEach(mutations, mutate, { discard: true }).pipe(Effect.provide(NodeServices.layer)))

  // The quickest; `npm run mutate` tries all.
  const quick = [
    "A mission is recorded",
    "A notice is sent before it counts as told",
    "No more children work than may",
    "A slot is given back",
    "A child that waits for tasks of its own is not done"
  ]
  for (const promise of quick) {
    it.live(`notices a build that breaks: ${promise}`, () =>
      Effect.gen(function*() {
        const mutation = mutations.find((mutation) => mutation.promise === promise)
        if (mutation === undefined) return assert.fail("there is no such mutation")
        const verdict = yield* tryMutation(mutation, 20, "25 seconds")
        assert.strictEqual(verdict.type, "caught", JSON.stringify(verdict))
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
  }
})
