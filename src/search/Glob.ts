/**
 * Patterns for paths, as `.gitignore` and glob_search write them: `*` `?` `[a-z]` within a name, `**` across folders.
 * A match takes at most (length of the pattern) x (length of the path) steps: patterns come from models and from
 * whoever wrote the repository, and a translation to RegExp could be made to run for hours.
 */

export interface Glob {
  /** One pattern without a slash, matched against the last name of a path; or one part for each name of it. */
  readonly parts: ReadonlyArray<Part>
  readonly anchored: boolean
}

/** One part between slashes. */
type Part = "**" | ReadonlyArray<Token>

/** A character itself, or what may stand in its place. */
type Token = string | typeof star | typeof any | CharacterClass

/** Any characters, none included. */
const star = 0
/** Any one character. */
const any = 1

interface CharacterClass {
  readonly negated: boolean
  readonly has: (character: string) => boolean
}

/** Where a pattern goes wrong, counted from 1, and how. */
export interface GlobProblem {
  readonly position: number
  readonly problem: string
}

const isProblem = (value: unknown): value is GlobProblem =>
  typeof value === "object" && value !== null && "problem" in value

/** Reads a pattern without braces. A leading slash only says that it is anchored. */
export const parse = (pattern: string): Glob | GlobProblem => {
  const source = pattern.startsWith("/") ? pattern.slice(1) : pattern
  const parts: Array<Part> = []
  let part: Array<Token> = []
  let slashes = pattern.length - source.length
  const offset = slashes
  const close = () => {
    // Two or more stars that are all of a part stand for any folders; elsewhere they are one star.
    const isDeep = part.length > 1 && part.every((token) => token === star)
    // A second one after another says nothing more.
    if (!isDeep || parts.at(-1) !== "**") parts.push(isDeep ? "**" : merged(part))
    part = []
  }
  for (let at = 0; at < source.length;) {
    const character = characterAt(source, at)
    if (character === "/") {
      slashes++
      close()
      at++
    } else if (character === "*" || character === "?") {
      part.push(character === "*" ? star : any)
      at++
    } else if (character === "[") {
      const read = readClass(source, at)
      if (read === undefined) return { position: at + offset + 1, problem: "the [ is not closed" }
      part.push(read.token)
      at = read.end
    } else if (character === "\\") {
      const next = source.codePointAt(at + 1)
      if (next === undefined) return { position: at + offset + 1, problem: "the \\ stands before nothing" }
      if (next !== slash) part.push(String.fromCodePoint(next))
      at += next === slash ? 1 : 1 + String.fromCodePoint(next).length
    } else {
      part.push(character)
      at += character.length
    }
  }
  close()
  if (slashes > 0) return { parts, anchored: true }
  // Without a slash it is about the last name alone.
  return { parts: parts.map((one) => one === "**" ? [star] : one), anchored: false }
}

const slash = 0x2f

/** Neighbouring stars are one. */
const merged = (part: ReadonlyArray<Token>): ReadonlyArray<Token> =>
  part.filter((token, index) => token !== star || part[index - 1] !== star)

const posix: Readonly<Record<string, RegExp>> = {
  alnum: /^[a-z0-9]$/i,
  alpha: /^[a-z]$/i,
  blank: /^[ \t]$/,
  digit: /^[0-9]$/,
  lower: /^[a-z]$/,
  punct: /^[!-/:-@[-`{-~]$/,
  space: /^\s$/,
  upper: /^[A-Z]$/,
  xdigit: /^[0-9a-f]$/i
}

/** A class such as `[a-z]`, `[!abc]` or `[[:digit:]_]`, and where it ends; none when it is not closed. */
const readClass = (
  source: string,
  start: number
): { readonly token: CharacterClass; readonly end: number } | undefined => {
  const negated = source[start + 1] === "!" || source[start + 1] === "^"
  const tests: Array<(character: string) => boolean> = []
  const first = start + (negated ? 2 : 1)
  let at = first
  const take = (): string | undefined => {
    if (source[at] === "\\") at++
    const point = source.codePointAt(at)
    if (point === undefined) return undefined
    const character = String.fromCodePoint(point)
    at += character.length
    return character
  }
  while (source[at] !== "]" || at === first) {
    const named = /^\[:(\w+):\]/.exec(source.slice(at, at + 12))
    if (named?.[1] !== undefined) {
      const test = posix[named[1]]
      tests.push((character) => test?.test(character) === true)
      at += named[0].length
      continue
    }
    const from = take()
    if (from === undefined) return undefined
    if (source[at] === "-" && source[at + 1] !== "]" && at + 1 < source.length) {
      at++
      const to = take()
      if (to === undefined) return undefined
      tests.push((character) => code(from) <= code(character) && code(character) <= code(to))
    } else tests.push((character) => character === from)
  }
  return { token: { negated, has: (character) => tests.some((test) => test(character)) }, end: at + 1 }
}

const code = (character: string): number => character.codePointAt(0) ?? 0

/**
 * Whether a path matches, given as its names. Names before `from` are not looked at: the path is taken from there.
 * A `**` at the end stands for at least one name.
 */
export const matchesPath = (glob: Glob, names: ReadonlyArray<string>, from = 0): boolean => {
  const { anchored, parts } = glob
  if (!anchored) {
    const part = parts[0]
    return part !== undefined && part !== "**" && matchesName(part, names.at(-1) ?? "")
  }
  let name = from
  let part = 0
  // The newest `**`, and how far it reaches: going back to it is enough, for what an earlier one could take, it can too.
  let deep = -1
  let reach = 0
  while (name < names.length) {
    const current = parts[part]
    if (current === "**") {
      if (part === parts.length - 1) return true
      deep = part++
      reach = name
    } else if (current !== undefined && matchesName(current, names[name] ?? "")) {
      part++
      name++
    } else if (deep >= 0) {
      part = deep + 1
      name = ++reach
    } else return false
  }
  return part === parts.length
}

const matchesName = (part: ReadonlyArray<Token>, name: string): boolean => {
  let at = 0
  let index = 0
  // The newest star, and how far it reaches.
  let last = -1
  let reach = 0
  while (at < name.length) {
    const token = part[index]
    if (token === star) {
      last = index++
      reach = at
      continue
    }
    const character = characterAt(name, at)
    if (token !== undefined && matchesCharacter(token, character)) {
      index++
      at += character.length
    } else if (last >= 0) {
      index = last + 1
      reach += characterAt(name, reach).length
      at = reach
    } else return false
  }
  while (part[index] === star) index++
  return index === part.length
}

/** The character there, also where it takes two code units. */
const characterAt = (text: string, at: number): string => {
  const unit = text.charCodeAt(at)
  return unit >= 0xd800 && unit < 0xdc00 ? text.slice(at, at + 2) : text[at] ?? ""
}

const matchesCharacter = (token: Exclude<Token, typeof star>, character: string): boolean =>
  typeof token === "object" ? token.has(character) !== token.negated : token === any || token === character

/** The most patterns that one with braces may stand for. */
const maxAlternatives = 100

/** Reads a pattern that may hold braces, such as `*.{ts,tsx}`: what it stands for, one by one. */
export const parseWithBraces = (pattern: string): ReadonlyArray<Glob> | GlobProblem => {
  const expanded = expand(pattern)
  if (isProblem(expanded)) return expanded
  const globs: Array<Glob> = []
  for (const one of expanded) {
    const glob = parse(one)
    if (isProblem(glob)) return expanded.length === 1 ? glob : { position: 1, problem: glob.problem }
    globs.push(glob)
  }
  return globs
}

const expand = (pattern: string): ReadonlyArray<string> | GlobProblem => {
  const open = findOutsideClasses(pattern, 0, (character) => character === "{")
  if (open === undefined) return [pattern]
  const bounds = [open]
  let depth = 0
  const end = findOutsideClasses(pattern, open, (character, at) => {
    if (character === "{") depth++
    else if (character === "}" && --depth === 0) return true
    else if (character === "," && depth === 1) bounds.push(at)
    return false
  })
  if (end === undefined) return { position: open + 1, problem: "the { is not closed" }
  bounds.push(end)
  const all: Array<string> = []
  for (let index = 1; index < bounds.length; index++) {
    const choice = pattern.slice((bounds[index - 1] ?? 0) + 1, bounds[index])
    const rest = expand(pattern.slice(0, open) + choice + pattern.slice(end + 1))
    if (isProblem(rest)) return rest
    all.push(...rest)
    if (all.length > maxAlternatives) {
      return { position: open + 1, problem: `the braces stand for more than ${maxAlternatives} patterns` }
    }
  }
  return all
}

/** The first place from `start` on where `test` holds, not counting what is escaped or within a class. */
const findOutsideClasses = (
  pattern: string,
  start: number,
  test: (character: string, at: number) => boolean
): number | undefined => {
  for (let at = start; at < pattern.length; at++) {
    const character = pattern[at] ?? ""
    if (character === "\\") at++
    else if (character === "[") at = Math.max(at, (readClass(pattern, at)?.end ?? 0) - 1)
    else if (test(character, at)) return at
  }
  return undefined
}
