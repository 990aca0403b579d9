/** The port to the process that this copy of the orchestrator lives in, and to the processes of other copies. */
import { Context, type Effect, Schema } from "effect"

/** A process, named so that no other one can be taken for it: a pid alone is used again. */
export const Owner = Schema.Struct({
  pid: Schema.Int,
  /** The process's start in the operating system's own terms; compared, never computed with. */
  startedAt: Schema.String,
  /** The machine and its boot: pids of another one say nothing here. */
  machine: Schema.String
})
export type Owner = typeof Owner.Type

export class Instance extends Context.Service<Instance, {
  /** The project's root folder, absolute. */
  readonly root: string
  /** The process that this copy lives in. */
  readonly owner: Owner
  /** Whether a process still runs, paused ones included. Unknown for those of other machines. */
  readonly isAlive: (owner: Owner) => Effect.Effect<"alive" | "dead" | "unknown">
}>()("orchestrator/host/Instance") {}
