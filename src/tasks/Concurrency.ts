/**
 * The right to run. A slot counts against every limit that applies to its task at once: the agent's, the model's, the
 * provider's, and the total. Effect's Semaphore counts one limit; taking several, one after the other, would hold
 * permits of one while waiting for another, so requests wait in one line here and are granted all or nothing.
 */
import { Clock, Context, Deferred, Duration, Effect, Fiber, FiberMap, Layer, type Scope } from "effect"
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
  /** Waits until it is held again, also when what it was parked for was cut off. */
  readonly regained: Effect.Effect<void>
  /** False while it is parked, and while it waits in line to be held again. */
  readonly isHeld: Effect.Effect<boolean>
  /** Gives it up and takes it for another model, waiting in line for that. */
  readonly switchTo: (model: ModelRef) => Effect.Effect<void>
}

export class Concurrency extends Context.Service<Concurrency, {
  /**
   * Waits for a slot; it is given back, once, when the scope closes. Requests are granted in order where there is room,
   * and first to those that have parked theirs: the time limit of what has begun goes on.
   */
  readonly slot: (request: SlotRequest) => Effect.Effect<Slot, never, Scope.Scope>
  /** The place in line, counted from 1; undefined when the task does not wait. */
  readonly position: (task: TaskId) => Effect.Effect<number | undefined>
  /** How many slots are held. */
  readonly held: Effect.Effect<number>
  /**
   * A provider limits requests, and says, perhaps, until when (epoch ms): half as many sessions of it may run at once,
   * and one more each time it was quiet for `growEvery`. Slots that are held stay so.
   */
  readonly throttle: (provider: string, until?: number) => Effect.Effect<void>
  /** The providers that are throttled now, and how many sessions of each may run at once. */
  readonly throttled: Effect.Effect<ReadonlyMap<string, number>>
}>()("orchestrator/tasks/Concurrency") {
  static readonly layer = Layer.effect(
    Concurrency,
    Effect.gen(function*() {
      const { concurrency: limits } = yield* Config
      const used = new Map<string, number>()
      /** `again`: it has begun before, and comes before those that have not. */
      const line: Array<{
        readonly request: SlotRequest
        readonly granted: Deferred.Deferred<void>
        readonly again: boolean
      }> = []
      /** What is left of a provider's limit, `most` being what ran when it was first reached. */
      const throttles = new Map<string, { limit: number; readonly most: number; halvedAt: number }>()
      const growth = yield* FiberMap.make<string>()
      let held = 0

      const providerLimit = (provider: string) =>
        Math.min(named(limits.providers, provider) ?? limits.total, throttles.get(provider)?.limit ?? Infinity)

      /** The counters a request draws on, with their limits. */
      const claims = ({ agent, model }: SlotRequest): ReadonlyArray<readonly [string, number]> => [
        ["total", limits.total],
        [`agent ${agent}`, named(limits.agents, agent) ?? limits.agent],
        ...(model === undefined ? [] : [
          [`model ${formatModel(model)}`, named(limits.models, formatModel(model)) ?? limits.total] as const,
          [`provider ${model.provider}`, providerLimit(model.provider)] as const
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
        grant()
      }

      /** Grants what there is room for, in order. */
      const grant = () => {
        // First decide, then wake: a waiter that is woken may give its slot back at once, which comes here again.
        const granted = line.filter((waiting) => {
          if (!fits(waiting.request)) return false
          count(waiting.request, 1)
          return true
        })
        for (const waiting of granted) line.splice(line.indexOf(waiting), 1)
        for (const waiting of granted) Deferred.doneUnsafe(waiting.granted, Effect.void)
      }

      /** Lets a throttled provider have one more, each time it was quiet for long enough, until it has all it had. */
      const grow = Effect.fnUntraced(function*(provider: string, quiet: Duration.Duration) {
        yield* Effect.sleep(quiet)
        while (true) {
          const throttle = throttles.get(provider)
          if (throttle === undefined) return
          throttle.limit++
          if (throttle.limit >= throttle.most) throttles.delete(provider)
          grant()
          yield* Effect.sleep(limits.growEvery)
        }
      })

      const throttle = Effect.fnUntraced(function*(provider: string, until: number = 0) {
        const now = yield* Clock.currentTimeMillis
        const running = Math.min(providerLimit(provider), Math.max(1, used.get(`provider ${provider}`) ?? 0))
        const known = throttles.get(provider)
        const half = Math.max(1, Math.floor(running / 2))
        if (known === undefined) throttles.set(provider, { limit: half, most: running, halvedAt: now })
        // Sessions that run side by side are refused side by side: that is one limit, reached once.
        else if (now - known.halvedAt >= Duration.toMillis(limits.growEvery)) {
          known.limit = half
          known.halvedAt = now
        }
        yield* FiberMap.run(
          growth,
          provider,
          grow(provider, Duration.max(limits.growEvery, Duration.millis(until - now)))
        )
      })

      return Concurrency.of({
        throttle,
        throttled: Effect.sync(() => new Map([...throttles].map(([provider, { limit }]) => [provider, limit]))),
        slot: Effect.fnUntraced(function*(order) {
          let request = order
          /** What it is counted as while it is held. */
          let counted = order
          let state: "free" | "held" | "closed" = "free"
          let parked = 0
          /** Completed when nothing it is parked for is under way any more. */
          let unparked = Deferred.makeUnsafe<void>()
          const give = (next: "free" | "closed") =>
            Effect.sync(() => {
              const before = state
              state = next
              if (before === "held") release(counted)
            })
          /** Interrupted while it waits, it holds nothing. */
          const take = (again: boolean) =>
            Effect.uninterruptibleMask((restore) =>
              Effect.suspend(() => {
                if (state !== "free") return Effect.void
                const wanted = request
                if (fits(wanted)) {
                  count(wanted, 1)
                  counted = wanted
                  state = "held"
                  return Effect.void
                }
                const waiting = { request: wanted, granted: Deferred.makeUnsafe<void>(), again }
                const place = line.findIndex((other) => again && !other.again)
                line.splice(place < 0 ? line.length : place, 0, waiting)
                return restore(Deferred.await(waiting.granted)).pipe(
                  Effect.onInterrupt(() =>
                    Effect.sync(() => {
                      const place = line.indexOf(waiting)
                      if (place < 0) release(wanted)
                      else line.splice(place, 1)
                    })
                  ),
                  Effect.andThen(Effect.sync(() => {
                    if (state === "free" && parked === 0) {
                      counted = wanted
                      state = "held"
                    } else release(wanted)
                  }))
                )
              })
            )
          const scope = yield* Effect.scope
          yield* Effect.addFinalizer(() => give("closed"))
          yield* take(false)
          /** Takes the slot again on behalf of the task: in its scope, whatever becomes of the one who waits for it. */
          let retaking: Fiber.Fiber<void> | undefined
          const retake = Effect.gen(function*() {
            const forgotten = Effect.sync(() => {
              retaking = undefined
            })
            retaking ??= yield* Effect.forkIn(Effect.ensuring(take(true), forgotten), scope)
            return retaking
          })
          const regained: Effect.Effect<void> = Effect.suspend(() => {
            if (state !== "free") return Effect.void
            if (parked > 0) return Effect.andThen(Deferred.await(unparked), regained)
            return Effect.asVoid(Effect.flatMap(retake, Fiber.await))
          })
          const parkedWhile: Slot["parkedWhile"] = (effect) =>
            Effect.uninterruptibleMask((restore) =>
              Effect.gen(function*() {
                if (parked++ === 0) {
                  unparked = Deferred.makeUnsafe()
                  if (state === "held") yield* give("free")
                }
                const exit = yield* Effect.exit(restore(effect))
                if (--parked > 0) return yield* exit
                Deferred.doneUnsafe(unparked, Effect.void)
                yield* restore(Effect.flatMap(retake, Fiber.await))
                // The life that held it is at its end, and stops its child: nothing may go on in that meanwhile.
                if (parked === 0 && state !== "held") yield* restore(Effect.sleep(stopTime))
                return yield* exit
              })
            )
          return {
            isHeld: Effect.sync(() => state === "held"),
            regained,
            parkedWhile,
            switchTo: (model) =>
              parkedWhile(Effect.sync(() => {
                request = { ...request, model }
              }))
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
