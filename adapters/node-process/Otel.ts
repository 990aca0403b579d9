/**
 * Sends spans and metrics to an OpenTelemetry collector when the standard variables name one
 * (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin), as OTLP in JSON over HTTP. Else nothing is made, kept or sent.
 */
import { ConfigProvider, Duration, Effect, Layer, Metric } from "effect"
import { FetchHttpClient, HttpClient, HttpClientError, type HttpClientRequest, HttpClientResponse } from "effect/http"
import { OtlpMetrics, OtlpSerialization, OtlpTracer } from "effect/observability"
import * as Telemetry from "../../src/Telemetry.ts"

type Environment = Readonly<Record<string, string | undefined>>

const signals = ["TRACES", "METRICS"] as const

const isWanted = (environment: Environment): boolean => {
  const valueOf = (name: string) => (environment[name] ?? "").trim().toLowerCase()
  return valueOf("OTEL_SDK_DISABLED") !== "true"
    && signals.some((signal) =>
      valueOf(`OTEL_EXPORTER_OTLP_${signal}_ENDPOINT`) + valueOf("OTEL_EXPORTER_OTLP_ENDPOINT") !== ""
      && (valueOf(`OTEL_${signal}_EXPORTER`) || "otlp").split(",").some((name) => name.trim() === "otlp")
    )
}

export const layer = (environment: Environment): Layer.Layer<never> =>
  isWanted(environment)
    ? exporting(environment).pipe(
      // A variable that cannot be read must not keep the orchestrator from its work. It may hold a key: only names are told.
      Layer.catchCause(() =>
        Layer.effectDiscard(Effect.logWarning(
          `no telemetry is sent: one of these variables cannot be used: ${
            Object.keys(environment).filter((name) => name.startsWith("OTEL_")).join(", ")
          }`
        ))
      )
    )
    : Layer.empty

const exporting = (environment: Environment) => {
  const given: Environment = Object.fromEntries(
    Object.entries(environment).filter(([, value]) => value !== undefined && value.trim() !== "")
  )
  const env: Environment = {
    OTEL_TRACES_EXPORTER: "otlp",
    OTEL_METRICS_EXPORTER: "otlp",
    ...(/(?:^|,)\s*service\.name\s*=/.test(given["OTEL_RESOURCE_ATTRIBUTES"] ?? "")
      ? {}
      : { OTEL_SERVICE_NAME: "opencode-orchestrator" }),
    ...given,
    ...Object.fromEntries(intervals.flatMap((name) => isTooOften(given[name]) ? [[name, String(leastInterval)]] : [])),
    // To the exporter this is how long the host may be held up at its end.
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: atEnd,
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: atEnd,
    OTEL_SDK_DISABLED: undefined
  }
  // Of its own: a process may hold several instances, and none must send what the others count.
  const registry = Layer.sync(Metric.MetricRegistry, () => new Map())
  return Telemetry.layer.pipe(
    Layer.provide(Layer.mergeAll(
      OtlpTracer.layerFromConfig().pipe(Layer.provide(client(given, "TRACES"))),
      OtlpMetrics.layerFromConfig().pipe(Layer.provide(client(given, "METRICS")))
    )),
    Layer.provide(registry),
    Layer.provide(OtlpSerialization.layerJson),
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env: defined(env) }))),
    Layer.merge(speaksGrpc(given) ? Layer.effectDiscard(Effect.logWarning(notGrpc)) : Layer.empty)
  )
}

const defined = (environment: Environment): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).flatMap(([name, value]) => value === undefined ? [] : [[name, value]]))

const speaksGrpc = (given: Environment): boolean =>
  Object.entries(given).some(([name, value = ""]) =>
    /^OTEL_EXPORTER_OTLP_(?:\w+_)?PROTOCOL$/.test(name) && value.trim().toLowerCase() === "grpc"
  )
const notGrpc = "telemetry is sent as JSON over HTTP, not by gRPC: the usual port of a collector for that is 4318"

/** In milliseconds. */
const atEnd = "800"

const intervals = ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_METRIC_EXPORT_INTERVAL"]
/** In milliseconds; without a pause the exporter would do nothing else. */
const leastInterval = 100
const isTooOften = (value = "") => /^\s*-?\d+\s*$/.test(value) && Number(value) < leastInterval

/** What the specification gives a request, in milliseconds. */
const usualTimeout = 10_000

/** The exporter itself waits for ever: for an answer, for its end, and as long as a collector asks it to wait. */
const client = (given: Environment, signal: (typeof signals)[number]) => {
  const wanted = Number(given[`OTEL_EXPORTER_OTLP_${signal}_TIMEOUT`] ?? given["OTEL_EXPORTER_OTLP_TIMEOUT"])
  const limit = Duration.millis(wanted > 0 ? wanted : usualTimeout)
  const unanswered = (request: HttpClientRequest.HttpClientRequest) =>
    new HttpClientError.HttpClientError({
      reason: new HttpClientError.TransportError({ request, description: "no answer in time" })
    })
  return Layer.effect(
    HttpClient.HttpClient,
    Effect.map(
      HttpClient.HttpClient,
      HttpClient.transform((answer, request) =>
        answer.pipe(
          Effect.tap((response) => response.arrayBuffer),
          Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.fail(unanswered(request)) }),
          Effect.map((response) =>
            response.status === 429
              ? HttpClientResponse.fromWeb(request, new Response(null, { status: 429 })) // without its Retry-After
              : response
          )
        )
      )
    )
  ).pipe(
    Layer.provide(FetchHttpClient.layer),
    // A redirect would carry keys elsewhere.
    Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" }))
  )
}
