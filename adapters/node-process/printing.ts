/**
 * Programs whose output is read as fast as it is used, and no faster. The streams that Node and Bun make for a child read
 * ahead: of a flood, Bun reads megabytes at once, hands over a hundred of them, and the host stands still and grows.
 */
import { NodeStream } from "@effect/platform-node"
import { Deferred, Effect, type Scope, Semaphore, Stream } from "effect"
import { type ChildProcess, execFile } from "node:child_process"
import { constants } from "node:fs"
import { mkdtemp, open, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { PassThrough, Readable } from "node:stream"
import { promisify } from "node:util"
import { CannotStart } from "../../src/host/ProcessGroups.ts"

export interface Printing {
  readonly child: ChildProcess
  /** What it prints, until nobody can print any more, or it cannot be read, or the scope has closed. */
  readonly output: Stream.Stream<Uint8Array>
}

/** Starts a program: `launch` spawns it with this as its standard output. It has been spawned on return; not to be cut off. */
export const spawnPrinting = (
  launch: (stdout: number | "pipe") => ChildProcess,
  platform: NodeJS.Platform = process.platform
): Effect.Effect<Printing, CannotStart, Scope.Scope> =>
  Effect.gen(function*() {
    if (platform === "win32") {
      const child = yield* spawned(() => launch("pipe"))
      // Taken at once: what nobody takes until the end is thrown away by Node.
      const taken = child.stdout?.pipe(new PassThrough()) ?? Readable.from([])
      const output = NodeStream.fromReadable<Uint8Array, unknown>({
        evaluate: () => taken,
        chunkSize: 8, // a flood must not hold up the host
        onError: (error) => error
      })
      return { child, output: Stream.catchCause(output, () => Stream.empty) } // what was printed until then is all there is
    }
    const exited = yield* Deferred.make<void>()
    const { output, writer } = yield* openPipe(exited)
    const child = yield* spawned(() =>
      launch(writer.fd).once("exit", () => void Deferred.doneUnsafe(exited, Effect.void))
    ).pipe(Effect.ensuring(Effect.promise(() => writer.close())))
    return { child, output }
  }).pipe(Effect.uninterruptible)

const spawned = (launch: () => ChildProcess) =>
  Effect.callback<ChildProcess, CannotStart>((resume) => {
    const fail = (error: unknown) => resume(Effect.fail(cannotStart(error)))
    try {
      const child = launch()
      child.once("error", fail)
      child.once("spawn", () => resume(Effect.succeed(child)))
    } catch (error) {
      fail(error)
    }
  })

/** Bytes that are read at once. */
const most = 65_536

/** How long to wait when there is nothing to read: at first, then twice as long each time, in ms. */
const pause = { first: 1, longest: 50 }

/**
 * A named pipe that loses its name as soon as both ends are open. The reading end is closed with the scope. When its
 * program has `exited` there is most likely an end to read.
 */
const openPipe = Effect.fnUntraced(function*(exited: Deferred.Deferred<void>) {
  const { reader, writer } = yield* Effect.scoped(bothEnds)
  // Never read and closed at once: the number could be another file's by then.
  const lock = yield* Semaphore.make(1)
  let isOpen = true
  yield* Effect.addFinalizer(() =>
    lock.withPermits(1)(Effect.promise(() => {
      isOpen = false
      return reader.close()
    }))
  )
  const buffer = new Uint8Array(most)
  /** Undefined while there is nothing to read, empty at the end. */
  const read = lock.withPermits(1)(Effect.promise(async () => {
    if (!isOpen) return new Uint8Array()
    try {
      const { bytesRead } = await reader.read(buffer, 0, most)
      return buffer.slice(0, bytesRead)
    } catch (error) {
      return error instanceof Error && "code" in error && error.code === "EAGAIN" ? undefined : new Uint8Array()
    }
  })).pipe(Effect.uninterruptible)
  const next = Effect.gen(function*() {
    for (let wait = pause.first;; wait = Math.min(2 * wait, pause.longest)) {
      const bytes = yield* read
      if (bytes !== undefined) return bytes.length === 0 ? undefined : [bytes, undefined] as const
      yield* Deferred.isDoneUnsafe(exited)
        ? Effect.sleep(wait)
        : Effect.timeoutOption(Deferred.await(exited), wait)
    }
  })
  return { writer, output: Stream.unfold(undefined, () => next) }
})

const attempt = <A>(work: () => Promise<A>) => Effect.tryPromise({ try: work, catch: cannotStart })

const cannotStart = (error: unknown) => new CannotStart({ why: error instanceof Error ? error.message : String(error) })

const bothEnds = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    attempt(() => mkdtemp(join(tmpdir(), "orchestrator-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )
  const name = join(folder, "output")
  yield* attempt(() => promisify(execFile)("mkfifo", ["-m", "600", name]))
  // The reader first: without one, whoever opens the other end waits.
  const reader = yield* attempt(() => open(name, constants.O_RDONLY | constants.O_NONBLOCK))
  const writer = yield* Effect.onError(
    attempt(() => open(name, constants.O_WRONLY)),
    () => Effect.promise(() => reader.close())
  )
  return { reader, writer }
})
