import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { ModelRequest } from "../../adapters/test/Script.ts"
import { runRound, runTwins } from "./crashes.ts"

/** The first time that the one who works on an order calls the model. */
const worksOn = (order: string) => (request: ModelRequest) => request.users[0]?.includes(`<${order}>`) === true

const moments = {
  "before the Commander has delegated": worksOn("a"),
  "while its children work": worksOn("a-two"),
  "while the Commander is told of their ends": (request: ModelRequest) =>
    /tasks? ha(s|ve) ended/.test(request.users.at(-1) ?? "")
}

describe("a mission whose OpenCode is killed", () => {
  for (const [name, moment] of Object.entries(moments)) {
    it.live(`${name} goes on after a restart, and nothing is lost or done twice`, () =>
      Effect.gen(function*() {
        const { killedAt } = yield* runRound(moment)
        assert.isDefined(killedAt, "the mission had ended before the kill")
      }).pipe(Effect.provide(NodeServices.layer)), 120_000)
  }

  it.live(
    "does not disturb another OpenCode in the same folder, and is not disturbed by it",
    () =>
      Effect.gen(function*() {
        const { resumed } = yield* runTwins(worksOn("a-two"))
        assert.isAbove(resumed, 0, "nothing was under way when it was killed")
      }).pipe(Effect.provide(NodeServices.layer)),
    120_000
  )
})
