/**
 * Writes a parsed page as Markdown for a reader who is a model: plain, without escapes, links absolute. It is a
 * generator, so that whoever runs it can do other things in between; its time grows with the page's length alone.
 * (The libraries that do this work in one go: a hostile page of 1 MB held the process for 1 to 75 seconds.)
 */
import { type ChildNode, type Element, isTag, isText } from "domhandler"

export type Work<A> = Generator<void, A>

/** Never part of what a page says; hidden text is where a page hides orders to its readers. */
const silent = new Set(
  "title script style noscript template head svg canvas iframe object embed video audio button input select textarea dialog"
    .split(" ")
)

/** Around the main content, when a page does not mark it. */
const around = new Set(["nav", "header", "footer", "aside", "form"])

const blocks = new Set(
  "address article aside body dd details dialog div dl dt fieldset figcaption figure footer form header hgroup html legend li main nav ol optgroup option p section summary tbody tfoot thead ul caption center"
    .split(" ")
)

const emphases: Readonly<Record<string, string>> = { strong: "**", b: "**", em: "*", i: "*", del: "~~", s: "~~" }

export const isSilent = (element: Element): boolean =>
  silent.has(element.name) || element.attribs["hidden"] !== undefined || element.attribs["aria-hidden"] === "true"
  || /display\s*:\s*none|visibility\s*:\s*hidden/i.test(element.attribs["style"] ?? "")

/** Nested deeper than this, lists and quotes are no longer indented further. */
const deepest = 12

/** Of a longer page only the beginning is written, in characters. */
const longest = 1_000_000

/** Columns of a table. */
const widest = 100

/** Nodes between two pauses. */
const stride = 64

/** Characters of one text between two pauses. */
const portion = 32_768

/** The nodes as Markdown. `isWhole` leaves out what is around the main content; else each stands for itself. */
export function* toMarkdown(
  nodes: ReadonlyArray<ChildNode>,
  base: string,
  isWhole: boolean
): Work<{ readonly text: string; readonly isCut: boolean }> {
  const writer = new Writer(base, isWhole)
  for (const node of nodes) {
    if (!isWhole) writer.block()
    yield* writer.node(node)
  }
  return { text: writer.text, isCut: writer.isFull }
}

/** Begins the lines of a list item or a quote. */
interface Prefix {
  readonly indent: string
  /** What stands there on the first line, until that is written. */
  first: string | undefined
}

class Writer {
  private readonly base: string
  private readonly isWhole: boolean
  private parts: Array<string> = []
  /** What begins each line: quotes, indents. */
  private readonly prefixes: Array<Prefix> = []
  /** What is due before the next word: nothing, a space, a line's end, or a blank line. */
  private due: "" | " " | "\n" | "\n\n" = ""
  /** How many of the prefixes a blank line has: those that were open all the time that it was due. */
  private dueDepth = 0
  private length = 0
  private count = 0
  /** In a heading, a link, a cell or an emphasis: everything stays on one line. */
  private inline = 0
  /** Emphases and links that are open: those inside the same are not marked again. */
  private readonly open = new Set<string>()
  private readonly lists: Array<{ readonly ordered: boolean; next: number }> = []

  constructor(base: string, isWhole: boolean) {
    this.base = base
    this.isWhole = isWhole
  }

  get text(): string {
    return this.parts.join("").trim()
  }

  get isFull(): boolean {
    return this.length > longest
  }

  /** What comes next stands in a paragraph of its own. */
  block(): void {
    this.want(this.inline > 0 ? " " : "\n\n")
  }

  *node(node: ChildNode): Work<void> {
    if (++this.count % stride === 0) yield
    if (this.isFull) return
    if (isText(node)) return yield* this.words(node.data)
    if (!isTag(node) || isSilent(node) || (this.isWhole && around.has(node.name))) return
    const { attribs, name } = node
    const emphasis = emphases[name]
    const level = /^h([1-6])$/.exec(name)?.[1]
    if (emphasis !== undefined) return yield* this.around(node, emphasis, (inner) => `${emphasis}${inner}${emphasis}`)
    if (level !== undefined) return yield* this.heading(node, Number(level))
    switch (name) {
      case "a":
        return yield* this.link(node)
      case "code":
      case "kbd":
      case "samp":
      case "tt":
        return yield* this.code(yield* textOf(node))
      case "pre":
        return yield* this.preformatted(node)
      case "br":
        return this.want(this.inline > 0 ? " " : "\n")
      case "hr":
        this.block()
        if (this.inline === 0) this.write("---")
        return this.block()
      case "img": {
        const alt = (attribs["alt"] ?? "").replace(/\s+/g, " ").trim()
        const source = this.absolute(attribs["src"] ?? "")
        if (alt !== "" && source !== undefined) this.write(`![${alt}](${source})`)
        return
      }
      case "ul":
      case "ol": {
        const start = Number(attribs["start"] ?? "1")
        this.want(this.lists.length > 0 ? "\n" : "\n\n")
        this.lists.push({ ordered: name === "ol", next: Number.isInteger(start) ? start : 1 })
        yield* this.children(node)
        this.lists.pop()
        return this.want(this.lists.length > 0 ? "\n" : "\n\n")
      }
      case "li":
        return yield* this.item(node)
      case "blockquote":
        this.block()
        yield* this.indented({ indent: "> ", first: undefined }, node)
        return this.block()
      case "dt":
        this.block()
        return yield* this.around(node, "**", (inner) => `**${inner}**`)
      case "table":
        return yield* this.table(node)
      default: {
        if (!blocks.has(name)) return yield* this.children(node)
        this.block()
        yield* this.children(node)
        return this.block()
      }
    }
  }

  private *children(element: Element): Work<void> {
    for (const child of element.children) yield* this.node(child)
  }

  private want(due: "" | " " | "\n" | "\n\n"): void {
    if (this.prefixes.at(-1)?.first !== undefined) return // right after the mark of a list item
    this.dueDepth = this.due.startsWith("\n") ? Math.min(this.dueDepth, this.prefixes.length) : this.prefixes.length
    const wanted = this.inline > 0 && due !== "" ? " " : due
    if (wanted.length > this.due.length || (this.due === " " && wanted === "\n")) this.due = wanted
  }

  /** Text of the page: its spaces count as one. */
  private *words(data: string): Work<void> {
    for (let at = 0; at < data.length; at += portion) {
      if (at > 0) yield
      const words = collapse(data.slice(at, at + portion))
      const trimmed = words.trim()
      if (words.startsWith(" ")) this.want(" ")
      if (trimmed === "") continue
      this.write(trimmed)
      if (words.endsWith(" ")) this.want(" ")
    }
  }

  /** A text without line ends, after what is due. */
  private write(text: string): void {
    const isFirst = this.parts.length === 0
    const begun = isFirst && this.inline === 0 ? this.linePrefix() : ""
    const gap = isFirst
      ? (this.inline > 0 && this.due !== "" ? " " : "")
      : this.due === "\n\n"
      ? `\n${this.blankPrefix()}\n${this.linePrefix()}`
      : this.due === "\n"
      ? `\n${this.linePrefix()}`
      : this.due
    this.due = ""
    this.length += gap.length + begun.length + text.length
    this.parts.push(gap, begun, text)
  }

  private linePrefix(): string {
    return this.prefixes.map((prefix) => {
      const text = prefix.first ?? prefix.indent
      prefix.first = undefined
      return text
    }).join("")
  }

  private blankPrefix(): string {
    return this.prefixes.slice(0, this.dueDepth).map(({ indent }) => indent).join("").trimEnd()
  }

  /** What the children write, on one line. */
  private *capture(element: Element): Work<string> {
    const { due, parts } = this
    this.parts = []
    this.due = ""
    this.inline++
    yield* this.children(element)
    this.inline--
    const text = this.parts.join("") + (this.due === "" ? "" : " ")
    this.parts = parts
    this.due = due
    return text
  }

  /** The children between marks, the spaces at their edges outside. */
  private *around(element: Element, mark: string, wrap: (inner: string) => string): Work<void> {
    if (this.open.has(mark)) return yield* this.children(element)
    this.open.add(mark)
    const text = yield* this.capture(element)
    this.open.delete(mark)
    const inner = text.trim()
    if (text.startsWith(" ")) this.want(" ")
    if (inner === "") return
    this.write(wrap(inner))
    if (text.endsWith(" ")) this.want(" ")
  }

  private *heading(element: Element, level: number): Work<void> {
    if (this.inline > 0) {
      this.block()
      yield* this.children(element)
      return this.block()
    }
    const text = (yield* this.capture(element)).trim()
    if (text === "") return
    this.block()
    this.write(`${"#".repeat(level)} ${text}`)
    this.block()
  }

  private *link(element: Element): Work<void> {
    const href = element.attribs["href"] ?? ""
    const target = this.absolute(href)
    if (href.startsWith("#") || target === undefined) {
      // A mark beside a heading, to link to it.
      if (/^[¶#§\s]*$/.test(yield* textOf(element))) return
      return yield* this.children(element)
    }
    yield* this.around(element, "[", (inner) => (inner === target ? `<${target}>` : `[${inner}](${target})`))
  }

  private *code(content: string): Work<void> {
    const pieces: Array<string> = []
    for (let at = 0; at < content.length; at += portion) {
      pieces.push(collapse(content.slice(at, at + portion)))
      yield
    }
    const text = pieces.join("").trim()
    if (text === "") return
    const fence = "`".repeat(longestRun(text) + 1)
    const gap = text.startsWith("`") || text.endsWith("`") ? " " : ""
    this.write(`${fence}${gap}${text}${gap}${fence}`)
  }

  private *preformatted(element: Element): Work<void> {
    const text = (yield* textOf(element)).trimEnd().replace(/^\n+/, "")
    if (this.inline > 0) return yield* this.code(text)
    if (text === "") return
    const inner = element.children.find((child) => isTag(child) && child.name === "code")
    const classes = `${element.attribs["class"] ?? ""} ${
      inner !== undefined && isTag(inner) ? inner.attribs["class"] ?? "" : ""
    }`
    const language = /(?:^|\s)(?:language|lang|highlight-source|brush:)-?([\w+#-]{1,20})/.exec(classes)?.[1] ?? ""
    const fence = "`".repeat(Math.max(3, longestRun(text) + 1))
    this.block()
    this.write(`${fence}${language}`)
    const prefix = this.linePrefix()
    for (const [index, line] of text.split("\n").entries()) {
      this.parts.push(`\n${prefix}${line}`)
      this.length += prefix.length + line.length + 1
      if (index % 1_000 === 999) yield
      if (this.isFull) break
    }
    this.parts.push(`\n${prefix}${fence}`)
    this.block()
  }

  private *item(element: Element): Work<void> {
    const list = this.lists.at(-1)
    if (this.inline > 0 || list === undefined) {
      this.block()
      yield* this.children(element)
      return this.block()
    }
    const first = list.ordered ? `${list.next++}. ` : "- "
    this.want("\n")
    yield* this.indented({ indent: " ".repeat(first.length), first }, element)
    this.want("\n")
  }

  private *indented(prefix: Prefix, element: Element): Work<void> {
    const isDeep = this.prefixes.length >= deepest || this.inline > 0
    if (!isDeep) this.prefixes.push(prefix)
    yield* this.children(element)
    if (!isDeep) this.prefixes.pop()
    this.dueDepth = Math.min(this.dueDepth, this.prefixes.length)
  }

  private *table(table: Element): Work<void> {
    if (this.inline > 0) {
      this.block()
      yield* this.children(table)
      return this.block()
    }
    const rows: Array<ReadonlyArray<string>> = []
    for (const row of yield* rowsOf(table)) {
      const cells: Array<string> = []
      for (const cell of row.children) {
        if (!isTag(cell) || (cell.name !== "td" && cell.name !== "th")) continue
        if (cells.length === widest) break
        cells.push((yield* this.capture(cell)).trim().replaceAll("|", "\\|"))
      }
      if (cells.some((cell) => cell !== "")) rows.push(cells)
    }
    const width = rows.reduce((most, row) => Math.max(most, row.length), 0)
    if (width === 0) return
    const columns = Array.from({ length: width }, (_, index) => index)
    const [head = [], ...body] = rows
    this.block()
    for (const cells of [head, columns.map(() => "---"), ...body]) {
      this.write(`| ${columns.map((index) => cells[index] ?? "").join(" | ")} |`)
      this.want("\n")
      if (this.isFull) break
      yield
    }
    this.block()
  }

  /** Undefined for what leads nowhere that can be fetched. */
  private absolute(reference: string): string | undefined {
    const text = reference.trim()
    if (text === "" || text.length > 2_000) return undefined
    const url = URL.parse(text, this.base)
    return url !== null && /^(https?|mailto):$/.test(url.protocol) ? url.href : undefined
  }
}

const collapse = (text: string) => text.replace(/[\s\u00a0]{2,}|[^\S ]|\u00a0/g, " ")

/** The most backticks in a row. */
const longestRun = (text: string): number => {
  let most = 0
  for (let at = text.indexOf("`"); at !== -1; at = text.indexOf("`", at)) {
    const start = at
    while (text[at] === "`") at++
    most = Math.max(most, at - start)
  }
  return most
}

/** The rows of a table, not those of tables inside of it. */
function* rowsOf(table: Element): Work<ReadonlyArray<Element>> {
  const rows: Array<Element> = []
  for (const [index, child] of table.children.entries()) {
    if (index % stride === 0) yield
    if (!isTag(child)) continue
    if (child.name === "tr") rows.push(child)
    else if (/^t(head|body|foot)$/.test(child.name)) {
      for (const row of yield* rowsOf(child)) rows.push(row)
    }
  }
  return rows
}

/** All text below an element, as it stands. */
export function* textOf(element: Element): Work<string> {
  const parts: Array<string> = []
  const waiting: Array<ChildNode> = [...element.children].reverse()
  for (let count = 1;; count++) {
    const node = waiting.pop()
    if (node === undefined) return parts.join("")
    if (count % stride === 0) yield
    if (isText(node)) parts.push(node.data)
    else if (isTag(node) && !isSilent(node)) {
      if (node.name === "br") parts.push("\n")
      for (let index = node.children.length - 1; index >= 0; index--) {
        const child = node.children[index]
        if (child !== undefined) waiting.push(child)
      }
    }
  }
}
