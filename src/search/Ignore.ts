/**
 * Which files of a tree are left out: `.gitignore`, `.git/info/exclude`, `.ignore` and `.rgignore` at every level, as
 * git and ripgrep read them. Deeper files come before higher ones, later lines before earlier ones; what is within a
 * folder that is left out cannot be taken back in.
 */
import { type Glob, matchesPath, parse } from "./Glob.ts"

/** The files that hold rules, in the order in which they decide: the first kind that says something is heard. */
export const ignoreFiles = [".rgignore", ".ignore", ".gitignore", ".git/info/exclude"] as const
export type IgnoreFile = typeof ignoreFiles[number]

interface Rule {
  readonly glob: Glob
  readonly takesBack: boolean
  readonly foldersOnly: boolean
}

/** The rules of one file, last one first. */
export type Rules = ReadonlyArray<Rule>

/** Reads the text of an ignore file. A line that is no pattern matches nothing, as in git. */
export const parseRules = (text: string): Rules => {
  const rules: Array<Rule> = []
  for (const line of text.replace(/^\uFEFF/, "").split("\n")) {
    const rule = parseLine(line.endsWith("\r") ? line.slice(0, -1) : line)
    if (rule !== undefined) rules.push(rule)
  }
  return rules.reverse()
}

const parseLine = (line: string): Rule | undefined => {
  if (line.startsWith("#")) return undefined
  let pattern = withoutTrailingSpaces(line)
  const takesBack = pattern.startsWith("!")
  if (takesBack) pattern = pattern.slice(1)
  const foldersOnly = pattern.endsWith("/")
  if (foldersOnly) pattern = pattern.slice(0, -1)
  if (pattern === "") return undefined
  const glob = parse(pattern)
  return "problem" in glob ? undefined : { glob, takesBack, foldersOnly }
}

/** Spaces at the end do not count, unless a backslash stands before them. */
const withoutTrailingSpaces = (line: string): string => {
  let end = line.length
  while (end > 0 && line[end - 1] === " ") {
    let slashes = 0
    while (line[end - 2 - slashes] === "\\") slashes++
    if (slashes % 2 === 1) break
    end--
  }
  return line.slice(0, end)
}

/** The rules that hold in a folder: its own, and those of the folders above it. */
export interface Level {
  readonly above: Level | undefined
  /** How many names lead from the top of the tree to this folder. */
  readonly depth: number
  readonly rules: ReadonlyMap<IgnoreFile, Rules>
  /** A repository of its own: what git was told above it does not hold here. */
  readonly isRepository: boolean
}

/** Whether an entry is left out, given as the names that lead to it from the top of the tree. */
export const isIgnored = (level: Level, names: ReadonlyArray<string>, isFolder: boolean): boolean => {
  for (const file of ignoreFiles) {
    const isGits = file === ".gitignore" || file === ".git/info/exclude"
    for (let at: Level | undefined = level; at !== undefined; at = at.above) {
      const rule = at.rules.get(file)?.find(({ foldersOnly, glob }) =>
        (isFolder || !foldersOnly) && matchesPath(glob, names, at?.depth)
      )
      if (rule !== undefined) return !rule.takesBack
      if (isGits && at.isRepository) break
    }
  }
  return false
}
