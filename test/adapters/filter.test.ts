import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { RE2JS } from "re2js"
import { filterOf } from "../../adapters/node-search/filter.ts"

describe("what every match of a pattern contains", () => {
  it("is what is rarest of all that is sure, for each alternative", () => {
    const table: ReadonlyArray<readonly [pattern: string, filter: RegExp | undefined]> = [
      ["needle in the hay", /needle in the hay/],
      ["class \\w+ extends Base", /\w extends Base/],
      ["todo|fixme", /todo|fixme/],
      ["(?i)TODO|fixme", /TODO|fixme/i],
      ["(?i)\\btask\\b", /ta/i],
      ["(?i)[a-z]{9}", undefined],
      ["(?i)[a-f]{4}", /[a-f][a-f][a-f][a-f]/i],
      ["import .*(?:from|of) \"x\"", /import /],
      ["(foo|barbaz)+", /foo|barbaz/],
      ["(foo)*bar", /bar/],
      ["abc?", /ab/],
      ["ab{2}c", /abbc/],
      ["ab{2,3}c", /abb/],
      ["ab{1,}cd", /bcd/],
      ["\\d{4}-\\d+", /\d\d\d\d\x2d\d/],
      ["a\\.b\\(", /a\x2eb\x28/],
      ["é", /\xc3\xa9/],
      ["[a-z]{3}", undefined],
      ["[^a]{9}", undefined],
      [".{9}", undefined],
      ["foo|", undefined],
      ["foo|[ab]", undefined],
      ["1|2|3|4|5|6|7|8|9|a|b|c|d", undefined],
      ["(?i:foo)", undefined],
      ["\\Qfoo\\E", undefined],
      ["\\x41\\x42", undefined],
      ["a\uFFFDbc", /bc/]
    ]
    for (const [pattern, filter] of table) assert.deepStrictEqual(String(filterOf(pattern)), String(filter), pattern)
  })

  /** Parts of patterns, each with what may stand in a text in its place: then many of the patterns match. */
  const parts: ReadonlyArray<readonly [pattern: string, text: string]> = [
    ..."aabbkKs.-é".split("").flatMap((letter) => [[letter, letter], [letter, letter], [letter, ""]] as const),
    ...[["a", "A"], ["k", "\u212A"], ["s", "\u017F"], ["[j-l]", "\u212A"], ["\\d", "1"], ["\\s", " "], ["ab", "ab"], [
      "ab",
      "b"
    ]] as const,
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
      const filter = filterOf(pattern)
      if (filter === undefined) return
      let re: RE2JS
      try {
        re = RE2JS.compile(pattern, RE2JS.MULTILINE)
      } catch {
        return // no pattern at all
      }
      if (!re.test(text)) return
      decided++
      // As the scan looks for it: in the bytes.
      assert.isTrue(filter.test(Buffer.from(text).toString("latin1")), `${pattern} on ${text}: ${String(filter)}`)
    },
    { arbitrary: { runs: 20_000, seed: 20_261_125 } }
  )

  it("was put to the test often enough", () => assert.isAbove(decided, 1_000))
})
