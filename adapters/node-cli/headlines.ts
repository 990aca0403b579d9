/** Reads the orchestrator's words about ended tasks back, from notices and from answers of its tools. */

import { endWords } from "../../src/domain/Task.ts"

export interface Headline {
  readonly id: string
  readonly state: string
  readonly duration: string
  readonly agent: string
  readonly description: string
  /** What follows the headline: the task's result, or why there is none. */
  readonly body: string
}

/** As `headline` in src/domain/Task.ts writes them. */
const pattern = new RegExp(
  `^(?:## )?(task_[a-z0-9]+) (${Object.values(endWords).join("|")}) after ([^·\\n]+) · ([^·\\n]+) · (.*)$`,
  "gm"
)

/** Every ended task that the text tells of, in its order. */
export const readHeadlines = (text: string): ReadonlyArray<Headline> => {
  const matches = [...text.matchAll(pattern)]
  return matches.map((match, at) => {
    const [line, id = "", state = "", duration = "", agent = "", description = ""] = match
    const body = text.slice(match.index + line.length, matches[at + 1]?.index).trim()
    return { id, state: state.replace("was ", ""), duration, agent, description, body }
  })
}
