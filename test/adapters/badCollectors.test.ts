import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Layer, Scope } from "effect"
import { createServer, type RequestListener } from "node:http"
import * as Otel from "../../adapters/node-process/Otel.ts"
import { Telemetry } from "../../src/Telemetry.ts"
import { completed, running } from "../tasks/records.ts"

/** A collector on loopback that does this with every request. */
const collectorThat = (listener: RequestListener) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly close: () => void }>((resume) => {
      const server = createServer(listener)
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed({
          url: `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`,
          close: () => {
            server.close()
            server.closeAllConnections()
          }
        }))
      })
    }),
    ({ close }) => Effect.sync(close)
  ).pipe(Effect.map(({ url }) => url))

/** Tells of so many tasks from their order to their end. */
const observeTasks = (count: number) =>
  Effect.gen(function*() {
    const { task } = yield* Telemetry
    for (let index = 0; index < count; index++) {
      const begun = running(`t${index}`)
      task(undefined, begun, 3_000)
      task(begun, completed(`t${index}`, "done"), 9_000)
    }
  })

const never = () => {}

describe("a collector that", () => {
  it.live.each<readonly [string, RequestListener]>([
    ["does not answer", never],
    ["does not come to the end of its answer", (_, response) => void response.writeHead(200).write("{")],
    ["is too busy, until tomorrow", (_, response) => void response.writeHead(429, { "retry-after": "86400" }).end()],
    ["fails", (_, response) => void response.writeHead(500).end("no")],
    ["hangs up", (request) => void request.socket.destroy()]
  ])("%s does not hold up the host's end", ([, listener]) =>
    Effect.gen(function*() {
      const url = yield* collectorThat(listener)
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(
        Otel.layer({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_BSP_SCHEDULE_DELAY: "100" }),
        scope
      )
      yield* Effect.provide(observeTasks(1_000), context)
      const began = yield* Clock.currentTimeMillis
      yield* Scope.close(scope, Exit.void)
      const took = (yield* Clock.currentTimeMillis) - began
      assert.isBelow(took, 2_000)
    }).pipe(Effect.scoped))

  it.live("does not answer is hung up on after the time that a variable names", () =>
    Effect.gen(function*() {
      const hungUp = yield* Deferred.make<void>()
      const url = yield* collectorThat((request) =>
        void request.socket.once("close", () => Deferred.doneUnsafe(hungUp, Effect.void))
      )
      yield* observeTasks(1).pipe(
        Effect.andThen(Deferred.await(hungUp)),
        Effect.timeout("5 seconds"),
        Effect.provide(Otel.layer({
          OTEL_EXPORTER_OTLP_ENDPOINT: url,
          OTEL_BSP_SCHEDULE_DELAY: "100",
          OTEL_EXPORTER_OTLP_TIMEOUT: "300"
        }))
      )
    }).pipe(Effect.scoped))

  it.live("sends elsewhere is not followed there", () =>
    Effect.gen(function*() {
      let followed = 0
      const other = yield* collectorThat((_, response) => {
        followed++
        response.end("{}")
      })
      const asked = yield* Deferred.make<void>()
      const url = yield* collectorThat((_, response) => {
        response.writeHead(307, { location: `${other}/v1/traces` }).end(() => Deferred.doneUnsafe(asked, Effect.void))
      })
      yield* observeTasks(1).pipe(
        Effect.andThen(Deferred.await(asked)),
        Effect.provide(Otel.layer({ OTEL_EXPORTER_OTLP_ENDPOINT: url, OTEL_BSP_SCHEDULE_DELAY: "100" }))
      )
      assert.strictEqual(followed, 0)
    }).pipe(Effect.scoped))

  it.live("listens has all that was open at the end", () =>
    Effect.gen(function*() {
      let text = ""
      const url = yield* collectorThat((request, response) => {
        request.on("data", (chunk: Buffer) => void (text += chunk.toString())).on("end", () => response.end("{}"))
      })
      yield* Effect.gen(function*() {
        const { task } = yield* Telemetry
        task(undefined, running("open"), 3_000)
      }).pipe(Effect.provide(Otel.layer({ OTEL_EXPORTER_OTLP_ENDPOINT: url })))
      assert.include(text, "task_open")
      assert.include(text, "interrupted")
      assert.include(text, "orchestrator.tasks.running")
    }).pipe(Effect.scoped))
})
