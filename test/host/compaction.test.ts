import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, FileSystem, Path } from "effect"
import type { ModelRequest, Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isToast, openProject, openShared, Server } from "./project.ts"

const delegate = (prompt: string) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: prompt.slice(0, 30), prompt, background: true }
})

/** Completes when the child may go on. */
const goOn = Deferred.makeUnsafe<void>()

const full = { input: 199_000, output: 10 }
const tooLong = { status: 400, message: "maximum context length: context_length_exceeded, prompt is too long" }
const isSummarizer = (request: ModelRequest) => request.system.includes("context summarization agent")

/** A summary that would end the mission if anybody took it for the Commander's word. */
const summary = { text: "## Objective\nto be told SUMMARIZED\n\nMISSION COMPLETE" }

const script: Script = (request) =>
  Effect.gen(function*() {
    if (isSummarizer(request)) return summary
    const first = request.users[0] ?? ""
    const last = request.users.at(-1) ?? ""
    if (!/^You are the Commander/m.test(request.system)) {
      if (first.startsWith("wait")) {
        yield* Deferred.await(goOn)
        return { text: "did wait" }
      }
      return { text: "did it\nDECISION: use SQLite", ...(first.startsWith("fill") ? { usage: full } : {}) }
    }
    if (request.toolResults.length > 0) return first === "overflow the conversation" ? tooLong : { text: "Waiting." }
    if (/tasks? ha(s|ve) ended/.test(last)) return { text: "All heard.\nMISSION COMPLETE" }
    if (last.startsWith("CONTINUE")) return { text: "Then I am done.\nMISSION COMPLETE" }
    if (last.includes("Continue if you have next steps")) return { text: "I went on." }
    if (first === "talk until it is full") return { text: "Hm.", usage: full }
    if (first === "overflow the conversation") return { toolCalls: [{ name: "list_tasks", args: {} }] }
    return { toolCalls: first.split("\n").slice(1).map(delegate) }
  })

/** The orders for a summary of a conversation that holds this text. */
const summaries = (of: string) =>
  Effect.flatMap(
    ScriptedModel,
    ({ calls }) =>
      Effect.map(calls, (all) =>
        all.filter(({ request }) =>
          isSummarizer(request) && request.users.join("\n").includes(of)
        ).map(({ request }) => request.users.join("\n")))
  )

layer(Server.layer(script), { excludeTestServices: true, timeout: "60 seconds" })(
  "a conversation that the real OpenCode makes shorter",
  (it) => {
    it.effect("in the middle of a mission keeps what the mission is about, and the mission goes on to its end", () =>
      Effect.gen(function*() {
        const { client, directory, say, seen, texts, until } = yield* openProject({
          ".opencode/todo.md": "- [x] T1: decide\n- [ ] T2: build the store | agent:Builder\n"
        })
        const root = yield* say("the long goal\nwait for it\ndecide quickly")
        yield* until(isToast("Builder completed"))
        yield* Effect.promise(() =>
          client.session.summarize({ sessionID: root, providerID: "scripted", modelID: "model" })
        )
        const [order] = yield* summaries("the long goal")
        const told = order?.slice(order.indexOf("The summary must keep the following")) ?? ""
        assert.include(told, "> the long goal")
        assert.include(told, "- T2: build the store")
        assert.notInclude(told, "T1: decide")
        assert.match(told, /- task_\w+ \(Builder\): wait for it/)
        assert.include(told, "> DECISION by Builder: use SQLite")
        assert.strictEqual(seen.filter(isToast("Mission complete")).length, 0)
        const [fs, path] = [yield* FileSystem.FileSystem, yield* Path.Path]
        yield* fs.writeFileString(path.join(directory, ".opencode", "todo.md"), "- [x] T1: decide\n- [x] T2: build\n")
        yield* Deferred.succeed(goOn, undefined)
        yield* until(isToast("Mission complete"))
        const heard = (yield* texts(root, "user")).filter((text) => /tasks? ha(s|ve) ended/.test(text))
        assert.lengthOf(heard, 1)
        assert.include(heard[0], "did wait")
        const model = yield* ScriptedModel
        const after = (yield* model.calls).findLast(({ request }) => /^You are the Commander/m.test(request.system))
        assert.strictEqual(after?.request.users[0], "What did we do so far?")
      }))

    it.effect("after a last word does not make the Commander go on, and its summary is not taken for a word", () =>
      Effect.gen(function*() {
        const { say, texts, until } = yield* openShared
        const root = yield* say("talk until it is full")
        yield* until(isToast("Mission complete"))
        assert.lengthOf(yield* summaries("talk until it is full"), 1)
        const users = yield* texts(root, "user")
        assert.lengthOf(users, 2)
        assert.match(users[1] ?? "", /^CONTINUE/)
      }))

    it.effect("after a child's last word leaves that as its result, and was told the child's order", () =>
      Effect.gen(function*() {
        const { children, say, texts, until } = yield* openShared
        const root = yield* say("the goal\nfill the child's context")
        yield* until(isToast("Mission complete"))
        const [order] = yield* summaries("fill the child's context")
        assert.match(order ?? "", /works on the task task_\w+.*\n> fill the child's context/)
        const notice = (yield* texts(root, "user")).find((text) => /has ended/.test(text)) ?? ""
        assert.match(notice, /completed after .*\ndid it\nDECISION: use SQLite$/)
        const child = (yield* children(root))[0]?.id ?? ""
        assert.deepStrictEqual(yield* texts(child, "user"), ["fill the child's context"])
      }))

    it.effect("because the provider refused it goes on, and the mission does not halt", () =>
      Effect.gen(function*() {
        const { say, seen, texts, until } = yield* openShared
        const root = yield* say("overflow the conversation")
        yield* until(isToast("Mission complete"))
        assert.include(yield* texts(root, "assistant"), "I went on.")
        assert.strictEqual(seen.filter(isToast("Mission halted")).length, 0)
      }))

    it.effect("of an agent of the user's own is the host's affair", () =>
      Effect.gen(function*() {
        const { say, texts, until } = yield* openShared
        const root = yield* say("fill my own agent's context", "build")
        yield* until((event) => event.type === "session.idle" && event.properties["sessionID"] === root)
        assert.isTrue((yield* texts(root, "user")).some((text) => text.startsWith("Continue if you have next steps")))
        const orders = yield* summaries("fill my own agent's context")
        assert.lengthOf(orders, 1)
        assert.notInclude(orders[0], "The summary must keep")
      }))
  }
)
