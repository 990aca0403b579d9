/**
 * The checks of a plan that is run without a Commander: an Inspector looks at each group when all of it is completed, and
 * has the last word over the whole plan. What depends on a group waits for its PASS; all the rest goes on meanwhile.
 *
 * A check is a task of the plan like any other, so it is recorded, limited and paid for like any other.
 */
import { type Plan, type PlanNode, sortPlan } from "./Plan.ts"
import { type EndState, isSettled, outcome, type Task } from "./Task.ts"

/** How a task of a plan has ended; without a task it was not run. */
export interface End {
  readonly node: PlanNode
  readonly task: Task | undefined
}

/** The plan with its checks, made by this agent. A group that is the whole plan has the last check alone. */
export const withChecks = (plan: Plan, agent: string, goal: string): Plan => {
  const groups = [...Map.groupBy(plan, ({ group }) => group)].flatMap(([group, nodes]) =>
    group === undefined || nodes.length === plan.length ? [] : [{ group, nodes }]
  )
  const taken = new Set(plan.map(({ id }) => id.toLowerCase()))
  const checkOf = (id: string, text: string, nodes: ReadonlyArray<PlanNode>, task: string): PlanNode => {
    let free = id
    while (taken.has(free.toLowerCase())) free += "+"
    taken.add(free.toLowerCase())
    return { id: free, text, agent, depends: nodes.map(({ id }) => id), files: [], prompt: task, verdict: true }
  }
  let checked = plan
  for (const { group, nodes } of groups) {
    const check = checkOf(
      `check-${group}`,
      `Check the results of ${nodes.map(({ id }) => id).join(", ")}`,
      nodes,
      checkPrompt(`These tasks belong together in a plan (${goal}), and are completed.`)
    )
    const before = ancestors(checked, check)
    // What the group itself waits for cannot wait for its check.
    const waits = ({ depends, id }: PlanNode) => !before.has(id) && depends.some((name) => check.depends.includes(name))
    checked = [
      ...checked.map((node) => (waits(node) ? { ...node, depends: [...node.depends, check.id] } : node)),
      check
    ]
  }
  const last = checkPrompt(`A plan was carried out: ${goal}. Look above all at whether its parts fit together.`)
  return sortPlan([...checked, checkOf("check", "Check the plan's results", checked, last)])
}

/** All that comes before a node, and the node itself. */
const ancestors = (plan: Plan, node: PlanNode): ReadonlySet<string> => {
  const byId = new Map(plan.map((node) => [node.id, node]))
  const found = new Set([node.id])
  const left = [...node.depends]
  for (let id = left.pop(); id !== undefined; id = left.pop()) {
    if (found.has(id)) continue
    found.add(id)
    left.push(...byId.get(id)?.depends ?? [])
  }
  return found
}

const checkPrompt = (what: string): string =>
  [
    `${what} Check whether the results are really there and right.`,
    "Your answer begins with PASS; or with FAIL and the ids of the tasks whose work is not good, such as FAIL T1, T2, and then what is wrong with them."
  ].join("\n")

/** Whether an Inspector has found all good. */
export const passes = (answer: string): boolean => /^\W*PASS\b/m.test(answer) && !/^\W*FAIL\b/m.test(answer)

/** How a settled task of a plan counts: a check that does not say PASS has failed. */
export const endState = (node: PlanNode, task: Task): EndState =>
  isSettled(task)
    ? task.state === "completed" && node.verdict === true && !passes(outcome(task)) ? "failed" : task.state
    : "failed"

export const isGood = ({ node, task }: End): boolean => task !== undefined && endState(node, task) === "completed"

/** The tasks that a check finds fault with: those that it names behind FAIL, or else all that it has looked at. */
export const faulted = (ends: ReadonlyArray<End>, { node, task }: End): ReadonlyArray<End> => {
  if (node.verdict !== true || task?.state !== "completed" || passes(outcome(task))) return []
  const looked = ends.filter((end) => end.node.verdict !== true && node.depends.includes(end.node.id))
  const lines = [...outcome(task).matchAll(/^\W*FAIL\b(.*)$/gm)].map(([, rest = ""]) => ` ${rest} `)
  const named = looked.filter(({ node: { id } }) => lines.some((line) => isNamed(line, id)))
  return named.length > 0 ? named : looked
}

const isNamed = (line: string, id: string): boolean => {
  const [before = "", ...after] = line.toLowerCase().split(id.toLowerCase())
  const parts = [before, ...after]
  return parts.slice(1).some((next, index) => /(^|[^\w-])$/.test(parts[index] ?? "") && /^([^\w-]|$)/.test(next))
}

/**
 * What is to be run again, as a plan of its own that waits for nothing that is done: what did not come to a good end or
 * was not run, what a check finds fault with, and the checks of it. It is empty when all is good.
 */
export const again = (ends: ReadonlyArray<End>): Plan => {
  const faults = new Map<string, string>()
  for (const end of ends) {
    for (const { node } of faulted(ends, end)) {
      faults.set(node.id, [faults.get(node.id), outcomeOf(end)].filter((text) => text !== undefined).join("\n\n"))
    }
  }
  const left = new Set(ends.filter((end) => !isGood(end) || faults.has(end.node.id)).map(({ node }) => node.id))
  for (const { node } of ends) {
    if (node.verdict === true && node.depends.some((id) => left.has(id))) left.add(node.id)
  }
  const words = new Map(ends.map(({ node }) => [node.id, node]))
  return ends.filter(({ node }) => left.has(node.id)).map(({ node, task }) => {
    const why = faults.get(node.id) ?? task?.reason
    return {
      ...node,
      depends: node.depends.filter((id) => left.has(id)),
      prompt: node.verdict === true
        ? withEarlier(node, node.depends.flatMap((id) => (left.has(id) ? [] : words.get(id) ?? [])))
        : why === undefined
        ? node.prompt
        : withReason(node.prompt, why)
    }
  })
}

/**
 * What the bad end of one task has run again at once, while the rest of the plan goes on: the task itself; or what it finds
 * fault with as a check, and the checks of that. What a person, or a stop, has cancelled is not run again.
 */
export const redone = (ends: ReadonlyArray<End>, id: string): Plan => {
  const end = ends.find(({ node }) => node.id === id)
  if (end?.task === undefined || isGood(end) || end.task.state === "cancelled") return []
  const faults = new Set(faulted(ends, end).map(({ node }) => node.id))
  const why = outcome(end.task)
  return ends.flatMap(({ node, task }) => {
    if (faults.has(node.id)) return { ...node, prompt: withReason(node.prompt, why) }
    if (node.id === id) return node.verdict === true ? node : { ...node, prompt: withReason(node.prompt, why) }
    const hasLooked = node.verdict === true && task !== undefined && isSettled(task)
    return hasLooked && node.depends.some((other) => faults.has(other)) ? node : []
  })
}

const outcomeOf = ({ task }: End): string | undefined => task === undefined ? undefined : outcome(task)

const earlier = "An earlier attempt at this came to no good end:"
const reasonChars = 1_000

/** Only the newest attempt is told of. */
const withReason = (prompt: string, why: string): string => {
  const at = prompt.indexOf(`\n\n${earlier}`)
  const order = at < 0 ? prompt : prompt.slice(0, at)
  return `${order}\n\n${earlier} ${why.slice(0, reasonChars)}\nFind out what is there already, and go on from it.`
}

const before = "Completed before, and to be looked at too:"

const withEarlier = (check: PlanNode, done: ReadonlyArray<PlanNode>): string => {
  const tasks = done.flatMap(({ id, text, verdict }) => (verdict === true ? [] : `- ${id}: ${text.slice(0, 200)}`))
  return tasks.length === 0 ? check.prompt : `${check.prompt}\n\n${before}\n${tasks.join("\n")}`
}
