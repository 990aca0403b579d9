/** Agents and their rights. Rights are the host's permission rules: what a rule denies is not even shown to the model. */
import type { ModelRef, Rule } from "./Session.ts"

export type AgentMode = "primary" | "subagent" | "all"

/** A permission as a host's config writes it: one action, or one per pattern. */
export type Permission = Rule["action"] | Readonly<Record<string, Rule["action"]>>

/** One of the orchestrator's own agents, as data that any host can register. */
export interface AgentDefinition {
  readonly name: string
  readonly mode: "primary" | "subagent"
  /** When to use it: shown to agents that delegate, and to the user. */
  readonly description: string
  readonly prompt: string
  /** Everything the agent may use; what is absent is denied. Patterns of `delegate_task` are names of agents. */
  readonly rights: Readonly<Record<string, Permission>>
}

/** An agent as the host knows it, with its rules in force, in order. */
export interface HostAgent {
  readonly name: string
  readonly mode: AgentMode
  readonly description: string | undefined
  readonly model: ModelRef | undefined
  readonly hidden: boolean
  readonly permission: ReadonlyArray<Rule>
}

/**
 * Ends the rules that make up an agent's role. What follows it in an agent's rules was set by the user. A role says
 * what an agent is for and is no limit for the agents it delegates to; what the user set is one.
 */
export const endOfRole: Rule = { permission: "orchestrator_role", pattern: "*", action: "deny" }

/** Whether a pattern of the host (`*` and `?` are wild) matches a text. */
const matches = (pattern: string, text: string): boolean => {
  if (pattern === "*" || pattern === text) return true
  const source = pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".")
  return new RegExp(`^${source}$`, "s").test(text)
}

/** What the rules say to one use of a permission; the host asks when no rule matches. */
export const evaluate = (rules: ReadonlyArray<Rule>, permission: string, pattern: string): Rule["action"] =>
  rules.findLast((rule) => matches(rule.permission, permission) && matches(rule.pattern, pattern))?.action ?? "ask"

/** The rules of a parent that its children must keep: all of them, or, for our own agents, those the user set. */
export const ceiling = (agent: HostAgent | undefined, session: ReadonlyArray<Rule>): ReadonlyArray<Rule> => {
  const rules = agent?.permission ?? []
  const end = rules.findLastIndex((rule) => rule.permission === endOfRole.permission)
  return [...rules.slice(end + 1), ...session]
}

/**
 * Rules for a child's session that keep its agent within `limits`. They come after the agent's own rules, where an
 * `allow` would widen what the agent itself restricts: there, only restrictions are passed on.
 */
export const narrow = (child: ReadonlyArray<Rule>, limits: ReadonlyArray<Rule>): ReadonlyArray<Rule> => {
  const usable = child.filter((rule) => rule.action !== "deny")
  const names = [...new Set([...usable, ...limits].map((rule) => rule.permission))]
  const wildFirst = [...names.filter((name) => name.includes("*")), ...names.filter((name) => !name.includes("*"))]
  return wildFirst.flatMap((permission) => {
    const last = child.findLast((rule) => matches(rule.permission, permission))
    const unrestricted = last?.action === "allow" && last.pattern === "*"
    const rules = limits
      .filter((rule) => matches(rule.permission, permission))
      .filter((rule) =>
        unrestricted || rule.action === "deny"
        || (rule.action === "ask" && evaluate(child, permission, rule.pattern) === "allow")
      )
    return rules.some((rule) => rule.action !== "allow") ? rules.map((rule) => ({ ...rule, permission })) : []
  })
}

/** A right of a role under the user's general setting for the same permission: never wider than either. */
export const combine = (right: Permission, user: Permission | undefined): Permission => {
  if (user === undefined) return right
  if (right === "allow") return user
  if (typeof right === "string") return typeof user === "string" ? narrower(right, user) : right
  const general = typeof user === "string" ? user : user["*"] ?? "allow"
  const own = Object.fromEntries(Object.entries(right).map(([pattern, action]) => [pattern, narrower(action, general)]))
  if (typeof user === "string") return own
  const rules = Object.entries(own).map(([pattern, action]): Rule => ({ permission: "*", pattern, action }))
  const specific = Object.entries(user).flatMap(([pattern, action]): ReadonlyArray<[string, Rule["action"]]> =>
    pattern === "*" ? [] : [[pattern, narrower(evaluate(rules, "*", pattern), action)]]
  )
  return { ...own, ...Object.fromEntries(specific) }
}

const narrower = (a: Rule["action"], b: Rule["action"]): Rule["action"] =>
  a === "deny" || b === "deny" ? "deny" : a === "ask" || b === "ask" ? "ask" : "allow"
