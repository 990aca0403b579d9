/**
 * Process groups as a test decides them: what each command prints and how it ends, on the virtual clock. What runs is the
 * world's, not an instance's, so that a test can see what a crash has left behind.
 */
import { Cause, Context, Deferred, Duration, Effect, Layer, Queue, Stream } from "effect"
import type { CommandExit, CommandId } from "../../src/domain/Command.ts"
import type { Owner } from "../../src/host/Instance.ts"
import { CannotStart, type GroupOptions, type ProcessGroup, ProcessGroups } from "../../src/host/ProcessGroups.ts"

/** A command that runs. */
export interface SimulatedProgram extends GroupOptions {
  readonly leader: Owner
  readonly print: (text: string) => Effect.Effect<void>
  readonly exit: (exit: CommandExit) => Effect.Effect<void>
}

export class SimulatedPrograms extends Context.Service<SimulatedPrograms, {
  /** Those that run, oldest first. */
  readonly running: Effect.Effect<ReadonlyArray<SimulatedProgram>>
  /** The next command that is started; to be asked before it is. */
  readonly next: Effect.Effect<SimulatedProgram>
  /** Commands that contain this text ignore the request to end, and have to be killed. */
  readonly makeStubborn: (text: string) => Effect.Effect<void>
}>()("orchestrator/test/SimulatedPrograms") {
  /** With the port to them. */
  static readonly layer: Layer.Layer<SimulatedPrograms | ProcessGroups> = Layer.effectContext(
    Effect.gen(function*() {
      const running = new Map<CommandId, SimulatedProgram>()
      const started = yield* Queue.unbounded<SimulatedProgram>()
      const stubborn = new Set<string>()
      let pid = 50_000

      const start = Effect.fnUntraced(function*(options: GroupOptions) {
        if (options.command === "cannot start") return yield* new CannotStart({ why: "it is so written" })
        const printed = yield* Queue.unbounded<Uint8Array, Cause.Done>()
        const exited = yield* Deferred.make<CommandExit>()
        const program: SimulatedProgram = {
          ...options,
          leader: { pid: ++pid, startedAt: `boot 1, program ${pid}`, machine: "simulated1" },
          print: (text) => Effect.asVoid(Queue.offer(printed, encoder.encode(text))),
          exit: (exit) => Effect.asVoid(Deferred.succeed(exited, exit))
        }
        running.set(options.id, program)
        yield* Queue.offer(started, program)
        const end = Effect.gen(function*() {
          if (!running.has(options.id)) return
          const isStubborn = [...stubborn].some((text) => options.command.includes(text))
          if (isStubborn && !Deferred.isDoneUnsafe(exited)) yield* Effect.sleep(Duration.toMillis(options.grace))
          running.delete(options.id)
          yield* Deferred.succeed(exited, { signal: isStubborn ? "SIGKILL" : "SIGTERM" })
          yield* Queue.end(printed)
        })
        yield* Effect.addFinalizer(() => end)
        const group: ProcessGroup = {
          leader: program.leader,
          output: Stream.fromQueue(printed),
          exit: Deferred.await(exited),
          end
        }
        return group
      })

      return Context.make(SimulatedPrograms, {
        running: Effect.sync(() => [...running.values()]),
        next: Queue.take(started),
        makeStubborn: (text) => Effect.sync(() => void stubborn.add(text))
      }).pipe(Context.add(ProcessGroups, {
        start,
        endLeft: (id, leader) =>
          Effect.sync(() => {
            const program = running.get(id)
            if (program !== undefined && (leader === undefined || leader.pid === program.leader.pid)) running.delete(id)
          })
      }))
    })
  )
}

const encoder = new TextEncoder()
