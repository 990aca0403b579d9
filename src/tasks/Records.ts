/** What all instances of a project have recorded, in their journals and in the archive: read only, also while they work. */
import { Effect, FileSystem, Option, Path, Result } from "effect"
import type { Mission } from "../domain/Mission.ts"
import type { SessionId } from "../domain/Session.ts"
import { further, isSettled, type Task } from "../domain/Task.ts"
import { Instance } from "../host/Instance.ts"
import { Lease } from "./Lease.ts"
import { readArchive } from "./TaskArchive.ts"
import { readJournal } from "./TaskJournal.ts"

export interface Records {
  /** Oldest first. */
  readonly tasks: ReadonlyArray<Task>
  readonly missions: ReadonlyArray<Mission>
  /** Missions that are active, or have unsettled tasks, in journals that no living instance holds. */
  readonly unattended: ReadonlySet<SessionId>
  /** Files that could not be read, and why. */
  readonly unreadable: ReadonlyArray<string>
}

/** What one file holds. */
interface Part {
  readonly tasks: ReadonlyArray<Task>
  readonly missions: ReadonlyArray<Mission>
  readonly problem?: string
}

/** Reads all records. A file that has not changed since the last time is not read again; when none has, it gives the same object. */
export const makeReader = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const lease = yield* Lease
  const path = yield* Path.Path
  const { root } = yield* Instance
  const archive = path.join(root, ".opencode", "archive")
  let known = new Map<string, { readonly stamp: string; readonly part: Part }>()
  let newest: { readonly stamp: string; readonly records: Records } | undefined

  /** Whether a file has changed; undefined when there is none any more. */
  const stampOf = (file: string) =>
    fs.stat(file).pipe(
      Effect.map(({ ino, mtime, size }) =>
        [
          size,
          Option.match(mtime, { onNone: () => 0, onSome: (time) => time.getTime() }),
          Option.getOrElse(ino, () => 0)
        ]
          .join(" ")
      ),
      Effect.option
    )

  const readPart = (file: string): Effect.Effect<Part> => {
    const part = path.dirname(file) === archive
      ? Effect.map(readArchive(file), (tasks): Part => ({ tasks, missions: [] }))
      : Effect.map(readJournal(file), ({ missions, tasks, unknownVersion }): Part =>
        unknownVersion
          ? { tasks, missions, problem: `${file} was written by a release that this one does not know` }
          : { tasks, missions })
    return part.pipe(
      Effect.provideService(FileSystem.FileSystem, fs),
      Effect.catch(({ message }) => Effect.succeed<Part>({ tasks: [], missions: [], problem: message }))
    )
  }

  const look = Effect.gen(function*() {
    const journals = yield* lease.others
    const orphaned = new Set((yield* lease.dead).map(({ path }) => path))
    const days = yield* fs.readDirectory(archive).pipe(Effect.orElseSucceed((): ReadonlyArray<string> => [])) // nothing was archived yet
    const files = [
      ...journals.map(({ path }) => path),
      ...days.filter((name) => /^tasks-[\d-]+\.jsonl$/.test(name)).map((name) => path.join(archive, name))
    ]
    const next: typeof known = new Map()
    let isMoved = false
    for (const file of files) {
      const stamp = yield* stampOf(file)
      if (Option.isNone(stamp)) {
        isMoved = true
        continue
      }
      const before = known.get(file)
      next.set(
        file,
        before?.stamp === stamp.value ? before : { stamp: stamp.value, part: yield* readPart(file) }
      )
    }
    known = next
    const stamp = [...next].map(([file, { stamp }]) => `${file} ${stamp} ${orphaned.has(file)}`).join("\n")
    if (newest?.stamp !== stamp) newest = { stamp, records: merge(next, orphaned) }
    return isMoved ? Result.fail(newest.records) : Result.succeed(newest.records)
  })

  return {
    read: Effect.gen(function*() {
      const seen = yield* look
      // What another instance claims just now has another name a moment later: its tasks must not seem to be gone.
      return Result.merge(Result.isSuccess(seen) ? seen : yield* look)
    })
  }
})

/** A task or a mission may stand in two files, when an instance died while it took them over, or moved them to the archive. */
const merge = (
  files: ReadonlyMap<string, { readonly part: Part }>,
  orphaned: ReadonlySet<string>
): Records => {
  const tasks = new Map<string, Task>()
  const missions = new Map<SessionId, Mission>()
  const attended = new Set<SessionId>()
  const open = new Set<SessionId>()
  for (const [file, { part }] of files) {
    for (const task of part.tasks) {
      const other = tasks.get(task.id)
      tasks.set(task.id, other === undefined ? task : further(other, task))
    }
    for (const mission of part.missions) {
      const other = missions.get(mission.root)
      if (other === undefined || newer(other, mission)) missions.set(mission.root, mission)
    }
    if (!orphaned.has(file)) {
      for (const { mission } of part.tasks.filter((task) => !isSettled(task))) attended.add(mission)
      for (const { root } of part.missions) attended.add(root)
    }
  }
  for (const task of tasks.values()) if (!isSettled(task)) open.add(task.mission)
  for (const mission of missions.values()) if (mission.state === "active") open.add(mission.root)
  return {
    tasks: [...tasks.values()].toSorted((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1)),
    missions: [...missions.values()].toSorted((a, b) => a.startedAt - b.startedAt),
    unattended: new Set([...open].filter((root) => !attended.has(root))),
    unreadable: [...files.values()].flatMap(({ part }) => part.problem ?? [])
  }
}

/** Whether the second is what became of the first. Whoever takes a mission over counts its time from then on. */
export const newer = (a: Mission, b: Mission): boolean =>
  b.startedAt > a.startedAt || (b.startedAt === a.startedAt && b.countedAt >= a.countedAt)
