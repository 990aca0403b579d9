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
    for (const line of shown.slice(-lines)) yield* Console.log(line)
    if (!follow) return
    let at = new TextEncoder().encode(whole).length
    while (true) {
      const size = yield* fs.stat(file).pipe(Effect.map(({ size }) => Number(size)), Effect.orElseSucceed(() => 0)) // being rotated
      if (size < at) at = 0
      const added = size > at ? yield* readFrom(file, at) : ""
      const end = added.lastIndexOf("\n") + 1
      for (const line of added.slice(0, end).split("\n").slice(0, -1).filter(fits)) yield* Console.log(line)
      at += new TextEncoder().encode(added.slice(0, end)).length
      if (end === 0) yield* Effect.sleep("500 millis")
    }
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription("Shows the orchestrator's log"),
  Command.withExamples([
    { command: "opencode-orchestrator logs -n 50 --level warn", description: "The newest 50 warnings and errors" },
    { command: "opencode-orchestrator logs --follow", description: "As it is written" }
  ])
)

const readFrom = Effect.fnUntraced(
  function*(file: string, offset: number) {
    const fs = yield* FileSystem.FileSystem
    const opened = yield* fs.open(file)
    yield* opened.seek(BigInt(offset), "start")
    const bytes = yield* opened.readAlloc(chunk)
    return Option.match(bytes, { onNone: () => "", onSome: (found) => new TextDecoder().decode(found) })
  },
  Effect.scoped,
  Effect.orElseSucceed(() => "")
) // rotated this moment: the next look finds the new one

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
