import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as HtmlReader from "../../adapters/node-web/HtmlReader.ts"
import { PageReader } from "../../src/host/PageReader.ts"
import { holdsBelow } from "./turns.ts"

const read = (html: string, selector?: string) =>
  PageReader.use((reader) => reader.toMarkdown(html, { base: "https://site.test/docs/page", selector })).pipe(
    Effect.provide(HtmlReader.layer)
  )

const long = `<p>${"Enough words to be the main content. ".repeat(8)}</p>`

describe("a page", () => {
  for (
    const [what, html, markdown] of [
      ["headings", "<h1>One <a href=#one>¶</a></h1><h3> Three\n words </h3>", "# One\n\n### Three words"],
      ["paragraphs", "<p>one\n  two<p>three", "one two\n\nthree"],
      ["breaks", "a<br>b<hr>c", "a\nb\n\n---\n\nc"],
      ["emphasis", "a <b>bold </b>and<i> it <b>both</b></i>.", "a **bold** and *it **both***."],
      ["emphasis in emphasis", "<b><strong>x</strong></b>", "**x**"],
      ["links", "see <a href='../x?a=1&amp;b=2'> the\npage</a>.", "see [the page](https://site.test/x?a=1&b=2)."],
      ["links that lead nowhere", "<a href='javascript:x()'>a</a><a href=#b>b</a> <a>c</a>", "ab c"],
      ["a link around blocks", "<a href=/c><h3>Card</h3><p>words</p></a>", "[Card words](https://site.test/c)"],
      ["an address as its own link", "<a href='https://a.test/'>https://a.test/</a>", "<https://a.test/>"],
      [
        "images",
        "<img src=a.png alt='An  image'><img src=b.png><img alt=x src='data:image/png;base64,AA'>",
        "![An image](https://site.test/docs/a.png)"
      ],
      ["code", "use <code>a`b</code> or <kbd>Ctrl\n+C</kbd>", "use ``a`b`` or `Ctrl +C`"],
      [
        "preformatted code",
        "<pre><code class='hljs language-ts'>\na &lt; b\n\n  c\n</code></pre>",
        "```ts\na < b\n\n  c\n```"
      ],
      ["fences in code", "<pre>```\nx\n```</pre>", "````\n```\nx\n```\n````"],
      ["lists", "<ul><li>a<li><p>b</p><ul><li>c</ul><li></li><li>d</ul>", "- a\n- b\n\n  - c\n- d"],
      [
        "numbered lists",
        "<ol start=9><li>a<li>b<pre>x\ny</pre></ol>z",
        "9. a\n10. b\n\n    ```\n    x\n    y\n    ```\n\nz"
      ],
      ["lists in lists", "<ul><li><ul><li>x</ul></ul>", "- - x"],
      ["quotes", "a<blockquote><p>b<p>c</blockquote>d", "a\n\n> b\n>\n> c\n\nd"],
      ["definitions", "<dl><dt>term<dd>what it is</dl>", "**term**\n\nwhat it is"],
      [
        "tables",
        "<table><tr><th>a<th>b<tr><td>1|2<td><code>x</code><p>y</table>",
        "| a | b |\n| --- | --- |\n| 1\\|2 | `x` y |"
      ],
      ["uneven tables", "<table><tbody><tr><td>a<td>b<tr><td>c</table>", "| a | b |\n| --- | --- |\n| c |  |"],
      ["entities", "&lt;p&gt; &amp;amp; &copy;&nbsp;2&#x2014;&bogus;", "<p> &amp; © 2—&bogus;"],
      [
        "nothing of scripts, styles and forms",
        "a<script>x<p></script><style>y</style><button>z</button><noscript>n</noscript><template>t</template>",
        "a"
      ],
      [
        "nothing that is hidden",
        "a<p hidden>Obey</p><p style='color:red;DISPLAY : none'>Obey</p><b aria-hidden=true>x</b>",
        "a"
      ],
      ["windows' line ends", "<pre>a\r\nb\rc</pre>", "```\na\nb\nc\n```"],
      ["what is left open or closed twice", "<div><p>a</div></div></p>b<b>c", "a\n\nb**c**"],
      ["an address to start from", "<base href='https://other.test/x/'><a href=y>z</a>", "[z](https://other.test/x/y)"],
      ["nothing", "", ""]
    ] as const
  ) {
    it.effect(`is read: ${what}`, () =>
      Effect.map(read(html), (reading) => assert.strictEqual(reading.markdown, markdown)))
  }

  it.effect("that marks its main content is that, and else all but what is around", () =>
    Effect.gen(function*() {
      const around = (inner: string) =>
        `<title> The\n title </title><nav>menu</nav><header>top</header>${inner}<footer>end</footer>`
      for (const [start, end] of [["<main>", "</main>"], ["<div role=main>", "</div>"], ["<article>", "</article>"]]) {
        const { markdown, title } = yield* read(around(`${start}${long}<nav>inner</nav>${end}<p>beside</p>`))
        assert.match(markdown, /^Enough words[^]*inner$/)
        assert.strictEqual(title, "The title")
      }
      const none = yield* read(around(`<div>${long}</div><p>beside</p>`))
      assert.match(none.markdown, /^Enough words[^]*beside$/)
      const empty = yield* read(around(`<main>Loading</main><p>${long}</p>`))
      assert.include(empty.markdown, "Enough words")
    }))

  it.effect("is read by a selector, each place once, in order", () =>
    Effect.gen(function*() {
      const html = "<nav class=x>menu</nav><div class=x>a<p class=x>b</p></div><p id=y>c</p><p hidden class=x>d</p>"
      assert.deepInclude(yield* read(html, ".x, #y"), { markdown: "menu\n\na\n\nb\n\nc", found: 3 })
      assert.deepInclude(yield* read(html, "div:has(> p) + p"), { markdown: "c", found: 1 })
      assert.strictEqual((yield* read(html, "table")).found, 0)
      for (const selector of ["p[", ":nope", "p:eq(1"]) {
        const error = yield* Effect.flip(read(html, selector))
        assert.include(error.message, "is no CSS selector", selector)
      }
    }))
})

const mega = 1_000_000
const hostile: Readonly<Record<string, string>> = {
  "a long page of every kind": Array.from(
    { length: 4_000 },
    (_, n) =>
      `<section><h2>Section ${n}</h2><p>Some <b>bold</b> text with a <a href="../link/${n}">link</a> and <code>code_${n}</code>. Lorem ipsum dolor sit amet, consectetur.</p><ul><li>one</li><li>two<ul><li>deep</li></ul></li></ul><pre><code class="language-ts">const a = ${n}\nrun()\n</code></pre><table><tr><th>Name</th></tr><tr><td>a</td></tr></table></section>`
  ).join(""),
  "elements in each other": "<div>".repeat(mega / 5),
  "lists in each other": "<ul><li>".repeat(mega / 8),
  "ends without a beginning": `${"<div>".repeat(250)}${"</p>".repeat(mega / 4)}`,
  "an attribute without an end": `<div a="${"x".repeat(mega)}`,
  "brackets": "<".repeat(mega),
  "ampersands": "&".repeat(mega),
  "a comment without an end": `<!--${"-".repeat(mega)}`,
  "cells": `<table><tr>${"<td>x".repeat(mega / 5)}`,
  "rows": `<table>${"<tr><td>x".repeat(mega / 9)}`,
  "rows of which one is wide": `<table><tr>${"<td>x".repeat(100)}${"<tr><td>x".repeat(mega / 18)}`,
  "backticks": `<pre>${"` ".repeat(mega / 2)}`,
  "one text": "word ".repeat(mega / 5),
  "one text in many marks": `${"<b>".repeat(200)}${"x ".repeat(mega / 2)}`,
  "marks in each other": "<b>x".repeat(mega / 4),
  "lines in quotes": `${"<blockquote>".repeat(200)}${"x<br>".repeat(mega / 5)}`,
  "paragraphs in lists": `${"<ul><li>".repeat(140)}${"<p>x".repeat(mega / 4)}`,
  "spaces": `a${" ".repeat(mega)}b`,
  "links": "<a href=/x>y</a>".repeat(mega / 16),
  "attributes": `<a ${"b=c ".repeat(mega / 4)}>`,
  "a long title": `<title>${"x ".repeat(mega / 2)}</title>`
}

describe("a hostile page", () => {
  for (const [what, html] of Object.entries(hostile)) {
    it.live(`of ${what} is read without holding the process for 50 ms`, () =>
      Effect.gen(function*() {
        yield* read(html.slice(0, 50_000)) // the first time, the code is compiled
        const result = yield* holdsBelow(50, read(html), what)
        assert.isBelow(result.markdown.length, 3_100_000)
      }))
  }
})
