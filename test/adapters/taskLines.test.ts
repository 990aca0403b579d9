import { assert, describe, it } from "@effect/vitest"
import { paint, taskLines } from "../../adapters/node-cli/taskLines.ts"
import { running } from "../tasks/records.ts"

describe("a line for a terminal", () => {
  it("holds nothing that steers the terminal or turns the text", () => {
    const [line] = taskLines([{ ...running("a"), description: "evil \u001b[2J\u202e\r\nname" }], 5_000)
    assert.match(line?.text ?? "", /^ {2}- task_a running · 3 s · Builder · evil \[2J name · 0 tokens/)
  })

  it("is as wide as the terminal at most, also in scripts of two columns", () => {
    const shown = (text: string, width: number) => paint({ text, tone: "plain" }, false, width)
    assert.strictEqual(shown("abcdef", 6), "abcdef")
    assert.strictEqual(shown("abcdefg", 6), "abcde…")
    assert.strictEqual(shown("日本語です", 6), "日本…")
    assert.strictEqual(shown("日本語", 6), "日本語")
    assert.strictEqual(paint({ text: "ab", tone: "error" }, true, 80), "\u001b[31mab\u001b[0m")
  })
})
