import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Schema } from "effect"
import { createServer } from "node:http"
import * as Otel from "../../adapters/node-process/Otel.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { Telemetry } from "../../src/Telemetry.ts"
import { delegates, hangs, pass, replies, say, until, withActors, works } from "../tasks/scripts.ts"

const Attribute = Schema.Struct({
  key: Schema.String,
  value: Schema.Struct({
    stringValue: Schema.optional(Schema.String),
    intValue: Schema.optional(Schema.Union([Schema.Finite, Schema.String])),
    doubleValue: Schema.optional(Schema.Finite),
    boolValue: Schema.optional(Schema.Boolean)
  })
})
const Span = Schema.Struct({
  traceId: Schema.String,
  spanId: Schema.String,
  parentSpanId: Schema.optional(Schema.String),
  name: Schema.String,
  startTimeUnixNano: Schema.String,
  endTimeUnixNano: Schema.String,
  status: Schema.Struct({ code: Schema.Finite }),
  attributes: Schema.Array(Attribute)
})
type Span = typeof Span.Type
const Resource = Schema.Struct({ attributes: Schema.Array(Attribute) })
const Traces = Schema.fromJsonString(Schema.Struct({
  resourceSpans: Schema.Array(Schema.Struct({
    resource: Resource,
    scopeSpans: Schema.Array(Schema.Struct({ spans: Schema.Array(Span) }))
  }))
}))
const Point = Schema.Struct({
  attributes: Schema.Array(Attribute),
  asDouble: Schema.optional(Schema.Union([Schema.Finite, Schema.Null])),
  asInt: Schema.optional(Schema.Union([Schema.Finite, Schema.String, Schema.Null])),
  count: Schema.optional(Schema.Union([Schema.Finite, Schema.String]))
})
const Points = Schema.Struct({ dataPoints: Schema.Array(Point) })
const Metrics = Schema.fromJsonString(Schema.Struct({
  resourceMetrics: Schema.Array(Schema.Struct({
    scopeMetrics: Schema.Array(Schema.Struct({
      metrics: Schema.Array(Schema.Struct({
        name: Schema.String,
        sum: Schema.optional(Points),
        gauge: Schema.optional(Points),
        histogram: Schema.optional(Points)
      }))
    }))
  }))
}))

/** An OTLP collector on loopback, which keeps what it is sent. */
const collector = Effect.gen(function*() {
  const bodies: Array<{ readonly path: string; readonly text: string; readonly key: string | undefined }> = []
  const missionCame = yield* Deferred.make<void>()
  const metricsCame = yield* Deferred.make<void>()
  const server = yield* Effect.acquireRelease(
    Effect.sync(() =>
      createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", () => {
          const text = Buffer.concat(chunks).toString()
          const key = request.headers["x-key"]
          bodies.push({ path: request.url ?? "", text, key: typeof key === "string" ? key : undefined })
          response.writeHead(200, { "content-type": "application/json" }).end("{}")
          if (text.includes("\"name\":\"mission\"")) Deferred.doneUnsafe(missionCame, Effect.void)
          if (text.includes("orchestrator.task.ends")) Deferred.doneUnsafe(metricsCame, Effect.void)
        })
      })
    ),
    (server) =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )
  const url = yield* Effect.callback<string>((resume) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resume(Effect.succeed(`http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`))
    })
  })
  const spans = Effect.suspend(() =>
    Effect.forEach(bodies.filter(({ path }) => path === "/v1/traces"), ({ text }) => Schema.decodeEffect(Traces)(text))
  ).pipe(Effect.map((all) => all.flatMap(({ resourceSpans }) => resourceSpans)))
  return { url, bodies, spans, missionCame: Deferred.await(missionCame), metricsCame: Deferred.await(metricsCame) }
})

const valueOf = ({ attributes }: { readonly attributes: ReadonlyArray<typeof Attribute.Type> }, key: string) => {
  const value = attributes.find((attribute) => attribute.key === key)?.value
  return value?.stringValue ?? value?.intValue ?? value?.doubleValue ?? value?.boolValue
}

const sorted = (rows: ReadonlyArray<ReadonlyArray<unknown>>) =>
  rows.toSorted((a, b) => String(a[0]).localeCompare(String(b[0])))

/** Each span's way from the mission, as names. */
const pathsOf = (spans: ReadonlyArray<Span>): ReadonlyArray<string> => {
  const name = (span: Span) => {
    const mark = valueOf(span, "orchestrator.agent") ?? valueOf(span, "orchestrator.tool")
      ?? valueOf(span, "orchestrator.run")
    return mark === undefined ? span.name : `${span.name} ${mark}`
  }
  const path = (span: Span): string => {
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId)
    return parent === undefined ? name(span) : `${path(parent)} > ${name(span)}`
  }
  return spans.map(path)
}

const isOver = Effect.flatMap(
  Missions,
  ({ all }) => Effect.map(all, (all) => all.every(({ state }) => state !== "active"))
)

describe("telemetry", () => {
  it.effect("tells a collector of a mission and its tasks as one tree of spans, and of what they took", () =>
    Effect.gen(function*() {
      const { bodies, metricsCame, missionCame, spans, url } = yield* collector
      yield* Effect.gen(function*() {
        yield* say("goal")
        yield* until(isOver)
        yield* pass("15 seconds")
        yield* Effect.all([missionCame, metricsCame], { concurrency: 2 })
      }).pipe(
        withActors({
          goal: delegates([{ agent: "Architect", prompt: "above" }]),
          above: delegates([{ agent: "Researcher", prompt: "below 1" }], "planned"),
          below: works("5 seconds")
        }),
        Effect.provide(Otel.layer({
          OTEL_EXPORTER_OTLP_ENDPOINT: url,
          OTEL_EXPORTER_OTLP_HEADERS: "x-key=mine",
          OTEL_RESOURCE_ATTRIBUTES: "team=blue"
        }))
      )
      const resources = yield* spans
      const all = resources.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const paths = new Set(pathsOf(all))
      for (
        const path of [
          "mission",
          "mission > turn > tool call delegate_task",
          "mission > task Architect > run 1 > turn > tool call delegate_task",
          "mission > task Architect > run 1 > task Researcher > run 1 > turn"
        ]
      ) assert.isTrue(paths.has(path), `${path} is not among ${[...paths].join("\n")}`)
      assert.lengthOf(new Set(all.map(({ traceId }) => traceId)), 1)
      for (const span of all) assert.isTrue(BigInt(span.endTimeUnixNano) >= BigInt(span.startTimeUnixNano))
      const task = all.find((span) => valueOf(span, "orchestrator.agent") === "Researcher") ?? assert.fail("no task")
      assert.strictEqual(valueOf(task, "orchestrator.state"), "completed")
      assert.strictEqual(Number(valueOf(task, "orchestrator.tokens")), 110)
      assert.isAtLeast(Number(BigInt(task.endTimeUnixNano) - BigInt(task.startTimeUnixNano)) / 1e9, 5)
      assert.strictEqual(
        valueOf(resources[0]?.resource ?? assert.fail("nothing came"), "service.name"),
        "opencode-orchestrator"
      )
      assert.strictEqual(valueOf(resources[0]?.resource ?? assert.fail("nothing came"), "team"), "blue")

      const [metrics] = yield* Effect.forEach(
        bodies.filter(({ path }) => path === "/v1/metrics").slice(-1),
        ({ text }) => Schema.decodeEffect(Metrics)(text)
      )
      const named = (name: string) =>
        (metrics?.resourceMetrics ?? []).flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
          .filter((metric) => metric.name === name)
          .flatMap(({ gauge, histogram, sum }) => [gauge, histogram, sum].flatMap((points) => points?.dataPoints ?? []))
      assert.deepStrictEqual(
        sorted(
          named("orchestrator.task.ends").map((
            point
          ) => [valueOf(point, "agent"), valueOf(point, "state"), Number(point.asDouble ?? point.asInt)])
        ),
        [["Architect", "completed", 1], ["Researcher", "completed", 1]]
      )
      assert.strictEqual(
        named("orchestrator.task.queue_wait").reduce((sum, { count = 0 }) => sum + Number(count), 0),
        2
      )
      assert.deepStrictEqual(
        named("orchestrator.tasks.running").map(({ asDouble, asInt }) => Number(asDouble ?? asInt)),
        [0]
      )
      assert.isTrue(named("orchestrator.tokens").some((point) => valueOf(point, "agent") === "Commander"))

      assert.deepStrictEqual(new Set(bodies.map(({ key }) => key)), new Set(["mine"]))
      for (const { text } of bodies) {
        for (const words of ["goal", "above", "below", "planned", "done:"]) assert.notInclude(text, words)
      }
    }).pipe(Effect.scoped))

  it.effect("tells of failures and cut-off work by a word, never by a message", () =>
    Effect.gen(function*() {
      const { bodies, missionCame, spans, url } = yield* collector
      yield* Effect.gen(function*() {
        yield* say("goal")
        yield* until(Effect.map(
          Effect.flatMap(Missions, ({ all }) => all),
          (all) => all.some(({ failures }) => failures.length > 0)
        ))
      }).pipe(
        withActors({
          goal: delegates([{ prompt: "bad" }, { prompt: "long" }]),
          bad: replies(() => Effect.succeed({ status: 402, message: "no credit for the private thing" })),
          long: hangs
        }),
        Effect.provide(Otel.layer({ OTEL_EXPORTER_OTLP_ENDPOINT: url }))
      )
      yield* missionCame // sent at the end, of what was still open
      const all = (yield* spans).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const states = all.filter(({ name }) => name === "task").map((
        span
      ) => [valueOf(span, "orchestrator.state"), valueOf(span, "error.type"), span.status.code])
      assert.deepStrictEqual(sorted(states), [["failed", "failed", 2], ["interrupted", undefined, 1]])
      for (const { text } of bodies) assert.notInclude(text, "private thing")
    }).pipe(Effect.scoped))

  it.effect.each([
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: " " },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_SDK_DISABLED: "true" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "no address" }
  ])(
    "is off by default, when it is disabled, and when its variables cannot be read: %o",
    (environment) =>
      Effect.gen(function*() {
        const observer = yield* Telemetry
        const off = yield* Effect.provide(Telemetry, Otel.layer(environment))
        assert.strictEqual(off, observer)
      })
  )
})
