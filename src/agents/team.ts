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

/** All of them, a line each. */
export const teamLines = team.map((agent) => `- ${agent.name}: ${agent.description}`).join("\n")

/** A command that users type; `UserCommands` carries it out. */
export interface UserCommand {
  readonly name: string
  readonly description: string
  /** Without it, the agent that is talking already. */
  readonly agent?: string
}

export const commands: ReadonlyArray<UserCommand> = [
  { name: "task", description: "Give the Commander a goal", agent: commander },
  { name: "plan", description: "Have the Commander plan a goal, without building it", agent: commander },
  { name: "agents", description: "Show the orchestrator's agents" },
  { name: "tasks", description: "Show this mission's tasks: state, age, place in line, tokens, cost" },
  { name: "stop", description: "Stop this mission and its agents, for good" },
  {
    name: "resume",
    description:
      "Go on with a mission that ended early, or with what an earlier OpenCode left; with new limits, such as cost=20 time=2h",
    agent: commander
  },
  { name: "report", description: "Show what this mission has done, used and left open" }
]
