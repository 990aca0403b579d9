/**
 * Commands that run beside an agent. A command lives in a process group that ends as one: when it ends itself, at its
 * time limit, when it is killed, when its session is deleted or its mission stopped, and with the process of its host.
 * The commands of a child end with its task: a child is done when its turn is, whatever runs beside it. Those of a root
 * session live on until its mission or the host ends. The agent is told of every end exactly once, after a restart too.
 */
import {
  Clock,
  Context,
  Deferred,
  Duration,
  Effect,
  Fiber,
  FiberMap,
  FiberSet,
  FileSystem,
  Layer,
  Option,
  Path,
  Schedule,
  Schema,
  Stream
} from "effect"
import { Config } from "../Config.ts"
import { type Command, type CommandExit, type CommandId, hasEnded, isUntoldCommand } from "../domain/Command.ts"
import type { SessionId } from "../domain/Session.ts"
import { formatDuration } from "../domain/Task.ts"
import { cutMiddle, plainText } from "../domain/Text.ts"
import { Instance } from "../host/Instance.ts"
import { Mask } from "../host/Mask.ts"
import { type CannotStart, ProcessGroups } from "../host/ProcessGroups.ts"
import type { SessionError } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { isWithin, ownFolder, ownNames, writeOnce } from "../OwnFiles.ts"
import { Notices } from "../tasks/Notices.ts"
import { Orders } from "../tasks/Orders.ts"
import type { JournalFailed } from "../tasks/TaskJournal.ts"
import type { Caller, PermissionDenied } from "../tools/Tool.ts"
import * as CommandOutput from "./CommandOutput.ts"
import { CommandNotFound, CommandStore } from "./CommandStore.ts"

export class BadCommand extends Schema.TaggedError<BadCommand>()("BadCommand", { why: Schema.String }) {
  override get message() {
    return `Nothing was started: ${this.why}.`
  }
}

export class TooManyCommands extends Schema.TaggedError<TooManyCommands>()("TooManyCommands", {
  limit: Schema.Int,
  running: Schema.Array(Schema.String),
  own: Schema.Boolean
}) {
  override get message() {
    const whose = this.own ? "of yours are" : "are"
    return `${this.limit} commands ${whose} running already (${this.running.join(", ")}). `
      + (this.own ? "Wait for the end of one, or stop one with kill_background." : "Wait for the end of one.")
  }
}

/** Nothing can be kept of what it would print. */
export class NoLog extends Schema.TaggedError<NoLog>()("NoLog", { file: Schema.String, why: Schema.String }) {
  override get message() {
    return `Nothing was started: its output cannot be written to ${this.file} (${this.why}).`
  }
}

export interface CommandOrder {
  readonly command: string
  readonly cwd?: string | undefined
  /** In ms. */
  readonly timeout?: number | undefined
  readonly label?: string | undefined
}

export type CommandRefused =
  | BadCommand
  | TooManyCommands
  | NoLog
  | CannotStart
  | PermissionDenied
  | JournalFailed
  | SessionError

export class BackgroundCommands extends Context.Service<BackgroundCommands, {
  /** Asks for the permission, records the command and starts it. It runs on in the background. */
  readonly run: (order: CommandOrder, caller: Caller) => Effect.Effect<Command, CommandRefused>
  /**
   * A command of the caller's mission, what it has printed, and the file that holds all of that. Its agent counts as told
   * when it reads of the end.
   */
  readonly check: (id: string, caller: SessionId) => Effect.Effect<
    { readonly command: Command; readonly output: string; readonly log: string },
    CommandNotFound | SessionError
  >
  /** All commands at hand of the caller's mission, oldest first. */
  readonly list: (caller: SessionId) => Effect.Effect<ReadonlyArray<Command>, SessionError>
  /** Stops a command of the caller's mission, and waits until nothing of it is left. Tells whether it still ran. */
  readonly kill: (
    id: string,
    caller: SessionId,
    reason: string
  ) => Effect.Effect<{ readonly command: Command; readonly ran: boolean }, CommandNotFound | SessionError>
  /** Nothing more is said to the session of its commands; those that run are stopped, in the background. */
  readonly release: (session: SessionId, reason: string) => Effect.Effect<void>
  /** Stops all that fit, and waits until nothing of them is left. */
  readonly endAll: (belongs: (command: Command) => boolean, reason: string) => Effect.Effect<void>
  /** Ends what dead instances have left of these, whoever may tell of it. */
  readonly endLeft: (commands: ReadonlyArray<Command>) => Effect.Effect<void>
  /** Goes on with adopted commands of an instance that died: what still ran is ended, and its agent told. */
  readonly takeOver: (commands: ReadonlyArray<Command>) => Effect.Effect<void>
}>()("orchestrator/commands/BackgroundCommands") {
  static readonly layer = Layer.effect(
    BackgroundCommands,
    Effect.gen(function*() {
      const { commands: limits, noticeResultChars, retention } = yield* Config
      const fs = yield* FileSystem.FileSystem
      const groups = yield* ProcessGroups
      const ids = yield* Ids
      const { root } = yield* Instance
      const mask = yield* Mask
      const notices = yield* Notices
      const orders = yield* Orders
      const path = yield* Path.Path
      const store = yield* CommandStore
      const folder = path.join(root, ".opencode", "orchestrator", "commands")
      /** Never read from a record: a journal may have come with the repository. */
      const logOf = (id: CommandId) => path.join(folder, `${id}.log`)
      const lives = yield* FiberMap.make<CommandId>()
      const background = yield* FiberSet.make()
      const outputs = new Map<CommandId, () => string>()
      /** By which those that run are asked to end, with the reason. */
      const stops = new Map<CommandId, Deferred.Deferred<string>>()
      /** Whose agent hears of the end by the answer to its own call. */
      const answered = new Set<CommandId>()

      // ---- starting ---------------------------------------------------------------------------------------------

      const refuseWhenFull = Effect.fnUntraced(function*(session: SessionId) {
        const running = (yield* store.all).filter((command) => !hasEnded(command))
        const own = running.filter((command) => command.session === session)
        const refuse = (limit: number, of: ReadonlyArray<Command>, isOwn: boolean) =>
          of.length < limit
            ? Effect.void
            : Effect.fail(new TooManyCommands({ limit, running: of.map(({ id }) => id), own: isOwn }))
        yield* refuse(limits.perSession, own, true)
        yield* refuse(limits.total, running, false)
      })

      /** The folder with all links resolved. Outside of the project the host's own permission decides. */
      const findFolder = Effect.fnUntraced(function*(cwd: string, caller: Caller) {
        const wanted = path.resolve(root, cwd)
        const real = yield* fs.realPath(wanted).pipe(
          Effect.filterOrFail((found) => !found.includes("\0")),
          Effect.mapError(() => new BadCommand({ why: `there is no folder ${wanted}` }))
        )
        const { type } = yield* Effect.mapError(fs.stat(real), () => new BadCommand({ why: `${real} cannot be read` }))
        if (type !== "Directory") return yield* new BadCommand({ why: `${real} is not a folder` })
        if (!(yield* Effect.orElseSucceed(isWithin({ fs, path }, root, real), () => false))) {
          const patterns = [path.join(real, "*")]
          yield* caller.ask({ permission: "external_directory", patterns, always: patterns, metadata: {} })
        }
        return real
      })

      const makeFolder = Effect.fnUntraced(function*() {
        yield* ownFolder({ fs, path }, root, "orchestrator", "commands")
        yield* writeOnce(fs, path.join(folder, ".gitignore"), "*\n")
      })

      const run = Effect.fn("BackgroundCommands.run")(function*(
        order: CommandOrder,
        caller: Caller
      ): Effect.fn.Return<Command, CommandRefused> {
        const line = order.command.trim()
        if (line === "") return yield* new BadCommand({ why: "the command is empty" })
        if (line.includes("\0") || line.length > longestCommand) {
          return yield* new BadCommand({ why: `a command is a text of at most ${longestCommand} characters` })
        }
        yield* refuseWhenFull(caller.session)
        const cwd = yield* findFolder(order.cwd ?? ".", caller)
        const patterns = shellParts(line)
        const metadata = { command: line, description: order.label ?? line, background: true }
        yield* caller.ask({ permission: "bash", patterns, always: patterns, metadata })
        const mission = yield* orders.missionOf(caller.session)
        const id = yield* ids.command
        const label = order.label?.trim()
        const command: Command = {
          id,
          mission,
          session: caller.session,
          agent: caller.agent,
          command: line,
          ...(label === undefined || label === "" ? {} : { label }),
          cwd,
          timeLimit: Math.min(
            order.timeout ?? Duration.toMillis(limits.timeLimit),
            Duration.toMillis(limits.maxTimeLimit)
          ),
          state: "starting",
          startedAt: yield* Clock.currentTimeMillis,
          told: false
        }
        const begun = yield* Deferred.make<Command, CannotStart | NoLog>()
        yield* Effect.uninterruptible(Effect.gen(function*() {
          yield* refuseWhenFull(caller.session) // others may have started while the user was asked
          // Before it starts: whatever happens then, the next instance knows what to look for.
          yield* store.add(command)
          stops.set(id, yield* Deferred.make<string>())
          yield* FiberMap.run(lives, id, Effect.interruptible(live(command, begun)))
        }))
        return yield* Deferred.await(begun)
      })

      // ---- the life of a command --------------------------------------------------------------------------------

      const live = Effect.fnUntraced(
        function*(command: Command, begun: Deferred.Deferred<Command, CannotStart | NoLog>) {
          const { id } = command
          const output = yield* makeFolder().pipe(
            Effect.andThen(CommandOutput.make({ file: logOf(id), limit: limits.logBytes, mask })),
            Effect.provideService(FileSystem.FileSystem, fs),
            Effect.mapError((error) => new NoLog({ file: logOf(id), why: error.message }))
          )
          outputs.set(id, output.text)
          const group = yield* groups.start({ id, command: command.command, cwd: command.cwd, grace: limits.grace })
          const printing = yield* Stream.decodeText(group.output).pipe(
            Stream.runForEach(output.take),
            Effect.forkScoped
          )
          const started = yield* store.apply(id, { type: "started", leader: group.leader })
          yield* Deferred.succeed(begun, started ?? command)
          const outcome = yield* Effect.raceFirst(
            Effect.map(group.exit, (exit): Outcome => ({ exit })),
            Effect.map(whenStopped(command), (stopped): Outcome => ({ exit: {}, stopped }))
          )
          yield* group.end
          // Who has left the group may hold its output open for ever.
          yield* Effect.timeoutOption(Fiber.await(printing), outputWait)
          yield* finish(command, outcome, output.text())
        },
        (life, command, begun) =>
          Effect.scoped(life).pipe(
            Effect.catch((error) => Effect.andThen(forget(command.id), Deferred.fail(begun, error))),
            Effect.catchDefect((defect) =>
              Effect.andThen(
                Effect.logError(`the command ${command.id} failed inside the orchestrator`, defect),
                finish(command, { exit: {}, stopped: "the orchestrator itself failed" }, "")
              )
            )
          )
      )

      /** Asked to, or at the time limit. */
      const whenStopped = ({ id, timeLimit }: Command) => {
        const stop = stops.get(id)
        return (stop === undefined ? Effect.never : Deferred.await(stop)).pipe(
          Effect.timeoutOrElse({
            duration: timeLimit,
            orElse: () => Effect.succeed(`at its time limit of ${formatDuration(timeLimit)}`)
          })
        )
      }

      /** Not to be cut off between the end and the telling of it. */
      const finish = Effect.fnUntraced(function*(command: Command, { exit, stopped }: Outcome, printed: string) {
        const { id, session } = command
        if (answered.delete(id)) yield* notices.answered({ id, parent: session })
        const output = cutMiddle(mask(printed).trim(), Math.min(recordedOutput, noticeResultChars))
        yield* store.apply(id, { type: "ended", exit, output, ...(stopped === undefined ? {} : { stopped }) })
        stops.delete(id)
        yield* notices.consider(session)
      }, Effect.uninterruptible)

      const forget = Effect.fnUntraced(function*(id: CommandId) {
        outputs.delete(id)
        stops.delete(id)
        yield* store.drop(id)
      })

      /** Returns when nothing is left of it, and its end is recorded. */
      const stop = Effect.fnUntraced(function*(id: CommandId, reason: string) {
        const asked = stops.get(id)
        const life = yield* FiberMap.get(lives, id)
        if (asked !== undefined) yield* Deferred.succeed(asked, reason)
        if (Option.isSome(life)) yield* Fiber.await(life.value)
      })

      const endAll = Effect.fnUntraced(function*(belongs: (command: Command) => boolean, reason: string) {
        const running = (yield* store.all).filter((command) => !hasEnded(command) && belongs(command))
        yield* Effect.forEach(running, ({ id }) => stop(id, reason), { concurrency: "unbounded", discard: true })
      })

      // ---- answers ----------------------------------------------------------------------------------------------

      const find = Effect.fnUntraced(function*(id: string, caller: SessionId) {
        const command = yield* store.get(id)
        const mission = yield* orders.missionOf(caller)
        return command.mission === mission ? command : yield* new CommandNotFound({ id })
      })

      const check = Effect.fn("BackgroundCommands.check")(function*(id: string, caller: SessionId) {
        const command = yield* find(id, caller)
        if (isUntoldCommand(command) && command.session === caller && command.notice === undefined) {
          yield* notices.answered({ id: command.id, parent: caller })
        }
        return { command, output: outputs.get(command.id)?.() ?? command.output ?? "", log: logOf(command.id) }
      })

      const kill = Effect.fn("BackgroundCommands.kill")(function*(id: string, caller: SessionId, reason: string) {
        const command = yield* find(id, caller)
        const ran = !hasEnded(command)
        if (ran && command.session === caller) answered.add(command.id)
        yield* Effect.uninterruptible(stop(command.id, reason))
        return { command: (yield* check(id, caller)).command, ran }
      })

      // ---- what others have left --------------------------------------------------------------------------------

      const endLeft = (commands: ReadonlyArray<Command>) =>
        Effect.forEach(
          commands.filter((command) => !hasEnded(command)),
          ({ id, leader }) => groups.endLeft(id, leader),
          { concurrency: 8, discard: true }
        )

      /** The end of what a command has printed, from its file. */
      const readEnd = Effect.fnUntraced(function*(id: CommandId) {
        const file = logOf(id)
        if ((yield* fs.realPath(file)) !== path.join(yield* fs.realPath(folder), `${id}.log`)) return ""
        const handle = yield* fs.open(file, { flag: "r" })
        const size = Number((yield* handle.stat).size)
        const bytes = new Uint8Array(Math.min(size, endRead))
        yield* handle.read(bytes, { position: BigInt(size - bytes.length) })
        return plainText(yield* Stream.mkString(Stream.decodeText(Stream.make(bytes))))
      }, (reading) => Effect.orElseSucceed(Effect.scoped(reading), () => "")) // its file may be gone

      const takeOver = Effect.fnUntraced(function*(commands: ReadonlyArray<Command>) {
        yield* endLeft(commands)
        for (const command of commands) {
          if (hasEnded(command)) continue
          const output = yield* readEnd(command.id)
          outputs.set(command.id, () => output)
          yield* finish(command, { exit: {}, stopped: "with the OpenCode that it ran in" }, output)
        }
        for (const command of commands) if (isUntoldCommand(command)) yield* notices.consider(command.session)
      })

      // ---- cleaning up ------------------------------------------------------------------------------------------

      const clean = Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        const isOver = (command: Command) => hasEnded(command) && command.told
        const over = (yield* store.all).filter(isOver)
        const tooMany = over.slice(0, Math.max(0, over.length - endedKept))
        const old = over.filter(({ endedAt = now }) => now - endedAt >= Duration.toMillis(retention.completed))
        for (const { id } of new Set([...tooMany, ...old])) {
          yield* fs.remove(logOf(id), { force: true })
          yield* forget(id)
        }
      })
      /** Logs that a crash left without a record. */
      const sweep = Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        const known = new Set((yield* store.all).map(({ id }) => logOf(id)))
        const names = yield* ownNames({ fs, path }, root, folder)
        for (const name of names) {
          const file = path.join(folder, name)
          if (!/^job_[a-z0-9]+\.log$/.test(name) || known.has(file)) continue
          const { mtime } = yield* fs.stat(file)
          if (Option.exists(mtime, (time) => now - time.getTime() > strayKept)) yield* fs.remove(file, { force: true })
        }
      })
      const everyPass = <E>(pass: Effect.Effect<void, E>, interval: Duration.Input) =>
        pass.pipe(
          Effect.catchCause((cause) => Effect.logDebug("logs of commands could not be cleaned up", cause)), // the next pass tries again
          Effect.repeat(Schedule.spaced(interval)),
          Effect.forkScoped
        )
      yield* everyPass(clean, "30 seconds")
      yield* everyPass(sweep, "1 hour")

      return BackgroundCommands.of({
        run,
        check,
        list: Effect.fn("BackgroundCommands.list")(function*(caller: SessionId) {
          const mission = yield* orders.missionOf(caller)
          return (yield* store.all).filter((command) => command.mission === mission)
        }),
        kill,
        release: Effect.fnUntraced(function*(session, reason) {
          const own = (yield* store.all).filter((command) => command.session === session)
          for (const { id } of own) yield* store.apply(id, { type: "told" })
          if (own.some((command) => !hasEnded(command))) {
            yield* FiberSet.run(background, endAll((command) => command.session === session, reason))
          }
        }),
        endAll,
        endLeft,
        takeOver
      })
    })
  )
}

interface Outcome {
  readonly exit: CommandExit
  readonly stopped?: string
}

const longestCommand = 30_000

/** Ended commands at hand, with what they printed in memory. */
const endedKept = 50

/** What the record holds of the output, and a notice shows. In characters. */
const recordedOutput = 2_000

/** The end of a log file that is read after a restart. In bytes. */
const endRead = 64_000

/** How long the output may take to end after the last process of its group. */
const outputWait = "2 seconds"

/** A log without a record stays for this long: it may be another instance's. In ms. */
const strayKept = 24 * 60 * 60_000

/**
 * Each part of a line that a shell might run by itself: rules are written for single commands, and one that allows the
 * first must not carry the others. What is cut apart inside of quotes is asked for once more than needed, no harm done.
 */
export const shellParts = (line: string): ReadonlyArray<string> => {
  const parts = line
    .replace(/\d?[<>]&\d|&>/g, ">")
    .split(/&&|\|\||[;&|\n`(){}]/)
    .map((part) => part.replace(/^[\s!$<>]*(?:(?:do|elif|else|if|then|time|until|while)\s+)*/, ""))
    // A rule that forbids a program does so whatever variables it is given.
    .flatMap((part) => [part, part.replace(/^(?:[A-Za-z_]\w*=\S*\s+)+/, "")])
    .map((part) => part.trim())
    .filter((part) => part !== "" && part !== "\"" && part !== "'")
  return parts.length === 0 ? [line] : [...new Set(parts)]
}
