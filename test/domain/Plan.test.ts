import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { blockedBy, maxTasks, type Plan, readPlan, sharedPath } from "../../src/domain/Plan.ts"

const agents = ["Builder", "Inspector", "Researcher"]
const read = (text: string) => readPlan(text, agents)
const plan = (text: string): Plan => Result.getOrThrowWith(read(text), (error) => new Error(error.message))
const problems = (text: string): ReadonlyArray<string> => {
  const result = read(text)
  return Result.isFailure(result) ? result.failure.problems : []
}
/** What each task waits for. */
const waits = (text: string) => Object.fromEntries(plan(text).map(({ depends, id }) => [id, depends.join(" ")]))
const node = (files: ReadonlyArray<string>) => ({ id: "T", text: "", agent: "", depends: [], files, prompt: "" })

describe("a plan", () => {
  it("is read from a list, with what stands below its items", () => {
    assert.deepStrictEqual(
      plan(
        "# Plan\n- [ ] T2: check it | agent:inspector | depends:T1\n- [ ] T1: build it | files:src/a.ts\n  In TypeScript.\n"
      ),
      [
        {
          id: "T1",
          text: "build it",
          agent: "Builder",
          depends: [],
          files: ["src/a.ts"],
          prompt: "build it\n\nIn TypeScript."
        },
        { id: "T2", text: "check it", agent: "Inspector", depends: ["T1"], files: [], prompt: "check it" }
      ]
    )
  })

  it("is read from JSON, bare, in an object, or in a code block", () => {
    const json = JSON.stringify([
      { id: 1, description: "build it", files: "a.ts, b.ts" },
      { id: "check", text: "check it", agent: "Inspector", prompt: "Run the tests.", depends: [1], parallel: null }
    ])
    const expected = [
      { id: "1", text: "build it", agent: "Builder", depends: [], files: ["a.ts", "b.ts"], prompt: "build it" },
      { id: "check", text: "check it", agent: "Inspector", depends: ["1"], files: [], prompt: "Run the tests." }
    ]
    for (const text of [json, `{"tasks":${json}}`, `Here it is:\n\`\`\`json\n${json}\n\`\`\`\nDone.`]) {
      assert.deepStrictEqual(plan(text), expected)
    }
  })

  it("may stand in a code block as a whole; its lines are counted from the top", () => {
    assert.deepStrictEqual(waits("Here:\n```markdown\n- [ ] T1: a\n- [ ] T2: b | depends:T1\n```\n"), {
      T1: "",
      T2: "T1"
    })
    assert.match(problems("Here:\n```\n- [ ] T1: a | agent:Nobody\n```\n")[0] ?? "", /^line 3: /)
  })

  it("gives ids to those without, which no other has", () => {
    assert.deepStrictEqual(plan("- [ ] a\n- [ ] T1: b\n- [ ] c").map(({ id }) => id), ["T2", "T1", "T3"])
  })

  it("is ordered by depends alone: neither by levels, nor by place, nor by common names", () => {
    assert.deepStrictEqual(waits("- [L1] a\n- [L1] b | parallel:A\n- [L1] c | parallel:A"), { T1: "", T2: "", T3: "" })
  })

  it("lets a name mean an id, else a text, else all that have it as their common name", () => {
    assert.deepStrictEqual(
      waits(
        "- [ ] T1: set up | parallel:A\n- [ ] T2: b | parallel:A\n- [ ] T3: c | depends:A\n- [ ] T4: d | depends: Set Up"
      ),
      { T1: "", T2: "", T3: "T1 T2", T4: "T1" }
    )
    assert.deepStrictEqual(waits("- [ ] A1: a | parallel:X\n- [ ] X: b | id:X\n- [ ] T3: c | depends:X"), {
      A1: "",
      X: "",
      T3: "X"
    })
  })

  it("takes an item with others in it for a group: what depends on it waits for all, what it depends on comes before all", () => {
    const text =
      "- [ ] T0: first\n- [ ] G1: group | depends:T0\n  - [ ] T1: a\n  - [ ] T2: b\n    - [ ] T3: c\n- [ ] T4: d | depends:G1"
    assert.deepStrictEqual(waits(text), { T0: "", T1: "T0", T3: "T0", T4: "T1 T3" })
    assert.deepStrictEqual(
      waits("- [L1] G1: group\n- [L2] T1: a\n- [L2] T2: b | depends:T1\n- [L1] T3: c | depends:G1"),
      {
        T1: "",
        T2: "T1",
        T3: "T1 T2"
      }
    )
  })

  it("makes a group that names an agent a task that comes after all in it", () => {
    assert.deepStrictEqual(
      waits("- [ ] G1: check it | agent:Inspector\n  - [ ] T1: a\n  - [ ] T2: b\n- [ ] T3: c | depends:G1"),
      {
        T1: "",
        T2: "",
        G1: "T1 T2",
        T3: "G1 T1 T2"
      }
    )
  })

  it("does not run what is done or dropped, and waits for none of it", () => {
    assert.deepStrictEqual(
      waits(
        "- [x] T1: a\n- [-] T2: b\n  - [ ] T3: c\n- [ ] T4: d | depends:T1,T2,T3\n- [ ] T5: e | failed: red\n- [~] T6: f"
      ),
      { T4: "", T5: "", T6: "" }
    )
  })
})

describe("a bad plan", () => {
  it("is refused with all that is wrong, each with its place", () => {
    assert.deepStrictEqual(
      problems(
        [
          "- [ ] T1: a | agent:Nobody | depends:T9",
          "- [ ] T1: b",
          "- [ ] T2: c | depends:T3",
          "- [ ] T3: d | depends:T4",
          "- [ ] T4: e | depends:T2",
          "- [ ] T5: f | depends:T5",
          "- [ ] T6: g | depends:T2",
          "- [ ] T7:"
        ].join("\n")
      ),
      [
        "line 2: the id T1 stands in line 1 already.",
        "line 1: it depends on \"T9\", which is not in the plan; there are T1, T1, T2, T3, T4, T5, T6, T7.",
        "line 1: there is no agent \"Nobody\" to delegate to; there are Builder, Inspector, Researcher.",
        "line 8: it does not say what is to be done.",
        "line 3: a circle: T2 waits for T3 waits for T4 waits for T2. Leave one of these out.",
        "line 6: a circle: T5 waits for T5. Leave one of these out."
      ]
    )
    const refused = read("- [ ] T1: a | agent:Nobody")
    assert.match(Result.isFailure(refused) ? refused.failure.message : "", /^The plan was not started\. .*\n- line 1: /)
  })

  it("may be one that has nothing to run", () => {
    assert.match(problems("Let us begin.")[0] ?? "", /^There is no task in it\./)
    assert.match(problems("[]")[0] ?? "", /^There is no task in it\./)
    assert.match(problems("- [x] T1: a")[0] ?? "", /^Everything in it is done/)
  })

  it("may be JSON that cannot be read, or says what nobody would hear", () => {
    assert.match(problems("[{]")[0] ?? "", /^The JSON cannot be read/)
    assert.match(problems("{\"a\": 1}")[0] ?? "", /^The JSON is not an array/)
    assert.deepStrictEqual(problems("[{\"text\": \"a\", \"after\": [\"b\"]}, 7, {\"text\": 7}]"), [
      "entry 1: there is no field after; there are id, text, description, agent, prompt, depends, files, parallel.",
      "entry 2: it must be an object of texts, with depends and files as arrays of texts.",
      "entry 3: it must be an object of texts, with depends and files as arrays of texts."
    ])
  })

  it("may be one that waits for the group it is in", () => {
    assert.match(problems("- [ ] G1: group\n  - [ ] T1: a | depends:G1")[0] ?? "", /a circle: T1 waits for T1/)
  })

  it("may be one with too many tasks", () => {
    const tasks = (count: number) => "- [ ] a\n".repeat(count)
    assert.lengthOf(plan(tasks(maxTasks)), maxTasks)
    assert.match(problems(tasks(maxTasks + 1))[0] ?? "", /A plan may have 200 tasks; this one has 201/)
    assert.lengthOf(problems(tasks(100_000)), 1)
    assert.match(
      problems(JSON.stringify(Array.from({ length: 5_000 }, () => ({ text: "a" }))))[0] ?? "",
      /may have 200/
    )
  })
})

describe("paths", () => {
  it("are the same however they are written, and a folder holds what is in it", () => {
    for (
      const [a, b] of [
        ["src/a.ts", "./src//a.ts"],
        ["src/a.ts", "src\\A.ts"],
        ["src/a.ts", "src/b/../a.ts"],
        ["src", "src/a.ts"],
        ["src/**/*.ts", "src/x/y.css"],
        [".", "a.ts"]
      ] as const
    ) {
      assert.strictEqual(sharedPath(node(["x.ts", a]), node([b])), a)
      assert.strictEqual(sharedPath(node([b]), node([a])), b)
    }
    for (const [a, b] of [["src/a.ts", "src/a.tsx"], ["a", "b"], ["src/a", "lib/a"]] as const) {
      assert.isUndefined(sharedPath(node([a]), node([b])))
    }
    assert.isUndefined(sharedPath(node([]), node(["a"])))
  })
})

describe("a failure", () => {
  it("blocks what depends on it, near and far, and nothing else", () => {
    const nodes = plan(
      "- [ ] T1: a\n- [ ] T2: b | depends:T1\n- [ ] T3: c | depends:T2\n- [ ] T4: d\n- [ ] T5: e | depends:T4,T3"
    )
    assert.deepStrictEqual([...blockedBy(nodes, (id) => id === "T1")], [["T2", "T1"], ["T3", "T1"], ["T5", "T1"]])
    assert.deepStrictEqual([...blockedBy(nodes, () => false)], [])
  })
})

const line = Arbitrary.all({
  indent: Arbitrary.schema(Schema.Literals(["", "", "  ", "    "])),
  mark: Arbitrary.schema(Schema.Literals(["[ ]", "[ ]", "[ ]", "[x]", "[-]", "[L2]"])),
  id: Arbitrary.schema(Schema.Literals(["", "T1: ", "T2: ", "T3: ", "T4: ", "T5: "])),
  more: Arbitrary.array(
    Arbitrary.schema(
      Schema.Literals([
        " | depends:T1",
        " | depends:T2,T3",
        " | depends:A",
        " | agent:Inspector",
        " | parallel:A",
        " | depends:do"
      ])
    ),
    { maxLength: 2 }
  )
}).pipe(Arbitrary.map(({ id, indent, mark, more }) => `${indent}- ${mark} ${id}do${more.join("")}`))

describe("whatever is written", () => {
  it.prop("becomes a plan in which each comes after all it depends on; or is refused with reasons", {
    lines: Arbitrary.array(line, { maxLength: 12 })
  }, ({ lines }) => {
    const result = read(lines.join("\n"))
    if (Result.isFailure(result)) return assert.isNotEmpty(result.failure.problems)
    const before = new Set<string>()
    for (const { depends, id } of result.success) {
      for (const other of depends) assert.isTrue(before.has(other), `${id} comes before ${other}`)
      assert.isFalse(before.has(id))
      before.add(id)
    }
    assert.isAtMost(before.size, lines.length)
    assert.isNotEmpty(before)
  }, { arbitrary: { runs: 5_000, seed: 3 } })

  it.prop("is answered", { text: Arbitrary.schema(Schema.String) }, ({ text }) => {
    for (const around of [text, `[${text}]`, `{"tasks":[${text}]}`, `- [ ] ${text}`, `\`\`\`json\n${text}\n\`\`\``]) {
      read(around)
    }
  }, { arbitrary: { runs: 1_000, seed: 4 } })

  it("is answered in a bounded time", () => {
    const ids = Array.from({ length: 190 }, (_, index) => `T${index + 1}`)
    const hostile = [
      ids.map((id) => `- [ ] ${id}: a | depends:${ids.join(",")}`).join("\n"),
      ids.map((id, index) => `- [ ] ${id}: a | depends:${ids.slice(0, index).join(",")}`).toReversed().join("\n"),
      Array.from({ length: 1_900 }, (_, index) => `- [x] [L${index % 99 + 1}] a | parallel:A | depends:A`).join("\n"),
      `- [ ] a | depends:${Array.from({ length: 50_000 }, (_, index) => index).join(",")}`,
      `[${"[".repeat(100_000)}`,
      `- [ ] a | depends:${"1".repeat(150_000)}!`,
      "- [ ] a\n".repeat(50_000),
      "`".repeat(400_000)
    ]
    for (const text of hostile) {
      const from = performance.now()
      read(text)
      assert.isBelow(performance.now() - from, 3_000, text.slice(0, 40))
    }
  })
})
