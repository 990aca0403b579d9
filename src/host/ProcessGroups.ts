/** The port to the operating system's processes, as groups that begin and end as one. */
import { Context, type Duration, type Effect, Schema, type Scope, type Stream } from "effect"
import type { CommandExit, CommandId } from "../domain/Command.ts"
import type { Owner } from "./Instance.ts"

/** The system would not start it. */
export class CannotStart extends Schema.TaggedError<CannotStart>()("CannotStart", { why: Schema.String }) {
  override get message() {
    return `The command could not be started: ${this.why}.`
  }
}

export interface ProcessGroup {
  readonly leader: Owner
  /** What all of its processes print, in order. Read no faster than it is taken; ends when none is left to print. */
  readonly output: Stream.Stream<Uint8Array>
  /** How the command ended. Processes that it has started may be left. */
  readonly exit: Effect.Effect<CommandExit>
  /** Asks all of its processes to end, and makes them after the grace. Returns when none is left; at once if none is. */
  readonly end: Effect.Effect<void>
}

export interface GroupOptions {
  /** Carried by each process of the group, so that it is recognised beyond doubt. */
  readonly id: CommandId
  /** A line for the shell. */
  readonly command: string
  readonly cwd: string
  /** The time from the request to end until the end. */
  readonly grace: Duration.Duration
}

export class ProcessGroups extends Context.Service<ProcessGroups, {
  /**
   * Starts a command in a group of its own. The group ends with the scope; and with the process of the host, however
   * that ends: what is not certain then is made certain by the next instance, with `endLeft`.
   */
  readonly start: (options: GroupOptions) => Effect.Effect<ProcessGroup, CannotStart, Scope.Scope>
  /** Ends what is left of a group that an earlier instance on this machine has started, and nothing else. */
  readonly endLeft: (id: CommandId, leader: Owner | undefined) => Effect.Effect<void>
}>()("orchestrator/host/ProcessGroups") {}
