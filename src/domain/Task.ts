/** A task: one delegated piece of work, and the pure transitions of its life. */
import { Schema } from "effect"
import {
  formatModel,
  formatUsage,
  MessageId,
  ModelRef,
  noUsage,
  SessionId,
  Tries,
  Usage,
  usageSince
} from "./Session.ts"

export const TaskId = Schema.NonEmptyString.pipe(Schema.brand("TaskId"))
export type TaskId = typeof TaskId.Type

export const endStates = ["completed", "failed", "cancelled", "timed_out"] as const
export const EndState = Schema.Literals(endStates)
export type EndState = typeof EndState.Type

export const TaskState = Schema.Literals(["queued", "launching", "running", ...endStates])
export type TaskState = typeof TaskState.Type

const Millis = Schema.Int

/** How a task gets over an error of its turn, from when that is decided until the child is told to go on. */
export const Mending = Schema.Struct({
  /** What went wrong and what is done about it, in a sentence for people. */
  says: Schema.String,
  /** When the child is told to go on, epoch ms. */
  until: Millis,
  /** What it is told. */
  instruction: Schema.String,
  /** The model it goes on with, if that is another one. */
  model: Schema.optionalKey(ModelRef),
  /** Its conversation is shortened first. */
  compact: Schema.optionalKey(Schema.Literal(true)),
  /** The message that tells it; made and recorded before it is sent. */
  promptId: Schema.optionalKey(MessageId)
})
export type Mending = typeof Mending.Type

export const Task = Schema.Struct({
  id: TaskId,
  /** The root session of the mission that the task belongs to. */
  mission: SessionId,
  /** The session that delegated it and is told of its end. */
  parent: SessionId,
  /** The plan that it was launched for, and its place there. */
  plan: Schema.optionalKey(Schema.Struct({ id: Schema.String, node: Schema.String })),
  agent: Schema.String,
  model: Schema.optionalKey(ModelRef),
  description: Schema.String,
  prompt: Schema.String,
  /** True: the parent is told by a notice. False: the parent's tool call waits and returns the result. */
  background: Schema.Boolean,
  /** 1 for a task delegated by a root session, one more for each delegation below it. */
  depth: Schema.Int,
  /** The current attempt, counted from 1. */
  run: Schema.Int,
  state: TaskState,
  /** The child session; set from the start when the task goes on in the session of an earlier one. */
  session: Schema.optionalKey(SessionId),
  /** The message that starts the current run; made and recorded before it is sent. */
  promptId: Schema.optionalKey(MessageId),
  /** The orchestrator itself broke the run off, at its end; the next instance resumes it. */
  interrupted: Schema.optionalKey(Schema.Literal(true)),
  /** The child has ended its turn and waits for tasks of its own; it holds no slot meanwhile. */
  waiting: Schema.Boolean,
  createdAt: Millis,
  startedAt: Schema.optionalKey(Millis),
  endedAt: Schema.optionalKey(Millis),
  /** When the host last reported anything of the child. */
  activityAt: Millis,
  /** The provider's words while the host retries by itself, and since when it does. */
  retrying: Schema.optionalKey(Schema.Struct({ message: Schema.String, since: Millis })),
  /** The child waits for a person's answer to a permission or a question. */
  asking: Schema.optionalKey(Schema.Literal(true)),
  /** What was done already about errors of its turns. */
  tries: Schema.optionalKey(Tries),
  /** Its turn has failed, and it goes on soon; it may wait for that without a slot. */
  mending: Schema.optionalKey(Mending),
  /** What was done about a child that shows no sign of life. */
  stalled: Schema.optionalKey(Schema.String),
  /** The child's final answer, whole. */
  result: Schema.optionalKey(Schema.String),
  /** Why it ended without one, in a sentence. */
  reason: Schema.optionalKey(Schema.String),
  /** What it has used itself. */
  usage: Usage,
  /** What its session had used for earlier tasks when it was ordered. */
  usedBefore: Schema.optionalKey(Usage),
  /** The message that tells the parent; made and recorded before it is sent. */
  notice: Schema.optionalKey(MessageId),
  /** The parent has been told of the end, or will never be able to hear it. */
  told: Schema.Boolean
})
export type Task = typeof Task.Type

/** A task as it begins: in line for its first run. */
export const queued = (
  order: Pick<Task, "id" | "mission" | "parent" | "agent" | "description" | "prompt" | "background" | "depth">,
  now: number
): Task => ({
  ...order,
  run: 1,
  state: "queued",
  waiting: false,
  createdAt: now,
  activityAt: now,
  usage: noUsage,
  told: false
})

/** What can happen to a task. Events that belong to a run carry its number, so that news of an old run changes nothing. */
export type TaskEvent =
  | { readonly type: "launching"; readonly run: number }
  | { readonly type: "created"; readonly run: number; readonly session: SessionId }
  | { readonly type: "prompting"; readonly run: number; readonly promptId: MessageId }
  | { readonly type: "prompted"; readonly run: number }
  | { readonly type: "resumed"; readonly run: number; readonly promptId: MessageId }
  /** A turn has failed; what is done about it is recorded before it is done. */
  | { readonly type: "mending"; readonly run: number; readonly tries: Tries; readonly mending: Mending }
  | { readonly type: "retrying"; readonly run: number; readonly promptId: MessageId }
  /** The child was told to go on after a failed turn, in the same run. */
  | { readonly type: "retried"; readonly run: number }
  | { readonly type: "waiting"; readonly run: number; readonly waiting: boolean }
  | { readonly type: "interrupted"; readonly run: number }
  | { readonly type: "stalled"; readonly run: number; readonly what: string }
  /** The call that waited for it is gone: its parent is told by a notice after all. */
  | { readonly type: "detached" }
  /** What its session has used in all. */
  | { readonly type: "used"; readonly usage: Usage }
  /** The host showed the child: at work, retrying, or asking a person. */
  | { readonly type: "seen"; readonly retrying?: string | undefined; readonly asking?: boolean }
  | { readonly type: "ended"; readonly run: number; readonly end: TaskEnd }
  /** `instead` names an earlier notice that never arrived. */
  | { readonly type: "telling"; readonly notice: MessageId; readonly instead?: MessageId }
  | { readonly type: "told" }

export type TaskEnd =
  | { readonly state: "completed"; readonly result: string }
  | { readonly state: "failed" | "cancelled" | "timed_out"; readonly reason: string }

export const isSettled = (task: Task): task is Task & { readonly state: EndState } =>
  (endStates as ReadonlyArray<string>).includes(task.state) // widened: includes() takes only the elements' own type

/** Ended, and its parent still has to hear of it. */
export const isUntold = (task: Task): boolean => isSettled(task) && !task.told

/** Unsettled, or untold: its mission is not over yet, and its session is still needed. */
export const isOpen = (task: Task): boolean => !isSettled(task) || !task.told

/** Decides the next state. Returns the same object when the event changes nothing: an old run, an end state, a repeat. */
export const transition = (task: Task, event: TaskEvent, now: number): Task => {
  switch (event.type) {
    case "telling":
      return isUntold(task) && task.notice === event.instead ? { ...task, notice: event.notice } : task
    case "told":
      return isUntold(task) ? { ...task, told: true } : task
    case "detached":
      return task.background || task.told ? task : { ...task, background: true }
    case "used":
      return { ...task, usage: usageSince(task.usedBefore ?? noUsage, event.usage) }
    default:
      if (isSettled(task)) return task
  }
  if (event.type === "seen") return see(task, event, now)
  if (event.type === "resumed") {
    return task.state === "running" && event.run === task.run + 1
      ? { ...quiet(task), run: event.run, promptId: event.promptId, waiting: false, activityAt: now }
      : task
  }
  if (event.run !== task.run) return task
  switch (event.type) {
    case "launching":
      return task.state === "queued" ? { ...task, state: "launching", activityAt: now } : task
    case "created":
      return task.state === "launching" && task.session === undefined ? { ...task, session: event.session } : task
    case "prompting":
      return task.state === "launching" && task.session !== undefined && task.promptId === undefined
        ? { ...task, promptId: event.promptId }
        : task
    case "prompted":
      return task.state === "launching" && task.promptId !== undefined
        ? { ...task, state: "running", startedAt: now, activityAt: now }
        : task
    case "mending":
      return task.state === "running"
        ? { ...quiet(task), tries: event.tries, mending: event.mending, activityAt: now }
        : task
    case "retrying":
      return task.mending !== undefined && task.mending.promptId === undefined
        ? { ...task, mending: { ...task.mending, promptId: event.promptId } }
        : task
    case "retried":
      return task.mending?.promptId === undefined ? task : {
        ...quiet(task),
        promptId: task.mending.promptId,
        ...(task.mending.model === undefined ? {} : { model: task.mending.model }),
        waiting: false,
        activityAt: now
      }
    case "waiting":
      return task.state === "running" && task.waiting !== event.waiting
        ? { ...task, waiting: event.waiting, activityAt: now }
        : task
    case "interrupted":
      return task.state === "running" && task.interrupted === undefined ? { ...task, interrupted: true } : task
    case "stalled":
      return task.state === "running" ? { ...task, stalled: event.what } : task
    case "ended":
      return end(task, event.end, now)
  }
}

/** Without what is true of a moment only. */
const quiet = (task: Task): Task => {
  const { asking: _, interrupted: __, mending: ___, retrying: ____, stalled: _____, ...rest } = task
  return rest
}

const end = (task: Task, outcome: TaskEnd, now: number): Task => {
  if (outcome.state === "completed" && task.state !== "running") return task
  return {
    ...quiet(task),
    state: outcome.state,
    waiting: false,
    endedAt: now,
    ...(outcome.state === "completed" ? { result: outcome.result } : { reason: outcome.reason })
  }
}

const see = (task: Task, event: Extract<TaskEvent, { type: "seen" }>, now: number): Task => {
  const { asking: _, retrying, stalled: __, ...rest } = task
  return {
    ...rest,
    activityAt: now,
    ...(event.asking === true ? { asking: true } : {}),
    ...(event.retrying === undefined ? {} : { retrying: { message: event.retrying, since: retrying?.since ?? now } })
  }
}

/**
 * Of two records of one task, the one that is further along: a task only ever moves forward. Two journals may hold it
 * when an instance died while it took over the records of another.
 */
export const further = (a: Task, b: Task): Task => {
  const steps = (task: Task) => [
    Number(isSettled(task)),
    Number(task.told),
    task.run,
    task.tries?.spent ?? 0,
    task.mending === undefined ? 2 : Number(task.mending.promptId !== undefined),
    ["queued", "launching", "running"].indexOf(task.state),
    Number(task.notice !== undefined),
    Number(task.promptId !== undefined),
    Number(task.session !== undefined),
    task.activityAt
  ]
  const [left, right] = [steps(a), steps(b)]
  const difference = left.map((step, index) => step - (right[index] ?? 0)).find((step) => step !== 0) ?? 0
  return difference < 0 ? b : a
}

/** Milliseconds from the start of the work (or from the order, before it started) to the end (or to now). */
export const duration = (task: Task, now: number): number => (task.endedAt ?? now) - (task.startedAt ?? task.createdAt)

/** A duration in words: `320 ms`, `12 s`, `3 min 4 s`, `2 h 5 min`. */
export const formatDuration = (ms: number): string => {
  if (ms < 1_000) return `${Math.max(0, Math.round(ms))} ms`
  const seconds = Math.round(ms / 1_000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes} min` : `${minutes} min ${seconds % 60} s`
  return minutes % 60 === 0 ? `${minutes / 60} h` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A task on one line: state, age, agent, what it is about, and what is special about it. `place` is its place in line. */
export const describeTask = (task: Task, now: number, place: number | undefined): string =>
  `${task.id} ${
    [
      `${task.state}${place === undefined ? "" : ` at place ${place}`}${
        task.waiting ? ", waits for its own tasks" : ""
      }`,
      formatDuration(duration(task, now)),
      task.agent,
      task.description,
      ...(task.run > 1 ? [`run ${task.run}`] : []),
      ...(task.retrying === undefined ? [] : [`the host retries: ${task.retrying.message}`]),
      ...(task.mending === undefined ? [] : [task.mending.says]),
      ...(task.asking === true ? ["waits for the user's answer"] : []),
      ...(task.stalled === undefined ? [] : [task.stalled]),
      formatUsage(task.usage),
      ...(task.model === undefined ? [] : [formatModel(task.model)])
    ].join(" · ")
  }`

/** What became of a task, as a sentence about it goes on. */
export const endWords: Record<EndState, string> = {
  completed: "completed",
  failed: "failed",
  cancelled: "was cancelled",
  timed_out: "ran out of time"
}

/** The first line of every answer about an ended task: id, what became of it, agent, description, duration. */
export const headline = (task: Task & { readonly state: EndState }, now: number): string =>
  `${task.id} ${endWords[task.state]} after ${
    formatDuration(duration(task, now))
  } · ${task.agent} · ${task.description}`

/** What the task has to say for itself: its result, or why there is none. */
export const outcome = (task: Task): string =>
  task.state === "completed" ? (task.result?.trim() || "(no output)") : (task.reason ?? "No reason was recorded.")

/** The task with all that was written about it, and by it, changed. */
export const withTexts = (task: Task, change: (text: string) => string): Task => ({
  ...task,
  description: change(task.description),
  prompt: change(task.prompt),
  ...(task.result === undefined ? {} : { result: change(task.result) }),
  ...(task.reason === undefined ? {} : { reason: change(task.reason) })
})

/** Tells a parent whose turn was cut off which of its tasks it need not delegate again; nothing when there are none. */
export const goingOn = (tasks: ReadonlyArray<Task>): ReadonlyArray<string> => {
  // A waiting call that was cut off took its task with it.
  const coming = tasks.filter((task) => isOpen(task) && (task.background || !isSettled(task)))
  return coming.length === 0 ? [] : [
    "You need not delegate these tasks again, and will be told of their ends:",
    ...coming.map((task) => `- ${task.id} (${task.agent}): ${task.description}`)
  ]
}
