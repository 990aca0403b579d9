/** A Notifier that keeps what it was asked to show. */
import { Context, Effect, Layer } from "effect"
import { Notifier, type Toast } from "../../src/host/Notifier.ts"

export class ShownToasts extends Context.Service<ShownToasts, {
  /** All toasts so far, oldest first. */
  readonly all: Effect.Effect<ReadonlyArray<Toast>>
}>()("orchestrator/test/ShownToasts") {}

export const layer: Layer.Layer<Notifier | ShownToasts> = Layer.effectContext(Effect.sync(() => {
  const toasts: Array<Toast> = []
  return Context.make(Notifier, Notifier.of({ show: (toast) => Effect.sync(() => void toasts.push(toast)) })).pipe(
    Context.add(ShownToasts, ShownToasts.of({ all: Effect.sync(() => [...toasts]) }))
  )
}))
