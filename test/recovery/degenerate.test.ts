import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { readFileSync } from "node:fs"
import { cutOffNote } from "../../src/domain/Session.ts"
import { isDegenerate } from "../../src/recovery/degenerate.ts"
import { holdsBelow } from "../adapters/turns.ts"

/** Numbers that look random, the same each time. */
const numbers = (count: number): ReadonlyArray<number> => {
  let state = 12_345
  return Array.from({ length: count }, () => (state = (state * 1_103_515_245 + 12_345) % 2_147_483_648))
}
const bytes = (count: number) => Buffer.from(numbers(count).map((n) => (n >> 8) % 256))
const lines = (count: number, line: (index: number) => string) =>
  Array.from({ length: count }, (_, n) => line(n)).join("\n")
const mixed = "абвγδअआกขعבあ中".split("")

const broken: ReadonlyArray<readonly [string, string]> = [
  ["a sentence over and over", "I will look at the file now. ".repeat(60)],
  [
    "a sentence over and over, after some that were not",
    `The parser reads tokens. It has two bugs. ${"Let me check that again. ".repeat(80)}`
  ],
  ["a paragraph over and over", "Wait, I should check the tests first.\n\nThen I will write the code.\n\n".repeat(30)],
  ["a word over and over", "the ".repeat(400)],
  ["a Chinese sentence over and over", "我会再检查一次这个文件。".repeat(120)],
  ["a Russian sentence over and over", "Сейчас я проверю этот файл. ".repeat(60)],
  ["one that was cut off in the middle", `${"I will look at the file now. ".repeat(60)}I will lo`],
  ["one that the model's output limit cut off", `${"I will look at the file now. ".repeat(60)}I wil${cutOffNote}`],
  ["one that goes on for a megabyte", "I will look at the file now. ".repeat(40_000)],
  ["characters that were lost", `Result: ${"\uFFFD\uFFFDa".repeat(200)}`],
  [
    "letters of many scripts in one word",
    numbers(2_000).map((n, index) => index % 9 === 8 ? " " : mixed[(n >> 12) % mixed.length]).join("")
  ]
]

const english =
  "The parser reads one token at a time and builds a tree. Errors carry the line and what was expected there. "
const sound: ReadonlyArray<readonly [string, string]> = [
  ["nothing", ""],
  ["(no output)", "   \n"],
  ["a short answer", "Done."],
  ["a short answer that repeats itself", "ha ".repeat(100)],
  ["source code", readFileSync("src/tasks/TaskLife.ts", "utf8")],
  ["source code in a fence", `Here it is:\n\`\`\`ts\n${"counter.increment()\n".repeat(200)}\`\`\`\n`],
  ["prose in a fence that was not closed", `Here it is:\n\`\`\`\n${"I will look at the file now. ".repeat(60)}`],
  ["a lock file", readFileSync("package-lock.json", "utf8").slice(0, 60_000)],
  ["minified JSON", JSON.stringify(Array.from({ length: 400 }, () => ({ id: null, tags: [], ok: true })))],
  ["minified JSON of nulls", JSON.stringify(Array.from({ length: 2_000 }, () => null))],
  ["a list of nulls", Array.from({ length: 1_000 }, () => "null").join(", ")],
  ["base64", bytes(6_000).toString("base64")],
  ["base64 of zeros", Buffer.alloc(6_000).toString("base64")],
  ["a hex dump", bytes(3_000).toString("hex").replace(/../g, "$& ")],
  ["a hex dump of zeros", "00 ".repeat(2_000)],
  ["a hex dump of ff", "ff ".repeat(2_000)],
  ["bytes in C", "0xff, ".repeat(800)],
  ["DNA", "ACGT".repeat(1_000)],
  ["a DNA sample in groups", "ACGTACGTAC GTACGTACGT\n".repeat(200)],
  ["a table of equal rows", `| name | ok |\n|---|---|\n${"| test | yes |\n".repeat(200)}`],
  ["a wide rule", "=".repeat(3_000)],
  ["dots", ". ".repeat(1_000)],
  ["a CSV of equal rows", "red, green, blue\n".repeat(200)],
  ["a CSV of words", "yes,no,maybe,yes\n".repeat(300)],
  ["a log of equal lines", "ok\n".repeat(1_000)],
  ["a log with times", lines(300, (n) => `12:00:${String(n % 60).padStart(2, "0")} still waiting for the server`)],
  ["a long list", lines(800, (n) => `- file ${n}.ts is done`)],
  ["a checklist", lines(300, () => "- [x] done")],
  ["a list of file names", lines(600, (n) => `src/module${n}/index.ts`)],
  ["a progress bar", "#".repeat(2_500)],
  ["numbers", numbers(600).join(" ")],
  ["a matrix of zeros", lines(100, () => "0 0 0 0 0 0 0 0")],
  [
    "a long answer that loops for a moment",
    `${english.repeat(3)}${numbers(900).map((n) => `It is number ${n}. `).join("")}${"Well then. ".repeat(30)}`
  ],
  ["SVG", `<svg>${"<path d=\"M0 0 L10 10\"/>".repeat(200)}</svg>`],
  ["a minified script", "function a(b){return b}".repeat(200)],
  ["Chinese", "解析器逐个读取标记并构建语法树。错误信息包含行号和期望的内容。使用API调用时请检查返回值。".repeat(6)],
  ["Japanese", "パーサーはトークンを一つずつ読み取り、構文木を作ります。エラーには行番号が含まれます。".repeat(6)],
  ["Arabic", "يقرأ المحلل رمزا واحدا في كل مرة ويبني شجرة. تحمل الأخطاء رقم السطر وما كان متوقعا هناك. ".repeat(4)],
  ["Hindi", "पार्सर एक बार में एक टोकन पढ़ता है और एक पेड़ बनाता है। त्रुटियों में पंक्ति संख्या होती है। ".repeat(4)],
  ["Thai", "ตัวแยกวิเคราะห์อ่านโทเค็นทีละตัวและสร้างต้นไม้ ข้อผิดพลาดมีหมายเลขบรรทัด ".repeat(4)],
  ["Hebrew with English terms", "המנתח קורא token אחד בכל פעם ובונה tree. השגיאות נושאות את מספר השורה. ".repeat(4)],
  [
    "a list of languages, each in its own script",
    "English, Русский, Ελληνικά, العربية, עברית, 中文, 日本語, 한국어, हिन्दी, ไทย, ქართული, Հայերեն\n".repeat(3)
    + lines(40, (n) => `${n}: Русский 中文 العربية हिन्दी`)
  ],
  ["emoji", "🎉🚀✅❌🔥💡 ".repeat(150)],
  ["box drawing", lines(60, () => "│ ├── ─── └── │ ┌──┐ │")],
  ["a terminal's colours", lines(100, (n) => `\u001b[32mpassed\u001b[0m test ${n}`)]
]

describe("an answer that is none", () => {
  it.each(broken)("is %s", (_name, text) => assert.isTrue(isDegenerate(text)))
})

describe("an answer that may be meant", () => {
  it.each(sound)("is %s", (_name, text) => assert.isFalse(isDegenerate(text)))

  it.prop(
    "is any text whose lines are all different",
    { words: Arbitrary.array(Arbitrary.schema(Schema.String), { minLength: 1, maxLength: 50 }) },
    ({ words }) => {
      const text = words.flatMap((word, place) => [`${word} ${place}`, `${place * 7} ${word}`]).join("\n").repeat(2)
      assert.isFalse(isDegenerate(text))
    },
    { arbitrary: { runs: 300, seed: 1 } }
  )
})

describe("looking at an answer", () => {
  for (
    const [name, text] of [
      ["that almost repeats itself", `${"ab".repeat(500_000)}x${"ab".repeat(5_000)}`],
      ["of one letter", "a".repeat(1_000_000)],
      ["of fences", "```\n".repeat(250_000)],
      ["of nothing but space", " \n".repeat(500_000)]
    ] as const
  ) {
    it.live(`${name}, a megabyte of it, does not hold the process`, () =>
      holdsBelow(50, Effect.sync(() => isDegenerate(text)), name))
  }
})
