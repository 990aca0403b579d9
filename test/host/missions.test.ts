/** How missions end on the real OpenCode: not by a quotation, by stagnation, out of each budget. */
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path } from "effect"
import type { ModelReply, Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isOf, isToast, openProject, openShared, Server, settings } from "./project.ts"

const delegate = (prompt: string) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: prompt, prompt, background: true }
})
const bash = (command: string): ModelReply => ({
  toolCalls: [{ name: "bash", args: { command, description: "a command" } }],
  usage: { input: 1_000, output: 0 }
})

/** Children work on and on until they are told that the budget is used up. The goal's first word says what the Commander does. */
const script: Script = (request) =>
  Effect.gen(function*() {
    const newest = request.users.at(-1) ?? ""
    const isUsedUp = newest.startsWith("The mission's budget is used up")
    if (!/^You are the Commander/m.test(request.system)) {
      if (isUsedUp) return { text: `stopped in time: ${request.users[0]}` }
      if (request.users[0]?.startsWith("quick") === true) return { text: "done" }
      yield* Effect.sleep(request.users[0]?.startsWith("work slowly") === true ? "1 second" : "100 millis")
      return bash(`echo ${request.turns}`)
    }
    if (isUsedUp) return { text: "This is what is done." }
    const [word = ""] = (request.users[0] ?? "").split(" ")
    switch (word) {
      case "QUOTE":
        return newest.startsWith("CONTINUE")
          ? { text: "Now it is.\n\nMISSION COMPLETE" }
          : { text: "When all is checked I will write:\n\n> MISSION COMPLETE\n\n```\nMISSION COMPLETE\n```" }
      case "TODOS":
        return newest.startsWith("CONTINUE") && request.toolResults.length === 0
          ? bash("sed -i 's/\\[ \\]/[x]/' .opencode/todo.md")
          : { text: "All is done.\nMISSION COMPLETE" }
      case "STAGNATE":
        return request.toolResults.length === 0
          ? bash("echo the same")
          : { text: `Thinking about it, round ${request.turns}.` }
      case "SPEND": {
        const how = request.users[0]?.endsWith("time") === true ? "work slowly" : "work"
        return request.turns === 0
          ? { toolCalls: [delegate(`${how}, one`), delegate(`${how}, two`)] }
          : { text: "I wait." }
      }
      case "MANY":
        return request.toolResults.length === 0
          ? { toolCalls: [delegate(`quick ${request.turns}`), delegate(`quick too ${request.turns}`)] }
          : { text: "I wait." }
      default:
        return { text: "MISSION COMPLETE" }
    }
  })

const budgets: ReadonlyArray<readonly [name: string, goal: string, budget: object, used: RegExp]> = [
  ["tokens", "SPEND tokens", { tokens: 12_000 }, /Its budget is used up: .* of 12k tokens/],
  ["cost", "SPEND cost", { cost: 0.01 }, /Its budget is used up: \$\S+ of \$0\.01/],
  ["turns", "SPEND turns", { turns: 12 }, /Its budget is used up: \d+ of 12 turns/],
  ["time", "SPEND time", { time: "8 seconds" }, /Its budget is used up: .* of 8 s/],
  ["tasks", "MANY tasks", { tasks: 3 }, /Its budget is used up: 3 of 3 tasks/]
]

layer(Server.layer(script), { excludeTestServices: true, timeout: "60 seconds" })(
  "a mission in a real OpenCode",
  (it) => {
    it.effect("does not end because MISSION COMPLETE stands in a quotation", () =>
      Effect.gen(function*() {
        const { say, seen, texts, until } = yield* openShared
        const root = yield* say("QUOTE it")
        yield* until(isToast("Mission complete"))
        const texts_ = yield* texts(root, "user")
        assert.lengthOf(texts_.filter((text) => text.startsWith("CONTINUE")), 1)
        assert.lengthOf(seen.filter(isToast("Mission complete")), 1)
      }))

    it.effect("does not end while a todo is open, and is told which", () =>
      Effect.gen(function*() {
        const { directory, say, texts, until } = yield* openProject({
          ".opencode/todo.md":
            "# Plan\n\n- [x] T1: the parser\n- [ ] T2: its tests | depends:T1\n- [-] T3: docs | reason: none asked for\n"
        })
        const root = yield* say("TODOS first")
        yield* until(isToast("Mission complete"))
        const told = (yield* texts(root, "user")).filter((text) => text.startsWith("CONTINUE"))
        assert.lengthOf(told, 1)
        assert.match(
          told[0] ?? "",
          /You have said MISSION COMPLETE, but it is not:\nOpen todos [^\n]*\n- T2: its tests\n/
        )
        assert.notInclude(told[0], "T3")
        const [fs, path] = [yield* FileSystem.FileSystem, yield* Path.Path]
        assert.include(yield* fs.readFileString(path.join(directory, ".opencode", "todo.md")), "- [x] T2: its tests")
      }))

    it.effect("that does not get on is halted after five instructions, the later ones other than the first, and says why", () =>
      Effect.gen(function*() {
        const { say, seen, texts, until } = yield* openShared
        const root = yield* say("STAGNATE please")
        yield* until(isToast("Mission halted"))
        const told = (yield* texts(root, "user")).filter((text) => text.startsWith("CONTINUE"))
        assert.lengthOf(told, 5)
        assert.deepStrictEqual(told.map((text) => text.includes("go another way")), [false, false, false, true, true])
        assert.include(
          seen.find(isToast("Mission halted"))?.properties["message"],
          "no todo, file, task or tool result has changed"
        )
      }))

    for (const [name, goal, budget, used] of budgets) {
      it.effect(`that has used up its ${name} is brought to its end, and what is done is kept`, () =>
        Effect.gen(function*() {
          const { children, client, say, seen, texts, until } = yield* openProject(
            settings(JSON.stringify({ budget: { grace: "15 seconds", ...budget } }))
          )
          const root = yield* say(goal)
          yield* until(isToast("Mission out of budget"))
          assert.match(String(seen.find(isToast("Mission out of budget"))?.properties["message"]), used)
          assert.include((yield* texts(root, "assistant")).at(-1), "This is what is done.")
          const heard = (yield* texts(root, "user")).join("\n")
          assert.match(heard, name === "tasks" ? /\ndone/ : /stopped in time: work( slowly)?, one/)
          assert.strictEqual(seen.filter(isToast("Mission complete")).length, 0)
          if (name === "tasks") {
            assert.lengthOf(yield* children(root), 3)
            assert.include((yield* texts(root, "assistant")).join("\n"), "budget is used up (3 of 3 tasks)")
          }
          yield* until(isOf("session.idle", root))
          const status = yield* Effect.promise(() => client.session.status())
          assert.deepStrictEqual(status.data, {})
          const model = yield* ScriptedModel
          assert.isFalse(
            (yield* model.calls).some(({ outcome, request }) => outcome === "open" && request.users[0] === goal)
          )
        }))
    }
  }
)
