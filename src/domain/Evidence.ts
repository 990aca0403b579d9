/** What counts as progress of a mission: what was done and what came of it, never what was said. */
import { Hash } from "effect"
import type { Message } from "./Session.ts"
import type { Task } from "./Task.ts"

/** Tools that only tell what the orchestrator knows already. */
const telling: ReadonlySet<string> = new Set([
  "list_tasks",
  "get_task_result",
  "check_background",
  "list_background",
  "todoread"
])

/**
 * A key for each thing that was done: a tool call with its result, a task with its state, the todos as they are. The same
 * call with the same result has the same key, whatever numbers (times, ids, counts) its output holds.
 */
export const evidence = (
  messages: ReadonlyArray<Message>,
  tasks: ReadonlyArray<Task>,
  todos: string
): ReadonlyArray<string> => [
  ...messages.flatMap(({ parts }) =>
    parts.flatMap((part) =>
      part.type === "tool" && !telling.has(part.tool) && part.status === "completed"
        ? [`call ${part.tool} ${digest(part.input)} ${digest((part.output ?? "").replace(/\d+/g, "0"))}`]
        : []
    )
  ),
  ...tasks.map((task) => `task ${task.agent} ${digest(task.prompt)} ${task.state}`),
  `todos ${digest(todos)}`
]

const digest = (text: string): string => `${text.length}:${Hash.string(text)}`
