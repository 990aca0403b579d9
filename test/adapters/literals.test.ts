import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { RE2JS } from "re2js"
import { literalsOf } from "../../adapters/node-search/literals.ts"

describe("what every match of a pattern contains", () => {
  it("is the longest text that is sure, of each alternative", () => {
    const table: ReadonlyArray<readonly [pattern: string, texts: ReadonlyArray<string> | undefined]> = [
      ["needle in the hay", ["needle in the hay"]],
      ["class \\w+ extends Base", [" extends Base"]],
      ["todo|fixme", ["todo", "fixme"]],
      ["(?i)TODO|fixme", ["todo", "fixme"]],
      ["(?i)\\btask\\b", ["ta"]],
      ["import .*(?:from|of) \"x\"", ["import "]],
      ["(foo|barbaz)+", ["foo", "barbaz"]],
      ["(foo)*bar", ["bar"]],
      ["abc?", ["ab"]],
      ["ab{2}c", ["ab"]],
      ["a\\.b\\(", ["a.b("]],
      ["[a-z]{3}", undefined],
      ["foo|", undefined],
      ["foo|x", undefined],
      ["a|b|cd", undefined],
      ["one|two|three|four|five|six|seven", undefined],
      ["(?i:foo)", undefined],
      ["\\Qfoo\\E", undefined],
      ["\\x41\\x42", undefined],
      ["a\uFFFDbc", ["bc"]]
    ]
    for (const [pattern, texts] of table) assert.deepStrictEqual(literalsOf(pattern)?.texts, texts, pattern)
  })

  /** Parts of patterns, each with what may stand in a text in its place: then many of the patterns match. */
  const parts: ReadonlyArray<readonly [pattern: string, text: string]> = [
    ..."aabbkKs.-é".split("").flatMap((letter) => [[letter, letter], [letter, letter], [letter, ""]] as const),
    ...[["a", "A"], ["k", "\u212A"], ["s", "\u017F"], ["ab", "ab"], ["ab", "b"]] as const,
    ...[
      "|",
      "(",
      ")",
      "*",
      "+",
      "?",
      "^",
      "$",
      "(?:",
      "(?P<n>",
      "(?i)",
      "(?i:",
      "(?s)",
      "{2}",
      "{0,1}",
      "{1,}",
      "*?",
      "\\b"
    ].map((part) => [part, ""] as const),
    ...["[ab]", "[^k]", "[]a]", "[^]k]", "[[:alpha:]b]", "[\\]a]", "\\w", "\\pL", "\\x61"].map((part) =>
      [part, "a"] as const
    ),
    ...[["{", "{"], ["}", "}"], ["\\.", "."], ["\\\\", "\\"], ["\\p{Greek}", "α"], ["\\Qa|b\\E", "a|b"], [
      "\\n",
      ""
    ]] as const
  ]
  const index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: parts.length - 1 }))
  const some = Arbitrary.schema(Schema.Array(index).check(Schema.isMaxLength(8)))

  let decided = 0
  it.prop(
    "is in every text that the pattern matches",
    [some],
    ([indices]) => {
      const chosen = indices.flatMap((index) => parts.slice(index, index + 1))
      const pattern = chosen.map(([part]) => part).join("")
      const text = chosen.map(([, text]) => text).join("")
      const literals = literalsOf(pattern)
      if (literals === undefined) return
      let re: RE2JS
      try {
        re = RE2JS.compile(pattern, RE2JS.MULTILINE)
      } catch {
        return // no pattern at all
      }
      if (!re.test(text)) return
      decided++
      // As the scan looks for it: in the bytes.
      const bytes = Buffer.from(text).toString("latin1")
      const lookedIn = literals.isFolded ? bytes.toLowerCase() : bytes
      const isThere = literals.texts.some((one) => lookedIn.includes(Buffer.from(one).toString("latin1")))
      assert.isTrue(isThere, `${pattern} on ${text}: ${literals.texts.join()}`)
    },
    { arbitrary: { runs: 20_000, seed: 20_261_125 } }
  )

  it("was put to the test often enough", () => assert.isAbove(decided, 1_000))
})
