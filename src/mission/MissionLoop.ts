/** Keeps a mission going until it is done: what happens when the Commander falls silent, and when the user speaks or aborts. */
import { Clock, Context, Duration, Effect, FiberMap, FiberSet, Layer, Schedule } from "effect"
import { CommandStore, isOpenCommand } from "../commands/CommandStore.ts"
import { Config } from "../Config.ts"
import type { Limits } from "../domain/Budget.ts"
import * as Mission from "../domain/Mission.ts"
import {
  type HostEvent,
  isAbort,
  isNote,
  lastWords,
  type Message,
  type MessageId,
  messageText,
  type ModelRef,
  noUsage,
  ownPrompt,
  type SessionId,
  type TurnError
} from "../domain/Session.ts"
import { goingOn, isOpen, isSettled, isUntold, type Task } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient, untilHostAnswers } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { type Decision, TurnRecovery } from "../recovery/TurnRecovery.ts"
import { newestMessages } from "../tasks/Completion.ts"
import { Notices } from "../tasks/Notices.ts"
import { Plans } from "../tasks/Plans.ts"
import { TaskManager } from "../tasks/TaskManager.ts"
import { TaskStore } from "../tasks/TaskStore.ts"
import { Budgets } from "./Budgets.ts"
import { continueInstruction, interruptedInstruction } from "./instructions.ts"
import { Missions } from "./Missions.ts"
import { OpenWork } from "./OpenWork.ts"
import { Progress } from "./Progress.ts"
import { SmartContext } from "./SmartContext.ts"
import { TodoEnforcer } from "./TodoEnforcer.ts"

export class MissionLoop extends Context.Service<MissionLoop, {
  /** The user spoke in a root session. To the Commander: the mission starts, or goes on. To another agent: it rests. */
  readonly userSpoke: (session: SessionId, toCommander: boolean, text: string) => Effect.Effect<void>
  /** Takes an event of the host. */
  readonly observe: (event: HostEvent) => Effect.Effect<void>
  /** Takes over a mission that an earlier instance recorded; it rests until `wake`. */
  readonly adopt: (mission: Mission.Mission) => Effect.Effect<void>
  /** Goes on with a mission whose Commander a restart may have cut off. */
  readonly wake: (root: SessionId) => Effect.Effect<void>
  /** Stops a mission and its children for good, until the user speaks to the Commander again. Tells whether there was one. */
  readonly stop: (root: SessionId) => Effect.Effect<boolean>
  /** Lets a mission go on, with other limits where some are named. Tells whether there is one that is not complete. */
  readonly goOn: (root: SessionId, limits: Limits) => Effect.Effect<boolean>
}>()("orchestrator/mission/MissionLoop") {
  static readonly layer = Layer.effect(
    MissionLoop,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const commands = yield* CommandStore
      const config = yield* Config
      const ids = yield* Ids
      const budgets = yield* Budgets
      const manager = yield* TaskManager
      const notices = yield* Notices
      const notifier = yield* Notifier
      const plans = yield* Plans
      const store = yield* TaskStore
      const missions = yield* Missions
      const progress = yield* Progress
      const smart = yield* SmartContext
      const todos = yield* TodoEnforcer
      const work = yield* OpenWork
      const recovery = yield* TurnRecovery
      const reviews = yield* FiberMap.make<SessionId>()
      /** Waits of Commanders that are to go on after a failed turn. */
      const mendings = yield* FiberMap.make<SessionId>()
      const background = yield* FiberSet.make()
      /** When a mission's root session last showed life. */
      const seenAt = new Map<SessionId, number>()
      const touch = (root: SessionId) => Effect.map(Clock.currentTimeMillis, (now) => void seenAt.set(root, now))

      /** Sorts between the newest word to a mission's Commander and the answer to it. */
      const since = new Map<SessionId, MessageId>()
      const forget = (root: SessionId) =>
        Effect.suspend(() => {
          since.delete(root)
          seenAt.delete(root)
          cutOff.delete(root)
          orphans.delete(root)
          return Effect.all([budgets.letGo(root), progress.clear(root), missions.forget(root)], { discard: true })
        })

      const userSpoke = Effect.fn("MissionLoop.userSpoke")(function*(
        session: SessionId,
        toCommander: boolean,
        text: string
      ) {
        yield* notices.wake(session)
        yield* FiberMap.remove(reviews, session)
        yield* FiberMap.remove(mendings, session)
        const before = yield* missions.get(session)
        if (!toCommander) {
          return yield* endEarly(session, "stopped", "You turned to another agent.")
        }
        const now = yield* Clock.currentTimeMillis
        if (before?.state === "active") yield* FiberSet.run(background, abortUnheard(session, since.get(session), now))
        const spoke = yield* ids.message
        if (before === undefined) {
          yield* missions.add({ ...Mission.begin(session, text, now), ...(yield* givenAtStart(session)) })
        }
        yield* touch(session)
        since.set(session, spoke)
        const after = yield* missions.apply(session, { type: "spoke", goal: text })
        if (before?.state === "active" || after?.state !== "active") return
        yield* notifier.show(presets.missionStarted(text))
        if (before !== undefined && before.state !== "complete") return
        yield* progress.clear(session)
        yield* FiberSet.run(background, takeList(session))
      })

      /** A mission starts: a list that an earlier one left is not its own. */
      const takeList = Effect.fnUntraced(function*(root: SessionId) {
        const active = new Set((yield* missions.all).filter(({ state }) => state === "active").map(({ root }) => root))
        yield* todos.archive(root, (mission) => active.has(mission))
      }, Effect.catchCause((cause) => Effect.logWarning("a list of an earlier mission could not be archived", cause)))

      /** What a session has used before its mission, which is not the mission's; and the limits that it was made with. */
      const givenAtStart = (session: SessionId) =>
        client.get(session).pipe(
          Effect.timeout("1 second"),
          Effect.map(({ metadata, usage }) => ({ rootUsage: usage, limits: Mission.limitsIn(metadata) })),
          // A host that does not say so: the mission is charged with it.
          Effect.orElseSucceed(() => ({ rootUsage: noUsage, limits: {} }))
        )

      /** The end of a mission whose Commander has not come to an answer. What it said last is asked for behind that. */
      const endEarly = Effect.fnUntraced(function*(root: SessionId, state: Mission.MissionEnd, why: string) {
        const mission = yield* missions.get(root)
        if (mission?.state !== "active") return
        yield* missions.apply(root, { type: "ended", state, why })
        yield* FiberSet.run(background, conclude(mission))
      })

      const conclude = ({ root, startedAt }: Mission.Mission) =>
        client.messages(root, reviewedMessages).pipe(
          Effect.timeout("10 seconds"),
          Effect.map((messages) => lastWords(messages, startedAt) ?? ""),
          Effect.flatMap((answer) => missions.apply(root, { type: "concluded", answer })),
          Effect.ignore // the report does without
        )

      /** Whether tasks of a mission are unsettled or untold, or are still to come of a plan. */
      const hasOpen = Effect.fnUntraced(function*(root: SessionId) {
        return (yield* store.all).some((task) => task.mission === root && isOpen(task))
          || (yield* plans.all).some((plan) => plan.root === root && plan.state === "running")
      })

      /** The user aborted a root session: its tasks stop, and what they left does not wake it. */
      const abortTasks = Effect.fnUntraced(function*(root: SessionId) {
        const hasCommands = (yield* commands.all).some((one) => one.mission === root && isOpenCommand(one))
        if (!(yield* hasOpen(root)) && !hasCommands) return
        yield* notices.hush(root)
        // Stopping children takes a while, and the next event must not wait.
        yield* FiberSet.run(background, manager.cancelMission(root, "the user aborted the mission"))
      })

      /** The user may speak again before it was heard that the turn was aborted: what was at work until then stops. */
      const abortUnheard = Effect.fnUntraced(function*(root: SessionId, from: MessageId | undefined, spokeAt: number) {
        const ran = (task: Task) => task.mission === root && !isSettled(task) && task.createdAt < spokeAt
        if (!(yield* store.all).some(ran)) return
        const newest = yield* untilHostAnswers(client.messages(root, newestMessages))
        if (!newest.some((message) => message.id > (from ?? "") && wasAborted(message))) return
        yield* manager.cancelMission(root, "the user aborted the mission", spokeAt)
      }, Effect.catchCause((cause) => Effect.logDebug("an abort that was not heard could not be looked for", cause)))

      /** What is done about a turn of the Commander that came to nothing. Recorded first, so that it has an end. */
      const goOnAfter = Effect.fnUntraced(function*(root: SessionId, decision: Decision) {
        const { action, says, tries } = decision
        if (action.type === "give up" || action.type === "inspect") {
          const why = `The Commander's turn failed: ${says}`
          yield* endEarly(root, "halted", why)
          yield* notices.hush(root) // what its tasks still come to would start a turn that fails again
          return yield* notifier.show(presets.missionHalted(why))
        }
        yield* missions.apply(root, { type: "tried", tries })
        yield* notifier.show(presets.missionMends(says))
        yield* FiberMap.run(mendings, root, mend(root, decision))
      })

      /** What breaks off here is found by the poll, with what was tried on record. */
      const mend = Effect.fnUntraced(function*(root: SessionId, { action, instruction, wait }: Decision) {
        yield* Effect.sleep(wait)
        if (action.type === "compact") yield* client.compact(root)
        // Of the few tries none is to be spent on a host that does not answer: it is asked until it does, and takes it once.
        const id = yield* ids.message
        yield* untilHostAnswers(instruct(root, instruction, action.type === "switch" ? action.model : undefined, id))
      }, Effect.catchCause((cause) => Effect.logWarning("a Commander could not be told to go on yet", cause)))

      /** The Commander's turn was aborted by the user, or failed. */
      const turnFailed = Effect.fnUntraced(function*(root: SessionId, error: TurnError) {
        if (!isAbort(error)) {
          const mission = yield* missions.get(root)
          if (mission?.windingUp !== undefined) return // that was its last turn
          if (yield* FiberMap.has(mendings, root)) return // told twice, or found again
          return yield* goOnAfter(root, yield* recovery.decide(error, mission?.tries))
        }
        yield* FiberMap.remove(mendings, root)
        yield* endEarly(root, "stopped", "You aborted it.")
        yield* notifier.show(presets.missionStopped())
        yield* abortTasks(root)
      })

      const stop = Effect.fn("MissionLoop.stop")(function*(root: SessionId) {
        // One that was halted may have left tasks at work.
        if ((yield* missions.get(root))?.state !== "active" && !(yield* hasOpen(root))) return false
        yield* endEarly(root, "stopped", "You stopped it.")
        yield* budgets.letGo(root)
        yield* FiberMap.remove(reviews, root)
        yield* FiberMap.remove(mendings, root)
        yield* notices.hush(root)
        yield* Effect.ignore(client.abort(root)) // a turn of it that goes on all the same finds no agents, and nothing follows it
        yield* manager.cancelMission(root, "the user stopped the mission")
        return true
      }, Effect.uninterruptible)

      const goOn = Effect.fn("MissionLoop.goOn")(function*(root: SessionId, limits: Limits) {
        const mission = yield* missions.get(root)
        if (mission === undefined || mission.state === "complete") return false
        yield* budgets.letGo(root)
        yield* notices.wake(root)
        yield* missions.apply(root, { type: "raised", limits })
        yield* touch(root)
        since.set(root, yield* ids.message)
        return true
      })

      /** Looks at a mission whose root session has become idle, and acts on it. */
      const review = Effect.fnUntraced(function*(root: SessionId) {
        const current = yield* missions.get(root)
        if (current?.state !== "active" || current.windingUp !== undefined) return
        if (yield* hasOpen(root)) return // their notice wakes the Commander
        const messages = yield* client.messages(root, reviewedMessages)
        const answer = lastAnswer(messages, since.get(root))
        if (answer === undefined) return
        const judged = yield* recovery.judge(answer, current.tries)
        if (judged !== undefined) return yield* goOnAfter(root, judged)
        yield* missions.apply(root, { type: "answered" })
        const open = yield* work.after(root, answer)
        if (yield* work.hasProgressed(root, messages, open)) yield* missions.apply(root, { type: "progressed" })
        const mission = yield* missions.get(root)
        if (mission === undefined) return
        switch (Mission.decide(mission, answer, open, config.continuations)) {
          case "nothing":
            return
          case "complete": {
            const used = yield* missions.describe(mission)
            yield* missions.apply(root, {
              type: "ended",
              state: "complete",
              why: "The Commander said that it is complete.",
              answer
            })
            const now = yield* Clock.currentTimeMillis
            return yield* notifier.show(presets.missionComplete(now - mission.startedAt, used))
          }
          case "halt":
            return yield* halt(root, open, answer)
          case "continue":
            yield* missions.apply(root, { type: "continued" })
            yield* instruct(
              root,
              continueInstruction(mission, Mission.saysComplete(answer), open, yield* smart.instruction(root))
            ).pipe(unlessSent(root))
            // Not before: a host that takes no instruction is asked again and again, and the user told once it has.
            yield* notifier.show(
              presets.missionContinues(yield* progress.line(root), mission.continuations + 1, config.continuations)
            )
        }
      })

      /** An instruction that a host did not take is none of those that a Commander may be given. */
      const unlessSent = (root: SessionId) => <A, E, R>(sending: Effect.Effect<A, E, R>) =>
        Effect.tapError(sending, () => missions.apply(root, { type: "unsent" }))

      /** Says something to the Commander that starts a turn. */
      const instruct = Effect.fnUntraced(function*(root: SessionId, text: string, model?: ModelRef, known?: MessageId) {
        const target = yield* client.get(root)
        yield* touch(root)
        const id = known ?? (yield* ids.message)
        yield* client.prompt({
          session: root,
          id,
          text,
          agent: target.agent,
          model: model ?? target.model,
          metadata: ownPrompt("continue"),
          synthetic: true
        })
        // Not before the host has it: no answer would ever come to one that never arrived.
        since.set(root, id)
      })

      /** Reviews once at a time: an idle may come twice, and from the event as well as from the poll. */
      const beginReview = (root: SessionId) =>
        Effect.asVoid(FiberMap.run(
          reviews,
          root,
          // Not while a notice is on its way: it is about to wake the Commander.
          notices.quietly(root, review(root)).pipe(
            Effect.catchCause((cause) => Effect.logWarning(`the mission in ${root} could not be reviewed`, cause))
          ),
          { onlyIfMissing: true }
        ))

      /** Since when a mission's root session is idle in the middle of a turn. */
      const cutOff = new Map<SessionId, number>()

      /** Finds what an event that was lost would have told, and turns that ended without one. */
      const look = Effect.fnUntraced(function*(root: SessionId) {
        const newest = yield* client.messages(root, newestMessages)
        const last = newest.at(-1)
        const failed = last?.role === "assistant" && last.id > (since.get(root) ?? "") ? last.error : undefined
        if (failed !== undefined) return yield* turnFailed(root, failed)
        if (lastAnswer(newest, since.get(root)) !== undefined) {
          cutOff.delete(root)
          return yield* beginReview(root)
        }
        // The host may be about to begin the turn; a turn that it has begun and that does not run has died with it.
        const now = yield* Clock.currentTimeMillis
        const from = cutOff.get(root) ?? now
        const patience = last?.role === "assistant" ? config.stabilityWait : config.startTimeout
        if (now - from < Duration.toMillis(patience)) return void cutOff.set(root, from)
        cutOff.delete(root)
        const mission = yield* missions.get(root)
        if (mission === undefined) return
        if (mission.continuations >= config.continuations) {
          return yield* halt(root, { todos: [], failures: [] }, lastWords(newest, mission.startedAt))
        }
        yield* missions.apply(root, { type: "continued" })
        yield* revive(mission, newest).pipe(unlessSent(root))
      }, (looking, root) =>
        looking.pipe(
          Effect.catchTag("SessionNotFound", () => forget(root)),
          Effect.catchCause((cause) => Effect.logDebug("a mission could not be looked at", cause))
        ))

      const halt = Effect.fnUntraced(function*(
        root: SessionId,
        { failures, todos }: Mission.Open,
        answer: string | undefined
      ) {
        const all = [...todos, ...failures.map(({ order }) => order)]
        const named = all.slice(0, openNamed)
        const open = all.length > named.length ? [...named, `and ${all.length - named.length} more`] : named
        const why =
          `The Commander was told to go on ${config.continuations} times, and no todo, file, task or tool result `
          + `has changed.${open.length === 0 ? "" : ` Open: ${open.join("; ")}.`}`
        yield* missions.apply(root, { type: "ended", state: "halted", why, stagnated: true, answer })
        yield* notifier.show(presets.missionHalted(why))
      })

      /** Goes on with a mission whose turn was cut off, by what can be seen of it. */
      const revive = Effect.fnUntraced(function*({ goal, root }: Mission.Mission, newest: ReadonlyArray<Message>) {
        // The host had said yes to the user's word, and ended before it had stored it, or all of it.
        const isEmpty = newest.every((message) => message.role === "user" && messageText(message) === "")
        if (isEmpty) return yield* instruct(root, goal)
        const tasks = (yield* store.all).filter((task) => task.mission === root)
        // The notice of its tasks wakes the Commander as well.
        if (tasks.some(isUntold) && tasks.every(isSettled)) return
        const own = tasks.filter((task) => task.parent === root)
        yield* instruct(root, [interruptedInstruction, ...goingOn(own), ...(yield* plans.goingOn(root))].join("\n"))
      })

      /** Missions without a Commander whose program is gone: their tasks go on to their ends, and nobody judges those. */
      const orphans = new Set<SessionId>()

      const endOrphan = Effect.fnUntraced(function*(root: SessionId) {
        if (yield* hasOpen(root)) return
        orphans.delete(root)
        const why =
          "Its tasks have ended; the program that ran its plan is gone, and nobody has judged what came of them."
        yield* missions.apply(root, { type: "ended", state: "halted", why })
        yield* notifier.show(presets.missionHalted(why))
      })

      /** The oldest missions make room for new ones without a word. */
      const forgetAllBut = (roots: ReadonlySet<SessionId>) => {
        for (const kept of [since, seenAt, cutOff, orphans]) {
          for (const root of kept.keys()) if (!roots.has(root)) kept.delete(root)
        }
      }

      /** The safety net for a lost idle event. */
      const poll = Effect.gen(function*() {
        const all = yield* missions.all
        forgetAllBut(new Set(all.map(({ root }) => root)))
        const active = all.filter((mission) => mission.state === "active")
        for (const { root } of active) if (orphans.has(root)) yield* endOrphan(root)
        for (const { root } of active) yield* work.noteFailures(root)
        const now = yield* Clock.currentTimeMillis
        const quiet = active.filter((mission) =>
          mission.windingUp === undefined && mission.planned === undefined
          && !FiberMap.hasUnsafe(mendings, mission.root)
          && now - (seenAt.get(mission.root) ?? now) >= Duration.toMillis(config.stabilityWait)
        )
        if (quiet.length === 0) return
        const statuses = yield* client.statuses
        for (const { root } of quiet) {
          yield* touch(root) // the next look comes after another stability wait, not with the next poll
          if (!statuses.has(root)) yield* look(root)
        }
      })
      yield* poll.pipe(
        Effect.catchCause((cause) => Effect.logDebug("a poll of missions failed", cause)),
        Effect.repeat(Schedule.spaced(config.pollInterval)),
        Effect.forkScoped
      )

      const observe = Effect.fnUntraced(function*(event: HostEvent) {
        yield* budgets.observe(event)
        const mission = yield* missions.get(event.session)
        if (mission?.state !== "active") {
          if (event.type === "deleted" && mission !== undefined) yield* forget(event.session)
          if (event.type === "error" && isAbort(event.error)) yield* abortTasks(event.session)
          return
        }
        const root = mission.root
        yield* touch(root)
        cutOff.delete(root)
        switch (event.type) {
          case "idle":
            return mission.planned === undefined ? yield* beginReview(root) : undefined
          case "deleted":
            return yield* forget(root)
          case "error":
            yield* FiberMap.remove(reviews, root)
            return yield* turnFailed(root, event.error)
        }
      })

      const adopt = Effect.fnUntraced(function*(mission: Mission.Mission) {
        if ((yield* missions.get(mission.root)) !== undefined) return // the user has spoken since
        if (mission.state === "active") yield* budgets.hold(mission.root) // until it is woken; nobody wakes one that has ended
        yield* missions.add(mission)
        yield* missions.apply(mission.root, { type: "adopted" })
        if (mission.planned !== undefined) orphans.add(mission.root)
        // What is left of its tasks is not to wake it, as it was not before.
        const isAtRest = mission.state !== "active" && mission.state !== "complete"
        if (isAtRest || mission.planned !== undefined) yield* notices.hush(mission.root)
      })

      const wake = Effect.fnUntraced(function*(root: SessionId) {
        yield* budgets.release(root)
        const mission = yield* missions.get(root)
        if (mission?.state !== "active") return
        yield* touch(root)
        if (mission.windingUp !== undefined || mission.planned !== undefined) return // its end goes on by itself
        if ((yield* client.statuses).has(root)) return
        const newest = yield* client.messages(root, newestMessages)
        if (lastAnswer(newest, undefined) !== undefined) return yield* beginReview(root)
        // The earlier instance ended before it had recorded what the user, or the provider, had done to the turn.
        const last = newest.at(-1)
        if (last?.role === "assistant" && last.error !== undefined) return yield* turnFailed(root, last.error)
        yield* revive(mission, newest)
      }, (waking, root) =>
        untilHostAnswers(waking).pipe(
          Effect.catchTag("SessionNotFound", () => forget(root)),
          Effect.catch((error) => Effect.logWarning(`the mission in ${root} could not be woken`, error)) // its poll looks again
        ))

      return MissionLoop.of({
        userSpoke,
        adopt,
        wake,
        observe,
        stop,
        goOn
      })
    })
  )
}

/** So many of the Commander's newest messages show what it has done since it was last looked at. */
const reviewedMessages = 40

/** What is open may be a list of thousands; why a mission was halted is recorded with it and shown. */
const openNamed = 20

/** The text of the newest answer, if the host has finished it; undefined while it has not, or when a newer prompt waits. */
const lastAnswer = (messages: ReadonlyArray<Message>, since: MessageId | undefined): string | undefined => {
  const last = messages.findLast((message) => !isNote(message))
  if (since !== undefined && last !== undefined && last.id <= since) return undefined
  if (last?.role !== "assistant" || !last.completed || last.error !== undefined || last.finish === "tool-calls") {
    return undefined
  }
  return messageText(last)
}

const wasAborted = (message: Message): boolean =>
  message.role === "assistant" && message.error !== undefined && isAbort(message.error)
