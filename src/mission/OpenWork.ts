/** What of a mission is open, and whether it gets on: by its todos, its failed tasks, and the evidence of work. */
import { Context, Effect, Layer } from "effect"
import { evidence } from "../domain/Evidence.ts"
import * as Mission from "../domain/Mission.ts"
import type { Message, SessionId } from "../domain/Session.ts"
import { TaskStore } from "../tasks/TaskStore.ts"
import { describeTodo } from "./instructions.ts"
import { Missions } from "./Missions.ts"
import { TodoEnforcer } from "./TodoEnforcer.ts"

export class OpenWork extends Context.Service<OpenWork, {
  /** What keeps a mission from being complete, after the Commander's newest answer. */
  readonly after: (root: SessionId, answer: string) => Effect.Effect<Mission.Open>
  /** Keeps in mind which of the Commander's tasks have failed, until it does them again or answers for them. */
  readonly noteFailures: (root: SessionId) => Effect.Effect<void>
  /** Whether anything was done since the last look, by the session's newest messages and what is open. */
  readonly hasProgressed: (
    root: SessionId,
    messages: ReadonlyArray<Message>,
    open: Mission.Open
  ) => Effect.Effect<boolean>
}>()("orchestrator/mission/OpenWork") {
  static readonly layer = Layer.effect(
    OpenWork,
    Effect.gen(function*() {
      const missions = yield* Missions
      const store = yield* TaskStore
      const todos = yield* TodoEnforcer
      /** Evidence of work that was seen, by mission; the newest of it. */
      const known = new Map<SessionId, Set<string>>()

      const noteFailures = Effect.fnUntraced(function*(root: SessionId) {
        const mission = yield* missions.get(root)
        if (mission === undefined) return
        const own = (yield* store.all).filter((task) => task.parent === root && task.createdAt >= mission.startedAt)
        for (const task of own) {
          if (task.state === "failed" || task.state === "timed_out") {
            yield* missions.apply(root, { type: "failed", failure: Mission.failureOf(task) })
          }
        }
        const made = Mission.openFailures(yield* missions.get(root)).filter((failure) =>
          own.some((task) => task.state === "completed" && Mission.makesUpFor(task, failure))
        )
        if (made.length > 0) {
          yield* missions.apply(root, { type: "answeredFor", tasks: made.map(({ task }) => task) })
        }
      })

      return OpenWork.of({
        noteFailures,
        after: Effect.fnUntraced(function*(root, answer) {
          yield* noteFailures(root)
          const failures = Mission.openFailures(yield* missions.get(root))
          const named = failures.filter(({ task }) => answer.includes(task)).map(({ task }) => task)
          const mission = named.length === 0
            ? yield* missions.get(root)
            : yield* missions.apply(root, { type: "answeredFor", tasks: named })
          return {
            todos: mission?.planOnly === true ? [] : (yield* todos.open(root)).map(describeTodo),
            failures: Mission.openFailures(mission)
          }
        }),
        hasProgressed: Effect.fnUntraced(function*(root, messages, open) {
          const roots = new Set((yield* missions.all).map(({ root }) => root))
          for (const other of known.keys()) if (!roots.has(other)) known.delete(other)
          const tasks = (yield* store.all).filter((task) => task.mission === root)
          const before = known.get(root)
          const seen = before ?? new Set<string>()
          known.set(root, seen)
          const news = evidence(messages, tasks, open.todos.join("\n")).filter((key) => !seen.has(key))
          for (const key of news) seen.add(key)
          for (const key of seen) {
            if (seen.size <= evidenceKept) break
            seen.delete(key)
          }
          // At the first look there is nothing to compare with: of an earlier instance's mission all was there before.
          return before !== undefined && news.length > 0
        })
      })
    })
  )
}

const evidenceKept = 2_000
