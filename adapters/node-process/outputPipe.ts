/**
 * A pipe of which this process reads as much as it takes, and no more. The streams that Node and Bun make for a child
 * read ahead: of a flood, Bun hands over a hundred megabytes at once, and the host grows to twice what was printed.
 */
import { Effect, type Scope, Semaphore, Stream } from "effect"
import { execFile } from "node:child_process"
import { constants } from "node:fs"
import { mkdtemp, open, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { CannotStart } from "../../src/host/ProcessGroups.ts"

export interface OutputPipe {
  /** The end for a child, as a file descriptor; `close` it here when the child has it. */
  readonly writer: { readonly fd: number; readonly close: Effect.Effect<void> }
  /** What is written, until nobody can write any more, or it cannot be read, or the scope has closed. */
  readonly output: Stream.Stream<Uint8Array>
}

/** Bytes that are read at once. */
const most = 65_536

/** How long to wait when there is nothing to read: at first, then twice as long each time, in ms. */
const pause = { first: 1, longest: 50 }

/** A named pipe that loses its name as soon as both ends are open; closed with the scope. Not on Windows. */
export const openOutputPipe: Effect.Effect<OutputPipe, CannotStart, Scope.Scope> = Effect.gen(function*() {
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
      yield* Effect.sleep(wait)
    }
  })
  return {
    writer: { fd: writer.fd, close: Effect.promise(() => writer.close()) },
    output: Stream.unfold(undefined, () => next)
  }
})

const attempt = <A>(work: () => Promise<A>) => Effect.tryPromise({ try: work, catch: cannotStart })

export const cannotStart = (error: unknown) =>
  new CannotStart({ why: error instanceof Error ? error.message : String(error) })

const bothEnds = Effect.gen(function*() {
  const folder = yield* Effect.acquireRelease(
    attempt(() => mkdtemp(join(tmpdir(), "orchestrator-"))),
    (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
  )
  const name = join(folder, "output")
  yield* attempt(() => promisify(execFile)("mkfifo", ["-m", "600", name]))
  // The reader first: without one, whoever opens the other end waits.
  const reader = yield* attempt(() => open(name, constants.O_RDONLY | constants.O_NONBLOCK))
  const writer = yield* attempt(() => open(name, constants.O_WRONLY))
  return { reader, writer }
})
