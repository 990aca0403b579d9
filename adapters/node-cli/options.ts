/** Options that several commands share, read and checked: what is wrong with one is said in a sentence. */
import { Effect, FileSystem, Option, Path, PlatformError, Ref, Result, Stream } from "effect"
import { Flag } from "effect/cli"
import { type Limits, parseLimits } from "../../src/domain/Budget.ts"
import type { ModelRef } from "../../src/domain/Session.ts"
import { type CommandFailed, usage } from "./exit.ts"

export const dirFlag = Flag.String("dir").pipe(
  Flag.withMetavar("path"),
  Flag.withDescription("The project to work in (default: this folder)"),
  Flag.withDefault(".")
)

export const readModel = (text: string): Effect.Effect<ModelRef, CommandFailed> => {
  const [, provider, model] = /^([^/\s]+)\/(\S+)$/.exec(text) ?? []
  return provider === undefined || model === undefined
    ? Effect.fail(usage(`--model must look like provider/model, and "${text}" does not.`))
    : Effect.succeed({ provider, model })
}

export const readDirectory = Effect.fnUntraced(function*(text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  if (text.trim() === "") return yield* usage("--dir is empty: name a folder, or leave it out for this one.")
  const directory = yield* Effect.try({
    try: () => path.resolve(text),
    catch: () => usage("The folder that this runs in is gone: go to another one, or name one with --dir.")
  })
  const info = yield* Effect.option(fs.stat(directory)) // unreadable counts as missing
  return Option.isSome(info) && info.value.type === "Directory"
    ? yield* fs.realPath(directory).pipe(Effect.mapError(({ message }) => usage(message)))
    : yield* usage(`--dir must be a folder, and there is none at ${directory}.`)
})

export const budgetFlags = {
  tokens: Flag.String("budget-tokens").pipe(
    Flag.withMetavar("2M"),
    Flag.withDescription("Tokens that the mission may use, all its agents together"),
    Flag.optional
  ),
  cost: Flag.String("budget-cost").pipe(
    Flag.withMetavar("10"),
    Flag.withDescription("US dollars that it may cost"),
    Flag.optional
  ),
  time: Flag.String("budget-time").pipe(
    Flag.withMetavar("2h"),
    Flag.withDescription("The longest it may take: 90s, 45min, 2h"),
    Flag.optional
  ),
  tasks: Flag.String("budget-tasks").pipe(
    Flag.withMetavar("50"),
    Flag.withDescription("Tasks that it may have, those of tasks included"),
    Flag.optional
  )
}

/** The limits, and the same as a person types them after `/resume`. */
export const readLimits = (
  budgets: Readonly<Record<keyof typeof budgetFlags, Option.Option<string>>>
): Effect.Effect<{ readonly limits: Limits; readonly typed: string }, CommandFailed> => {
  const words: Array<string> = []
  for (const name of ["tokens", "cost", "time", "tasks"] as const) {
    const value = budgets[name]
    if (Option.isNone(value)) continue
    const word = `${name}=${value.value.trim()}`
    if (/[\s,]/.test(word) || Result.isFailure(parseLimits(word))) {
      return Effect.fail(
        usage(`--budget-${name} cannot be "${value.value}": it takes ${kinds[name]}, such as ${examples[name]}.`)
      )
    }
    words.push(word)
  }
  const typed = words.join(" ")
  return Effect.succeed({ limits: Result.getOrElse(parseLimits(typed), () => ({})), typed })
}

const examples = { tokens: "2M", cost: "10", time: "2h", tasks: "50" }
const kinds = {
  tokens: "a whole number above 0",
  cost: "a number of dollars above 0",
  time: "a time above 0 with its unit",
  tasks: "a whole number above 0"
}

/** In bytes; a plan may have less, and nobody writes as much by hand. */
const largestText = 1_000_000

/** The text of a file that a person names. What has no end, such as a device, is not read to it. */
export const readText = Effect.fnUntraced(function*(flag: string, file: string) {
  const fs = yield* FileSystem.FileSystem
  if (file === "") return yield* usage(`${flag} is empty: name a file.`)
  const size = yield* Ref.make(0)
  const chunks = yield* fs.stream(file).pipe(
    Stream.takeUntilEffect((chunk) =>
      Ref.updateAndGet(size, (sum) => sum + chunk.length).pipe(Effect.map((sum) => sum > largestText))
    ),
    Stream.runCollect,
    Effect.mapError((error) => usage(`${flag}: ${file} ${whyUnusable(error)}.`))
  )
  if ((yield* Ref.get(size)) > largestText) {
    return yield* usage(`${flag}: ${file} has more than ${largestText} bytes: divide it.`)
  }
  return yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks)),
    catch: () => usage(`${flag}: ${file} is not text in UTF-8; save it as that.`)
  })
})

/** What the system says of a file, for people. */
export const whyUnusable = ({ message, reason }: PlatformError.PlatformError): string =>
  reasons[reason._tag] ?? `cannot be used: ${message}`

const reasons: Readonly<Record<string, string>> = {
  NotFound: "does not exist",
  PermissionDenied: "may not be used by this user",
  BadResource: "is a folder, or cannot be used as a file",
  AlreadyExists: "exists already"
}

/** Nothing is recorded, and so nothing promised, where `.opencode/orchestrator/` cannot be made or written. Leaves no trace. */
export const requireWritable = Effect.fnUntraced(function*(root: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.join(root, ".opencode", "orchestrator")
  for (const place of [folder, path.dirname(folder), root]) {
    const info = yield* Effect.option(fs.stat(place))
    if (Option.isNone(info)) continue
    const probe = path.join(place, `.probe-${process.pid}`)
    return yield* fs.writeFileString(probe, "", { flag: "wx" }).pipe(
      Effect.andThen(fs.remove(probe)),
      Effect.mapError(({ message }) =>
        usage(`Nothing can be recorded in ${folder}: ${message}. Make ${place} a folder that this user can write.`)
      )
    )
  }
})
