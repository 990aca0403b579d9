/** What a mission may use, over the whole tree of its sessions: limits, what was used of them, and how near they are. */
import { Duration, Option, Result, Schema } from "effect"
import { totalTokens, type Usage } from "./Session.ts"
import { formatDuration } from "./Task.ts"

export const budgetNames = ["time", "tokens", "cost", "tasks", "turns"] as const
export type BudgetName = (typeof budgetNames)[number]

/** Time in ms while the mission is active, cost in US dollars; turns are answers of a model. */
export type Amounts = Readonly<Record<BudgetName, number>>

const NotNegative = Schema.Finite.check(Schema.isGreaterThanOrEqualTo(0))

export const Spent = Schema.Struct({
  time: NotNegative,
  tokens: NotNegative,
  cost: NotNegative,
  tasks: NotNegative,
  turns: NotNegative
})

/** Limits that hold for one mission instead of the configured ones. */
export const Limits = Schema.Struct({
  time: Schema.optionalKey(NotNegative),
  tokens: Schema.optionalKey(NotNegative),
  cost: Schema.optionalKey(NotNegative),
  tasks: Schema.optionalKey(NotNegative),
  turns: Schema.optionalKey(NotNegative)
})
export type Limits = typeof Limits.Type

export const nothingSpent: Amounts = { time: 0, tokens: 0, cost: 0, tasks: 0, turns: 0 }

/** What one session has used more than when it was last looked at. Totals that fall back, as at a revert, cost nothing. */
export const addUsage = (spent: Amounts, before: Usage, after: Usage): Amounts => {
  const tokens = growth(totalTokens(before), totalTokens(after))
  return {
    ...spent,
    tokens: Math.max(spent.tokens, Math.min(most, spent.tokens + tokens)),
    cost: Math.max(spent.cost, Math.min(most, spent.cost + growth(before.cost, after.cost))),
    turns: spent.turns + (tokens > 0 ? 1 : 0)
  }
}

/** However much a host says was used: a sum that is no number any more could not be recorded. */
const most = Number.MAX_SAFE_INTEGER

const growth = (before: number, after: number): number => Math.max(0, Math.min(most, after) - Math.min(most, before))

/** The share from which on the Commander is told. */
const warnFrom = 0.8

/** The limits that are reached, and those that nearly are. */
export const reached = (
  spent: Amounts,
  limits: Amounts
): { readonly over: ReadonlyArray<BudgetName>; readonly near: ReadonlyArray<BudgetName> } => ({
  over: budgetNames.filter((name) => spent[name] >= limits[name]),
  near: budgetNames.filter((name) => spent[name] >= warnFrom * limits[name] && spent[name] < limits[name])
})

const formats: Readonly<Record<BudgetName, (amount: number) => string>> = {
  time: formatDuration,
  tokens: (amount) => `${formatCount(amount)} tokens`,
  cost: (amount) => `$${amount.toFixed(amount < 10 ? 2 : 0)}`,
  tasks: (amount) => `${amount} tasks`,
  turns: (amount) => `${amount} turns`
}

/** 950, 12k, 3.4M. */
export const formatCount = (amount: number): string => {
  if (amount < 1_000) return String(Math.round(amount))
  if (amount < 1_000_000) return `${Number((amount / 1_000).toPrecision(3))}k`
  return `${Number((amount / 1_000_000).toPrecision(3))}M`
}

/** `12k of 5M tokens`. */
export const formatSpent = (name: BudgetName, spent: Amounts, limits: Amounts): string => {
  const limit = formats[name](limits[name])
  const used = formats[name](spent[name])
  const unit = ` ${name}`
  return `${used.endsWith(unit) ? used.slice(0, -unit.length) : used} of ${limit}`
}

/**
 * Reads limits as a person types them: `time=2h tokens=2M cost=10 tasks=50 turns=300`, in any order. Fails with a
 * sentence that names the word it cannot read.
 */
export const parseLimits = (text: string): Result.Result<Limits, string> => {
  let limits: Limits = {}
  for (const word of text.trim().split(/[\s,]+/).filter((word) => word !== "")) {
    const [, name = "", value = ""] = /^(\w+)[=:](.+)$/.exec(word) ?? []
    const known = budgetNames.find((known) => known === name.toLowerCase())
    const amount = known === "time" ? parseTime(value) : parseAmount(value)
    const isWhole = known === "time" || known === "cost" || Number.isInteger(amount)
    if (known === undefined || amount === undefined || amount <= 0 || !Number.isFinite(amount) || !isWhole) {
      return Result.fail(
        `"${word}" is no limit. Write one or more of time=2h, tokens=2M, cost=10, tasks=50, turns=300.`
      )
    }
    limits = { ...limits, [known]: amount }
  }
  return Result.succeed(limits)
}

/** `90`, `1.5k`, `2M`, `$10`. */
const parseAmount = (text: string): number | undefined => {
  const [, digits, unit = ""] = /^\$?(\d+(?:\.\d+)?)([kKmM]?)$/.exec(text) ?? []
  if (digits === undefined || unit === "") return digits === undefined ? undefined : Number(digits)
  return Math.round(Number(digits) * (unit.toLowerCase() === "k" ? 1e3 : 1e6)) // 1.1 × 1,000 is not whole
}

const timeUnits: Readonly<Record<string, string>> = {
  s: "seconds",
  m: "minutes",
  min: "minutes",
  h: "hours",
  d: "days"
}

/** `90s`, `45min`, `2h`, `1h30m`, `1d`. */
const parseTime = (text: string): number | undefined => {
  if (!/^(\d+(\.\d+)?[a-z]+)+$/i.test(text)) return undefined
  let sum = 0
  for (const [, digits, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)([a-z]+)/gi)) {
    const name = timeUnits[unit.toLowerCase()] ?? unit.toLowerCase()
    const part = Duration.fromInput(`${Number(digits)} ${name}` as Duration.Input) // checked by fromInput itself
    if (Option.isNone(part)) return undefined
    sum += Duration.toMillis(part.value)
  }
  return sum
}
