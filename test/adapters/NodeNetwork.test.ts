import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { createServer as createHttp } from "node:http"
import { createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createServer as createTls } from "node:tls"
import * as zlib from "node:zlib"
import { vi } from "vitest"
import * as NodeNetwork from "../../adapters/node-web/NodeNetwork.ts"
import { type Exchange, Network } from "../../src/host/Network.ts"

/** A server on loopback that hears one request and answers as told; its port. */
const serve = (answer: (socket: Socket, request: string) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      const server = createServer((socket) => {
        sockets.add(socket)
        socket.on("error", () => undefined)
        socket.once("data", (data) => answer(socket, data.toString("latin1")))
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const close = () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
        resume(Effect.succeed({ port, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const request = (port: number, more: Partial<Exchange> = {}): Exchange => ({
  scheme: "http",
  address: "127.0.0.1",
  port,
  name: "site.test",
  path: "/page?q=1",
  headers: { accept: "*/*" },
  ...more
})

const layer = Effect.provide(NodeNetwork.layer())

/** Status and body, of which no more than `limit` bytes are read. */
const get = Effect.fnUntraced(function*(exchange: Exchange, limit = 10_000_000) {
  const network = yield* Network
  const answer = yield* network.exchange(exchange)
  let size = 0
  const chunks: Array<Uint8Array> = []
  yield* answer.body.pipe(
    Stream.takeUntil((chunk) => {
      chunks.push(chunk)
      return (size += chunk.length) >= limit
    }),
    Stream.runDrain
  )
  return { status: answer.status, headers: answer.headers, text: Buffer.concat(chunks).toString("latin1"), size }
}, Effect.scoped)

const answered = (raw: string) =>
  Effect.gen(function*() {
    const { port } = yield* serve((socket) => socket.end(raw, "latin1"))
    return yield* get(request(port))
  }).pipe(Effect.scoped, layer)

const refused = (raw: string) => Effect.map(Effect.flip(answered(raw)), (error) => error.why)

const head = "HTTP/1.1 200 OK\r\n"

describe("a request over a plain socket", () => {
  it.live("goes to the address, asks for the name, and says what it should", () =>
    Effect.gen(function*() {
      const heard = yield* Deferred.make<string>()
      const { port } = yield* serve((socket, text) => {
        Deferred.doneUnsafe(heard, Effect.succeed(text))
        socket.end(`${head}Content-Length: 2\r\nX-A: 1\r\nx-a: 2\r\n\r\nhi and more`)
      })
      const answer = yield* get(request(port))
      assert.strictEqual(
        yield* Deferred.await(heard),
        `GET /page?q=1 HTTP/1.1\r\nhost: site.test:${port}\r\naccept: */*\r\nconnection: close\r\n\r\n`
      )
      assert.deepInclude(answer, { status: 200, text: "hi" })
      assert.strictEqual(answer.headers["x-a"], "1, 2")
    }).pipe(Effect.scoped, layer))

  it.live("does not go through the proxy that the environment names", () =>
    Effect.gen(function*() {
      const proxied: Array<string> = []
      const proxy = yield* serve((socket, text) => {
        proxied.push(text)
        socket.end(`${head}\r\nproxied`)
      })
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          for (const name of ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"]) {
            vi.stubEnv(name, `http://127.0.0.1:${proxy.port}`)
          }
        }),
        () => Effect.sync(() => vi.unstubAllEnvs())
      )
      const { port } = yield* serve((socket) => socket.end(`${head}\r\ndirect`))
      assert.strictEqual((yield* get(request(port))).text, "direct")
      assert.deepStrictEqual(proxied, [])
    }).pipe(Effect.scoped, layer))

  it.live("is never written with a line's end inside", () =>
    Effect.gen(function*() {
      const { port } = yield* serve((socket) => socket.end(`${head}\r\n`))
      for (const more of [{ path: "/a\r\nx: 1" }, { name: "a\r\nb" }, { headers: { a: "b\nc" } }]) {
        assert.strictEqual((yield* Effect.flip(get(request(port, more)))).why, "the request cannot be written")
      }
    }).pipe(Effect.scoped, layer))

  it.live("is cut off with its scope, whatever the server does", () =>
    Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      const closed = yield* Deferred.make<void>()
      const { port } = yield* serve((socket) => {
        Deferred.doneUnsafe(begun, Effect.void)
        socket.on("close", () => Deferred.doneUnsafe(closed, Effect.void))
      })
      const fiber = yield* Effect.forkChild(get(request(port)), { startImmediately: true })
      yield* Deferred.await(begun)
      fiber.interruptUnsafe()
      yield* Deferred.await(closed)
    }).pipe(Effect.scoped, layer))

  it.live("to where nobody listens is told in words", () =>
    Effect.gen(function*() {
      const { close, port } = yield* serve(() => undefined)
      close()
      assert.strictEqual((yield* Effect.flip(get(request(port)))).why, "nobody listens there")
      const behindProxy = Effect.provide(NodeNetwork.layer({ hasProxy: true }))
      const error = yield* Effect.flip(get(request(port)).pipe(behindProxy))
      assert.match(error.why, /^nobody listens there \(the proxy that the environment names is not used/)
    }).pipe(Effect.scoped, layer))
})

describe("an answer", () => {
  it.live("may be chunked, of a known length, or end with the connection", () =>
    Effect.gen(function*() {
      const text = (raw: string) => Effect.map(answered(raw), ({ text }) => text)
      assert.strictEqual(
        yield* text(`${head}transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n`),
        "abc0123456789"
      )
      assert.strictEqual(
        yield* text(`${head}transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n2\r\nab\r\n0\r\n\r\n`),
        "ab"
      )
      assert.strictEqual(yield* text(`${head}\r\nuntil the end`), "until the end")
      assert.strictEqual(yield* text("HTTP/1.0 200\ncontent-type: a\n\nold"), "old")
      assert.strictEqual(yield* text("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nreal"), "real")
      assert.strictEqual(yield* text("HTTP/1.1 204 No\r\ncontent-length: 5\r\n\r\nxxxxx"), "")
    }))

  it.live("that is no HTTP, damaged, too large or cut off is refused", () =>
    Effect.gen(function*() {
      assert.strictEqual(yield* refused("SSH-2.0-OpenSSH_9.6\r\n"), "the answer is not HTTP")
      assert.strictEqual(yield* refused(`${head}no colon\r\n\r\n`), "the answer has a damaged header")
      assert.strictEqual(yield* refused(`${head}a b: c\r\n\r\n`), "the answer has a damaged header")
      assert.strictEqual(
        yield* refused(`${head}content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef`),
        "the answer names two lengths"
      )
      assert.strictEqual(yield* refused(`${head}content-length: -1\r\n\r\n`), "the answer names no valid length")
      assert.strictEqual(
        yield* refused(`${head}transfer-encoding: chunked\r\n\r\nzz\r\n`),
        "the answer has a damaged chunk"
      )
      assert.strictEqual(
        yield* refused(`${head}transfer-encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n`),
        "the answer has a damaged chunk"
      )
      assert.strictEqual(
        yield* refused(`${head}transfer-encoding: gzip, chunked\r\n\r\n`),
        "the answer is sent as \"gzip, chunked\""
      )
      assert.strictEqual(
        yield* refused(`${head}content-length: 10\r\n\r\nabc`),
        "the answer ended before it was complete"
      )
      assert.strictEqual(
        yield* refused(`${head}transfer-encoding: chunked\r\n\r\n5\r\nab`),
        "the answer ended before it was complete"
      )
      assert.strictEqual(yield* refused(""), "the answer ended before it was complete")
      assert.strictEqual(
        yield* refused(`${head}x: ${"y".repeat(70_000)}\r\n\r\n`),
        "the head of the answer is too large"
      )
      assert.strictEqual(
        yield* refused(`${head}${"x: y\r\n".repeat(20_000)}\r\n`),
        "the head of the answer is too large"
      )
      assert.strictEqual(yield* refused("HTTP/1.1 100 Continue\r\n\r\n".repeat(10)), "the answer does not begin")
      assert.strictEqual(
        yield* refused(`${head}content-encoding: zstd\r\n\r\nx`),
        "the answer is packed as \"zstd\", which was not asked for"
      )
      assert.strictEqual(
        yield* refused(`${head}content-encoding: gzip\r\n\r\nno gzip`),
        "what it sent cannot be unpacked"
      )
    }))

  for (
    const [encoding, packed] of [
      ["gzip", zlib.gzipSync("packed")],
      ["x-gzip", zlib.gzipSync("packed")],
      ["br", zlib.brotliCompressSync("packed")],
      ["deflate", zlib.deflateSync("packed")],
      ["Deflate", zlib.deflateRawSync("packed")],
      ["identity", Buffer.from("packed")]
    ] as const
  ) {
    it.live(`packed as ${encoding} (${packed.length} bytes) is unpacked`, () =>
      Effect.gen(function*() {
        const raw = `${head}content-encoding: ${encoding}\r\ncontent-length: ${packed.length}\r\n\r\n${
          packed.toString("latin1")
        }`
        assert.strictEqual((yield* answered(raw)).text, "packed")
      }))
  }

  for (
    const [encoding, bomb] of [
      ["gzip", zlib.gzipSync(Buffer.alloc(200_000_000))],
      [
        "br",
        zlib.brotliCompressSync(Buffer.alloc(200_000_000), { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } })
      ],
      ["deflate", zlib.deflateSync(Buffer.alloc(200_000_000))]
    ] as const
  ) {
    it.live(`that unpacks from ${bomb.length} bytes of ${encoding} to 200 MB costs what is read of it`, () =>
      Effect.gen(function*() {
        const { port } = yield* serve((socket) => {
          socket.write(`${head}content-encoding: ${encoding}\r\n\r\n`)
          socket.end(bomb)
        })
        const before = process.memoryUsage()
        const { size } = yield* get(request(port), 1_000_000)
        const after = process.memoryUsage()
        assert.isAtLeast(size, 1_000_000)
        assert.isBelow(size, 1_500_000)
        assert.isBelow(after.arrayBuffers + after.external - before.arrayBuffers - before.external, 50_000_000)
      }).pipe(Effect.scoped, layer))
  }

  it.live("of very many tiny chunks lets other work through", () =>
    Effect.gen(function*() {
      const { port } = yield* serve((socket) => {
        socket.end(`${head}transfer-encoding: chunked\r\n\r\n${"1\r\nx\r\n".repeat(200_000)}0\r\n\r\n`)
      })
      let turns = 0
      let timer = setImmediate(function turn() {
        turns++
        timer = setImmediate(turn)
      })
      const { size } = yield* get(request(port))
      clearImmediate(timer)
      assert.strictEqual(size, 200_000)
      assert.isAbove(turns, 10)
    }).pipe(Effect.scoped, layer))
})

describe("https", () => {
  it.live("takes a certificate that names the site, and no other", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "orchestrator-tls-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const file = (name: string) => join(folder, name)
      const options = `req -x509 -newkey rsa:2048 -nodes -keyout ${file("key")} -out ${file("cert")} -days 2`
      const subject = ["-subj", "/CN=site.test", "-addext", "subjectAltName=DNS:site.test"]
      execFileSync("openssl", [...options.split(" "), ...subject], { stdio: "ignore" })
      const ca = readFileSync(file("cert"), "utf8")
      const server = yield* Effect.acquireRelease(
        Effect.sync(() =>
          createTls({ key: readFileSync(file("key")), cert: ca }, (socket) => {
            socket.on("error", () => undefined)
            socket.once("data", () => socket.end(`${head}\r\nsecret`))
          }).on("tlsClientError", () => undefined)
        ),
        (server) => Effect.sync(() => server.close())
      )
      yield* Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const trusting = Effect.provide(NodeNetwork.layer({ ca }))
      const secure = { scheme: "https" as const }
      assert.strictEqual((yield* get(request(port, secure)).pipe(trusting)).text, "secret")
      for (const name of ["other.test", "127.0.0.1"]) {
        const error = yield* Effect.flip(get(request(port, { ...secure, name })).pipe(trusting))
        assert.include(error.why, "its certificate is not valid")
      }
      assert.include((yield* Effect.flip(get(request(port, secure)).pipe(layer))).why, "its certificate is not valid")
    }).pipe(Effect.scoped))
})

it.live("a name is resolved to all its addresses; one that is none is told in words", () =>
  Effect.gen(function*() {
    const network = yield* Network
    assert.include(["127.0.0.1", "::1"], (yield* network.resolve("localhost"))[0])
    assert.match((yield* Effect.flip(network.resolve("nothing.invalid"))).why, /no such name|could not be looked up/)
  }).pipe(layer))

// Node's own server, as a check that the requests are what servers understand.
it.live("a real server understands the request", () =>
  Effect.gen(function*() {
    const server = yield* Effect.acquireRelease(
      Effect.sync(() =>
        createHttp((message, response) => response.end(`${message.method} ${message.url} ${message.headers.host}`))
      ),
      (server) => Effect.sync(() => server.close())
    )
    yield* Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void)))
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    assert.strictEqual((yield* get(request(port))).text, `GET /page?q=1 site.test:${port}`)
  }).pipe(Effect.scoped, layer))
