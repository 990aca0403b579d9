/** A mission: a goal and its life in one root session, and the pure decision of what follows when the Commander falls silent. */
import { Schema } from "effect"
import { spokenLines } from "./Markdown.ts"
import { SessionId } from "./Session.ts"

export const MissionState = Schema.Literals(["active", "complete", "stopped", "halted"])
export type MissionState = typeof MissionState.Type

export const Mission = Schema.Struct({
  root: SessionId,
  goal: Schema.String,
  state: MissionState,
  startedAt: Schema.Int,
  /** CONTINUE instructions sent since the last tool call or word of the user. */
  continuations: Schema.Int
})
export type Mission = typeof Mission.Type

export type MissionEvent =
  /** The user spoke to the Commander: a new goal, or more to the old one. */
  | { readonly type: "spoke"; readonly goal: string }
  /** The Commander called a tool: it is getting on. */
  | { readonly type: "worked" }
  | { readonly type: "continued" }
  | { readonly type: "ended"; readonly state: Exclude<MissionState, "active"> }

/** Returns the same object when the event changes nothing. */
export const transition = (mission: Mission, event: MissionEvent, now: number): Mission => {
  switch (event.type) {
    case "spoke":
      return mission.state === "active"
        ? { ...mission, continuations: 0 }
        : { ...mission, state: "active", goal: event.goal, startedAt: now, continuations: 0 }
    case "worked":
      return mission.continuations === 0 ? mission : { ...mission, continuations: 0 }
    case "continued":
      return mission.state === "active" ? { ...mission, continuations: mission.continuations + 1 } : mission
    case "ended":
      return mission.state === "active" ? { ...mission, state: event.state } : mission
  }
}

/** What follows when the root session is idle and no task of the mission is unsettled or untold. */
export const decide = (
  mission: Mission,
  answer: string,
  limit: number
): "nothing" | "complete" | "continue" | "halt" => {
  if (mission.state !== "active") return "nothing"
  if (saysComplete(answer)) return "complete"
  return mission.continuations < limit ? "continue" : "halt"
}

/**
 * Whether an answer ends the mission: MISSION COMPLETE on a line of its own. Not inside a sentence, a quotation or a
 * code block, where it may be talk about missions.
 */
export const saysComplete = (answer: string): boolean =>
  spokenLines(answer).some((line) => /^\s*(?:#+\s*)?(\*\*|__)?MISSION COMPLETE[.!]?\1[.!]?\s*$/.test(line))
