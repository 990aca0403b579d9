/**
 * A plan: tasks and what each has to wait for, read from what an agent wrote and checked as a whole.
 *
 * A plan is written as a list (see Todo: `- [ ] T1: text | agent:Builder | depends:T2 | files:src/a.ts | parallel:A`), as
 * the same list with levels in brackets (`- [L2] text | parallel:A`), or as a JSON array of `{id, text, agent, prompt,
 * depends, files, parallel}`, where `description` may stand for `text`; it may stand in a code block.
 *
 * - Only `depends` orders tasks: without it they run at once, whatever their place, their level or their group.
 * - Levels nest like indentation. An item that others are in is a group, and no task, unless it names an agent itself:
 *   then it is a task that comes after all that is in it. What depends on a group waits for all in it; what a group
 *   depends on comes before all in it.
 * - `parallel:A` gives tasks that run side by side a common name: `depends:A` waits for all of them.
 * - `depends` names ids, texts, or such a common name, in this order. What is done or dropped is not run, and nothing
 *   waits for it.
 */
import { Result, Schema } from "effect"
import { SessionId } from "./Session.ts"
import { EndState, TaskId } from "./Task.ts"
import { codeBlocks, isParent, parse, type TodoItem } from "./Todo.ts"

/** One task of a plan. */
export const PlanNode = Schema.Struct({
  id: Schema.String,
  text: Schema.String,
  agent: Schema.String,
  /** The tasks of the plan that have to be completed first. */
  depends: Schema.Array(Schema.String),
  /** Paths, as written. */
  files: Schema.Array(Schema.String),
  /** The order to the agent. */
  prompt: Schema.String,
  /** Tasks of one group belong together: those with the same common name, else those directly in one item. */
  group: Schema.optionalKey(Schema.String),
  /** A check of what it depends on: a result that does not say PASS is a failure. */
  verdict: Schema.optionalKey(Schema.Literal(true))
})
export type PlanNode = typeof PlanNode.Type

/** Tasks in an order in which each comes after those that it depends on. */
export type Plan = ReadonlyArray<PlanNode>

/** A plan that was started. */
export const StartedPlan = Schema.Struct({
  id: Schema.String,
  /** The root session whose agent started it, and hears of its tasks' ends. */
  root: SessionId,
  /** That agent. */
  by: Schema.String,
  /** In an order that respects what each depends on. Each has the id of its task, before it is launched. */
  nodes: Schema.Array(Schema.Struct({ ...PlanNode.fields, task: TaskId })),
  createdAt: Schema.Int,
  /** How tasks of it have ended, by node. */
  ended: Schema.Record(Schema.String, EndState),
  /** How often a bad end of one task has it, or what it finds fault with, run again; never, unless set. */
  retries: Schema.optionalKey(Schema.Int),
  /** How often that was done, by the node that ended badly. */
  tried: Schema.optionalKey(Schema.Record(Schema.String, Schema.Int)),
  /** over: every task has ended, or never will be launched. stopped: nothing more of it is to be launched. */
  state: Schema.Literals(["running", "over", "stopped"])
})
export type StartedPlan = typeof StartedPlan.Type
export type StartedNode = StartedPlan["nodes"][number]

export class BadPlan extends Schema.TaggedError<BadPlan>()("BadPlan", { problems: Schema.Array(Schema.String) }) {
  override get message() {
    const shown = this.problems.slice(0, problemsShown)
    const more = this.problems.length - shown.length
    return [
      "The plan was not started. Correct this, and call again with the whole plan:",
      ...shown.map((problem) => `- ${problem}`),
      ...(more > 0 ? [`- and ${more} more.`] : [])
    ].join("\n")
  }
}

/** So many tasks may be left to run in a plan. */
export const maxTasks = 200

/** Who does what names no agent. */
const defaultAgent = "Builder"

const maxChars = 200_000
const problemsShown = 50

/** The checked plan; or all that is wrong with it, each with its place. `agents` are the names of those it may use. */
export const readPlan = (text: string, agents: ReadonlyArray<string>): Result.Result<Plan, BadPlan> => {
  const problems: Array<string> = []
  const checked = text.length > maxChars
    ? void problems.push(`A plan may have ${maxChars} characters; this one has ${text.length}.`)
    : check(entriesOf(text, problems), agents, problems)
  return checked === undefined || problems.length > 0
    ? Result.fail(new BadPlan({ problems }))
    : Result.succeed(checked)
}

/** Nodes that will never run, because of what they depend on; with the first node on their way that has failed. */
export const blockedBy = (plan: Plan, hasFailed: (id: string) => boolean): ReadonlyMap<string, string> => {
  const blocked = new Map<string, string>()
  for (const node of plan) {
    const cause = node.depends.flatMap((id) => (hasFailed(id) ? id : blocked.get(id) ?? []))[0]
    if (cause !== undefined) blocked.set(node.id, cause)
  }
  return blocked
}

/** A path that both nodes name, or that is in a folder which the other one names. */
export const sharedPath = (a: PlanNode, b: PlanNode): string | undefined =>
  a.files.find((path) => b.files.some((other) => isWithin(plainPath(path), plainPath(other))))

const isWithin = (a: string, b: string): boolean =>
  a === b || a === "" || b === "" || a.startsWith(`${b}/`) || b.startsWith(`${a}/`)

/** Two ways to write one path become the same. What has wild cards stands for its folder; case makes no difference. */
const plainPath = (path: string): string => {
  const steps: Array<string> = []
  for (const step of path.trim().toLowerCase().split(/[\\/]+/)) {
    if (/[*?{]/.test(step)) break
    if (step === ".." && steps.length > 0 && steps.at(-1) !== "..") steps.pop()
    else if (step !== "." && step !== "") steps.push(step)
  }
  return steps.join("/")
}

// ---- reading --------------------------------------------------------------------------------------------------------

/** An item as it was written, in any of the forms. */
interface Entry {
  readonly where: string
  readonly id: string | undefined
  readonly text: string
  readonly prompt: string
  readonly agent: string | undefined
  readonly depends: ReadonlyArray<string>
  readonly files: ReadonlyArray<string>
  readonly parallel: string | undefined
  readonly level: number
  readonly isGroup: boolean
  /** It, and what is in it, is not to be run. */
  readonly state: "to run" | "done" | "dropped"
}

const entriesOf = (text: string, problems: Array<string>): ReadonlyArray<Entry> => {
  const { items } = parse(text)
  if (items.length > 0) return items.map((item, index) => fromItem(item, isParent(items, index), 0))
  const blocks = codeBlocks(text)
  const json = [{ info: "json", text, line: 0 }, ...blocks].find((block) => /^\s*[[{]/.test(block.text))
  if (json !== undefined) return fromJson(json.text, problems)
  // A list that was put in a code block as a whole.
  for (const block of blocks) {
    const inside = parse(block.text).items
    if (inside.length > 0) return inside.map((item, index) => fromItem(item, isParent(inside, index), block.line))
  }
  return []
}

const fromItem = (item: TodoItem, isGroup: boolean, offset: number): Entry => ({
  where: `line ${item.line + offset}`,
  id: item.id,
  text: item.text,
  prompt: [item.text, item.details].filter((part) => part !== "").join("\n\n"),
  agent: item.agent,
  depends: item.depends,
  files: item.files,
  parallel: item.parallel,
  level: item.level,
  isGroup,
  state: item.state === "done" || item.state === "dropped" ? item.state : "to run"
})

const Names = Schema.Union([Schema.String, Schema.Array(Schema.Union([Schema.String, Schema.Finite]))])
const JsonEntry = Schema.Struct({
  id: Schema.optional(Schema.NullOr(Schema.Union([Schema.String, Schema.Finite]))),
  text: Schema.optional(Schema.NullOr(Schema.String)),
  description: Schema.optional(Schema.NullOr(Schema.String)),
  agent: Schema.optional(Schema.NullOr(Schema.String)),
  prompt: Schema.optional(Schema.NullOr(Schema.String)),
  depends: Schema.optional(Schema.NullOr(Names)),
  files: Schema.optional(Schema.NullOr(Names)),
  parallel: Schema.optional(Schema.NullOr(Schema.Union([Schema.String, Schema.Finite])))
})
const fields: ReadonlyArray<string> = Object.keys(JsonEntry.fields)
const decodeEntry = Schema.decodeUnknownOption(JsonEntry)
const decodeJson = Schema.decodeResult(Schema.fromJsonString(Schema.Unknown))
const decodeWrapped = Schema.decodeUnknownOption(
  Schema.Union([
    Schema.Struct({ tasks: Schema.Array(Schema.Unknown) }),
    Schema.Struct({ plan: Schema.Array(Schema.Unknown) })
  ])
)

const fromJson = (text: string, problems: Array<string>): ReadonlyArray<Entry> => {
  const decoded = decodeJson(text)
  if (Result.isFailure(decoded)) {
    problems.push("The JSON cannot be read: write one array of objects, in double quotes, without comments.")
    return []
  }
  const wrapped = decodeWrapped(decoded.success)
  const whole = wrapped._tag === "None"
    ? decoded.success
    : "tasks" in wrapped.value
    ? wrapped.value.tasks
    : wrapped.value.plan
  if (!Array.isArray(whole)) {
    problems.push("The JSON is not an array of tasks.")
    return []
  }
  const all: ReadonlyArray<unknown> = whole
  return all.slice(0, maxEntries + 1).flatMap((value, index): ReadonlyArray<Entry> => {
    const where = `entry ${index + 1}`
    if (typeof value === "object" && value !== null) {
      const unknown = Object.keys(value).filter((name) => !fields.includes(name))
      if (unknown.length > 0) {
        problems.push(`${where}: there is no field ${unknown.slice(0, 5).join(", ")}; there are ${fields.join(", ")}.`)
      }
    }
    const entry = decodeEntry(value)
    if (entry._tag === "None") {
      problems.push(`${where}: it must be an object of texts, with depends and files as arrays of texts.`)
      return []
    }
    const { agent, depends, description, files, id, parallel, prompt, text } = entry.value
    const words = (text ?? description ?? prompt ?? "").trim()
    return [{
      where,
      id: String(id ?? "").trim() || undefined,
      text: words,
      prompt: (prompt ?? "").trim() || words,
      agent: (agent ?? "").trim() || undefined,
      depends: namesOf(depends ?? []),
      files: namesOf(files ?? []),
      parallel: String(parallel ?? "").trim() || undefined,
      level: 0,
      isGroup: false,
      state: "to run"
    }]
  })
}

const namesOf = (names: typeof Names.Type): ReadonlyArray<string> =>
  (typeof names === "string" ? names.split(",") : names).map((name) => String(name).trim()).filter((name) =>
    name !== ""
  )

// ---- checking -------------------------------------------------------------------------------------------------------

/** Items that are looked at, groups and settled ones included. */
const maxEntries = 2_000

/** An entry with its id, and the span of those in it. */
interface Named extends Entry {
  readonly id: string
  /** The entry that this one is directly in. */
  readonly parent: number | undefined
  /** Behind the last entry that is in this one. */
  readonly end: number
  readonly isTask: boolean
}

const emptyPlan =
  "There is no task in it. Write one a line, like this: - [ ] T1: what to do | agent:Builder | depends:T2"

const check = (
  entries: ReadonlyArray<Entry>,
  agents: ReadonlyArray<string>,
  problems: Array<string>
): Plan | undefined => {
  if (entries.length === 0) return void (problems.length === 0 && problems.push(emptyPlan))
  if (entries.length > maxEntries) {
    return void problems.push(`A plan may have ${maxTasks} tasks; this one has ${entries.length}.`)
  }
  const named = nameEntries(entries, problems)
  const count = named.filter(({ isTask }) => isTask).length
  if (count === 0) problems.push("Everything in it is done or dropped; there is nothing to run.")
  if (count > maxTasks) {
    return void problems.push(`A plan may have ${maxTasks} tasks; this one has ${count}. Run it in parts.`)
  }
  const waits = resolve(named, problems)
  const nodes = named.flatMap((entry, index): ReadonlyArray<PlanNode> => {
    if (!entry.isTask) return []
    const wanted = entry.agent ?? defaultAgent
    const agent = agents.find((name) => name.toLowerCase() === wanted.toLowerCase())
    if (agent === undefined) {
      problems.push(`${entry.where}: there is no agent "${wanted}" to delegate to; there are ${agents.join(", ")}.`)
    }
    if (entry.prompt === "") problems.push(`${entry.where}: it does not say what is to be done.`)
    const { files, id, parallel, prompt, text } = entry
    // A group that is a task is the last of its own.
    const group = parallel ?? (entry.isGroup ? id : entry.parent === undefined ? undefined : named[entry.parent]?.id)
    const depends = [...waits[index] ?? []]
    return [{ id, text, agent: agent ?? wanted, depends, files, prompt, ...(group === undefined ? {} : { group }) }]
  })
  return sort(nodes, new Map(named.map(({ id, where }) => [id, where])), problems)
}

/** Gives ids to those without one, and finds what is in what and what is a task. */
const nameEntries = (entries: ReadonlyArray<Entry>, problems: Array<string>): ReadonlyArray<Named> => {
  const places = new Map<string, string>()
  for (const { id, where } of entries) {
    if (id === undefined) continue
    const known = places.get(id.toLowerCase())
    if (known === undefined) places.set(id.toLowerCase(), where)
    else problems.push(`${where}: the id ${id} stands in ${known} already.`)
  }
  let count = 0
  const free = (): string => {
    do count++
    while (places.has(`t${count}`))
    return `T${count}`
  }
  const ends = entries.map(() => entries.length)
  const above: Array<number> = []
  let dropped = Infinity
  const kept = entries.map((entry, index) => {
    while (above.length > 0 && (entries[above.at(-1) ?? 0]?.level ?? 0) >= entry.level) ends[above.pop() ?? 0] = index
    const parent = above.at(-1)
    above.push(index)
    if (entry.level <= dropped) dropped = entry.state === "dropped" ? entry.level : Infinity
    return {
      ...entry,
      id: entry.id ?? free(),
      parent,
      isTask: entry.state === "to run" && dropped === Infinity && (!entry.isGroup || entry.agent !== undefined)
    }
  })
  return kept.map((entry, index) => ({ ...entry, end: ends[index] ?? entries.length }))
}

/** For each entry the ids of the tasks that come before it: its own, those of what it is in, and what is in it. */
const resolve = (entries: ReadonlyArray<Named>, problems: Array<string>): ReadonlyArray<ReadonlySet<string>> => {
  const known = new Map<string, Array<number>>()
  // The first meaning of a name counts: an id, else a text, else a common name.
  const naming = (nameOf: (entry: Named) => string | undefined) => {
    const found = new Map<string, Array<number>>()
    for (const [index, entry] of entries.entries()) {
      const name = nameOf(entry)?.toLowerCase()
      if (name === undefined || known.has(name)) continue
      const same = found.get(name)
      if (same === undefined) found.set(name, [index])
      else same.push(index)
    }
    for (const [name, indexes] of found) known.set(name, indexes)
  }
  naming(({ id }) => id)
  naming(({ text }) => text)
  naming(({ parallel }) => parallel)
  /** All tasks; and for each entry, how many of them stand before it. */
  const tasks: Array<string> = []
  const before = entries.map(({ id, isTask }) => (isTask ? tasks.push(id) - 1 : tasks.length))
  const tasksIn = (from: number, to: number) => tasks.slice(before[from], before[to] ?? tasks.length)
  const waits: Array<Set<string>> = []
  for (const entry of entries) {
    const own = new Set(entry.parent === undefined ? [] : waits[entry.parent])
    waits.push(own)
    for (const name of new Set(entry.depends)) {
      const meant = known.get(name.toLowerCase())
      if (meant === undefined) {
        const ids = entries.slice(0, 30).map(({ id }) => id).join(", ")
        const more = entries.length > 30 ? ", …" : ""
        problems.push(`${entry.where}: it depends on "${name}", which is not in the plan; there are ${ids}${more}.`)
      }
      for (const from of meant ?? []) {
        for (const id of tasksIn(from, entries[from]?.end ?? from)) own.add(id)
      }
    }
  }
  // A group that is a task comes after what is in it.
  return waits.map((own, index) => {
    const entry = entries[index]
    return entry?.isTask === true && entry.isGroup ? new Set([...own, ...tasksIn(index + 1, entry.end)]) : own
  })
}

/** In an order that respects what each waits for, and otherwise that of the text; circles are left. */
const ordered = (nodes: Plan) => {
  const left = new Map(nodes.map((node) => [node.id, node]))
  const sorted: Array<PlanNode> = []
  for (let found = true; found;) {
    found = false
    for (const node of left.values()) {
      if (node.depends.some((id) => left.has(id))) continue
      left.delete(node.id)
      sorted.push(node)
      found = true
    }
  }
  return { left, sorted }
}

/** The plan with each node after those that it depends on. What is in a circle, or behind one, is not in it. */
export const sortPlan = (plan: Plan): Plan => ordered(plan).sorted

/** Sorted; circles are problems. */
const sort = (nodes: Plan, places: ReadonlyMap<string, string>, problems: Array<string>): Plan => {
  const { left, sorted } = ordered(nodes)
  const seen = new Set<string>()
  for (const start of left.keys()) {
    const way: Array<string> = []
    let at: string | undefined = start
    while (at !== undefined && !seen.has(at)) {
      seen.add(at)
      way.push(at)
      at = left.get(at)?.depends.find((id) => left.has(id))
    }
    // It has come upon an earlier way, or upon itself.
    const from = at === undefined ? -1 : way.indexOf(at)
    if (from < 0) continue
    const circle = way.slice(from)
    problems.push(
      `${places.get(circle[0] ?? "")}: a circle: ${[...circle, circle[0]].join(" waits for ")}. Leave one of these out.`
    )
  }
  return sorted
}
