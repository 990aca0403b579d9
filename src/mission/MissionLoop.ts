/** Keeps a mission going until it is done: what happens when the Commander falls silent, and when the user speaks or aborts. */
import { Clock, Context, Duration, Effect, FiberMap, FiberSet, Layer, Schedule } from "effect"
import { CommandStore, isOpenCommand } from "../commands/CommandStore.ts"
import { Config } from "../Config.ts"
import * as Mission from "../domain/Mission.ts"
import {
  type HostEvent,
  isAbort,
  type Message,
  type MessageId,
  messageText,
  ownPrompt,
  type SessionId,
  type TurnError
} from "../domain/Session.ts"
import { goingOn, isOpen, isSettled, isUntold, type Task } from "../domain/Task.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient, untilHostAnswers } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { newestMessages } from "../tasks/Completion.ts"
import { Notices } from "../tasks/Notices.ts"
import { TaskJournal } from "../tasks/TaskJournal.ts"
import { TaskManager } from "../tasks/TaskManager.ts"
import { TaskStore } from "../tasks/TaskStore.ts"

/** Sent to a Commander that stops early. */
export const continueInstruction = [
  "CONTINUE. Nothing of your mission is running, and you have not said that it is done.",
  "Compare the goal with what has been done and checked. Do or delegate the next open step now, with a tool call.",
  "If everything is done and an Inspector has checked it, sum up for the user and write MISSION COMPLETE on a line of its own.",
  "If you cannot go on, say plainly what stops you, without that line: the mission then halts, and the user is told."
].join("\n")

/** Sent to a Commander whose turn was cut off by the end of the host. */
export const interruptedInstruction =
  "OpenCode was stopped while you worked, and is back. Your last turn was cut off: a tool call of it may be half done. See what is done, and go on with the mission."

/** Missions remembered at once; the oldest that has ended is forgotten first. */
const missionsKept = 1_000

export class MissionLoop extends Context.Service<MissionLoop, {
  /** The user spoke in a root session. To the Commander: the mission starts, or goes on. To another agent: it rests. */
  readonly userSpoke: (session: SessionId, toCommander: boolean, text: string) => Effect.Effect<void>
  /** Takes an event of the host. */
  readonly observe: (event: HostEvent) => Effect.Effect<void>
  /** Takes over a mission that an earlier instance recorded; it rests until `wake`. */
  readonly adopt: (mission: Mission.Mission) => Effect.Effect<void>
  /** Goes on with a mission whose Commander a restart may have cut off. */
  readonly wake: (root: SessionId) => Effect.Effect<void>
  readonly missions: Effect.Effect<ReadonlyArray<Mission.Mission>>
}>()("orchestrator/mission/MissionLoop") {
  static readonly layer = Layer.effect(
    MissionLoop,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const commands = yield* CommandStore
      const config = yield* Config
      const ids = yield* Ids
      const journal = yield* TaskJournal
      const manager = yield* TaskManager
      const notices = yield* Notices
      const notifier = yield* Notifier
      const store = yield* TaskStore
      const missions = new Map<SessionId, Mission.Mission>()
      const reviews = yield* FiberMap.make<SessionId>()
      const background = yield* FiberSet.make()
      /** When a mission's root session last showed life. */
      const seenAt = new Map<SessionId, number>()
      const touch = (root: SessionId) => Effect.map(Clock.currentTimeMillis, (now) => void seenAt.set(root, now))

      /** Recorded before anything follows from it; what cannot be written is said by the journal, which tries again. */
      const keep = (mission: Mission.Mission) =>
        Effect.suspend(() => {
          missions.set(mission.root, mission)
          return Effect.ignore(journal.record("mission", mission.root, mission))
        })

      const apply = Effect.fnUntraced(function*(root: SessionId, event: Mission.MissionEvent) {
        const before = missions.get(root)
        if (before === undefined) return
        const after = Mission.transition(before, event, yield* Clock.currentTimeMillis)
        if (after !== before) yield* keep(after)
      })

      /** Sorts between the newest word to a mission's Commander and the answer to it. */
      const since = new Map<SessionId, MessageId>()
      const forget = (root: SessionId) =>
        Effect.suspend(() => {
          missions.delete(root)
          since.delete(root)
          seenAt.delete(root)
          cutOff.delete(root)
          return journal.drop("mission", root)
        })

      const userSpoke = Effect.fn("MissionLoop.userSpoke")(function*(
        session: SessionId,
        toCommander: boolean,
        text: string
      ) {
        yield* notices.wake(session)
        yield* FiberMap.remove(reviews, session)
        if (!toCommander) return yield* apply(session, { type: "ended", state: "stopped" })
        yield* touch(session)
        const known = missions.get(session)
        const startedAt = yield* Clock.currentTimeMillis
        if (known?.state === "active") {
          yield* FiberSet.run(background, abortUnheard(session, since.get(session), startedAt))
        }
        since.set(session, yield* ids.message)
        if (known === undefined) {
          for (const mission of missions.values()) {
            if (missions.size < missionsKept) break
            if (mission.state !== "active") yield* forget(mission.root)
          }
          yield* keep({ root: session, goal: text, state: "active", startedAt, continuations: 0 })
        } else {
          yield* apply(session, { type: "spoke", goal: text })
        }
        if (known?.state !== "active") yield* notifier.show(presets.missionStarted(text))
      })

      /** The user aborted a root session: its tasks stop, and what they left does not wake it. */
      const abortTasks = Effect.fnUntraced(function*(root: SessionId) {
        const hasTasks = (yield* store.all).some((task) => task.mission === root && isOpen(task))
        const hasCommands = (yield* commands.all).some((one) => one.mission === root && isOpenCommand(one))
        if (!hasTasks && !hasCommands) return
        yield* notices.hush(root)
        // Stopping children takes a while, and the next event must not wait.
        yield* FiberSet.run(background, manager.cancelMission(root, "the user aborted the mission"))
      })

      /** The user may speak again before it was heard that the turn was aborted: what was at work until then stops. */
      const abortUnheard = Effect.fnUntraced(function*(root: SessionId, from: MessageId | undefined, spokeAt: number) {
        const ran = (task: Task) => task.mission === root && !isSettled(task) && task.createdAt < spokeAt
        if (!(yield* store.all).some(ran)) return
        const newest = yield* client.messages(root, newestMessages)
        if (!newest.some((message) => message.id > (from ?? "") && wasAborted(message))) return
        yield* manager.cancelMission(root, "the user aborted the mission", spokeAt)
      }, Effect.catchCause((cause) => Effect.logDebug("an abort that was not heard could not be looked for", cause)))

      /** The Commander's turn was aborted by the user, or failed. */
      const turnFailed = Effect.fnUntraced(function*(root: SessionId, error: TurnError) {
        if (!isAbort(error)) {
          yield* apply(root, { type: "ended", state: "halted" })
          return yield* notifier.show(presets.missionHalted(`The Commander's turn failed: ${error.message}.`))
        }
        yield* apply(root, { type: "ended", state: "stopped" })
        yield* notifier.show(presets.missionStopped())
        yield* abortTasks(root)
      })

      /** Looks at a mission whose root session has become idle, and acts on it. */
      const review = Effect.fnUntraced(function*(root: SessionId) {
        const open = (yield* store.all).some((task) => task.mission === root && isOpen(task))
        if (open) return // their notice wakes the Commander
        const answer = lastAnswer(yield* client.messages(root, newestMessages), since.get(root))
        const mission = missions.get(root)
        if (answer === undefined || mission === undefined) return
        const now = yield* Clock.currentTimeMillis
        switch (Mission.decide(mission, answer, config.continuations)) {
          case "nothing":
            return
          case "complete":
            yield* apply(root, { type: "ended", state: "complete" })
            return yield* notifier.show(presets.missionComplete(now - mission.startedAt))
          case "halt":
            return yield* halt(root)
          case "continue":
            yield* apply(root, { type: "continued" })
            yield* instruct(root, continueInstruction)
        }
      })

      /** Says something to the Commander that starts a turn. */
      const instruct = Effect.fnUntraced(function*(root: SessionId, text: string) {
        const target = yield* client.get(root)
        yield* touch(root)
        const id = yield* ids.message
        yield* client.prompt({
          session: root,
          id,
          text,
          agent: target.agent,
          model: target.model,
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
        const mission = missions.get(root)
        if (mission === undefined) return
        if (mission.continuations >= config.continuations) return yield* halt(root)
        yield* apply(root, { type: "continued" })
        yield* revive(mission, newest)
      }, (looking, root) =>
        looking.pipe(
          Effect.catchTag("SessionNotFound", () => forget(root)),
          Effect.catchCause((cause) => Effect.logDebug("a mission could not be looked at", cause))
        ))

      const halt = Effect.fnUntraced(function*(root: SessionId) {
        yield* apply(root, { type: "ended", state: "halted" })
        yield* notifier.show(presets.missionHalted(
          `The Commander was told to go on ${config.continuations} times and did nothing.`
        ))
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
        yield* instruct(root, [interruptedInstruction, ...goingOn(own)].join("\n"))
      })

      /** The safety net for a lost idle event. */
      const poll = Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        const quiet = [...missions.values()].filter((mission) =>
          mission.state === "active"
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
        const mission = missions.get(event.session)
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
            return yield* beginReview(root)
          case "tool":
            yield* apply(root, { type: "worked" })
            return
          case "deleted":
            return yield* forget(root)
          case "error":
            yield* FiberMap.remove(reviews, root)
            return yield* turnFailed(root, event.error)
        }
      })

      const adopt = Effect.fnUntraced(function*(mission: Mission.Mission) {
        if (missions.has(mission.root)) return // the user has spoken since
        yield* keep(mission)
        if (mission.state === "stopped") yield* notices.hush(mission.root)
      })

      const wake = Effect.fnUntraced(function*(root: SessionId) {
        const mission = missions.get(root)
        if (mission?.state !== "active") return
        yield* touch(root)
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
        missions: Effect.sync(() => [...missions.values()])
      })
    })
  )
}

/** The text of the newest answer, if the host has finished it; undefined while it has not, or when a newer prompt waits. */
const lastAnswer = (messages: ReadonlyArray<Message>, since: MessageId | undefined): string | undefined => {
  const last = messages.at(-1)
  if (since !== undefined && last !== undefined && last.id <= since) return undefined
  if (last?.role !== "assistant" || !last.completed || last.error !== undefined || last.finish === "tool-calls") {
    return undefined
  }
  return messageText(last)
}

const wasAborted = (message: Message): boolean =>
  message.role === "assistant" && message.error !== undefined && isAbort(message.error)
