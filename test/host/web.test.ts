import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Path, Schema } from "effect"
import { pluginUrl, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isOf, openShared, type Seen, Server, serveSite } from "./project.ts"

/** What the site and the proxy were asked for. */
const site: Array<string> = []
const proxy: Array<string> = []

/** Every agent calls the tools that its order names, a JSON array, and says what they answered. */
const Calls = Schema.fromJsonString(Schema.Array(Schema.Struct({ name: Schema.String, args: Schema.Unknown })))
const script: Script = (request) => {
  const calls = Schema.decodeOption(Calls)(request.users.at(-1) ?? "")
  return Effect.succeed(
    calls._tag === "Some" && request.toolResults.length === 0 ? { toolCalls: calls.value } : { text: "done" }
  )
}

let port = 0

const host = Layer.effect(
  Server,
  Effect.gen(function*() {
    // Not 127.0.0.1: the host's own calls to its model go there, and must not go through the proxy.
    const server = yield* serveSite(
      "127.0.0.2",
      site,
      (path) =>
        path === "/away"
          ? "http://127.0.0.3:1/"
          : ["text/html; charset=utf-8", "<main><h1>Guide</h1><p>Read <b>this</b>.</p></main>"]
    )
    port = server.port
    const environment = yield* serveSite("127.0.0.1", proxy, () => ["text/plain", "through the proxy"])
    const at = `http://127.0.0.1:${environment.port}`
    return yield* startHost({
      plugin: [[pluginUrl, { web: { allow: [`127.0.0.2:${server.port}`] } }]],
      env: {
        ...shortLived,
        http_proxy: at,
        HTTP_PROXY: at,
        https_proxy: at,
        HTTPS_PROXY: at,
        NO_PROXY: "127.0.0.1,localhost"
      }
    })
  })
).pipe(Layer.provideMerge(ScriptedModel.layer(script)), Layer.provideMerge(NodeServices.layer), Layer.orDie)

const order = (...calls: ReadonlyArray<readonly [string, unknown]>) =>
  JSON.stringify(calls.map(([name, args]) => ({ name, args })))
const page = () => `http://127.0.0.2:${port}/guide`

const isAsk = (session: string) => (event: Seen) =>
  event.type === "permission.asked" && event.properties["sessionID"] === session

const isToolResult = (session: string, tool: string) => (event: Seen) => {
  if (event.type !== "message.part.updated") return false
  const part = Schema.decodeUnknownOption(ToolPart)(event.properties["part"])
  return part._tag === "Some" && part.value.sessionID === session && part.value.tool === tool
    && part.value.state.status === "completed"
}
const ToolPart = Schema.Struct({
  sessionID: Schema.String,
  tool: Schema.String,
  state: Schema.Struct({ status: Schema.String })
})

layer(host, { excludeTestServices: true, timeout: "60 seconds" })("the web tools in a real OpenCode", (it) => {
  it.effect("a Librarian fetches from an allowed site, past the proxy of the environment, and keeps the page", () =>
    Effect.gen(function*() {
      const { directory, say, texts, until } = yield* openShared
      const session = yield* say(order(["webfetch", { url: page(), cache: true }]), "Librarian")
      yield* until(isOf("session.idle", session))
      const [answer = ""] = yield* texts(session, "assistant")
      assert.match(
        answer,
        /^Fetched: web page, \d+ bytes\. Kept as \.opencode\/docs\/127-0-0-2-\d+-guide-[0-9a-f]{16}\.md\./
      )
      assert.match(answer, /<<<(\w{12})\n# Guide\n\nRead \*\*this\*\*\.\n\1>>>/)
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const file = /\.opencode\/docs\/\S+\.md/.exec(answer)?.[0] ?? ""
      assert.include(yield* fs.readFileString(path.join(directory, file)), "# Guide")
      assert.deepStrictEqual(site, ["/guide"])
      assert.deepStrictEqual(proxy, [])

      yield* say(
        order(["webfetch", { url: page(), cache: true }], ["cache_docs", { action: "list" }]),
        "Librarian",
        session
      )
      yield* until(isToolResult(session, "cache_docs"))
      const all = yield* texts(session, "assistant")
      assert.isTrue(all.some((text) => text.startsWith("From the cache: web page")), all.join("\n"))
      assert.isTrue(all.some((text) => text.startsWith("1 document in .opencode/docs/.")))
      assert.deepStrictEqual(site, ["/guide"])
    }))

  it.effect("what is not public and not allowed is refused, also behind a redirect", () =>
    Effect.gen(function*() {
      const { say, texts, until } = yield* openShared
      const before = site.length
      const urls = [
        "http://127.0.0.1:80/",
        "http://localhost/",
        "http://169.254.169.254/latest/",
        `http://127.0.0.2:${port}/away`
      ]
      const session = yield* say(order(...urls.map((url) => ["webfetch", { url }] as const)), "Librarian")
      yield* until(isOf("session.idle", session))
      const answers = (yield* texts(session, "assistant")).slice(0, 4)
      for (const answer of answers) assert.include(answer, "is not public")
      assert.include(answers[3], "127.0.0.3")
      assert.lengthOf(site, before + 1)
    }))

  it.effect("the host asks the user for webfetch where a rule says so, and a no reaches nothing", () =>
    Effect.gen(function*() {
      const { client, texts, until } = yield* openShared
      const before = site.length
      for (const [reply, expected] of [["once", /^Fetched: web page/], ["reject", /no permission webfetch/]] as const) {
        const created = yield* Effect.promise(() =>
          client.session.create({ title: reply, permission: [{ permission: "webfetch", pattern: "*", action: "ask" }] })
        )
        const session = created.data?.id ?? ""
        yield* Effect.promise(() =>
          client.session.promptAsync({
            sessionID: session,
            agent: "build",
            parts: [{ type: "text", text: order(["webfetch", { url: page() }]) }]
          })
        )
        const { properties } = yield* until(isAsk(session))
        assert.deepInclude(properties, { permission: "webfetch", patterns: [page()], always: ["*"] })
        yield* Effect.promise(() => client.permission.reply({ requestID: String(properties["id"]), reply }))
        yield* until(isOf("session.idle", session))
        assert.match((yield* texts(session, "assistant")).join("\n"), expected)
      }
      assert.lengthOf(site, before + 1)
    }))

  it.effect("our webfetch takes the place of the host's, once; the other tools are shown to those who may use them", () =>
    Effect.gen(function*() {
      const { say, until } = yield* openShared
      const model = yield* ScriptedModel
      const offered = Effect.fnUntraced(function*(agent: string) {
        const session = yield* say(`tools of ${agent}`, agent)
        yield* until(isOf("session.idle", session))
        const call = (yield* model.calls).find(({ request }) => request.users.at(-1) === `tools of ${agent}`)
        assert.isDefined(call)
        const raw = call?.request.raw ?? ""
        const tools = call?.request.tools.filter((tool) => /^(webfetch|websearch|codesearch|cache_docs)$/.test(tool))
        return { tools: tools?.toSorted(), isOurs: raw.includes("Public http and https addresses only") }
      })
      assert.deepStrictEqual(yield* offered("build"), { tools: ["webfetch"], isOurs: true })
      assert.deepStrictEqual(yield* offered("Librarian"), {
        tools: ["cache_docs", "codesearch", "webfetch"],
        isOurs: true
      })
      assert.deepStrictEqual(yield* offered("Researcher"), { tools: ["codesearch", "webfetch"], isOurs: true })
      assert.deepStrictEqual(yield* offered("Inspector"), { tools: ["cache_docs"], isOurs: false })
      assert.deepStrictEqual(yield* offered("Builder"), { tools: [], isOurs: false })
    }))
})
