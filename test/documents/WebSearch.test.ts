import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Effect, Exit, Fiber, Layer, Schema } from "effect"
import { FetchHttpClient, HttpClient, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import { createServer } from "node:http"
import { Config, readConfig } from "../../src/Config.ts"
import type { Question } from "../../src/documents/providers.ts"
import { WebSearch } from "../../src/documents/WebSearch.ts"

const key = "sk-very-secret-key"
const question: Question = { query: "effect \"layers\" & more", count: 2 }

/** Answers as the providers have sent them, cut to what matters. */
const recorded: Readonly<Record<string, unknown>> = {
  exa: {
    requestId: "x",
    results: [
      { id: "1", title: "Layers", url: "https://effect.website/layers", publishedDate: null, text: "About layers." },
      { id: "2", title: null, url: "https://effect.website/2" },
      { id: "3", title: "Third", url: "https://effect.website/3" }
    ]
  },
  brave: {
    type: "search",
    web: {
      results: [{
        title: "A &amp; <strong>B</strong>",
        url: "https://a.test/",
        description: "It&#x27;s &lt;T&gt; in <strong>bold</strong>"
      }]
    }
  },
  tavily: { query: "x", results: [{ title: "T", url: "https://t.test/", content: "words", score: 0.9 }] },
  searxng: { results: [{ title: "S", url: "https://s.test/", content: "words", engine: "duckduckgo" }] },
  "grep.app": {
    hits: {
      total: 1,
      hits: [{
        repo: { raw: "Effect-TS/effect" },
        branch: { raw: "main" },
        path: { raw: "src/Layer.ts" },
        content: {
          snippet:
            "<table class=\"h\"><tr data-line=\"1\"><td><div>1</div></td><td><pre>const a = <mark>Layer</mark>&lt;T&gt;</pre></td></tr></table>"
        }
      }]
    }
  },
  github: {
    total_count: 1,
    items: [{
      path: "src/Layer.ts",
      html_url: "https://github.com/Effect-TS/effect/blob/1/src/Layer.ts",
      repository: { full_name: "Effect-TS/effect" },
      text_matches: [{ fragment: "const a" }, { fragment: "const b" }]
    }]
  },
  sourcegraph: {
    data: {
      search: {
        results: {
          results: [
            {
              repository: { name: "github.com/Effect-TS/effect" },
              file: { path: "src/Layer.ts", canonicalURL: "/github.com/Effect-TS/effect@1/-/blob/src/Layer.ts" },
              lineMatches: [{ preview: "const a", lineNumber: 4 }]
            },
            {}
          ]
        }
      }
    }
  }
}

interface Heard {
  readonly method: string
  readonly url: URL
  readonly headers: Readonly<Record<string, string | ReadonlyArray<string> | undefined>>
  readonly body: string
}

interface Reply {
  readonly status?: number
  readonly headers?: Record<string, string>
  readonly body: unknown
}

const variables: Readonly<Record<string, string>> = {
  exa: "EXA_BASE_URL",
  brave: "BRAVE_BASE_URL",
  tavily: "TAVILY_BASE_URL",
  searxng: "SEARXNG_URL",
  "grep.app": "GREP_APP_BASE_URL",
  github: "GITHUB_API_URL",
  sourcegraph: "SOURCEGRAPH_URL"
}
const keys = { EXA_API_KEY: key, BRAVE_API_KEY: key, TAVILY_API_KEY: key, GITHUB_TOKEN: key, SOURCEGRAPH_TOKEN: key }

/** All providers on one loopback server, each below a path of its name. */
const onLoopback = (reply: (provider: string) => Reply, settings: Record<string, unknown> = {}) =>
  Effect.gen(function*() {
    const heard: Array<Heard> = []
    const server = yield* Effect.acquireRelease(
      Effect.sync(() =>
        createServer((request, response) => {
          const chunks: Array<Uint8Array> = []
          request.on("data", (chunk: Uint8Array) => chunks.push(chunk))
          request.on("end", () => {
            const url = new URL(request.url ?? "", "http://loopback")
            heard.push({
              method: request.method ?? "",
              url,
              headers: request.headers,
              body: Buffer.concat(chunks).toString()
            })
            const answer = reply(url.pathname.split("/")[1] ?? "")
            response.writeHead(answer.status ?? 200, { "content-type": "application/json", ...answer.headers })
            response.end(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body))
          })
        })
      ),
      (server) => Effect.sync(() => server.close())
    )
    yield* Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
    const address = server.address()
    const base = `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
    const environment = {
      ...keys,
      ...Object.fromEntries(Object.entries(variables).map(([name, variable]) => [variable, `${base}/${name}/`]))
    }
    const search = yield* WebSearch.pipe(Effect.provide(
      WebSearch.layer.pipe(
        Layer.provide(FetchHttpClient.layer),
        Layer.provide(Config.layer(readConfig({ web: settings }, "test").values)),
        Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(environment)))
      )
    ))
    return { search, heard }
  })

const all = (provider: string): Reply => ({ body: recorded[provider] })

describe("a provider", () => {
  for (
    const [name, sent, hits] of [
      [
        "exa",
        {
          method: "POST",
          path: "/exa/search",
          header: ["x-api-key", key],
          body: /"query":"effect \\"layers\\" & more","numResults":2/
        },
        [{ title: "Layers", url: "https://effect.website/layers", text: "About layers." }, {
          title: "",
          url: "https://effect.website/2",
          text: ""
        }]
      ],
      [
        "brave",
        {
          method: "GET",
          path: "/brave/res/v1/web/search",
          header: ["x-subscription-token", key],
          query: ["q", question.query]
        },
        [{ title: "A & B", url: "https://a.test/", text: "It's <T> in bold" }]
      ],
      [
        "tavily",
        { method: "POST", path: "/tavily/search", header: ["authorization", `Bearer ${key}`], body: /"max_results":2/ },
        [{ title: "T", url: "https://t.test/", text: "words" }]
      ],
      [
        "searxng",
        { method: "GET", path: "/searxng/search", header: ["authorization", undefined], query: ["format", "json"] },
        [{ title: "S", url: "https://s.test/", text: "words" }]
      ]
    ] as const
  ) {
    it.live(`of the web is asked as ${name} wants it, and its answer read`, () =>
      Effect.gen(function*() {
        const { heard, search } = yield* onLoopback(all, { search: [name] })
        const found = yield* search.web(question)
        assert.deepStrictEqual(found, { provider: name, hits: [...hits], reasons: [] })
        const [request] = heard
        assert.strictEqual(request?.method, sent.method)
        assert.strictEqual(request?.url.pathname, sent.path)
        assert.strictEqual(request?.headers[sent.header[0]], sent.header[1])
        if ("body" in sent) assert.match(request?.body ?? "", sent.body)
        if ("query" in sent) assert.strictEqual(request?.url.searchParams.get(sent.query[0]), sent.query[1])
        assert.isUndefined(request?.headers["traceparent"])
        assert.isUndefined(request?.headers["b3"])
      }).pipe(Effect.scoped))
  }

  for (
    const [name, path, check, hit] of [
      [
        "grep.app",
        "/grep.app/api/search",
        (request: Heard) => assert.strictEqual(request.url.searchParams.get("f.lang"), "TypeScript"),
        {
          title: "Effect-TS/effect src/Layer.ts",
          url: "https://github.com/Effect-TS/effect/blob/main/src/Layer.ts",
          text: "1const a = Layer<T>\n"
        }
      ],
      [
        "github",
        "/github/search/code",
        (request: Heard) =>
          assert.strictEqual(
            request.url.searchParams.get("q"),
            `${question.query} language:TypeScript repo:Effect-TS/effect.js`
          ),
        {
          title: "Effect-TS/effect src/Layer.ts",
          url: "https://github.com/Effect-TS/effect/blob/1/src/Layer.ts",
          text: "const a\n…\nconst b"
        }
      ],
      [
        "sourcegraph",
        "/sourcegraph/.api/graphql",
        (request: Heard) => {
          assert.strictEqual(request.headers["authorization"], `token ${key}`)
          assert.include(request.body, "lang:TypeScript repo:Effect-TS/effect\\\\.js$")
        },
        {
          title: "github.com/Effect-TS/effect src/Layer.ts",
          url: "https://sourcegraph.com/github.com/Effect-TS/effect@1/-/blob/src/Layer.ts",
          text: "5: const a"
        }
      ]
    ] as const
  ) {
    it.live(`of code is asked as ${name} wants it, and its answer read`, () =>
      Effect.gen(function*() {
        const { heard, search } = yield* onLoopback(all, { codeSearch: [name] })
        const found = yield* search.code({ ...question, language: "TypeScript", repo: "Effect-TS/effect.js" })
        assert.deepStrictEqual(found, { provider: name, hits: [hit], reasons: [] })
        const [request] = heard
        assert.strictEqual(request?.url.pathname, path)
        if (request !== undefined) check(request)
      }).pipe(Effect.scoped))
  }
})

describe("when a provider fails", () => {
  const failures: Readonly<Record<string, Reply>> = {
    exa: { status: 401, body: { error: `bad key ${key}` } },
    brave: { status: 429, headers: { "retry-after": "600" }, body: "" },
    tavily: { status: 302, headers: { location: "http://127.0.0.1:1/" }, body: "" },
    searxng: { body: "<html>not JSON" }
  }

  it.live("the next one in the order is asked, and the answer says why", () =>
    Effect.gen(function*() {
      const { heard, search } = yield* onLoopback(
        (name) => name === "searxng" ? all(name) : failures[name] ?? { body: "" },
        { search: ["exa", "brave", "searxng", "tavily"] }
      )
      const found = yield* search.web(question)
      assert.strictEqual(found.provider, "searxng")
      assert.deepStrictEqual(found.reasons, [
        "exa refuses the key in EXA_API_KEY.",
        "brave has had too many questions."
      ])
      assert.lengthOf(heard, 3)
      const again = yield* search.web(question)
      assert.include(again.reasons[1], "brave asks to be left alone for")
      assert.lengthOf(heard, 5)
    }).pipe(Effect.scoped))

  it.live("and all others fail too, each has one sentence, and none holds a key or an address", () =>
    Effect.gen(function*() {
      const { search } = yield* onLoopback((name) => failures[name] ?? { body: "" })
      const error = yield* Effect.flip(search.web(question))
      assert.strictEqual(
        error.message,
        "Nothing could be searched. exa refuses the key in EXA_API_KEY. brave has had too many questions. "
          + "tavily answered with status 302. searxng answered in a form that is not known here. "
          + "Try again later, or go on without it."
      )
    }).pipe(
      Effect.scoped,
      Effect.provideService(FetchHttpClient.RequestInit, { redirect: "manual" })
    ))

  for (
    const [what, body] of [
      ["another form", { results: "none" }],
      ["an address that is a number", { results: [{ title: "a", url: 7 }] }],
      ["nothing", ""],
      ["more than the limit", `{"results":[],"x":"${"y".repeat(5_000_000)}"}`]
    ] as const
  ) {
    it.live(`with ${what} it is told`, () =>
      Effect.gen(function*() {
        const { search } = yield* onLoopback(() => ({ body }), { search: ["exa"] })
        assert.include(
          (yield* Effect.flip(search.web(question))).message,
          "exa answered in a form that is not known here."
        )
      }).pipe(Effect.scoped))
  }
})

/** Providers that answer at once or never, under the virtual clock. */
const scripted = (
  answer: (url: string) => Effect.Effect<unknown>,
  environment: Record<string, string>,
  settings: Record<string, unknown> = {}
) =>
  Effect.provide(
    WebSearch.layer.pipe(
      Layer.provide(Layer.succeed(
        HttpClient.HttpClient,
        HttpClient.make((request, url) =>
          Effect.map(answer(url.href), (body) => HttpClientResponse.fromWeb(request, Response.json(body)))
        )
      )),
      Layer.provide(Config.layer(readConfig({ web: settings }, "test").values)),
      Layer.provide(ConfigProvider.layer(ConfigProvider.fromUnknown(environment)))
    )
  )

const web = WebSearch.use((search) => search.web(question))

describe("the order", () => {
  it.effect("leaves out those without their key; without any, the variables are named", () =>
    Effect.gen(function*() {
      const asked: Array<string> = []
      const found = yield* web.pipe(
        scripted((url) => Effect.sync(() => (asked.push(new URL(url).host), recorded["tavily"])), {
          TAVILY_API_KEY: key,
          EXA_API_KEY: " "
        })
      )
      assert.strictEqual(found.provider, "tavily")
      assert.deepStrictEqual(asked, ["api.tavily.com"])
      const none = yield* Effect.flip(web.pipe(scripted(() => Effect.succeed({}), {})))
      assert.include(
        none.message,
        "set one of EXA_API_KEY, BRAVE_API_KEY, TAVILY_API_KEY, SEARXNG_URL in the environment"
      )
      const off = yield* Effect.flip(web.pipe(scripted(() => Effect.succeed({}), {}, { search: [] })))
      assert.include(off.message, "websearch is turned off in the settings")
    }))

  it.effect("of code has one that needs no key", () =>
    Effect.gen(function*() {
      const found = yield* WebSearch.use((search) => search.code(question)).pipe(
        scripted(() => Effect.succeed(recorded["grep.app"]), {})
      )
      assert.strictEqual(found.provider, "grep.app")
    }))

  it.effect("goes on when a provider does not answer in 25 s", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(
        web.pipe(scripted(
          (url) => url.includes("exa") ? Effect.never : Effect.succeed(recorded["tavily"]),
          { EXA_API_KEY: key, TAVILY_API_KEY: key }
        )),
        { startImmediately: true }
      )
      yield* TestClock.adjust("25 seconds")
      assert.deepInclude(yield* Fiber.join(fiber), { provider: "tavily", reasons: ["exa did not answer in time."] })
    }))
})

it.effect("questions to one provider keep the pause that its plan asks for", () =>
  Effect.gen(function*() {
    const times: Array<number> = []
    const { currentTimeMillis } = yield* Effect.clockWith(Effect.succeed)
    const fiber = yield* Effect.forkChild(
      Effect.gen(function*() {
        const search = yield* WebSearch
        yield* Effect.forEach([1, 2, 3], () => search.web(question), { concurrency: "unbounded" })
      }).pipe(scripted(
        () => Effect.flatMap(currentTimeMillis, (now) => Effect.sync(() => (times.push(now), recorded["brave"]))),
        { BRAVE_API_KEY: key }
      )),
      { startImmediately: true }
    )
    yield* TestClock.adjust("5 seconds")
    yield* Fiber.join(fiber)
    assert.deepStrictEqual(times, [0, 1_100, 2_200])
  }))

it.effect("settings name providers, each once; anything else keeps the default", () =>
  Effect.sync(() => {
    const read = (search: unknown) => readConfig({ web: { search } }, "test")
    assert.deepStrictEqual(read(["searxng", "exa"]).values.web.search, ["searxng", "exa"])
    for (const bad of [["google"], ["exa", "exa"], "exa", [7]]) {
      const { problems, values } = read(bad)
      assert.deepStrictEqual(values.web.search, ["exa", "brave", "tavily", "searxng"])
      assert.include(problems[0], "web.search")
    }
    const allow = readConfig({ web: { allow: ["localhost:3000", "http://x/"] } }, "test")
    assert.deepStrictEqual(allow.values.web.allow, [])
    assert.deepStrictEqual(allow.problems, [
      "test: web.allow must be a list of names and addresses such as \"localhost:3000\" or \"10.0.0.0/8\"; the default is used."
    ])
  }))

it.effect.prop("no answer of any kind breaks the reading", [Schema.Json], ([answer]) =>
  Effect.gen(function*() {
    const exit = yield* Effect.exit(
      web.pipe(scripted(() => Effect.succeed(answer), { EXA_API_KEY: key, TAVILY_API_KEY: key }))
    )
    if (Exit.isFailure(exit)) assert.isFalse(Cause.hasDies(exit.cause))
  }))
