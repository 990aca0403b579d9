/**
 * What other processes, such as the command line, ask of the instance that works: files in
 * `.opencode/orchestrator/requests/`. Whoever may write there may ask; all that can be asked for is an end.
 */
import { Clock, Effect, FileSystem, Layer, Option, Path, Random, Schedule, Schema } from "effect"
import { randomText, SessionId } from "../domain/Session.ts"
import { isSettled } from "../domain/Task.ts"
import { Instance } from "../host/Instance.ts"
import { MissionLoop } from "../mission/MissionLoop.ts"
import { Missions } from "../mission/Missions.ts"
import { ownFolder, replaceFile } from "../OwnFiles.ts"
import { Lease } from "./Lease.ts"
import { TaskLife } from "./TaskLife.ts"
import { TaskStore } from "./TaskStore.ts"

/** The task, or the mission by its root session, that is to be cancelled. */
const Request = Schema.fromJsonString(
  Schema.Struct({ cancel: Schema.String.check(Schema.isPattern(/^(?:task|ses)_\w{1,100}$/)) })
)

const fileName = /^request_[a-z0-9]{12}\.json$/

/** One that nobody has carried out after this time is of no use to anybody, ms. */
const kept = 60_000

/** Larger ones are not ours. */
const mostBytes = 1_000

const filesAtOnce = 100

/** Leaves a request for the instance that has the task or the mission; its records show what comes of it. Gives the file. */
export const request = Effect.fnUntraced(function*(cancel: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const random = yield* Random.Random
  const { root } = yield* Instance
  const folder = yield* ownFolder({ fs, path }, root, "orchestrator", "requests")
  const file = path.join(folder, `request_${randomText(12, () => random.nextDoubleUnsafe())}.json`)
  const text = yield* Schema.encodeEffect(Request)({ cancel })
  yield* replaceFile(fs, file, text)
  return file
})

/** Looks for requests once a second while there is anything that could be cancelled here. */
export const Requests = {
  layer: Layer.effectDiscard(Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const life = yield* TaskLife
    const loop = yield* MissionLoop
    const missions = yield* Missions
    const store = yield* TaskStore
    const folder = path.join((yield* Lease).folder, "requests")
    /** Carried out, whether or not its file could be removed. */
    const done = new Set<string>()

    /** What a file asks for, if it is one of ours: no link, no pipe, nothing large. */
    const read = Effect.fnUntraced(function*(file: string) {
      const { mtime, size, type } = yield* fs.lstat(file)
      if (type !== "File" || size > mostBytes) return Option.none()
      const asked = Schema.decodeOption(Request)(yield* fs.readFileString(file))
      const age = (yield* Clock.currentTimeMillis)
        - Option.match(mtime, { onNone: () => 0, onSome: (at) => at.getTime() })
      return Option.some({ cancel: Option.getOrUndefined(asked)?.cancel, isOld: age > kept })
    })

    /** Whether it was for this instance. */
    const cancel = Effect.fnUntraced(function*(id: string) {
      const task = (yield* store.all).find((task) => task.id === id)
      if (task !== undefined) {
        if (!isSettled(task)) yield* life.cancel(task.id, "the user asked for it on the command line")
        return true
      }
      const root = SessionId.make(id)
      if ((yield* missions.get(root)) === undefined) return false
      yield* loop.stop(root)
      return true
    }, Effect.uninterruptible) // cut off midway it would leave the tasks below to run

    const handle = Effect.fnUntraced(function*(name: string) {
      const file = path.join(folder, name)
      const found = yield* read(file)
      if (Option.isNone(found)) return
      const { cancel: asked, isOld } = found.value
      const isDone = done.has(name) || (!isOld && asked !== undefined && (yield* cancel(asked)))
      if (isDone) done.add(name)
      if (!isDone && !isOld) return // for another instance, perhaps
      yield* fs.remove(file)
      done.delete(name)
    }, Effect.catch((error) => Effect.logDebug("a request could not be read or removed", error))) // the next pass tries again

    const pass = Effect.gen(function*() {
      const isIdle = (yield* store.all).every(isSettled)
        && (yield* missions.all).every(({ state }) => state !== "active")
      if (isIdle && done.size === 0) return
      const names = yield* fs.readDirectory(folder).pipe(Effect.orElseSucceed((): ReadonlyArray<string> => [])) // nobody has asked yet
      const asked = names.filter((name) => fileName.test(name)).slice(0, filesAtOnce)
      for (const name of done) if (!asked.includes(name)) done.delete(name)
      yield* Effect.forEach(asked, handle, { concurrency: 8, discard: true })
    })

    yield* pass.pipe(
      Effect.catchCause((cause) => Effect.logWarning("requests could not be looked for", cause)), // in a second again
      Effect.repeat(Schedule.spaced("1 second")),
      Effect.forkScoped
    )
  }))
}
