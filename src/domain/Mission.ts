/** A mission: a goal and its life in one root session, and the pure decision of what follows when the Commander falls silent. */
import { Effect, Option, Schema } from "effect"
import { addUsage, type Amounts, type BudgetName, budgetNames, Limits, nothingSpent, Spent } from "./Budget.ts"
import { spokenLines } from "./Markdown.ts"
import { noUsage, SessionId, Tries, Usage } from "./Session.ts"
import { type Task, TaskId } from "./Task.ts"
import { cutMiddle } from "./Text.ts"

export const missionEnds = ["complete", "stopped", "halted", "out_of_budget"] as const
export const MissionState = Schema.Literals(["active", ...missionEnds])
export type MissionState = typeof MissionState.Type
export type MissionEnd = (typeof missionEnds)[number]

/** A task that failed, until the Commander has had it done, or has answered for it. */
export const Failure = Schema.Struct({
  task: TaskId,
  /** Agent and description: by it a second attempt is recognised. */
  order: Schema.String,
  reason: Schema.String,
  session: Schema.optionalKey(SessionId),
  createdAt: Schema.Int,
  answeredFor: Schema.Boolean
})
export type Failure = typeof Failure.Type

const orderOf = (task: Task): string => `${task.agent}: ${task.description}`

export const failureOf = (task: Task): Failure => ({
  task: task.id,
  order: orderOf(task),
  reason: (task.reason ?? "").slice(0, 300),
  ...(task.session === undefined ? {} : { session: task.session }),
  createdAt: task.createdAt,
  answeredFor: false
})

/** Whether a task that has completed did what the failed one was to do: in its session, or by the same order. */
export const makesUpFor = (task: Task, failure: Failure): boolean =>
  task.createdAt > failure.createdAt
  && ((task.session !== undefined && task.session === failure.session) || orderOf(task) === failure.order)

/** Absent in the records of earlier releases. */
const later = <T, E>(schema: Schema.Codec<T, E>, value: E) =>
  schema.pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

export const Mission = Schema.Struct({
  root: SessionId,
  goal: Schema.String,
  state: MissionState,
  /** It is to plan, and to build nothing: what it plans need not be done for its end. */
  planOnly: Schema.optionalKey(Schema.Literal(true)),
  /** A program runs its plan in the place of a Commander: nobody is told to go on, and it ends as that program says. */
  planned: Schema.optionalKey(Schema.Literal(true)),
  /** Why it ended so, in a sentence. */
  why: Schema.optionalKey(Schema.String),
  /** It was halted because nothing changed any more. */
  stagnated: Schema.optionalKey(Schema.Literal(true)),
  /** What was said last when it ended: by the Commander; of a plan, by who checked it. Gone as soon as it goes on. */
  answer: Schema.optionalKey(Schema.String),
  startedAt: Schema.Int,
  /** Since when time is counted that is not in `spent` yet; epoch ms. */
  countedAt: later(Schema.Int, 0),
  /** CONTINUE instructions sent since the last progress or word of the user. */
  continuations: Schema.Int,
  /** Limits that hold for it instead of the configured ones. */
  limits: later(Limits, {}),
  /** What it has used, children included. */
  spent: later(Spent, nothingSpent),
  /** What its root session had used of that. */
  rootUsage: later(Usage, noUsage),
  /** Limits that the Commander was told are near. */
  warned: later(Schema.Array(Schema.Literals(budgetNames)), []),
  /** The limit that was reached: it is being brought to its end. */
  windingUp: Schema.optionalKey(Schema.Literals(budgetNames)),
  failures: later(Schema.Array(Failure), []),
  /** What was done already to get the Commander over the errors of its turns, since its last answer. */
  tries: Schema.optionalKey(Tries)
})
export type Mission = typeof Mission.Type

export type MissionEvent =
  /** The user spoke to the Commander: a new goal, or more to the old one. */
  | { readonly type: "spoke"; readonly goal: string }
  /** Todos, files, tasks or tool results have changed. */
  | { readonly type: "progressed" }
  | { readonly type: "continued" }
  /** The instruction to go on did not reach the Commander. */
  | { readonly type: "unsent" }
  /** A turn of the Commander has failed, and it will be told to go on. */
  | { readonly type: "tried"; readonly tries: Tries }
  /** The Commander has given an answer. */
  | { readonly type: "answered" }
  /** Tasks that were launched; -1 for one that could not be after all. */
  | { readonly type: "launched"; readonly count: number }
  /** One of its sessions has used more. */
  | { readonly type: "used"; readonly isRoot: boolean; readonly before: Usage; readonly after: Usage }
  | { readonly type: "warned"; readonly names: ReadonlyArray<BudgetName> }
  | { readonly type: "windingUp"; readonly limit: BudgetName }
  | { readonly type: "raised"; readonly limits: Limits }
  | { readonly type: "failed"; readonly failure: Failure }
  | { readonly type: "answeredFor"; readonly tasks: ReadonlyArray<TaskId> }
  /** Another instance has taken it over: what passed meanwhile does not count. */
  | { readonly type: "adopted" }
  | {
    readonly type: "ended"
    readonly state: MissionEnd
    readonly why: string
    readonly stagnated?: true
    readonly answer?: string | undefined
  }
  /** It has ended, and only now it is known what was said last. */
  | { readonly type: "concluded"; readonly answer: string }

/** The limits that whoever made a root session has given its mission; they come with the session's metadata. */
export const missionLimits = (limits: Limits) => ({ orchestrator: { missionLimits: limits } })

export const limitsIn = (metadata: unknown): Limits =>
  Option.match(decodeLimits(metadata), {
    onNone: () => ({}),
    onSome: ({ orchestrator }) => orchestrator.missionLimits
  })
const decodeLimits = Schema.decodeUnknownOption(
  Schema.Struct({ orchestrator: Schema.Struct({ missionLimits: Limits }) })
)

/** How a goal begins that is only to be planned. */
export const planOrder = "Plan this goal, and build nothing yet."

export const begin = (root: SessionId, goal: string, now: number): Mission => ({
  root,
  goal: clipGoal(goal),
  state: "active",
  ...(goal.startsWith(planOrder) ? { planOnly: true } : {}),
  startedAt: now,
  countedAt: now,
  continuations: 0,
  limits: {},
  spent: nothingSpent,
  rootUsage: noUsage,
  warned: [],
  failures: []
})

/** What it has used until now. */
export const spentBy = (mission: Mission, now: number): Amounts =>
  mission.state === "active"
    ? { ...mission.spent, time: mission.spent.time + Math.max(0, now - mission.countedAt) }
    : mission.spent

/** Returns the same object when the event changes nothing. */
export const transition = (mission: Mission, event: MissionEvent, now: number): Mission => {
  const counted = { ...mission, spent: spentBy(mission, now), countedAt: now }
  switch (event.type) {
    case "spoke":
      return speak(mission, event.goal, now)
    case "used": {
      const spent = addUsage(counted.spent, event.before, event.after)
      return { ...counted, spent, ...(event.isRoot ? { rootUsage: event.after } : {}) }
    }
    case "launched":
      return { ...counted, spent: { ...counted.spent, tasks: counted.spent.tasks + event.count } }
    case "raised": {
      const { answer: _, stagnated: __, why: ___, windingUp: ____, ...rest } = counted
      return { ...rest, state: "active", limits: { ...mission.limits, ...event.limits }, warned: [], continuations: 0 }
    }
    case "failed":
      return remember(mission, event.failure)
    case "answeredFor":
      return {
        ...mission,
        failures: mission.failures.map((failure) =>
          event.tasks.includes(failure.task) ? { ...failure, answeredFor: true } : failure
        )
      }
    case "concluded":
      return mission.state === "active" || mission.answer !== undefined || event.answer.trim() === ""
        ? mission
        : { ...mission, answer: clipAnswer(event.answer) }
    default:
      if (mission.state !== "active") return mission
  }
  switch (event.type) {
    case "progressed":
      return mission.continuations === 0 ? mission : { ...mission, continuations: 0 }
    case "continued":
      return { ...counted, continuations: mission.continuations + 1 }
    case "unsent":
      return { ...counted, continuations: Math.max(0, mission.continuations - 1) }
    case "tried":
      return { ...counted, tries: event.tries }
    case "answered": {
      const { tries, ...rest } = mission
      return tries === undefined ? mission : rest
    }
    case "warned":
      return { ...mission, warned: [...new Set([...mission.warned, ...event.names])] }
    case "windingUp":
      return mission.windingUp === undefined ? { ...counted, windingUp: event.limit } : mission
    case "adopted":
      return { ...mission, countedAt: now }
    case "ended": {
      const { windingUp: _, ...rest } = counted
      const { answer = "", stagnated, state, why } = event
      return {
        ...rest,
        state,
        why,
        ...(stagnated === undefined ? {} : { stagnated }),
        ...(answer.trim() === "" ? {} : { answer: clipAnswer(answer) })
      }
    }
  }
}

/** The newest are kept. One that had to go stays away, however often it is seen again. */
const remember = (mission: Mission, failure: Failure): Mission => {
  if (mission.failures.some(({ task }) => task === failure.task)) return mission
  const failures = [...mission.failures, failure].toSorted((a, b) => a.createdAt - b.createdAt).slice(-failuresKept)
  return failures.includes(failure) ? { ...mission, failures } : mission
}

/** A mission that is complete makes room for a new one; any other goes on, with what it has spent. */
const speak = (mission: Mission, goal: string, now: number): Mission => {
  switch (mission.state) {
    case "active":
      return mission.continuations === 0 ? mission : { ...mission, continuations: 0 }
    case "complete":
      // The root's earlier turns were the earlier mission's.
      return { ...begin(mission.root, goal, now), rootUsage: mission.rootUsage }
    case "stopped":
    case "halted": {
      const { answer: _, stagnated: __, why: ___, ...rest } = mission
      return {
        ...rest,
        state: "active",
        goal: clipGoal(`${mission.goal}\n\nThe user added:\n${goal}`),
        countedAt: now,
        continuations: 0
      }
    }
    // More than it may use has to be allowed first.
    case "out_of_budget":
      return mission
  }
}

/** A goal is told whole to whoever has to know it; with all that is added it keeps its beginning and its newest words. */
const clipGoal = (goal: string): string =>
  goal.length <= goalChars ? goal : `${goal.slice(0, goalChars / 2)}\n…\n${goal.slice(-goalChars / 2)}`
const goalChars = 20_000

const clipAnswer = (answer: string): string => cutMiddle(answer.trim(), answerChars)
const answerChars = 20_000

const failuresKept = 100

/** What keeps a mission from being complete, each in a line. */
export interface Open {
  readonly todos: ReadonlyArray<string>
  readonly failures: ReadonlyArray<Failure>
}

export const openFailures = (mission: Mission | undefined): ReadonlyArray<Failure> =>
  mission?.failures.filter(({ answeredFor }) => !answeredFor) ?? []

/** What follows when the root session is idle and no task of the mission is unsettled or untold. */
export const decide = (
  mission: Mission,
  answer: string,
  open: Open,
  limit: number
): "nothing" | "complete" | "continue" | "halt" => {
  if (mission.state !== "active" || mission.windingUp !== undefined) return "nothing"
  if (saysComplete(answer) && open.todos.length === 0 && open.failures.length === 0) return "complete"
  return mission.continuations < limit ? "continue" : "halt"
}

/**
 * Whether an answer ends the mission: MISSION COMPLETE on a line of its own. Not inside a sentence, a quotation or a
 * code block, where it may be talk about missions.
 */
export const saysComplete = (answer: string): boolean =>
  spokenLines(answer).some((line) => /^\s*(?:#+\s*)?(\*\*|__)?MISSION COMPLETE[.!]?\1[.!]?\s*$/.test(line))
