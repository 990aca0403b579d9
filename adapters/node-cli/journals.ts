/** What the journals of a project say of one mission, those of live instances included. Reading them changes nothing. */
import { Effect, FileSystem, Option, Path } from "effect"
import type { Mission } from "../../src/domain/Mission.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { further, type Task, type TaskId } from "../../src/domain/Task.ts"
import { newer } from "../../src/tasks/Records.ts"
import { type Contents, readJournal } from "../../src/tasks/TaskJournal.ts"

export interface Recorded {
  readonly mission: Mission | undefined
  /** Every task of it that was ever seen, oldest first: the journals keep settled ones for a while only. */
  readonly tasks: ReadonlyArray<Task>
}

/** Reads what has changed since the last time. What cannot be read just now counts as unchanged. */
export const makeJournalReader = Effect.fnUntraced(function*(root: string, session: SessionId): Effect.fn.Return<
  { readonly read: Effect.Effect<Recorded> },
  never,
  FileSystem.FileSystem | Path.Path
> {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(root, ".opencode", "orchestrator")
  const seen = new Map<string, { readonly version: string; readonly contents: Contents }>()
  const tasks = new Map<TaskId, Task>()
  let mission: Mission | undefined

  const readFile = Effect.fnUntraced(function*(name: string) {
    const file = path.join(folder, name)
    const { ino, mtime, size } = yield* fs.stat(file)
    const version = [Option.getOrElse(ino, () => 0), size, Option.getOrUndefined(mtime)?.getTime()].join(" ")
    if (seen.get(name)?.version === version) return
    const contents = yield* readJournal(file).pipe(Effect.provideService(FileSystem.FileSystem, fs))
    seen.set(name, { version, contents })
    for (const found of contents.missions) {
      if (found.root === session && (mission === undefined || newer(mission, found))) mission = found
    }
    for (const task of contents.tasks) {
      if (task.mission !== session) continue
      const known = tasks.get(task.id)
      tasks.set(task.id, known === undefined ? task : further(task, known))
    }
  }, (reading) => Effect.ignore(reading)) // its owner has moved it meanwhile

  const read = Effect.gen(function*() {
    const names = yield* fs.readDirectory(folder).pipe(Effect.orElseSucceed((): ReadonlyArray<string> => []))
    yield* Effect.forEach(names.filter((name) => name.endsWith(".jsonl")), readFile, { discard: true })
    const recorded: Recorded = { mission, tasks: [...tasks.values()].toSorted((a, b) => a.createdAt - b.createdAt) }
    return recorded
  })
  return { read }
})
