/** Every plan of which something is left to do or to tell, as it is recorded. */
import { Context, Deferred, Effect, Exit, Layer } from "effect"
import { Config } from "../Config.ts"
import { blockedBy, type StartedNode, type StartedPlan } from "../domain/Plan.ts"
import type { SessionId } from "../domain/Session.ts"
import type { EndState, Task } from "../domain/Task.ts"
import { type JournalFailed, TaskJournal } from "./TaskJournal.ts"

export class Plans extends Context.Service<Plans, {
  /** Records a new plan. When it fails, there is no such plan. */
  readonly add: (plan: StartedPlan) => Effect.Effect<void, JournalFailed>
  /** Takes over a plan that another instance recorded. */
  readonly adopt: (plan: StartedPlan) => Effect.Effect<void>
  readonly all: Effect.Effect<ReadonlyArray<StartedPlan>>
  /** Waits until a plan no longer runs, and gives it as it is then; undefined when there is none. */
  readonly settled: (id: string) => Effect.Effect<StartedPlan | undefined>
  /** Nothing more of the plans that fit is to be launched. Recorded when this returns. */
  readonly stop: (belongs: (plan: StartedPlan) => boolean) => Effect.Effect<void>
  /** A task of it has ended. */
  readonly ended: (id: string, node: string, state: EndState) => Effect.Effect<void>
  /** Tasks of it are to be run again, because of the end of the node `cause`. Recorded when this returns. */
  readonly redo: (id: string, nodes: ReadonlyArray<StartedNode>, cause: string) => Effect.Effect<void>
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
      const ends = new Map<string, Deferred.Deferred<StartedPlan>>()

      /** What cannot be written is said by the journal, which tries again. */
      const keep = (plan: StartedPlan) =>
        Effect.suspend(() => {
          plans.set(plan.id, plan)
          return Effect.ignore(journal.record("plan", plan.id, plan))
        })

      const end = Effect.fnUntraced(function*(id: string, state: "over" | "stopped") {
        const before = plans.get(id)
        if (before?.state !== "running") return
        const plan = { ...before, state }
        yield* keep(plan)
        const waited = ends.get(id)
        ends.delete(id)
        if (waited !== undefined) yield* Deferred.succeed(waited, plan)
      }, Effect.uninterruptible)

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
            // What was to be run again is so in the later one alone.
            const ahead = times(plan) - times(known)
            if (ahead !== 0) return keep({ ...(ahead > 0 ? plan : known), state })
            return keep({ ...known, ended: { ...plan.ended, ...known.ended }, state })
          }),
        all: Effect.sync(() => [...plans.values()]),
        settled: (id) =>
          Effect.suspend(() => {
            const plan = plans.get(id)
            if (plan?.state !== "running") return Effect.succeed(plan)
            const waited = ends.get(id) ?? Deferred.makeUnsafe<StartedPlan>()
            ends.set(id, waited)
            return Deferred.await(waited)
          }),
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
        redo: (id, nodes, cause) =>
          Effect.suspend(() => {
            const before = plans.get(id)
            if (before === undefined) return Effect.void
            const byId = new Map(nodes.map((node) => [node.id, node]))
            return keep({
              ...before,
              nodes: before.nodes.map((node) => byId.get(node.id) ?? node),
              ended: Object.fromEntries(Object.entries(before.ended).filter(([node]) => !byId.has(node))),
              tried: { ...before.tried, [cause]: (before.tried?.[cause] ?? 0) + 1 }
            })
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
        consequence: ({ id, plan, state }) => {
          const nodes = plan === undefined ? undefined : plans.get(plan.id)?.nodes
          if (nodes === undefined) return undefined
          const now = nodes.find((node) => node.id === plan?.node)
          if (now !== undefined && now.task !== id) return `It is run again, as ${now.task}.`
          if (state === "completed") return undefined
          const blocked = blockedBy(nodes, (id) => id === plan?.node)
          if (blocked.size === 0) return undefined
          const left = nodes.flatMap(({ id, text }) => (blocked.has(id) ? `${id} (${text.slice(0, 80)})` : []))
          return `Not run, because it depends on this: ${left.join(", ")}.`
        }
      })
    })
  )
}

const times = ({ tried = {} }: StartedPlan): number => Object.values(tried).reduce((sum, count) => sum + count, 0)
