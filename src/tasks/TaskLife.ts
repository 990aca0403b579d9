/** The lives of tasks: from the line for a slot to the settled end, and nothing of a task outlives it. */
import { Context, Deferred, Duration, Effect, Fiber, FiberMap, FiberSet, Layer, Option, Schedule, Schema } from "effect"
import { BackgroundCommands } from "../commands/BackgroundCommands.ts"
import { CommandStore, isOpenCommand } from "../commands/CommandStore.ts"
import { Config } from "../Config.ts"
import { withDigest } from "../domain/Finding.ts"
import {
  isAbort,
  type MessageId,
  ownPrompt,
  readTurn,
  type Session,
  SessionId,
  type TurnError
} from "../domain/Session.ts"
import {
  formatDuration,
  goingOn,
  isOpen,
  isSettled,
  Task,
  type TaskEnd,
  type TaskEvent,
  TaskId
} from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { arrival, HostUnavailable, SessionClient, type SessionError, untilHostAnswers } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { Progress } from "../mission/Progress.ts"
import { SharedContext } from "../mission/SharedContext.ts"
import { SmartContext } from "../mission/SmartContext.ts"
import { type Decision, TurnRecovery } from "../recovery/TurnRecovery.ts"
import { Completion, newestMessages, type Watch } from "./Completion.ts"
import { Concurrency, type Slot } from "./Concurrency.ts"
import { Notices } from "./Notices.ts"
import type { Accepted } from "./Orders.ts"
import { quieten } from "./quieten.ts"
import { Retries } from "./Retries.ts"
import { StallWatch } from "./StallWatch.ts"
import { TaskJournal } from "./TaskJournal.ts"
import { TaskStore } from "./TaskStore.ts"

/**
 * Where a life begins. `launch`: with the order, as far as that was not carried out already. The others take up a task
 * of an earlier instance in its session: `attend` waits for the turn that is there, `repeat` sends the prompt that was
 * recorded and never arrived, `resume` starts the next run.
 */
export type Entry = "launch" | "attend" | "repeat" | "resume"

export class TaskLife extends Context.Service<TaskLife, {
  /** Begins the life of a recorded task, in the background. It settles the task, whatever happens. */
  readonly begin: (accepted: Accepted, entry: Entry) => Effect.Effect<void>
  /** Whether the life of a task goes on here. */
  readonly isLiving: (id: TaskId) => Effect.Effect<boolean>
  /** Returns when nothing of a task goes on here any more: after its end, its child is still to be stopped. */
  readonly over: (id: TaskId) => Effect.Effect<void>
  /** Ends a task and does what follows from it, if this is the first end of that run. */
  readonly settle: (id: TaskId, run: number, end: TaskEnd) => Effect.Effect<void>
  /** Cancels a task, whatever its run by now, with all it has delegated, and stops its child. */
  readonly cancel: (id: TaskId, reason: string) => Effect.Effect<void>
  /** Cancels every unsettled task that fits; returns when none of their children works any more. */
  readonly cancelAll: (belongs: (task: Task) => boolean, reason: string) => Effect.Effect<void>
  /** Runs `wait` on behalf of what works in a session, which holds no slot meanwhile. */
  readonly parkedWhile: <A, E, R>(session: SessionId, wait: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}>()("orchestrator/tasks/TaskLife") {
  static readonly layer = Layer.effect(
    TaskLife,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const commands = yield* BackgroundCommands
      const commandStore = yield* CommandStore
      const completion = yield* Completion
      const concurrency = yield* Concurrency
      const config = yield* Config
      const ids = yield* Ids
      const journal = yield* TaskJournal
      const notices = yield* Notices
      const notifier = yield* Notifier
      const progress = yield* Progress
      const shared = yield* SharedContext
      const smart = yield* SmartContext
      const recovery = yield* TurnRecovery
      const retries = yield* Retries
      const stallWatch = yield* StallWatch
      const store = yield* TaskStore
      /** Stops of children; they outlive `lives`, whose ends use them. */
      const stops = yield* FiberSet.make()
      const lives = yield* FiberMap.make<TaskId>()
      const slots = new Map<SessionId, Slot>()
      const unsettled = (belongs: (task: Task) => boolean) =>
        Effect.map(store.all, (all) => all.filter((task) => !isSettled(task) && belongs(task)))

      const apply = (id: TaskId, event: TaskEvent) => Effect.orDie(store.apply(id, event)) // an unsettled task is never archived, so it is always found

      // ---- ending ---------------------------------------------------------------------------------------------

      /** Not to be cut off between the end and the telling of it. */
      const settle = Effect.fnUntraced(function*(id: TaskId, run: number, end: TaskEnd) {
        const { before, after } = yield* apply(id, { type: "ended", run, end })
        if (after === before) return
        yield* shared.hear(after)
        yield* progress.changed(after.mission)
        if (after.session !== undefined) yield* commands.release(after.session, "the task of its agent ended")
        yield* notifier.show(after.state === "completed" ? presets.taskCompleted(after) : presets.taskFailed(after))
        yield* notices.consider(after.parent)
      }, Effect.uninterruptible)

      /** What a task that ended badly leaves behind. Once its child is quiet: else a call of it that waits would return to it. */
      const cancelBelow = Effect.fnUntraced(function*(id: TaskId) {
        const { session, state } = yield* Effect.orDie(store.get(id)) // it has only just settled
        if (session === undefined || state === "completed") return
        yield* cancelAll((task) => task.parent === session, `its parent ${id} ended`)
        yield* notices.forget(session)
      })

      /** Settles, then ends the life of the task, which stops its child and gives its slot back. */
      const cancel = Effect.fnUntraced(function*(id: TaskId, reason: string) {
        const known = yield* Effect.option(store.get(id))
        if (Option.isNone(known)) return
        yield* settle(id, known.value.run, { state: "cancelled", reason: `Cancelled: ${reason}.` })
        yield* FiberMap.remove(lives, id)
        yield* cancelBelow(id)
      })

      const cancelAll = (belongs: (task: Task) => boolean, reason: string): Effect.Effect<void> =>
        Effect.flatMap(
          unsettled(belongs),
          (tasks) =>
            Effect.forEach(tasks, (task) => cancel(task.id, reason), { concurrency: "unbounded", discard: true })
        )

      /** Stops a child when its life ends, in a fiber of its own: nothing can be timed out in a finalizer. */
      const stop = Effect.fnUntraced(function*(id: TaskId, session: SessionId) {
        const { promptId, run, state } = yield* Effect.orDie(store.get(id)) // it has only just settled, or has not
        if ((yield* journal.isLost) || promptId === undefined) return
        // A life that ends before its task does is broken off by the end of this instance.
        if (state === "running") yield* apply(id, { type: "interrupted", run })
        // A notice on its way would start another turn behind the one that is aborted.
        const stopping = notices.quietly(session, quieten(client, session, promptId))
        yield* Effect.flatMap(FiberSet.run(stops, stopping), Fiber.await)
      })

      const over = (id: TaskId) =>
        Effect.flatMap(
          FiberMap.get(lives, id),
          (life) => life._tag === "None" ? Effect.void : Fiber.await(life.value)
        )

      // ---- the life of a task -----------------------------------------------------------------------------------

      /** From the line for a slot to the settled task. The child is stopped before its slot is given back. */
      const live = Effect.fnUntraced(function*(accepted: Accepted, entry: Entry) {
        const { task } = accepted
        const hasSlot = yield* Deferred.make<void>()
        // Until it has a slot, what its own tasks came to must not start a turn of it.
        if (task.session !== undefined) yield* notices.await(task.session, Deferred.await(hasSlot))
        const child = { idle: false }
        // Whatever happens, the child is stopped unless it is known to be idle: one of an earlier instance may be at work
        // already, so also when the wait for a slot is cut off.
        const stopsChild = (session: SessionId) =>
          Effect.suspend(() => child.idle ? Effect.void : stop(task.id, session))
        const known = task.session === undefined ? Effect.void : stopsChild(task.session)
        // An earlier task of the session that is being stopped would take this one's turn along.
        if (task.session !== undefined) {
          const earlier = (yield* store.all).filter((other) => other.session === task.session && other.id !== task.id)
          yield* Effect.forEach(earlier, ({ id }) => over(id), { discard: true })
        }
        const slot = yield* Effect.uninterruptibleMask((restore) =>
          restore(concurrency.slot({ task: task.id, agent: task.agent, model: task.model })).pipe(
            Effect.onInterrupt(() => known),
            Effect.tap(() => Effect.addFinalizer(() => known))
          )
        )
        yield* Deferred.succeed(hasSlot, undefined)
        const end = yield* attempt(accepted, entry, slot, stopsChild).pipe(
          Effect.timeoutOrElse({
            duration: config.taskTimeLimit,
            orElse: () =>
              Effect.succeed<TaskEnd>({
                state: "timed_out",
                reason: `It was stopped at its time limit of ${words(config.taskTimeLimit)}.`
              })
          }),
          Effect.catch((error) => Effect.succeed<TaskEnd>({ state: "failed", reason: error.message })),
          Effect.catchDefect((defect) =>
            Effect.as(
              Effect.logError("a task failed inside the orchestrator", defect),
              { state: "failed", reason: `The orchestrator itself failed: ${String(defect)}` } satisfies TaskEnd
            )
          )
        )
        child.idle = end.state === "completed"
        const { run } = yield* Effect.orDie(store.get(task.id)) // unsettled, so it is at hand
        yield* settle(task.id, run, end)
      }, (life, { task }) =>
        Effect.scoped(life).pipe(
          Effect.andThen(cancelBelow(task.id)),
          // A forked fiber that fails says nothing by itself.
          Effect.tapDefect((defect) => Effect.logError(`the life of ${task.id} broke off`, defect))
        ))

      /** Runs the task in its slot, to the end of its last run. */
      const attempt = Effect.fnUntraced(function*(
        accepted: Accepted,
        entry: Entry,
        slot: Slot,
        stopsChild: (session: SessionId) => Effect.Effect<void>
      ) {
        const { task } = accepted
        yield* apply(task.id, { type: "launching", run: task.run })
        const session = task.session ?? (yield* makeSession(accepted))
        if (task.session === undefined) yield* Effect.addFinalizer(() => stopsChild(session))
        const watch = yield* completion.watch(session)
        slots.set(session, slot)
        yield* Effect.addFinalizer(() => Effect.sync(() => slots.delete(session)))
        yield* notices.await(session, slot.regained)
        yield* notifier.show(presets.sessionCreated(task))
        if (entry === "launch") yield* prompt(task, session)
        else if (entry === "attend") yield* watch.look
        else {
          const own = (yield* store.all).filter((other) => other.parent === session)
          const text = [interruptedInstruction, ...goingOn(own)].join("\n")
          if (entry === "resume") yield* nextRun(task.id, session, text)
          else yield* say(task, session, task.promptId ?? (yield* ids.message), text)
        }
        return yield* attend(task.id, session, watch, slot)
      })

      /** Not to be cut off between the host's making of a session and our knowing of it. */
      const makeSession = Effect.fnUntraced(function*({ limits, permission, task }: Accepted) {
        const creating = client.create({
          title: `${task.description} (${task.agent})`,
          parent: task.parent,
          agent: task.agent,
          permission,
          metadata: {
            orchestrator: {
              task: task.id,
              run: task.run,
              instance: journal.instance,
              mission: task.mission,
              depth: task.depth,
              description: task.description,
              limits,
              ...(task.plan === undefined ? {} : { plan: task.plan })
            }
          }
        }).pipe(
          // It may have been made although no answer came: made again, a task would have two.
          Effect.catchTag(
            "HostUnavailable",
            (error) =>
              Effect.flatMap(aFewTimes(client.children(task.parent)), (children) => {
                const made = children.find((child) => readMark(child)?.task === task.id)
                return made === undefined ? Effect.fail(new NotMade({ cause: error })) : Effect.succeed(made)
              })
          ),
          Effect.retry({
            times: 5,
            schedule: Schedule.exponential("100 millis"),
            // A host that says no for a reason of ours says it again.
            while: (error) => error._tag === "NotMade" || (error._tag === "HostRefused" && error.status >= 500)
          }),
          Effect.catchTag("NotMade", ({ cause }) => Effect.fail(cause))
        )
        const { id } = yield* creating
        yield* apply(task.id, { type: "created", run: task.run, session: id })
        return id
      }, Effect.uninterruptible)

      /** Gives the child its order, under an id that is recorded first: sent again, the host takes it once. */
      const prompt = Effect.fnUntraced(function*(task: Task, session: SessionId) {
        if (task.promptId === undefined) {
          yield* apply(task.id, { type: "prompting", run: task.run, promptId: yield* ids.message })
        }
        const { promptId } = yield* Effect.orDie(store.get(task.id)) // unsettled, so it is at hand
        if (promptId === undefined) return yield* Effect.interrupt // settled before it was prompted
        // The record keeps the prompt as it was ordered: what the mission knows is told beside it.
        yield* say(task, session, promptId, withDigest(task.prompt, yield* smart.digest(task)))
        yield* apply(task.id, { type: "prompted", run: task.run })
      })

      const say = (task: Task, session: SessionId, id: MessageId, text: string) =>
        untilHostAnswers(client.prompt({
          session,
          id,
          text,
          agent: task.agent,
          model: task.model,
          // Earlier tasks may have worked in the session: each knows its own prompts.
          metadata: { ...ownPrompt("task"), task: task.id }
        }))

      const nextRun = Effect.fnUntraced(function*(id: TaskId, session: SessionId, text: string) {
        const promptId = yield* ids.message
        const task = yield* Effect.orDie(store.get(id)) // unsettled, so it is at hand
        const { after } = yield* apply(id, { type: "resumed", run: task.run + 1, promptId })
        // A turn that its own tasks have started meanwhile is no answer to it. A host that ended before it had stored it is
        // told again, under the same id.
        yield* untilHostAnswers(
          Effect.andThen(say(after, session, promptId, text), arrival(client, session, promptId))
        )
      })

      /**
       * Has a child go on after its turn has failed: as it is `decided`, or as is recorded already. Meanwhile no notice is
       * sent, which would start a turn of a child that waits without a slot.
       */
      const mend = (id: TaskId, session: SessionId, slot: Slot, decided?: Decision) =>
        notices.quietly(
          session,
          Effect.gen(function*() {
            const task = yield* Effect.orDie(store.get(id)) // unsettled, so it is at hand
            if (decided !== undefined) {
              // A notice that was on its way has started a turn: that one is waited for.
              if ((yield* untilHostAnswers(client.statuses)).has(session)) return "goes on" as const
              if (!(yield* retries.mend(task, decided))) return "given up" as const
            }
            const { mending } = yield* Effect.orDie(store.get(id)) // unsettled, so it is at hand
            if (mending !== undefined) yield* retries.goOn(task, mending, session, slot)
            return "goes on" as const
          })
        ).pipe(Effect.catchTag("SessionNotFound", () => Effect.succeed("gone" as const)))

      /** Waits for the child's last word: turn after turn while it waits for tasks of its own, run after run while it stalls. */
      const attend = Effect.fnUntraced(function*(
        id: TaskId,
        session: SessionId,
        watch: Watch,
        slot: Slot
      ): Effect.fn.Return<TaskEnd, SessionError> {
        /** The error that the child is getting over: news of it may still come. */
        let past: TurnError | undefined
        while (true) {
          const task = yield* Effect.orDie(store.get(id)) // unsettled, so it is at hand
          if (isSettled(task)) return yield* Effect.interrupt // by somebody else: run after run would count for nothing
          const { mending, promptId, run, tries } = task
          if (promptId === undefined) return { state: "failed", reason: "It was never prompted." }
          if (mending !== undefined) {
            if ((yield* mend(id, session, slot)) === "gone") return { state: "failed", reason: deletedReason }
            continue
          }
          const outcome = yield* Effect.raceFirst(watch.outcome(promptId, past), stallWatch.silence(id, slot))
          switch (outcome.type) {
            case "gone":
              return { state: "failed", reason: deletedReason }
            case "failed": {
              if (isAbort(outcome.error)) return { state: "cancelled", reason: "Cancelled: its session was aborted." }
              const decision = yield* recovery.decide(outcome.error, tries)
              if (decision.kind === "rate limit" && task.model !== undefined) {
                yield* concurrency.throttle(task.model.provider)
              }
              past = outcome.error
              const mended = yield* mend(id, session, slot, decision)
              if (mended === "goes on") continue
              return { state: "failed", reason: mended === "gone" ? deletedReason : decision.says }
            }
            case "retried": {
              const error: TurnError = { name: "", message: outcome.words, retryable: true }
              const decision = yield* recovery.decide(error, tries, { mayWait: false })
              if (decision.action.type !== "switch") return { state: "failed", reason: outcome.message }
              yield* quieten(client, session, promptId)
              if ((yield* mend(id, session, slot, decision)) === "gone") {
                return { state: "failed", reason: deletedReason }
              }
              continue
            }
            case "finished": {
              const next = yield* afterTurn(id, run, session, promptId, outcome.text)
              if (next.type === "done") {
                const decision = yield* recovery.judge(next.text, tries)
                if (decision === undefined) return { state: "completed", result: next.text }
                const mended = yield* mend(id, session, slot, decision)
                if (mended === "goes on") continue
                if (mended === "gone") return { state: "failed", reason: deletedReason }
                return { state: "failed", reason: `${decision.says}\nIt began: ${next.text.slice(0, 200)}` }
              }
              if (next.type === "waits") yield* waitForOwnTasks(id, run, session, slot)
              if (next.type !== "goes on") yield* notices.flush(session).pipe(untilHostAnswers)
              continue
            }
            case "silent":
            case "stalled": {
              const instruction = outcome.type === "silent" ? silentInstruction : goOnInstruction
              if (run >= config.maxRuns) {
                return {
                  state: "failed",
                  reason: outcome.type === "silent"
                    ? outcome.message
                    : outcome.started
                    ? "It went idle in the middle of its work, and again after it was told to go on."
                    : `OpenCode did not begin its turn within ${words(config.startTimeout)}.`
                }
              }
              // A notice in between would start a turn that ends before the next run has begun.
              yield* notices.quietly(
                session,
                Effect.gen(function*() {
                  if (outcome.type === "silent") yield* quieten(client, session, promptId)
                  // A call of the child that waited, and was cut off with its turn, may have left it without.
                  yield* slot.regained
                  // A notice that was on its way has started a turn: that one is waited for.
                  if (outcome.type === "stalled" && !(yield* watch.isStill(outcome.newest))) return
                  yield* nextRun(id, session, instruction)
                })
              )
            }
          }
        }
      })

      /**
       * What follows from a finished turn, decided while no notice is sent: the child is done only when no task of its own
       * is unsettled or untold. Its commands end with it. When it was told of one, another turn may have come after the one that was `seen`.
       */
      const afterTurn = Effect.fnUntraced(function*(
        id: TaskId,
        run: number,
        session: SessionId,
        prompt: MessageId,
        seen: string
      ): Effect.fn.Return<AfterTurn, SessionError> {
        const ownTasks = Effect.map(store.all, (all) => all.filter((task) => task.parent === session))
        const hasCommands = (yield* commandStore.all).some((one) => one.session === session && isOpenCommand(one))
        if (!hasCommands && (yield* ownTasks).length === 0) return { type: "done", text: seen }
        return yield* notices.quietly(
          session,
          Effect.gen(function*(): Effect.fn.Return<AfterTurn, SessionError> {
            const turn = readTurn(yield* untilHostAnswers(client.messages(session, newestMessages)), prompt)
            const own = yield* ownTasks
            if (turn.state !== "finished") return { type: "goes on" }
            if (!own.some(isOpen)) {
              // While no notice of one of them is on its way, which would start another turn.
              yield* commands.release(session, "the task of its agent ended")
              return { type: "done", text: turn.text }
            }
            if (own.every(isSettled)) return { type: "is to be told" }
            yield* apply(id, { type: "waiting", run, waiting: true })
            return { type: "waits" }
          })
        )
      })

      /**
       * Waits without a slot until the child's own tasks have settled, or the oldest ended one has waited long enough. It
       * counts as waiting until it has a slot again: a child that does not wait may be told of its tasks by anybody.
       */
      const waitForOwnTasks = Effect.fnUntraced(function*(id: TaskId, run: number, session: SessionId, slot: Slot) {
        const open = yield* unsettled((task) => task.parent === session)
        const allSettled = Effect.forEach(open, (task) => Effect.orDie(store.settled(task.id)), { // unsettled: it is at hand
          concurrency: "unbounded",
          discard: true
        })
        yield* slot.parkedWhile(Effect.timeoutOption(allSettled, config.noticeMaxWait)).pipe(
          Effect.ensuring(Effect.ignore(store.apply(id, { type: "waiting", run, waiting: false }))) // a settled task may be archived
        )
      })

      return TaskLife.of({
        begin: (accepted, entry) =>
          Effect.asVoid(FiberMap.run(lives, accepted.task.id, Effect.interruptible(live(accepted, entry)))),
        isLiving: (id) => FiberMap.has(lives, id),
        over,
        settle,
        cancel,
        cancelAll,
        parkedWhile: (session, wait) => slots.get(session)?.parkedWhile(wait) ?? wait
      })
    })
  )
}

/** The host does not know of a session whose making it did not confirm. */
class NotMade extends Schema.TaggedError<NotMade>()("NotMade", { cause: HostUnavailable }) {}

const aFewTimes = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { times: 5, schedule: Schedule.exponential("100 millis") })

type AfterTurn =
  | { readonly type: "done"; readonly text: string }
  /** It has been told of a task meanwhile, and goes on. */
  | { readonly type: "goes on" }
  | { readonly type: "is to be told" }
  | { readonly type: "waits" }

/** What a child carries to be recognised by. */
const Mark = Schema.Struct({
  orchestrator: Schema.Struct({
    task: TaskId,
    run: Schema.Int,
    /** Absent when nothing is recorded. */
    instance: Schema.optional(Schema.String),
    mission: SessionId,
    depth: Schema.Int,
    description: Schema.String,
    plan: Task.fields.plan
  })
})

export const readMark = ({ metadata }: Session) => Option.getOrUndefined(decodeMark(metadata))?.orchestrator
const decodeMark = Schema.decodeUnknownOption(Mark)

const goOnInstruction =
  "Your last turn ended before you were finished. Go on where you stopped, and end with your result."

const silentInstruction =
  "You were stopped because nothing was heard of you for a long time. See what is done, go on another way than the one that hung, and end with your result."

const interruptedInstruction =
  "OpenCode was stopped while you worked, and your last turn was cut off: a tool call of it may be half done. See what is done, go on where you stopped, and end with your result."

const words = (time: Duration.Duration): string => formatDuration(Duration.toMillis(time))

const deletedReason = "Its session was deleted while it worked."
