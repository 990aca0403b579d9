import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SessionId } from "../../src/domain/Session.ts"
import * as Tool from "../../src/tools/Tool.ts"

const caller: Tool.Caller = { session: SessionId.make("ses_1"), agent: "Builder", ask: () => Effect.void }

class NoSuchFile extends Schema.TaggedError<NoSuchFile>()("NoSuchFile", { file: Schema.String }) {
  override get message() {
    return `There is no file ${this.file}. Use glob_search to find it.`
  }
}

const search = Tool.make({
  name: "grep_search",
  description: "Finds lines.",
  parameters: Schema.Struct({
    pattern: Schema.String.annotate({ description: "A regular expression." }),
    kind: Schema.Literals(["text", "code"]).annotate({ description: "What to look in." }),
    dir: Schema.optionalKey(Schema.String.annotate({ description: "Where to look." })),
    maxResults: Schema.optionalKey(
      Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 50 })).annotate({ description: "How many at most." })
    ),
    labels: Schema.optionalKey(Schema.Array(Schema.String))
  }),
  handler: ({ dir, pattern }, { agent, session }) =>
    dir === "missing" ? Effect.fail(new NoSuchFile({ file: dir })) : Effect.succeed(`${agent} ${session} ${pattern}`)
})

const good = { pattern: "a+", kind: "text" }
const refusal = (args: unknown) => Effect.flip(search.call(args, caller)).pipe(Effect.map(({ message }) => message))

describe("the JSON Schema of a tool", () => {
  it("names every argument with its type and description, and requires those without which the tool cannot act", () => {
    assert.deepStrictEqual(search.parameters, {
      type: "object",
      properties: {
        pattern: { type: "string", description: "A regular expression." },
        kind: { type: "string", enum: ["text", "code"], description: "What to look in." },
        dir: { type: "string", description: "Where to look." },
        maxResults: { type: "integer", minimum: 1, maximum: 50, description: "How many at most." },
        labels: { type: "array", items: { type: "string" } }
      },
      required: ["pattern", "kind"],
      additionalProperties: false
    })
  })

  it("does not require an argument that has a default", () => {
    const tool = Tool.make({
      name: "check_background",
      description: "",
      parameters: Schema.Struct({
        taskId: Schema.String,
        tailLines: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(50)))
      }),
      handler: ({ tailLines }) => Effect.succeed(`${tailLines} lines`)
    })
    assert.deepStrictEqual(tool.parameters["required"], ["taskId"])
  })

  it("is an object without properties for a tool without arguments", () => {
    const tool = Tool.make({
      name: "ping",
      description: "",
      parameters: Schema.Struct({}),
      handler: () => Effect.succeed("pong")
    })
    assert.strictEqual(tool.parameters["type"], "object")
    assert.strictEqual(tool.parameters["additionalProperties"], false)
  })

  it("defines every name that it refers to", () => {
    const named = Schema.String.annotate({ identifier: "Agent" })
    const tool = Tool.make({
      name: "call_agent",
      description: "",
      parameters: Schema.Struct({ agent: named, other: named }),
      handler: () => Effect.succeed("")
    })
    const written = JSON.stringify(tool.parameters)
    for (const [, name] of written.matchAll(/"\$ref":"#\/\$defs\/([^"]+)"/g)) {
      assert.nestedProperty(tool.parameters, `$defs.${name}`, written)
    }
  })
})

describe("a call", () => {
  it.effect("hands the decoded arguments and the caller to the handler", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* search.call(good, caller), "Builder ses_1 a+")
    }))

  it.effect("fills in defaults", () =>
    Effect.gen(function*() {
      const tool = Tool.make({
        name: "tail",
        description: "",
        parameters: Schema.Struct({ lines: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(50))) }),
        handler: ({ lines }) => Effect.succeed(`${lines} lines`)
      })
      assert.strictEqual(yield* tool.call({}, caller), "50 lines")
      assert.strictEqual(yield* tool.call(undefined, caller), "50 lines")
    }))

  it.effect("with one bad argument is refused with one sentence that names the tool and the argument", () =>
    Effect.gen(function*() {
      assert.strictEqual(
        yield* refusal({ ...good, pattern: 3 }),
        "grep_search was called with arguments that do not fit (pattern: Expected string). Correct them and call again."
      )
    }))

  it.effect("with several bad arguments names all of them, with the accepted values", () =>
    Effect.gen(function*() {
      const message = yield* refusal({ kind: "prose", maxResults: 99, labels: ["a", 1] })
      assert.strictEqual(
        message,
        "grep_search was called with arguments that do not fit (pattern: Missing key; kind: Expected \"text\" | \"code\"; "
          + "maxResults: Expected a value between 1 and 50; labels.1: Expected string). Correct them and call again."
      )
    }))

  it.effect("without an object of arguments is refused in the same words", () =>
    Effect.gen(function*() {
      for (const args of ["a+", 3, true, [], ["a+"]]) {
        assert.strictEqual(
          yield* refusal(args),
          "grep_search was called with arguments that do not fit (the arguments: Expected object). "
            + "Correct them and call again."
        )
      }
      for (const args of [undefined, null]) assert.include(yield* refusal(args), "pattern: Missing key")
    }))

  it.effect("passes on what the handler's failure says", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(search.call({ ...good, dir: "missing" }, caller))
      assert.instanceOf(error, Tool.ToolRefusal)
      assert.strictEqual(error.message, "There is no file missing. Use glob_search to find it.")
    }))

  it.effect("does not reach the handler when the arguments are bad", () =>
    Effect.gen(function*() {
      let called = 0
      const tool = Tool.make({
        name: "kill_background",
        description: "",
        parameters: Schema.Struct({ taskId: Schema.String }),
        handler: () => Effect.sync(() => `${called += 1}`)
      })
      yield* Effect.flip(tool.call({ taskId: 1 }, caller))
      assert.strictEqual(called, 0)
    }))
})
