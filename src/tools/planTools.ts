/** The tool that runs plans. */
import { Effect, Schema } from "effect"
import { type Standing, TaskDecomposer } from "../mission/TaskDecomposer.ts"
import * as Tool from "./Tool.ts"

export const makePlanTools = Effect.gen(function*() {
  const decomposer = yield* TaskDecomposer

  const runPlan = Tool.make({
    name: "run_plan",
    description:
      "Runs a whole plan: each task starts as soon as those it depends on are completed, and tasks that name the same file "
      + "never run at once. You are told of all results in one message when the plan is over. When a task fails, what "
      + "depends on it is not run, and the rest is.",
    parameters: Schema.Struct({
      plan: Schema.String.annotate({
        description:
          "One task a line, `- [ ] T1: what to do | agent:Builder | depends:T2,T3 | files:src/a.ts`, with more about it on "
          + "indented lines below; or a JSON array of {id, text, agent, prompt, depends, files}. A task sees its own text and "
          + "the results of those it depends on, nothing else. Done items ([x]) are not run."
      })
    }),
    handler: Effect.fnUntraced(function*({ plan: text }, caller) {
      const plan = yield* decomposer.run(text, caller)
      const all = decomposer.standings(plan)
      const lines = (title: string, some: ReadonlyArray<string>) => (some.length === 0 ? [] : [title, ...some])
      const started = all.flatMap(({ node, state }) =>
        state === "launched" || state === "ended"
          ? `- ${node.id} ${node.task} (${node.agent}): ${shorten(node.text)}`
          : []
      )
      const blocked = all.flatMap(({ node, state }) =>
        state === "blocked" ? `- ${node.id} (${node.agent}): ${shorten(node.text)}` : []
      )
      const waiting = waitingLines(all)
      return [
        `${plan.id} runs: ${all.length === 1 ? "1 task" : `${all.length} tasks`}, ${started.length} started.`,
        ...lines("Started:", started),
        ...lines("Waiting:", waiting),
        ...lines("Not run, because something before them failed at once:", blocked),
        "You will be told of all results in one message when the plan is over. End your turn."
      ].join("\n")
    })
  })

  const tools: ReadonlyArray<Tool.Tool> = [runPlan]
  return tools
})

/** What the tasks of a plan that have not begun wait for, one on a line. */
export const waitingLines = (standings: ReadonlyArray<Standing>): ReadonlyArray<string> =>
  standings.flatMap(({ node, state }) =>
    typeof state === "string"
      ? []
      : `- ${node.id} (${node.agent}) waits ${state.waits || "to be launched"}: ${shorten(node.text)}`
  )

const shorten = (text: string): string => (text.length > 80 ? `${text.slice(0, 79)}…` : text)
