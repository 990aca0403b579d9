/** Goes on with a task whose turn has failed, in the same run: each step is recorded before it is taken. */
import { Clock, Context, Effect, Layer } from "effect"
import { ownPrompt, type SessionId } from "../domain/Session.ts"
import type { Mending, Task, TaskEvent } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { arrival, SessionClient, type SessionError, untilHostAnswers } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import type { Decision } from "../recovery/TurnRecovery.ts"
import type { Slot } from "./Concurrency.ts"
import { TaskStore } from "./TaskStore.ts"

export class Retries extends Context.Service<Retries, {
  /** Records what is done about a failed turn. False when nothing can be done: the task has failed. */
  readonly mend: (task: Task, decision: Decision) => Effect.Effect<boolean>
  /** Does it: waits without a slot, then tells the child to go on. After a restart it goes on where it was. */
  readonly goOn: (task: Task, mending: Mending, session: SessionId, slot: Slot) => Effect.Effect<void, SessionError>
}>()("orchestrator/tasks/Retries") {
  static readonly layer = Layer.effect(
    Retries,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const ids = yield* Ids
      const notifier = yield* Notifier
      const store = yield* TaskStore
      const apply = ({ id }: Task, event: TaskEvent) => Effect.orDie(store.apply(id, event)) // an unsettled task is never archived, so it is always found

      const mend = Effect.fnUntraced(function*(task: Task, { action, instruction, says, tries, wait }: Decision) {
        if (action.type === "give up" || action.type === "inspect") return false
        const mending: Mending = {
          says,
          until: (yield* Clock.currentTimeMillis) + wait,
          instruction,
          ...(action.type === "switch" ? { model: action.model } : {}),
          ...(action.type === "compact" ? { compact: true } : {})
        }
        const { after } = yield* apply(task, { type: "mending", run: task.run, tries, mending })
        yield* notifier.show(presets.mending(after, says))
        return true
      })

      const goOn = Effect.fnUntraced(function*(task: Task, mending: Mending, session: SessionId, slot: Slot) {
        const { run } = task
        const wait = mending.until - (yield* Clock.currentTimeMillis)
        const model = mending.model ?? task.model
        // For the other model from the first place in line on: a slot that were got and given up again would wake whoever
        // waits for it to tell the child of its tasks.
        const switching = mending.model === undefined ? Effect.void : slot.switchTo(mending.model)
        if (wait > 0) yield* slot.parkedWhile(Effect.andThen(switching, Effect.sleep(wait)))
        else yield* switching
        yield* slot.regained
        if (mending.promptId === undefined) {
          if (mending.compact === true) yield* shorten(task, session)
          yield* apply(task, { type: "retrying", run, promptId: yield* ids.message })
        }
        const { mending: current } = yield* Effect.orDie(store.get(task.id)) // unsettled, so it is at hand
        if (current?.promptId === undefined) return yield* Effect.interrupt // settled meanwhile
        const { instruction: text, promptId: id } = current
        const saying = client.prompt({ session, id, text, agent: task.agent, model, metadata: ownPrompt("retry") })
        yield* untilHostAnswers(Effect.andThen(saying, arrival(client, session, id)))
        yield* apply(task, { type: "retried", run })
      })

      /** Where that fails the child goes on as it is: its next turn shows whether it was needed. */
      const shorten = (task: Task, session: SessionId) =>
        Effect.catchTag(
          client.compact(session, task.model),
          ["HostRefused", "HostUnavailable", "MalformedAnswer"],
          (error) => Effect.logWarning(`the session ${session} could not be shortened`, error)
        )

      return Retries.of({ mend, goOn })
    })
  )
}
