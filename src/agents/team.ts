/** The seven agents, and the commands that users type. */
import type { AgentDefinition } from "../domain/Agent.ts"
import { Architect } from "./Architect.ts"
import { Builder } from "./Builder.ts"
import { Commander } from "./Commander.ts"
import { Inspector } from "./Inspector.ts"
import { Librarian } from "./Librarian.ts"
import { Recorder } from "./Recorder.ts"
import { Researcher } from "./Researcher.ts"

export const team: ReadonlyArray<AgentDefinition> = [
  Commander,
  Architect,
  Builder,
  Inspector,
  Recorder,
  Librarian,
  Researcher
]

/** The agent that missions belong to. */
export const commander = Commander.name

export interface UserCommand {
  readonly name: string
  readonly description: string
  /** `$ARGUMENTS` stands for what the user typed after the name. */
  readonly template: string
  /** Without it, the agent that is talking already. */
  readonly agent?: string
  /** Asks for information only: no mission starts. */
  readonly informs?: boolean
}

/** Stands in a template for what a command has to report. */
export const reportMark = "{{report}}"

const agentLines = team.map((agent) => `- ${agent.name}: ${agent.description}`).join("\n")

export const commands: ReadonlyArray<UserCommand> = [
  { name: "task", description: "Give the Commander a goal", template: "$ARGUMENTS", agent: commander },
  {
    name: "plan",
    description: "Have the Commander plan a goal, without building it",
    template:
      "Plan this goal, and build nothing yet. Have the Architect write the plan to .opencode/todo.md, check it, show it to the user, and end the mission.\n\nThe goal:\n$ARGUMENTS",
    agent: commander
  },
  {
    name: "agents",
    description: "Show the orchestrator's agents",
    template: `Show the user this list as it is, without calling tools:\n\n${agentLines}`,
    informs: true
  },
  {
    name: "resume",
    description: "Go on with what an earlier OpenCode left unfinished",
    template: `Show the user this as it is, without calling tools:\n\n${reportMark}`,
    informs: true
  }
]
