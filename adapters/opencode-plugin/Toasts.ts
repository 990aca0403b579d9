/** Toasts and log lines on their way to the host: in the background, bounded, never in anybody's way. */
import type { OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Cause, Effect, Layer, Logger, Queue } from "effect"
import { Mask } from "../../src/host/Mask.ts"
import { Notifier, type Toast } from "../../src/host/Notifier.ts"

/** How long a toast stays, in ms. */
const shownFor = { info: 4_000, success: 5_000, warning: 10_000, error: 10_000 }

const sendTimeout = "5 seconds"

/**
 * Shows toasts at most once in this time; what comes meanwhile is merged by its title. A host that is told of fifty
 * tasks one by one has less time for the tasks.
 */
const pause = "1 second"

/** When more than this many wait, the oldest are dropped. */
const buffer = 200

export const layer = (client: OpencodeClient, enabled: boolean): Layer.Layer<Notifier> =>
  Layer.effect(
    Notifier,
    Effect.gen(function*() {
      if (!enabled) return Notifier.of({ show: () => Effect.void })
      const mask = yield* Mask
      const waiting = yield* Queue.sliding<Toast>(buffer)
      const send = (toast: Toast) =>
        Effect.tryPromise((signal) => client.tui.showToast({ ...toast, duration: shownFor[toast.variant] }, { signal }))
          .pipe(
            Effect.timeout(sendTimeout),
            Effect.catchCause((cause) => Effect.logDebug("a toast could not be shown", cause))
          )
      yield* Queue.takeAll(waiting).pipe(
        Effect.flatMap((toasts) => Effect.forEach(merge(toasts), send, { discard: true })),
        Effect.andThen(Effect.sleep(pause)),
        Effect.forever,
        Effect.forkScoped
      )
      return Notifier.of({
        show: (toast) =>
          Effect.asVoid(Queue.offer(waiting, { ...toast, title: mask(toast.title), message: mask(toast.message) }))
      })
    })
  )

/** One toast for all with the same title, in the order of the first of each; of many messages the newest five. */
export const merge = (toasts: ReadonlyArray<Toast>): ReadonlyArray<Toast> => {
  const byTitle = Map.groupBy(toasts, (toast) => toast.title)
  return [...byTitle.values()].flatMap((group) => {
    const last = group.at(-1)
    if (last === undefined || group.length === 1) return group
    const shown = group.slice(-5).map((toast) => toast.message)
    const hidden = group.length - shown.length
    return [{
      ...last,
      title: `${last.title} (${group.length})`,
      message: [...shown, ...(hidden > 0 ? [`and ${hidden} more`] : [])].join("\n")
    }]
  })
}

/** A log line of more characters is cut off: somebody's whole output must not become one. */
const longestLine = 20_000

const levels = { Fatal: "error", Error: "error", Warn: "warn", Info: "info", Debug: "debug", Trace: "debug" } as const

/** Log lines go to the host's log: the terminal belongs to its user interface. */
export const layerLogger = (client: OpencodeClient): Layer.Layer<never> =>
  Logger.layer([
    Effect.gen(function*() {
      const mask = yield* Mask
      const waiting = yield* Queue.sliding<
        { readonly level: "error" | "warn" | "info" | "debug"; readonly message: string }
      >(200)
      yield* Queue.take(waiting).pipe(
        Effect.flatMap((line) =>
          Effect.tryPromise((signal) => client.app.log({ service: "orchestrator", ...line }, { signal }))
        ),
        Effect.timeout(sendTimeout),
        Effect.ignore, // a log that cannot be written has nowhere to say so
        Effect.forever,
        Effect.forkScoped
      )
      return Logger.make<unknown, void>(({ cause, logLevel, message }) => {
        const level = logLevel in levels ? levels[logLevel as keyof typeof levels] : "debug" // "All" and "None" carry no lines
        const words = (Array.isArray(message) ? message : [message]).map((part) =>
          part instanceof Error ? part.message : Cause.isCause(part) ? Cause.pretty(part) : String(part)
        )
        const why = cause.reasons.length > 0 ? [Cause.pretty(cause)] : []
        Queue.offerUnsafe(waiting, {
          level,
          message: mask([...words, ...why].join(" ").slice(0, 2 * longestLine)).slice(0, longestLine)
        })
      })
    })
  ])
