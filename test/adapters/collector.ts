/** An OTLP collector on loopback, and how to read what it was sent. */
import { Deferred, Effect, Schema } from "effect"
import { createServer } from "node:http"

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
export const collector = Effect.gen(function*() {
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

export const valueOf = ({ attributes }: { readonly attributes: ReadonlyArray<typeof Attribute.Type> }, key: string) => {
  const value = attributes.find((attribute) => attribute.key === key)?.value
  return value?.stringValue ?? value?.intValue ?? value?.doubleValue ?? value?.boolValue
}

/** Each span's way from the mission, as names. */
export const pathsOf = (spans: ReadonlyArray<Span>): ReadonlyArray<string> => {
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

/** The points of a metric, as they were sent last; none before. */
export const pointsOf = Effect.fnUntraced(function*(
  bodies: ReadonlyArray<{ readonly path: string; readonly text: string }>,
  name: string
) {
  const newest = bodies.findLast(({ path }) => path === "/v1/metrics")
  if (newest === undefined) return []
  const { resourceMetrics } = yield* Schema.decodeEffect(Metrics)(newest.text)
  return resourceMetrics.flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
    .filter((metric) => metric.name === name)
    .flatMap(({ gauge, histogram, sum }) => [gauge, histogram, sum].flatMap((points) => points?.dataPoints ?? []))
})
