/** `logs`: what the orchestrator has written to its log file. */
import { Console, Effect, FileSystem, Option, Path } from "effect"
import { Command, Flag } from "effect/cli"
import { Instance } from "../../src/host/Instance.ts"
import { logFile, logLevels, oldLogFile } from "../../src/LogFile.ts"
import { usage } from "./exit.ts"
import { dirFlag, failed, layerProject } from "./project.ts"

const linesShown = 200

/** Read at once when a file has grown, in bytes. */
const chunk = 256 * 1024

export const logs = Command.make(
  "logs",
  {
    follow: Flag.Boolean("follow").pipe(
      Flag.withDefault(false),
      Flag.withAlias("f"),
      Flag.withDescription("Goes on with what is written from now on")
    ),
    level: Flag.Literals("level", logLevels).pipe(
      Flag.withDescription("Lines of this level and above"),
      Flag.withDefault("debug")
    ),
    lines: Flag.Int("lines").pipe(
      Flag.withAlias("n"),
      Flag.withDescription(`How many of the newest lines (default: ${linesShown})`),
      Flag.withDefault(linesShown)
    ),
    directory: dirFlag
  },
  Effect.fn("logs")(function*({ follow, level, lines }) {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    if (lines < 1) return yield* usage("--lines must be a whole number above 0.")
    const { root } = yield* Instance
    const file = path.join(root, logFile)
    const fits = makeFilter(logLevels.indexOf(level))
    const old = yield* fs.readFileString(path.join(root, oldLogFile)).pipe(Effect.orElseSucceed(() => "")) // not rotated yet
    const text = yield* Effect.option(fs.readFileString(file)) // not written yet
    if (Option.isNone(text) && !follow) {
      return yield* failed(`There is no log in ${root}: the orchestrator has written nothing yet.`)
    }
    const now = Option.getOrElse(text, () => "")
    const whole = now.slice(0, now.lastIndexOf("\n") + 1)
    const shown = `${old}${whole}`.split("\n").slice(0, -1).filter(fits)
    for (const line of shown.slice(-lines)) yield* Console.log(printable(line))
    if (!follow) return
    let at = encoder.encode(whole).length
    let which = yield* identityOf(file)
    const show = Effect.fnUntraced(function*(from: string) {
      while (true) {
        const added = yield* readFrom(from, which, at)
        for (const line of added.lines.filter(fits)) yield* Console.log(printable(line))
        if (added.end === at) return
        at = added.end
      }
    })
    while (true) {
      const now = yield* identityOf(file)
      if (now !== which) {
        yield* show(path.join(root, oldLogFile)) // it was full: its end stands there by now
        at = 0
        which = now
      }
      yield* show(file)
      yield* Effect.sleep("500 millis")
    }
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription("Shows the orchestrator's log"),
  Command.withExamples([
    { command: "opencode-orchestrator logs -n 50 --level warn", description: "The newest 50 warnings and errors" },
    { command: "opencode-orchestrator logs --follow", description: "As it is written" }
  ])
)

/** By which a file is known again under another name. */
const identityOf = Effect.fnUntraced(
  function*(file: string) {
    const { ino } = yield* (yield* FileSystem.FileSystem).stat(file)
    return Option.getOrElse(ino, () => 0)
  },
  Effect.orElseSucceed(() => undefined) // not written yet, or being rotated
)

/**
 * The whole lines that follow, if it is still that file; of one that is longer than all that is read at once, its
 * beginning. From the start again when the file has become shorter.
 */
const readFrom = Effect.fnUntraced(
  function*(file: string, which: number | bigint | undefined, at: number) {
    const fs = yield* FileSystem.FileSystem
    const opened = yield* fs.open(file)
    const { ino, size } = yield* opened.stat
    if (Option.getOrElse(ino, () => 0) !== which) return { end: at, lines: [] }
    if (Number(size) < at) return { end: 0, lines: [] }
    yield* opened.seek(BigInt(at), "start")
    const read = Option.getOrElse(yield* opened.readAlloc(chunk), () => new Uint8Array())
    const bytes = read.length === chunk && !read.includes(newline) ? chunk : read.lastIndexOf(newline) + 1
    return {
      end: at + bytes,
      lines: decoder.decode(read.subarray(0, bytes)).split("\n").slice(0, bytes === 0 ? 0 : -1)
    }
  },
  (reading, _file, _which, at) => Effect.orElseSucceed(Effect.scoped(reading), () => ({ end: at, lines: [] })) // rotated this moment
)

const newline = 10
const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** A log that came with the repository must not steer the terminal. */
const printable = (line: string): string => line.replace(/[^\P{Cc}\t]/gu, "")

/** Further lines of an entry are indented, and go with its first. */
const makeFilter = (least: number) => {
  let isShown = true
  return (line: string): boolean => {
    const [, word = ""] = /^\S+ +([A-Z]+) /.exec(line) ?? []
    const level = logLevels.findIndex((known) => known.toUpperCase() === word)
    if (!line.startsWith(" ") && level >= 0) isShown = level >= least
    return isShown
  }
}
