/** The tools that search in files: in the project, and outside of it where the user allows that. */
import { Duration, Effect, FileSystem, Path, Schema } from "effect"
import { Config } from "../Config.ts"
import { Instance } from "../host/Instance.ts"
import { type FoundLines, maxCount, maxPatternLength, visible } from "../search/Query.ts"
import { Search, SearchFailed } from "../search/Search.ts"
import * as Tool from "./Tool.ts"

const pattern = (description: string) =>
  Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxPatternLength)).annotate({ description })
const dir = Schema.optionalKey(
  Schema.String.annotate({ description: "Only in this folder or file, as a path from the project's root." })
)
const most = (maximum: number, description: string, byDefault: number) =>
  Schema.Int.check(Schema.isBetween({ minimum: 1, maximum })).annotate({ description }).pipe(
    Schema.withDecodingDefaultKey(Effect.succeed(byDefault))
  )

export const makeSearchTools = Effect.gen(function*() {
  const search = yield* Search
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const { root } = yield* Instance
  const { searchTimeLimit } = yield* Config

  /** Where to search. What is not in the project, be it by way of a link, is asked for first. */
  const place = Effect.fnUntraced(function*(dir: string | undefined, caller: Tool.Caller) {
    const asked = path.resolve(root, dir ?? ".")
    const unknown = new Tool.ToolRefusal({
      message: `There is no folder or file ${visible(dir ?? ".")}. Use glob_search to find where it is.`
    })
    if (asked.includes("\0")) return yield* unknown
    const top = yield* Effect.mapError(fs.realPath(root), () => unknown)
    const target = yield* Effect.mapError(fs.realPath(asked), () => unknown)
    const below = path.relative(top, target)
    const isInside = !path.isAbsolute(below) && below.split(path.sep)[0] !== ".."
    if (isInside) return { top, target, shown: (found: string) => visible(found) }
    const { type } = yield* Effect.mapError(fs.stat(target), () => unknown)
    const folder = type === "Directory" ? target : path.dirname(target)
    const everything = path.join(folder, "*").replaceAll("\\", "/")
    yield* caller.ask({
      permission: "external_directory",
      patterns: [everything],
      always: [everything],
      metadata: { filepath: target, parentDir: folder }
    })
    return { top: folder, target, shown: (found: string) => visible(path.join(folder, found)) }
  })

  /** The search alone: the user may take longer over the question than it may. */
  const inTime = <A, E>(effect: Effect.Effect<A, E>) =>
    Effect.timeoutOrElse(effect, {
      duration: searchTimeLimit,
      orElse: () => Effect.fail(new SearchFailed({ reason: `it took longer than ${Duration.format(searchTimeLimit)}` }))
    })

  const grepSearch = Tool.make({
    name: "grep_search",
    description:
      "Finds lines in the project's files by a regular expression (RE2 syntax as in ripgrep: no look-around, no back "
      + "references; (?i) at the start ignores case). Results are in the order of paths. Files that git ignores, binary "
      + "ones and those over 2 MB are left out.",
    parameters: Schema.Struct({
      pattern: pattern("The regular expression, matched within a line."),
      dir,
      maxResults: most(500, "Lines shown at most; 100 by default.", 100)
    }),
    handler: Effect.fnUntraced(function*({ dir, maxResults, pattern }, caller) {
      const { shown, target, top } = yield* place(dir, caller)
      const [found] = yield* inTime(search.lines({ patterns: [pattern], target, top, limit: maxResults }))
      return found === undefined ? `${nothing}.` : [`${count(found)}.`, ...lines(found, shown)].join("\n")
    })
  })

  const mgrep = Tool.make({
    name: "mgrep",
    description: "Like grep_search for several patterns in one pass: the lines of each pattern, one after another.",
    parameters: Schema.Struct({
      patterns: Schema.Array(pattern("A regular expression, matched within a line.")).check(
        Schema.isMinLength(1),
        Schema.isMaxLength(20)
      ).annotate({ description: "2 to 20 regular expressions." }),
      dir,
      maxResults: most(100, "Lines shown at most for each pattern; 30 by default.", 30)
    }),
    handler: Effect.fnUntraced(function*({ dir, maxResults, patterns }, caller) {
      const { shown, target, top } = yield* place(dir, caller)
      const distinct = [...new Set(patterns)]
      const all = yield* inTime(search.lines({ patterns: distinct, target, top, limit: maxResults }))
      const matching = all.filter(({ total }) => total > 0).length
      return [
        `${matching === 0 ? "None" : matching} of ${distinct.length} patterns ${matching === 1 ? "matches" : "match"}.`,
        ...all.flatMap((found, index) => [
          `${visible(distinct[index] ?? "")} - ${count(found)}${found.lines.length === 0 ? "" : ":"}`,
          ...lines(found, shown)
        ])
      ].join("\n")
    })
  })

  const globSearch = Tool.make({
    name: "glob_search",
    description:
      "Finds files by their path: * and ? within a name, ** across folders, {a,b}, [a-z]. A pattern without a slash is "
      + "matched with names at any depth. Results are in the order of paths. Files that git ignores are left out.",
    parameters: Schema.Struct({
      pattern: pattern("The pattern, such as *.test.ts or src/**/*.{ts,tsx}."),
      dir,
      maxResults: most(1_000, "Paths shown at most; 200 by default.", 200)
    }),
    handler: Effect.fnUntraced(function*({ dir, maxResults, pattern }, caller) {
      const { shown, target, top } = yield* place(dir, caller)
      // A whole path is what its part below the target is.
      const start = `${target.replaceAll("\\", "/")}/`
      const below = pattern.startsWith(start) ? pattern.slice(start.length - 1) : pattern
      const found = yield* inTime(search.files({ pattern: below, target, top, limit: maxResults }))
      if (found.total === 0) return "No file matches."
      const some = found.total > found.paths.length
      const head = some
        ? `${found.paths.length} of ${total(found.total)} files; ${narrow}`
        : plural(found.total, "file")
      return [`${head}.`, ...found.paths.map(shown)].join("\n")
    })
  })

  const tools: ReadonlyArray<Tool.Tool> = [grepSearch, globSearch, mgrep]
  return tools
})

const nothing = "Nothing matches"
const narrow = "narrow the pattern or dir"

const lines = (found: FoundLines, shown: (path: string) => string) =>
  found.lines.map(({ line, path, text }) => `${shown(path)}:${line}: ${text}`)

/** How much was found, in words. */
const count = (found: FoundLines): string => {
  if (found.total === 0) return nothing
  const files = plural(found.files, "file")
  return found.total > found.lines.length
    ? `${found.lines.length} of ${total(found.total)} matches in ${files}; ${narrow}`
    : `${plural(found.total, "match")} in ${files}`
}

const total = (number: number) => number < maxCount ? formatNumber(number) : `${formatNumber(maxCount)} or more`

const plural = (number: number, word: string) =>
  `${formatNumber(number)} ${number === 1 ? word : word.endsWith("ch") ? `${word}es` : `${word}s`}`

const formatNumber = (number: number) => number.toLocaleString("en-US")
