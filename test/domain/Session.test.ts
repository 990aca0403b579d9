import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import {
  makeMessageId,
  type Message,
  MessageId,
  type MessagePart,
  messageText,
  ownPrompt,
  promptsOf,
  randomText,
  readTurn,
  type TurnError
} from "../../src/domain/Session.ts"

const id = (n: number) => MessageId.make(`msg_${String(n).padStart(3, "0")}`)
const text = (text: string): MessagePart => ({ type: "text", text, metadata: {} })
const user = (n: number): Message => ({ role: "user", id: id(n), parts: [text("go on")] })

type Assistant = Extract<Message, { role: "assistant" }>
const assistant = (n: number, more: Partial<Omit<Assistant, "role" | "id">> = {}): Message => ({
  role: "assistant",
  id: id(n),
  completed: true,
  finish: "stop",
  error: undefined,
  parts: [text("done")],
  ...more
})

const aborted: TurnError = { name: "MessageAbortedError", message: "aborted" }

describe("readTurn", () => {
  it("has not started while the prompt has no answer", () => {
    assert.deepStrictEqual(readTurn([], id(5)), { state: "not started" })
    assert.deepStrictEqual(readTurn([user(5)], id(5)), { state: "not started" })
  })

  it("does not take an answer to an earlier prompt for its own", () => {
    assert.deepStrictEqual(readTurn([user(3), assistant(4), user(5)], id(5)), { state: "not started" })
    assert.deepStrictEqual(readTurn([user(3), assistant(4, { error: aborted }), user(5)], id(5)), {
      state: "not started"
    })
  })

  it("is unfinished while the model writes", () => {
    const writing = assistant(6, { completed: false, finish: undefined })
    assert.deepStrictEqual(readTurn([user(5), writing], id(5)), { state: "unfinished" })
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { completed: false })], id(5)), { state: "unfinished" })
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { finish: undefined })], id(5)), { state: "unfinished" })
  })

  it("is unfinished after a message that ended in tool calls", () => {
    const calls = assistant(6, {
      finish: "tool-calls",
      parts: [{ type: "tool", tool: "bash", status: "completed", input: "{}", output: "" }]
    })
    assert.deepStrictEqual(readTurn([user(5), calls], id(5)), { state: "unfinished" })
  })

  it("is finished by the last message of several, with that message's text", () => {
    const calls = assistant(6, { finish: "tool-calls", parts: [text("let me look")] })
    assert.deepStrictEqual(readTurn([user(5), calls, assistant(7)], id(5)), { state: "finished", text: "done" })
  })

  it("is unfinished again when the newest message is, whatever came before", () => {
    const writing = assistant(7, { completed: false, finish: undefined })
    assert.deepStrictEqual(readTurn([user(5), assistant(6), writing], id(5)), { state: "unfinished" })
  })

  it("is unfinished when somebody has steered the session with a newer message", () => {
    assert.deepStrictEqual(readTurn([user(5), assistant(6), user(7)], id(5)), { state: "unfinished" })
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { error: aborted }), user(7)], id(5)), {
      state: "unfinished"
    })
  })

  it("is finished by the answer to the newer message", () => {
    const messages = [user(5), assistant(6), user(7), assistant(8, { parts: [text("as you wish")] })]
    assert.deepStrictEqual(readTurn(messages, id(5)), { state: "finished", text: "as you wish" })
  })

  it("failed when the newest message carries an error, even one the host completed", () => {
    const failed = assistant(6, { finish: undefined, error: aborted })
    assert.deepStrictEqual(readTurn([user(5), failed], id(5)), { state: "failed", error: aborted })
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { error: aborted })], id(5)), {
      state: "failed",
      error: aborted
    })
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { completed: false, error: aborted })], id(5)), {
      state: "failed",
      error: aborted
    })
  })

  it("forgets an error that a later message got over", () => {
    const messages = [user(5), assistant(6, { error: aborted }), assistant(7)]
    assert.deepStrictEqual(readTurn(messages, id(5)), { state: "finished", text: "done" })
  })

  it("notes that an answer was cut off at the output limit", () => {
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { finish: "length" })], id(5)), {
      state: "finished",
      text: "done\n(cut off at the model's output limit)"
    })
  })

  it("is finished with a blank text when the model had nothing to say", () => {
    assert.deepStrictEqual(readTurn([user(5), assistant(6, { parts: [] })], id(5)), { state: "finished", text: "" })
  })

  it("reads the turn when the prompt itself is beyond the newest messages", () => {
    assert.deepStrictEqual(readTurn([assistant(8)], id(5)), { state: "finished", text: "done" })
  })
})

describe("messageText", () => {
  it("joins the text parts by blank lines and skips tools, other parts and blank texts", () => {
    const parts: ReadonlyArray<MessagePart> = [
      text(" one \n"),
      { type: "tool", tool: "bash", status: "completed", input: "{}", output: "" },
      text("  \n"),
      { type: "other" },
      text("two\nlines")
    ]
    assert.strictEqual(messageText(assistant(1, { parts })), "one\n\ntwo\nlines")
  })

  it("is empty for a message without text", () => assert.strictEqual(messageText(assistant(1, { parts: [] })), ""))
})

describe("makeMessageId", () => {
  const seeded = { arbitrary: { runs: 300, seed: 7 } }
  const random = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999_999 }))
  // The host keeps 48 bits of `ms * 4096`, which start again every 2^36 ms (2.2 years): these lie in one such period.
  const period = 2 ** 36
  const start = 25 * period
  const ms = Schema.Int.check(Schema.isBetween({ minimum: start, maximum: start + period - 1 }))
  const counter = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4_095 }))

  it.prop("has the host's format at any time", { ms, counter, random }, ({ counter, ms, random }) => {
    assert.match(makeMessageId(ms, counter, () => random), /^msg_[0-9a-f]{12}[0-9a-z]{14}$/)
  }, seeded)

  it.prop(
    "sorts by time, then by counter, whatever the random part",
    { a: Schema.Tuple([ms, counter, random]), b: Schema.Tuple([ms, counter, random]) },
    ({ a, b }) => {
      const order = Math.sign(a[0] - b[0]) || Math.sign(a[1] - b[1])
      if (order === 0) return
      const left = makeMessageId(a[0], a[1], () => a[2])
      const right = makeMessageId(b[0], b[1], () => b[2])
      assert.strictEqual(left < right ? -1 : 1, order)
    },
    seeded
  )

  it("writes the low 48 bits of the time and the counter", () => {
    assert.strictEqual(makeMessageId(1, 2, () => 0), "msg_00000000100200000000000000")
    assert.strictEqual(makeMessageId(2 ** 36 + 1, 2, () => 0), "msg_00000000100200000000000000")
  })

  it("sorts two ids of neighbouring counters and neighbouring milliseconds", () => {
    const now = Date.UTC(2026, 6, 27)
    const ids = [makeMessageId(now, 0, () => 0.99), makeMessageId(now, 1, () => 0), makeMessageId(now + 1, 0, () => 0)]
    assert.deepStrictEqual([...ids].sort(), ids)
  })

  it.prop("random text has the length asked for and only lower-case letters and digits", { random }, ({ random }) => {
    assert.match(randomText(20, () => random), /^[0-9a-z]{20}$/)
  }, seeded)
})

describe("promptsOf", () => {
  const order = (n: number, kind: "task" | "retry" | "notice"): Message => ({
    role: "user",
    id: id(n),
    parts: [{ type: "text", text: "work", metadata: ownPrompt(kind) }]
  })

  it("are those of one kind", () => {
    const messages = [order(1, "task"), assistant(2), order(3, "notice"), assistant(4), order(5, "retry")]
    assert.deepStrictEqual(promptsOf("task", messages), messages.slice(0, 1))
    assert.deepStrictEqual(promptsOf("retry", messages), messages.slice(4))
  })

  it("are not what the host shows again after it has made the conversation shorter", () => {
    const messages = [order(1, "task"), assistant(2), { ...order(3, "task"), repeated: true as const }, assistant(4)]
    assert.deepStrictEqual(promptsOf("task", messages), messages.slice(0, 1))
  })
})
