/** Goes on with what an instance that died has left: its tasks, its notices, its missions. */
import {
  Cause,
  Clock,
  Context,
  Effect,
  Exit,
  FiberSet,
  FileSystem,
  Layer,
  Option,
  Path,
  Schedule,
  Semaphore
} from "effect"
import { BackgroundCommands } from "../commands/BackgroundCommands.ts"
import { CommandStore } from "../commands/CommandStore.ts"
import { Config } from "../Config.ts"
import { withoutDigest } from "../domain/Finding.ts"
import {
  type MessageId,
  messageText,
  noUsage,
  promptsOf,
  readTurn,
  type Session,
  SessionId,
  usageTogether
} from "../domain/Session.ts"
import { isOpen, isSettled, type Task } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient, type SessionError, untilHostAnswers } from "../host/SessionClient.ts"
import { Budgets } from "../mission/Budgets.ts"
import { MissionLoop } from "../mission/MissionLoop.ts"
import { SharedContext } from "../mission/SharedContext.ts"
import { TaskDecomposer } from "../mission/TaskDecomposer.ts"
import { addToFile } from "../OwnFiles.ts"
import { type Journal, Lease } from "./Lease.ts"
import { Notices } from "./Notices.ts"
import { Orders } from "./Orders.ts"
import { Plans } from "./Plans.ts"
import { quieten } from "./quieten.ts"
import { readJournal, TaskJournal } from "./TaskJournal.ts"
import { type Entry, readMark, TaskLife } from "./TaskLife.ts"
import { TaskStore } from "./TaskStore.ts"

export class Recovery extends Context.Service<Recovery, {
  /** What the setting `recovery` says is to be done when an instance starts. */
  readonly atStart: Effect.Effect<void>
  /** Takes over what dead instances have left, that of other machines too, and goes on with it. Says what it found. */
  readonly resume: Effect.Effect<string>
}>()("orchestrator/tasks/Recovery") {
  /** Nothing is recorded, so there is nothing to go on with. */
  static readonly layerMemory = Layer.succeed(Recovery, {
    atStart: Effect.void,
    resume: Effect.succeed("Nothing is recorded (\"journal\": \"off\"), so there is nothing to resume.")
  })

  static readonly layer = Layer.effect(
    Recovery,
    Effect.gen(function*() {
      const config = yield* Config
      const decomposer = yield* TaskDecomposer
      const client = yield* SessionClient
      const commands = yield* BackgroundCommands
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const commandStore = yield* CommandStore
      const lease = yield* Lease
      const life = yield* TaskLife
      const budgets = yield* Budgets
      const missions = yield* MissionLoop
      const notices = yield* Notices
      const notifier = yield* Notifier
      const orders = yield* Orders
      const plans = yield* Plans
      const records = yield* TaskJournal
      const shared = yield* SharedContext
      const store = yield* TaskStore
      const oneAtATime = yield* Semaphore.make(1)
      const background = yield* FiberSet.make()

      // ---- what was left --------------------------------------------------------------------------------------

      /** Takes a claimed journal into this instance's own, and sets aside what cannot be read of it. */
      const takeOver = Effect.fnUntraced(function*(journal: Journal) {
        const contents = yield* readJournal(journal.path).pipe(Effect.provideService(FileSystem.FileSystem, fs))
        if (contents.unknownVersion) {
          const aside = path.join(lease.folder, `${journal.instance}.unknown-version`)
          yield* fs.rename(journal.path, aside)
          yield* notifier.show(presets.journalUnknown(aside))
          return { instance: journal.instance, tasks: [], missions: [], plans: [], commands: [] }
        }
        if (contents.damaged.length > 0) {
          const aside = path.join(lease.folder, `${journal.instance}.damaged`)
          yield* addToFile(fs, aside, `${contents.damaged.join("\n")}\n`)
          yield* notifier.show(presets.journalDamaged(contents.damaged.length, aside))
        }
        const tasks = yield* Effect.forEach(contents.tasks, store.adopt, { concurrency: "unbounded" })
        for (const { session, usage, usedBefore = noUsage } of tasks) {
          if (session !== undefined) yield* budgets.baseline(session, usageTogether(usedBefore, usage))
        }
        yield* Effect.forEach(contents.contexts, shared.adopt, { discard: true })
        yield* Effect.forEach(contents.plans, plans.adopt, { concurrency: "unbounded", discard: true })
        yield* Effect.forEach(contents.missions, missions.adopt, { concurrency: "unbounded", discard: true })
        yield* Effect.forEach(contents.commands, commandStore.adopt, { concurrency: "unbounded", discard: true })
        // Not before all of it stands in this instance's own journal; without one it is kept for the next.
        const recorded = yield* Effect.exit(records.flushed)
        if (Exit.isSuccess(recorded)) yield* fs.remove(journal.path)
        else if (config.journal === "required") yield* recorded
        const { commands, missions: ours, plans: begun } = contents
        return { instance: journal.instance, tasks, missions: ours, plans: begun, commands }
      })

      /** Children without a record are recognised by what they carry. One that never got its order has nothing to do. */
      const adoptable = Effect.fnUntraced(function*(sessions: ReadonlyArray<Session>, instances: ReadonlySet<string>) {
        const adopted: Array<Task> = []
        for (const session of sessions) {
          const mark = readMark(session)
          if (mark?.instance === undefined || session.parent === undefined || !instances.has(mark.instance)) continue
          if (Option.isSome(yield* Effect.option(store.get(mark.task)))) continue
          // One that cannot be read fails where it is examined, and its parent is told: it must not keep others from going on.
          const messages = yield* Effect.option(untilHostAnswers(client.messages(session.id, adoptedMessages)))
          const order = Option.getOrUndefined(messages)?.find((message) => message.role === "user")
          if (order === undefined && Option.isSome(messages)) {
            yield* Effect.ignore(untilHostAnswers(client.delete(session.id))) // an empty one does no harm
            continue
          }
          const now = yield* Clock.currentTimeMillis
          const task: Task = {
            id: mark.task,
            mission: mark.mission,
            parent: session.parent,
            ...(mark.plan === undefined ? {} : { plan: mark.plan }),
            agent: session.agent ?? "unknown",
            ...(session.model === undefined ? {} : { model: session.model }),
            description: mark.description,
            prompt: order === undefined ? mark.description : withoutDigest(messageText(order)),
            background: true,
            depth: mark.depth,
            run: mark.run,
            state: "running",
            session: session.id,
            ...(order === undefined ? {} : { promptId: order.id }),
            waiting: false,
            createdAt: now,
            startedAt: now,
            activityAt: now,
            usage: session.usage,
            told: false
          }
          adopted.push(yield* store.adopt(task))
        }
        return adopted
      })

      // ---- going on ---------------------------------------------------------------------------------------------

      /** Runs that were begun while the journal could not be written show in the session alone. */
      const catchUp = Effect.fnUntraced(function*(task: Task, prompts: ReadonlyArray<MessageId>) {
        for (let run = task.run + 1; run <= prompts.length; run++) {
          const promptId = prompts[run - 1]
          if (promptId === undefined) break
          yield* Effect.ignore(store.apply(task.id, { type: "resumed", run, promptId })) // it is known to be at hand
        }
        return yield* Effect.orElseSucceed(store.get(task.id), () => task)
      })

      /** Its parent is a task that has ended badly, and takes it along. */
      const isOrphan = ({ parent }: Task) =>
        Effect.map(store.bySession(parent), Option.exists((above) => isSettled(above) && above.state !== "completed"))

      /** What is to be done about a task, by what can be seen of its child. One that has ended is settled here. */
      const examine = Effect.fnUntraced(function*(
        task: Task,
        busy: ReadonlySet<SessionId>
      ): Effect.fn.Return<Entry | "settled"> {
        const fail = (run: number, reason: string) =>
          Effect.as(life.settle(task.id, run, { state: "failed", reason }), "settled" as const)
        const { session } = task
        if (session === undefined) return "launch"
        const look = Effect.gen(function*(): Effect.fn.Return<Entry | "settled", SessionError> {
          const messages = yield* client.messages(session, examinedMessages)
          const prompts = promptsOf("task", messages, task.id).map(({ id }) => id)
          const promptId = task.promptId ?? prompts[0]
          if (promptId === undefined) return "launch"
          yield* Effect.ignore(store.apply(task.id, { type: "prompting", run: task.run, promptId })) // it is known to be at hand
          if (!(yield* client.hasMessage(session, promptId))) return task.state === "launching" ? "launch" : "repeat"
          yield* Effect.ignore(store.apply(task.id, { type: "prompted", run: task.run })) // it is known to be at hand
          const { interrupted, mending, promptId: latest, run } = yield* catchUp(task, prompts)
          // What was being done about an error of its turn goes on where it was.
          if (busy.has(session) || mending !== undefined) return "attend"
          const turn = readTurn(messages, latest ?? promptId)
          if (turn.state === "failed" && interrupted !== true) return "attend"
          if (turn.state !== "finished") {
            if (run < config.maxRuns || (yield* isOrphan(task))) return "resume"
            return yield* fail(run, `OpenCode was stopped during its run ${run}, which was the last it may have.`)
          }
          const isWaiting = (yield* store.all).some((other) => other.parent === session && isOpen(other))
          if (isWaiting) return "attend"
          yield* life.settle(task.id, run, { state: "completed", result: turn.text })
          return "settled"
        })
        return yield* untilHostAnswers(look).pipe(
          Effect.catchTag(
            "SessionNotFound",
            () =>
              Effect.tap(fail(task.run, "Its session was deleted while OpenCode was stopped."), () =>
                // The turn of a deleted session goes on.
                busy.has(session) && task.promptId !== undefined
                  ? quieten(client, session, task.promptId)
                  : Effect.void)
          ),
          Effect.catch((error) => fail(task.run, `Its session could not be read after a restart: ${error.message}`))
        )
      })

      /** A task that has ended before it could go on here, or whose parent has: no life of it is there to stop its child. */
      const stopShort = Effect.fnUntraced(function*(task: Task, busy: ReadonlySet<SessionId>) {
        yield* life.cancel(task.id, "its parent ended")
        if (task.session !== undefined && task.promptId !== undefined && busy.has(task.session)) {
          yield* quieten(client, task.session, task.promptId)
        }
      })

      /** Unless it has ended meanwhile, with its parent: reading its agent may take a while. */
      const begin = Effect.fnUntraced(function*(task: Task, entry: Entry, busy: ReadonlySet<SessionId>) {
        yield* untilHostAnswers(orders.restore(task)).pipe(
          Effect.flatMap((accepted) =>
            Effect.flatMap(ended(task), (settled) => settled ? stopShort(task, busy) : life.begin(accepted, entry))
          ),
          Effect.catch((error) => life.settle(task.id, task.run, { state: "failed", reason: error.message }))
        )
      })

      const ended = ({ id }: Task) => Effect.match(store.get(id), { onFailure: () => true, onSuccess: isSettled })

      /** Ends first, then those that go on in their sessions, then launches. */
      const goOn = Effect.fnUntraced(function*(tasks: ReadonlyArray<Task>, busy: ReadonlySet<SessionId>) {
        const left = tasks.filter(isOpen)
        // Whatever call waited for one of them ended with its instance.
        for (const { id } of left) yield* Effect.ignore(store.apply(id, { type: "detached" })) // they are known to be at hand
        yield* notices.doubt(left)
        const open = left.filter((task) => !isSettled(task))
        const found = yield* Effect.forEach(
          open,
          (task) => Effect.map(examine(task, busy), (entry) => ({ task, entry })),
          { concurrency: requestsAtOnce }
        )
        for (const parent of new Set(left.map(({ parent }) => parent))) yield* notices.consider(parent)
        const isLaunch = ({ entry }: (typeof found)[number]) => entry === "launch"
        for (const { entry, task } of [...found.filter((one) => !isLaunch(one)), ...found.filter(isLaunch)]) {
          if (entry === "settled") continue
          // It may have moved on while it was examined.
          const current = yield* Effect.orElseSucceed(store.get(task.id), () => task)
          if (isSettled(current) || (yield* isOrphan(task))) yield* stopShort(current, busy)
          else yield* begin(current, entry, busy)
        }
        return found.map(({ entry }) => entry)
      })

      /** A session that was made, and not recorded before the crash. */
      const findSessions = Effect.fnUntraced(function*(tasks: ReadonlyArray<Task>, sessions: ReadonlyArray<Session>) {
        const byTask = new Map(sessions.flatMap((session) => {
          const mark = readMark(session)
          return mark === undefined ? [] : [[mark.task, session.id] as const]
        }))
        return yield* Effect.forEach(tasks, (task) => {
          const session = byTask.get(task.id)
          if (isSettled(task) || task.session !== undefined || session === undefined) return Effect.succeed(task)
          return store.apply(task.id, { type: "launching", run: task.run }).pipe(
            Effect.andThen(store.apply(task.id, { type: "created", run: task.run, session })),
            Effect.map(({ after }) => after),
            Effect.orElseSucceed(() => task) // it is known to be at hand
          )
        })
      })

      /** Children of tasks that ended must not work on: their instance may have died before it had stopped them. */
      const stopEnded = (tasks: ReadonlyArray<Task>, busy: ReadonlySet<SessionId>) =>
        Effect.forEach(
          tasks,
          ({ promptId, session, state }) =>
            session !== undefined && promptId !== undefined && state !== "completed" && busy.has(session)
              && tasks.every((other) => other.session !== session || isSettled(other))
              ? quieten(client, session, promptId)
              : Effect.void,
          { concurrency: "unbounded", discard: true }
        )

      /**
       * A session that could not be recorded, and was deleted, shows only by its turn, which goes on: in a session that the
       * host does not know. Looked for where a task is left without a session, which may be the one it had.
       */
      const stopLost = Effect.fnUntraced(function*(tasks: ReadonlyArray<Task>, busy: ReadonlySet<SessionId>) {
        if (tasks.every((task) => !isOpen(task) || task.session !== undefined)) return
        const known = new Set(tasks.map(({ session }) => session))
        yield* Effect.forEach(
          [...busy].filter((session) => !known.has(session)),
          (session) =>
            untilHostAnswers(client.get(session)).pipe(
              Effect.catchTag("SessionNotFound", () => quieten(client, session)),
              Effect.ignore // one that cannot be read is not known to be lost
            ),
          { concurrency: requestsAtOnce, discard: true }
        )
      })

      /** Claimed, and not in this instance's journal yet. */
      let pending: ReadonlyArray<Journal> = []

      const recover = Effect.gen(function*() {
        const left: Array<Effect.Success<ReturnType<typeof takeOver>>> = []
        for (const journal of pending) {
          const taken = yield* Effect.exit(takeOver(journal))
          if (Exit.isFailure(taken)) {
            // A disk that cannot be written, as a rule: the next pass tries again.
            yield* Effect.logWarning(`the journal ${journal.path} could not be taken over yet`, taken.cause)
            continue
          }
          pending = pending.filter((other) => other !== journal)
          left.push(taken.value)
        }
        if (left.length === 0) return undefined
        const sessions = yield* inTheEnd(client.sessions)
        const busy = new Set((yield* inTheEnd(client.statuses)).keys())
        // What they used while nobody looked.
        for (const { id, usage } of sessions) yield* budgets.observe({ type: "usage", session: id, usage })
        // An instance that died while it took over a journal leaves the same task in two.
        const known = new Map(left.flatMap((one) => one.tasks).map((task) => [task.id, task]))
        for (const id of known.keys()) if (yield* life.isLiving(id)) known.delete(id) // it goes on here already
        const tasks = yield* findSessions([...known.values()], sessions)
        yield* stopEnded(tasks, busy)
        yield* stopLost(tasks, busy)
        const roots = left.flatMap((one) => one.missions).filter((mission) => mission.state === "active")
        const entries = yield* notices.heldWhile(Effect.gen(function*() {
          const leftCommands = left.flatMap((one) => one.commands)
          yield* notices.doubt(leftCommands)
          yield* commands.takeOver(leftCommands)
          const entries = yield* goOn(tasks, busy)
          const adopted = yield* adoptable(sessions, new Set(left.map(({ instance }) => instance)))
          const others = yield* goOn(adopted, busy)
          yield* decomposer.goOn(left.flatMap((one) => one.plans)) // not before it is known what was launched of them
          // Before any notice: one to a Commander that the user aborted must not wake it.
          for (const { root } of roots) yield* missions.wake(root)
          return [...entries, ...others]
        }))
        return summary(entries, roots.length)
      })

      /** One pass: claims and recovers. Says what was found, if anything. */
      const pass = Effect.fnUntraced(function*(foreign: boolean) {
        const { claimed, undecided } = yield* lease.claim(foreign)
        pending = [...pending, ...claimed]
        const found = yield* recover
        if (found !== undefined) yield* notifier.show(presets.recovered(found))
        return { found, undecided: undecided || pending.length > 0 }
      })

      /** Looks again while a journal may be there to be taken, and only time can tell. */
      const passes = (foreign: boolean) =>
        oneAtATime.withPermit(pass(foreign)).pipe(
          Effect.repeat({ while: ({ undecided }) => undecided, schedule: Schedule.spaced("10 seconds") }),
          Effect.catchCause((cause) =>
            Effect.andThen(
              Effect.logError("the recovery broke off", cause),
              notifier.show(
                presets.internalFailure("going on after a restart", Cause.pretty(cause).split("\n")[0] ?? "")
              )
            )
          )
        )

      /** Journals in which something is left to do. */
      const unfinished = Effect.flatMap(
        lease.abandoned,
        Effect.filter(({ path }) =>
          readJournal(path).pipe(
            Effect.provideService(FileSystem.FileSystem, fs),
            Effect.map(({ missions, plans, tasks }) =>
              [...missions, ...plans].some(({ state }) => state === "active" || state === "running")
              || tasks.some(isOpen)
            ),
            Effect.orElseSucceed(() => false) // another instance has claimed it meanwhile
          )
        )
      )

      /** Whatever becomes of the tasks: no command outlives its OpenCode. What is recorded of them is told by whoever claims it. */
      const endCommands = Effect.gen(function*() {
        for (const { foreign, path } of yield* lease.dead) {
          if (foreign) continue // whoever planted it must not name processes of this machine
          const contents = yield* readJournal(path).pipe(
            Effect.provideService(FileSystem.FileSystem, fs),
            Effect.option // another instance has claimed it meanwhile
          )
          if (Option.isSome(contents)) yield* commands.endLeft(contents.value.commands)
        }
      }).pipe(
        Effect.catchCause((cause) => Effect.logWarning("commands of an earlier OpenCode could not be ended", cause))
      )

      const atStart = Effect.gen(function*() {
        yield* endCommands
        if (config.recovery === "off") return
        if (config.recovery === "auto") yield* FiberSet.run(background, passes(false))
        const left = (yield* unfinished).filter(({ foreign }) => foreign || config.recovery === "ask")
        if (left.length > 0) yield* notifier.show(presets.recoverable(left.every(({ foreign }) => foreign)))
      })

      return Recovery.of({
        atStart,
        resume: Effect.gen(function*() {
          const { found, undecided } = yield* oneAtATime.withPermit(pass(true))
          if (undecided) yield* FiberSet.run(background, passes(true))
          return [
            ...(found === undefined && undecided ? [] : [found ?? "Nothing was left unfinished."]),
            ...(undecided ? [notYet] : [])
          ].join(" ")
        }).pipe(
          Effect.catchCause((cause) =>
            Effect.as(Effect.logError("the recovery broke off", cause), "The recovery broke off; the log says why.")
          )
        )
      })
    })
  )
}

const notYet = "Some tasks cannot be taken over yet: another machine may still work on them, or the files in "
  + ".opencode/orchestrator cannot be read or written. That is tried again until they can."

const requestsAtOnce = 8

/** What nothing can go on without. */
const inTheEnd = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("10 seconds")]))

/** So many of a child's newest messages show what became of its runs. */
const examinedMessages = 100

/** A child's first message is its order; a long session shows its newest messages only. */
const adoptedMessages = 1_000

const summary = (entries: ReadonlyArray<Entry | "settled">, missions: number): string | undefined => {
  const ended = entries.filter((entry) => entry === "settled").length
  const parts = [
    ...(missions > 0 ? [missions === 1 ? "1 mission goes on" : `${missions} missions go on`] : []),
    ...(ended > 0 ? [`${ended} ${ended === 1 ? "task" : "tasks"} had ended meanwhile`] : []),
    ...(entries.length > ended
      ? [`${entries.length - ended} of the others ${entries.length - ended === 1 ? "goes" : "go"} on`]
      : [])
  ]
  return parts.length === 0 ? undefined : `${parts.join(", ")}.`
}
