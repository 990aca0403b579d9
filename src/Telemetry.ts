/**
 * What observers are told of missions while they run: spans (mission, task, run, turn, tool call) and metrics. Ids, agents,
 * states and numbers only: no prompt, no result, no words of a provider. Without `layer` nothing is kept and nothing is made.
 */
import { Clock, Context, Effect, Exit, Layer, Metric, Option, Tracer } from "effect"
import { commander } from "./agents/team.ts"
import { type Mission, spentBy } from "./domain/Mission.ts"
import { retriesOf } from "./domain/Report.ts"
import { formatModel, type HostEvent, type SessionId, totalTokens, type Usage } from "./domain/Session.ts"
import { isSettled, type Task, type TaskId } from "./domain/Task.ts"

interface Observer {
  /** A task has changed, or is new here. Times are epoch ms. */
  readonly task: (before: Task | undefined, after: Task, now: number) => void
  readonly mission: (before: Mission | undefined, after: Mission, now: number) => void
  readonly event: (event: HostEvent, now: number) => void
}

const nobody: Observer = { task: () => {}, mission: () => {}, event: () => {} }

/** Told of every change after it was made. It must not fail, and nothing waits for it. */
export const Telemetry = Context.Reference<Observer>("orchestrator/Telemetry", { defaultValue: () => nobody })

type Attributes = Readonly<Record<string, string | number | boolean | undefined>>

/** Makes spans with the Tracer, and metrics in the MetricRegistry, that are in its context. What is open at the end is ended then. */
export const layer: Layer.Layer<never> = Layer.effect(
  Telemetry,
  Effect.gen(function*() {
    const tracer = yield* Tracer.Tracer
    const clock = yield* Clock.Clock
    const context = yield* Effect.context<never>()
    const missions = new Map<SessionId, Tracer.Span>()
    const tasks = new Map<TaskId, Tracer.Span>()
    const runs = new Map<TaskId, { readonly run: number; readonly span: Tracer.Span }>()
    const turns = new Map<SessionId, { readonly span: Tracer.Span; readonly calls: Map<string, Tracer.Span> }>()
    /** Which task works in a session. */
    const workers = new Map<SessionId, TaskId>()
    const working = new Set<TaskId>()
    /** Taken over from an earlier instance, before their missions are, in whatever order: their places show later. */
    const early = new Map<TaskId, Task>()

    const begin = (name: string, parent: Tracer.Span | undefined, at: number, attributes: Attributes) => {
      const span = tracer.span({
        name,
        parent: Option.fromUndefinedOr(parent),
        annotations: Context.empty(),
        links: [],
        startTime: nanos(at),
        kind: "internal",
        root: parent === undefined,
        sampled: true
      })
      describe(span, attributes)
      return span
    }

    const count = (metric: typeof tokens, amount: number, attributes: Readonly<Record<string, string>>) => {
      if (amount > 0) Metric.withAttributes(metric, attributes).updateUnsafe(amount, context)
    }
    const measure = (metric: typeof waits, ms: number, attributes: Readonly<Record<string, string>>) =>
      Metric.withAttributes(metric, attributes).updateUnsafe(ms, context)

    const countUsage = (before: Usage, after: Usage, agent: string, model: string) => {
      const kinds = {
        input: "input",
        output: "output",
        reasoning: "reasoning",
        cacheRead: "cache_read",
        cacheWrite: "cache_write"
      } as const
      for (const kind of ["input", "output", "reasoning", "cacheRead", "cacheWrite"] as const) {
        count(tokens, after[kind] - before[kind], { agent, model, kind: kinds[kind] })
      }
      count(costs, after.cost - before.cost, { agent, model })
    }

    const endTurn = (session: SessionId, at: number, failure?: string) => {
      const turn = turns.get(session)
      if (turn === undefined) return
      turns.delete(session)
      for (const call of turn.calls.values()) finish(call, at)
      finish(turn.span, at, failure)
    }

    const turnOf = (session: SessionId, at: number) => {
      const known = turns.get(session)
      if (known !== undefined) return known
      const worker = workers.get(session)
      const parent = worker === undefined ? missions.get(session) : runs.get(worker)?.span
      if (parent === undefined) return undefined
      const turn = {
        span: begin("turn", parent, at, { "orchestrator.session": session }),
        calls: new Map<string, Tracer.Span>()
      }
      turns.set(session, turn)
      return turn
    }

    /** Parents before their children. */
    const place = (mission: SessionId, now: number) => {
      const known = [...early.values()].filter((task) => task.mission === mission)
      for (const task of known.toSorted((a, b) => a.depth - b.depth)) {
        early.delete(task.id)
        follow(undefined, task, now)
      }
    }

    const observeTask = (before: Task | undefined, after: Task, now: number) => {
      if (before === undefined && !isSettled(after) && !missions.has(after.mission)) {
        early.set(after.id, after)
        return
      }
      if (early.has(after.id)) place(after.mission, now)
      follow(before, after, now)
    }

    const follow = (before: Task | undefined, after: Task, now: number) => {
      const { agent, id, session } = after
      const model = after.model === undefined ? "" : formatModel(after.model)
      countUsage(before?.usage ?? after.usage, after.usage, agent, model)
      count(retries, before === undefined ? 0 : retriesOf(after) - retriesOf(before), { agent })
      if (session !== undefined && before?.session !== session) workers.set(session, id)
      if (!isSettled(after) && !tasks.has(id)) {
        const above = workers.get(after.parent)
        const parent = (above === undefined ? undefined : runs.get(above)?.span ?? tasks.get(above))
          ?? missions.get(after.mission)
        tasks.set(
          id,
          begin("task", parent, after.createdAt, {
            "orchestrator.task": id,
            "orchestrator.mission": after.mission,
            "orchestrator.agent": agent,
            "orchestrator.background": after.background,
            "orchestrator.depth": after.depth,
            "orchestrator.plan": after.plan?.id
          })
        )
      }
      if (before?.state === "queued" && after.state === "launching") measure(waits, now - after.createdAt, { agent })
      if (after.state === "launching" || after.state === "running") {
        working.add(id)
        const known = runs.get(id)
        if (known?.run !== after.run) {
          if (known !== undefined) endRun(known.span, session, now)
          const span = begin("run", tasks.get(id), now, {
            "orchestrator.task": id,
            "orchestrator.run": after.run,
            "orchestrator.model": model === "" ? undefined : model
          })
          runs.set(id, { run: after.run, span })
        }
      }
      if (isSettled(after) && tasks.has(id)) endTask(after, now)
      running.updateUnsafe(working.size, context)
    }

    const endRun = (span: Tracer.Span, session: SessionId | undefined, at: number, failure?: string) => {
      if (session !== undefined) endTurn(session, at, failure)
      finish(span, at, failure)
    }

    const endTask = (task: Task, now: number) => {
      const { agent, id, session, state } = task
      const at = task.endedAt ?? now
      const failure = state === "completed" || state === "cancelled" ? undefined : state
      const run = runs.get(id)
      const span = tasks.get(id)
      working.delete(id)
      runs.delete(id)
      tasks.delete(id)
      if (run !== undefined) endRun(run.span, session, at, failure)
      if (session !== undefined && workers.get(session) === id) workers.delete(session)
      count(ends, 1, { agent, state })
      measure(durations, at - (task.startedAt ?? task.createdAt), { agent, state })
      if (span === undefined) return
      describe(span, {
        "orchestrator.state": state,
        "orchestrator.session": session,
        "orchestrator.runs": task.run,
        "orchestrator.retries": retriesOf(task),
        "orchestrator.wait_ms": (task.startedAt ?? at) - task.createdAt,
        "orchestrator.tokens": totalTokens(task.usage),
        "orchestrator.cost_usd": task.usage.cost
      })
      finish(span, at, failure)
    }

    const observeMission = (before: Mission | undefined, after: Mission, now: number) => {
      const { root, state } = after
      if (before?.startedAt === after.startedAt) countUsage(before.rootUsage, after.rootUsage, commander, "")
      const span = missions.get(root)
      if (state === "active") {
        if (span !== undefined) return
        // One that goes on after its end gets a span of its own.
        const at = before === undefined || before.startedAt !== after.startedAt ? after.startedAt : now
        missions.set(root, begin("mission", undefined, at, { "orchestrator.mission": root }))
        place(root, now)
        return
      }
      if (span === undefined) return
      const spent = spentBy(after, now)
      const failure = state === "complete" || state === "stopped" ? undefined : state
      missions.delete(root)
      endTurn(root, now)
      describe(span, {
        "orchestrator.state": state,
        "orchestrator.tasks": spent.tasks,
        "orchestrator.turns": spent.turns,
        "orchestrator.tokens": spent.tokens,
        "orchestrator.cost_usd": spent.cost
      })
      finish(span, now, failure)
    }

    const observeEvent = (event: HostEvent, now: number) => {
      switch (event.type) {
        case "status":
          return void turnOf(event.session, now)
        case "idle":
          return endTurn(event.session, now)
        case "error":
          return endTurn(event.session, now, event.error.name)
        case "deleted":
          endTurn(event.session, now)
          return void workers.delete(event.session)
        case "tool":
          return observeTool(event, now)
      }
    }

    const observeTool = (event: Extract<HostEvent, { type: "tool" }>, now: number) => {
      const key = event.call ?? event.tool
      const isOver = event.status === "completed" || event.status === "error"
      const turn = isOver ? turns.get(event.session) : turnOf(event.session, now)
      const known = turn?.calls.get(key)
      if (turn === undefined || (known === undefined && isOver)) return
      const span = known ?? begin("tool call", turn.span, now, { "orchestrator.tool": event.tool })
      turn.calls.set(key, span)
      if (!isOver) return
      turn.calls.delete(key)
      finish(span, now, event.status === "error" ? "tool_error" : undefined)
    }

    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        const now = clock.currentTimeMillisUnsafe()
        for (const { mission } of early.values()) place(mission, now)
        for (const session of turns.keys()) endTurn(session, now)
        const open = [...[...runs.values()].map(({ span }) => span), ...tasks.values(), ...missions.values()]
        for (const span of open) {
          span.attribute("orchestrator.state", "interrupted") // the next instance goes on, in spans of its own
          finish(span, now)
        }
      })
    )

    return { task: observeTask, mission: observeMission, event: observeEvent }
  })
)

const nanos = (ms: number): bigint => BigInt(Math.round(ms)) * 1_000_000n

const describe = (span: Tracer.Span, attributes: Attributes): void => {
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) span.attribute(name, value)
}

/** A failure is named by a word of ours or of the host's, never by a message. */
const finish = (span: Tracer.Span, at: number, failure?: string): void => {
  if (failure !== undefined) span.attribute("error.type", failure)
  span.end(nanos(at), failure === undefined ? Exit.void : Exit.fail(failure))
}

const boundaries = [100, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000]

const waits = Metric.histogram("orchestrator.task.queue_wait", {
  description: "From a task's order to its slot",
  attributes: { unit: "ms" },
  boundaries
})
const durations = Metric.histogram("orchestrator.task.duration", {
  description: "From a task's start to its end",
  attributes: { unit: "ms" },
  boundaries
})
const ends = Metric.counter("orchestrator.task.ends", {
  description: "Tasks that have ended, by state",
  incremental: true
})
const retries = Metric.counter("orchestrator.task.retries", {
  description: "Runs after the first, and turns that were tried again",
  incremental: true
})
const tokens = Metric.counter("orchestrator.tokens", {
  description: "Tokens, by agent, model and kind",
  incremental: true
})
const costs = Metric.counter("orchestrator.cost", { description: "US dollars, by agent and model", incremental: true })
const running = Metric.gauge("orchestrator.tasks.running", { description: "Tasks that hold a child session at work" })
