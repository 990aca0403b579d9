/** The port to the process that this copy of the orchestrator lives in, and to the processes of other copies. */
import { Context, type Effect, Schema } from "effect"

/** A process, named so that no other one can be taken for it: a pid alone is used again. */
export const Owner = Schema.Struct({
  pid: Schema.Int,
  /** The process's start and its machine's boot in the operating system's own terms; compared, never computed with. */
  startedAt: Schema.String,
  /**
   * Stands for the machine and its user: pids of another one say nothing here. 6 to 16 lower-case letters and digits that
   * a repository's author cannot guess, so that a journal which was planted in a repository is not taken for our own.
   */
  machine: Schema.String.check(Schema.isPattern(/^[a-z0-9]{6,16}$/))
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
