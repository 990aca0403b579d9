/**
 * Stands between an instance of the orchestrator and its ports, and can kill it there as `kill -9` would: from then on
 * nothing that the instance does has an effect, finalizers included. It counts what the instance does to the world, so
 * that a test can crash it at each effect in turn.
 */
import { Context, Deferred, Effect, Fiber, FileSystem, Layer, Random, Schema, Scope, Stream } from "effect"
import { Instance } from "../../src/host/Instance.ts"
import { Notifier } from "../../src/host/Notifier.ts"
import { ProcessGroups } from "../../src/host/ProcessGroups.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"

/** What every operation of a dead instance dies of. */
export class Crashed extends Schema.TaggedError<Crashed>()("Crashed", {}) {
  override get message() {
    return "The simulated process was killed."
  }
}

/** `before` the effect; `after` it, before its answer; `torn`: a write stores a part only, any other effect nothing. */
export type Moment = "before" | "after" | "torn"

export interface CrashGate {
  /** Kills the instance now. Calls under way end without an answer. */
  readonly crash: Effect.Effect<void>
  /** Kills it at its `effect`-th effect, counted from 1 since the gate was made; or at the next one whose name fits. */
  readonly arm: (effect: number | ((name: string) => boolean), moment: Moment) => Effect.Effect<void>
  readonly disarm: Effect.Effect<void>
  /** The names of all effects that were begun, such as `prompt ses_000001` or `write /project/a`. */
  readonly effects: Effect.Effect<ReadonlyArray<string>>
  /** The effect that it was armed for and died at, with the moment. */
  readonly diedAt: Effect.Effect<string | undefined>
  readonly isCrashed: Effect.Effect<boolean>
  /** Waits for the crash. */
  readonly crashed: Effect.Effect<void>
  /** Does something as the instance: it dies with it. For what calls the instance from outside, such as its tools. */
  readonly guard: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Does something to the world as the instance. `torn` is what is left of it when it is cut off in the middle. */
  readonly effect: <A, E, R>(
    name: string,
    effect: Effect.Effect<A, E, R>,
    torn?: Effect.Effect<unknown, E, R>
  ) => Effect.Effect<A, E, R>
}

export const make: Effect.Effect<CrashGate> = Effect.sync(() => {
  const died = Deferred.makeUnsafe<void>()
  const dead = Effect.die(new Crashed({}))
  /** Calls under way: each gives up its answer. */
  const waiting = new Set<{ readonly fiber: Fiber.Fiber<unknown, unknown>; giveUp: () => void }>()
  const names: Array<string> = []
  let isCrashed = false
  let diedAt: string | undefined
  let armed: { readonly effect: number | ((name: string) => boolean); readonly moment: Moment } | undefined

  const kill = Effect.withFiber((self) => {
    isCrashed = true
    Deferred.doneUnsafe(died, Effect.void)
    for (const call of waiting) {
      call.giveUp()
      if (call.fiber !== self) call.fiber.interruptUnsafe() // it did not reach the world any more
    }
    waiting.clear()
    return Effect.void
  })

  /** The call goes on in a fiber of the world's: one that dies must not wait for it, not even where it cannot be interrupted. */
  const guard = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        if (isCrashed) return dead
        return Effect.flatMap(Effect.forkDetach(effect, { startImmediately: true }), (fiber) => {
          const exit = fiber.pollUnsafe()
          if (isCrashed) return dead
          if (exit !== undefined) return exit
          return restore(Effect.callback<A, E>((resume) => {
            const call = { fiber, giveUp: () => resume(dead) }
            waiting.add(call)
            fiber.addObserver((exit) => {
              waiting.delete(call)
              resume(isCrashed ? dead : exit)
            })
            // Whoever interrupts the call waits until it is cut off in the world, unless the crash comes first.
            return Effect.callback<void>((resume) => {
              call.giveUp = () => resume(Effect.void)
              fiber.addObserver(() => resume(Effect.void))
              fiber.interruptUnsafe()
            })
          }))
        })
      })
    )

  const effect = <A, E, R>(name: string, act: Effect.Effect<A, E, R>, torn?: Effect.Effect<unknown, E, R>) =>
    guard(Effect.suspend((): Effect.Effect<A, E, R> => {
      names.push(name)
      const hit = armed !== undefined
        && (typeof armed.effect === "number" ? names.length === armed.effect : armed.effect(name))
      if (armed === undefined || !hit) return act
      diedAt = `${armed.moment} ${name}`
      const left = armed.moment === "after" ? act : armed.moment === "torn" ? torn : undefined
      return (left === undefined ? Effect.void : Effect.exit(left)).pipe(Effect.andThen(kill), Effect.andThen(dead))
    }))

  return {
    crash: kill,
    arm: (effect, moment) => Effect.sync(() => void (armed = { effect, moment })),
    disarm: Effect.sync(() => {
      armed = undefined
    }),
    effects: Effect.sync(() => [...names]),
    diedAt: Effect.sync(() => diedAt),
    isCrashed: Effect.sync(() => isCrashed),
    crashed: Deferred.await(died),
    guard,
    effect
  }
})

type Ports = SessionClient | FileSystem.FileSystem | Notifier | Instance | ProcessGroups

/** The ports of one instance, behind its gate. */
export const layer = (gate: CrashGate): Layer.Layer<Ports, never, Ports> =>
  Layer.effectContext(Effect.gen(function*() {
    return Context.make(SessionClient, gateClient(gate, yield* SessionClient)).pipe(
      Context.add(FileSystem.FileSystem, gateFileSystem(gate, yield* FileSystem.FileSystem)),
      Context.add(Notifier, gateNotifier(gate, yield* Notifier)),
      Context.add(Instance, gateInstance(gate, yield* Instance)),
      Context.add(ProcessGroups, gateGroups(gate, yield* ProcessGroups))
    )
  }))

/** Reads are guarded, changes are counted. */
const gateClient = ({ effect, guard, isCrashed }: CrashGate, client: SessionClient["Service"]) =>
  SessionClient.of({
    create: (session) => effect(`create "${session.title}"`, client.create(session)),
    get: (session) => guard(client.get(session)),
    children: (session) => guard(client.children(session)),
    sessions: guard(client.sessions),
    prompt: (prompt) => effect(`prompt ${prompt.session}`, client.prompt(prompt)),
    messages: (session, limit) => guard(client.messages(session, limit)),
    todos: (session) => guard(client.todos(session)),
    compact: (session, model) => effect(`compact ${session}`, client.compact(session, model)),
    hasMessage: (session, message) => guard(client.hasMessage(session, message)),
    statuses: guard(client.statuses),
    abort: (session) => effect(`abort ${session}`, client.abort(session)),
    delete: (session) => effect(`delete ${session}`, client.delete(session)),
    events: Stream.takeWhileEffect(client.events, () => Effect.map(isCrashed, (crashed) => !crashed)),
    agents: guard(client.agents),
    models: guard(client.models),
    replyPermission: (id, reply) => effect(`reply ${id}`, client.replyPermission(id, reply)),
    replyQuestion: (id, answers) => effect(`reply ${id}`, client.replyQuestion(id, answers))
  })

/** A toast is seen by the user and changes nothing: it is not counted. */
const gateNotifier = ({ guard }: CrashGate, notifier: Notifier["Service"]) =>
  Notifier.of({ show: (toast) => guard(notifier.show(toast)) })

const gateInstance = ({ guard }: CrashGate, instance: Instance["Service"]) =>
  Instance.of({ ...instance, isAlive: (owner) => guard(instance.isAlive(owner)) })

/** What a dead instance has started runs on, until another one ends it. */
const gateGroups = ({ effect, guard }: CrashGate, groups: ProcessGroups["Service"]) =>
  ProcessGroups.of({
    start: Effect.fnUntraced(function*(options) {
      const scope = yield* Scope.make()
      const group = yield* effect(`start ${options.id}`, Scope.provide(groups.start(options), scope))
      const end = effect(`end ${options.id}`, group.end)
      yield* Effect.addFinalizer(() => end)
      return { ...group, exit: guard(group.exit), end }
    }),
    endLeft: (id, leader) => effect(`end ${id}`, groups.endLeft(id, leader))
  })

/** What a write that is cut off leaves: any beginning of it, but not the whole. */
const beginning = (data: Uint8Array): Effect.Effect<Uint8Array> =>
  Effect.map(Random.Random, (random) => data.subarray(0, Math.floor(random.nextDoubleUnsafe() * data.length)))

const gateFileSystem = ({ effect, guard }: CrashGate, fs: FileSystem.FileSystem): FileSystem.FileSystem => {
  const gateFile = (path: string, file: FileSystem.File): FileSystem.File => ({
    [FileSystem.FileTypeId]: FileSystem.FileTypeId,
    stat: guard(file.stat),
    seek: (offset, from) => guard(file.seek(offset, from)),
    sync: guard(file.sync),
    read: (buffer, options) => guard(file.read(buffer, options)),
    readAlloc: (size, options) => guard(file.readAlloc(size, options)),
    truncate: (length) => effect(`truncate ${path}`, file.truncate(length)),
    write: (data) => effect(`write ${path}`, file.write(data), Effect.flatMap(beginning(data), file.write)),
    writeAll: (data) => effect(`write ${path}`, file.writeAll(data), Effect.flatMap(beginning(data), file.writeAll))
  })
  return FileSystem.make({
    access: (path, options) => guard(fs.access(path, options)),
    chmod: (path, mode) => effect(`chmod ${path}`, fs.chmod(path, mode)),
    chown: (path, uid, gid) => effect(`chown ${path}`, fs.chown(path, uid, gid)),
    copy: (from, to, options) => effect(`copy ${from} ${to}`, fs.copy(from, to, options)),
    copyFile: (from, to) => effect(`copyFile ${from} ${to}`, fs.copyFile(from, to)),
    link: (from, to) => effect(`link ${from} ${to}`, fs.link(from, to)),
    lstat: (path) => guard(fs.lstat(path)),
    makeDirectory: (path, options) => effect(`makeDirectory ${path}`, fs.makeDirectory(path, options)),
    makeTempDirectory: (options) => effect("makeTempDirectory", fs.makeTempDirectory(options)),
    makeTempDirectoryScoped: (options) => effect("makeTempDirectory", fs.makeTempDirectoryScoped(options)),
    makeTempFile: (options) => effect("makeTempFile", fs.makeTempFile(options)),
    makeTempFileScoped: (options) => effect("makeTempFile", fs.makeTempFileScoped(options)),
    open: (path, options) => {
      const opening = Effect.map(fs.open(path, options), (file) => gateFile(path, file))
      return (options?.flag ?? "r") === "r" ? guard(opening) : effect(`open ${path}`, opening)
    },
    readDirectory: (path, options) => guard(fs.readDirectory(path, options)),
    readDirectoryEntries: (path) => guard(fs.readDirectoryEntries(path)),
    readFile: (path) => guard(fs.readFile(path)),
    readLink: (path) => guard(fs.readLink(path)),
    realPath: (path) => guard(fs.realPath(path)),
    remove: (path, options) => effect(`remove ${path}`, fs.remove(path, options)),
    rename: (from, to) => effect(`rename ${from} ${to}`, fs.rename(from, to)),
    stat: (path) => guard(fs.stat(path)),
    symlink: (from, to) => effect(`symlink ${from} ${to}`, fs.symlink(from, to)),
    truncate: (path, length) => effect(`truncate ${path}`, fs.truncate(path, length)),
    utimes: (path, atime, mtime) => effect(`utimes ${path}`, fs.utimes(path, atime, mtime)),
    watch: (path, options) => fs.watch(path, options),
    writeFile: (path, data, options) =>
      effect(
        `write ${path}`,
        fs.writeFile(path, data, options),
        Effect.flatMap(beginning(data), (part) => fs.writeFile(path, part, options))
      )
  })
}
