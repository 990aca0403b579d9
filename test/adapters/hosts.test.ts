import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FileSystem, Queue } from "effect"
import { TestClock } from "effect/testing"
import { createServer, type RequestListener, type Server } from "node:http"
import { reach, start } from "../../adapters/node-cli/hosts.ts"

/** The address of a server that answers so. */
const serving = Effect.fnUntraced(function*(answer: RequestListener) {
  const server = yield* Effect.acquireRelease(
    Effect.callback<Server>((resume) => {
      const server = createServer(answer).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )
  const address = server.address()
  return `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`
})

const json = { "content-type": "application/json" }

describe("a server that is reached by its address", () => {
  it.effect("may take longer than it has to say what it is, to make a project ready", () =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<() => void>()
      const url = yield* serving((request, response) => {
        if (request.url?.startsWith("/global/health") === true) {
          response.writeHead(200, json).end(JSON.stringify({ healthy: true, version: "1.2.3" }))
          return
        }
        const end = () => void response.writeHead(200, json).end(JSON.stringify({ directory: "/a/b", worktree: "/a" }))
        Deferred.doneUnsafe(asked, Effect.succeed(end))
      })
      const reaching = yield* Effect.forkChild(reach(url, "/a/b"))
      const end = yield* Deferred.await(asked)
      yield* TestClock.adjust("100 seconds")
      end()
      assert.deepInclude(yield* Fiber.join(reaching), { root: "/a", version: "1.2.3" })
    }))

  it.effect("that never says what it is, is not waited for", () =>
    Effect.gen(function*() {
      const asked = yield* Deferred.make<void>()
      const url = yield* serving(() => Deferred.doneUnsafe(asked, Effect.void))
      const reaching = yield* Effect.forkChild(Effect.flip(reach(url, "/a")))
      yield* Deferred.await(asked)
      yield* TestClock.adjust("20 seconds")
      assert.include((yield* Fiber.join(reaching)).message, "has not answered, as an OpenCode does, within 20 seconds")
    }))

  it.effect.each(
    [
      ["a page", "<!doctype html>", { "content-type": "text/html" }],
      ["other data", "{}", json]
    ] as const
  )("that answers with %s is told apart from none at all", ([, body, headers]) =>
    Effect.gen(function*() {
      const url = yield* serving((_, response) => void response.writeHead(200, headers).end(body))
      const { message } = yield* Effect.flip(reach(url, "/a"))
      assert.include(message, `What answers at ${url} is no OpenCode`)
    }))
})

/** A program that serves as OpenCode does, and ends at once where the file beside it says how often yet. */
const fakeProgram = `#!${process.execPath}
const fs = require("node:fs")
const left = fs.existsSync(__dirname + "/refusals") ? Number(fs.readFileSync(__dirname + "/refusals")) : 0
if (left > 0) {
  fs.writeFileSync(__dirname + "/refusals", String(left - 1))
  console.error("ServeError")
  process.exit(1)
}
const port = process.argv[process.argv.indexOf("--port") + 1]
const answers = { "/global/health": { healthy: true, version: "9.9.9" }, "/path": { directory: "/a", worktree: "/a" } }
require("node:http").createServer((request, response) => {
  if (request.url.startsWith("/global/dispose")) process.exit(1)
  response.writeHead(200, { "content-type": "application/json" })
  response.end(JSON.stringify(answers[request.url.split("?")[0]] ?? []))
}).listen(port, "127.0.0.1", () => console.log("listening on http://127.0.0.1:" + port))
`

describe("a server that is started", () => {
  it.live(
    "comes back at its address, also when it does not come up at once; and is given up in the end",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const folder = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-program-" })
        const file = `${folder}/opencode`
        yield* fs.writeFileString(file, fakeProgram, { mode: 0o755 })
        const news = yield* Queue.unbounded<string>()
        const host = yield* start({
          program: { file, from: "the project" },
          directory: folder,
          env: {},
          news: (state, detail) => Queue.offer(news, `${state}: ${detail}`)
        })
        assert.deepInclude(host, { root: "/a", version: "9.9.9" })
        assert.notInclude(host.url, ":4096") // which the next OpenCode would take, too
        assert.match(yield* Queue.take(news), /^started: /)
        const die = Effect.ignore(Effect.tryPromise(() => host.client.global.dispose()))
        yield* fs.writeFileString(`${folder}/refusals`, "1")
        yield* die
        assert.match(yield* Queue.take(news), /^lost: OpenCode has died/)
        assert.match(yield* Queue.take(news), /^lost: OpenCode ended before it was listening.*\n +ServeError$/)
        assert.strictEqual(yield* Queue.take(news), `back: OpenCode was started again at ${host.url}`)
        yield* fs.writeFileString(`${folder}/refusals`, "9")
        yield* die
        assert.include((yield* Effect.flip(host.gone)).message, "OpenCode has died 6 times")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    30_000
  )
})
