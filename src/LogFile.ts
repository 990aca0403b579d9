/**
 * The orchestrator's own log, in a file of the project: written in the background, bounded in memory and on disk, and
 * masked. It is begun with the first record: a project in which no mission runs gets no folder.
 */
import { Cause, Effect, FileSystem, Layer, Logger, Path, Queue, References } from "effect"
import { Instance } from "./host/Instance.ts"
import { Mask } from "./host/Mask.ts"
import { isWithin } from "./OwnFiles.ts"

export const logFile = ".opencode/orchestrator/orchestrator.log"
/** What was in it before it became too large. */
export const oldLogFile = `${logFile}.1`

/** From the least important on. */
export const logLevels = ["debug", "info", "warn", "error"] as const
export type LogLevel = (typeof logLevels)[number]

/** Where a file ends and the next begins, in characters. */
const longestFile = 1_000_000

/** An entry is cut here: a whole output must not become one. */
const longestEntry = 10_000

/** Entries that wait for the disk, or for the folder; of more, the oldest are dropped. */
const buffer = 1_000

/** Lines that come together are written together. */
const pause = "1 second"

const levelOf = { Fatal: "error", Error: "error", Warn: "warn", Info: "info", Debug: "debug", Trace: "debug" } as const

/** Adds the file to where log lines go already. */
export const layer = (
  level: LogLevel | "off"
): Layer.Layer<never, never, FileSystem.FileSystem | Path.Path | Instance> =>
  level === "off"
    ? Layer.empty
    : Logger.layer([make(level)], { mergeWithExisting: true }).pipe(
      Layer.merge(level === "debug" ? Layer.succeed(References.MinimumLogLevel, "Debug") : Layer.empty)
    )

const make = Effect.fnUntraced(function*(level: LogLevel) {
  const fs = yield* FileSystem.FileSystem
  const mask = yield* Mask
  const path = yield* Path.Path
  const { root } = yield* Instance
  const file = path.join(root, logFile)
  const waiting = yield* Queue.sliding<string>(buffer)
  const least = logLevels.indexOf(level)

  const write = Effect.gen(function*() {
    const folder = path.dirname(file)
    if (!(yield* fs.exists(folder)) || !(yield* isWithin({ fs, path }, root, folder))) return
    const text = (yield* Queue.clear(waiting)).join("").slice(-longestFile) // of a flood the newest
    if (text === "") return
    const before = yield* fs.lstat(file).pipe(Effect.option)
    if (before._tag === "Some") {
      // A link that came with the repository could lead anywhere, and a pipe would hold up who writes to it.
      if (before.value.type !== "File") yield* fs.remove(file)
      else if (Number(before.value.size) + text.length > longestFile) {
        const old = path.join(root, oldLogFile)
        yield* fs.rename(file, old).pipe(
          Effect.catch(() => Effect.andThen(fs.remove(old, { recursive: true }), fs.rename(file, old))) // a folder is in the way
        )
      }
    }
    yield* fs.writeFileString(file, text, { flag: "a" })
  }).pipe(Effect.ignore) // a log that cannot be written has nowhere to say so

  yield* Effect.addFinalizer(() => write)
  yield* Queue.peek(waiting).pipe(
    Effect.andThen(write),
    Effect.andThen(Effect.sleep(pause)),
    Effect.forever,
    Effect.forkScoped
  )

  return Logger.make<unknown, void>(({ cause, date, logLevel, message }) => {
    const name = logLevel in levelOf ? levelOf[logLevel as keyof typeof levelOf] : "debug" // "All" and "None" carry no lines
    if (logLevels.indexOf(name) < least) return
    const words = (Array.isArray(message) ? message : [message]).map((part) =>
      Cause.isCause(part) ? Cause.pretty(part) : part instanceof Error ? part.message : String(part)
    )
    const why = cause.reasons.length > 0 ? [Cause.pretty(cause)] : []
    // Cut before it is masked, so that this takes no longer than it may; but far behind the end of what is written, where
    // the beginning of a secret that the cut has parted would not be known any more.
    const text = mask([...words, ...why].join(" ").slice(0, 4 * longestEntry)).slice(0, longestEntry)
    Queue.offerUnsafe(waiting, `${date.toISOString()} ${name.toUpperCase().padEnd(5)} ${asEntry(text)}\n`)
  })
})

/** Further lines are indented: only an entry's first begins a line. */
const asEntry = (text: string): string => text.replace(/[^\P{Cc}\t\n]/gu, "").trimEnd().replace(/\n/g, "\n  ")
