import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Duration, Schema } from "effect"
import { ConfigSchema, defaults, readConfig } from "../src/Config.ts"

const read = (input: unknown) => readConfig(input, "orchestrator.jsonc")
const problems = (input: unknown) => read(input).problems
const time = "milliseconds above zero, or a text such as \"3 seconds\" or \"60 minutes\""

describe("the defaults", () => {
  it("are the numbers that the design fixed", () => {
    assert.strictEqual(defaults.concurrency.total, 50)
    assert.strictEqual(defaults.concurrency.agent, 10)
    assert.strictEqual(Duration.toMillis(defaults.pollInterval), 1_000)
    assert.strictEqual(Duration.toMillis(defaults.stabilityWait), 3_000)
    assert.strictEqual(defaults.retention.tasks, 1_000)
    assert.strictEqual(Duration.toMinutes(defaults.taskTimeLimit), 60)
    assert.strictEqual(Duration.toMinutes(defaults.retention.sessions), 10)
    assert.strictEqual(Duration.toMinutes(defaults.retention.completed), 30)
    assert.strictEqual(Duration.toMinutes(defaults.retention.failed), 10)
    assert.strictEqual(defaults.noticesPerParent, 100)
    assert.strictEqual(defaults.maxRuns, 2)
    assert.strictEqual(defaults.maxDepth, 3)
    assert.strictEqual(Duration.toSeconds(defaults.noticeMaxWait), 60)
  })

  it("hold for everything that an input leaves out", () => {
    assert.deepStrictEqual(read({}), { values: defaults, problems: [] })
    assert.deepStrictEqual(read({ concurrency: {}, retention: {} }), { values: defaults, problems: [] })
    assert.deepStrictEqual(read({ concurrency: { total: 4 } }), {
      values: { ...defaults, concurrency: { ...defaults.concurrency, total: 4 } },
      problems: []
    })
  })
})

describe("fallback models", () => {
  const message = "a list of models, each written as \"provider/model\""

  it("are a list of names with their providers, in order", () => {
    const names = ["anthropic/claude-sonnet-4-5", "openrouter/meta/llama-3"]
    assert.deepStrictEqual(read({ fallbackModels: names }), {
      values: { ...defaults, fallbackModels: names },
      problems: []
    })
    assert.deepStrictEqual(defaults.fallbackModels, [])
  })

  it.each([["sonnet"], [["sonnet"]], [["anthropic/sonnet", 3]], [["anthropic/"]], [["a b/c"]], [{ a: 1 }]])(
    "are refused as %j",
    (input) => {
      const { problems, values } = read({ fallbackModels: input })
      assert.deepStrictEqual(values, defaults)
      assert.deepStrictEqual(problems, [`orchestrator.jsonc: fallbackModels must be ${message}; the default is used.`])
    }
  )
})

describe("a duration", () => {
  it.each([
    ["a number of milliseconds", 250, 250],
    ["seconds", "5 seconds", 5_000],
    ["minutes", "2 minutes", 120_000],
    ["hours", "1 hour", 3_600_000],
    ["milliseconds in words", "40 millis", 40],
    ["parts of a unit", "1.5 seconds", 1_500]
  ])("may be written as %s", (_, input, ms) => {
    const { problems, values } = read({ stabilityWait: input, retention: { sessions: input } })
    assert.deepStrictEqual(problems, [])
    assert.strictEqual(Duration.toMillis(values.stabilityWait), ms)
    assert.strictEqual(Duration.toMillis(values.retention.sessions), ms)
  })

  it.each([0, -1, NaN, Infinity, -Infinity, "", "soon", "5", "0 seconds", "-3 seconds", "Infinity", true, null, {}, [
    5
  ]])(
    "is refused as %s, and the accepted forms are named",
    (input) => {
      const { problems, values } = read({ stabilityWait: input })
      assert.deepStrictEqual(problems, [`orchestrator.jsonc: stabilityWait must be ${time}; the default is used.`])
      assert.deepStrictEqual(values, defaults)
    }
  )
})

describe("a count", () => {
  it.each([1, 2, 10])("is taken at %i", (maxRuns) => assert.strictEqual(read({ maxRuns }).values.maxRuns, maxRuns))

  it.each([0, 11, 1.5, 0.5, -1, NaN, Infinity, "2", true, null, [2], {}])(
    "is refused as %s, and named once with the range",
    (maxRuns) => {
      const { problems, values } = read({ maxRuns })
      assert.deepStrictEqual(problems, [
        "orchestrator.jsonc: maxRuns must be a whole number from 1 to 10; the default is used."
      ])
      assert.strictEqual(values.maxRuns, 2)
    }
  )
})

describe("a value that does not fit", () => {
  it("is named by its whole path, and the good values beside it are kept", () => {
    const { problems, values } = read({
      concurrency: { total: 7, agent: 0, agents: { Builder: "many", Architect: 2 }, models: 5 },
      retention: { failed: "5 minutes", tasks: 3 },
      toasts: "yes",
      maxDepth: 5
    })
    assert.sameMembers([...problems], [
      "orchestrator.jsonc: concurrency.agent must be a whole number from 1 to 1000; the default is used.",
      "orchestrator.jsonc: concurrency.agents.Builder must be a whole number from 1 to 1000; the default is used.",
      "orchestrator.jsonc: concurrency.models must be an object of names and whole numbers; the default is used.",
      "orchestrator.jsonc: retention.tasks must be a whole number from 10 to 100000; the default is used.",
      "orchestrator.jsonc: toasts must be true or false; the default is used."
    ])
    assert.deepStrictEqual(values, {
      ...defaults,
      concurrency: { ...defaults.concurrency, total: 7, agents: { Architect: 2 } },
      retention: { ...defaults.retention, failed: Duration.minutes(5) },
      maxDepth: 5
    })
  })

  it("may be a whole group", () => {
    for (const concurrency of [null, 3, "fast", [], [1]]) {
      assert.deepStrictEqual(read({ concurrency, maxRuns: 3 }), {
        values: { ...defaults, maxRuns: 3 },
        problems: ["orchestrator.jsonc: concurrency must be an object; the default is used."]
      })
    }
  })
})

describe("an unknown setting", () => {
  it("is named by its path and ignored, with the rest kept", () => {
    assert.deepStrictEqual(read({ maxRun: 3, maxRuns: 4, retention: { days: { a: 1 } } }), {
      values: { ...defaults, maxRuns: 4 },
      problems: [
        "orchestrator.jsonc: there is no setting maxRun; it is ignored.",
        "orchestrator.jsonc: there is no setting retention.days; it is ignored."
      ]
    })
  })

  it("may have the name of something that every object has", () => {
    const input: unknown = JSON.parse("{\"constructor\":1,\"toString\":2,\"__proto__\":{\"maxRuns\":9},\"maxRuns\":4}")
    assert.deepStrictEqual(read(input).values, { ...defaults, maxRuns: 4 })
    assert.sameMembers([...problems(input)], [
      "orchestrator.jsonc: there is no setting constructor; it is ignored.",
      "orchestrator.jsonc: there is no setting toString; it is ignored.",
      "orchestrator.jsonc: there is no setting __proto__; it is ignored."
    ])
  })
})

describe("an input that is not an object", () => {
  it.each([null, undefined, 3, "fast", true, [], [{ maxRuns: 3 }]])("is named, and the defaults hold: %s", (input) => {
    assert.deepStrictEqual(read(input), {
      values: defaults,
      problems: ["orchestrator.jsonc: expected an object of settings; the defaults are used."]
    })
  })
})

describe("any input at all", () => {
  const names = [
    ...Object.keys(ConfigSchema.fields),
    "total",
    "agents",
    "sessions",
    "tasks",
    "__proto__",
    "constructor",
    "a.b",
    "",
    "0"
  ]
  // Written as JSON, as a config file is: that is how an own key `__proto__` comes to be.
  const leaf = Arbitrary.map(
    Arbitrary.schema(
      Schema.Literals(["null", "true", "-1", "0.5", "3", "1e400", "\"\"", "\"3 seconds\"", "[]", "[[{}]]"])
    ),
    (json): string => json
  )
  const object = (inner: Arbitrary.Arbitrary<string>) =>
    Arbitrary.map(
      Arbitrary.array(
        Arbitrary.all({
          name: Arbitrary.schema(Schema.Literals(names)),
          inner,
          leaf,
          deep: Schema.Boolean.pipe(Arbitrary.schema)
        }),
        {
          maxLength: 6
        }
      ),
      (entries) =>
        `{${entries.map(({ deep, inner, leaf, name }) => `${JSON.stringify(name)}:${deep ? inner : leaf}`).join()}}`
    )
  const json = object(object(object(leaf)))

  it.prop("is read to the end, to valid values, with one sentence for each problem", { json }, ({ json }) => {
    const { problems, values } = read(JSON.parse(json))
    assert.isTrue(Schema.is(ConfigSchema)(values))
    assert.strictEqual(new Set(problems).size, problems.length, problems.join("\n"))
    for (const problem of problems) assert.match(problem, /^orchestrator\.jsonc: .+[^.]\.$/)
    assert.notProperty(Object.prototype, "maxRuns")
  }, { arbitrary: { runs: 500, seed: 11 } })
})
