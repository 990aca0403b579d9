import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { createServer, type RequestListener, type Server } from "node:http"
import { reach } from "../../adapters/node-cli/hosts.ts"

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
