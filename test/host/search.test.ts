import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Path } from "effect"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isOf, openProject, Server } from "./project.ts"

/** Calls the tools that the newest message of the user names, then ends. */
const script: Script = (request) => {
  const text = request.users.at(-1) ?? ""
  return Effect.succeed(
    text.startsWith("[") && request.toolResults.length === 0
      ? { toolCalls: JSON.parse(text) }
      : { text: "MISSION COMPLETE" }
  )
}

const call = (name: string, args: Readonly<Record<string, unknown>>) => JSON.stringify([{ name, args }])

const files = {
  "src/a.ts": "export const needle = 1\n",
  "src/b.ts": "import { needle } from \"./a.ts\"\n",
  ".gitignore": "dist\n",
  "dist/a.js": "needle\n"
}

layer(Server.layer(script), { excludeTestServices: true, timeout: "60 seconds" })("in the real OpenCode", (it) => {
  it.effect("answer an agent, in place of the host's own", () =>
    Effect.gen(function*() {
      const { say, texts, until } = yield* openProject(files)
      const model = yield* ScriptedModel
      const session = yield* say(JSON.stringify([
        { name: "grep_search", args: { pattern: "needle" } },
        { name: "glob_search", args: { pattern: "*.ts", dir: "src", maxResults: 1 } },
        { name: "mgrep", args: { patterns: ["^import", "nothing"] } },
        { name: "grep_search", args: { pattern: "(" } }
      ]))
      yield* until(isOf("session.idle", session))
      assert.deepStrictEqual((yield* texts(session, "assistant")).slice(0, 4), [
        "2 matches in 2 files.\nsrc/a.ts:1: export const needle = 1\nsrc/b.ts:1: import { needle } from \"./a.ts\"",
        "1 of 2 files; narrow the pattern or dir.\nsrc/a.ts",
        "1 of 2 patterns matches.\n^import - 1 match in 1 file:\nsrc/b.ts:1: import { needle } from \"./a.ts\"\nnothing - Nothing matches",
        "The pattern \"(\" cannot be used at character 1: missing closing ). Correct it and call again."
      ])
      const { tools } = yield* model.next
      assert.includeMembers([...tools], ["read", "grep_search", "glob_search", "mgrep"])
      assert.notInclude(tools, "grep")
      assert.notInclude(tools, "glob")
    }))

  /** A folder beside the project. */
  const outside = Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "outside-" }))
    yield* fs.writeFileString(path.join(folder, "secret.txt"), "needle\n")
    return folder
  })

  it.effect("ask the user before they leave the project, and heed the answer", () =>
    Effect.gen(function*() {
      const folder = yield* outside
      const { client, say, texts, until } = yield* openProject(files)
      const answers = {
        once: `1 match in 1 file.\n${folder}/secret.txt:1: needle`,
        reject:
          `There is no permission external_directory for ${folder}/* (The user rejected permission to use this specific tool call). Go on without it.`
      }
      for (const [reply, answer] of Object.entries(answers)) {
        const session = yield* say(call("grep_search", { pattern: "needle", dir: folder }))
        const { properties } = yield* until(isOf("permission.asked", session))
        assert.strictEqual(properties["permission"], "external_directory")
        assert.deepStrictEqual(properties["patterns"], [`${folder}/*`])
        yield* Effect.promise(() =>
          client.permission.reply({ requestID: String(properties["id"]), reply: reply as "once" | "reject" }) // the keys above
        )
        yield* until(isOf("session.idle", session))
        assert.strictEqual((yield* texts(session, "assistant"))[0], answer)
      }
    }))

  it.effect("stay in the project without a question where the agent has no such right", () =>
    Effect.gen(function*() {
      const folder = yield* outside
      const { say, seen, texts, until } = yield* openProject(files)
      const session = yield* say(call("grep_search", { pattern: "needle", dir: folder }), "Researcher")
      yield* until(isOf("session.idle", session))
      assert.strictEqual(
        (yield* texts(session, "assistant"))[0],
        `There is no permission external_directory for ${folder}/* (a rule forbids it). Go on without it.`
      )
      assert.isEmpty(seen.filter(isOf("permission.asked", session)))
    }))

  it.effect("end with the call, and leave the host free to answer meanwhile", () =>
    Effect.gen(function*() {
      // Minutes of work: some 2,000 steps for each of four million characters.
      const line = "x".repeat(1_000_000)
      const { client, say, texts, until } = yield* openProject({ a: line, b: line, c: line, d: line })
      const session = yield* say(call("grep_search", { pattern: "(?:(?:(?:x{1,10}){1,10}){1,10})$" }))
      yield* until((event) => isOf("message.part.updated", session)(event) && /"running"/.test(JSON.stringify(event)))
      for (let times = 0; times < 20; times++) yield* Effect.promise(() => client.session.get({ sessionID: session }))
      const before = Date.now()
      yield* Effect.promise(() => client.session.abort({ sessionID: session }))
      yield* until(isOf("session.idle", session))
      assert.isBelow(Date.now() - before, 5_000)
      const next = yield* say(call("glob_search", { pattern: "[ab]" }))
      yield* until(isOf("session.idle", next))
      assert.strictEqual((yield* texts(next, "assistant"))[0], "2 files.\na\nb")
    }))
})
