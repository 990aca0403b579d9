/** Every plan of which something is left to do or to tell, as it is recorded. */
import { Context, Effect, Exit, Layer } from "effect"
import { Config } from "../Config.ts"
import { blockedBy, type StartedPlan } from "../domain/Plan.ts"
import type { SessionId } from "../domain/Session.ts"
import type { EndState, Task } from "../domain/Task.ts"
import { type JournalFailed, TaskJournal } from "./TaskJournal.ts"

export class Plans extends Context.Service<Plans, {
  /** Records a new plan. When it fails, there is no such plan. */
  readonly add: (plan: StartedPlan) => Effect.Effect<void, JournalFailed>
  /** Takes over a plan that another instance recorded. */
  readonly adopt: (plan: StartedPlan) => Effect.Effect<void>
  readonly all: Effect.Effect<ReadonlyArray<StartedPlan>>
  /** Nothing more of the plans that fit is to be launched. Recorded when this returns. */
  readonly stop: (belongs: (plan: StartedPlan) => boolean) => Effect.Effect<void>
  /** A task of it has ended. */
  readonly ended: (id: string, node: string, state: EndState) => Effect.Effect<void>
  /** All of its tasks have ended, or never will be launched: they may be told. Recorded when this returns. */
  readonly over: (id: string) => Effect.Effect<void>
  /** Nothing is left to do or to tell. */
  readonly forget: (id: string) => Effect.Effect<void>
  /** More is to come of the plan that the task belongs to. */
  readonly isGoingOn: (task: Task) => boolean
  /** Tells a Commander whose turn was cut off which plans it need not run again. */
  readonly goingOn: (root: SessionId) => Effect.Effect<ReadonlyArray<string>>
  /** What the bad end of a task means for the rest of its plan, in a sentence; undefined when it means nothing. */
  readonly consequence: (task: Task) => string | undefined
}>()("orchestrator/tasks/Plans") {
  static readonly layer = Layer.effect(
    Plans,
    Effect.gen(function*() {
      const config = yield* Config
      const journal = yield* TaskJournal
      const plans = new Map<string, StartedPlan>()

      /** What cannot be written is said by the journal, which tries again. */
      const keep = (plan: StartedPlan) =>
        Effect.suspend(() => {
          plans.set(plan.id, plan)
          return Effect.ignore(journal.record("plan", plan.id, plan))
        })

      const end = (id: string, state: "over" | "stopped") =>
        Effect.suspend(() => {
          const plan = plans.get(id)
          return plan?.state === "running" ? keep({ ...plan, state }) : Effect.void
        })

      return Plans.of({
        add: Effect.fnUntraced(function*(plan) {
          const recorded = yield* Effect.exit(journal.record("plan", plan.id, plan))
          if (Exit.isFailure(recorded) && (config.journal !== "preferred" || (yield* journal.isLost))) {
            yield* journal.drop("plan", plan.id)
            return yield* recorded
          }
          plans.set(plan.id, plan)
        }, Effect.uninterruptible),
        adopt: (plan) =>
          Effect.suspend(() => {
            const known = plans.get(plan.id)
            // An instance that died while it took over a journal leaves the same plan in two.
            if (known === undefined) return keep(plan)
            const state = known.state === "running" ? plan.state : known.state
            return keep({ ...known, ended: { ...plan.ended, ...known.ended }, state })
          }),
        all: Effect.sync(() => [...plans.values()]),
        stop: (belongs) =>
          Effect.suspend(() =>
            Effect.forEach([...plans.values()].filter(belongs), ({ id }) => end(id, "stopped"), {
              concurrency: "unbounded",
              discard: true
            })
          ),
        ended: (id, node, state) =>
          Effect.suspend(() => {
            const before = plans.get(id)
            if (before === undefined) return Effect.void
            const after = { ...before, ended: { ...before.ended, [node]: state } }
            plans.set(id, after)
            return journal.note("plan", id, after) // lost in a crash, it is seen by the task itself
          }),
        over: (id) => end(id, "over"),
        forget: (id) =>
          Effect.suspend(() => {
            plans.delete(id)
            return journal.drop("plan", id)
          }),
        isGoingOn: ({ plan }) => plan !== undefined && plans.get(plan.id)?.state === "running",
        goingOn: (root) =>
          Effect.sync(() =>
            [...plans.values()].filter((plan) => plan.root === root && plan.state === "running").map(({ id, nodes }) =>
              `The plan ${id} goes on (${
                nodes.map((node) => node.id).join(", ")
              }): do not run it again; you will be told of its results.`
            )
          ),
        consequence: ({ plan, state }) => {
          const nodes = plan === undefined ? undefined : plans.get(plan.id)?.nodes
          if (nodes === undefined || state === "completed") return undefined
          const blocked = blockedBy(nodes, (id) => id === plan?.node)
          if (blocked.size === 0) return undefined
          const left = nodes.flatMap(({ id, text }) => (blocked.has(id) ? `${id} (${text.slice(0, 80)})` : []))
          return `Not run, because it depends on this: ${left.join(", ")}.`
        }
      })
    })
  )
}
