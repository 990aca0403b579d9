import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import {
  add,
  formatTodo,
  fromHost,
  isSettled,
  openItems,
  parse,
  progress,
  setState,
  type TodoItem,
  type TodoState
} from "../../src/domain/Todo.ts"

const item = (line: string): TodoItem => parse(line).items[0] ?? assert.fail(`no item in ${line}`)
const texts = (text: string) => parse(text).items.map((item) => item.text)

describe("an item", () => {
  it("is read with its id, its text, and what stands behind the bars", () => {
    assert.deepStrictEqual(
      item("- [ ] T1: build it | agent:Builder | depends:T0, S-2 | files:src/a.ts,`b c.ts` | parallel:A"),
      {
        id: "T1",
        text: "build it",
        details: "",
        state: "open",
        agent: "Builder",
        depends: ["T0", "S-2"],
        files: ["src/a.ts", "b c.ts"],
        parallel: "A",
        reason: undefined,
        level: 0,
        line: 1
      }
    )
  })

  it("may have any list marker, and any indentation", () => {
    for (const marker of ["-", "*", "+", "1.", "12)"]) {
      for (const indent of ["", "  ", "\t", "        "]) {
        assert.strictEqual(item(`${indent}${marker} [ ] T1: text`).id, "T1")
      }
    }
  })

  it("says its state by its mark", () => {
    const states = ["[ ]", "[]", "[x]", "[X]", "[ x ]", "[✓]", "[-]", "[~]", "[/]", "[?]"].map((mark) =>
      item(`- ${mark} a`).state
    )
    assert.deepStrictEqual(states, [
      "open",
      "open",
      "done",
      "done",
      "done",
      "done",
      "dropped",
      "in_progress",
      "in_progress",
      "open"
    ])
  })

  it("says its state by a word, which wins over the mark", () => {
    for (
      const [line, state, reason] of [
        ["- [ ] a | state: blocked", "blocked", undefined],
        ["- [ ] a | blocked", "blocked", undefined],
        ["- [ ] a | status=In Progress", "in_progress", undefined],
        ["- [ ] a | failed: the tests are red", "failed", "the tests are red"],
        ["- [x] a | state: failed (the tests are red)", "failed", "the tests are red"],
        ["- [x] a | blocked | reason: no key", "blocked", "no key"],
        ["- [ ] a | done", "done", undefined],
        ["- [ ] a | in progress", "in_progress", undefined],
        ["- [ ] a | cancelled: nobody needs it", "dropped", "nobody needs it"],
        ["- [-] a | reason: nobody needs it", "dropped", "nobody needs it"],
        ["- [-] a (dropped: nobody needs it)", "dropped", "nobody needs it"],
        ["- [-] a, because nobody needs it", "dropped", "nobody needs it"],
        ["- [-] a", "dropped", undefined],
        ["- [-] a | reason: -", "dropped", undefined],
        ["- [ ] a because b", "open", undefined]
      ] as const
    ) {
      const { reason: why, state: found } = item(line)
      assert.deepStrictEqual({ state: found, reason: why }, { state, reason }, line)
    }
  })

  it("keeps bars that are no attribute, and those in code, in its text", () => {
    assert.strictEqual(
      item("- [ ] run `a | done` and | see | agent:Builder | too").text,
      "run `a | done` and | see | too"
    )
    assert.strictEqual(item("- [ ] run `a | done` and | see | agent:Builder | too").agent, "Builder")
    assert.strictEqual(item("- [ ] an ` alone | done").state, "done")
  })

  it("has an id only where one is meant", () => {
    assert.deepStrictEqual(
      ["T1: a", "**T1**: a", "**T1:** a", "`T1`: a", "1.2: a", "setup-1: a"].map((text) => item(`- [ ] ${text}`).id),
      ["T1", "T1", "T1", "T1", "1.2", "setup-1"]
    )
    assert.deepStrictEqual(
      ["Note: a", "10:30 a", "see http://x1.example", "a T1: b"].map((text) => item(`- [ ] ${text}`).id),
      [undefined, undefined, undefined, undefined]
    )
    assert.strictEqual(item("- [ ] a | id: set up").id, "set up")
  })

  it("may depend on texts, and on ids without commas between them", () => {
    assert.deepStrictEqual(item("- [ ] a | depends: T1 T2 and T3").depends, ["T1", "T2", "T3"])
    assert.deepStrictEqual(item("- [ ] a | depends on: Set up the project, T2").depends, ["Set up the project", "T2"])
    for (const none of ["none", "-", "[]", ""]) assert.deepStrictEqual(item(`- [ ] a | depends:${none}`).depends, [])
  })

  it("is none without a box, in a link, in a footnote, or in code", () => {
    assert.deepStrictEqual(
      texts([
        "- a",
        "- [x](link)",
        "- [1] a footnote",
        "[ ] no marker",
        "```md",
        "- [ ] in code",
        "```",
        "  ~~~~",
        "  - [ ] in code",
        "  ~~~",
        "  - [ ] in code still",
        "  ~~~~~",
        "- [ ] real"
      ].join("\n")),
      ["real"]
    )
  })

  it("is not overlooked behind a fence that nobody closes", () => {
    assert.deepStrictEqual(texts("```md\n- [ ] a\n````\n~~~\n- [ ] b\n"), ["b"])
    assert.deepStrictEqual(texts("````md\n- [ ] a\n```\n- [ ] b\n"), ["a", "b"])
  })

  it("has the lines below it that are indented deeper, code included", () => {
    const [a, b, c] = parse(
      "- [ ] a\n  first\n\n    deeper\n  ```\n- [ ] code\n  ```\n\nno more\n  nor this\n  - [ ] b\n- [ ] c\n```\nnot its own\n```\n"
    ).items
    assert.strictEqual(
      a?.details,
      "first\n\n  deeper\n```\n- [ ] code\n```"
    )
    assert.strictEqual(b?.details, "")
    assert.strictEqual(c?.details, "")
  })

  it("is nested by two columns or more; tabs count to the next fourth, headings begin anew", () => {
    const levels = (text: string) => parse(text).items.map(({ level }) => level)
    assert.deepStrictEqual(levels("- [ ] a\n - [ ] b\n  - [ ] c\n      - [ ] d\n    - [ ] e\n- [ ] f"), [
      0,
      0,
      1,
      2,
      2,
      0
    ])
    assert.deepStrictEqual(levels("- [ ] a\n\t- [ ] b\n\t\t- [ ] c\n    - [ ] d"), [0, 1, 2, 1])
    assert.deepStrictEqual(levels("- [ ] a\n## More\n  - [ ] b"), [0, 0])
    assert.deepStrictEqual(levels("- [L1] a\n- [L2] b\n- [L3] c\n- [x] [L2] d\n- [L1] e"), [0, 1, 2, 1, 0])
  })
})

describe("a list", () => {
  it("counts its leaves; a group is done when what is in it is", () => {
    const list = parse("- [ ] group\n  - [x] a\n  - [x] b\n- [x] group\n  - [ ] c\n- [ ] d\n- [x] e")
    assert.deepStrictEqual(progress(list), { done: 3, total: 5 })
    assert.deepStrictEqual(openItems(list).map(({ text }) => text), ["c", "d"])
  })

  it("takes a dropped item for settled only with its reason, and what is in it with it", () => {
    const list = parse("- [-] a\n- [-] b | reason: no need\n  - [ ] c\n    - [ ] d\n- [-] e\n  - [ ] f")
    assert.deepStrictEqual(openItems(list).map(({ text }) => text), ["a", "f"])
    assert.deepStrictEqual(progress(list), { done: 1, total: 3 })
  })

  it("leaves what is blocked, failed or under way open", () => {
    const list = parse("- [ ] a | blocked\n- [x] b | failed: red\n- [~] c")
    assert.lengthOf(openItems(list), 3)
  })

  it("is empty for a text without items", () => {
    for (const text of ["", "\uFEFF", "\n\n", "# Plan\nprose"]) {
      assert.deepStrictEqual(progress(parse(text)), { done: 0, total: 0 })
    }
  })

  it("is read in a time that grows with its length alone", () => {
    const hostile = [
      "- [ ] a | b ` c".repeat(1),
      "`".repeat(50),
      `- [ ] ${" ".repeat(300)}x${"|".repeat(200)}`,
      `- [-] ${"because ".repeat(40)}`,
      `${"`".repeat(200)}`,
      `  - [ ] ${"a".repeat(300)}: ${"(".repeat(100)}`
    ]
    const text = hostile.join("\n")
    const time = (count: number) => {
      const whole = `${text}\n`.repeat(count)
      const from = performance.now()
      parse(whole)
      return performance.now() - from
    }
    time(200)
    const [small, large] = [Math.min(time(300), time(300), time(300)), Math.min(time(3_000), time(3_000))]
    assert.isBelow(large, 60 * small + 50, `${small} ms and ${large} ms`) // 10 in a quiet world, 100 when it is quadratic
  })
})

describe("setting a state", () => {
  it("changes the mark and nothing else", () => {
    const text = "\uFEFF# Plan\r\n\r\n* [ ] T1: a | agent:Builder  \r\n\t1. [~] T2: b\r\nprose"
    assert.strictEqual(setState(text, "T1", "done"), text.replace("[ ]", "[x]"))
    assert.strictEqual(setState(text, "t2", "open"), text.replace("[~]", "[ ]"))
    assert.strictEqual(setState(text, 4, "done"), text.replace("[~]", "[x]"))
  })

  it("says by a word what no mark says, and takes the word back", () => {
    const text = "- [ ] T1: a | agent:Builder\n- [ ] T2: b"
    const blocked = setState(text, "T1", "blocked", "no key")
    assert.strictEqual(blocked, "- [ ] T1: a | agent:Builder | state:blocked | reason: no key\n- [ ] T2: b")
    assert.strictEqual(setState(blocked, "T1", "open"), text)
    assert.strictEqual(setState(blocked, "T1", "done"), text.replace("[ ]", "[x]"))
    assert.strictEqual(setState("- [x] T1: a | failed: red", "T1", "done"), "- [x] T1: a")
  })

  it("writes why an item was dropped, on its line", () => {
    assert.strictEqual(
      setState("- [ ] T1: a  \r\n", "T1", "dropped", "not\nneeded | at all"),
      "- [-] T1: a | reason: not needed / at all  \r\n"
    )
  })

  it("gives an item with a level in brackets a mark", () => {
    assert.strictEqual(setState("- [L2] a", 1, "done"), "- [x] [L2] a")
  })

  it("leaves the text alone when there is no such item, or it is in that state", () => {
    const text = "- [x] T1: a\n- [ ] T2: b | done\n"
    for (const [id, state] of [["T9", "done"], ["T1", "done"], ["T2", "done"]] as const) {
      assert.strictEqual(setState(text, id, state), text)
    }
    assert.strictEqual(setState(text, 7, "done"), text)
  })
})

describe("adding items", () => {
  it("puts them behind the last one, in the text's own line ends, and keeps what a person wrote", () => {
    assert.strictEqual(
      add("# Plan\r\n- [x] T1: a\r\n  a note\r\n\r\nWritten by me.\r\n", [
        { id: "T2", text: "b", agent: "Builder", depends: ["T1"], files: ["x.ts"], parallel: "A" },
        { id: "set up", text: "c", level: 1 }
      ]),
      "# Plan\r\n- [x] T1: a\r\n  a note\r\n- [ ] T2: b | agent:Builder | depends:T1 | files:x.ts | parallel:A\r\n"
        + "  - [ ] c | id:set up\r\n\r\nWritten by me.\r\n"
    )
  })

  it("begins a line of their own", () => {
    assert.strictEqual(add("", [{ text: "a" }]), "- [ ] a\n")
    assert.strictEqual(add("\uFEFF", [{ text: "a" }]), "\uFEFF- [ ] a\n")
    assert.strictEqual(add("- [ ] a", [{ text: "b" }]), "- [ ] a\n- [ ] b\n")
    assert.strictEqual(add("prose", [{ text: "b" }]), "prose\n- [ ] b\n")
    assert.strictEqual(add("prose", []), "prose")
  })
})

describe("the host's own list", () => {
  it("becomes items in our words", () => {
    const list = fromHost([
      { content: "T1: a | agent:Builder", status: "completed", priority: "high", id: "9" },
      { content: "b\n  more", status: "in_progress", priority: "low" },
      { content: "c", status: "pending" },
      { content: "d", status: "cancelled", id: "x" },
      { content: "e", status: "of the future" }
    ])
    assert.deepStrictEqual(list.items.map(({ id, state }) => ({ id, state })), [
      { id: "T1", state: "done" },
      { id: undefined, state: "in_progress" },
      { id: undefined, state: "open" },
      { id: "x", state: "dropped" },
      { id: undefined, state: "open" }
    ])
    assert.strictEqual(list.items[1]?.details, "more")
    assert.deepStrictEqual(openItems(list).map(({ text }) => text), ["b", "c", "e"])
    assert.deepStrictEqual(progress(list), { done: 2, total: 5 })
  })
})

// ---- whatever the text ----------------------------------------------------------------------------------------------

const pieces = [
  "- [ ] ",
  "- [x] T1: ",
  "* [-] ",
  "  + [~] T2: ",
  "\t1. [ ] ",
  "- [L2] ",
  "- [] ",
  "text",
  " | agent:Builder",
  " | state:blocked",
  " | failed: why",
  " | done",
  " | reason: r",
  " because ",
  " | depends: T1, T2",
  "|",
  "`",
  "```",
  "~~~~",
  "# ",
  "\n",
  "\n",
  "\n",
  "\r\n",
  "\r",
  "\t",
  "  ",
  "\u2028",
  "\uFEFF",
  "\u{1F600}",
  "\uD800",
  "("
] as const
const anyText = Arbitrary.array(Arbitrary.schema(Schema.Literals(pieces)), { maxLength: 30 }).pipe(
  Arbitrary.map((all) => all.join(""))
)
const anyState = Arbitrary.schema(
  Schema.Literals(["open", "in_progress", "blocked", "failed", "done", "dropped"] satisfies ReadonlyArray<TodoState>)
)
const anyReason = Arbitrary.schema(Schema.Literals(["", "no need", "a | b ` c", "two\nlines", "!!"]))
const withoutState = (item: TodoItem) => ({ ...item, state: undefined, reason: undefined })
const many = { arbitrary: { runs: 2_000, seed: 5 } }

describe("whatever the text", () => {
  it.prop("an edit of one item changes its line alone, gives it that state, and twice is once", {
    text: anyText,
    at: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))),
    state: anyState,
    reason: anyReason
  }, ({ at, reason, state, text }) => {
    const { items } = parse(text)
    assert.strictEqual(parse(text).text, text)
    const target = items[at % Math.max(1, items.length)]
    if (target === undefined) return assert.strictEqual(setState(text, 1, state), text)
    const why = reason === "" ? undefined : reason
    const after = setState(text, target.line, state, why)
    const split = (whole: string) => whole.split("\n")
    for (const [index, line] of split(text).entries()) {
      if (index !== target.line - 1) assert.strictEqual(split(after)[index], line)
    }
    assert.lengthOf(split(after), split(text).length)
    const changed = parse(after).items
    assert.strictEqual(changed.find(({ line }) => line === target.line)?.state, state)
    assert.deepStrictEqual(
      changed.map(withoutState),
      items.map(withoutState)
    )
    assert.strictEqual(setState(after, target.line, state, why), after)
  }, many)

  it.prop("added items are read as they were given, and all that was there stays", {
    text: anyText,
    parallel: Arbitrary.schema(Schema.Literals(["A", "B c"]))
  }, ({ parallel, text }) => {
    const before = parse(text).items
    const news = [{ id: "N1", text: "new", depends: ["T1"], files: ["a b.ts"], parallel }, { text: "more" }]
    const after = add(text, news)
    const all = parse(after).items
    assert.deepStrictEqual(all.slice(0, before.length), before)
    assert.deepStrictEqual(
      all.slice(before.length).map(({ files, id, level, parallel, text }) => ({ files, id, level, parallel, text })),
      [
        { files: ["a b.ts"], id: "N1", level: 0, parallel, text: "new" },
        { files: [], id: undefined, level: 0, parallel: undefined, text: "more" }
      ]
    )
    assert.include(after, news.map(formatTodo).join(/\r?\n/.exec(text)?.[0] ?? "\n"))
    assert.isTrue(after.startsWith(text.slice(0, 1)))
  }, many)

  it.prop("what is counted is what is open and what is settled", { text: anyText }, ({ text }) => {
    const list = parse(text)
    const { done, total } = progress(list)
    assert.strictEqual(openItems(list).length, total - done)
    assert.isFalse(openItems(list).some(isSettled))
  }, many)
})
