/** Errors of the provider, on the real host: what it does about them itself, and what is done after that. */
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path, Schema } from "effect"
import { toMessages, WireMessage } from "../../adapters/opencode-sdk/wire.ts"
import type { ModelReply, ModelRequest, Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { promptsOf } from "../../src/domain/Session.ts"
import { isToast, openProject, openShared, Server, settings } from "./project.ts"

/** When the first child of a storm asked, epoch ms; it lasts so long from there. */
const storms = new Map<string, number>()
const stormLasts = 12_000

/** How often a child's model has been called. */
const called = new Map<string, number>()
const summarized = new Set<string>()
const overloaded: ModelReply = { status: 500, message: "boom, says the provider", headers: { "retry-after-ms": "20" } }
const overflow: ModelReply = { status: 400, message: "prompt is too long: 250000 tokens > 200000 maximum" }

const script: Script = (request) =>
  Effect.sync((): ModelReply => {
    if (/^You are the Commander/m.test(request.system)) return commander(request)
    const isSummary = request.system.includes("summarization")
    const order = /(storm|failing|long|endless|poor)-\w+/.exec(request.raw)?.[0] ?? ""
    const calls = (called.get(order) ?? 0) + 1
    if (!isSummary) called.set(order, calls)
    switch (order.split("-")[0]) {
      case "storm": {
        const from = storms.get("storm") ?? request.at
        storms.set("storm", from)
        return request.at - from < stormLasts
          ? { status: 429, message: "Rate limit reached, says the provider", headers: { "retry-after": "1" } }
          : { text: `came through: ${order}` }
      }
      case "failing":
        return calls <= 6 ? overloaded : { text: `recovered from it: ${order}` }
      case "poor":
        return request.model === "other"
          ? { text: `the other paid for ${order}` }
          : { status: 402, message: "Insufficient credits, says the provider" }
      case "long":
        if (calls === 1) return { toolCalls: [{ name: "bash", args: { command: "true", description: "nothing" } }] }
        if (calls === 2 && !isSummary) return overflow
        // The host's own way fails: what it sums up is too long as well.
        if (isSummary && !summarized.has(order)) {
          summarized.add(order)
          return overflow
        }
        return { text: isSummary ? `A summary of ${order}.` : `short enough: ${order}` }
      default:
        return overflow
    }
  })
const commander = (request: ModelRequest): ModelReply => {
  const text = request.users.at(-1) ?? ""
  if (/tasks? ha(s|ve) ended/.test(text)) return { text: "All heard.\nMISSION COMPLETE" }
  if (text.startsWith("CONTINUE")) return { text: ["MISSION COMPLETE", ...text.match(/task_\w+/g) ?? []].join("\n") }
  if (request.toolResults.length > 0) return { text: "Waiting." }
  return {
    toolCalls: text.split(" ").slice(1).map((prompt) => ({
      name: "delegate_task",
      args: { agent: "Builder", description: prompt, prompt, background: true }
    }))
  }
}

const options = {
  retries: { count: 6, backoff: "1 second", longest: "4 seconds" },
  concurrency: { growEvery: "2 seconds" }
}

const isNotice = (text: string) => /tasks? ha(s|ve) ended/.test(text)

layer(Server.layer(script, {}, options), { excludeTestServices: true, timeout: "90 seconds" })(
  "errors of the provider in a real OpenCode",
  (it) => {
    it.effect("a storm of 429s over six children: the mission survives it, and the calls grow fewer", () =>
      Effect.gen(function*() {
        const { directory, say, texts, until } = yield* openProject()
        const orders = ["a", "b", "c", "d", "e", "f"].map((name) => `storm-${name}`)
        const root = yield* say(`DO ${orders.join(" ")}`)
        yield* until(isToast("Mission complete"))
        const heard = (yield* texts(root, "user")).filter(isNotice).join("\n")
        for (const order of orders) assert.include(heard, `came through: ${order}`)
        const { calls } = yield* ScriptedModel
        const from = storms.get("storm") ?? 0
        const at = (yield* calls).filter(({ request }) => /storm-/.test(request.users[0] ?? "")).map(({ request }) =>
          request.at - from
        )
        const between = (a: number, b: number) => at.filter((time) => time >= a && time < b).length
        yield* Effect.logInfo(
          `calls by 4 s: ${[0, 4, 8, 12, 16, 20].map((s) => between(s * 1_000, (s + 4) * 1_000)).join(" ")}`
        )
        assert.isAbove(between(0, 4_000), 2 * between(8_000, 12_000))
        // Nobody named a model: the host's own is known all the same, and its provider is held back.
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const folder = path.join(directory, ".opencode", "orchestrator")
        const journals = (yield* fs.readDirectory(folder)).filter((name) => name.endsWith(".jsonl"))
        const journal = (yield* Effect.forEach(journals, (name) => fs.readFileString(path.join(folder, name)))).join()
        assert.include(journal, "\"model\":{\"provider\":\"scripted\",\"model\":\"model\"}")
      }))

    it.effect("500s that the host gives up after its five retries do not end the task", () =>
      Effect.gen(function*() {
        const { children, client, say, texts, until } = yield* openShared
        const root = yield* say("DO failing-once")
        yield* until(isToast("Mission complete"))
        assert.include((yield* texts(root, "user")).filter(isNotice).join(), "recovered from it: failing-once")
        assert.strictEqual(called.get("failing-once"), 7)
        const child = (yield* children(root))[0]?.id ?? ""
        const answer = yield* Effect.promise(() => client.session.messages({ sessionID: child }))
        const messages = toMessages(yield* Schema.decodeUnknownEffect(Schema.Array(WireMessage))(answer.data))
        assert.lengthOf(promptsOf("task", messages), 1)
        assert.lengthOf(promptsOf("retry", messages), 1)
      }))

    it.effect("a conversation that the host could not shorten is shortened on request, and goes on", () =>
      Effect.gen(function*() {
        const { say, texts, until } = yield* openShared
        const root = yield* say("DO long-story")
        yield* until(isToast("was held up"))
        yield* until(isToast("Mission complete"))
        assert.include((yield* texts(root, "user")).filter(isNotice).join(), "short enough: long-story")
      }))

    it.effect("one that cannot be shortened at all fails its task, with the provider's words and what to do", () =>
      Effect.gen(function*() {
        const { say, texts, until } = yield* openShared
        const root = yield* say("DO endless-story")
        yield* until(isToast("Mission complete"))
        const heard = (yield* texts(root, "user")).filter(isNotice).join()
        assert.match(heard, /failed after .*\n.*too large to compact.*split the work into smaller tasks/)
      }))

    it.effect("another model goes on in the child's session when the first one's credit is used up", () =>
      Effect.gen(function*() {
        const { children, say, texts, until } = yield* openProject(
          settings(JSON.stringify({ fallbackModels: ["scripted/other"] }))
        )
        const root = yield* say("DO poor-child")
        yield* until(isToast("Mission complete"))
        assert.include((yield* texts(root, "user")).filter(isNotice).join(), "the other paid for poor-child")
        const all = yield* children(root)
        assert.lengthOf(all, 1)
        assert.strictEqual(all[0]?.model?.id, "other")
      }))
  }
)
