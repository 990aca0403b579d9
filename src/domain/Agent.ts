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

/** Whether a pattern of the host (`*` and `?` are wild) matches a text. Its time grows with both lengths, never faster. */
export const matches = (pattern: string, text: string): boolean => {
  let at = 0
  let read = 0
  // Where to go on when what follows the newest `*` does not fit: that one takes one character more.
  let star = -1
  let taken = 0
  while (read < text.length) {
    if (pattern[at] === "*") {
      star = at++
      taken = read
    } else if (pattern[at] === "?" || pattern[at] === text[read]) {
      at++
      read++
    } else if (star >= 0) {
      at = star + 1
      read = ++taken
    } else return false
  }
  return /^\**$/.test(pattern.slice(at))
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
 * Rules for a child's session, to come after its agent's own: for every permission the narrower of what the agent and
 * what `limits` allow. Where patterns of both overlap in part, the narrower of the two holds for the whole overlap.
 */
export const narrow = (child: ReadonlyArray<Rule>, limits: ReadonlyArray<Rule>): ReadonlyArray<Rule> => {
  if (limits.every((rule) => rule.action === "allow")) return []
  const names = [...new Set([...child, ...limits].map((rule) => rule.permission))]
  const isWild = (name: string) => /[*?]/.test(name)
  const wildFirst = [...names.filter(isWild), ...names.filter((name) => !isWild(name))]
  return wildFirst.flatMap((permission) => {
    const own = table(child, permission, "ask")
    const limit = table(limits, permission, "allow")
    return [
      { permission, pattern: "*", action: narrower(own.base, limit.base) },
      ...own.exceptions.map(({ action, pattern }) => ({ permission, pattern, action: narrower(action, limit.base) })),
      ...limit.exceptions.map(({ action, pattern }) => ({
        permission,
        pattern,
        action: narrower(action, narrowestWithin(own, pattern))
      }))
    ]
  })
}

/** The rules for one permission: what holds in general (`silent` when nothing is said), and what was said after that. */
const table = (rules: ReadonlyArray<Rule>, permission: string, silent: Rule["action"]) => {
  const relevant = rules.filter((rule) => matches(rule.permission, permission))
  const start = relevant.findLastIndex((rule) => rule.pattern === "*")
  return { base: relevant[start]?.action ?? silent, exceptions: relevant.slice(start + 1) }
}

/** The narrowest action that any text which fits `pattern` can meet. */
const narrowestWithin = ({ base, exceptions }: ReturnType<typeof table>, pattern: string): Rule["action"] => {
  const same = exceptions.findLastIndex((rule) => rule.pattern === pattern)
  return exceptions
    .slice(Math.max(0, same))
    .filter((rule) => mayOverlap(rule.pattern, pattern))
    .reduce((least, rule) => narrower(least, rule.action), exceptions[same]?.action ?? base)
}

/** Whether a text could fit both patterns, judged by what stands before their first wild card. */
const mayOverlap = (a: string, b: string): boolean => {
  const head = (pattern: string) => pattern.split(/[*?]/)[0] ?? ""
  return head(a).startsWith(head(b)) || head(b).startsWith(head(a))
}

/** A right of a role under the user's general setting for the same permission: never wider than either. */
export const combine = (right: Permission, user: Permission | undefined): Permission => {
  if (user === undefined) return right
  if (right === "allow") return typeof user === "string" ? user : { "*": "allow", ...user }
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
