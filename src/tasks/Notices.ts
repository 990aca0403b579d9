/** Tells parents how their tasks ended: one message for all that ended, each told once, none dropped in silence. */
import {
  Clock,
  Context,
  Duration,
  Effect,
  FiberMap,
  FiberSet,
  Layer,
  Option,
  Schedule,
  Schema,
  type Scope,
  Semaphore
} from "effect"
import { CommandStore } from "../commands/CommandStore.ts"
import { Config } from "../Config.ts"
import { type Command, commandLine, isUntoldCommand, tellsEnd, withCommandTexts } from "../domain/Command.ts"
import { type Message, type MessageId, ownPrompt, type SessionId } from "../domain/Session.ts"
import { endWords, headline, isSettled, isUntold, outcome, type Task, type TaskId, withTexts } from "../domain/Task.ts"
import { Mask } from "../host/Mask.ts"
import { arrival, SessionClient, type SessionError } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { SmartContext } from "../mission/SmartContext.ts"
import { Plans } from "./Plans.ts"
import { TaskStore } from "./TaskStore.ts"

export class Notices extends Context.Service<Notices, {
  /** Something about the parent's tasks has changed: tell it when it is time. */
  readonly consider: (parent: SessionId) => Effect.Effect<void>
  /** Tells the parent now of all that ended. */
  readonly flush: (parent: SessionId) => Effect.Effect<void, SessionError>
  /** The parent's call returns the outcome of a task, or of its command, right now: it is told once the host has that answer. */
  readonly answered: (
    task: Pick<Task, "parent"> & { readonly id: string; readonly told?: boolean }
  ) => Effect.Effect<void>
  /** The host has the answers that the parent's calls have returned. */
  readonly delivered: (parent: SessionId) => Effect.Effect<void>
  /** Considers no parent while `effect` runs, and then each that came up meanwhile. */
  readonly heldWhile: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Tasks and commands of an earlier instance, which may have told of them: found out, by what can be read, before they are told again. */
  readonly doubt: (tasks: ReadonlyArray<{ readonly id: string }>) => Effect.Effect<void>
  /** Until the scope closes, nothing is told to the session by `consider` before `ready` has ended: it would start a turn. */
  readonly await: (session: SessionId, ready: Effect.Effect<void>) => Effect.Effect<void, never, Scope.Scope>
  /** Runs `effect` while no notice is being sent to the session. */
  readonly quietly: <A, E, R>(parent: SessionId, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  /** Notices to the session are stored without starting a turn, until `wake`. */
  readonly hush: (session: SessionId) => Effect.Effect<void>
  readonly wake: (session: SessionId) => Effect.Effect<void>
  /** The session is gone: its tasks count as told. */
  readonly forget: (session: SessionId) => Effect.Effect<void>
}>()("orchestrator/tasks/Notices") {
  static readonly layer = Layer.effect(
    Notices,
    Effect.gen(function*() {
      const config = yield* Config
      const client = yield* SessionClient
      const commands = yield* CommandStore
      const ids = yield* Ids
      const smart = yield* SmartContext
      const plans = yield* Plans
      const mask = yield* Mask
      const store = yield* TaskStore
      const hushed = new Set<SessionId>()
      /** Notices that were given to the host, and perhaps arrived. */
      const sent = new Set<MessageId>()
      const locks = new Map<SessionId, { readonly lock: Semaphore.Semaphore; users: number }>()
      const tellers = yield* FiberMap.make<SessionId>()
      const deliveries = yield* FiberSet.make()
      const doubts = new Set<string>()
      const ready = new Map<SessionId, Effect.Effect<void>>()
      /** Tasks and commands whose outcome a call is returning to their parent. */
      const answering = new Map<string, SessionId>()

      const quietly = <A, E, R>(parent: SessionId, effect: Effect.Effect<A, E, R>) =>
        Effect.suspend(() => {
          const entry = locks.get(parent) ?? { lock: Semaphore.makeUnsafe(1), users: 0 }
          entry.users++
          locks.set(parent, entry)
          return entry.lock.withPermit(effect).pipe(Effect.ensuring(Effect.sync(() => {
            if (--entry.users === 0) locks.delete(parent)
          })))
        })

      const tasksOf = (parent: SessionId) =>
        Effect.map(
          store.all,
          (all) => all.filter((task) => task.parent === parent && task.background && !answering.has(task.id))
        )

      /**
       * When each of a parent's tasks that ended may be told, epoch ms. Those of a plan come together: when the plan is
       * over, or the first of them has waited long enough. Others are told when none of them is left running.
       */
      const dueTimes = (tasks: ReadonlyArray<Task>): ReadonlyArray<{ readonly task: Task; readonly due: number }> => {
        const groups = new Map<string | undefined, Array<Task>>()
        for (const task of tasks) {
          const key = plans.isGoingOn(task) ? task.plan?.id : undefined
          const group = groups.get(key)
          if (group === undefined) groups.set(key, [task])
          else group.push(task)
        }
        return [...groups].flatMap(([plan, group]) => {
          const untold = group.filter(isUntold)
          const longest = Duration.toMillis(plan === undefined ? config.noticeMaxWait : config.planMaxWait)
          const oldest = Math.min(...untold.map((task) => task.endedAt ?? 0))
          const due = plan === undefined && group.every(isSettled) ? 0 : oldest + longest
          return untold.map((task) => ({ task, due }))
        })
      }

      /** Ends that the parent is to hear of now. */
      const tellable = Effect.fnUntraced(function*(parent: SessionId) {
        const now = yield* Clock.currentTimeMillis
        const tasks = yield* tasksOf(parent)
        // What waits for others of its parent goes out along with what does not; what waits for its plan does not.
        return dueTimes(tasks).flatMap(({ due, task }) => (plans.isGoingOn(task) && due > now ? [] : task))
      })
      /** Commands that ended, and whose session is still to be told. */
      const untoldCommands = (session: SessionId) =>
        Effect.map(
          commands.all,
          (all) =>
            all.filter((command) =>
              command.session === session && isUntoldCommand(command) && !answering.has(command.id)
            )
        )

      /** Tasks that their parent knows of now. They may be archived already, and then were told. */
      const told = (tasks: Iterable<TaskId>) =>
        Effect.forEach(tasks, (id) => Effect.ignore(store.apply(id, { type: "told" })), together)

      const toldCommands = (known: ReadonlyArray<Command>) =>
        Effect.forEach(known, ({ id }) => commands.apply(id, { type: "told" }), together)

      const delivered = Effect.fnUntraced(function*(parent: SessionId) {
        const known = new Set([...answering].filter(([, of]) => of === parent).map(([id]) => id))
        yield* told((yield* store.all).map(({ id }) => id).filter((id) => known.has(id)))
        yield* toldCommands((yield* commands.all).filter(({ id }) => known.has(id)))
        for (const id of known) answering.delete(id)
      }, Effect.uninterruptible)

      const answered = Effect.fnUntraced(function*(task: Parameters<Notices["Service"]["answered"]>[0]) {
        if (task.told === true) return
        answering.set(task.id, task.parent)
        // The event that says so may be lost.
        yield* FiberSet.run(deliveries, Effect.delay(delivered(task.parent), deliveryWait))
      })

      /** Counts as told what the parent's session shows it was told of by an earlier instance. */
      const resolveDoubts = Effect.fnUntraced(function*(parent: SessionId) {
        const doubted = (yield* tasksOf(parent)).filter((task) => isUntold(task) && doubts.has(task.id))
        const doubtedCommands = (yield* untoldCommands(parent)).filter(({ id }) => doubts.has(id))
        if (doubted.length + doubtedCommands.length === 0) return
        const messages = yield* client.messages(parent, doubtedMessages)
        const known = doubted.filter((task) => messages.some((message) => tellsOf(message, task)))
        yield* told(known.map(({ id }) => id))
        yield* toldCommands(
          doubtedCommands.filter((command) => messages.some((message) => tellsOfCommand(message, command)))
        )
        for (const { id } of [...doubted, ...doubtedCommands]) doubts.delete(id)
      })

      const forget = Effect.fnUntraced(function*(parent: SessionId) {
        yield* told((yield* store.all).filter((task) => task.parent === parent && isUntold(task)).map(({ id }) => id))
        yield* toldCommands((yield* commands.all).filter((one) => one.session === parent && isUntoldCommand(one)))
        hushed.delete(parent)
      })

      /**
       * Left by an earlier instance, below a newer message, it would be stored and start no turn. One that this instance
       * has sent may still be on its way, and must not go out under two ids.
       */
      const isStale = Effect.fnUntraced(function*(parent: SessionId, notice: MessageId) {
        if (sent.has(notice)) return false
        const [newest] = yield* client.messages(parent, 1)
        return newest !== undefined && newest.id > notice
      })

      /** Records the message id with every task it tells of, sends it, records that it was sent. */
      const send = Effect.fnUntraced(function*(parent: SessionId) {
        if (!(yield* hasTellable(parent))) return
        yield* resolveDoubts(parent)
        const target = yield* client.get(parent)
        const untold = yield* tellable(parent) // the parent may have read some meanwhile
        const ended = yield* untoldCommands(parent)
        if (untold.length + ended.length === 0) return
        const now = yield* Clock.currentTimeMillis
        const mission = untold[0]?.mission ?? parent // of a session's tasks all belong to the same
        // A parent that is not to be woken is not told how to go on.
        const goesOn = !hushed.has(parent)
        const limits = goesOn ? { ...config, noticeResultChars: yield* smart.resultChars(mission) } : config
        const instruction = goesOn && mission === parent ? yield* smart.instruction(parent) : ""
        // A notice that was recorded but perhaps not sent goes out under its own id: the host takes it once.
        const pending = [...untold, ...ended].find(({ notice }) => notice !== undefined)?.notice
        const isInGroup = ({ notice }: { readonly notice?: MessageId }) => pending === undefined || notice === pending
        const group = untold.filter(isInGroup)
        const commandGroup = ended.filter(isInGroup)
        if (pending === undefined || !(yield* client.hasMessage(parent, pending))) {
          const id = pending === undefined || (yield* isStale(parent, pending)) ? yield* ids.message : pending
          sent.add(id)
          const instead = pending === undefined ? {} : { instead: pending }
          const telling = { type: "telling", notice: id, ...instead } as const
          yield* Effect.forEach(group, (task) => store.apply(task.id, telling), together)
          yield* Effect.forEach(commandGroup, (command) => commands.apply(command.id, telling), together)
          yield* client.prompt({
            session: parent,
            id,
            text: [
              ...(group.length === 0
                ? []
                : [noticeText(group.map((task) => withTexts(task, mask)), now, limits, plans.consequence)]),
              ...(commandGroup.length === 0
                ? []
                : [commandsText(commandGroup.map((command) => withCommandTexts(command, mask)), now)]),
              ...(instruction === "" ? [] : [instruction])
            ].join("\n\n"),
            agent: target.agent,
            model: target.model,
            metadata: { ...ownPrompt("notice"), tasks: [...group, ...commandGroup].map(({ id }) => id) },
            synthetic: true,
            noReply: hushed.has(parent)
          })
          yield* arrival(client, parent, id)
          sent.delete(id)
        }
        yield* told(group.map(({ id }) => id))
        yield* toldCommands(commandGroup)
      }, Effect.catchTag("TaskNotFound", Effect.die)) // tasks that are untold are not archived

      const sendAll = (parent: SessionId) =>
        Effect.repeat(send(parent), { while: () => hasTellable(parent) }).pipe(Effect.asVoid)

      const flush = (parent: SessionId) => quietly(parent, sendAll(parent))

      const hasTellable = Effect.fnUntraced(function*(parent: SessionId) {
        return (yield* tellable(parent)).length > 0 || (yield* untoldCommands(parent)).length > 0
      })

      /** How long to wait before telling the parent; undefined when somebody else will, or there is nothing to tell. */
      const wait = Effect.fnUntraced(function*(parent: SessionId) {
        const times = dueTimes(yield* tasksOf(parent)).map(({ due }) => due)
        const own = yield* store.bySession(parent)
        // A child ends with its commands: what became of them must not wake it.
        if (Option.exists(own, isSettled)) yield* toldCommands(yield* untoldCommands(parent))
        const endedCommands = yield* untoldCommands(parent)
        if (times.length + endedCommands.length === 0) return undefined
        // A child that waits for its tasks holds no slot: it is told by its own life, once that has one again.
        if (Option.exists(own, (task) => task.waiting)) return undefined
        // A child that ended badly is not to be woken by the ends of its own tasks.
        if (Option.exists(own, (task) => isSettled(task) && task.state !== "completed")) {
          yield* forget(parent)
          return undefined
        }
        // Whoever runs a command goes on working, and may be waiting for this one only.
        if (endedCommands.length > 0) return 0
        return Math.max(0, Math.min(...times) - (yield* Clock.currentTimeMillis))
      })

      const tell = Effect.fnUntraced(function*(parent: SessionId) {
        while (true) {
          const due = yield* wait(parent)
          if (due === undefined) return
          if (due > 0) yield* Effect.sleep(due)
          else {
            yield* ready.get(parent) ?? Effect.void
            // The parent may have ended, or begun to wait, while it was waited for.
            yield* quietly(parent, Effect.flatMap(wait(parent), (due) => due === 0 ? sendAll(parent) : Effect.void))
          }
        }
      }, (telling, parent) =>
        telling.pipe(
          Effect.catchTag("SessionNotFound", () => forget(parent)),
          Effect.tapError((error) => Effect.logWarning("a notice could not be sent yet", error)),
          // However long the parent is busy or the host away: only a parent that is gone is not told.
          Effect.retry(Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("30 seconds")])),
          Effect.ignore // it goes on until it succeeds
        ))

      /** Parents that came up while notices are held. */
      let held: Set<SessionId> | undefined
      // The newest call knows best. Cutting off a notice that is being sent is safe: it goes out under the same id.
      const consider = (parent: SessionId) =>
        Effect.suspend(() =>
          held === undefined
            ? Effect.asVoid(FiberMap.run(tellers, parent, tell(parent)))
            : Effect.sync(() => void held?.add(parent))
        )

      const heldWhile = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.suspend(() => {
          held = new Set()
          return Effect.ensuring(
            effect,
            Effect.suspend(() => {
              const parents = held ?? []
              held = undefined
              return Effect.forEach(parents, consider, { discard: true })
            })
          )
        })

      return Notices.of({
        consider,
        heldWhile,
        flush,
        answered,
        delivered,
        doubt: (tasks) =>
          Effect.sync(() => {
            for (const { id } of tasks) doubts.add(id)
          }),
        await: (session, until) =>
          Effect.acquireRelease(
            Effect.sync(() => ready.set(session, until)),
            () => Effect.sync(() => ready.delete(session))
          ),
        quietly,
        hush: (session) => Effect.sync(() => void hushed.add(session)),
        wake: (session) => Effect.sync(() => void hushed.delete(session)),
        forget
      })
    })
  )
}

/** Changes that are recorded with one flush of the journal. */
const together = { concurrency: "unbounded", discard: true } as const

/** How long the host may take to store what a call has returned. */
const deliveryWait = "2 seconds"

/** How many of a parent's newest messages show what it knows of tasks that ended shortly before a crash. */
const doubtedMessages = 100

const NoticeMetadata = Schema.Struct({ orchestrator: Schema.Literal("notice"), tasks: Schema.Array(Schema.String) })

/** Whether a message of its parent's session says how the task ended: a notice, or the answer of a call. */
const tellsOf = (message: Message, task: Task): boolean =>
  message.parts.some((part) => {
    if (part.type === "text") return Schema.is(NoticeMetadata)(part.metadata) && part.metadata.tasks.includes(task.id)
    // Whatever it was said to have come to: an end that could not be recorded may be found again as another one.
    return part.type === "tool"
      && Object.values(endWords).some((words) => part.output?.startsWith(`${task.id} ${words} `) === true)
  })

const tellsOfCommand = (message: Message, { id }: Command): boolean =>
  message.parts.some((part) =>
    part.type === "text"
      ? Schema.is(NoticeMetadata)(part.metadata) && part.metadata.tasks.includes(id)
      : part.type === "tool" && part.output !== undefined && tellsEnd(part.output, id)
  )

/** What is said of commands that have ended: each with the end of what it printed. */
const commandsText = (ended: ReadonlyArray<Command>, now: number): string =>
  [
    ended.length === 1 ? "1 command has ended." : `${ended.length} commands have ended.`,
    ...ended.map((command) => {
      const output = command.output ?? ""
      return `## ${commandLine(command, now)}\n${output === "" ? "(no output)" : output}`
    })
  ].join("\n\n")

/** One message for a group of ended tasks; each with its result, whole when short, and what follows from its end. */
export const noticeText = (
  tasks: ReadonlyArray<Task>,
  now: number,
  config: { readonly noticeResultChars: number; readonly noticesPerParent: number },
  consequence: (task: Task) => string | undefined = () => undefined
): string => {
  const settled = tasks.filter(isSettled)
  const told = settled.slice(-config.noticesPerParent)
  const limit = Math.min(config.noticeResultChars, Math.max(leastResultChars, Math.floor(noticeChars / told.length)))
  const older = settled.slice(0, settled.length - told.length)
  const parts = told.map((task) =>
    [`## ${headline(task, now)}`, clipResult(task, limit), consequence(task) ?? []].flat().join("\n")
  )
  if (older.length > 0) {
    parts.push(
      `Also ended, too many to show here: ${
        older.map((task) => task.id).join(", ")
      }. get_task_result gives each result.`
    )
  }
  const failures = settled.filter((task) => task.state !== "completed").length
  const summary = `${settled.length === 1 ? "1 task has" : `${settled.length} tasks have`} ended`
    + (failures === 0 ? "." : `, ${failures} without success.`)
  return [summary, ...parts].join("\n\n")
}

/** Characters of results in one notice, shared by its tasks; each may have the fewest all the same. */
const noticeChars = 120_000
const leastResultChars = 200

const clipResult = (task: Task, limit: number): string => {
  const text = outcome(task)
  if (text.length <= limit) return text
  return `${text.slice(0, limit)}\n… ${text.length - limit} more characters: get_task_result {"taskId": "${task.id}"}`
}
