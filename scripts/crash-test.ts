/** Kills the real OpenCode in the middle of missions, and checks that nothing is lost: `npm run crash-test -- --rounds N`. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { RoundFailed, runRound } from "../test/host/crashes.ts"

const crashTest = Effect.fnUntraced(function*({ rounds }: { readonly rounds: number }) {
  const { took } = yield* runRound(undefined)
  yield* Console.log(`without a kill the mission takes ${took} ms`)
  let failed = 0
  for (let round = 0; round < rounds; round++) {
    const killAfter = Math.round((took * (round + 0.5)) / rounds)
    yield* runRound(killAfter).pipe(
      Effect.flatMap((result) =>
        Console.log(
          `round ${round + 1}: killed after ${result.killedAt ?? "(it had ended)"} ms, ended after ${result.took} ms, `
            + `${result.resumed} tasks resumed`
        )
      ),
      Effect.catchTag("RoundFailed", (error) => {
        failed++
        return Console.log(`round ${round + 1}: killed after ${killAfter} ms: FAILED: ${error.message}`)
      })
    )
  }
  yield* Console.log(`${rounds - failed} rounds passed, ${failed} failed`)
  if (failed > 0) return yield* new RoundFailed({ message: `${failed} of ${rounds} rounds failed` })
})

Command.make("crash-test", {
  rounds: Flag.Int("rounds").pipe(
    Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000 }))),
    Flag.withDefault(30),
    Flag.withDescription("Missions, each killed once, at moments spread evenly over its course")
  )
}, crashTest).pipe(
  Command.withDescription("Kills the real OpenCode in the middle of missions, and checks that nothing is lost"),
  Command.run({ version: "1" }),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
