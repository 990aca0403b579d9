/** Keeps missions within what they may use: counts it, tells the Commander when it runs short, and brings the mission to its end. */
import { Clock, Context, Duration, Effect, FiberMap, Layer, Option, Schedule } from "effect"
import { Config } from "../Config.ts"
import { type BudgetName, reached } from "../domain/Budget.ts"
import { type Mission, spentBy } from "../domain/Mission.ts"
import {
  type HostEvent,
  messageText,
  noUsage,
  ownPrompt,
  readTurn,
  type SessionId,
  totalTokens,
  type Usage
} from "../domain/Session.ts"
import { formatDuration, isSettled, type Task } from "../domain/Task.ts"
import { cutMiddle } from "../domain/Text.ts"
import { Notifier, presets } from "../host/Notifier.ts"
import { SessionClient, untilHostAnswers } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { newestMessages } from "../tasks/Completion.ts"
import { Notices } from "../tasks/Notices.ts"
import { Plans } from "../tasks/Plans.ts"
import { TaskLife } from "../tasks/TaskLife.ts"
import { TaskStore } from "../tasks/TaskStore.ts"
import { Missions } from "./Missions.ts"

export class Budgets extends Context.Service<Budgets, {
  /** Takes an event of the host. */
  readonly observe: (event: HostEvent) => Effect.Effect<void>
  /** What a session had used when an earlier instance recorded it, so that it is not counted twice. */
  readonly baseline: (session: SessionId, usage: Usage) => Effect.Effect<void>
  /** Ends nothing of a mission until `release`: its tasks are being taken over. */
  readonly hold: (root: SessionId) => Effect.Effect<void>
  readonly release: (root: SessionId) => Effect.Effect<void>
  /** Leaves a mission that has ended as it is. */
  readonly letGo: (root: SessionId) => Effect.Effect<void>
}>()("orchestrator/mission/Budgets") {
  static readonly layer = Layer.effect(
    Budgets,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const ids = yield* Ids
      const life = yield* TaskLife
      const missions = yield* Missions
      const notices = yield* Notices
      const notifier = yield* Notifier
      const plans = yield* Plans
      const store = yield* TaskStore
      const grace = Duration.toMillis(config.budget.grace)
      const endings = yield* FiberMap.make<SessionId>()
      const held = new Set<SessionId>()
      /** What each session had used when it was last heard of; also of deleted ones, whose last news may be late. */
      const lastUsage = new Map<SessionId, Usage>()

      const keep = (session: SessionId, usage: Usage) => {
        lastUsage.delete(session)
        lastUsage.set(session, usage)
        for (const oldest of lastUsage.keys()) {
          if (lastUsage.size <= usagesKept) break
          lastUsage.delete(oldest)
        }
      }

      const baseline = (session: SessionId, usage: Usage) =>
        Effect.sync(() => {
          if (totalTokens(usage) >= totalTokens(lastUsage.get(session) ?? noUsage)) keep(session, usage)
        })

      const missionOf = Effect.fnUntraced(function*(session: SessionId) {
        const own = yield* missions.get(session)
        if (own !== undefined) return own
        const task = yield* store.bySession(session)
        return task._tag === "None" ? undefined : yield* missions.get(task.value.mission)
      })

      const observe = Effect.fnUntraced(function*(event: HostEvent) {
        if (event.type !== "usage") return
        const mission = yield* missionOf(event.session)
        if (mission === undefined) return
        const isRoot = mission.root === event.session
        const before = isRoot ? mission.rootUsage : lastUsage.get(event.session) ?? noUsage
        if (totalTokens(event.usage) === totalTokens(before) && event.usage.cost === before.cost) return
        keep(event.session, event.usage)
        const after = yield* missions.apply(mission.root, { type: "used", isRoot, before, after: event.usage })
        if (after !== undefined) yield* check(after)
      })

      const check = Effect.fnUntraced(function*(mission: Mission): Effect.fn.Return<void> {
        if (mission.state !== "active" || held.has(mission.root)) return
        if (mission.windingUp !== undefined) {
          yield* FiberMap.run(endings, mission.root, windUp(mission.root), { onlyIfMissing: true })
          return
        }
        const now = yield* Clock.currentTimeMillis
        const { near, over } = reached(spentBy(mission, now), missions.limits(mission))
        const [limit] = over
        if (limit !== undefined) {
          const ending = yield* missions.apply(mission.root, { type: "windingUp", limit })
          if (ending !== undefined) yield* check(ending)
          return
        }
        const news = near.filter((name) => !mission.warned.includes(name))
        if (news.length > 0) yield* FiberMap.run(endings, mission.root, warn(mission, news), { onlyIfMissing: true })
      })

      /** Stored for the Commander's next step: it needs no turn of its own. */
      const warn = Effect.fnUntraced(
        function*(mission: Mission, names: ReadonlyArray<BudgetName>) {
          const used = yield* missions.describe(mission, names)
          yield* missions.apply(mission.root, { type: "warned", names })
          yield* notifier.show(presets.budgetNear(used))
          if (mission.planned === undefined) yield* tell(mission.root, nearInstruction(used), true)
        },
        Effect.catchCause((cause) => Effect.logWarning("a Commander could not be told that a budget runs short", cause))
      )

      /** Says something to a session under a new id, by the agent and the model that talk in it. */
      const tell = Effect.fnUntraced(function*(session: SessionId, text: string, noReply: boolean) {
        const target = yield* untilHostAnswers(client.get(session))
        const id = yield* ids.message
        yield* untilHostAnswers(client.prompt({
          session,
          id,
          text,
          agent: target.agent,
          model: target.model,
          metadata: ownPrompt(noReply ? "note" : "budget"),
          synthetic: true,
          noReply
        }))
        return id
      })

      /** Children finish or are stopped, then the Commander sums up. All that it takes has an end. */
      const windUp = Effect.fnUntraced(function*(root: SessionId) {
        const mission = yield* missions.get(root)
        if (mission?.windingUp === undefined) return
        const used = yield* missions.describe(mission, [mission.windingUp])
        const why = `Its budget is used up: ${used}.`
        yield* notifier.show(presets.windingUp(used))
        yield* notices.hush(root) // its last turn comes when everything is known
        yield* plans.stop((plan) => plan.root === root)
        yield* life.cancelAll((task) => task.mission === root && !isAtWork(task), usedUp)
        const working = (yield* store.all).filter((task) => task.mission === root && isAtWork(task))
        yield* Effect.forEach(working, (task) => finish(task), { concurrency: 8, discard: true })
        // One that is not at hand any more has settled, and was archived.
        yield* Effect.forEach(working, ({ id }) => Effect.ignore(store.settled(id)), { concurrency: "unbounded" }).pipe(
          Effect.timeoutOption(grace)
        )
        yield* Effect.forEach(working, (task) => cutOff(task), { concurrency: "unbounded", discard: true })
        yield* life.cancelAll((task) => task.mission === root, usedUp)
        const answer = mission.planned === undefined
          ? Option.getOrUndefined(yield* Effect.timeoutOption(sumUp(root, used), grace))
          : undefined
        yield* missions.apply(root, { type: "ended", state: "out_of_budget", why, answer })
        yield* notifier.show(presets.missionOutOfBudget(why))
        if ((yield* untilHostAnswers(client.statuses)).has(root)) yield* untilHostAnswers(client.abort(root))
      }, (winding, root) =>
        winding.pipe(
          Effect.catchTag("SessionNotFound", () => missions.forget(root)),
          // The next pass of the poll goes on where this one broke off.
          Effect.catchCause((cause) => Effect.logWarning(`the mission in ${root} could not be ended yet`, cause))
        ))

      /**
       * Read at its next step. One that has just ended its turn is not woken: it has finished. One that cannot be told is
       * cut off after the grace like any other.
       */
      const finish = (task: Task) =>
        task.session === undefined || task.waiting
          ? Effect.void // one that waits is told of the ends of its tasks, and goes on from there
          : Effect.ignore(Effect.timeout(tell(task.session, finishInstruction(grace), true), "10 seconds"))

      /** What a child has said so far is all that is left of its work. */
      const cutOff = Effect.fnUntraced(function*({ id, session }: Task) {
        if (isSettled(yield* Effect.orDie(store.get(id)))) return // it was at work a moment ago, so it is at hand
        const words = session === undefined
          ? ""
          : yield* client.messages(session, cutOffMessages).pipe(
            Effect.timeout("5 seconds"),
            Effect.map((messages) =>
              messages.flatMap((message) => message.role === "assistant" ? messageText(message) : []).join("\n").trim()
            ),
            Effect.orElseSucceed(() => "") // a host that does not answer keeps them for itself
          )
        yield* life.cancel(id, words === "" ? usedUp : `${usedUp}. It had said: ${cutMiddle(words, cutOffChars)}`)
      })

      const sumUp = Effect.fnUntraced(function*(root: SessionId, used: string) {
        yield* untilHostAnswers(notices.flush(root))
        const prompt = yield* tell(root, sumUpInstruction(used), false)
        const turn = yield* client.messages(root, newestMessages).pipe(
          Effect.map((messages) => readTurn(messages, prompt)),
          Effect.orElseSucceed(() => ({ state: "unfinished" } as const)),
          Effect.repeat({
            schedule: Schedule.spaced("1 second"),
            until: ({ state }) => state === "finished" || state === "failed"
          })
        )
        return turn.state === "finished" ? turn.text : undefined
      })

      yield* missions.all.pipe(
        Effect.flatMap((all) => Effect.forEach(all, check, { discard: true })),
        Effect.catchCause((cause) => Effect.logDebug("budgets could not be checked", cause)),
        Effect.repeat(Schedule.spaced(config.pollInterval)),
        Effect.forkScoped
      )

      return Budgets.of({
        observe,
        baseline,
        hold: (root) => Effect.sync(() => void held.add(root)),
        release: (root) => Effect.sync(() => void held.delete(root)),
        letGo: (root) => FiberMap.remove(endings, root)
      })
    })
  )
}

/** Sessions whose usage is remembered: far more than have tasks at hand. */
const usagesKept = 10_000

const usedUp = "the mission's budget is used up"

/** So many of a child's newest messages, and characters of them, are kept when it is cut off. */
const cutOffMessages = 10
const cutOffChars = 2_000

const isAtWork = (task: Task): boolean => task.state === "launching" || task.state === "running"

const nearInstruction = (used: string): string =>
  `The mission's budget runs short: ${used}. Bring what is begun to its end, start only what the goal cannot do without, and leave room to check it.`

const finishInstruction = (grace: number): string =>
  `The mission's budget is used up. You have ${
    formatDuration(grace)
  }: start nothing new, leave everything in a state that works, and end with what you have, what is done and what is left.`

const sumUpInstruction = (used: string): string =>
  `The mission's budget is used up: ${used}. This is your last turn: start nothing new. Sum up for the user what is done and checked, what is left, and where to go on. The user can allow more with /resume and new limits.`
