/**
 * The right to run. A slot counts against every limit that applies to its task at once: the agent's, the model's, the
 * provider's, and the total. Effect's Semaphore counts one limit; taking several, one after the other, would hold
 * permits of one while waiting for another, so requests wait in one line here and are granted all or nothing.
 */
import { Context, Deferred, Effect, Fiber, Layer, type Scope } from "effect"
import { Config } from "../Config.ts"
import { formatModel, type ModelRef } from "../domain/Session.ts"
import type { TaskId } from "../domain/Task.ts"

export interface SlotRequest {
  readonly task: TaskId
  readonly agent: string
  readonly model: ModelRef | undefined
}

/** A slot that is held, unless parked. */
export interface Slot {
  /** Gives the slot up for as long as `effect` runs, and takes it again, waiting in line first. */
  readonly parkedWhile: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Waits until it is held again, when what it was parked for was cut off. */
  readonly regained: Effect.Effect<void>
  /** False while it is parked, and while it waits in line to be held again. */
  readonly isHeld: Effect.Effect<boolean>
}

export class Concurrency extends Context.Service<Concurrency, {
  /** Waits for a slot; it is given back, once, when the scope closes. Requests are granted in order where there is room. */
  readonly slot: (request: SlotRequest) => Effect.Effect<Slot, never, Scope.Scope>
  /** The place in line, counted from 1; undefined when the task does not wait. */
  readonly position: (task: TaskId) => Effect.Effect<number | undefined>
  /** How many slots are held. */
  readonly held: Effect.Effect<number>
}>()("orchestrator/tasks/Concurrency") {
  static readonly layer = Layer.effect(
    Concurrency,
    Effect.gen(function*() {
      const { concurrency: limits } = yield* Config
      const used = new Map<string, number>()
      const line: Array<{ readonly request: SlotRequest; readonly granted: Deferred.Deferred<void> }> = []
      let held = 0

      /** The counters a request draws on, with their limits. */
      const claims = ({ agent, model }: SlotRequest): ReadonlyArray<readonly [string, number]> => [
        ["total", limits.total],
        [`agent ${agent}`, named(limits.agents, agent) ?? limits.agent],
        ...(model === undefined ? [] : [
          [`model ${formatModel(model)}`, named(limits.models, formatModel(model)) ?? limits.total] as const,
          [`provider ${model.provider}`, named(limits.providers, model.provider) ?? limits.total] as const
        ])
      ]
      const fits = (request: SlotRequest) => claims(request).every(([name, limit]) => (used.get(name) ?? 0) < limit)
      const count = (request: SlotRequest, by: 1 | -1) => {
        held += by
        for (const [name] of claims(request)) {
          const next = (used.get(name) ?? 0) + by
          if (next === 0) used.delete(name)
          else used.set(name, next)
        }
      }

      const release = (request: SlotRequest) => {
        count(request, -1)
        // First decide, then wake: a waiter that is woken may give its slot back at once, which comes here again.
        const granted = line.filter((waiting) => {
          if (!fits(waiting.request)) return false
          count(waiting.request, 1)
          return true
        })
        for (const waiting of granted) line.splice(line.indexOf(waiting), 1)
        for (const waiting of granted) Deferred.doneUnsafe(waiting.granted, Effect.void)
      }

      return Concurrency.of({
        slot: Effect.fnUntraced(function*(request) {
          let state: "free" | "held" | "closed" = "free"
          let parked = 0
          const give = (next: "free" | "closed") =>
            Effect.sync(() => {
              const before = state
              state = next
              if (before === "held") release(request)
            })
          /** Interrupted while it waits, it holds nothing. */
          const take = Effect.uninterruptibleMask((restore) =>
            Effect.suspend(() => {
              if (state !== "free") return Effect.void
              if (fits(request)) {
                count(request, 1)
                state = "held"
                return Effect.void
              }
              const waiting = { request, granted: Deferred.makeUnsafe<void>() }
              line.push(waiting)
              return restore(Deferred.await(waiting.granted)).pipe(
                Effect.onInterrupt(() =>
                  Effect.sync(() => {
                    const place = line.indexOf(waiting)
                    if (place < 0) release(request)
                    else line.splice(place, 1)
                  })
                ),
                Effect.andThen(Effect.sync(() => {
                  if (state === "free" && parked === 0) state = "held"
                  else release(request)
                }))
              )
            })
          )
          const scope = yield* Effect.scope
          yield* Effect.addFinalizer(() => give("closed"))
          yield* take
          /** Takes the slot again on behalf of the task: in its scope, whatever becomes of the one who waits for it. */
          let retaking: Fiber.Fiber<void> | undefined
          const retake = Effect.gen(function*() {
            const forgotten = Effect.sync(() => {
              retaking = undefined
            })
            retaking ??= yield* Effect.forkIn(Effect.ensuring(take, forgotten), scope)
            return retaking
          })
          return {
            isHeld: Effect.sync(() => state === "held"),
            regained: Effect.suspend(() =>
              state === "free" && parked === 0 ? Effect.asVoid(Effect.flatMap(retake, Fiber.await)) : Effect.void
            ),
            parkedWhile: (effect) =>
              Effect.uninterruptibleMask((restore) =>
                Effect.gen(function*() {
                  if (parked++ === 0 && state === "held") yield* give("free")
                  const exit = yield* Effect.exit(restore(effect))
                  if (--parked > 0) return yield* exit
                  yield* restore(Effect.flatMap(retake, Fiber.await))
                  // The life that held it is at its end, and stops its child: nothing may go on in that meanwhile.
                  if (parked === 0 && state !== "held") yield* restore(Effect.sleep(stopTime))
                  return yield* exit
                })
              )
          } satisfies Slot
        }),
        position: (task) =>
          Effect.sync(() => {
            const place = line.findIndex((waiting) => waiting.request.task === task)
            return place < 0 ? undefined : place + 1
          }),
        held: Effect.sync(() => held)
      })
    })
  )
}

/** Longer than a child may take to stop. */
const stopTime = "20 seconds"

/** A name may be one that every object has, such as `constructor`. */
const named = (limits: Readonly<Record<string, number>>, name: string): number | undefined =>
  Object.hasOwn(limits, name) ? limits[name] : undefined
