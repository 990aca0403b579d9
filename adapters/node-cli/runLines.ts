/** What `run` tells while it goes on: one JSON object a line for programs, the same in words for people. */
import { Clock, Console, Effect, Schema } from "effect"
import { formatCount } from "../../src/domain/Budget.ts"
import { MissionState } from "../../src/domain/Mission.ts"
import { ModelRef, SessionId } from "../../src/domain/Session.ts"
import { formatDuration, TaskState } from "../../src/domain/Task.ts"
import { ExitCode } from "./exit.ts"
import { clip, layOut, makePrinter, printable, type Tone } from "./lines.ts"

const line = <Type extends string, Fields extends Schema.Struct.Fields>(type: Type, fields: Fields) =>
  Schema.Struct({ type: Schema.Literal(type), at: Schema.Int, ...fields })

const Amount = Schema.Finite

export const TaskReport = Schema.Struct({
  id: Schema.String,
  agent: Schema.String,
  description: Schema.String,
  state: TaskState,
  run: Schema.Int,
  session: Schema.optionalKey(SessionId),
  model: Schema.optionalKey(ModelRef),
  durationMs: Amount,
  tokens: Amount,
  cost: Amount,
  /** The answer of a task that has completed. */
  result: Schema.optionalKey(Schema.String),
  /** Why it ended without one. */
  reason: Schema.optionalKey(Schema.String)
})
export type TaskReport = typeof TaskReport.Type

/** One line of `run --json`; `at` is the time in epoch milliseconds. Fields may be added in later releases. */
export const RunLine = Schema.Union([
  /** The first line. */
  line("run", {
    version: Schema.String,
    kind: Schema.Literals(["mission", "plan"]),
    directory: Schema.String,
    permissions: Schema.Literals(["yes", "deny", "ask"])
  }),
  line("host", { state: Schema.Literals(["started", "attached", "lost", "back"]), detail: Schema.String }),
  /** The mission has begun, or its state has changed. */
  line("mission", {
    id: SessionId,
    goal: Schema.String,
    state: MissionState,
    why: Schema.optionalKey(Schema.String)
  }),
  /** A task has begun, gone on to another state or run, or ended. */
  line("task", { task: TaskReport }),
  /** What an agent does: a tool that it calls, or one that was refused to it. */
  line("tool", {
    session: SessionId,
    agent: Schema.String,
    tool: Schema.String,
    input: Schema.String,
    error: Schema.optionalKey(Schema.String)
  }),
  line("toast", {
    variant: Schema.Literals(["info", "success", "warning", "error"]),
    title: Schema.String,
    message: Schema.String
  }),
  /** A permission or a question that an agent has asked, and how it was answered. */
  line("ask", {
    kind: Schema.Literals(["permission", "question"]),
    session: SessionId,
    what: Schema.String,
    answer: Schema.Literals(["allowed", "denied", "answered"]),
    why: Schema.String
  }),
  line("warning", { message: Schema.String }),
  /** The last line of a mission or a plan that was begun. */
  line("end", {
    exit: ExitCode,
    state: Schema.Literals(["complete", "failed", "halted", "stagnated", "out_of_budget", "stopped", "interrupted"]),
    why: Schema.String,
    mission: SessionId,
    durationMs: Amount,
    tokens: Amount,
    cost: Amount,
    tasks: Schema.Array(TaskReport),
    answer: Schema.String,
    /** How to go on with it; absent when it is complete. */
    resume: Schema.optionalKey(Schema.String)
  }),
  /** The last line of a command that could not begin, or that broke off. */
  line("error", { exit: ExitCode, message: Schema.String })
])
export type RunLine = typeof RunLine.Type
export type EndLine = Extract<RunLine, { type: "end" }>

const encode = Schema.encodeEffect(Schema.fromJsonString(RunLine))

// Without its time, which is added when it is told.
type Untimed<Line> = Line extends RunLine ? Omit<Line, "at"> : never

export interface Reporter {
  readonly isJson: boolean
  readonly tell: (line: Untimed<RunLine>) => Effect.Effect<void>
}

export const makeReporter = Effect.fnUntraced(function*(isJson: boolean) {
  const print = yield* makePrinter
  let isOver = false
  const reporter: Reporter = {
    isJson,
    tell: Effect.fnUntraced(function*(untimed) {
      if (isOver) return // what still happens while all is being stopped comes after the last line
      const line = { ...untimed, at: yield* Clock.currentTimeMillis } as RunLine // the time was all that lacked
      isOver = line.type === "end" || line.type === "error"
      if (isJson) return yield* Console.log(yield* Effect.orDie(encode(line))) // our own values always fit
      const words = inWords(line)
      if (words !== undefined) yield* print(...words)
    })
  }
  return reporter
})

const inWords = (line: RunLine): readonly [who: string, text: string, tone?: Tone] | undefined => {
  switch (line.type) {
    case "run":
      return ["run", permissionWords[line.permissions]]
    case "host":
      return ["OpenCode", line.detail, line.state === "lost" ? "warning" : "plain"]
    case "mission":
      return line.state === "active"
        ? ["mission", `${line.id}: ${line.goal}`, "info"]
        : [
          "mission",
          `${line.state.replaceAll("_", " ")}: ${line.why ?? ""}`,
          line.state === "complete" ? "success" : "warning"
        ]
    case "task": {
      const { agent, description, id, reason, run, state } = line.task
      const again = run > 1 ? `, run ${run}` : ""
      return [agent, `${id} ${state}${again}: ${description}${reason === undefined ? "" : `: ${reason}`}`, tones[state]]
    }
    case "tool":
      return line.error === undefined
        ? [line.agent, `${line.tool} ${line.input}`, "dim"]
        : [line.agent, `${line.tool} was refused: ${line.error}`, "warning"]
    case "toast":
      return ["orchestrator", `${line.title}: ${line.message}`, line.variant]
    case "ask":
      return ["permissions", `${line.kind} ${line.answer}: ${line.what} (${line.why})`, "warning"]
    case "warning":
      return ["warning", line.message, "warning"]
    case "end":
    case "error":
      return undefined // told at length, or by the command line itself
  }
}

const permissionWords = {
  yes: "permissions that agents ask for are given, and questions get their first answer (--yes)",
  deny: "permissions and questions that agents ask for are denied, since nobody is here (--yes allows, --ask asks you)",
  ask: "permissions and questions of agents are asked here; without an answer they are denied"
}

const tones: Readonly<Record<TaskState, Tone>> = {
  queued: "dim",
  launching: "dim",
  running: "info",
  completed: "success",
  failed: "error",
  cancelled: "warning",
  timed_out: "error"
}

/** The last line; for people: the tasks as a table, the numbers, the answer, and how to go on. */
export const tellEnd = Effect.fnUntraced(function*(reporter: Reporter, end: Omit<EndLine, "type" | "at">) {
  yield* reporter.tell({ type: "end", ...end })
  if (reporter.isJson) return
  const { answer, cost, durationMs, resume, state, tasks, tokens, why } = end
  const rows = tasks.map((task) => [
    task.agent,
    clip(task.description),
    task.state.replaceAll("_", " "),
    formatDuration(task.durationMs),
    `$${task.cost.toFixed(4)}`,
    formatCount(task.tokens)
  ])
  const table = layOut([["Agent", "Task", "State", "Duration", "Cost", "Tokens"], ...rows])
  yield* Console.log([
    "",
    ...(tasks.length === 0 ? ["No task was delegated."] : table),
    "",
    ...(answer === ""
      ? []
      : ["The answer:", ...answer.split("\n").map((text) => `  ${printable(text)}`.trimEnd()), ""]),
    `${state.replaceAll("_", " ")}: ${printable(why)}`,
    `${formatDuration(durationMs)} · ${tasks.length} tasks · ${formatCount(tokens)} tokens · $${cost.toFixed(4)}`,
    ...(resume === undefined ? [] : [`To go on: ${resume}`])
  ].join("\n"))
})
