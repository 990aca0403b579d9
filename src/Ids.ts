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
  /** `plan_` and ten letters or digits. */
  readonly plan: Effect.Effect<string>
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
      task: Effect.map(named("task"), (id) => TaskId.make(id)),
      plan: named("plan"),
      command: Effect.map(named("job"), (id) => CommandId.make(id))
    })
  })
}

const named = (kind: string) =>
  Effect.map(Random.Random, (random) => `${kind}_${randomText(10, () => random.nextDoubleUnsafe())}`)

/** The host counts its own ids of one millisecond from 1; ours start higher, so that they sort after those. */
const ownCounter = 0x800
