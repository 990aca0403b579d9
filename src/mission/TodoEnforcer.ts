/**
 * What is left to do in a mission: by `.opencode/todo.md`, which agents and people write, and by the list that the host
 * keeps for its root session. Whose list the file holds is recorded beside the journal: it is never moved away from a
 * mission that works by it, nor from a person who wrote it for the next one.
 */
import {
  Clock,
  Context,
  DateTime,
  Effect,
  FileSystem,
  Hash,
  Layer,
  Option,
  Path,
  Schedule,
  Schema,
  Semaphore
} from "effect"
import { Config } from "../Config.ts"
import { SessionId } from "../domain/Session.ts"
import {
  fromHost,
  isSettled,
  openItems,
  parse,
  progress,
  setState,
  type TodoItem,
  type TodoList
} from "../domain/Todo.ts"
import { Instance } from "../host/Instance.ts"
import { SessionClient } from "../host/SessionClient.ts"
import { isWithin, ownFolder, replaceFile } from "../OwnFiles.ts"
import { Lease } from "../tasks/Lease.ts"
import { readJournal } from "../tasks/TaskJournal.ts"

export class TodoEnforcer extends Context.Service<TodoEnforcer, {
  /** What is left to do. A list that cannot be read counts as none, and the log says so once. */
  readonly open: (root: SessionId) => Effect.Effect<ReadonlyArray<TodoItem>>
  /** How much of it is done; `total` is 0 when there is no list. */
  readonly progress: (root: SessionId) => Effect.Effect<{ readonly done: number; readonly total: number }>
  /**
   * Puts down what became of a step, if the mission's list has it, with the same text; every other byte stays. A list that
   * cannot be written stays as it is, and the log says so.
   */
  readonly mark: (
    root: SessionId,
    step: { readonly id: string; readonly text: string },
    state: "done" | "failed",
    reason?: string
  ) => Effect.Effect<void>
  /**
   * A mission starts. A list that an earlier one left, or that is done, is moved to `.opencode/archive/`, and where to is
   * answered; any other becomes this mission's own. The list of a mission that is still active stays what it is, and is
   * not counted here: `isActive` knows those of this instance, the journals those of others.
   */
  readonly archive: (
    root: SessionId,
    isActive: (mission: SessionId) => boolean
  ) => Effect.Effect<string | undefined>
}>()("orchestrator/mission/TodoEnforcer") {
  static readonly layer = Layer.effect(
    TodoEnforcer,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const fs = yield* FileSystem.FileSystem
      const lease = yield* Lease
      const path = yield* Path.Path
      const { root: project } = yield* Instance
      const file = path.join(project, ".opencode", "todo.md")
      const ownerFile = path.join(lease.folder, "todo.json")
      let reported: string | undefined
      /** Whose the list is, while nothing is recorded on disk. */
      let unrecorded: ListOwner | undefined

      // ---- the file -------------------------------------------------------------------------------------------

      const readFile = Effect.gen(function*() {
        const info = yield* fs.stat(file)
        if (info.type !== "File") return yield* new UnusableList({ why: "it is not a file" })
        if (Number(info.size) > listBytes) {
          return yield* new UnusableList({ why: `it is larger than ${listBytes} bytes` })
        }
        if (!(yield* isWithin({ fs, path }, project, file))) {
          return yield* new UnusableList({ why: "it is a link out of the project" })
        }
        return yield* fs.readFileString(file)
      })

      /** The text, empty when there is none. */
      const readText = readFile.pipe(
        Effect.tap(() =>
          Effect.sync(() => {
            reported = undefined
          })
        ),
        Effect.catch((error) => {
          if (error._tag === "PlatformError" && error.reason._tag === "NotFound") return Effect.succeed("")
          if (reported === error.message) return Effect.succeed("")
          reported = error.message
          return Effect.as(Effect.logWarning(`${file} cannot be read and counts as no list`, error.message), "")
        })
      )

      // ---- whose it is ----------------------------------------------------------------------------------------

      const isRecorded = config.journal !== "off"

      const owner = Effect.suspend(() =>
        isRecorded
          ? fs.readFileString(ownerFile).pipe(
            Effect.map((text) => Option.getOrUndefined(decodeOwner(text))),
            Effect.orElseSucceed(() => unrecorded) // none yet, or the disk is out of order
          )
          : Effect.succeed(unrecorded)
      )

      const own = Effect.fnUntraced(function*(root: SessionId, text: string) {
        unrecorded = { mission: root, seen: markOf(text) }
        if (!isRecorded) return
        const content = yield* Effect.orDie(Schema.encodeEffect(OwnerFile)(unrecorded)) // it always fits
        yield* lease.take.pipe(
          Effect.andThen(replaceFile(fs, ownerFile, content)),
          Effect.catch((error) => Effect.logDebug("whose the list is could not be recorded", error)) // the next change tries again
        )
      })

      /** Whether another instance, alive or dead, has a mission on record that goes on, or may be taken up again. */
      const isActiveElsewhere = Effect.fnUntraced(function*(mission: SessionId) {
        if (!isRecorded) return false
        for (const { path: journal } of yield* lease.others) {
          const contents = yield* Effect.option(readJournal(journal)) // its owner may have moved it meanwhile
          if (Option.isNone(contents)) continue
          if (contents.value.missions.some(({ root, state }) => root === mission && state === "active")) return true
        }
        return false
      }, Effect.provideService(FileSystem.FileSystem, fs))

      /** The list in the file, as far as it is this mission's. */
      const readOwn = Effect.fnUntraced(function*(root: SessionId) {
        const text = yield* readText
        const known = yield* owner
        if (known === undefined) return text
        if (known.mission !== root) return ""
        if (known.seen !== markOf(text)) yield* own(root, text)
        return text
      })

      // ---- both lists -----------------------------------------------------------------------------------------

      const read = Effect.fnUntraced(function*(root: SessionId): Effect.fn.Return<ReadonlyArray<TodoList>> {
        const written = parse(yield* readOwn(root))
        const hosts = yield* client.todos(root).pipe(
          Effect.timeoutOption(hostWait),
          Effect.map(Option.getOrElse(() => [])),
          Effect.catch((error) => Effect.as(Effect.logDebug("the host's list could not be read", error), [])) // it is the lesser one
        )
        // A step that stands in both is one.
        const texts = new Set(written.items.map(({ text }) => plain(text)))
        return [written, fromHost(hosts.filter(({ content }) => !texts.has(plain(content))))]
      })

      // ---- the archive ----------------------------------------------------------------------------------------

      /** A name that was free gets an empty file, and then the list in its place: nothing is ever overwritten. */
      const move = Effect.gen(function*() {
        const folder = yield* ownFolder({ fs, path }, project, "archive")
        const day = DateTime.formatIsoDateUtc(DateTime.makeUnsafe(yield* Clock.currentTimeMillis))
        for (let number = 1;; number++) {
          const target = path.join(folder, `todo-${day}-${number}.md`)
          const isFree = yield* fs.writeFileString(target, "", { flag: "wx" }).pipe(
            Effect.as(true),
            Effect.catchIf(
              ({ reason }) => reason._tag === "AlreadyExists" && number < archivedPerDay,
              () => Effect.succeed(false)
            )
          )
          if (!isFree) continue
          yield* fs.rename(file, target).pipe(Effect.tapError(() => Effect.ignore(fs.remove(target)))) // an empty file says nothing
          return target
        }
      }).pipe(
        // Another instance may have moved it first.
        Effect.catch((error) =>
          Effect.as(
            Effect.logWarning("a list of an earlier mission could not be archived, and stays", error),
            undefined
          )
        )
      )

      const archive = Effect.fn("TodoEnforcer.archive")(function*(
        root: SessionId,
        isActive: (mission: SessionId) => boolean
      ) {
        const text = yield* readText
        const known = yield* owner
        const isOthers = known !== undefined && known.mission !== root
        if (isOthers && (isActive(known.mission) || (yield* isActiveElsewhere(known.mission)))) return undefined
        const list = parse(text)
        // A list that has changed since its mission last looked at it was written for the next one.
        const isLeft = isOthers && known.seen === markOf(text)
        const isDone = openItems(list).length === 0
        if (list.items.length === 0 || !(isLeft || isDone)) {
          yield* own(root, text)
          return undefined
        }
        const target = yield* move
        yield* own(root, target === undefined ? text : "")
        return target
      })

      const marking = yield* Semaphore.make(1)
      const mark = Effect.fn("TodoEnforcer.mark")(function*(
        root: SessionId,
        step: { readonly id: string; readonly text: string },
        state: "done" | "failed",
        reason?: string
      ) {
        const before = yield* readOwn(root)
        const item = parse(before).items.find(({ id, text }) => id === step.id && plain(text) === plain(step.text))
        if (item === undefined || isSettled(item)) return
        const after = setState(before, item.line, state, reason)
        if (after === before) return
        const target = yield* fs.realPath(file)
        // A new file, so that no link of that name is written through.
        const made = `${target}.${yield* Clock.currentTimeMillis}.new`
        // Half a file is removed, as far as the disk lets it be; one that was there before is not ours.
        const discard = Effect.ignore(fs.remove(made))
        yield* fs.writeFileString(made, after, { flag: "wx" }).pipe(
          Effect.tapError(({ reason }) => reason._tag === "AlreadyExists" ? Effect.void : discard)
        )
        // Whoever has written it meanwhile is not overwritten.
        const isSame = (yield* readText) === before
        yield* (isSame ? fs.rename(made, target) : fs.remove(made)).pipe(Effect.tapError(() => discard))
        if (!isSame) return yield* new UnusableList({ why: "it was being written" })
        yield* own(root, after)
      }, (step) =>
        marking.withPermit(Effect.retry(step, { times: 3, schedule: Schedule.spaced("100 millis") })).pipe(
          Effect.catch((error) => Effect.logWarning("what became of a step could not be put down in the list", error))
        ))

      return TodoEnforcer.of({
        mark,
        open: Effect.fn("TodoEnforcer.open")(function*(root) {
          return (yield* read(root)).flatMap(openItems)
        }),
        progress: Effect.fn("TodoEnforcer.progress")(function*(root) {
          const [written, hosts] = (yield* read(root)).map(progress)
          return { done: (written?.done ?? 0) + (hosts?.done ?? 0), total: (written?.total ?? 0) + (hosts?.total ?? 0) }
        }),
        archive
      })
    })
  )
}

class UnusableList extends Schema.TaggedError<UnusableList>()("UnusableList", { why: Schema.String }) {
  override get message() {
    return this.why
  }
}

/** The mission whose list the file holds, and the file as that mission last saw it. */
const ListOwner = Schema.Struct({ mission: SessionId, seen: Schema.String })
type ListOwner = typeof ListOwner.Type
const OwnerFile = Schema.fromJsonString(ListOwner)
const decodeOwner = Schema.decodeOption(OwnerFile)

/** Tells texts apart. */
const markOf = (text: string): string => `${text.length} ${Hash.string(text)}`

const plain = (text: string): string => text.replace(/\s+/g, " ").trim().toLowerCase()

/** A larger file is no list that anybody works by; it is read in one go, often, and a megabyte takes a third of a second. */
const listBytes = 200_000

/** The host's list is not worth waiting for. */
const hostWait = "2 seconds"

const archivedPerDay = 10_000
