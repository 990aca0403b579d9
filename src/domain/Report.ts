/** What is to be told of a mission afterwards: its facts, and the same as text for people and as data for programs. */
import { Result, Schema } from "effect"
import { type Amounts, budgetNames, formatSpent, Spent } from "./Budget.ts"
import { Mission, openFailures, spentBy } from "./Mission.ts"
import { formatUsage, SessionId, totalTokens } from "./Session.ts"
import { duration, formatDuration, isSettled, outcome, Task, withTexts } from "./Task.ts"
import { asTree } from "./TaskTree.ts"

export interface Report {
  readonly root: SessionId
  /** Undefined where tasks were delegated without a mission, or it was forgotten since. */
  readonly mission: Mission | undefined
  readonly tasks: ReadonlyArray<Task>
  /** What it may use. */
  readonly limits: Amounts
  /** When the report is made, epoch ms. */
  readonly now: number
  /** How far it is, in a line. */
  readonly progress?: string | undefined
  /** Steps of its plan that are not done. */
  readonly openTodos?: ReadonlyArray<string>
}

/** The report with everything masked that people and agents wrote: it is made to be passed on. */
export const maskReport = (report: Report, mask: (text: string) => string): Report => {
  const { mission, openTodos = [], tasks } = report
  return {
    ...report,
    mission: mission === undefined ? undefined : {
      ...mission,
      goal: mask(mission.goal),
      ...(mission.why === undefined ? {} : { why: mask(mission.why) }),
      ...(mission.answer === undefined ? {} : { answer: mask(mission.answer) }),
      failures: mission.failures.map((failure) => ({
        ...failure,
        order: mask(failure.order),
        reason: mask(failure.reason)
      }))
    },
    tasks: tasks.map((task) => withTexts(task, mask)),
    openTodos: openTodos.map(mask)
  }
}

/** How often a task was begun anew or told to go on after an error. */
export const retriesOf = (task: Task): number => task.run - 1 + (task.tries?.spent ?? 0)

/** Milliseconds from the order to the slot, and from there to the end; both until `now` while they last. */
export const timesOf = (task: Task, now: number): { readonly waited: number; readonly worked: number } => {
  const end = task.endedAt ?? now
  const started = Math.min(task.startedAt ?? end, end)
  return { waited: Math.max(0, started - task.createdAt), worked: Math.max(0, end - started) }
}

/** What the report's tasks have used together: also where no mission counts it. */
export const usedByTasks = (tasks: ReadonlyArray<Task>): { readonly tokens: number; readonly cost: number } => ({
  tokens: tasks.reduce((sum, { usage }) => sum + totalTokens(usage), 0),
  cost: tasks.reduce((sum, { usage }) => sum + usage.cost, 0)
})

/** `halted: The Commander was told to go on 5 times …`. */
export const stateLine = (mission: Mission): string =>
  `${mission.state.replaceAll("_", " ")}${mission.why === undefined ? "" : `: ${mission.why}`}`

/** Whose words the answer of a mission are. */
export const answerTitle = ({ planned, state }: Mission): string =>
  planned === true
    ? "The final answer: the check of the plan"
    : state === "complete"
    ? "The final answer"
    : "The Commander's last words"

/** Used and allowed, of each budget, on one line. */
export const budgetLine = (mission: Mission, limits: Amounts, now: number): string => {
  const spent = spentBy(mission, now)
  return budgetNames.map((name) => formatSpent(name, spent, limits)).join(" · ")
}

/** State, budget and progress of a mission, each on a line. */
export const missionLines = ({ limits, mission, now, progress }: Report): ReadonlyArray<string> =>
  mission === undefined ? ["No mission was started in this session."] : [
    `Mission: ${stateLine(mission)}`,
    `Budget used: ${budgetLine(mission, limits, now)}`,
    ...(progress === undefined ? [] : [`Progress: ${progress}`])
  ]

/** With `results: "brief"` each is one line of a few hundred characters, to be read in a conversation. */
export const toMarkdown = (report: Report, results: "brief" | "whole"): string => {
  const { mission, now, openTodos = [], tasks } = report
  const failures = openFailures(mission).map(({ order, reason, task }) => `- ${task} (${order}): ${reason}`)
  const retried = tasks.filter((task) => retriesOf(task) > 0).map((task) =>
    `- ${task.id} (${inLine(task.description)}): ${task.run} runs, ${task.tries?.spent ?? 0} retries of failed turns`
  )
  const settled = tasks.filter(isSettled)
  return [
    "# Mission report",
    ...(mission === undefined ? [] : [`Goal: ${results === "whole" ? quoted(mission.goal) : mission.goal}`]),
    ...missionLines(report),
    ...section("Open todos", openTodos.map((todo) => `- ${todo}`)),
    ...section("Failures that were not answered for", failures),
    // In a conversation it stands already.
    ...(results === "brief" || mission?.answer === undefined
      ? []
      : section(answerTitle(mission), [quoted(mission.answer)])),
    "",
    "## Tasks",
    ...(tasks.length === 0 ? ["There are no tasks at hand; older ones are in .opencode/archive/."] : [
      "| task | agent | what | state | time | tokens and cost |",
      "| --- | --- | --- | --- | --- | --- |",
      ...tasks.map((task) => row(task, now)),
      ...(results === "whole" ? section("Retries", retried) : []),
      "",
      "## Results",
      ...settled.map((task) =>
        results === "brief"
          ? `- ${task.id} (${task.description}): ${brief(outcome(task))}`
          : `\n### ${task.id}: ${inLine(task.description)}\n\n${quoted(outcome(task))}`
      )
    ])
  ].join("\n")
}

const section = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? [] : ["", `## ${title}`, ...lines]

const row = (task: Task, now: number): string =>
  `| ${
    [
      task.id,
      task.agent,
      task.description,
      task.state,
      formatDuration(duration(task, now)),
      formatUsage(task.usage)
    ].map(inLine).join(" | ")
  } |`

/** What agents write must neither end a cell nor become markup. */
const inLine = (text: string): string => text.replace(/\s+/g, " ").replace(/[|<]/g, "\\$&")

const brief = (text: string): string => {
  const line = text.replace(/\s+/g, " ").trim()
  return line.length <= 300 ? line : `${line.slice(0, 299)}…`
}

/** In a fence that nothing inside can end. */
const quoted = (text: string): string => {
  const longest = text.match(/`+/g)?.reduce((most, { length }) => Math.max(most, length), 2) ?? 2
  const fence = "`".repeat(longest + 1)
  return `\n${fence}text\n${text}\n${fence}`
}

const ReportFile = Schema.fromJsonString(Schema.Struct({
  version: Schema.Literal(1),
  /** Epoch ms, as all times in it. */
  madeAt: Schema.Int,
  root: SessionId,
  mission: Schema.optionalKey(Mission),
  spent: Schema.optionalKey(Spent),
  limits: Spent,
  answer: Schema.optionalKey(Schema.String),
  tasks: Schema.Array(Task)
}))

/** Each task below the one that delegated it; prompts and results are whole. */
export const toJson = ({ limits, mission, now, root, tasks }: Report): string =>
  Result.getOrThrow(
    Schema.encodeResult(ReportFile)({ // it came out of our own schemas
      version: 1,
      madeAt: now,
      root,
      ...(mission === undefined ? {} : { mission, spent: spentBy(mission, now) }),
      limits,
      ...(mission?.answer === undefined ? {} : { answer: mission.answer }),
      tasks: asTree(tasks).map(({ task }) => task)
    })
  )
