/** What is searched for and what is found, as plain data: this is what search threads exchange, so no services here. */

/** The longest pattern, in characters. */
export const maxPatternLength = 1_000

/** Files above this size are left out, in bytes. */
export const maxFileSize = 2 * 1024 * 1024

/** Where counting ends, for each pattern. */
export const maxCount = 10_000

interface Place {
  /** The folder to search in, or one file; a real path, absolute. */
  readonly target: string
  /** The folder that ignore files are read from, and below; `target` itself or above it. */
  readonly top: string
  /** How many finds are wanted, for each pattern. */
  readonly limit: number
}

export interface LinesQuery extends Place {
  /** Regular expressions in the syntax that RE2 and ripgrep share. */
  readonly patterns: ReadonlyArray<string>
}

export interface FilesQuery extends Place {
  /** A glob: without a slash for the name at any depth, else for the path below `target`. */
  readonly pattern: string
}

export interface FoundLine {
  /** Path from the top, names divided by slashes. */
  readonly path: string
  /** Counted from 1. */
  readonly line: number
  /** The line, cut around its first match. */
  readonly text: string
}

/** Lines that match one pattern. */
export interface FoundLines {
  /** The first ones, in the order of their paths. */
  readonly lines: ReadonlyArray<FoundLine>
  /** How many there are. When it reaches `maxCount` the search ended there. */
  readonly total: number
  /** In how many files. */
  readonly files: number
}

/** Files that match. */
export interface FoundFiles {
  /** The first ones in order, as paths from the top, names divided by slashes. */
  readonly paths: ReadonlyArray<string>
  /** How many there are. When it reaches `maxCount` the search ended there. */
  readonly total: number
}

/** How much of a line is shown, in characters. */
const shownLength = 200

/** A line for showing: whole when it is short, else the part around a match, with … where it was cut. */
export const excerpt = (line: string, start: number, end: number): string => {
  if (line.length <= shownLength) return visible(line)
  // The match in the middle, or its beginning when it is long itself.
  const before = Math.max(0, Math.floor((shownLength - (end - start)) / 2))
  const from = Math.max(0, Math.min(start - before, line.length - shownLength))
  const to = Math.min(line.length, from + shownLength)
  return `${from > 0 ? "…" : ""}${visible(line.slice(from, to))}${to < line.length ? "…" : ""}`
}

/** Text without what could pass for another line, or steer a terminal. */
export const visible = (text: string): string =>
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  text.replace(/[\u0000-\u0008\u000a-\u001f\u007f-\u009f\u2028\u2029]/g, (character) =>
    character === "\n" ? "\\n" : character === "\r" ? "\\r" : "\uFFFD")

/**
 * Whether a file of this name often holds secrets: the host asks the user before it lets an agent read one, so a search
 * does not show what is in it. See `reading` in the agents' rights.
 */
export const holdsSecrets = (name: string): boolean => /\.env(\.|$)/.test(name) && !name.endsWith(".env.example")

/** The order of results: by path, name by name, so that what is in a folder stands together. */
export const byName = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
