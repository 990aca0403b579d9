/** Runs one mission from a goal to its end: the Commander leads it, the plugin keeps it going, this tells of it and waits. */
import { Clock, Deferred, Effect, Layer, Option, Queue, Schema, Stream } from "effect"
import { commander } from "../../src/agents/team.ts"
import type { Limits } from "../../src/domain/Budget.ts"
import { missionLimits, saysComplete, spentBy } from "../../src/domain/Mission.ts"
import {
  lastWords,
  type MessageId,
  messageText,
  type ModelRef,
  readTurn,
  type SessionId,
  totalTokens
} from "../../src/domain/Session.ts"
import { presets } from "../../src/host/Notifier.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { make as makeSessionClient } from "../opencode-sdk/OpencodeSessionClient.ts"
import { makeAsks, type Policy } from "./asks.ts"
import { type ExitCode, exitCodes, usage } from "./exit.ts"
import { type Host, rawEvents, requireModel } from "./hosts.ts"
import { makeJournalReader } from "./journals.ts"
import { type EndLine, type Reporter, tellEnd } from "./runLines.ts"
import { makeTales, reportOf } from "./tales.ts"
import { ViewEvent } from "./viewEvents.ts"

export interface MissionOrder {
  readonly host: Host
  readonly reporter: Reporter
  readonly policy: Policy
  readonly goal: string
  /** The root session of a mission that is to go on, in the place of a goal. */
  readonly resume: SessionId | undefined
  readonly agent: string
  readonly model: ModelRef | undefined
  readonly limits: Limits
  /** The same as a person types them. */
  readonly limitsTyped: string
  /** How the mission is gone on with, as a command line. */
  readonly resumeCommand: (root: SessionId) => string
  /** What an earlier host left is not gone on with by itself. */
  readonly resumesByHand: boolean
}

export type End = Omit<EndLine, "type" | "at">

interface Verdict {
  readonly state: EndLine["state"]
  readonly why: string
}

const codes: Readonly<Record<EndLine["state"], ExitCode>> = {
  complete: exitCodes.complete,
  failed: exitCodes.failed,
  halted: exitCodes.failed,
  stopped: exitCodes.failed,
  stagnated: exitCodes.stagnated,
  out_of_budget: exitCodes.outOfBudget,
  interrupted: exitCodes.interrupted
}
export const exitOf = (state: EndLine["state"]): ExitCode => codes[state]

/** How long the orchestrator may take to say what became of a mission that nothing is recorded of. */
const silence = 60_000

/** The newest of them may be calls of tools alone. */
const answerMessages = 20

/** How long a mission may take to be stopped. */
const stopLimit = "20 seconds"

/** Never fails for what the mission does: that is its end. Interrupted, it stops the mission, and tells how to go on. */
export const runMission = Effect.fn("runMission")(function*(order: MissionOrder) {
  const { agent, goal, host, limits, model, policy, reporter, resume } = order
  const sessions = yield* SessionClient
  const ids = yield* Ids
  if (model !== undefined) yield* requireModel(model)
  yield* requireAgent(agent)
  const session = yield* resume === undefined
    ? sessions.create({ title: goal.slice(0, 80), agent, metadata: missionLimits(limits) })
    : sessions.get(resume).pipe(
      Effect.catchTag(
        "SessionNotFound",
        () => Effect.fail(usage(`--resume: OpenCode knows no session "${resume}" in ${host.root}.`))
      )
    )
  if (session.parent !== undefined) {
    return yield* usage(
      `--resume: "${session.id}" is the session of a task; name that of the mission, ${session.parent}.`
    )
  }
  if (resume !== undefined) yield* requireHere(host, resume)
  const root = session.id
  const journals = yield* makeJournalReader(host.root, root)
  const before = (yield* journals.read).mission
  const events = yield* rawEvents(host.client)
  const asks = yield* makeAsks({ host, root, policy, reporter })
  const tales = makeTales(reporter, host.root, root)
  const done = yield* Deferred.make<Verdict>()
  const end = (state: EndLine["state"], why: string) => Deferred.succeed(done, { state, why })
  const isLed = agent === commander
  const prompt: MessageId = yield* ids.message
  let quietSince: number | undefined
  let toastEnd: Verdict | undefined
  let resumeAnswered = false

  const command = (name: string, typed: string) =>
    Effect.tryPromise((signal) =>
      host.client.session.command({
        sessionID: root,
        command: name,
        arguments: typed,
        ...(model === undefined ? {} : { model: `${model.provider}/${model.model}` })
      }, { signal })
    )

  /** What is recorded is the truth; events say when to look. */
  const look = Effect.gen(function*() {
    const recorded = yield* journals.read
    yield* tales.recorded(recorded)
    yield* asks.look
    const { mission } = recorded
    if (!isLed) return yield* lookAtTurn
    if (mission === undefined) return yield* lookWithoutRecord
    if (mission.state === "active") return
    if (mission.state !== before?.state || mission.countedAt !== before.countedAt) {
      return yield* end(mission.stagnated === true ? "stagnated" : mission.state, mission.why ?? mission.state)
    }
    // It was as it is now before this began; once the command is answered, it stays so.
    if (!resumeAnswered) return
    yield* end(
      mission.state === "complete" ? "complete" : "stopped",
      `There was nothing to go on with: ${mission.why ?? mission.state}`
    )
  })

  /** An agent that leads no mission is done with its turn. */
  const lookAtTurn = Effect.gen(function*() {
    const turn = readTurn(yield* sessions.messages(root, 10), prompt)
    if (turn.state === "finished") yield* end("complete", `${agent} has ended its turn.`)
    if (turn.state === "failed") yield* end("failed", turn.error.message || turn.error.name)
  })

  /** With `journal: off`, or a server on another machine: toasts, and the Commander's own word. */
  const lookWithoutRecord = Effect.gen(function*() {
    if ((yield* sessions.statuses).size > 0) {
      quietSince = undefined
      return
    }
    if (toastEnd !== undefined) {
      yield* end(toastEnd.state, toastEnd.why)
      return
    }
    const now = yield* Clock.currentTimeMillis
    quietSince ??= now
    const [last] = yield* sessions.messages(root, 1)
    if (now - quietSince < silence || last?.role !== "assistant") return
    yield* saysComplete(messageText(last))
      ? end("complete", "The Commander said that it is complete.")
      : end("failed", "Nothing of the mission goes on, and the orchestrator does not say why.")
  })

  const watch = Effect.gen(function*() {
    let isDue = true
    let lookedAt = 0
    while (true) {
      const now = yield* Clock.currentTimeMillis
      if (isDue || now - lookedAt >= 1_000) {
        lookedAt = now
        yield* Effect.ignore(look) // a host that does not answer is found out by whoever watches over it
      }
      if (order.resumesByHand && (yield* Queue.clear(host.backs)).length > 0) {
        yield* Effect.forkScoped(Effect.ignore(command("resume", ""))) // what has not gone on shows in the journal
      }
      if (yield* Deferred.isDone(done)) return yield* Deferred.await(done)
      const first = yield* Effect.timeoutOption(Queue.take(events), "1 second")
      isDue = Option.isNone(first)
      for (const raw of Option.isNone(first) ? [] : [first.value, ...(yield* Queue.clear(events))]) {
        const seen = Schema.decodeUnknownOption(ViewEvent)(raw)
        if (Option.isNone(seen)) continue // the many others are not for people
        const event = seen.value
        if (event.type !== "session.updated" && event.type !== "message.part.updated") isDue = true
        if (event.type === "tui.toast.show") toastEnd = endOfToast(event.properties) ?? toastEnd
        if (event.type === "session.error" && event.properties.sessionID === root && !isLed) {
          const { error } = event.properties
          yield* end("failed", error.data?.message ?? error.name)
        }
        yield* tales.event(event)
      }
    }
  })

  const stop = Effect.gen(function*() {
    yield* reporter.tell({
      type: "warning",
      message: "stopping the mission and its agents; press Ctrl-C again to end at once"
    })
    // Carried out before its answer, which is a turn of the model that nobody waits for.
    yield* Effect.forkChild(Effect.ignore(command("stop", ""))) // whether it was heard shows in the journal
    const isStopped = journals.read.pipe(
      Effect.map(({ mission, tasks }) =>
        mission !== undefined && mission.state !== "active" && tasks.every(({ endedAt }) => endedAt !== undefined)
      ),
      Effect.delay("100 millis"),
      Effect.repeat({ until: (stopped) => stopped })
    )
    const isRecorded = (yield* journals.read).mission !== undefined
    const isKnown = isLed && isRecorded
    const stopped = yield* Effect.timeoutOption(isStopped, isKnown ? stopLimit : "1 second")
    yield* Effect.ignore(Effect.timeout(sessions.abort(root), "5 seconds")) // a host that is gone runs no turn
    yield* tell({
      state: "interrupted",
      why: isKnown && Option.isNone(stopped)
        ? "You interrupted it. OpenCode did not stop its agents in time: some may still be at work."
        : "You interrupted it: its agents were stopped."
    })
  })

  const summary = Effect.fnUntraced(function*({ state, why }: Verdict) {
    const recorded = yield* journals.read
    yield* tales.recorded(recorded)
    const now = yield* Clock.currentTimeMillis
    // Whole, from the host; what is recorded where that does not tell any more.
    const answer = yield* sessions.messages(root, answerMessages).pipe(
      Effect.map((messages) => lastWords(messages, recorded.mission?.startedAt ?? 0)),
      Effect.timeout("5 seconds"),
      Effect.orElseSucceed(() => undefined)
    )
    const spent = recorded.mission === undefined ? undefined : spentBy(recorded.mission, now)
    const used = spent ?? (yield* usedOf(root))
    const summed: End = {
      exit: exitOf(state),
      state,
      why,
      mission: root,
      durationMs: spent?.time ?? now - startedAt,
      tokens: used.tokens,
      cost: used.cost,
      tasks: recorded.tasks.map((task) => reportOf(task, now)),
      answer: answer ?? recorded.mission?.answer ?? "",
      ...(state === "complete" ? {} : { resume: order.resumeCommand(root) })
    }
    return summed
  })

  const usedOf = (id: SessionId) =>
    sessions.get(id).pipe(
      Effect.map(({ usage }) => ({ tokens: totalTokens(usage), cost: usage.cost })),
      Effect.timeout("5 seconds"),
      Effect.orElseSucceed(() => ({ tokens: 0, cost: 0 }))
    )

  const tell = (verdict: Verdict) => Effect.tap(summary(verdict), (end) => tellEnd(reporter, end))

  const begin = Effect.gen(function*() {
    if (resume === undefined) return yield* sessions.prompt({ session: root, id: prompt, text: goal, agent, model })
    // Active, it goes on by itself as soon as the plugin has found it.
    if (before?.state === "active" && order.limitsTyped === "" && !order.resumesByHand) return
    yield* command("resume", order.limitsTyped).pipe(
      Effect.ignore,
      Effect.andThen(Effect.sync(() => void (resumeAnswered = true))),
      Effect.forkScoped
    )
  })

  const startedAt = yield* Clock.currentTimeMillis
  return yield* begin.pipe(
    Effect.andThen(Effect.raceFirst(watch, host.gone)),
    Effect.tapError(() => reporter.tell({ type: "warning", message: `to go on: ${order.resumeCommand(root)}` })),
    Effect.flatMap(tell),
    Effect.onInterrupt(() => stop)
  )
}, (running, { host }) =>
  Effect.provide(running, [
    Layer.succeed(SessionClient, makeSessionClient(host.client, Stream.empty)),
    Ids.layer
  ]))

const ends: ReadonlyMap<string, EndLine["state"]> = new Map([
  [presets.missionComplete(0, "").title, "complete"],
  [presets.missionHalted("").title, "halted"],
  [presets.missionOutOfBudget("").title, "out_of_budget"],
  [presets.missionStopped().title, "stopped"]
])

const endOfToast = ({ message, title = "" }: { readonly title?: string | undefined; readonly message: string }) => {
  const state = ends.get(title)
  return state === undefined ? undefined : { state, why: message } satisfies Verdict
}

/** The host knows the sessions of all projects; only the one that a mission belongs to has its records, and goes on with it. */
const requireHere = Effect.fnUntraced(function*(host: Host, id: SessionId) {
  const found = yield* Effect.tryPromise((signal) => host.client.session.get({ sessionID: id }, { signal })).pipe(
    Effect.timeout("20 seconds"),
    Effect.option // it has answered the same question already, and does so for whatever comes next
  )
  const directory = Option.getOrUndefined(found)?.data?.directory
  if (directory === undefined || directory === host.root || directory.startsWith(`${host.root}/`)) return
  return yield* usage(`--resume: the mission "${id}" belongs to another project: add --dir ${directory}`)
})

const requireAgent = Effect.fnUntraced(function*(agent: string) {
  const sessions = yield* SessionClient
  const usable = (yield* sessions.agents).filter(({ hidden, mode }) => !hidden && mode !== "subagent")
  if (usable.some(({ name }) => name === agent)) return
  return yield* usage(
    `OpenCode has no agent "${agent}" that can be talked to; it has: ${usable.map(({ name }) => name).join(", ")}.`
  )
})
