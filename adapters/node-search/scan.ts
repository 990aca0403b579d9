/**
 * The search itself, without any program besides: walks the tree and matches, in one go and blocking, for a thread of
 * its own. It imports no more than it needs, for it is loaded with every such thread.
 */
import {
  closeSync,
  constants,
  type Dirent,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync
} from "node:fs"
import { join, relative, resolve, sep } from "node:path"
import { RE2JS, RE2JSSyntaxException } from "re2js"
import { matchesPath, parseWithBraces } from "../../src/search/Glob.ts"
import { type IgnoreFile, ignoreFiles, isIgnored, type Level, parseRules, type Rules } from "../../src/search/Ignore.ts"
import {
  byName,
  excerpt,
  type FilesQuery,
  type FoundFiles,
  type FoundLine,
  type FoundLines,
  holdsSecrets,
  type LinesQuery,
  maxCount,
  maxFileSize
} from "../../src/search/Query.ts"
import { filterOf } from "./filter.ts"

export type ScanRequest = { readonly lines: LinesQuery } | { readonly files: FilesQuery }

export type ScanAnswer =
  | { readonly lines: ReadonlyArray<FoundLines> }
  | { readonly files: FoundFiles }
  | { readonly bad: { readonly pattern: string; readonly position?: number; readonly problem: string } }

export const scan = (request: ScanRequest): ScanAnswer =>
  "lines" in request ? scanLines(request.lines) : scanFiles(request.files)

// ---- lines --------------------------------------------------------------------------------------------------------

/** A pattern as it is searched for, with what it has found so far. */
interface Hunt {
  readonly line: RE2JS
  /** Tells whole files without a match apart, quickly; absent where that could miss one. */
  readonly file: RE2JS | undefined
  /** Tells most of those apart without looking for a match; absent where nothing is sure to be in one. */
  readonly filter: RegExp | undefined
  readonly limit: number
  readonly lines: Array<FoundLine>
  total: number
  files: number
}

const scanLines = ({ limit, patterns, target, top }: LinesQuery): ScanAnswer => {
  const hunts: Array<Hunt> = []
  for (const pattern of patterns) {
    const compiled = compile(pattern)
    if ("problem" in compiled) return { bad: { pattern, ...compiled } }
    hunts.push({ ...compiled, limit, lines: [], total: 0, files: 0 })
  }
  const buffer = Buffer.allocUnsafe(maxFileSize)
  for (const names of walk(top, target)) {
    if (hunts.every(({ total }) => total >= maxCount)) break
    if (holdsSecrets(names.at(-1) ?? "")) continue
    const bytes = readInto(buffer, join(top, ...names))
    if (bytes !== undefined) searchFile(hunts, names.join("/"), bytes)
  }
  return { lines: hunts.map(({ files, lines, total }) => ({ files, lines, total })) }
}

/** Compiles a pattern, or says what is wrong with it. */
export const compile = (
  pattern: string
): Pick<Hunt, "line" | "file" | "filter"> | { readonly position?: number; readonly problem: string } => {
  try {
    // Anchors of the text mean the line here, and flags may be switched off within: the text as a whole is no guide then.
    const isAboutTheText = /\\[AzZ]|\(\?[a-zA-Z]*-/.test(pattern)
    return {
      line: RE2JS.compile(pattern),
      filter: filterOf(pattern),
      file: isAboutTheText ? undefined : RE2JS.compile(pattern, RE2JS.MULTILINE)
    }
  } catch (error) {
    if (!(error instanceof RE2JSSyntaxException)) {
      return { problem: error instanceof Error ? error.message : String(error) }
    }
    const part = error.getPattern() ?? ""
    const position = pattern.indexOf(part) + 1
    const problem = part === "" || part === pattern ? error.getDescription() : `${error.getDescription()} ${part}`
    return position === 0 ? { problem } : { position: part === "" ? pattern.length : position, problem }
  }
}

const searchFile = (hunts: ReadonlyArray<Hunt>, path: string, bytes: Buffer): void => {
  // UTF-16 is full of zero bytes, but says so at its start.
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe
    ? "utf-16le"
    : bytes[0] === 0xfe && bytes[1] === 0xff
    ? "utf-16be"
    : "utf-8"
  if (encoding === "utf-8" && bytes.includes(0)) return
  const isPlain = encoding === "utf-8" && bytes[0] !== 0xef && !bytes.includes(carriageReturn)
  let latin1: string | undefined
  const asLatin1 = () => latin1 ??= bytes.toString("latin1")
  const open = hunts.filter(({ file, filter, total }) =>
    total < maxCount && (!isPlain || file === undefined || (filter?.test(asLatin1()) !== false && file.test(bytes)))
  )
  if (open.length === 0) return
  const text = new TextDecoder(encoding).decode(bytes) // takes a mark of byte order away
  const before = open.map(({ total }) => total)
  let number = 0
  for (let start = 0; start < text.length; number++) {
    const feed = text.indexOf("\n", start)
    const end = feed < 0 ? text.length : feed
    const line = text.slice(start, end > start && text.charCodeAt(end - 1) === carriageReturn ? end - 1 : end)
    for (const hunt of open) {
      if (hunt.total < maxCount && hunt.line.test(line)) found(hunt, path, number + 1, line)
    }
    start = end + 1
  }
  open.forEach((hunt, index) => {
    if (hunt.total > (before[index] ?? 0)) hunt.files++
  })
}

const carriageReturn = 0x0d

const found = (hunt: Hunt, path: string, line: number, text: string): void => {
  hunt.total++
  if (hunt.lines.length >= hunt.limit) return
  const match = hunt.line.matcher(text)
  const isFound = match.find()
  hunt.lines.push({ path, line, text: excerpt(text, isFound ? match.start() : 0, isFound ? match.end() : 0) })
}

/** The bytes of a regular file; none when it is huge, no regular file, or cannot be read. */
const readInto = (buffer: Buffer, path: string): Buffer | undefined => {
  try {
    // The entry may have become a link or a pipe since it was listed.
    const file = openSync(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
    try {
      const stat = fstatSync(file)
      if (!stat.isFile() || stat.size > maxFileSize) return undefined
      let length = 0
      // Most are read at once. One that says it is empty may be none of the disk's.
      while (length < buffer.length && (length === 0 || length < stat.size)) {
        const read = readSync(file, buffer, length, buffer.length - length, null)
        if (read === 0) break
        length += read
      }
      return buffer.subarray(0, length)
    } finally {
      closeSync(file)
    }
  } catch {
    return undefined // gone since it was listed, or not ours to read: left out, as what is ignored
  }
}

// ---- files --------------------------------------------------------------------------------------------------------

const scanFiles = ({ limit, pattern, target, top }: FilesQuery): ScanAnswer => {
  const globs = parseWithBraces(pattern)
  if ("problem" in globs) return { bad: { pattern, ...globs } }
  const from = namesBetween(top, target).length
  const paths: Array<string> = []
  let total = 0
  for (const names of walk(top, target)) {
    if (!globs.some((glob) => matchesPath(glob, names, from))) continue
    if (++total <= limit) paths.push(names.join("/"))
    if (total >= maxCount) break
  }
  return { files: { paths, total } }
}

// ---- the tree -----------------------------------------------------------------------------------------------------

/** Files of `target` that are not ignored, in the order of their paths, each as the names that lead to it from `top`. */
const walk = function*(top: string, target: string): Generator<ReadonlyArray<string>> {
  const names = namesBetween(top, target)
  const isFile = statSync(target, { throwIfNoEntry: false })?.isFile() === true
  let level: Level | undefined
  for (let depth = 0; depth < names.length; depth++) {
    const folder = join(top, ...names.slice(0, depth))
    level = enter(level, depth, folder, list(folder))
  }
  if (!isFile) yield* walkFolder(top, names, level)
  else if (level === undefined || !isIgnored(level, names, false)) yield names
}

const walkFolder = function*(
  top: string,
  names: ReadonlyArray<string>,
  above: Level | undefined
): Generator<ReadonlyArray<string>> {
  const folder = join(top, ...names)
  const entries = list(folder)
  const level = enter(above, names.length, folder, entries)
  for (const entry of entries) {
    const isFolder = entry.isDirectory()
    if (entry.name === ".git" || !isFolder && !entry.isFile()) continue
    const inner = [...names, entry.name]
    if (isIgnored(level, inner, isFolder)) continue
    if (isFolder) yield* walkFolder(top, inner, level)
    else yield inner
  }
}

const list = (folder: string): Array<Dirent> => {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => byName(a.name, b.name))
  } catch {
    return [] // gone since it was listed, or not ours to read: left out, as what is ignored
  }
}

const namesBetween = (top: string, target: string): ReadonlyArray<string> =>
  relative(top, target).split(sep).filter((name) => name !== "")

/** The rules of a folder, read from those of its entries that hold some. */
const enter = (above: Level | undefined, depth: number, folder: string, entries: ReadonlyArray<Dirent>): Level => {
  const rules = new Map<IgnoreFile, Rules>()
  const add = (file: IgnoreFile, path: string) => {
    const text = readText(path)
    if (text !== undefined) rules.set(file, parseRules(text))
  }
  let isRepository = false
  for (const { name } of entries) {
    if (name === ".git") {
      isRepository = true
      add(".git/info/exclude", excludeFile(folder))
    } else if (isIgnoreFile(name)) add(name, join(folder, name))
  }
  return { above, depth, rules, isRepository }
}

const isIgnoreFile = (name: string): name is IgnoreFile => ignoreFiles.some((file) => file === name)

/** Where git keeps the user's own exclusions; a worktree has them in the repository that it belongs to. */
const excludeFile = (folder: string): string => {
  const git = join(folder, ".git")
  const link = /^gitdir: (.+)/.exec(readText(git) ?? "")?.[1]?.trim()
  if (link === undefined) return join(git, "info", "exclude")
  const own = resolve(folder, link)
  return join(resolve(own, readText(join(own, "commondir"))?.trim() ?? ""), "info", "exclude")
}

const readText = (path: string): string | undefined => {
  try {
    return statSync(path).size > maxFileSize ? undefined : readFileSync(path, "utf8")
  } catch {
    return undefined // there is none, or it is not ours to read
  }
}
