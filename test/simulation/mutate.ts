/**
 * Tests the checker of the simulation: breaks each promise in turn, in a copy of the source, and looks whether simulated
 * missions notice: `npm run mutate`, or `npm run mutate -- --only "told twice"`.
 */
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import {
  Clock,
  Console,
  Duration,
  Effect,
  FileSystem,
  Path,
  type PlatformError,
  Schema,
  type Scope,
  Stream
} from "effect"
import { Command, Flag } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { type Mutation, mutations } from "./mutations.ts"
import { workerFlags } from "./simulate.ts"

/** A mutation that no longer fits the source tests nothing. */
export class StaleMutation extends Schema.TaggedError<StaleMutation>()("StaleMutation", {
  promise: Schema.String,
  file: Schema.String,
  found: Schema.Int
}) {
  override get message() {
    return `The text to replace is in src/${this.file} ${this.found} times, and must be once: "${this.promise}".`
  }
}

class NotAllCaught extends Schema.TaggedError<NotAllCaught>()("NotAllCaught", { message: Schema.String }) {}

export type Verdict =
  /** By the mission of this seed; `problems` as it printed them. */
  | { readonly type: "caught"; readonly seed: number; readonly missions: number; readonly problems: string }
  /** A build that does not start, crashes, or hangs proves nothing about the checker. */
  | { readonly type: "not caught"; readonly why: string }

const projectRoot = fileURLToPath(new URL("../..", import.meta.url))
const copied = ["src", "adapters", "test/simulation", "package.json", "tsconfig.json"]

/** The mutated text of its file. */
export const mutate = Effect.fnUntraced(function*({ file, find, promise, replace }: Mutation) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const source = yield* fs.readFileString(path.join(projectRoot, "src", file))
  const parts = source.split(find)
  if (parts.length !== 2) return yield* new StaleMutation({ promise, file, found: parts.length - 1 })
  return parts.join(replace)
})

/** Runs missions from seed 0 with the mutated build, until one breaks the promise. */
export const tryMutation = Effect.fnUntraced(function*(
  mutation: Mutation,
  missions: number,
  limit: Duration.Input
): Effect.fn.Return<
  Verdict,
  StaleMutation | PlatformError.PlatformError,
  FileSystem.FileSystem | Path.Path | ChildProcessSpawner.ChildProcessSpawner | Scope.Scope
> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const mutated = yield* mutate(mutation)
  const folder = yield* fs.makeTempDirectoryScoped({ prefix: "mutation-" })
  yield* fs.makeDirectory(path.join(folder, "test"))
  for (const name of copied) yield* fs.copy(path.join(projectRoot, name), path.join(folder, name))
  yield* fs.symlink(path.join(projectRoot, "node_modules"), path.join(folder, "node_modules"))
  yield* fs.writeFileString(path.join(folder, "src", mutation.file), mutated)

  const lines: Array<string> = []
  const options = ["--seed", 0, "--missions", missions, "--jobs", 1, "--until-broken", mutation.expects.source]
  const ended = yield* Effect.gen(function*() {
    const handle = yield* spawner.spawn(
      // A build that loops hears no signal that it could handle.
      ChildProcess.make(
        process.execPath,
        [...workerFlags, path.join(folder, "test/simulation/simulate.ts"), ...options.map(String)],
        { killSignal: "SIGKILL" }
      )
    )
    yield* Stream.decodeText(handle.all).pipe(
      Stream.splitLines,
      Stream.runForEach((line) => Effect.sync(() => void lines.push(line)))
    )
  }).pipe(Effect.scoped, Effect.timeoutOption(limit))
  for (const line of lines) {
    const match = /^seed (\d+): (.*)$/.exec(line)
    const problem = match?.[2]?.split("; ").find((problem) => mutation.expects.test(problem))
    if (problem !== undefined) {
      const seed = Number(match?.[1])
      return { type: "caught", seed, missions: seed + 1, problems: problem }
    }
  }
  const broken = lines.findLast((line) => line.startsWith("seed "))
  const others = broken === undefined ? "" : `; other promises were broken: ${broken}`
  if (ended._tag === "None") {
    return { type: "not caught", why: `killed after ${Duration.format(Duration.fromInputUnsafe(limit))}${others}` }
  }
  if (lines.some((line) => line.includes(" missions kept every promise"))) {
    return { type: "not caught", why: `${missions} missions did not break it${others}` }
  }
  return { type: "not caught", why: `the build crashed: ${lines.slice(-8).join(" / ")}` }
}, Effect.scoped)

/** Two cores at most: others may work on the machine. */
const atOnce = 2

if (import.meta.main) {
  Command.make(
    "mutate",
    {
      only: Flag.String("only").pipe(
        Flag.withDefault(""),
        Flag.withDescription("Only mutations whose promise contains this text")
      ),
      missions: Flag.Int("missions").pipe(
        Flag.withDefault(500),
        Flag.withDescription("How many missions may pass before a mutation is caught")
      ),
      seconds: Flag.Int("seconds").pipe(
        Flag.withDefault(60),
        Flag.withDescription("How long a mutated build may run before it is killed")
      )
    },
    Effect.fnUntraced(function*({ missions, only, seconds }) {
      const from = yield* Clock.currentTimeMillis
      const chosen = mutations.filter(({ promise }) => promise.includes(only))
      const verdicts = yield* Effect.forEach(
        chosen,
        Effect.fnUntraced(function*(mutation) {
          const verdict = yield* tryMutation(mutation, missions, Duration.seconds(seconds))
          yield* Console.log(
            verdict.type === "caught"
              ? `caught by seed ${verdict.seed}, after ${verdict.missions} missions: ${mutation.promise}\n  ${verdict.problems}`
              : `NOT CAUGHT: ${mutation.promise} (src/${mutation.file})\n  ${verdict.why}`
          )
          return verdict
        }),
        { concurrency: atOnce }
      )
      const missed = verdicts.filter(({ type }) => type !== "caught").length
      const took = Math.round(((yield* Clock.currentTimeMillis) - from) / 1_000)
      yield* Console.log(`${verdicts.length - missed} of ${verdicts.length} mutations were caught, in ${took} s`)
      if (missed > 0 || verdicts.length === 0) {
        return yield* new NotAllCaught({ message: "The simulation does not notice every broken promise." })
      }
    })
  ).pipe(
    Command.withDescription("Breaks each promise in a copy of the source, and checks that the simulation notices"),
    Command.run({ version: "1" }),
    Effect.provide(NodeServices.layer),
    NodeRuntime.runMain
  )
}
