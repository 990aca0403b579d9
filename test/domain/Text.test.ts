import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { cutMiddle, lastLines, plainText } from "../../src/domain/Text.ts"

describe("a text that is cut in the middle", () => {
  it("stays whole when it fits", () => {
    assert.strictEqual(cutMiddle("0123456789", 10), "0123456789")
  })

  it("keeps its beginning and twice as much of its end, and says how much is missing", () => {
    assert.strictEqual(
      cutMiddle("a".repeat(100) + "b".repeat(100), 30),
      [
        "a".repeat(10),
        "[… 170 characters left out …]",
        "b".repeat(20)
      ].join("\n")
    )
  })

  it("is cut between lines where they are short", () => {
    const lines = Array.from({ length: 100 }, (_, index) => `line ${index}`)
    const [first, ...rest] = cutMiddle(lines.join("\n"), 100).split("\n")
    assert.strictEqual(first, "line 0")
    assert.strictEqual(rest.at(-1), "line 99")
    for (const line of rest) assert.isTrue(lines.includes(line) || line.startsWith("[… "), line)
  })

  it.prop(
    "is at most as long as allowed, beside the note, and its parts are the text's own",
    {
      text: Arbitrary.schema(Schema.String),
      pad: Arbitrary.schema(Schema.Literals(["🙂", "x", "\n"])),
      limit: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 60 })))
    },
    ({ limit, pad, text }) => {
      const whole = pad.repeat(20) + text + pad.repeat(20)
      const cut = cutMiddle(whole, limit)
      if (whole.length <= limit) return assert.strictEqual(cut, whole)
      const note = /\n\[… (\d+) characters left out …\]\n/.exec(cut)
      assert.isNotNull(note)
      const head = cut.slice(0, note?.index)
      const tail = cut.slice((note?.index ?? 0) + (note?.[0].length ?? 0))
      assert.isAtMost(head.length + tail.length, limit)
      assert.isTrue(whole.startsWith(head) && whole.endsWith(tail))
      assert.strictEqual(head.length + tail.length + Number(note?.[1]), whole.length)
      if (text.isWellFormed()) assert.isTrue(cut.isWellFormed())
    },
    { arbitrary: { runs: 500, seed: 20_261_125 } }
  )
})

describe("the output of a program", () => {
  it("is shown without colours, titles and what was overwritten", () => {
    const escape = "\u001b"
    assert.strictEqual(plainText(`${escape}[1;31mred${escape}[0m ${escape}]0;title\u0007text`), "red text")
    assert.strictEqual(plainText("10%\r20%\r100%\nnext\r\n"), "100%\nnext\n")
    assert.strictEqual(plainText("plain\ttext\n"), "plain\ttext\n")
  })

  it("has last lines", () => {
    assert.strictEqual(lastLines("a\nb\nc\n", 2), "b\nc")
    assert.strictEqual(lastLines("a\nb\nc", 1), "c")
    assert.strictEqual(lastLines("a\nb", 5), "a\nb")
    assert.strictEqual(lastLines("\na", 2), "\na")
    assert.strictEqual(lastLines("", 3), "")
  })
})
