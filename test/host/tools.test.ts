/** Each tool in the real OpenCode: what it answers the agent that has it, and that the host refuses it to one that has not. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { makeProject, pluginUrl, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { listen, type Seen, serveSite } from "./project.ts"

interface Call {
  readonly name: string
  /** `JOB` stands for the id of the command that was started before. */
  readonly args: Readonly<Record<string, unknown>>
  /** Not before the agent has been told that a command of its ended. */
  readonly isAfterEnd?: boolean
}

const Order = Schema.fromJsonString(Schema.Struct({
  agent: Schema.String,
  calls: Schema.Array(Schema.Struct({
    name: Schema.String,
    args: Schema.Record(Schema.String, Schema.Unknown),
    isAfterEnd: Schema.optionalKey(Schema.Boolean)
  }))
}))

/** Makes the calls of its order, one after the other. */
const script: Script = ({ allToolResults, calledTools, users }) => {
  const order = Option.getOrUndefined(Schema.decodeOption(Order)(users[0] ?? ""))
  const next = order?.calls[calledTools.length]
  if (next === undefined || (next.isAfterEnd === true && !users.some((text) => text.includes("has ended")))) {
    return Effect.succeed({ text: "done" })
  }
  const job = /job_\w+/.exec(allToolResults.join("\n"))?.[0] ?? ""
  const args = Object.fromEntries(
    Object.entries(next.args).map(([name, value]) => [name, value === "JOB" ? job : value])
  )
  return Effect.succeed({ toolCalls: [{ name: next.name, args }] })
}

const recorded = {
  search: { results: [{ title: "A guide", url: "https://guide.test/", content: "Read this." }] },
  "api/search": { hits: { hits: [{ repo: "one/two", path: "src/a.ts", content: { snippet: "needle()" } }] } }
}

let page = ""

const host = Effect.gen(function*() {
  const site = yield* serveSite("127.0.0.1", [], (path) => {
    const answer = path.startsWith("/api/search?")
      ? recorded["api/search"]
      : path.startsWith("/search?")
      ? recorded.search
      : undefined
    return answer === undefined
      ? ["text/html", "<main><h1>Guide</h1><p>Read this.</p></main>"]
      : ["application/json", JSON.stringify(answer)]
  })
  const at = `http://127.0.0.1:${site.port}`
  page = `${at}/guide`
  return yield* startHost({
    // As with `run` in a project that has the plugin: without the option nothing would be fetched.
    plugin: [`${pluginUrl}/dist/fallback.js`, [pluginUrl, { web: { allow: [`127.0.0.1:${site.port}`] } }]],
    // Without the first one the host shows no tool named websearch, not even ours.
    env: { ...shortLived, OPENCODE_ENABLE_EXA: "1", SEARXNG_URL: at, GREP_APP_BASE_URL: at }
  })
})

class Project extends Context.Service<Project, Effect.Success<ReturnType<typeof listen>>>()("test/Project") {
  static readonly layer = Layer.effect(
    Project,
    Effect.gen(function*() {
      const { url } = yield* host
      return yield* listen(url, yield* makeProject({ "src/a.ts": "const needle = 1\n", "src/b.ts": "needle\n" }))
    })
  ).pipe(Layer.provideMerge(ScriptedModel.layer(script)), Layer.provideMerge(NodeServices.layer), Layer.orDie)
}

const ToolPart = Schema.Struct({
  sessionID: Schema.String,
  tool: Schema.String,
  state: Schema.Union([
    Schema.Struct({ status: Schema.Literal("completed"), output: Schema.String }),
    Schema.Struct({ status: Schema.Literal("error"), error: Schema.String })
  ])
})

const ended = (session: string, tools: ReadonlyArray<string>) => ({ properties, type }: Seen) =>
  type === "message.part.updated" && Option.exists(
    Schema.decodeUnknownOption(ToolPart)(properties["part"]),
    (part) => part.sessionID === session && tools.includes(part.tool)
  )

/** Gives an agent its order; how the call of this tool ended, and whether the agent was offered the tool. */
const use = Effect.fnUntraced(function*(agent: string, name: string, calls: ReadonlyArray<Call>) {
  const { say, until } = yield* Project
  const order = JSON.stringify({ agent, calls })
  const session = yield* say(order, agent)
  // A call of what is not there for an agent the host may record as one of its tool `invalid`.
  const { properties } = yield* until(ended(session, [name, "invalid"]))
  const { state, tool } = yield* Schema.decodeUnknownEffect(ToolPart)(properties["part"])
  const asked = (yield* (yield* ScriptedModel).calls).find(({ request }) => request.users[0] === order)
  const isOffered = asked?.request.tools.includes(name)
  return { tool, said: "output" in state ? state.output : state.error, isOffered }
})

const started: Call = { name: "run_background", args: { command: "sleep 300" } }

/** Per tool: an agent that has it with its order, what the tool answers, and an agent that has not. */
const table: ReadonlyArray<
  readonly [name: string, owner: string, order: () => ReadonlyArray<Call>, answer: RegExp, stranger: string]
> = [
  [
    "grep_search",
    "Recorder",
    () => [{ name: "grep_search", args: { pattern: "^needle" } }],
    /^1 match in 1 file\.\nsrc\/b\.ts:1: needle$/,
    "build"
  ],
  [
    "glob_search",
    "Architect",
    () => [{ name: "glob_search", args: { pattern: "*.ts" } }],
    /^2 files\.\nsrc\/a\.ts\nsrc\/b\.ts$/,
    "build"
  ],
  [
    "mgrep",
    "Commander",
    () => [{ name: "mgrep", args: { patterns: ["const", "^needle"] } }],
    /^2 of 2 patterns match\.\nconst - 1 match in 1 file:\nsrc\/a\.ts:1: const needle = 1\n\^needle - /,
    "build"
  ],
  [
    "webfetch",
    "Researcher",
    () => [{ name: "webfetch", args: { url: page } }],
    /^Fetched: web page, \d+ bytes\.\n[^]*<<<(\w+)\n# Guide\n\nRead this\.\n\1>>>/,
    "Builder"
  ],
  [
    "websearch",
    "Researcher",
    () => [{ name: "websearch", args: { query: "a guide" } }],
    /^1 result by searxng\.\n[^]*<<<(\w+)\n1\. A guide\n {3}https:\/\/guide\.test\/\n {3}Read this\.\n\1>>>/,
    "Inspector"
  ],
  [
    "codesearch",
    "Librarian",
    () => [{ name: "codesearch", args: { query: "needle(" } }],
    /^1 result by grep\.app\.\n[^]*1\. one\/two src\/a\.ts\n[^]*needle\(\)/,
    "Architect"
  ],
  [
    "cache_docs",
    "Librarian",
    () => [
      { name: "webfetch", args: { url: page, cache: true } },
      { name: "cache_docs", args: { action: "list" } }
    ],
    /^1 document in \.opencode\/docs\/\.\n[^]*-guide-[0-9a-f]{16}\.md · http:/,
    "Researcher"
  ],
  [
    "run_background",
    "Inspector",
    () => [
      { name: "run_background", args: { command: "true" } }
    ],
    /^job_\w+ started\. It is stopped after 10 min\. You will be told of its end\.$/,
    "Librarian"
  ],
  [
    "check_background",
    "Builder",
    () => [
      { name: "run_background", args: { command: "echo begun; exit 3" } },
      { name: "check_background", args: { taskId: "JOB" }, isAfterEnd: true }
    ],
    /^job_\w+ ended with exit code 3 after .*\nbegun$/,
    "Researcher"
  ],
  [
    "list_background",
    "Builder",
    () => [started, { name: "list_background", args: {} }, { name: "kill_background", args: { taskId: "JOB" } }],
    /^1 command:\njob_\w+ has been running for .* · sleep 300 · yours$/,
    "Recorder"
  ],
  [
    "kill_background",
    "Inspector",
    () => [started, { name: "kill_background", args: { taskId: "JOB" } }],
    /^job_\w+ was stopped \(Inspector stopped it\) after /,
    "Commander"
  ]
]

layer(Project.layer, { excludeTestServices: true, timeout: "60 seconds" })("in the real OpenCode", (it) => {
  it.effect("the plugin works once, with its options, though the command line has brought another", () =>
    Effect.gen(function*() {
      const { client } = yield* Project
      const { data = [] } = yield* Effect.promise(() => client.tool.ids())
      assert.lengthOf(data.filter((name) => name === "delegate_task"), 1)
    }))

  for (const [name, owner, order, answer, stranger] of table) {
    it.effect(`${name} answers the ${owner}, and is refused to ${stranger}`, () =>
      Effect.gen(function*() {
        // The stranger makes the call alone, without those that it follows: it may have none of them.
        const alone = order().filter((call) => call.name === name).map(({ args, name }) => ({ name, args }))
        const [allowed, refused] = yield* Effect.all([use(owner, name, order()), use(stranger, name, alone)], {
          concurrency: 2
        })
        assert.deepInclude(allowed, { tool: name, isOffered: true }, allowed.said)
        assert.match(allowed.said, answer)
        assert.isFalse(refused.isOffered)
        assert.include(refused.said, "unavailable tool")
      }))
  }
})
