import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { transition } from "../../src/domain/Mission.ts"
import { type Report, timesOf, toJson, toMarkdown } from "../../src/domain/Report.ts"
import { toHtml } from "../../src/domain/ReportPage.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { type Task, TaskId } from "../../src/domain/Task.ts"
import { asTree } from "../../src/domain/TaskTree.ts"
import { completed, mission, root, running } from "../tasks/records.ts"

const limits = { time: 3_600_000, tokens: 1_000, cost: 10, tasks: 20, turns: 100 }

const report = (tasks: ReadonlyArray<Task>, more: Partial<Report> = {}): Report => ({
  root,
  mission: mission("Repair the parser"),
  tasks,
  limits,
  now: 20_000,
  ...more
})

/** Every way that text of an agent's gets into a page. */
const everywhere = (text: string): Report => {
  const id = TaskId.make(`task_${text}`)
  const failed: Task = {
    ...running("a"),
    id,
    agent: text,
    description: text,
    state: "failed",
    reason: text,
    endedAt: 9_000,
    run: 2,
    model: { provider: text, model: text }
  }
  const halted = transition(
    mission(`${text}\nmore`),
    { type: "ended", state: "halted", why: text, answer: text },
    9_000
  )
  return {
    ...report([failed, { ...completed("b", text), description: text }]),
    root: SessionId.make(`ses_${text}`),
    mission: {
      ...halted,
      failures: [{ task: id, order: text, reason: text, createdAt: 0, answeredFor: false }]
    },
    openTodos: [text]
  }
}

/** The page's own markup: what is left of it when nothing is escaped text. */
const tagsOf = (html: string): ReadonlyArray<string> =>
  [...html.matchAll(/<\/?([a-z!][a-z0-9]*)/gi)].map(([, name = ""]) => name.toLowerCase())

describe("a report as a page", () => {
  it("escapes what agents have written, wherever it stands", () => {
    const hostile =
      "</pre></style><script>alert(1)</script><img src=x onerror='alert(2)'>\" onmouseover=\"alert(3) &lt; `x`"
    const html = toHtml(everywhere(hostile))
    assert.deepStrictEqual(
      new Set(tagsOf(html)),
      new Set(tagsOf(toHtml(everywhere("plain"))))
    )
    assert.strictEqual(tagsOf(html).length, tagsOf(toHtml(everywhere("plain"))).length)
    assert.notMatch(html, /<(script|img)|="alert|"\s+onmouseover/)
    assert.include(html, "&lt;script&gt;alert(1)&lt;/script&gt;")
    assert.include(html, "&amp;lt; `x`")
  })

  it("keeps control characters and turns of direction out, and loads nothing", () => {
    const html = toHtml(everywhere("a\u001b[31m\u202eb\ud800c"))
    for (const mark of ["\u001b", "\u202e", "\ud800"]) assert.notInclude(html, mark)
    assert.include(html, "a\ufffd[31m\ufffdb\ufffdc")
    assert.include(html, "default-src 'none'")
    assert.notMatch(html, /<(script|link|img|iframe|object|form|base)\b|url\(|@import|https?:/)
  })

  it.effect.prop(
    "has the same markup whatever the text is",
    { text: Arbitrary.schema(Schema.NonEmptyString) },
    ({ text }) =>
      Effect.sync(() => {
        const trimmed = `x${text.replace(/\n/g, " ")}x`
        assert.deepStrictEqual(tagsOf(toHtml(everywhere(trimmed))), tagsOf(toHtml(everywhere("plain"))))
      })
  )

  it("tells waiting in line from working, on one axis for all tasks", () => {
    const first = { ...completed("a", "done"), createdAt: 0, startedAt: 5_000, endedAt: 10_000 }
    const second = { ...running("b"), createdAt: 10_000, startedAt: 10_000 }
    assert.deepStrictEqual(timesOf(first, 20_000), { waited: 5_000, worked: 5_000 })
    const html = toHtml(report([first, second]))
    assert.include(html, "aria-label=\"waited 5 s, worked 5 s\"")
    assert.include(
      html,
      "<span class=\"wait\" style=\"left:0%;width:25%\"></span><span class=\"work completed\" style=\"left:min(25%,calc(100% - 3px));width:25%\">"
    )
    assert.include(html, "<span class=\"work running\" style=\"left:min(50%,calc(100% - 3px));width:50%\">")
  })

  it.each([
    [300, ["0", "100 ms", "200 ms", "300 ms"]],
    [40 * 60_000, ["0", "10 min", "20 min", "30 min", "40 min"]],
    [9 * 3_600_000 + 240_000, ["0", "2 h", "4 h", "6 h", "8 h"]],
    [90 * 86_400_000, ["0", "432 h", "864 h", "1296 h", "1728 h", "2160 h"]]
  ])("has round times on its axis: %i ms", (length, marks) => {
    const html = toHtml(report([{ ...completed("a", "done"), createdAt: 0, startedAt: 0, endedAt: length }]))
    const [, ticks = ""] = /class="ticks">(.*?)<\/div>/s.exec(html) ?? []
    assert.deepStrictEqual([...ticks.matchAll(/>([^<]+)<\/span>/g)].map(([, mark]) => mark), marks)
  })

  it("shows a task that never started as waiting only", () => {
    const { startedAt: _, ...waiting } = running("a")
    const queued: Task = { ...waiting, state: "queued" }
    assert.deepStrictEqual(timesOf(queued, 4_000), { waited: 3_000, worked: 0 })
    assert.notInclude(toHtml(report([queued])), "class=\"work queued\"")
    const cancelled = toHtml(report([{ ...queued, state: "cancelled", reason: "not wanted", endedAt: 4_000 }]))
    assert.include(cancelled, "class=\"work cancelled\" style=\"left:min(100%,calc(100% - 3px));width:0%\"")
  })

  it("shows the budgets, the failures that were not answered for, and the final answer", () => {
    const { mission, ...rest } = everywhere("plain")
    const html = toHtml({ ...rest, mission: mission && { ...mission, state: "complete", answer: "All is done." } })
    assert.include(html, "It was not answered for.")
    assert.include(html, "<h2>The final answer</h2><pre>All is done.</pre>")
    assert.match(html, /<th scope="row">tokens<\/th>.*0 of 1k tokens/)
    assert.include(html, "took 2 runs and 0 retries")
  })

  it("says so when there is nothing to tell", () => {
    const html = toHtml({ ...report([]), mission: undefined })
    assert.include(html, "No task was delegated.")
    assert.include(html, "Tasks of ses_root")
  })
})

describe("a report as Markdown", () => {
  it("quotes results so that they cannot end their fence, nor a cell its row", () => {
    const text = toMarkdown(everywhere("````\n# not a heading\n<script>|x"), "whole")
    assert.include(text, "`````text\n````\n# not a heading\n<script>|x\n`````")
    assert.include(text, "\\<script>\\|x")
    const cells = text.split("\n").filter((line) => line.startsWith("| task_"))
    for (const line of cells) assert.lengthOf(line.replace(/\\\|/g, "").split("|"), 8)
  })
})

it("a report holds a result of any length, whatever is in it", () => {
  const result = "`a` ".repeat(200_000).trim()
  assert.include(toMarkdown(report([completed("a", result)]), "whole"), `\`\`\`text\n${result}\n\`\`\``)
})

describe("a report as JSON", () => {
  it("holds mission, limits and every task, children below their parents", () => {
    const child = { ...running("child"), parent: SessionId.make("ses_a"), createdAt: 3_000 }
    const tasks = [running("a"), running("b"), child]
    const ended = transition(mission("Repair the parser"), {
      type: "ended",
      state: "complete",
      why: "It said so.",
      answer: "done"
    }, 9_000)
    const data: unknown = JSON.parse(toJson(report(tasks, { mission: ended })))
    assert.deepNestedInclude(data, { version: 1, madeAt: 20_000, "mission.goal": "Repair the parser", answer: "done" })
    assert.deepNestedInclude(data, { "tasks[0].id": "task_a", "tasks[1].id": "task_child", "tasks[2].id": "task_b" })
  })
})

describe("the tree of tasks", () => {
  const below = (name: string, parent: string, createdAt: number): Task => ({
    ...running(name),
    parent: SessionId.make(parent),
    createdAt
  })
  const names = (tasks: ReadonlyArray<Task>) => asTree(tasks).map(({ level, task }) => `${level} ${task.id.slice(5)}`)

  it("puts tasks below the one that delegated them", () => {
    assert.deepStrictEqual(
      names([running("a"), running("b"), below("c", "ses_a", 2_000), below("d", "ses_c", 3_000)]),
      ["0 a", "1 c", "2 d", "0 b"]
    )
  })

  it("tells tasks apart that worked in the same session", () => {
    const again = { ...running("a"), id: TaskId.make("task_again"), createdAt: 5_000 }
    assert.deepStrictEqual(
      names([running("a"), again, below("early", "ses_a", 2_000), below("late", "ses_a", 6_000)]),
      ["0 a", "1 early", "0 again", "1 late"]
    )
  })

  it("shows every task once, those without a known parent and those in a circle included", () => {
    assert.deepStrictEqual(names([below("x", "ses_gone", 1)]), ["0 x"])
    assert.deepStrictEqual(names([below("x", "ses_y", 1), below("y", "ses_x", 1)]), ["0 x", "1 y"])
    assert.deepStrictEqual(names([below("self", "ses_self", 1)]), ["0 self"])
  })
})
