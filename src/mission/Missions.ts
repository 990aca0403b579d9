/** Every known mission, by its root session. The only writer of their state. */
import { Clock, Context, Duration, Effect, Layer } from "effect"
import { Config } from "../Config.ts"
import { type Amounts, type BudgetName, budgetNames, formatSpent } from "../domain/Budget.ts"
import { type Mission, type MissionEvent, spentBy, transition } from "../domain/Mission.ts"
import type { SessionId } from "../domain/Session.ts"
import { Mask } from "../host/Mask.ts"
import { TaskJournal } from "../tasks/TaskJournal.ts"
import { Telemetry } from "../Telemetry.ts"

export class Missions extends Context.Service<Missions, {
  readonly all: Effect.Effect<ReadonlyArray<Mission>>
  readonly get: (root: SessionId) => Effect.Effect<Mission | undefined>
  /** Takes in a mission that is new here. It is recorded before this returns. */
  readonly add: (mission: Mission) => Effect.Effect<void>
  /** Decides by the pure transition, and records the outcome. The mission as it is then; undefined when there is none. */
  readonly apply: (root: SessionId, event: MissionEvent) => Effect.Effect<Mission | undefined>
  readonly forget: (root: SessionId) => Effect.Effect<void>
  /** What a mission may use; without one, what a new one may. */
  readonly limits: (mission: Mission | undefined) => Amounts
  /** What it has used and may use, on one line: of all budgets, or of those named. */
  readonly describe: (mission: Mission, names?: ReadonlyArray<BudgetName>) => Effect.Effect<string>
}>()("orchestrator/mission/Missions") {
  static readonly layer = Layer.effect(
    Missions,
    Effect.gen(function*() {
      const { budget } = yield* Config
      const journal = yield* TaskJournal
      const mask = yield* Mask
      const telemetry = yield* Telemetry
      const missions = new Map<SessionId, Mission>()
      const configured: Amounts = { ...budget, time: Duration.toMillis(budget.time) }

      /** What cannot be written is said by the journal, which tries again. */
      const keep = (mission: Mission) =>
        Effect.suspend(() => {
          missions.set(mission.root, mission)
          return Effect.ignore(journal.record("mission", mission.root, mission))
        })

      const forget = (root: SessionId) =>
        Effect.suspend(() => missions.delete(root) ? journal.drop("mission", root) : Effect.void)

      const limits = (mission: Mission | undefined): Amounts => ({ ...configured, ...mission?.limits })

      return Missions.of({
        all: Effect.sync(() => [...missions.values()]),
        get: (root) => Effect.sync(() => missions.get(root)),
        add: Effect.fnUntraced(function*(mission) {
          for (const known of missions.values()) {
            if (missions.size < missionsKept) break
            if (known.state !== "active") yield* forget(known.root)
          }
          yield* keep(mission)
          telemetry.mission(undefined, mission, yield* Clock.currentTimeMillis)
        }),
        apply: Effect.fnUntraced(function*(root, event) {
          const now = yield* Clock.currentTimeMillis
          const before = missions.get(root)
          if (before === undefined) return undefined
          const isAnswered = "answer" in event && event.answer !== undefined
          // Masked whole, before it is cut: a secret that the cut has parted would not be known any more.
          const after = transition(before, isAnswered ? { ...event, answer: mask(event.answer) } : event, now)
          if (after === before) return after
          telemetry.mission(before, after, now)
          if (event.type !== "used" && event.type !== "launched") {
            yield* keep(after)
            return after
          }
          missions.set(root, after)
          yield* journal.note("mission", root, after)
          return after
        }),
        forget,
        limits,
        describe: Effect.fnUntraced(function*(mission, names = budgetNames) {
          const spent = spentBy(mission, yield* Clock.currentTimeMillis)
          return names.map((name) => formatSpent(name, spent, limits(mission))).join(" · ")
        })
      })
    })
  )
}

/** Missions remembered at once; the oldest that has ended is forgotten first. */
const missionsKept = 1_000
