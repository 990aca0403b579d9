/** Every background command at hand, keyed by id. The only writer of their state. */
import { Clock, Context, Effect, Exit, Layer, Schema } from "effect"
import { Config } from "../Config.ts"
import { type Command, type CommandEvent, type CommandId, hasEnded, transition } from "../domain/Command.ts"
import { type JournalFailed, TaskJournal } from "../tasks/TaskJournal.ts"

export class CommandNotFound extends Schema.TaggedError<CommandNotFound>()("CommandNotFound", { id: Schema.String }) {
  override get message() {
    return `There is no command "${this.id}". list_background shows the ids.`
  }
}

export class CommandStore extends Context.Service<CommandStore, {
  /** Records a new command. It is recorded when this returns; when it fails, there is no such command. */
  readonly add: (command: Command) => Effect.Effect<void, JournalFailed>
  /** Takes over a command that another instance recorded. */
  readonly adopt: (command: Command) => Effect.Effect<void, JournalFailed>
  /** Decides by the pure transition and records the outcome; nothing for one that is not at hand any more. */
  readonly apply: (id: CommandId, event: CommandEvent) => Effect.Effect<Command | undefined>
  readonly get: (id: string) => Effect.Effect<Command, CommandNotFound>
  /** Oldest first. */
  readonly all: Effect.Effect<ReadonlyArray<Command>>
  readonly drop: (id: CommandId) => Effect.Effect<void>
}>()("orchestrator/commands/CommandStore") {
  static readonly layer = Layer.effect(
    CommandStore,
    Effect.gen(function*() {
      const config = yield* Config
      const journal = yield* TaskJournal
      const commands = new Map<string, Command>()

      const put = Effect.fnUntraced(function*(command: Command) {
        commands.set(command.id, command)
        const recorded = yield* Effect.exit(journal.record("command", command.id, command))
        if (Exit.isSuccess(recorded)) return
        if (config.journal === "preferred" && !(yield* journal.isLost)) return
        yield* journal.drop("command", command.id)
        commands.delete(command.id)
        yield* recorded
      }, Effect.uninterruptible)

      return CommandStore.of({
        add: put,
        adopt: (command) => Effect.suspend(() => commands.has(command.id) ? Effect.void : put(command)),
        apply: Effect.fnUntraced(function*(id, event) {
          const before = commands.get(id)
          if (before === undefined) return undefined
          const after = transition(before, event, yield* Clock.currentTimeMillis)
          if (after === before) return after
          commands.set(id, after)
          yield* Effect.ignore(journal.record("command", id, after)) // what fails is said by the journal, which tries again
          // Nothing may follow from a transition of a command that belongs to another instance by now.
          if (yield* journal.isLost) return yield* Effect.interrupt
          return after
        }, Effect.uninterruptible),
        get: Effect.fnUntraced(function*(id) {
          const known = commands.get(id.trim())
          return known ?? (yield* new CommandNotFound({ id }))
        }),
        all: Effect.sync(() => [...commands.values()]),
        drop: (id) =>
          Effect.suspend(() => {
            commands.delete(id)
            return journal.drop("command", id)
          })
      })
    })
  )
}

/** Those of a session that may still have something to say. */
export const isOpenCommand = (command: Command): boolean => !hasEnded(command) || !command.told
