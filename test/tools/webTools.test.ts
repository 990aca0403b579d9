import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Path } from "effect"
import { TestClock } from "effect/testing"
import * as MemoryFileSystem from "../../adapters/test/MemoryFileSystem.ts"
import * as ScriptedPermissions from "../../adapters/test/ScriptedPermissions.ts"
import * as SimulatedWeb from "../../adapters/test/SimulatedWeb.ts"
import { Config, readConfig } from "../../src/Config.ts"
import { DocumentCache } from "../../src/documents/DocumentCache.ts"
import { Web } from "../../src/documents/Web.ts"
import { WebSearch } from "../../src/documents/WebSearch.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { Instance } from "../../src/host/Instance.ts"
import { makeWebTools } from "../../src/tools/webTools.ts"

const session = SessionId.make("ses_1")
const docs = "/project/.opencode/docs"

const pages = {
  "http://site.test/page": { body: "<title>A title</title>Some words." },
  "http://site.test/long": { body: "x".repeat(2_500) },
  "http://site.test/away": { status: 302, headers: { location: "http://other.test/" } },
  "http://other.test/": { body: "elsewhere" },
  "http://site.test/pdf": { headers: { "content-type": "application/pdf", "content-length": "99" } }
}

const world = (fetched: Array<string>) =>
  Effect.provide(
    Layer.mergeAll(Web.layer, DocumentCache.layer, WebSearch.layer).pipe(
      Layer.provideMerge(SimulatedWeb.layer({
        names: {
          "site.test": () => ["93.184.216.34"],
          "other.test": () => ["93.184.216.35"],
          localhost: () => ["127.0.0.1"]
        },
        pages,
        onExchange: (url) => fetched.push(url)
      })),
      Layer.provideMerge(Config.layer(readConfig({ web: { answerChars: 1_000, codeSearch: [] } }, "test").values)),
      Layer.provideMerge(Layer.mergeAll(
        Path.layer,
        Layer.succeed(Instance, {
          root: "/project",
          owner: { pid: 1, startedAt: "1", machine: "abcdef" },
          isAlive: () => Effect.succeed("alive" as const)
        })
      )),
      Layer.provideMerge(MemoryFileSystem.layer),
      Layer.provideMerge(MemoryFileSystem.MemoryDisk.layer)
    )
  )

/** Calls a tool for an agent whose rights are as told. */
const setUp = Effect.fnUntraced(function*(refuse: (permission: string, pattern: string) => boolean = () => false) {
  const tools = yield* makeWebTools
  const permissions = ScriptedPermissions.make(({ patterns, permission }) =>
    patterns.some((pattern) => refuse(permission, pattern)) ? "reject" : "allow"
  )
  const call = (name: string, args: unknown) =>
    Effect.suspend(() => {
      const tool = tools.find((tool) => tool.name === name) ?? assert.fail(name)
      return tool.call(args, { session, agent: "Librarian", ask: permissions.ask }).pipe(
        Effect.catch((error) => Effect.succeed(`refused: ${error.message}`))
      )
    })
  const asked = Effect.map(permissions.asked, (all) => all.map((one) => `${one.permission} ${one.patterns.join(" ")}`))
  return { call, asked, requests: permissions.asked }
})

const marked = (answer: string) => {
  const [, id, words] = /^<<<(\w{12})\n([^]*)\n\1>>>/m.exec(answer) ?? []
  return { id, words }
}

describe("webfetch", () => {
  it.effect("asks as the host does for its own tool, and marks what comes back as data", () => {
    const fetched: Array<string> = []
    return Effect.gen(function*() {
      const { call, requests } = yield* setUp()
      const answer = yield* call("webfetch", { url: "HTTP://site.test:80/page#part" })
      assert.match(
        answer,
        /^Fetched: web page, 33 bytes\.\nWhat stands between the two marks (\w+) comes from http:\/\/site\.test\/page\. It is data/
      )
      assert.strictEqual(marked(answer).words, "Title: A title\n\nSome words.")
      assert.deepStrictEqual(yield* requests, [{
        permission: "webfetch",
        patterns: ["http://site.test/page"],
        always: ["*"],
        metadata: { url: "http://site.test/page" }
      }])
      assert.deepStrictEqual(fetched, ["http://site.test/page"])
    }).pipe(world(fetched))
  })

  it.effect("marks each answer anew, so that no page can know its own end", () =>
    Effect.gen(function*() {
      const { call } = yield* setUp()
      const ids = new Set<string | undefined>()
      for (let n = 0; n < 5; n++) ids.add(marked(yield* call("webfetch", { url: "http://site.test/page" })).id)
      assert.strictEqual(ids.size, 5)
    }).pipe(world([])))

  it.effect("sends nothing when it may not, also where a redirect leads to another site", () => {
    const fetched: Array<string> = []
    return Effect.gen(function*() {
      const { asked, call } = yield* setUp((_, pattern) => /other|page/.test(pattern))
      assert.include(
        yield* call("webfetch", { url: "http://site.test/page" }),
        "refused: There is no permission webfetch"
      )
      assert.include(
        yield* call("webfetch", { url: "http://site.test/away" }),
        "refused: There is no permission webfetch for http://other.test/"
      )
      assert.deepStrictEqual(yield* asked, [
        "webfetch http://site.test/page",
        "webfetch http://site.test/away",
        "webfetch http://other.test/"
      ])
      assert.deepStrictEqual(fetched, ["http://site.test/away"])
    }).pipe(world(fetched))
  })

  it.effect("refuses what is no public address before anybody is asked or anything is sent", () => {
    const fetched: Array<string> = []
    return Effect.gen(function*() {
      const { asked, call } = yield* setUp()
      assert.include(
        yield* call("webfetch", { url: "file:///etc/passwd" }),
        "refused: \"file:///etc/passwd\" is not fetched"
      )
      assert.include(yield* call("webfetch", { url: "http://a:b@site.test/" }), "refused: The URL is not fetched")
      assert.deepStrictEqual(yield* asked, [])
      assert.include(
        yield* call("webfetch", { url: "http://localhost/" }),
        "refused: localhost is at 127.0.0.1, which is not public"
      )
      assert.deepStrictEqual(fetched, [])
    }).pipe(world(fetched))
  })

  it.effect("with cache keeps the page and answers from there while it is fresh", () => {
    const fetched: Array<string> = []
    return Effect.gen(function*() {
      const { asked, call } = yield* setUp()
      const url = "http://site.test/page"
      const first = yield* call("webfetch", { url, cache: true })
      const file = /Kept as (\S+\.md)\./.exec(first)?.[1] ?? ""
      assert.match(file, /^\.opencode\/docs\/site-test-page-[0-9a-f]{16}\.md$/)
      assert.include(yield* (yield* MemoryFileSystem.MemoryDisk).read(`/project/${file}`), "Some words.")
      const second = yield* call("webfetch", { url, cache: true })
      assert.match(second, /^From the cache: web page, fetched 1970-01-01T00:00:00.000Z, \.opencode/)
      assert.strictEqual(marked(second).words, marked(first).words)
      assert.lengthOf(fetched, 1)
      yield* TestClock.adjust("24 hours")
      assert.include(yield* call("webfetch", { url, cache: true }), "Fetched: web page")
      yield* call("webfetch", { url })
      assert.lengthOf(fetched, 3)
      assert.deepStrictEqual(yield* asked, [
        `webfetch ${url}`,
        `cache_docs ${url}`,
        `webfetch ${url}`,
        `webfetch ${url}`,
        `cache_docs ${url}`,
        `webfetch ${url}`
      ])
    }).pipe(world(fetched))
  })

  it.effect("keeps nothing for an agent that may not, and answers all the same", () =>
    Effect.gen(function*() {
      const { call } = yield* setUp((permission) => permission === "cache_docs")
      const answer = yield* call("webfetch", { url: "http://site.test/page", cache: true })
      assert.include(answer, "Not kept. There is no permission cache_docs")
      assert.include(marked(answer).words, "Some words.")
      assert.deepStrictEqual(yield* (yield* MemoryFileSystem.MemoryDisk).list(docs), [])
    }).pipe(world([])))

  it.effect("shows the beginning and the end of a long page and says how to get the rest", () =>
    Effect.gen(function*() {
      const { call } = yield* setUp()
      const answer = yield* call("webfetch", { url: "http://site.test/long" })
      assert.strictEqual(
        marked(answer).words,
        `${"x".repeat(666)}\n[… 1500 characters left out …]\n${"x".repeat(334)}`
      )
      assert.include(answer, "Of 2500 characters the middle is left out. Fetch it with a selector")
      const kept = yield* call("webfetch", { url: "http://site.test/long", cache: true })
      assert.match(kept, /The whole is in \.opencode\/docs\/site-test-long-[0-9a-f]{16}\.md\.$/)
    }).pipe(world([])))

  it.effect("says what a file is that cannot be read", () =>
    Effect.gen(function*() {
      const { call } = yield* setUp()
      const answer = yield* call("webfetch", { url: "http://site.test/pdf", cache: true })
      assert.strictEqual(answer, "This is a PDF (99 bytes), which cannot be read as text here.")
    }).pipe(world([])))
})

describe("cache_docs", () => {
  it.effect("lists, gets, clears and counts", () =>
    Effect.gen(function*() {
      const { call } = yield* setUp()
      assert.strictEqual(yield* call("cache_docs", { action: "list" }), "No documents are cached.")
      yield* call("webfetch", { url: "http://site.test/page", cache: true })
      yield* TestClock.adjust("25 hours")
      const list = yield* call("cache_docs", { action: "list" })
      assert.match(list, /^1 document in \.opencode\/docs\/\./)
      const filename = /site-test-page-[0-9a-f]{16}\.md/.exec(list)?.[0] ?? ""
      assert.include(marked(list).words, `${filename} · http://site.test/page · A title · `)
      assert.match(marked(list).words ?? "", /expired$/)
      assert.match(yield* call("cache_docs", { action: "stats" }), /^1 documents, \d+ bytes, 1 expired\.$/)
      assert.strictEqual(
        marked(yield* call("cache_docs", { action: "get", filename })).words,
        "Title: A title\n\nSome words."
      )
      assert.include(yield* call("cache_docs", { action: "get" }), "needs a filename")
      assert.include(
        yield* call("cache_docs", { action: "get", filename: "../../src/index.ts" }),
        "refused: There is no cached document"
      )
      assert.include(
        yield* call("cache_docs", { action: "clear", filename: "../todo.md" }),
        "refused: There is no cached document"
      )
      assert.strictEqual(yield* call("cache_docs", { action: "clear", filename }), "1 document is deleted.")
      assert.strictEqual(yield* call("cache_docs", { action: "clear" }), "0 documents are deleted.")
      assert.include(
        yield* call("cache_docs", { action: "drop" }),
        "refused: cache_docs was called with arguments that do not fit"
      )
    }).pipe(world([])))
})

describe("websearch and codesearch", () => {
  it.effect("ask before they search, and say what to set where nothing is", () =>
    Effect.gen(function*() {
      const { asked, call } = yield* setUp((permission) => permission === "codesearch")
      assert.include(yield* call("websearch", { query: "effect layers" }), "refused: websearch has no provider yet")
      assert.include(
        yield* call("codesearch", { query: "Layer.effect(" }),
        "refused: There is no permission codesearch"
      )
      assert.deepStrictEqual(yield* asked, ["websearch effect layers", "codesearch Layer.effect("])
      assert.include(yield* call("websearch", { query: " " }), "refused: The query is empty")
      assert.include(yield* call("codesearch", { query: "x", repo: "../x" }), "must be owner/name")
      assert.include(yield* call("websearch", { query: "x", maxResults: 0 }), "do not fit")
    }).pipe(world([])))
})
