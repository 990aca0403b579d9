/**
 * The search port with ripgrep where one is installed: several times as fast in large trees. Files are found, and what
 * ripgrep will not do is done, by the search on a thread, which it must agree with in all it answers.
 */
import { Effect, FileSystem, Layer, Option, Schema, Semaphore, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { spawn } from "node:child_process"
import { basename, relative, sep } from "node:path"
import {
  byName,
  excerpt,
  type FoundLine,
  type FoundLines,
  holdsSecrets,
  maxCount,
  maxFileSize
} from "../../src/search/Query.ts"
import { BadPattern, Search } from "../../src/search/Search.ts"
import { spawnPrinting } from "../node-process/printing.ts"
import { compile } from "./scan.ts"
import * as ThreadSearch from "./ThreadSearch.ts"

/** The first version that is known to do all that is asked of it here. */
const oldestVersion = 13

const Text = Schema.Union([Schema.Struct({ text: Schema.String }), Schema.Struct({ bytes: Schema.String })])

const Message = Schema.fromJsonString(Schema.Union([
  Schema.Struct({
    type: Schema.Literal("match"),
    data: Schema.Struct({
      path: Text,
      lines: Text,
      line_number: Schema.Int,
      // One for every match in the line, of which only the first is looked at: `.` has as many as the line has letters.
      submatches: Schema.Array(Schema.Unknown)
    })
  }),
  Schema.Struct({
    type: Schema.Literal("end"),
    data: Schema.Struct({ binary_offset: Schema.NullOr(Schema.Int) })
  }),
  Schema.Struct({ type: Schema.Literal("summary") })
]))
type Message = typeof Message.Type

/** How a message begins that a file is read: it says nothing that the others do not, and there is one for every file. */
const beginsFile = "{\"type\":\"begin\""

/** Where a match is in its line, in bytes. */
const Submatch = Schema.Struct({ start: Schema.Int, end: Schema.Int })

/** With more of them one pass on a thread is faster. */
const mostPatterns = 2

/** The longest message that is read, in characters: to take longer ones apart would hold up everything else. */
const maxMessageLength = 500_000

interface Query {
  readonly target: string
  readonly top: string
  readonly limit: number
}

/** Why ripgrep is left aside for one search. Not for users: another way is taken. */
class NotByRipgrep extends Schema.TaggedError<NotByRipgrep>()("NotByRipgrep", {}) {}

export const make = (binary: string) =>
  Effect.gen(function*() {
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const fs = yield* FileSystem.FileSystem
    const threads = yield* ThreadSearch.make
    const room = yield* Semaphore.make(ThreadSearch.atOnce)

    const isThere = yield* Effect.cached(
      spawner.string(ChildProcess.make(binary, ["--version"], { stdin: "ignore", stderr: "ignore" })).pipe(
        Effect.timeout("5 seconds"),
        Effect.map((text) => Number(/^ripgrep (\d+)\./.exec(text)?.[1] ?? 0) >= oldestVersion),
        Effect.orElseSucceed(() => false)
      )
    )

    /**
     * One pattern. In no order ripgrep works on all cores; but where it finds more than is counted it has to go in the
     * order of paths, and ends as soon as it has them. Killed with the call.
     */
    const find = (pattern: string, query: Query): Effect.Effect<FoundLines, NotByRipgrep> =>
      Effect.filterOrElse(
        run(pattern, query, false),
        ({ total }) => total < maxCount,
        () => run(pattern, query, true)
      )

    const run = Effect.fnUntraced(function*(pattern: string, { limit, target, top }: Query, isSorted: boolean) {
      const args = [
        ...options(top === target),
        ...(isSorted ? ["--sort=path"] : []),
        `--regexp=${toRust(pattern)}`,
        "--",
        `./${relative(top, target)}`
      ]
      const { output } = yield* Effect.acquireRelease(
        spawnPrinting((stdout) => spawn(binary, args, { cwd: top, stdio: ["ignore", stdout, "ignore"] })),
        ({ child }) => Effect.sync(() => child.kill("SIGKILL"))
      ).pipe(Effect.mapError(() => new NotByRipgrep()))
      const tally = makeTally(limit)
      let open = 0
      yield* output.pipe(
        Stream.decodeText,
        Stream.mapEffect((text) => {
          const feed = text.lastIndexOf("\n")
          open = feed < 0 ? open + text.length : text.length - feed - 1
          // Others have their turn between one piece and the next.
          return open > maxMessageLength ? Effect.fail(new NotByRipgrep()) : Effect.as(Effect.yieldNow, text)
        }),
        Stream.splitLines,
        Stream.filter((line) => !line.startsWith(beginsFile)),
        Stream.map((line) => tally.take(Schema.decodeOption(Message)(line))),
        Stream.takeUntil((isOver) => isOver),
        Stream.runDrain,
        Effect.mapError(() => new NotByRipgrep())
      )
      // Without a last word it did not search: a pattern that it reads in another way, or a folder that is gone.
      return tally.isComplete() ? tally.found() : yield* new NotByRipgrep()
    }, Effect.scoped)

    return Search.of({
      files: threads.files,
      lines: Effect.fn("Search.lines")(function*(query) {
        const isFolder = yield* Effect.map(
          Effect.option(fs.stat(query.target)),
          Option.exists(({ type }) => type === "Directory")
        )
        // A file that is named it reads even where it is ignored; and it goes through the tree once for each pattern, the
        // thread for all of them.
        const isForIt = isFolder && query.patterns.length <= mostPatterns && query.patterns.every(isForRipgrep)
        if (!isForIt || !(yield* isThere)) {
          return yield* threads.lines(query)
        }
        for (const pattern of query.patterns) {
          const compiled = compile(pattern)
          if ("problem" in compiled) return yield* new BadPattern({ pattern, ...compiled })
        }
        return yield* Effect.forEach(query.patterns, (pattern) => room.withPermit(find(pattern, query)), {
          concurrency: ThreadSearch.atOnce
        }).pipe(
          Effect.catchTag("NotByRipgrep", () => threads.lines(query))
        )
      })
    })
  })

/** Uses the ripgrep of this name, found on the PATH. */
export const layer = (binary = "rg"): Layer.Layer<
  Search,
  never,
  ChildProcessSpawner.ChildProcessSpawner | FileSystem.FileSystem
> => Layer.effect(Search, make(binary))

/** What makes ripgrep search as the thread does, wherever it runs and whatever its user has configured. */
const options = (isTop: boolean): ReadonlyArray<string> => [
  "--json",
  "--no-config",
  "--hidden",
  "--glob=!.git",
  "--no-require-git",
  "--no-ignore-global",
  ...(isTop ? ["--no-ignore-parent"] : []),
  "--no-follow",
  "--crlf",
  "--case-sensitive",
  `--max-filesize=${maxFileSize}`
]

/** What it does not refuse, and what is compiled quickly: that is done here, and must hold up nothing. */
const isForRipgrep = (pattern: string): boolean =>
  !/[\0\n]/.test(pattern) && pattern.length <= 150 && (pattern.match(/\{|\\[pP]/g) ?? []).length <= 3

/** Keeps the first lines of those that come in, in the order of their paths, and counts. */
const makeTally = (limit: number) => {
  let lines: Array<FoundLine> = []
  let total = 0
  let files = 0
  let isComplete = false
  // Those of the file that is being read: it may turn out to be a binary one.
  let pending: Array<FoundLine> = []
  let count = 0
  const cut = () => {
    lines = lines.sort(inOrder).slice(0, limit)
  }
  return {
    /** Takes one message; whether it was the last that is needed. What is no message says nothing. */
    take: (message: Option.Option<Message>): boolean => {
      if (Option.isNone(message)) return false
      switch (message.value.type) {
        case "match": {
          const path = toPath(decode(message.value.data.path))
          if (holdsSecrets(basename(path))) return false
          count++
          if (pending.length < limit) pending.push(toLine(path, message.value.data))
          return false
        }
        case "end":
          if (message.value.data.binary_offset === null && count > 0) {
            lines.push(...pending)
            if (lines.length > 2 * limit) cut()
            total = Math.min(maxCount, total + count)
            files++
            isComplete ||= total >= maxCount
          }
          pending = []
          count = 0
          return isComplete
        case "summary":
          isComplete = true
          return true
      }
    },
    isComplete: () => isComplete,
    found: (): FoundLines => {
      cut()
      return { lines, total, files }
    }
  }
}

/** Name by name, as the thread goes. The lines of a file come in their order, and keep it. */
const inOrder = (a: FoundLine, b: FoundLine): number =>
  byName(a.path.replaceAll("/", "\0"), b.path.replaceAll("/", "\0"))

const decode = (text: typeof Text.Type): string =>
  "text" in text ? text.text : Buffer.from(text.bytes, "base64").toString("utf8")

const toPath = (path: string): string => path.replace(/^\.\//, "").split(sep).join("/")

const toLine = (path: string, data: Extract<Message, { readonly type: "match" }>["data"]): FoundLine => {
  const text = decode(data.lines).replace(/\r?\n$/, "").replace(/^\uFEFF/, "")
  const first = Option.getOrElse(Schema.decodeUnknownOption(Submatch)(data.submatches[0]), () => ({ start: 0, end: 0 }))
  const bytes = Buffer.from(text)
  const before = (end: number) => bytes.subarray(0, end).toString().length
  return { path, line: data.line_number, text: excerpt(text, before(first.start), before(first.end)) }
}

const classes: Readonly<Record<string, string>> = { d: "0-9", w: "0-9A-Za-z_", s: "\\t\\n\\f\\r " }

/**
 * A pattern of RE2 in the words of Rust's regular expressions, so that both find the same: there `\d`, `\w`, `\s` and
 * `\b` are about all of Unicode, a brace must be one of a repetition, and brackets in brackets are operators.
 */
export const toRust = (pattern: string): string => {
  let result = ""
  let isClass = false
  for (let at = 0; at < pattern.length;) {
    const rest = pattern.slice(at)
    const [token] = (isClass
      ? /^(\\[pPx]\{[^}]*\}|\\[^]|\[:\^?\w+:\]|--|[^])/u
      : /^(\\Q[^]*?(\\E|$)|\\[pPx]\{[^}]*\}|\\[^]|\[\^?\]?|\{\d+(,\d*)?\}|[^])/u).exec(rest)
      ?? [""]
    at += Math.max(1, token.length)
    if (token.startsWith("\\Q") && !isClass) {
      result += token.slice(2).replace(/\\E$/, "").replace(/[\\.+*?()|[\]{}^$#&~-]/g, "\\$&")
    } else if (token.startsWith("\\")) {
      result += escape(token[1] ?? "", token, isClass)
    } else if (isClass) {
      if (token === "]") {
        isClass = false
      }
      result += token === "--" ? "-\\-" : token.length === 1 && "[&~".includes(token) ? `\\${token}` : token
    } else if (token.startsWith("[")) {
      isClass = true
      result += token
    } else result += token === "{" ? "\\{" : token
  }
  return result
}

const escape = (name: string, token: string, isClass: boolean): string => {
  const ascii = classes[name.toLowerCase()]
  if (ascii !== undefined) {
    if (name === name.toLowerCase()) return isClass ? ascii : `[${ascii}]`
    return `[^${ascii}]`
  }
  if (!isClass && (name === "b" || name === "B")) return `(?-u:${token})`
  // Only what has a meaning may be escaped.
  return /[\w\\.+*?()|[\]{}^$#&~-]/.test(name) ? token : name
}
