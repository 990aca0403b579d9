/** Tells what is new: in the journals since the last look, and in the host's events. */
import { Clock, Effect } from "effect"
import type { Session, SessionId } from "../../src/domain/Session.ts"
import { totalTokens } from "../../src/domain/Session.ts"
import { duration, type Task, type TaskId } from "../../src/domain/Task.ts"
import { toSession } from "../opencode-sdk/wire.ts"
import type { Recorded } from "./journals.ts"
import type { Reporter, TaskReport } from "./runLines.ts"
import { describeInput, type ViewEvent } from "./viewEvents.ts"

/** A result that is told while the mission runs; the whole of it stands in the journal. */
const resultChars = 10_000

export const reportOf = (task: Task, now: number): TaskReport => ({
  id: task.id,
  agent: task.agent,
  description: task.description,
  state: task.state,
  run: task.run,
  ...(task.session === undefined ? {} : { session: task.session }),
  ...(task.model === undefined ? {} : { model: task.model }),
  durationMs: duration(task, now),
  tokens: totalTokens(task.usage),
  cost: task.usage.cost,
  ...(task.result === undefined ? {} : { result: task.result.slice(0, resultChars) }),
  ...(task.reason === undefined ? {} : { reason: task.reason })
})

export const makeTales = (reporter: Reporter, directory: string, root: SessionId) => {
  let mission = ""
  const tasks = new Map<TaskId, string>()
  const sessions = new Map<SessionId, Session>()
  const calls = new Set<string>()

  const isOfMission = (session: SessionId): boolean => {
    for (let at: SessionId | undefined = session, depth = 0; at !== undefined && depth < 20; depth++) {
      if (at === root) return true
      at = sessions.get(at)?.parent
    }
    return false
  }

  const recorded = Effect.fnUntraced(function*(now: Recorded) {
    if (now.mission !== undefined && now.mission.state !== mission) {
      mission = now.mission.state
      const { goal, root, state, why } = now.mission
      yield* reporter.tell({ type: "mission", id: root, goal, state, ...(why === undefined ? {} : { why }) })
    }
    const at = yield* Clock.currentTimeMillis
    for (const task of now.tasks) {
      const state = `${task.state} ${task.run}`
      if (tasks.get(task.id) === state) continue
      tasks.set(task.id, state)
      yield* reporter.tell({ type: "task", task: reportOf(task, at) })
    }
  })

  const event = Effect.fnUntraced(function*(seen: ViewEvent) {
    switch (seen.type) {
      case "session.created":
      case "session.updated":
        return void sessions.set(seen.properties.info.id, toSession(seen.properties.info))
      case "session.error": {
        const { error, sessionID } = seen.properties
        if (!isOfMission(sessionID)) return
        const who = sessions.get(sessionID)?.agent ?? "OpenCode"
        return yield* reporter.tell({
          type: "warning",
          message: `a turn of ${who} failed: ${error.data?.message ?? error.name}`
        })
      }
      case "message.part.updated": {
        const { part } = seen.properties
        if (!isOfMission(part.sessionID)) return
        const { error, input, status } = part.state
        const key = `${part.callID} ${status === "error" ? "error" : "call"}`
        if (status === "pending" || calls.has(key)) return
        calls.add(key)
        return yield* reporter.tell({
          type: "tool",
          session: part.sessionID,
          agent: sessions.get(part.sessionID)?.agent ?? "",
          tool: part.tool,
          input: describeInput(input ?? {}, directory),
          ...(status === "error" ? { error: error ?? "no reason given" } : {})
        })
      }
      case "tui.toast.show": {
        const { message, title = "", variant } = seen.properties
        return yield* reporter.tell({ type: "toast", variant, title, message })
      }
    }
  })

  return { recorded, event }
}
