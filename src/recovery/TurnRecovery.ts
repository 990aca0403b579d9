/** Says what is to be done about a turn that failed, by the error table, the settings, and the models that the host has. */
import { Context, Effect, Layer, Random, Schedule } from "effect"
import { Config } from "../Config.ts"
import { formatModel, type ModelRef, noTries, type Tries, type TurnError } from "../domain/Session.ts"
import { SessionClient } from "../host/SessionClient.ts"
import { isDegenerate } from "./degenerate.ts"
import { type Action, classify, decide, describe, instruction, type Kind, spend } from "./ErrorTable.ts"

/** A host that has told of an error takes up to half a second to end the turn, when it has much to do. In ms. */
const turnEnds = 2_000

export interface Decision {
  readonly kind: Kind
  readonly action: Action
  /**
   * How long to wait before that, ms: what a wait asks for, and never less than a host needs to end the failed turn. A
   * prompt that it is given sooner is stored, and may never be begun.
   */
  readonly wait: number
  /** What to record before the action is taken, and to give back when the next turn of the session fails. */
  readonly tries: Tries
  /** What people read of it: what went wrong, and what is done about it. */
  readonly says: string
  /** What the session is told, when it is to go on. */
  readonly instruction: string
}

export class TurnRecovery extends Context.Service<TurnRecovery, {
  /**
   * What is to be done about a failed turn. `tries` are those of the last decision for this session, or none when a turn
   * has succeeded since. `mayWait` false: the host has been waiting for long enough, only another model can help.
   */
  readonly decide: (
    error: TurnError,
    tries: Tries | undefined,
    options?: { readonly mayWait?: boolean }
  ) => Effect.Effect<Decision>
  /** The same about a finished turn's answer, if it is none: one passage over and over, or no text that can be read. */
  readonly judge: (answer: string, tries: Tries | undefined) => Effect.Effect<Decision | undefined>
}>()("orchestrator/recovery/TurnRecovery") {
  static readonly layer = Layer.effect(
    TurnRecovery,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const known = yield* Effect.cachedWithTTL(
        Effect.retry(client.models, { times: 2, schedule: Schedule.exponential("200 millis") }).pipe(
          Effect.tap((models) => {
            const missing = config.fallbackModels.filter((name) => !models.some((model) => formatModel(model) === name))
            return missing.length === 0
              ? Effect.void
              : Effect.logWarning(`there is no such fallback model: ${missing.join(", ")}`)
          }),
          Effect.orElseSucceed((): ReadonlyArray<ModelRef> => []) // a host that does not say has none to switch to
        ),
        "1 minute"
      )

      /** The fallback models that the host has, in the order of the settings. */
      const fallbacks = Effect.suspend(() =>
        config.fallbackModels.length === 0
          ? Effect.succeed([])
          : Effect.map(known, (models) =>
            config.fallbackModels.flatMap((name) =>
              models.filter((model) => formatModel(model) === name).slice(0, 1)
            ))
      )

      const decideOn = Effect.fnUntraced(function*(
        kind: Kind,
        error: TurnError,
        tries: Tries,
        mayWait: boolean
      ): Effect.fn.Return<Decision> {
        const random = yield* Random.Random
        const action = decide(kind, tries, {
          budget: config.retries,
          models: yield* fallbacks,
          retryAfter: error.retryAfter,
          mayWait,
          random: random.nextDoubleUnsafe()
        })
        return {
          kind,
          action,
          wait: kind === "degenerate output" ? 0 : Math.max(turnEnds, action.type === "wait" ? action.ms : 0),
          tries: spend(tries, action),
          says: describe(kind, error, action, tries),
          instruction: instruction(kind)
        }
      })

      return TurnRecovery.of({
        decide: (error, tries = noTries, options) => decideOn(classify(error), error, tries, options?.mayWait ?? true),
        judge: Effect.fnUntraced(function*(answer: string, tries: Tries = noTries) {
          if (!isDegenerate(answer)) return undefined
          return yield* decideOn("degenerate output", { name: "", message: "" }, tries, true)
        })
      })
    })
  )
}
