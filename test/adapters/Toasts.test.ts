import { assert, describe, it } from "@effect/vitest"
import { createOpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Effect, Layer, Queue } from "effect"
import * as Toasts from "../../adapters/opencode-plugin/Toasts.ts"
import { makeMask, secretsOf } from "../../src/domain/Secrets.ts"
import { Mask } from "../../src/host/Mask.ts"
import { Notifier } from "../../src/host/Notifier.ts"

const secret = "gh" + "p_" + "a1".repeat(18)
const mask = Layer.succeed(Mask, makeMask(secretsOf({ DEPLOY_PASSWORD: "open sesame" })))

/** A client whose requests are kept, and answered with yes. */
const recording = Effect.gen(function*() {
  const bodies = yield* Queue.unbounded<string>()
  const client = createOpencodeClient({
    baseUrl: "http://localhost",
    fetch: async (request) => {
      Queue.offerUnsafe(bodies, await new Request(request).text())
      return new Response("true", { headers: { "content-type": "application/json" } })
    }
  })
  return { client, next: Queue.take(bodies) }
})

describe("on its way to the host, no secret is left in", () => {
  it.live("a log line and its cause", () =>
    Effect.gen(function*() {
      const { client, next } = yield* recording
      yield* Effect.logWarning(`it has ${secret}`, new Error("and open sesame")).pipe(
        Effect.andThen(next),
        Effect.map((body) =>
          assert.include(body, "it has [masked GitHub token] and [masked environment secret]", "as one line")
        ),
        Effect.provide(Toasts.layerLogger(client).pipe(Layer.provide(mask)))
      )
    }))

  it.live("a log line that is too long, also where it is cut", () =>
    Effect.gen(function*() {
      const { client, next } = yield* recording
      yield* Effect.logWarning("-".repeat(19_990) + " " + secret + "-".repeat(100_000)).pipe(
        Effect.andThen(next),
        Effect.map((body) => {
          assert.notInclude(body, "a1a1")
          assert.isBelow(body.length, 21_000)
        }),
        Effect.provide(Toasts.layerLogger(client).pipe(Layer.provide(mask)))
      )
    }))

  it.live("a toast", () =>
    Effect.gen(function*() {
      const { client, next } = yield* recording
      yield* Effect.gen(function*() {
        const notifier = yield* Notifier
        yield* notifier.show({ variant: "info", title: `of ${secret}`, message: "open sesame" })
        const body = yield* next
        assert.include(body, "of [masked GitHub token]")
        assert.include(body, "\"[masked environment secret]\"")
      }).pipe(Effect.provide(Toasts.layer(client, true).pipe(Layer.provide(mask))))
    }))
})
