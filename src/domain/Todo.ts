/**
 * A list of what is to be done, in Markdown, as agents and people write it in `.opencode/todo.md`; and the pure edits
 * that keep every byte they do not mean to change.
 *
 * An item is one line: `- [ ] T1: text | agent:Builder | depends:T1,T2 | files:src/a.ts | parallel:A`, nested by
 * indentation. The mark says the state: `[ ]` open, `[x]` done, `[~]` in progress, `[-]` dropped. A word behind the text
 * says it too, and wins over the mark: `| state:blocked`, `| blocked`, `| failed: the reason`. Why an item was dropped,
 * failed or is blocked stands in `| reason: …`; for a dropped item `(dropped: …)` and `because …` at the end of its text
 * are read as well. Lines below an item that are indented deeper belong to it. Lines in code fences are no items.
 */
import { Schema } from "effect"

export type TodoState = "open" | "in_progress" | "blocked" | "failed" | "done" | "dropped"

export interface TodoItem {
  /** Such as `T1`: letters or digits, one digit at least, before a colon; or any text behind `id:`. */
  readonly id: string | undefined
  /** Without the id and what stands behind `|`. */
  readonly text: string
  /** The indented lines below it that are no items, without their common indentation. */
  readonly details: string
  readonly state: TodoState
  readonly agent: string | undefined
  /** Names of what comes first, as written. */
  readonly depends: ReadonlyArray<string>
  readonly files: ReadonlyArray<string>
  readonly parallel: string | undefined
  readonly reason: string | undefined
  /** 0 for an item that is in no other one. */
  readonly level: number
  /** Counted from 1. */
  readonly line: number
}

export interface TodoList {
  readonly text: string
  /** In the order of the text: what follows an item with a higher level is in it. */
  readonly items: ReadonlyArray<TodoItem>
}

/** What `add` writes. */
export interface NewTodo {
  readonly id?: string
  readonly text: string
  readonly agent?: string
  readonly depends?: ReadonlyArray<string>
  readonly files?: ReadonlyArray<string>
  readonly parallel?: string
  /** 0, the default, for an item that is in no other one. */
  readonly level?: number
}

// ---- reading --------------------------------------------------------------------------------------------------------

/** Reads any text, in time that grows with its length alone. */
export const parse = (text: string): TodoList => ({ text, items: read(text).map(({ item }) => item) })

/** Items that are left to do: those without items in them that are not settled, and are in no settled dropped one. */
export const openItems = (list: TodoList): ReadonlyArray<TodoItem> =>
  leaves(list.items).flatMap(({ item, settled }) => (settled ? [] : [item]))

/**
 * How far the list is. Items without items in them count; one that has some is done when they are. A dropped item counts
 * as done only with its reason, and takes what is in it along.
 */
export const progress = (list: TodoList): { readonly done: number; readonly total: number } => {
  const counted = leaves(list.items)
  return { done: counted.filter(({ settled }) => settled).length, total: counted.length }
}

/** Nothing is to be done about the item itself any more: it is done, or dropped with a reason. */
export const isSettled = (item: TodoItem): boolean =>
  item.state === "done" || (item.state === "dropped" && item.reason !== undefined)

/** Whether the next item is in this one. */
export const isParent = (items: ReadonlyArray<TodoItem>, index: number): boolean =>
  (items[index + 1]?.level ?? -1) > (items[index]?.level ?? 0)

const leaves = (items: ReadonlyArray<TodoItem>) => {
  const found: Array<{ readonly item: TodoItem; readonly settled: boolean }> = []
  /** The level of the outermost dropped item that this one is in. */
  let dropped = Infinity
  for (const [index, item] of items.entries()) {
    if (item.level <= dropped) dropped = item.state === "dropped" && isSettled(item) ? item.level : Infinity
    if (!isParent(items, index)) found.push({ item, settled: dropped !== Infinity || isSettled(item) })
  }
  return found
}

interface Place {
  /** Where the line's text is in the whole: without the end of the line, and without a byte order mark. */
  readonly start: number
  readonly end: number
  /** Where the next line begins. */
  readonly next: number
}

/** An item, and where it stands. */
interface Located {
  readonly item: TodoItem
  readonly place: Place
  readonly parts: Parts
  /** Where what belongs to it ends, items in it left out. */
  readonly bodyEnd: number
}

const read = (text: string): ReadonlyArray<Located> => {
  const lines = placesOf(text)
  const contents = lines.map(({ end, start }) => text.slice(start, end))
  const isCode = codeLines(contents)
  const found: Array<Located> = []
  const above: Array<number> = []
  let details: Array<string> = []
  let bodyEnd = 0
  /** The item has lines below it that are its own. */
  let isTaking = false
  let latest:
    | { readonly parts: Parts; readonly place: Place; readonly indent: number; readonly line: number }
    | undefined
  const finish = () => {
    if (latest === undefined) return
    const { line, parts, place } = latest
    const level = above.length - 1
    found.push({ place, parts, bodyEnd, item: { ...readParts(parts), details: unindent(details), level, line } })
    latest = undefined
    details = []
  }
  for (const [index, place] of lines.entries()) {
    const content = contents[index] ?? ""
    const parts = isCode[index] === true ? undefined : split(content)
    if (parts !== undefined) {
      finish()
      let indent = parts.label === undefined ? width(parts.indent) : 2 * (parts.label - 1)
      // A child stands two columns deeper at least: one column is a slip.
      while ((above.at(-1) ?? -2) > indent - 2) indent = Math.min(indent, above.pop() ?? indent)
      above.push(indent)
      latest = { parts, place, indent: width(parts.indent), line: index + 1 }
      bodyEnd = place.next
      isTaking = false
      continue
    }
    if (/^#{1,6}[ \t]/.test(content)) {
      finish()
      above.length = 0
      continue
    }
    if (latest === undefined) continue
    const isOwnCode = isTaking && isCode[index] === true && isCode[index - 1] === true
    if (content.trim() === "") {
      details.push("")
    } else if (isOwnCode || width(/^[ \t]*/.exec(content)?.[0] ?? "") > latest.indent) {
      details.push(content)
      isTaking = true
      bodyEnd = place.next
    } else {
      finish()
    }
  }
  finish()
  return found
}

const placesOf = (text: string): ReadonlyArray<Place> => {
  const places: Array<Place> = []
  for (let start = text.startsWith("\uFEFF") ? 1 : 0; start < text.length;) {
    const newline = text.indexOf("\n", start)
    const next = newline < 0 ? text.length : newline + 1
    const end = newline < 0 ? next : text[newline - 1] === "\r" && newline > start ? newline - 1 : newline
    places.push({ start, end, next })
    start = next
  }
  return places
}

/** What stands between two fences. */
export interface CodeBlock {
  /** What stands behind the first fence, such as `json`. */
  readonly info: string
  readonly text: string
  /** The line of the first fence, counted from 1. */
  readonly line: number
}

/** The pieces of code in a text, with their lines as they are. */
export const codeBlocks = (text: string): ReadonlyArray<CodeBlock> => {
  const lines = placesOf(text)
  return fencesIn(lines.map(({ end, start }) => text.slice(start, end))).map(({ from, info, to }) => ({
    info,
    text: text.slice(lines[from]?.next ?? 0, lines[to]?.start),
    line: from + 1
  }))
}

/** Which lines are code, or a fence. */
const codeLines = (lines: ReadonlyArray<string>): ReadonlyArray<boolean> => {
  const isCode = lines.map(() => false)
  for (const { from, to } of fencesIn(lines)) isCode.fill(true, from, to + 1)
  return isCode
}

/** Pairs of fences. One that is never closed is none: what follows it is not to be overlooked. */
const fencesIn = (lines: ReadonlyArray<string>) => {
  const marks = lines.map((line) => {
    const mark = /^[ \t>]*(?:[-*+][ \t]+)?(`{3,}|~{3,})(.*)$/s.exec(line)
    if (mark?.[1] === undefined) return undefined
    const [, ticks, info = ""] = mark
    // A fence of backticks has none of them behind it: that would be code within the line.
    if (ticks.startsWith("`") && info.includes("`")) return undefined
    return { char: ticks.charAt(0), length: ticks.length, info: info.trim() }
  })
  /** The longest mark from here to the end that could close a fence. */
  const longest: Array<Readonly<Record<string, number>>> = []
  let after: Readonly<Record<string, number>> = {}
  for (let index = lines.length - 1; index >= 0; index--) {
    longest[index] = after
    const mark = marks[index]
    if (mark?.info === "" && mark.length > (after[mark.char] ?? 0)) after = { ...after, [mark.char]: mark.length }
  }
  const found: Array<{ readonly from: number; readonly to: number; readonly info: string }> = []
  let open: { readonly char: string; readonly length: number; readonly info: string; readonly from: number } | undefined
  for (const [index, mark] of marks.entries()) {
    if (mark === undefined) continue
    if (open === undefined) {
      if ((longest[index]?.[mark.char] ?? 0) >= mark.length) open = { ...mark, from: index }
    } else if (mark.info === "" && mark.char === open.char && mark.length >= open.length) {
      found.push({ from: open.from, to: index, info: open.info })
      open = undefined
    }
  }
  return found
}

const width = (indent: string): number => {
  let column = 0
  for (const char of indent) column = char === "\t" ? column - (column % 4) + 4 : column + 1
  return column
}

/** Without what the first line is indented by. */
const unindent = (lines: ReadonlyArray<string>): string => {
  const indentOf = (line: string) => /^[ \t]*/.exec(line)?.[0].length ?? 0
  const first = indentOf(lines.find((line) => line !== "") ?? "")
  return lines.map((line) => line.slice(Math.min(first, indentOf(line)))).join("\n").trimEnd().replace(/^\n+/, "")
}

// ---- one line -------------------------------------------------------------------------------------------------------

/** A line that is an item, cut up so that its pieces in a row are the line again. */
interface Parts {
  readonly indent: string
  /** `- `, or `1. `. */
  readonly bullet: string
  /** `[x]`; undefined for an item that has only its level in brackets. */
  readonly mark: string | undefined
  /** Everything behind the mark, white space included. */
  readonly rest: string
  /** The number in `[L2]`, which stands for indentation. */
  readonly label: number | undefined
}

/** Marks that people and agents use. Another sign is not understood, so the item is taken for open. */
const marks: Readonly<Record<string, TodoState>> = {
  x: "done",
  X: "done",
  "✓": "done",
  "✔": "done",
  "-": "dropped",
  "~": "in_progress",
  "/": "in_progress"
}

/** Digits and letters between brackets are footnotes and the like. */
const itemLine =
  /^([ \t]*)((?:[-*+]|\d{1,9}[.)])[ \t]+)(\[(?:[ \t]?|[ \t]?[xX✓✔\-~/!?><*+=][ \t]?)\](?=[ \t]|$))?(.*)$/su
const levelLabel = /^[ \t]*\[L(\d{1,2})\](?=[ \t]|$)/i

const split = (line: string): Parts | undefined => {
  const match = itemLine.exec(line)
  if (match === null) return undefined
  const [, indent = "", bullet = "", mark, rest = ""] = match
  const label = Number(levelLabel.exec(rest)?.[1] ?? 0)
  if (mark === undefined && label === 0) return undefined
  return { indent, bullet, mark, rest, label: label === 0 ? undefined : label }
}

const join = ({ bullet, indent, mark, rest }: Parts): string =>
  `${indent}${bullet}${mark ?? "[ ]"}${mark === undefined ? " " : ""}${rest}`

/** What stands behind `|`. The first one of a kind counts. */
interface Attribute {
  readonly kind: "id" | "agent" | "depends" | "files" | "parallel" | "state" | "reason"
  readonly value: string
  readonly state?: TodoState
}

const kinds: ReadonlyMap<string, Attribute["kind"]> = new Map([
  ["id", "id"],
  ["agent", "agent"],
  ["depends", "depends"],
  ["dependson", "depends"],
  ["after", "depends"],
  ["file", "files"],
  ["files", "files"],
  ["parallel", "parallel"],
  ["state", "state"],
  ["status", "state"],
  ["reason", "reason"]
])

const words: ReadonlyMap<string, TodoState> = new Map([
  ["open", "open"],
  ["todo", "open"],
  ["pending", "open"],
  ["inprogress", "in_progress"],
  ["blocked", "blocked"],
  ["failed", "failed"],
  ["done", "done"],
  ["complete", "done"],
  ["completed", "done"],
  ["dropped", "dropped"],
  ["skipped", "dropped"],
  ["cancelled", "dropped"],
  ["canceled", "dropped"]
])

const plain = (word: string): string => word.toLowerCase().replace(/[\s_-]/g, "")

const readAttribute = (segment: string): Attribute | undefined => {
  const match = /^([a-z][a-z _-]{0,15})(?:[:=](.*))?$/is.exec(segment.trim())
  if (match === null) return undefined
  const [, name = "", value] = match
  const kind = kinds.get(plain(name))
  const state = words.get(plain(name))
  if (kind === "state") {
    const [, word = "", more = ""] = /^(in[ _-]?progress|[a-z]+)(?![a-z])[\s:,;(—–-]*(.*)$/is.exec(value?.trim() ?? "")
      ?? []
    const named = words.get(plain(word))
    return named === undefined ? undefined : { kind, value: more.replace(/\)$/, ""), state: named }
  }
  if (kind !== undefined) return value === undefined ? undefined : { kind, value: value.trim() }
  return state === undefined || state === "open" ? undefined : { kind: "state", value: (value ?? "").trim(), state }
}

/** Cut at each `|` that is not in code; the cut begins the piece behind it. */
const segmentsOf = (rest: string): ReadonlyArray<string> => {
  const cuts: Array<number> = []
  for (let index = 0; index < rest.length; index++) {
    const char = rest[index]
    if (char === "|") cuts.push(index)
    if (char !== "`") continue
    const close = rest.indexOf("`", index + 1)
    if (close >= 0) {
      index = close
      continue
    }
    for (let next = rest.indexOf("|", index); next >= 0; next = rest.indexOf("|", next + 1)) cuts.push(next)
    break
  }
  return [...cuts, rest.length].map((cut, index) => rest.slice(cuts[index - 1] ?? 0, cut))
}

/** What a piece says; the first piece, and what is no attribute, is text of the item. */
const attributeIn = (segment: string): Attribute | undefined =>
  segment.startsWith("|") ? readAttribute(segment.slice(1)) : undefined

const idInFront = /^(?:\*\*|__|`)?([\p{L}\d][\p{L}\d._-]{0,31})(?:(?:\*\*|__|`)?:|:(?:\*\*|__))(?:[ \t]+|$)/u

const readParts = ({ mark, rest }: Parts): Omit<TodoItem, "details" | "level" | "line"> => {
  const pieces = segmentsOf(rest).map((segment) => ({ segment, attribute: attributeIn(segment) }))
  const attributes = pieces.flatMap(({ attribute }) => attribute ?? [])
  const find = (kind: Attribute["kind"]) => attributes.find((attribute) => attribute.kind === kind)
  const words = pieces.filter(({ attribute }) => attribute === undefined).map(({ segment }) => segment).join("")
  const content = words.replace(levelLabel, "").trim()
  const prefix = idInFront.exec(content)
  const id = prefix?.[1] !== undefined && /\d/.test(prefix[1]) ? prefix[1] : undefined
  const text = id === undefined ? content : content.slice(prefix?.[0].length ?? 0).trim()
  const word = find("state")
  const state = word?.state ?? marks[mark?.slice(1, -1).trim() ?? ""] ?? "open"
  const written = find("reason")?.value || word?.value || (state === "dropped" ? reasonInText(text) : "")
  return {
    id: id ?? (find("id")?.value || undefined),
    text,
    state,
    agent: find("agent")?.value || undefined,
    depends: namesIn(find("depends")?.value ?? ""),
    files: listIn(find("files")?.value ?? "").map((file) => file.replace(/^`(.*)`$/, "$1")),
    parallel: find("parallel")?.value || undefined,
    reason: /[\p{L}\d]/u.test(written) ? written : undefined
  }
}

/** Why an item was dropped, where it is said in its text. */
const reasonInText = (text: string): string => {
  const lead = /\b(?:reason|dropped|skipped|cancell?ed)[ \t]?:|\bbecause\b/i.exec(text)
  return lead === null ? "" : text.slice(lead.index + lead[0].length).trim().replace(/[)\]]$/, "")
}

const listIn = (value: string): ReadonlyArray<string> =>
  value.replace(/^\[(.*)\]$/, "$1").split(/[,;]/).map((entry) => entry.trim()).filter((entry) =>
    entry !== "" && !/^(?:none|n\/a|-)$/i.test(entry)
  )

/** Names may be texts; ids may stand side by side without a comma. */
const namesIn = (value: string): ReadonlyArray<string> => [
  ...new Set(
    listIn(value).flatMap((entry) => {
      const pieces = entry.split(/[ \t]+/).filter((piece) => !/^(?:and|&)$/i.test(piece))
      return pieces.every((piece) => /^[\p{L}\d._-]+$/u.test(piece) && /\d/.test(piece)) ? pieces : [entry]
    })
  )
]

// ---- writing --------------------------------------------------------------------------------------------------------

/**
 * The text with one item, named by its id or by its line, in another state. Only the item's line changes, and only as
 * far as it must; a reason of the old state goes with it. The same text when there is no such item, or nothing to change.
 */
export const setState = (text: string, target: string | number, state: TodoState, reason?: string): string => {
  const wanted = typeof target === "string" ? target.trim().toLowerCase() : target
  const found = read(text).find(({ item }) =>
    typeof wanted === "number" ? item.line === wanted : item.id?.toLowerCase() === wanted
  )
  if (found === undefined) return text
  const { item, parts, place } = found
  const why = reason === undefined ? undefined : oneValue(reason) || undefined
  if (item.state === state && (why === undefined || item.reason === why)) return text
  const byMark = markOf[state]
  const kept = segmentsOf(parts.rest).filter((segment) => {
    const kind = attributeIn(segment)?.kind
    if (kind === "reason") return why === undefined && item.state === "open"
    return kind !== "state"
  }).join("")
  const added = [
    ...(byMark === undefined ? [`state:${state}`] : []),
    ...(why === undefined ? [] : [`reason: ${why}`])
  ]
  const base = trimBlanks(kept)
  // What was trimmed stays: two blanks at the end of a line are a line break.
  const tail = parts.rest.slice(trimBlanks(parts.rest).length)
  const rest = `${base}${added.map((attribute) => ` | ${attribute}`).join("")}${tail}`
  const sign = marks[parts.mark?.slice(1, -1).trim() ?? ""] ?? "open"
  const fits = parts.mark !== undefined && sign === (byMark === undefined ? "open" : state)
  const mark = fits ? parts.mark : `[${byMark ?? " "}]`
  const line = join({ ...parts, mark, rest: parts.mark === undefined ? ` ${rest.trimStart()}` : rest })
  return text.slice(0, place.start) + line + text.slice(place.end)
}

const trimBlanks = (text: string): string => {
  let end = text.length
  while (text[end - 1] === " " || text[end - 1] === "\t") end--
  return text.slice(0, end)
}

/** Other states are told by a word. */
const markOf: Readonly<Partial<Record<TodoState, string>>> = {
  open: " ",
  in_progress: "~",
  done: "x",
  dropped: "-"
}

/** A value that ends where it should: on one line, without the signs that would cut it. */
const oneValue = (value: string): string =>
  value.replace(/[\s\uFEFF]+/g, " ").replace(/\|/g, "/").replace(/`/g, "'").trim()

/** The text with more items behind its last one, or at its end; all that was there stays. */
export const add = (text: string, items: ReadonlyArray<NewTodo>): string => {
  if (items.length === 0) return text
  const newline = /\r?\n/.exec(text)?.[0] ?? "\n"
  const lines = items.map((item) => `${formatTodo(item)}${newline}`).join("")
  const known = read(text)
  const last = known.at(-1)
  const at = last?.bodyEnd ?? text.length
  const before = text.slice(0, at)
  const endsLine = before === "" || before === "\uFEFF" || before.endsWith("\n")
  return `${before}${endsLine ? "" : newline}${lines}${text.slice(at)}`
}

/** An item as a line. */
export const formatTodo = (item: NewTodo): string => {
  const list = (values: ReadonlyArray<string> | undefined) => (values ?? []).map(oneValue).filter((one) => one !== "")
  const attributes = [
    ["agent", oneValue(item.agent ?? "")],
    ["depends", list(item.depends).join(",")],
    ["files", list(item.files).join(",")],
    ["parallel", oneValue(item.parallel ?? "")]
  ].flatMap(([name = "", value = ""]) => (value === "" ? [] : [` | ${name}:${value}`]))
  const id = oneValue(item.id ?? "")
  const isShort = idInFront.test(`${id}:`) && /\d/.test(id)
  const words = [
    isShort ? `${id}: ` : "",
    oneValue(item.text),
    isShort || id === "" ? "" : ` | id:${id}`,
    ...attributes
  ]
  return `${"  ".repeat(item.level ?? 0)}- [ ] ${words.join("")}`
}

// ---- the host's own list --------------------------------------------------------------------------------------------

/** An entry of the list that the host keeps for a session. */
export const HostTodo = Schema.Struct({
  content: Schema.String,
  status: Schema.String,
  priority: Schema.optional(Schema.NullOr(Schema.String)),
  id: Schema.optional(Schema.NullOr(Schema.String))
})
export type HostTodo = typeof HostTodo.Type

/**
 * The host's list in our words. What stands in an entry is read as on a line of ours. That list has no room for a
 * reason, so there `cancelled` is one. A status that is not known leaves an entry open.
 */
export const fromHost = (todos: ReadonlyArray<HostTodo>): TodoList => {
  const items = todos.map(({ content, id, status }, index): TodoItem => {
    const [, ...lines] = content.split(/\r?\n/)
    const rest = content.split(/\r?\n/, 1)[0] ?? ""
    const item = readParts({ indent: "", bullet: "- ", mark: "[ ]", rest: ` ${rest}`, label: undefined })
    const state = item.state === "open" ? words.get(plain(status)) ?? "open" : item.state
    return {
      ...item,
      id: item.id ?? id ?? undefined,
      details: unindent(lines),
      state,
      reason: item.reason ?? (state === "dropped" ? "cancelled" : undefined),
      level: 0,
      line: index + 1
    }
  })
  return { text: items.map(({ text }) => `- ${text}\n`).join(""), items }
}
