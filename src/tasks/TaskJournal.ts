/**
 * The durable record of tasks, missions, what these have found out, and plans: one append-only file per instance, a line
 * for each change, the newest line wins. What happens while a flush is under way goes out together with the next one.
 */
import {
  type Cause,
  Context,
  Deferred,
  Effect,
  Exit,
  FileSystem,
  Layer,
  Option,
  type PlatformError,
  Queue,
  Result,
  Schema,
  Scope
} from "effect"
import { Config } from "../Config.ts"
import { Command } from "../domain/Command.ts"
import { Finding } from "../domain/Finding.ts"
import { Mission } from "../domain/Mission.ts"
import { StartedPlan } from "../domain/Plan.ts"
import { SessionId } from "../domain/Session.ts"
import { Task } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { Lease } from "./Lease.ts"

/** The change is not on disk. It is kept, and tried again. */
export class JournalFailed extends Schema.TaggedError<JournalFailed>()("JournalFailed", {
  file: Schema.String,
  why: Schema.String
}) {
  override get message() {
    return `No new task is started, because it could not be recorded in ${this.file} (${this.why}). `
      + "Ask the user to mend that, or to set \"journal\": \"preferred\" to work without a record."
  }
}

const kinds = ["task", "mission", "context", "plan", "command"] as const
export type Kind = (typeof kinds)[number]
/** What the agents of a mission have reported, by numbers in the order of its arrival. */
export const Findings = Schema.Record(Schema.String, Finding)
export type Findings = typeof Findings.Type
type Recorded = Task | Mission | Findings | StartedPlan | Command
type Value = { readonly [key: string]: unknown }

export class TaskJournal extends Context.Service<TaskJournal, {
  /** The name of this instance, by which its sessions are recognised after a crash; undefined when nothing is recorded. */
  readonly instance: string | undefined
  /** Records the newest state of a task, a mission, its context, a plan or a command. It is on disk when this returns. */
  readonly record: (kind: Kind, id: string, value: Recorded) => Effect.Effect<void, JournalFailed>
  /** The same for what may be lost in a crash: it goes out with the next record, or within five seconds. */
  readonly note: (kind: Kind, id: string, value: Recorded) => Effect.Effect<void>
  /** Waits until all that was recorded, noted and dropped so far is on disk. */
  readonly flushed: Effect.Effect<void, JournalFailed>
  /** Nothing of it is needed any more. */
  readonly drop: (kind: Kind, id: string) => Effect.Effect<void>
  /** A task in the journal of another instance, alive or dead. */
  readonly elsewhere: (id: string) => Effect.Effect<Option.Option<Task>>
  /** Whether its tasks are another instance's by now, because this one was taken for dead, or has ended: it must not touch them. */
  readonly isLost: Effect.Effect<boolean>
}>()("orchestrator/tasks/TaskJournal") {
  /** Records nothing: all is lost with the process. */
  static readonly layerMemory = Layer.succeed(TaskJournal, {
    instance: undefined,
    record: () => Effect.void,
    note: () => Effect.void,
    flushed: Effect.void,
    drop: () => Effect.void,
    elsewhere: () => Effect.succeedNone,
    isLost: Effect.succeed(false)
  })

  /** A file in the folder of the lease, begun with the first record, removed at the end when nothing is left in it. */
  static readonly layer = Layer.effect(
    TaskJournal,
    Effect.gen(function*() {
      const config = yield* Config
      const fs = yield* FileSystem.FileSystem
      const lease = yield* Lease
      const notifier = yield* Notifier
      const current = new Map<string, Value>()
      /** What the file says. */
      const written = new Map<string, Value>()
      const dirty = new Set<string>()
      const wake = yield* Queue.sliding<void>(1)
      let waiting: Array<Deferred.Deferred<void, JournalFailed>> = []
      let file: Writer | undefined
      let failing = false
      let lost = false
      let ended = false
      const takenOver = new JournalFailed({ file: lease.journal, why: "another OpenCode has taken it over" })

      const open = Effect.gen(function*() {
        if (file !== undefined) return file
        yield* lease.take
        return yield* renew
      })

      /** Makes the file anew, from all that is current. */
      const renew = Effect.gen(function*() {
        const snapshot = new Map(current) // it changes while it is written
        const next = yield* begin(fs, lease.journal, lease.instance, snapshot)
        file = next
        written.clear()
        for (const [key, value] of snapshot) written.set(key, value)
        return next
      })

      /** A new file says what is current when it is made, which may be more than the batch. */
      const write = Effect.fnUntraced(function*(batch: ReadonlyArray<readonly [string, Value | undefined]>) {
        const isNew = file === undefined
        const out = yield* open
        if (isNew) return
        if (!(yield* fs.exists(lease.journal))) {
          if (!(yield* lease.isTaken)) {
            // Somebody has deleted the folder, `git clean` perhaps: all that matters is still here.
            yield* out.close
            file = undefined
            yield* open
            return
          }
          lost = true
          yield* notifier.show(presets.journalLost)
          return yield* takenOver
        }
        const lines = batch.flatMap(([key, value]) => changeLine(key, written.get(key), value) ?? [])
        yield* out.append(lines.join(""))
        for (const [key, value] of batch) {
          if (value === undefined) written.delete(key)
          else written.set(key, value)
        }
      })

      /** Writes all that has changed since the last flush. Not to be cut off: a line that is half written is torn. */
      const flush = Effect.uninterruptible(Effect.gen(function*() {
        const waiters = waiting
        waiting = []
        const answer = (outcome: Effect.Effect<void, JournalFailed>) => {
          for (const waiter of waiters) Deferred.doneUnsafe(waiter, outcome)
        }
        if (lost) return answer(Effect.fail(takenOver))
        if (dirty.size === 0) return answer(Effect.void)
        const batch = [...dirty].map((key) => [key, current.get(key)] as const)
        dirty.clear()
        const exit = yield* Effect.exit(write(batch))
        if (Exit.isSuccess(exit)) {
          if (failing) yield* Effect.logInfo("the journal can be written again")
          failing = false
          answer(Effect.void)
          if (file !== undefined && file.isDue()) yield* compact
          return
        }
        for (const [key] of batch) dirty.add(key)
        const cause = exit.cause
        const failure = new JournalFailed({ file: lease.journal, why: describe(cause) })
        // A file that cannot even be cut back to its last whole line is left as it is; the next write makes a new one.
        if (file?.isBroken() === true) {
          yield* file.close
          file = undefined
        }
        const isNews = !failing && !lost
        failing = true
        answer(Effect.fail(failure))
        if (isNews) {
          yield* Effect.logError("the journal cannot be written", cause)
          yield* notifier.show(presets.journalFailed(failure.why, config.journal === "preferred"))
        }
      }))

      /** Replaces the file by one that holds the newest states only. */
      const compact = Effect.gen(function*() {
        const old = file
        yield* renew
        if (old !== undefined) yield* old.close
      }).pipe(Effect.catch((error) =>
        Effect.andThen(
          Effect.sync(() => file?.postpone()),
          Effect.logWarning("the journal could not be compacted, and grows on", error)
        )
      ))

      const change = (kind: Kind, id: string, value: Value | undefined) => {
        const key = keyOf(kind, id)
        if (value === undefined) current.delete(key)
        else current.set(key, value)
        dirty.add(key)
      }

      const end = Effect.gen(function*() {
        ended = true
        yield* flush
        const left = file
        if (left === undefined) return
        yield* left.close
        if (current.size === 0 && dirty.size === 0 && !lost) yield* Effect.ignore(fs.remove(lease.journal)) // an empty journal does no harm
      })
      yield* Effect.addFinalizer(() => end)
      yield* Queue.take(wake).pipe(
        Effect.timeoutOption(noteDelay),
        Effect.andThen(flush),
        Effect.catchCause((cause) => Effect.logError("the journal's writer failed, and goes on", cause)),
        Effect.forever,
        Effect.forkScoped
      )

      const flushed = Effect.suspend(() => {
        // Nobody would write it any more. What still calls, such as a tool that the host cuts off, must not wait for that.
        if (ended) return Effect.fail(new JournalFailed({ file: lease.journal, why: "this OpenCode is ending" }))
        const done = Deferred.makeUnsafe<void, JournalFailed>()
        waiting.push(done)
        Queue.offerUnsafe(wake, undefined)
        return Deferred.await(done)
      })

      return TaskJournal.of({
        instance: lease.instance,
        record: (kind, id, value) =>
          Effect.suspend(() => {
            if (!ended) change(kind, id, value)
            return flushed
          }),
        flushed,
        note: (kind, id, value) => Effect.sync(() => change(kind, id, value)),
        drop: (kind, id) => Effect.sync(() => change(kind, id, undefined)),
        elsewhere: Effect.fnUntraced(function*(id) {
          for (const { path } of yield* lease.others) {
            const { tasks } = yield* readJournal(path).pipe(
              Effect.provideService(FileSystem.FileSystem, fs),
              Effect.orElseSucceed(() => ({ tasks: [] })) // its owner has moved it meanwhile
            )
            const task = tasks.find((task) => task.id === id)
            if (task !== undefined) return Option.some(task)
          }
          return Option.none()
        }),
        isLost: Effect.sync(() => lost || ended)
      })
    })
  )
}

const noteDelay = "5 seconds"

/** A journal is compacted when it has grown to twice what it had to say, and to this many bytes at least. */
const compactAt = 1_000_000

const keyOf = (kind: Kind, id: string) => `${kind} ${id}`

const describe = (cause: Cause.Cause<PlatformError.PlatformError | JournalFailed>): string => {
  const error = cause.reasons.find((reason) => reason._tag === "Fail")?.error
  if (error === undefined) return "an unexpected failure; the log has the details"
  if (error._tag === "JournalFailed") return error.why
  const { reason } = error
  const detail = reason._tag === "BadArgument" ? reason.description : (causeCode(reason.cause) ?? reason.description)
  return explained[detail ?? ""] ?? explained[reason._tag] ?? detail ?? reason._tag
}

const causeCode = (cause: unknown): string | undefined =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : undefined

const explained: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EROFS: "the disk is read-only",
  EACCES: "no permission to write there",
  EPERM: "no permission to write there",
  PermissionDenied: "no permission to write there"
}

// ---- the file -----------------------------------------------------------------------------------------------------

interface Writer {
  readonly append: (text: string) => Effect.Effect<void, PlatformError.PlatformError>
  readonly isDue: () => boolean
  readonly postpone: () => void
  readonly isBroken: () => boolean
  readonly close: Effect.Effect<void>
}

/** Puts a whole new file in the place of the journal, and opens it. Until it is whole, the old one stays. */
const begin = Effect.fnUntraced(function*(
  fs: FileSystem.FileSystem,
  path: string,
  instance: string,
  values: ReadonlyMap<string, Value>
) {
  const fresh = `${path}.new`
  const scope = yield* Scope.make()
  return yield* Effect.gen(function*() {
    const file = yield* Scope.provide(fs.open(fresh, { flag: "w" }), scope)
    let size = 0
    const put = Effect.fnUntraced(function*(text: string) {
      const bytes = encoder.encode(text)
      yield* file.writeAll(bytes)
      size += bytes.length
    })
    yield* put(line({ kind: "journal", version, instance }))
    let slice = ""
    for (const [key, value] of values) {
      slice += changeLine(key, undefined, value) ?? ""
      if (slice.length < sliceChars) continue
      yield* put(slice)
      slice = ""
      yield* Effect.yieldNow // a large journal must not hold up the host
    }
    if (slice !== "") yield* put(slice)
    yield* file.sync
    yield* fs.rename(fresh, path)
    let due = Math.max(compactAt, 2 * size)
    let broken = false
    const writer: Writer = {
      append: Effect.fnUntraced(function*(text) {
        if (text === "") return
        const before = size
        yield* put(text).pipe(
          Effect.andThen(file.sync),
          Effect.tapError(() =>
            file.truncate(before).pipe(
              Effect.match({
                onFailure: () => {
                  broken = true
                },
                onSuccess: () => {
                  size = before
                }
              })
            )
          )
        )
      }),
      isDue: () => size >= due,
      postpone: () => {
        due = 2 * size
      },
      isBroken: () => broken,
      close: Scope.close(scope, Exit.void)
    }
    return writer
  }).pipe(
    Effect.onError(() =>
      Effect.andThen(Scope.close(scope, Exit.void), Effect.ignore(fs.remove(fresh, { force: true })))
    )
  ) // a left-over is overwritten
})

/** Every host has it; the core's types, which know no host, do not. */
declare const TextEncoder: new() => { readonly encode: (text: string) => Uint8Array }
const encoder = new TextEncoder()

const sliceChars = 100_000

// ---- lines ----------------------------------------------------------------------------------------------------------

const version = 1

const Line = Schema.fromJsonString(Schema.Union([
  Schema.Struct({ kind: Schema.Literal("journal"), version: Schema.Int, instance: Schema.String }),
  Schema.Struct({
    kind: Schema.Literals(kinds),
    id: Schema.String,
    set: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown)),
    unset: Schema.optionalKey(Schema.Array(Schema.String)),
    gone: Schema.optionalKey(Schema.Literal(true))
  })
]))
type Line = typeof Line.Type

const encodeLine = (content: Line) => Result.getOrThrow(encodeJson(content)) // it came out of our own schemas
const encodeJson = Schema.encodeResult(Schema.fromJsonString(Schema.Unknown))
const decodeLine = Schema.decodeOption(Line)

/** Each line begins with the checksum of its text: a damaged one is recognised although it may still be JSON. */
const line = (content: Line): string => {
  const text = encodeLine(content)
  return `${checksum(text)} ${text}\n`
}

/** The line that turns one state into the other; undefined when there is nothing to say. */
const changeLine = (key: string, before: Value | undefined, after: Value | undefined): string | undefined => {
  const space = key.indexOf(" ")
  const kind = kinds.find((known) => known === key.slice(0, space)) ?? "task" // keyOf made it
  const id = key.slice(space + 1)
  if (after === undefined) return before === undefined ? undefined : line({ kind, id, gone: true })
  const set = Object.entries(after).filter(([name, value]) => before?.[name] !== value)
  const unset = Object.keys(before ?? {}).filter((name) => !(name in after))
  if (set.length === 0 && unset.length === 0) return undefined
  return line({
    kind,
    id,
    ...(set.length > 0 ? { set: Object.fromEntries(set) } : {}),
    ...(unset.length > 0 ? { unset } : {})
  })
}

/** FNV-1a, 32 bits, as eight hex digits. */
const checksum = (text: string): string => {
  let hash = 0x811c9dc5 | 0 // a number beyond 31 bits would be a double, and slow
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193)
  return (hash >>> 0).toString(16).padStart(8, "0")
}

// ---- reading --------------------------------------------------------------------------------------------------------

export interface Contents {
  readonly tasks: ReadonlyArray<Task>
  readonly missions: ReadonlyArray<Mission>
  readonly contexts: ReadonlyArray<{ readonly root: SessionId; readonly findings: Findings }>
  readonly plans: ReadonlyArray<StartedPlan>
  readonly commands: ReadonlyArray<Command>
  /** Lines, or records without what they need, that could not be read. */
  readonly damaged: ReadonlyArray<string>
  /** The file was written by a release that this one does not know. */
  readonly unknownVersion: boolean
}

/** Reads all that can be read of a journal. */
export const readJournal = Effect.fnUntraced(function*(
  path: string
): Effect.fn.Return<Contents, PlatformError.PlatformError, FileSystem.FileSystem> {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(path)
  const records = new Map<string, Value>()
  const damaged: Array<string> = []
  let count = 0
  let yielded = 0
  for (let start = 0; start < text.length;) {
    const newline = text.indexOf("\n", start)
    const end = newline < 0 ? text.length : newline
    const raw = text.slice(start, end)
    start = end + 1
    if (++count % linesAtOnce === 0 || end - yielded > sliceChars) {
      yielded = end
      yield* Effect.yieldNow // a large journal must not hold up the host
    }
    if (raw === "") continue
    const content = raw.slice(9)
    const entry = raw[8] === " " && raw.slice(0, 8) === checksum(content) ? decodeLine(content) : Option.none()
    if (Option.isNone(entry)) {
      damaged.push(raw)
      continue
    }
    if (entry.value.kind === "journal") {
      if (entry.value.version !== version) {
        return { tasks: [], missions: [], contexts: [], plans: [], commands: [], damaged: [], unknownVersion: true }
      }
      continue
    }
    const { gone, id, kind, set, unset } = entry.value
    const key = keyOf(kind, id)
    if (gone === true) {
      records.delete(key)
      continue
    }
    const merged = { ...records.get(key), ...set }
    records.set(
      key,
      unset === undefined
        ? merged
        : Object.fromEntries(Object.entries(merged).filter(([name]) => !unset.includes(name)))
    )
  }
  const tasks: Array<Task> = []
  const missions: Array<Mission> = []
  const contexts: Array<Contents["contexts"][number]> = []
  const plans: Array<StartedPlan> = []
  const commands: Array<Command> = []
  for (const [key, record] of records) {
    if (++count % linesAtOnce === 0) yield* Effect.yieldNow
    const task = key.startsWith("task ") ? decodeTask(record) : Option.none()
    const mission = key.startsWith("mission ") ? decodeMission(record) : Option.none()
    const findings = key.startsWith("context ") ? decodeFindings(record) : Option.none()
    const plan = key.startsWith("plan ") ? decodePlan(record) : Option.none()
    const command = key.startsWith("command ") ? decodeCommand(record) : Option.none()
    if (Option.isSome(findings)) {
      contexts.push({ root: SessionId.make(key.slice("context ".length)), findings: findings.value })
    } else if (Option.isSome(task)) tasks.push(task.value)
    else if (Option.isSome(mission)) missions.push(mission.value)
    else if (Option.isSome(plan)) plans.push(plan.value)
    else if (Option.isSome(command)) commands.push(command.value)
    else damaged.push(changeLine(key, undefined, record)?.trimEnd() ?? key)
  }
  return { tasks, missions, contexts, plans, commands, damaged, unknownVersion: false }
})

const linesAtOnce = 100

const decodeTask = Schema.decodeUnknownOption(Task)
const decodeFindings = Schema.decodeUnknownOption(Findings)
const decodeMission = Schema.decodeUnknownOption(Mission)
const decodePlan = Schema.decodeUnknownOption(StartedPlan)
const decodeCommand = Schema.decodeUnknownOption(Command)
