/**
 * Runs a plan without a Commander: this process is the instance, over the host's HTTP. Tasks run side by side as the plan
 * allows, an Inspector checks each group of them and all together, and what failed is run again at once.
 */
import { Clock, Effect, FileSystem, Layer, Option, Path, Queue, Result, Schedule, Schema } from "effect"
import { commander, team } from "../../src/agents/team.ts"
import type { ConfigValues } from "../../src/Config.ts"
import type { Limits } from "../../src/domain/Budget.ts"
import { again, type End, isGood, withChecks } from "../../src/domain/Inspection.ts"
import { begin, type Mission, spentBy } from "../../src/domain/Mission.ts"
import { type BadPlan, type Plan, readPlan, type StartedPlan } from "../../src/domain/Plan.ts"
import { outcome } from "../../src/domain/Task.ts"
import { Notifier } from "../../src/host/Notifier.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import * as LogFile from "../../src/LogFile.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { TaskDecomposer } from "../../src/mission/TaskDecomposer.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import { replaceFile } from "../../src/OwnFiles.ts"
import { Notices } from "../../src/tasks/Notices.ts"
import { Plans } from "../../src/tasks/Plans.ts"
import { TaskManager } from "../../src/tasks/TaskManager.ts"
import * as NodePorts from "../node-process/NodePorts.ts"
import * as Otel from "../node-process/Otel.ts"
import { layerOf } from "../opencode-sdk/OpencodeSessionClient.ts"
import { makeAsks, type Policy } from "./asks.ts"
import { unavailable, usage } from "./exit.ts"
import { type Host, rawEvents } from "./hosts.ts"
import { makeJournalReader } from "./journals.ts"
import { exitOf } from "./missionRun.ts"
import { type EndLine, type Reporter, tellEnd } from "./runLines.ts"
import { makeTales, reportOf } from "./tales.ts"
import { ViewEvent } from "./viewEvents.ts"

const inspector = "Inspector"
const architect = "Architect"

/** The agents that a plan may name. */
export const planAgents: ReadonlyArray<string> = team.filter(({ mode }) => mode !== "primary").map(({ name }) => name)

/** The plan, checked before anything is started; the command ends with all that is wrong with it. */
export const checkPlan = (text: string, source: string) =>
  Effect.fromResult(readPlan(text, planAgents)).pipe(
    Effect.mapError(({ problems }: BadPlan) =>
      usage([`The plan in ${source} cannot be run:`, ...problems.map((problem) => `- ${problem}`)].join("\n"))
    )
  )

export interface PlanOrder {
  readonly host: Host
  readonly config: ConfigValues
  readonly reporter: Reporter
  readonly policy: Policy
  readonly limits: Limits
  /** How often each bad end has what failed run again. */
  readonly retries: number
  readonly inspect: boolean
  readonly source: { readonly plan: Plan } | { readonly goal: string }
  /** How a plan that is left is gone on with, as a command line. */
  readonly resumeCommand: (file: string) => string
}

interface Verdict {
  readonly state: EndLine["state"]
  readonly why: string
  readonly answer: string
}

export const runPlan = Effect.fn("runPlan")(function*(order: PlanOrder) {
  const { config, host, reporter } = order
  const notifier = Layer.succeed(Notifier, {
    show: (toast) => reporter.tell({ type: "toast", ...toast })
  })
  const core = Orchestrator.layer(config).pipe(
    Layer.provideMerge(Layer.mergeAll(layerOf(host.client), notifier)),
    Layer.provideMerge(Otel.layer(process.env)),
    Layer.provideMerge(LogFile.layer(config.logLevel)),
    Layer.provideMerge(NodePorts.layer(host.root))
  )
  return yield* Effect.provide(drive(order), core)
})

const drive = Effect.fnUntraced(function*(order: PlanOrder) {
  const { host, inspect, limits, policy, reporter, retries, source } = order
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const sessions = yield* SessionClient
  const decomposer = yield* TaskDecomposer
  const manager = yield* TaskManager
  const missions = yield* Missions
  const notices = yield* Notices
  const plans = yield* Plans
  yield* requireAgents("goal" in source ? [architect, inspector] : inspect ? [inspector] : [])

  const goal = "goal" in source ? source.goal : "Carry out the plan"
  const { id: root } = yield* sessions.create({ title: `Plan: ${goal}`.slice(0, 80), agent: commander })
  const startedAt = yield* Clock.currentTimeMillis
  yield* missions.add({ ...begin(root, goal, startedAt), planned: true, limits })
  // Nobody talks in the root session: what is told there is for people who look.
  yield* notices.hush(root)
  const journals = yield* makeJournalReader(host.root, root)
  const tales = makeTales(reporter, host.root, root)
  const asks = yield* makeAsks({ host, root, policy, reporter })
  const events = yield* rawEvents(host.client)

  const look = Effect.gen(function*() {
    yield* tales.recorded(yield* journals.read)
    yield* asks.look
  })
  yield* Effect.gen(function*() {
    while (true) {
      yield* look
      const first = yield* Effect.timeoutOption(Queue.take(events), "1 second")
      for (const raw of Option.isNone(first) ? [] : [first.value, ...(yield* Queue.clear(events))]) {
        const seen = Schema.decodeUnknownOption(ViewEvent)(raw)
        // The toasts of an orchestrator in the server are not about this plan; our own come by another way.
        if (Option.isSome(seen) && seen.value.type !== "tui.toast.show") yield* tales.event(seen.value)
      }
      yield* Effect.sleep("200 millis")
    }
  }).pipe(Effect.forkScoped)

  const ask = (agent: string, description: string, prompt: string, resume?: string) =>
    manager.run({ parent: root, by: commander, agent, description, prompt, background: false, resume })

  const mission = Effect.map(missions.get(root), (found): Mission => found ?? begin(root, goal, startedAt)) // it was added above

  /** The Architect's plan for a goal; one that cannot be run is given back to it once, with all that is wrong. */
  const decompose = Effect.fnUntraced(function*(goal: string) {
    const first = yield* ask(architect, "Plan the goal", planPrompt(goal))
    const plan = readPlan(first.result ?? "", planAgents)
    if (first.state !== "completed" || Result.isSuccess(plan)) return { task: first, plan }
    const second = yield* ask(architect, "Correct the plan", plan.failure.message, first.id)
    return { task: second, plan: readPlan(second.result ?? "", planAgents) }
  })

  /** The plan with its checks, as far as it is known here; what runs is known to `plans`. */
  let started: StartedPlan | undefined
  const ends = Effect.gen(function*() {
    const plan = (yield* plans.all).find(({ id }) => id === started?.id) ?? started
    return plan === undefined ? [] : yield* decomposer.ends(plan)
  })

  /** Runs a plan to the end of its tasks, or of the budget. */
  const carryOut = Effect.fnUntraced(function*(nodes: Plan) {
    started = yield* decomposer.start(nodes, { session: root, agent: commander }, retries)
    started = yield* plans.settled(started.id)
    // A budget that is used up stops the plan first, and lets its agents finish.
    const isOver = Effect.map(mission, ({ state, windingUp }) => state !== "active" || windingUp === undefined)
    yield* isOver.pipe(Effect.repeat({ until: (over) => over, schedule: Schedule.spaced("200 millis") }))
  })

  const work = Effect.gen(function*() {
    let plan: Plan
    if ("goal" in source) {
      const made = yield* decompose(source.goal)
      const { state, why = "" } = yield* mission
      if (state !== "active") return yield* ended(state, why)
      if (made.task.state !== "completed") {
        return yield* ended("failed", `The ${architect} has not made a plan: ${outcome(made.task)}`)
      }
      if (Result.isFailure(made.plan)) return yield* ended("failed", made.plan.failure.message)
      plan = made.plan.success
    } else plan = source.plan
    yield* carryOut(inspect ? withChecks(plan, inspector, goal) : plan)
    const found = yield* ends
    const last = found.findLast(({ node, task }) => node.verdict === true && task !== undefined)?.task
    const answer = last === undefined ? "" : outcome(last)
    const { state, why = "" } = yield* mission
    if (state !== "active") return yield* ended(state, why, answer)
    const left = again(found)
    if (left.length > 0) return yield* ended("failed", problemOf(found, left), answer)
    return inspect
      ? yield* ended(
        "complete",
        `All tasks of the plan are completed, and the ${inspector} has found them good.`,
        answer
      )
      : yield* ended("complete", "All tasks of the plan are completed; nobody was asked to check them.")
  })

  const ended = (state: EndLine["state"], why: string, answer = "") => Effect.succeed<Verdict>({ state, why, answer })

  /** What a next run has to do, as a plan in a file. */
  const keepRest = Effect.gen(function*() {
    const left = again(yield* ends).filter(({ verdict }) => verdict !== true)
    if (left.length === 0) return undefined
    const file = path.join(host.root, ".opencode", "orchestrator", `rest-of-${root}.json`)
    yield* replaceFile(fs, file, asText(left))
    return file
  }).pipe(Effect.orElseSucceed(() => undefined)) // the end is told all the same

  const finish = Effect.fnUntraced(function*({ answer, state, why }: Verdict) {
    const isComplete = state === "complete"
    const end = isComplete ? "complete" : state === "interrupted" ? "stopped" : "halted"
    yield* missions.apply(root, { type: "ended", state: end, why, answer })
    yield* missions.apply(root, { type: "concluded", answer }) // where the budget has ended it before
    const recorded = yield* journals.read
    yield* tales.recorded(recorded)
    const now = yield* Clock.currentTimeMillis
    const spent = spentBy(yield* mission, now)
    const file = isComplete ? undefined : yield* keepRest
    const summed = {
      exit: exitOf(state),
      state,
      why,
      mission: root,
      durationMs: spent.time,
      tokens: spent.tokens,
      cost: spent.cost,
      tasks: recorded.tasks.map((task) => reportOf(task, now)),
      answer,
      ...(file === undefined ? {} : { resume: order.resumeCommand(file) })
    }
    yield* tellEnd(reporter, summed)
    return summed
  })

  const stop = Effect.gen(function*() {
    yield* reporter.tell({ type: "warning", message: "stopping the plan's agents; press Ctrl-C again to end at once" })
    yield* Effect.timeoutOption(manager.cancelMission(root, "you interrupted it"), "20 seconds")
    yield* finish({ state: "interrupted", why: "You interrupted it: its agents were stopped.", answer: "" })
  })

  return yield* Effect.raceFirst(work.pipe(Effect.catch(({ message }) => ended("failed", message))), host.gone).pipe(
    Effect.flatMap(finish),
    Effect.onInterrupt(() => stop)
  )
})

const requireAgents = Effect.fnUntraced(function*(wanted: ReadonlyArray<string>) {
  const sessions = yield* SessionClient
  const known = (yield* sessions.agents).map(({ name }) => name)
  const missing = [commander, ...wanted].filter((name) => !known.includes(name))
  if (missing.length === 0) return
  return yield* unavailable(
    `The OpenCode has no agent ${missing.join(", ")} (it has ${
      known.join(", ")
    }): leave --url out, so that one is started `
      + "with them, or run \"opencode-orchestrator init\" in its project and start it again."
  )
})

/** Why a plan did not come to a good end, in a sentence or two. */
const problemOf = (ends: ReadonlyArray<End>, left: Plan): string => {
  const again = new Set(left.map(({ id }) => id))
  const names = (of: (end: End) => boolean) =>
    ends.flatMap((end) => (again.has(end.node.id) && of(end) ? end.node.id : [])).join(", ")
  const unchecked = names((end) => end.node.verdict === true && end.task !== undefined && !isGood(end))
  const faults = names((end) => end.node.verdict !== true && isGood(end))
  const failed = names((end) => end.node.verdict !== true && !isGood(end))
  return [
    ...(failed === "" ? [] : [`These tasks of the plan are not completed: ${failed}.`]),
    ...(faults === "" ? [] : [`The ${inspector} does not say PASS to these: ${faults}.`]),
    ...(failed === "" && faults === "" ? [`The ${inspector} has come to no end: ${unchecked}.`] : [])
  ].join(" ")
}

const asText = (plan: Plan): string =>
  JSON.stringify(
    plan.map(({ agent, depends, files, group, id, prompt, text }) => ({
      id,
      text,
      agent,
      prompt,
      depends,
      files,
      parallel: group
    })),
    null,
    2
  )

const planPrompt = (goal: string): string =>
  [
    "Make a plan for this goal. Do not write it to a file and delegate nothing: answer with it, as a list in this form and nothing else beside it:",
    "- [ ] G1: a part that can be checked by itself",
    "  - [ ] T1: what to do | agent:Builder | files:src/a.ts",
    "  - [ ] T2: what to do | agent:Builder | files:src/b.ts",
    "- [ ] T3: what to do | agent:Recorder | depends:G1",
    `An ${inspector} checks each such part when it is done, and what depends on it waits for that: do not plan checks.`,
    `The agents are ${
      planAgents.filter((name) => name !== architect).join(", ")
    }. Nobody answers questions: where the goal is silent, decide as the user would.`,
    "",
    "The goal:",
    goal
  ].join("\n")
