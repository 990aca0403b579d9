/**
 * Sends spans and metrics to an OpenTelemetry collector when the standard variables name one
 * (`OTEL_EXPORTER_OTLP_ENDPOINT` and its kin), as OTLP in JSON over HTTP. Else nothing is made, kept or sent.
 */
import { ConfigProvider, Effect, Layer, Metric } from "effect"
import { FetchHttpClient } from "effect/http"
import { OtlpMetrics, OtlpSerialization, OtlpTracer } from "effect/observability"
import * as Telemetry from "../../src/Telemetry.ts"

type Environment = Readonly<Record<string, string | undefined>>

const endpoints = [
  "OTEL_EXPORTER_OTLP_ENDPOINT",
  "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
  "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
]

const isWanted = (environment: Environment): boolean =>
  environment["OTEL_SDK_DISABLED"]?.toLowerCase() !== "true"
  && endpoints.some((name) => (environment[name] ?? "").trim() !== "")

export const layer = (environment: Environment): Layer.Layer<never> =>
  isWanted(environment)
    ? exporting(environment).pipe(
      // A variable that cannot be read must not keep the orchestrator from its work.
      Layer.catchCause((cause) =>
        Layer.effectDiscard(Effect.logWarning("no telemetry is sent: the OTEL_ variables cannot be used", cause))
      )
    )
    : Layer.empty

const exporting = (environment: Environment) => {
  const defined = Object.entries(environment).flatMap(([name, value]): ReadonlyArray<readonly [string, string]> =>
    value === undefined || value.trim() === "" ? [] : [[name, value]]
  )
  const env: Record<string, string> = {
    OTEL_TRACES_EXPORTER: "otlp",
    OTEL_METRICS_EXPORTER: "otlp",
    ...(/(?:^|,)\s*service\.name\s*=/.test(environment["OTEL_RESOURCE_ATTRIBUTES"] ?? "")
      ? {}
      : { OTEL_SERVICE_NAME: "opencode-orchestrator" }),
    ...Object.fromEntries(defined)
  }
  // Of its own: a process may hold several instances, and none must send what the others count.
  const registry = Layer.sync(Metric.MetricRegistry, () => new Map())
  return Telemetry.layer.pipe(
    Layer.provide(Layer.mergeAll(OtlpTracer.layerFromConfig(), OtlpMetrics.layerFromConfig())),
    Layer.provide(registry),
    Layer.provide([OtlpSerialization.layerJson, FetchHttpClient.layer]),
    Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
  )
}
