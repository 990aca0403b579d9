/** `opencode-orchestrator init`: adds the plugin to a project's OpenCode config, and changes nothing else in it. */
import { Console, Effect, FileSystem, Option, Path, PlatformError, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { applyEdits, type FormattingOptions, modify, parse, type ParseError, printParseErrorCode } from "jsonc-parser"
import { pathToFileURL } from "node:url"
import { asFailure, CommandFailed, exitCodes } from "./exit.ts"
import { namesPlugin } from "./hosts.ts"
import { dirFlag, readDirectory, whyUnusable } from "./options.ts"
import { packageName, packageRoot } from "./packageRoot.ts"

const names = ["opencode.json", "opencode.jsonc"]

export const init = Command.make(
  "init",
  {
    dir: dirFlag,
    dryRun: Flag.Boolean("dry-run").pipe(
      Flag.withDescription("Show the change, and write nothing"),
      Flag.withDefault(false)
    )
  },
  Effect.fn("init")(function*({ dir, dryRun }) {
    yield* asFailure(addPlugin(yield* readDirectory(dir), dryRun))
  })
).pipe(
  Command.withDescription(
    "Adds the plugin to opencode.json or opencode.jsonc; comments and everything else stay as they are."
  ),
  Command.withExamples([
    { command: "opencode-orchestrator init", description: "In this project" },
    { command: "opencode-orchestrator init --dry-run", description: "Only show what would change" }
  ])
)

const addPlugin = Effect.fnUntraced(function*(directory: string, dryRun: boolean) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const { folder, version } = yield* packageRoot
  const entry = (yield* isFromRegistry(folder)) ? `${packageName}@${version}` : pathToFileURL(folder).href
  const found: Array<{ readonly file: string; readonly text: string }> = []
  for (const name of names) {
    const file = path.join(directory, name)
    if (yield* fs.exists(file)) found.push({ file, text: yield* fs.readFileString(file) })
  }
  for (const { file, text } of found) {
    if (namesPlugin(yield* readConfigText(file, text), folder)) {
      return yield* Console.log(`${file} loads the plugin already; nothing to do.`)
    }
  }
  const [first] = found
  const file = first?.file ?? path.join(directory, "opencode.json")
  const before = first?.text ?? ""
  const after = first === undefined
    ? `${JSON.stringify({ $schema: "https://opencode.ai/config.json", plugin: [entry] }, null, 2)}\n`
    : yield* withEntry(file, before, entry)
  yield* Console.log([`${dryRun ? "Would change" : "Changes"} ${file}:`, ...difference(before, after)].join("\n"))
  if (dryRun) return
  if (first !== undefined) yield* Console.log(`The file as it was: ${yield* backUp(file, before)}`)
  yield* replace(file, after)
  yield* Console.log("Start OpenCode again, then: opencode-orchestrator doctor")
})

const LockFile = Schema.fromJsonString(Schema.Struct({
  packages: Schema.Record(Schema.String, Schema.Struct({ resolved: Schema.optionalKey(Schema.String) }))
}))

/** Whether the host can install it by its name: not from a clone, nor what was installed from a tarball or a folder. */
const isFromRegistry = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const modules = path.dirname(folder)
  if (path.basename(modules) !== "node_modules") return false
  const lock = yield* fs.readFileString(path.join(modules, ".package-lock.json")).pipe(
    Effect.flatMap(Schema.decodeEffect(LockFile)),
    Effect.option // npm's own record; others keep none
  )
  const resolved = Option.getOrUndefined(lock)?.packages[`node_modules/${packageName}`]?.resolved
  return resolved === undefined || /^https?:/.test(resolved)
})

/** The config in a file; fails with the first place that cannot be read. */
const readConfigText = Effect.fnUntraced(function*(file: string, text: string) {
  const errors: Array<ParseError> = []
  const config: unknown = parse(withoutMark(text), errors, { allowTrailingComma: true, allowEmptyContent: true })
  const [error] = errors
  if (error !== undefined) {
    const line = withoutMark(text).slice(0, error.offset).split("\n").length
    return yield* refuse(
      `${file} line ${line}: ${printParseErrorCode(error.error)}. Correct it first; nothing was changed.`
    )
  }
  return config ?? {}
})

const refuse = (reason: string) => new CommandFailed({ exit: exitCodes.failed, reason })

const mark = "\ufeff"
const withoutMark = (text: string): string => (text.startsWith(mark) ? text.slice(mark.length) : text)

const withEntry = Effect.fnUntraced(function*(file: string, before: string, entry: string) {
  const config = yield* readConfigText(file, before)
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    return yield* refuse(`${file} holds no object of settings. Correct it first; nothing was changed.`)
  }
  const plugins: unknown = "plugin" in config ? config.plugin : undefined
  if (plugins !== undefined && !Array.isArray(plugins)) {
    return yield* refuse(`${file}: "plugin" is not a list. Correct it first; nothing was changed.`)
  }
  const text = withoutMark(before).trim() === "" ? "{}\n" : withoutMark(before)
  const formattingOptions = formatOf(text)
  const edits = plugins === undefined
    ? modify(text, ["plugin"], [entry], { formattingOptions })
    : modify(text, ["plugin", plugins.length], entry, { formattingOptions, isArrayInsertion: true })
  const after = applyEdits(text, edits)
  const { folder } = yield* packageRoot
  if (!namesPlugin(yield* readConfigText(file, after), folder)) {
    return yield* refuse(
      `${file} could not be changed safely. Add ${JSON.stringify(entry)} to its "plugin" list yourself.`
    )
  }
  return before.startsWith(mark) ? `${mark}${after}` : after
})

/** As the file is written already. */
const formatOf = (text: string): FormattingOptions => {
  const indent = /^([ \t]+)\S/m.exec(text)?.[1] ?? "  "
  return {
    insertSpaces: !indent.startsWith("\t"),
    tabSize: indent.startsWith("\t") ? 1 : indent.length,
    eol: text.includes("\r\n") ? "\r\n" : "\n"
  }
}

/** The lines that differ, between those that both have. */
const difference = (before: string, after: string): ReadonlyArray<string> => {
  const linesOf = (text: string) => (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n")
  const old = before === "" ? [] : linesOf(before)
  const fresh = linesOf(after)
  let head = 0
  while (head < Math.min(old.length, fresh.length) && old[head] === fresh[head]) head++
  let tail = 0
  while (
    tail < Math.min(old.length, fresh.length) - head && old[old.length - 1 - tail] === fresh[fresh.length - 1 - tail]
  ) tail++
  return [
    ...old.slice(head, old.length - tail).map((line) => `- ${line}`),
    ...fresh.slice(head, fresh.length - tail).map((line) => `+ ${line}`)
  ].map((line) => line.trimEnd())
}

/** Beside the file, under a name that nothing has yet. */
const backUp = Effect.fnUntraced(function*(file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  for (let count = 1; count < 1_000; count++) {
    const backup = `${file}.backup${count === 1 ? "" : `-${count}`}`
    const written = yield* fs.writeFileString(backup, text, { flag: "wx" }).pipe(
      Effect.as(true),
      Effect.catch((error) =>
        error.reason._tag === "AlreadyExists"
          ? Effect.succeed(false)
          // What there is of it is no backup; on a full disk it was made, and is empty.
          : Effect.andThen(Effect.ignore(fs.remove(backup, { force: true })), cannotWrite(backup)(error))
      )
    )
    if (written) return backup
  }
  return yield* refuse(`There are too many backups of ${file}; remove some. Nothing was changed.`)
})

/** Whole or not at all; where the name is a link, what it points to. */
const replace = Effect.fnUntraced(function*(file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  const target = yield* Effect.orElseSucceed(fs.realPath(file), () => file)
  const mode = Option.map(yield* Effect.option(fs.stat(target)), (info) => info.mode)
  const fresh = `${target}.${process.pid}.new`
  yield* fs.writeFileString(fresh, text, Option.isSome(mode) ? { mode: mode.value } : {}).pipe(
    Effect.andThen(fs.rename(fresh, target)),
    Effect.onError(() => Effect.ignore(fs.remove(fresh, { force: true }))),
    Effect.catch(cannotWrite(target))
  )
})

const cannotWrite = (file: string) => (error: PlatformError.PlatformError) =>
  refuse(`${file} ${whyUnusable(error)}. Look at the rights and the free space of its folder; the config is as it was.`)
