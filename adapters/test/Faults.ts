/** What goes wrong between the orchestrator and a simulated host, and how often; drawn from the runtime's randomness. */
import { Duration, Effect, Random } from "effect"
import { HostRefused, HostUnavailable } from "../../src/host/SessionClient.ts"

/** The operations of SessionClient, as faults name them. */
export type Operation =
  | "create"
  | "get"
  | "children"
  | "sessions"
  | "prompt"
  | "messages"
  | "todos"
  | "compact"
  | "hasMessage"
  | "statuses"
  | "abort"
  | "delete"
  | "agents"
  | "models"
  | "reply"

/** Probabilities, each from 0 to 1; together at most 1, `slow` apart. */
export interface OperationFaults {
  /** Answered with HTTP 500, without any effect. */
  readonly refused?: number
  /** Fails on the way to the host, without any effect. */
  readonly unreachable?: number
  /** Fails on the way back: it has had its effect. */
  readonly unheard?: number
  /** Takes up to `slowBy`, whatever becomes of it. */
  readonly slow?: number
}

/** Probabilities, each from 0 to 1; together at most 1. */
export interface EventFaults {
  readonly lost?: number
  /** Arrives twice, the second time up to `lateBy` later. */
  readonly doubled?: number
  /** Arrives up to `lateBy` later. */
  readonly late?: number
  /** Is overtaken by those of the next 50 ms. */
  readonly reordered?: number
}

export interface Faults {
  /** For each operation that `operations` does not name. */
  readonly every?: OperationFaults
  readonly operations?: Partial<Readonly<Record<Operation, OperationFaults>>>
  readonly events?: EventFaults
  /** 10 seconds, unless set. */
  readonly slowBy?: Duration.Input
  /** 10 seconds, unless set. */
  readonly lateBy?: Duration.Input
}

export const noFaults: Faults = {}

/** What becomes of one call. */
export interface CallFate {
  /** Milliseconds that it takes longer. */
  readonly slowBy: number
  /** Instead of its effect. */
  readonly before: HostRefused | HostUnavailable | undefined
  /** Instead of its answer. */
  readonly after: HostUnavailable | undefined
}

const spared: CallFate = { slowBy: 0, before: undefined, after: undefined }

/** Draws what becomes of a call. Where nothing can go wrong nothing is drawn, so that ids do not depend on it. */
export const drawCall = (faults: Faults, operation: Operation): Effect.Effect<CallFate> => {
  const odds = faults.operations?.[operation] ?? faults.every
  if (odds === undefined) return Effect.succeed(spared)
  return Effect.map(Random.Random, (random) => {
    const pick = random.nextDoubleUnsafe()
    const slow = random.nextDoubleUnsafe() < (odds.slow ?? 0)
    const slowBy = slow ? Math.ceil(random.nextDoubleUnsafe() * millis(faults.slowBy)) : 0
    const unavailable = (detail: string) => new HostUnavailable({ operation, detail })
    switch (choose(pick, [odds.refused, odds.unreachable, odds.unheard])) {
      case 0:
        return { ...spared, slowBy, before: new HostRefused({ operation, status: 500, detail: "a simulated refusal" }) }
      case 1:
        return { ...spared, slowBy, before: unavailable("a simulated failure on the way there") }
      case 2:
        return { ...spared, slowBy, after: unavailable("a simulated failure on the way back") }
      default:
        return { ...spared, slowBy }
    }
  })
}

/** Draws when an event arrives: after how many milliseconds, for each time that it does. */
export const drawEvent = (faults: Faults): Effect.Effect<ReadonlyArray<number>> => {
  const odds = faults.events
  if (odds === undefined) return Effect.succeed(onTime)
  return Effect.map(Random.Random, (random) => {
    const pick = random.nextDoubleUnsafe()
    const later = (most: number) => Math.ceil(random.nextDoubleUnsafe() * most)
    switch (choose(pick, [odds.lost, odds.doubled, odds.late, odds.reordered])) {
      case 0:
        return []
      case 1:
        return [0, later(millis(faults.lateBy))]
      case 2:
        return [later(millis(faults.lateBy))]
      case 3:
        return [later(50)]
      default:
        return onTime
    }
  })
}

const onTime: ReadonlyArray<number> = [0]

const millis = (time: Duration.Input = "10 seconds"): number => Duration.toMillis(Duration.fromInputUnsafe(time))

/** The place in `odds` that `pick`, from 0 to 1, falls on; -1 when beyond them all. */
const choose = (pick: number, odds: ReadonlyArray<number | undefined>): number => {
  let sum = 0
  return odds.findIndex((chance) => pick < (sum += chance ?? 0))
}
