/** Ended tasks that are no longer at hand, results included: one file a day, one task a line, for people to read too. */
import {
  Clock,
  Context,
  DateTime,
  Duration,
  Effect,
  FileSystem,
  Layer,
  Option,
  Path,
  type PlatformError,
  Schema
} from "effect"
import { Config } from "../Config.ts"
import { Task, withTexts } from "../domain/Task.ts"
import { Instance } from "../host/Instance.ts"
import { Mask } from "../host/Mask.ts"
import { addToFile, ownFolder, ownNames } from "../OwnFiles.ts"

export class TaskArchive extends Context.Service<TaskArchive, {
  /** Keeps a task. It is on disk when this returns. */
  readonly add: (task: Task) => Effect.Effect<void, PlatformError.PlatformError>
  readonly find: (id: string) => Effect.Effect<Option.Option<Task>>
  /** Deletes the files that are older than `retention.archive`. */
  readonly prune: Effect.Effect<void>
}>()("orchestrator/tasks/TaskArchive") {
  /** Keeps as many tasks in memory as are kept at hand. */
  static readonly layerMemory = Layer.effect(
    TaskArchive,
    Effect.gen(function*() {
      const { retention } = yield* Config
      const tasks = new Map<string, Task>()
      return TaskArchive.of({
        add: (task) =>
          Effect.sync(() => {
            tasks.set(task.id, task)
            for (const id of tasks.keys()) {
              if (tasks.size <= retention.tasks) break
              tasks.delete(id)
            }
          }),
        find: (id) => Effect.sync(() => Option.fromUndefinedOr(tasks.get(id))),
        prune: Effect.void
      })
    })
  )

  /** Files in `.opencode/archive/`, named by the day (UTC) on which their tasks were archived. */
  static readonly layer = Layer.effect(
    TaskArchive,
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const { root } = yield* Instance
      const { retention } = yield* Config
      const mask = yield* Mask
      const folder = path.join(root, ".opencode", "archive")

      const files = ownNames({ fs, path }, root, folder).pipe(
        Effect.map((names) => names.filter((name) => fileName.test(name)).toSorted().toReversed())
      )

      /** What a crash left unfinished at the end of a file must not run into the next line. */
      const endsTorn = Effect.fnUntraced(function*(file: FileSystem.File) {
        const size = Number((yield* file.stat).size)
        if (size === 0) return false
        const last = new Uint8Array(1)
        yield* file.read(last, { position: BigInt(size - 1) })
        return last[0] !== newline
      })

      const add = Effect.fnUntraced(function*(task: Task) {
        yield* ownFolder({ fs, path }, root, "archive")
        const day = DateTime.formatIsoDateUtc(DateTime.makeUnsafe(yield* Clock.currentTimeMillis))
        const name = path.join(folder, `tasks-${day}.jsonl`)
        yield* addToFile(fs, name, "") // what is no file goes from its place before it is read
        const file = yield* fs.open(name, { flag: "a+" })
        const text = yield* Effect.orDie(
          Schema.encodeEffect(ArchiveLine)({ ended: isoTime(task.endedAt ?? 0), task: withTexts(task, mask) })
        ) // it always fits
        yield* fs.writeFileString(name, `${(yield* endsTorn(file)) ? "\n" : ""}${text}\n`, { flag: "a" })
        yield* file.sync
      }, Effect.scoped)

      const find = Effect.fnUntraced(function*(id: string) {
        const mark = `"id":${yield* Effect.orDie(Schema.encodeEffect(Schema.fromJsonString(Schema.String))(id))}` // any text is JSON
        for (const name of yield* files) {
          const text = yield* fs.readFileString(path.join(folder, name)).pipe(Effect.orElseSucceed(() => "")) // pruned meanwhile
          for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + 1)) {
            const end = text.indexOf("\n", at)
            const line = decodeLine(text.slice(text.lastIndexOf("\n", at) + 1, end < 0 ? text.length : end))
            if (Option.isSome(line) && line.value.task.id === id) return Option.some(line.value.task)
          }
          yield* Effect.yieldNow // many files must not hold up the host
        }
        return Option.none<Task>()
      })

      return TaskArchive.of({
        add,
        find,
        prune: Effect.gen(function*() {
          const oldest = (yield* Clock.currentTimeMillis) - Duration.toMillis(retention.archive)
          for (const name of yield* files) {
            const day = fileName.exec(name)?.[1] ?? ""
            if (day < DateTime.formatIsoDateUtc(DateTime.makeUnsafe(oldest))) yield* fs.remove(path.join(folder, name))
          }
        }).pipe(Effect.catch((error) => Effect.logDebug("the archive could not be pruned", error))) // the next pass tries again
      })
    })
  )
}

/** All tasks in a file of the archive; lines that cannot be read are left out. */
export const readArchive = Effect.fnUntraced(function*(path: string) {
  const fs = yield* FileSystem.FileSystem
  const tasks: Array<Task> = []
  for (const [at, text] of (yield* fs.readFileString(path)).split("\n").entries()) {
    if (at % linesAtOnce === 0) yield* Effect.yieldNow // a large file must not hold up the host
    const line = decodeLine(text)
    if (Option.isSome(line)) tasks.push(line.value.task)
  }
  return tasks
})

const linesAtOnce = 100

const fileName = /^tasks-(\d{4}-\d{2}-\d{2})\.jsonl$/

const newline = 10

/** The time of the end in words comes first: the rest counts in milliseconds. */
const ArchiveLine = Schema.fromJsonString(Schema.Struct({ ended: Schema.String, task: Task }))
const decodeLine = Schema.decodeOption(ArchiveLine)

const isoTime = (ms: number): string => DateTime.formatIso(DateTime.makeUnsafe(ms))
