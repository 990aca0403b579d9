/**
 * The processes that copies of the orchestrator live in, as a test decides them: started, ended, out of sight. Made
 * apart from any instance, so that an instance that starts can ask for the one that crashed before it.
 */
import { Context, Effect, Layer } from "effect"
import { Instance, type Owner } from "../../src/host/Instance.ts"

export class SimulatedProcesses extends Context.Service<SimulatedProcesses, {
  /** A new process. With the pid of an ended one it is that pid used again: another start, so another owner. */
  readonly start: (pid?: number) => Effect.Effect<Owner>
  /** The process is gone, as after `kill -9`. */
  readonly end: (owner: Owner) => Effect.Effect<void>
  /** Whether a process can be seen from here; when not, nobody can tell if it is alive. */
  readonly see: (owner: Owner, visible: boolean) => Effect.Effect<void>
  /** Those that run, oldest first. */
  readonly running: Effect.Effect<ReadonlyArray<Owner>>
  /** The port as the process `owner` sees it. */
  readonly instance: (owner: Owner, root?: string) => Instance["Service"]
}>()("orchestrator/test/SimulatedProcesses") {
  static readonly layer: Layer.Layer<SimulatedProcesses> = Layer.sync(SimulatedProcesses, () => {
    const running = new Map<string, Owner>()
    const hidden = new Set<string>()
    let started = 0
    return SimulatedProcesses.of({
      start: (pid) =>
        Effect.sync(() => {
          started++
          const owner: Owner = { pid: pid ?? firstPid + started, startedAt: `boot 1, start ${started}`, machine }
          running.set(key(owner), owner)
          return owner
        }),
      end: (owner) => Effect.sync(() => void running.delete(key(owner))),
      see: (owner, visible) =>
        Effect.sync(() => {
          if (visible) hidden.delete(key(owner))
          else hidden.add(key(owner))
        }),
      running: Effect.sync(() => [...running.values()]),
      instance: (owner, root = "/project") =>
        Instance.of({
          root,
          owner,
          isAlive: (other) =>
            Effect.sync(() => {
              if (other.machine !== machine || hidden.has(key(other))) return "unknown"
              return running.has(key(other)) ? "alive" : "dead"
            })
        })
    })
  })
}

/** The port of one process. */
export const layer = (owner: Owner, root?: string): Layer.Layer<Instance, never, SimulatedProcesses> =>
  Layer.effect(Instance, Effect.map(SimulatedProcesses, (processes) => processes.instance(owner, root)))

const machine = "simulated1"
const firstPid = 1_000
const key = ({ machine, pid, startedAt }: Owner): string => `${machine} ${pid} ${startedAt}`
