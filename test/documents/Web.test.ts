import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Result, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as HtmlReader from "../../adapters/node-web/HtmlReader.ts"
import * as SimulatedWeb from "../../adapters/test/SimulatedWeb.ts"
import { Config, readConfig } from "../../src/Config.ts"
import { parseUrl, type WebUrl } from "../../src/documents/Address.ts"
import { Web } from "../../src/documents/Web.ts"
import { Network, NetworkFailed } from "../../src/host/Network.ts"

const url = (text: string) => Result.getOrThrow(parseUrl(text))
const open = () => Effect.void

const fetch = (text: string, selector?: string) => Web.use((web) => web.fetch({ url: url(text), selector }, open))
/** What went wrong, in words. */
const refusal = (text: string) => Effect.map(Effect.flip(fetch(text)), (error) => error.message)

const web = (options: SimulatedWeb.SimulatedWebOptions, settings: Record<string, unknown> = {}) => {
  const names = { "site.test": () => ["93.184.216.34"], "other.test": () => ["93.184.216.35"], ...options.names }
  return Effect.provide(
    Web.layer.pipe(
      Layer.provideMerge(HtmlReader.layer),
      Layer.provideMerge(SimulatedWeb.layer({ ...options, names })),
      Layer.provideMerge(Config.layer(readConfig({ web: settings }, "test").values))
    )
  )
}

const bytes = (...values: ReadonlyArray<number>) => new Uint8Array(values)
const text = (words: string) => new TextEncoder().encode(words)
const join = (...parts: ReadonlyArray<Uint8Array>) => new Uint8Array(parts.flatMap((part) => [...part]))

describe("an address", () => {
  it.effect("of a name is refused when any of its addresses is not public, and nothing is sent", () => {
    const seen: Array<string> = []
    return Effect.gen(function*() {
      const words = yield* refusal("http://mixed.test/")
      assert.include(words, "mixed.test is at 10.0.0.7, which is not public (private)")
      for (const host of ["inner.test", "zone.test", "mapped.test", "127.0.0.1", "[::1]", "169.254.169.254"]) {
        assert.include(yield* refusal(`http://${host}/`), "is not fetched")
      }
      assert.deepStrictEqual(seen, [])
    }).pipe(web({
      names: {
        "mixed.test": () => ["93.184.216.34", "10.0.0.7"],
        "inner.test": () => ["192.168.0.1"],
        "zone.test": () => ["fe80::1%eth0"],
        "mapped.test": () => ["::ffff:127.0.0.1"]
      },
      onExchange: (url) => seen.push(url)
    }))
  })

  it.effect("that was checked is the one that is connected to, although the name has moved meanwhile", () => {
    const seen: Array<string> = []
    let lookups = 0
    return Effect.gen(function*() {
      const page = yield* fetch("http://rebind.test/")
      assert.include(page.text, "public words")
      assert.deepStrictEqual(seen, ["http://rebind.test/ 93.184.216.34"])
      assert.strictEqual(lookups, 1)
      assert.include(yield* refusal("http://rebind.test/"), "127.0.0.1")
      assert.lengthOf(seen, 1)
    }).pipe(web({
      names: { "rebind.test": () => [++lookups === 1 ? "93.184.216.34" : "127.0.0.1"] },
      pages: { "http://rebind.test/": { body: "<p>public words</p>" } },
      onExchange: (url, address) => seen.push(`${url} ${address}`)
    }))
  })

  it.effect("is checked again on a redirect to the name that it had", () => {
    let lookups = 0
    return Effect.gen(function*() {
      assert.include(yield* refusal("http://rebind.test/"), "127.0.0.1")
      assert.strictEqual(lookups, 2)
    }).pipe(web({
      names: { "rebind.test": () => [++lookups === 1 ? "93.184.216.34" : "127.0.0.1"] },
      pages: { "http://rebind.test/": { status: 302, headers: { location: "/next" } } }
    }))
  })

  it.effect("that does not answer gives way to the next one of the same name", () =>
    Effect.gen(function*() {
      const layer = Layer.succeed(Network, {
        resolve: () => Effect.succeed(["2606:4700::1111", "93.184.216.34", "93.184.216.35"]),
        exchange: ({ address, name }) =>
          address === "93.184.216.34"
            ? Effect.never
            : address === "93.184.216.35"
            ? Effect.succeed({
              status: 200,
              headers: { "content-type": "text/plain" },
              body: Stream.make(text("second"))
            })
            : Effect.fail(new NetworkFailed({ host: name, why: "unused" }))
      })
      const fiber = yield* Effect.forkChild(
        fetch("http://site.test/").pipe(
          Effect.provide(Web.layer.pipe(
            Layer.provide([layer, HtmlReader.layer, Config.layer(readConfig({}, "test").values)])
          ))
        ),
        { startImmediately: true }
      )
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).text, "second")
    }))

  it.effect("that is allowed in the settings is reached, at that port only", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* fetch("http://localhost:3000/")).text, "local")
      assert.include(yield* refusal("http://localhost:3001/"), "is not public")
    }).pipe(web({
      names: { localhost: () => ["127.0.0.1"] },
      pages: { "http://localhost:3000/": { body: "local" }, "http://localhost:3001/": { body: "local" } }
    }, { allow: ["localhost:3000"] })))
})

describe("a redirect", () => {
  it.effect("to an address that is not public, or to another scheme, is refused", () =>
    Effect.gen(function*() {
      assert.include(yield* refusal("http://site.test/metadata"), "169.254.169.254 is not public")
      assert.include(yield* refusal("http://site.test/file"), "only http and https are")
      assert.include(yield* refusal("http://site.test/login"), "user name or password")
      assert.include(yield* refusal("http://site.test/decimal"), "127.0.0.1 is not public")
    }).pipe(web({
      pages: {
        "http://site.test/metadata": { status: 302, headers: { location: "http://169.254.169.254/latest/meta-data/" } },
        "http://site.test/file": { status: 301, headers: { location: "file:///etc/passwd" } },
        "http://site.test/login": { status: 307, headers: { location: "http://a:b@other.test/" } },
        "http://site.test/decimal": { status: 308, headers: { location: "//2130706433/" } }
      }
    })))

  it.effect("is followed, and to another site only when that is approved", () => {
    const asked: Array<string> = []
    const approve = (url: WebUrl) =>
      Effect.suspend(() => {
        asked.push(url.href)
        return url.host === "other.test" ? Effect.void : Effect.fail("no")
      })
    return Effect.gen(function*() {
      const service = yield* Web
      const page = yield* service.fetch({ url: url("http://site.test/a"), selector: undefined }, approve)
      assert.strictEqual(page.url, "https://other.test/c")
      assert.strictEqual(page.text, "there")
      assert.deepStrictEqual(asked, ["https://other.test/c"])
      const no = yield* Effect.flip(service.fetch({ url: url("http://site.test/x"), selector: undefined }, approve))
      assert.strictEqual(no, "no")
    }).pipe(web({
      pages: {
        "http://site.test/a": { status: 302, headers: { location: "b" } },
        "http://site.test/b": { status: 302, headers: { location: "https://other.test/c#part" } },
        "https://other.test/c": { body: "there" },
        "http://site.test/x": { status: 302, headers: { location: "http://site.test:8080/" } }
      }
    }))
  })

  it.effect("too many of them end", () =>
    Effect.gen(function*() {
      assert.include(yield* refusal("http://site.test/loop"), "redirects more than 2 times")
    }).pipe(web(
      { pages: { "http://site.test/loop": { status: 302, headers: { location: "/loop" } } } },
      { redirects: 2 }
    )))
})

describe("an answer", () => {
  it.effect("that does not end is waited for as long as the settings say", () =>
    Effect.gen(function*() {
      const slow = Layer.succeed(Network, {
        resolve: () => Effect.succeed(["93.184.216.34"]),
        exchange: ({ path }) =>
          path === "/head" ? Effect.never : Effect.succeed({ status: 200, headers: {}, body: Stream.never })
      })
      for (const path of ["head", "body"]) {
        const fiber = yield* Effect.forkChild(
          refusal(`http://site.test/${path}`).pipe(
            Effect.provide(Web.layer.pipe(
              Layer.provide([slow, HtmlReader.layer, Config.layer(readConfig({}, "test").values)])
            ))
          ),
          { startImmediately: true }
        )
        yield* TestClock.adjust("29 seconds")
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust("1 second")
        assert.include(yield* Fiber.join(fiber), "it took too long")
      }
    }))

  it.effect("without an end is read up to the limit, and said to be cut", () =>
    Effect.gen(function*() {
      let sent = 0
      const endless = Layer.succeed(Network, {
        resolve: () => Effect.succeed(["93.184.216.34"]),
        exchange: () =>
          Effect.succeed({
            status: 200,
            headers: { "content-type": "text/plain" },
            body: Stream.fromEffectRepeat(Effect.sync(() => {
              sent++
              return text("x".repeat(1_000))
            }))
          })
      })
      const page = yield* fetch("http://site.test/").pipe(
        Effect.provide(Web.layer.pipe(
          Layer.provide([
            endless,
            HtmlReader.layer,
            Config.layer(readConfig({ web: { maxBytes: 10_500 } }, "test").values)
          ])
        ))
      )
      assert.lengthOf(page.text, 10_500)
      assert.isTrue(page.isCut)
      assert.isBelow(sent, 20)
    }))

  it.effect("with an error's status is told with what to do", () =>
    Effect.gen(function*() {
      assert.include(yield* refusal("http://site.test/404"), "status 404. There is no such page")
      assert.include(yield* refusal("http://site.test/503"), "status 503. Try again later")
      assert.include(yield* refusal("http://site.test/304"), "status 304")
    }).pipe(web({
      pages: Object.fromEntries([404, 503, 304].map((status) => [`http://site.test/${status}`, { status }]))
    })))

  it.effect("is said to be what it is", () =>
    Effect.gen(function*() {
      const kinds: Array<readonly [string, string, boolean]> = []
      for (const name of ["html", "json", "md", "txt", "xml", "pdf", "pdf2", "png", "bin", "none", "bare"]) {
        const page = yield* fetch(`http://site.test/${name}`)
        kinds.push([name, page.kind, page.isReadable])
        if (name === "pdf") {
          assert.strictEqual(page.text, "This is a PDF (1234 bytes), which cannot be read as text here.")
        }
        if (name === "json") {
          assert.strictEqual(page.text, "{\"a\": 1}")
        }
      }
      assert.deepStrictEqual(kinds, [
        ["html", "web page", true],
        ["json", "JSON", true],
        ["md", "Markdown", true],
        ["txt", "text", true],
        ["xml", "XML", true],
        ["pdf", "PDF", false],
        ["pdf2", "PDF", false],
        ["png", "file of type image/png", false],
        ["bin", "binary file", false],
        ["none", "web page", true],
        ["bare", "text", true]
      ])
    }).pipe(web({
      pages: Object.fromEntries(
        Object.entries({
          html: ["text/html", "<p>a</p>"],
          json: ["application/problem+json", "{\"a\": 1}"],
          md: ["text/markdown", "# a"],
          txt: ["text/plain", "<p>a"],
          xml: ["application/atom+xml", "<a/>"],
          pdf: ["application/pdf", "%PDF-1.7"],
          pdf2: ["application/octet-stream", "%PDF-1.7"],
          png: ["image/png", "\u0089PNG"],
          bin: ["application/octet-stream", "a\0b"],
          none: ["", " <!-- x --> <!doctype html><p>a"],
          bare: ["", "plain words"]
        }).map(([name, [type = "", body = ""]]) => [
          `http://site.test/${name}`,
          { headers: { "content-type": type, ...(name === "pdf" ? { "content-length": "1234" } : {}) }, body }
        ])
      )
    })))

  it.effect("is read in the encoding that its first bytes, its header or its page name, in this order", () =>
    Effect.gen(function*() {
      const words = (name: string) => Effect.map(fetch(`http://site.test/${name}`), (page) => page.text)
      for (const name of ["bom", "header", "meta", "meta2", "default", "utf16", "lie", "unknown"]) {
        assert.strictEqual(yield* words(name), "é", name)
      }
      assert.strictEqual(yield* words("damaged"), "a\ufffdb")
      assert.strictEqual(yield* words("japanese"), "日本")
    }).pipe(web({
      pages: Object.fromEntries(
        Object.entries<readonly [type: string, body: Uint8Array]>({
          bom: ["text/plain; charset=iso-8859-1", join(bytes(0xef, 0xbb, 0xbf), text("é"))],
          header: ["text/html; charset=\"ISO-8859-1\"", bytes(0xe9)],
          meta: ["text/html", join(text("<meta charset='windows-1252'>"), bytes(0xe9))],
          meta2: [
            "text/html",
            join(text("<meta http-equiv=content-type content=\"text/html; charset=latin1\">"), bytes(0xe9))
          ],
          default: ["text/html", text("é")],
          utf16: ["text/plain", bytes(0xff, 0xfe, 0xe9, 0x00)],
          lie: ["text/html", text("<meta charset=utf-16>é")],
          unknown: ["text/plain; charset=klingon", text("é")],
          damaged: ["text/plain; charset=utf-8", join(text("a"), bytes(0xe9), text("b"))],
          japanese: ["text/plain; charset=Shift_JIS", bytes(0x93, 0xfa, 0x96, 0x7b)]
        }).map(([name, [type, body]]) => [`http://site.test/${name}`, { headers: { "content-type": type }, body }])
      )
    })))

  it.effect("is cut down to what a selector fits; one that fits nothing or is none is told", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* fetch("http://site.test/", "#b, .c > em")).text, "two\n\n*three*")
      assert.include(
        (yield* Effect.flip(fetch("http://site.test/", "#zzz"))).message,
        "Nothing on http://site.test/ fits"
      )
      assert.include((yield* Effect.flip(fetch("http://site.test/", "a["))).message, "is no CSS selector")
    }).pipe(web({
      pages: { "http://site.test/": { body: "<p id=a>one<p id=b>two<p class=c>x <em>three</em>" } }
    })))
})
