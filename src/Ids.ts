/** Fresh ids, from the clock and the randomness of the runtime, so that a seed replays them. */
import { Clock, Context, Effect, Layer, Random } from "effect"
import { CommandId } from "./domain/Command.ts"
import { makeMessageId, type MessageId, randomText } from "./domain/Session.ts"
import { TaskId } from "./domain/Task.ts"

export class Ids extends Context.Service<Ids, {
  /** Sorts after every message that the host has made so far. */
  readonly message: Effect.Effect<MessageId>
  /** `task_` and ten letters or digits. */
  readonly task: Effect.Effect<TaskId>
  /** `job_` and ten letters or digits. */
  readonly command: Effect.Effect<CommandId>
}>()("orchestrator/Ids") {
  static readonly layer = Layer.sync(Ids, () => {
    let lastMs = 0
    let counter = 0
    return Ids.of({
      message: Effect.gen(function*() {
        const random = yield* Random.Random
        const now = yield* Clock.currentTimeMillis
        counter = now === lastMs ? counter + 1 : ownCounter
        lastMs = now
        return makeMessageId(now, counter, () => random.nextDoubleUnsafe())
      }),
      task: Effect.map(
        Random.Random,
        (random) => TaskId.make(`task_${randomText(10, () => random.nextDoubleUnsafe())}`)
      ),
      command: Effect.map(
        Random.Random,
        (random) => CommandId.make(`job_${randomText(10, () => random.nextDoubleUnsafe())}`)
      )
    })
  })
}

/** The host counts its own ids of one millisecond from 1; ours start higher, so that they sort after those. */
const ownCounter = 0x800
