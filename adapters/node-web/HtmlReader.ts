/** Pages as text, with htmlparser2 and css-select, in slices: a page of any size lets other work through meanwhile. */
import { compile } from "css-select"
import { type ChildNode, DomHandler, type Element, isTag, isText } from "domhandler"
import { Effect, Layer, Option } from "effect"
import { Parser } from "htmlparser2"
import { BadSelector, PageReader, type Reading } from "../../src/host/PageReader.ts"
import { decodeText } from "./encodings.ts"
import { isSilent, textOf, toMarkdown, type Work } from "./markdown.ts"

/** Other work gets its turn after this long, in ms. */
const slice = 4

/** Characters that are parsed between two looks at the clock. */
const piece = 4_096

/** Elements inside each other; real pages stay below 100. What the parser does for one more grows with their number. */
const deepest = 300

/** Elements and texts. More of them would have the garbage collector hold the process for too long. */
const mostNodes = 120_000

/** A page whose marked content is shorter than this has marked the wrong thing, or has it made by scripts. */
const tooShort = 200

export const layer: Layer.Layer<PageReader> = Layer.succeed(PageReader, {
  decode: (bytes, encoding) => Option.fromUndefinedOr(decodeText(bytes, encoding)),
  toMarkdown: Effect.fn("HtmlReader.toMarkdown")(function*(html, { base, selector }) {
    const fits = selector === undefined ? undefined : yield* compileSelector(selector)
    return yield* inSlices(read(html, base, fits))
  })
})

const compileSelector = (selector: string) =>
  Effect.try({
    try: () => compile<ChildNode, Element>(selector),
    catch: (error) =>
      new BadSelector({ selector, why: error instanceof Error ? error.message.slice(0, 200) : "it cannot be read" })
  })

const inSlices = <A>(work: Work<A>): Effect.Effect<A> =>
  Effect.gen(function*() {
    while (true) {
      const end = performance.now() + slice
      do {
        const step = work.next()
        if (step.done === true) return step.value
      } while (performance.now() < end)
      yield* Effect.yieldNow
    }
  })

function* read(html: string, base: string, fits: ((element: Element) => boolean) | undefined): Work<Reading> {
  const { isCut, nodes } = yield* parse(html)
  const page = yield* survey(nodes, fits)
  const title = page.title === undefined
    ? ""
    : (yield* textOf(page.title)).slice(0, 1_000).replace(/\s+/g, " ").trim().slice(0, 300)
  const origin = page.base === undefined ? base : URL.parse(page.base, base)?.href ?? base
  if (fits !== undefined) {
    const chosen = yield* toMarkdown(page.found, origin, false)
    return { title, markdown: chosen.text, found: page.found.length, isCut: isCut || chosen.isCut }
  }
  const marked = page.main === undefined ? undefined : yield* toMarkdown([page.main], origin, false)
  const rest = marked !== undefined && marked.text.length >= tooShort
    ? undefined
    : yield* toMarkdown(nodes, origin, true)
  const best = [marked, rest].reduce((best, one) => (one?.text ?? "").length > (best?.text ?? "").length ? one : best)
  return { title, markdown: best?.text ?? "", found: 1, isCut: isCut || best?.isCut === true }
}

/** Stops adding nodes where a page goes too deep or on for too long. */
class BoundedHandler extends DomHandler {
  private depth = 0
  private count = 0
  isFull = false

  override onopentag(name: string, attribs: Record<string, string>): void {
    this.depth++
    if (this.grows()) super.onopentag(name, attribs)
  }
  override onclosetag(): void {
    this.depth--
    if (!this.isFull) super.onclosetag()
  }
  override ontext(data: string): void {
    if (this.grows()) super.ontext(data)
  }
  private grows(): boolean {
    this.isFull ||= ++this.count > mostNodes || this.depth > deepest
    return !this.isFull
  }
}

function* parse(html: string): Work<{ readonly nodes: ReadonlyArray<ChildNode>; readonly isCut: boolean }> {
  const handler = new BoundedHandler()
  const parser = new Parser(handler)
  for (let at = 0; at < html.length && !handler.isFull;) {
    const end = at + piece + (html[at + piece - 1] === "\r" ? 1 : 0) // a line's end is not cut in two
    parser.write(html.slice(at, end).replace(/\r\n?/g, "\n"))
    at = end
    yield
  }
  if (!handler.isFull) parser.end()
  return { nodes: handler.root.children, isCut: handler.isFull }
}

interface Survey {
  readonly title: Element | undefined
  readonly base: string | undefined
  /** The main content, where the page marks it. */
  readonly main: Element | undefined
  /** What the selector fits, in order; nothing that is inside another. */
  readonly found: ReadonlyArray<Element>
}

function* survey(
  nodes: ReadonlyArray<ChildNode>,
  fits: ((element: Element) => boolean) | undefined
): Work<Survey> {
  let title: Element | undefined
  let base: string | undefined
  let main: Element | undefined
  const articles: Array<Element> = []
  const found: Array<Element> = []
  const waiting: Array<{ readonly node: ChildNode; readonly within: boolean }> = []
  const add = (children: ReadonlyArray<ChildNode>, within: boolean) => {
    for (let index = children.length - 1; index >= 0; index--) {
      const node = children[index]
      if (node !== undefined && !isText(node)) waiting.push({ node, within })
    }
  }
  add(nodes, false)
  while (true) {
    const next = waiting.pop()
    if (next === undefined) break
    yield
    const { node } = next
    if (!isTag(node)) continue
    if (node.name === "title") title ??= node // the first one; those of pictures come after the head
    if (node.name === "base") base ??= node.attribs["href"]
    if (node.name === "main" || node.attribs["role"] === "main") main ??= node
    if (node.name === "article") articles.push(node)
    const isFound = fits !== undefined && !next.within && !isSilent(node) && fits(node)
    if (isFound) found.push(node)
    add(node.children, next.within || isFound)
  }
  return { title, base, main: main ?? (articles.length === 1 ? articles[0] : undefined), found }
}
