/** Tasks in the order of who delegated them. */
import type { Task } from "./Task.ts"

export interface Branch {
  readonly task: Task
  /** 0 for what the root session delegated. */
  readonly level: number
}

/**
 * Every task once, each below the one that delegated it, siblings in their given order. What was delegated by a task that
 * is not among them stands at the top.
 */
export const asTree = (tasks: ReadonlyArray<Task>): ReadonlyArray<Branch> => {
  const below = new Map<Task | undefined, Array<Task>>()
  const bySession = Map.groupBy(tasks, ({ session }) => session)
  for (const task of tasks) {
    // A session may have worked on several tasks, one after the other.
    const inSession = (bySession.get(task.parent) ?? []).filter((other) => other !== task)
    const above = inSession.findLast(({ createdAt }) => createdAt <= task.createdAt) ?? inSession[0]
    const siblings = below.get(above)
    if (siblings === undefined) below.set(above, [task])
    else siblings.push(task)
  }
  const branches: Array<Branch> = []
  const placed = new Set<Task>()
  const place = (task: Task, level: number): void => {
    if (placed.has(task)) return
    placed.add(task)
    branches.push({ task, level })
    for (const child of below.get(task) ?? []) place(child, level + 1)
  }
  for (const task of below.get(undefined) ?? []) place(task, 0)
  for (const task of tasks) place(task, 0) // records that name each other as parents have no top
  return branches
}
