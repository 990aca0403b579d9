/** Simulates missions with everything that can go wrong, and checks the promises: `npm run simulate -- --seed N --missions M`. */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Console, Effect, Option, Schema, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as os from "node:os"
import { fileURLToPath } from "node:url"
import { drawScenario } from "./Scenario.ts"
import { type Outcome, runMission } from "./simulation.ts"

class PromisesBroken extends Schema.TaggedError<PromisesBroken>()("PromisesBroken", { message: Schema.String }) {}

/** One mission, named by its seed alone. */
export const simulate = (seed: number): Effect.Effect<Outcome> => Effect.flatMap(drawScenario(seed), runMission)

/** What a person needs to find out why. */
export const describe = ({ broken, seed, trace }: Outcome): string =>
  [`seed ${seed}: ${broken.join("; ")}`, ...trace.map((line) => `  ${line}`)].join("\n")

const runAll = Effect.fnUntraced(function*(
  seeds: ReadonlyArray<number>,
  verbose: boolean,
  until: Option.Option<string>
) {
  let run = 0
  let failed = 0
  let crashes = 0
  for (const seed of seeds) {
    const outcome = yield* simulate(seed)
    run++
    crashes += outcome.crashes
    if (outcome.broken.length === 0) continue
    failed++
    yield* Console.log(verbose ? describe(outcome) : `seed ${seed}: ${outcome.broken.join("; ")}`)
    if (Option.exists(until, (pattern) => new RegExp(pattern).test(outcome.broken.join("; ")))) break
  }
  yield* Console.log(`${run - failed} missions kept every promise, ${failed} did not; ${crashes} crashes`)
  return failed
})

/** Errors are a part of every mission, and nobody reads where they were made; most of what is allocated is short-lived. */
export const workerFlags = ["--stack-trace-limit=0", "--max-semi-space-size=32"]

/** Shares the seeds between processes, and waits for all. Tells how many of them failed. */
const share = Effect.fnUntraced(function*(seed: number, missions: number, jobs: number) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const size = Math.ceil(missions / jobs)
  const codes = yield* Effect.forEach(
    Array.from({ length: jobs }, (_, job) => [seed + job * size, Math.min(size, missions - job * size)] as const),
    Effect.fnUntraced(function*([first, count]) {
      const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [
        ...workerFlags,
        fileURLToPath(import.meta.url),
        "--seed",
        String(first),
        "--missions",
        String(count),
        "--jobs",
        "1"
      ]))
      yield* Stream.decodeText(handle.all).pipe(Stream.splitLines, Stream.runForEach((line) => Console.log(line)))
      return Number(yield* handle.exitCode)
    }, Effect.scoped),
    { concurrency: "unbounded" }
  )
  return codes.filter((code) => code !== 0).length
})

const whole = (minimum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum: 10_000_000 }))

if (import.meta.main) {
  Command.make(
    "simulate",
    {
      seed: Flag.Int("seed").pipe(
        Flag.withSchema(whole(0)),
        Flag.withDefault(0),
        Flag.withDescription("The first seed")
      ),
      missions: Flag.Int("missions").pipe(
        Flag.withSchema(whole(1)),
        Flag.withDefault(1_000),
        Flag.withDescription("How many missions; with 1, a failure prints all that happened")
      ),
      jobs: Flag.Int("jobs").pipe(
        Flag.withSchema(whole(1)),
        Flag.withDefault(os.availableParallelism()),
        Flag.withDescription("Processes that share them")
      ),
      until: Flag.String("until-broken").pipe(
        Flag.optional,
        Flag.withDescription("Ends, with --jobs 1, after the first mission whose problems fit this regular expression")
      )
    },
    Effect.fnUntraced(function*({ jobs, missions, seed, until }) {
      const failed = jobs === 1 || missions === 1
        ? yield* runAll(Array.from({ length: missions }, (_, index) => seed + index), missions === 1, until)
        : yield* share(seed, missions, jobs)
      if (failed > 0) {
        return yield* new PromisesBroken({ message: "Some promises were broken; run a seed alone to see how." })
      }
    })
  ).pipe(
    Command.withDescription("Simulates missions with faults and crashes, and checks that the promises are kept"),
    Command.run({ version: "1" }),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
}
