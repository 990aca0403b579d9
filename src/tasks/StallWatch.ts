/** Watches a child that shows no sign of life: looks at it, nudges it, and in the end has it aborted. Each step shows. */
import { Clock, Context, Duration, Effect, Layer } from "effect"
import { Config } from "../Config.ts"
import { ownPrompt, type SessionId } from "../domain/Session.ts"
import { formatDuration, type Task, type TaskId } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import type { Slot } from "./Concurrency.ts"
import { TaskStore } from "./TaskStore.ts"

export type Silence =
  /** It has been silent through all steps: abort it. */
  | { readonly type: "silent"; readonly message: string }
  /** The host has retried the provider's error for as long as is allowed; `words` are the provider's. */
  | { readonly type: "retried"; readonly message: string; readonly words: string }

export class StallWatch extends Context.Service<StallWatch, {
  /** Waits until a running task has been silent for three times `stallAfter`, or the host has retried for `retryLimit`. */
  readonly silence: (id: TaskId, slot: Slot) => Effect.Effect<Silence>
}>()("orchestrator/tasks/StallWatch") {
  static readonly layer = Layer.effect(
    StallWatch,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const ids = yield* Ids
      const notifier = yield* Notifier
      const store = yield* TaskStore
      const patience = Duration.toMillis(config.stallAfter)

      /**
       * A child that waits for tasks of its own, for a slot, or for a person is not stalled: they have limits of their own.
       * It holds no slot meanwhile. One that holds it keeps those very tasks in line, and has to show that it works.
       */
      const isWaiting = (task: Task, slot: Slot) =>
        task.asking === true ? Effect.succeed(true) : Effect.map(slot.isHeld, (held) => !held)

      const show = Effect.fnUntraced(function*(task: Task, what: string) {
        yield* Effect.ignore(store.apply(task.id, { type: "stalled", run: task.run, what })) // it may have ended just now
        yield* notifier.show(presets.stalled(task, what))
      })

      /** How far a session has come, to be compared: events of what it did meanwhile may have been lost. */
      const trace = (session: SessionId) =>
        client.messages(session, 1).pipe(
          Effect.map(([last]) => last === undefined ? "" : `${last.id} ${last.parts.length}`),
          Effect.orElseSucceed(() => undefined)
        )

      const silence = Effect.fnUntraced(function*(id: TaskId, slot: Slot): Effect.fn.Return<Silence> {
        let since = 0
        let step = 0
        let steppedAt = 0
        let looked: string | undefined
        while (true) {
          const task = yield* Effect.orDie(store.get(id)) // it runs, so it is at hand
          const now = yield* Clock.currentTimeMillis
          const retried = now - (task.retrying?.since ?? now)
          const retryLeft = Duration.toMillis(config.retryLimit) - retried
          if (task.retrying !== undefined && retryLeft <= 0) {
            return {
              type: "retried",
              message: `OpenCode retried for ${formatDuration(retried)}: ${task.retrying.message}`,
              words: task.retrying.message
            }
          }
          const alive = task.retrying !== undefined || (yield* isWaiting(task, slot)) ? now : task.activityAt
          if (alive > since) {
            since = alive
            step = 0
          }
          // After a pause, of the machine or between two instances, the silence may be longer than all waits together.
          const wait = Math.max(since, steppedAt) + patience - now
          if (wait > 0 || task.session === undefined) {
            yield* Effect.sleep(wait > 0 ? Math.min(wait, retryLeft) : 1_000)
            continue
          }
          const silentFor = `no sign of life for ${formatDuration(now - since)}`
          step++
          steppedAt = now
          if (step === 1) {
            looked = yield* trace(task.session)
            yield* show(task, `${silentFor}; looked at it`)
          } else if (step === 2) {
            const now = yield* trace(task.session)
            if (now !== looked && now !== undefined) {
              // It works, and the events of that were lost.
              yield* Effect.ignore(store.apply(id, { type: "seen" })) // it may have ended just now
              continue
            }
            yield* show(task, `${silentFor}; nudged it`)
            yield* Effect.ignore(client.prompt({ // the next step follows if it did not arrive
              session: task.session,
              id: yield* ids.message,
              text: nudge,
              agent: task.agent,
              model: task.model,
              metadata: ownPrompt("nudge"),
              synthetic: true
            }))
          } else {
            yield* show(task, `${silentFor}; aborted it`)
            return { type: "silent", message: `It showed ${silentFor}, also after it was nudged, and was stopped.` }
          }
        }
      })

      return StallWatch.of({ silence })
    })
  )
}

const nudge =
  "Nothing was heard of you for a long time. If something hangs, leave it and go another way; if you are done, end with your result."
