import { assert, describe, it } from "@effect/vitest"
import { Effect, Tracer } from "effect"
import * as Otel from "../../adapters/node-process/Otel.ts"
import { totalTokens } from "../../src/domain/Session.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { Telemetry } from "../../src/Telemetry.ts"
import {
  delegate,
  delegates,
  hangs,
  isWorking,
  pass,
  replies,
  say,
  start,
  states,
  tasks,
  until,
  withActors,
  withWorld,
  works
} from "../tasks/scripts.ts"
import { collector, pathsOf, pointsOf, valueOf } from "./collector.ts"

const sorted = (rows: ReadonlyArray<ReadonlyArray<unknown>>) =>
  rows.toSorted((a, b) => String(a[0]).localeCompare(String(b[0])))

const isOver = Effect.flatMap(
  Missions,
  ({ all }) => Effect.map(all, (all) => all.length > 0 && all.every(({ state }) => state !== "active"))
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

      assert.deepStrictEqual(
        sorted(
          (yield* pointsOf(bodies, "orchestrator.task.ends")).map((
            point
          ) => [valueOf(point, "agent"), valueOf(point, "state"), Number(point.asDouble ?? point.asInt)])
        ),
        [["Architect", "completed", 1], ["Researcher", "completed", 1]]
      )
      assert.strictEqual(
        (yield* pointsOf(bodies, "orchestrator.task.queue_wait")).reduce(
          (sum, { count = 0 }) => sum + Number(count),
          0
        ),
        2
      )
      assert.deepStrictEqual(
        (yield* pointsOf(bodies, "orchestrator.tasks.running")).map(({ asDouble, asInt }) => Number(asDouble ?? asInt)),
        [0]
      )
      assert.isTrue(
        (yield* pointsOf(bodies, "orchestrator.tokens")).some((point) => valueOf(point, "agent") === "Commander")
      )

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

  it.effect("tells of work that an earlier instance began at its place in the tree, and counts no end of that one's", () =>
    Effect.gen(function*() {
      const { bodies, missionCame, spans, url } = yield* collector
      yield* Effect.gen(function*() {
        const first = yield* start()
        yield* first.do(say("goal"))
        yield* until(first.do(isWorking("below 2")))
        yield* until(first.do(Effect.map(states, (all) => all.includes("completed"))))
        yield* first.kill
        yield* Effect.gen(function*() {
          const second = yield* start()
          yield* until(second.do(isOver), "30 minutes")
          yield* pass("15 seconds")
          yield* missionCame
          yield* second.end
        }).pipe(Effect.scoped, Effect.provide(Otel.layer({ OTEL_EXPORTER_OTLP_ENDPOINT: url })))
      }).pipe(withWorld({
        goal: delegates([{ agent: "Architect", prompt: "above" }]),
        above: delegates(
          [{ agent: "Researcher", prompt: "quick 1" }, { agent: "Researcher", prompt: "below 2" }],
          "planned"
        ),
        quick: works("5 seconds"),
        below: works("1 minute")
      }))
      const all = (yield* spans).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const paths = pathsOf(all)
      const ways = paths.filter((path) => /task \w+$/.test(path))
      assert.deepStrictEqual(ways.map((path) => path.replace(/run \d/, "run")).toSorted(), [
        "mission > task Architect",
        "mission > task Architect > run > task Researcher"
      ])
      assert.lengthOf(new Set(all.map(({ traceId }) => traceId)), 1)
      const ends = yield* pointsOf(bodies, "orchestrator.task.ends")
      assert.deepStrictEqual(
        sorted(ends.map((point) => [valueOf(point, "agent"), valueOf(point, "state"), Number(point.asDouble)])),
        [["Architect", "completed", 1], ["Researcher", "completed", 1]]
      )
    }).pipe(Effect.scoped))

  it.effect("hangs turns that were tried again below their run, and a task that goes on in an earlier one's session beside it", () =>
    Effect.gen(function*() {
      const { bodies, metricsCame, missionCame, spans, url } = yield* collector
      const recorded = yield* Effect.gen(function*() {
        yield* say("goal")
        yield* until(isOver, "3 hours")
        const recorded = yield* tasks
        yield* pass("15 seconds")
        yield* Effect.all([missionCame, metricsCame], { concurrency: 2 })
        return recorded
      }).pipe(
        withActors({
          goal: replies(
            { toolCalls: [delegate({ prompt: "flaky 1" })] },
            { text: "I wait." },
            (request) => {
              const [, resume = ""] = /(task_\w+) completed/.exec(request.users.join("\n")) ?? []
              return Effect.succeed({ toolCalls: [delegate({ prompt: "and more", resume })] })
            },
            { text: "I wait." },
            { text: "Done.\nMISSION COMPLETE" }
          ),
          flaky: replies(...Array.from({ length: 6 }, () => ({ status: 529, message: "Overloaded" })), { text: "done" })
        }),
        Effect.provide(Otel.layer({ OTEL_EXPORTER_OTLP_ENDPOINT: url }))
      )
      const all = (yield* spans).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const paths = pathsOf(all).filter((path) => path.startsWith("mission > task")).toSorted()
      assert.deepStrictEqual(paths, [
        "mission > task Builder",
        "mission > task Builder",
        "mission > task Builder > run 1",
        "mission > task Builder > run 1",
        "mission > task Builder > run 1 > turn",
        "mission > task Builder > run 1 > turn",
        "mission > task Builder > run 1 > turn"
      ])
      const retries = yield* pointsOf(bodies, "orchestrator.task.retries")
      assert.deepStrictEqual(retries.map(({ asDouble }) => asDouble), [1])
      const tokens = (yield* pointsOf(bodies, "orchestrator.tokens")).filter((point) =>
        valueOf(point, "agent") === "Builder"
      ).reduce((sum, { asDouble }) => sum + Number(asDouble), 0)
      assert.lengthOf(recorded, 2)
      assert.strictEqual(tokens, recorded.reduce((sum, { usage }) => sum + totalTokens(usage), 0))
    }).pipe(Effect.scoped))

  it.effect("makes no span of its own where it is off", () =>
    Effect.gen(function*() {
      const names = new Set<string>()
      const native = yield* Tracer.Tracer
      const noting = Tracer.make({
        span: (options) => {
          names.add(options.name)
          return native.span(options)
        }
      })
      yield* Effect.gen(function*() {
        yield* say("goal")
        yield* until(isOver)
      }).pipe(
        withActors({ goal: delegates([{ prompt: "work 1" }]), work: works("5 seconds") }),
        Effect.provideService(Tracer.Tracer, noting)
      )
      assert.isTrue(names.has("TaskManager.launch"))
      for (const name of ["mission", "task", "run", "turn", "tool call"]) assert.isFalse(names.has(name), name)
    }))

  it.effect.each([
    {},
    { OTEL_EXPORTER_OTLP_ENDPOINT: " " },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_SDK_DISABLED: "true" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "no address" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" },
    { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "http://127.0.0.1:1", OTEL_METRICS_EXPORTER: "console" },
    { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_BSP_SCHEDULE_DELAY: "soon" }
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
