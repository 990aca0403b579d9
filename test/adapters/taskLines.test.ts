import { assert, describe, it } from "@effect/vitest"
import { paint, taskLines } from "../../adapters/node-cli/taskLines.ts"
import type { Task } from "../../src/domain/Task.ts"
import { running } from "../tasks/records.ts"

describe("a line for a terminal", () => {
  it("holds nothing that steers the terminal or turns the text", () => {
    const [line] = taskLines([{ ...running("a"), description: "evil \u001b[2J\u202e\r\nname" }], 5_000)
    assert.match(line?.text ?? "", /^ {2}- task_a running · 3 s · Builder · evil \[2J name · 0 tokens/)
  })

  it("of a task keeps state, duration, tokens, cost and age, however narrow the terminal is", () => {
    const task = { ...running("a"), description: "Write the parser 日本語 with its tests", activityAt: 4_000 }
    const at = (width: number) => taskLines([task], 5_000, width).map((line) => paint(line, false, width)).join("\n")
    assert.strictEqual(
      at(200),
      "  - task_a running · 3 s · Builder · Write the parser 日本語 with its tests · 0 tokens · $0.0000 · active 1 s ago"
    )
    assert.strictEqual(
      at(100),
      "  - task_a running · 3 s · Builder · Write the parser 日本語 … · 0 tokens · $0.0000 · active 1 s ago"
    )
    assert.strictEqual(at(60), "  - Builder 3 s · 0 · $0.00 · 1 s ago · Write the parser 日…")
    const failed: Task = { ...task, state: "timed_out", endedAt: 4_000 }
    assert.strictEqual(
      paint(taskLines([failed], 5_000, 40)[0] ?? assert.fail("no line"), false, 40),
      "  - Builder timed out 2 s · 0 · $0.00 ·…"
    )
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
