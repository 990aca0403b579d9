/**
 * Runs a plan without a Commander: this process is the instance, over the host's HTTP. Tasks run side by side as the plan
 * allows, what failed is run again, and an Inspector has the last word.
 */
import { Clock, Effect, FileSystem, Layer, Option, Path, Queue, Result, Schema } from "effect"
import { commander, team } from "../../src/agents/team.ts"
import type { ConfigValues } from "../../src/Config.ts"
import type { Limits } from "../../src/domain/Budget.ts"
import { begin, type Mission, spentBy } from "../../src/domain/Mission.ts"
import { type BadPlan, type Plan, type PlanNode, readPlan, type StartedPlan } from "../../src/domain/Plan.ts"
import { outcome, type Task } from "../../src/domain/Task.ts"
import { Notifier } from "../../src/host/Notifier.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import * as LogFile from "../../src/LogFile.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { TaskDecomposer } from "../../src/mission/TaskDecomposer.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import { Notices } from "../../src/tasks/Notices.ts"
import { Plans } from "../../src/tasks/Plans.ts"
import { TaskManager } from "../../src/tasks/TaskManager.ts"
import { TaskStore } from "../../src/tasks/TaskStore.ts"
import * as NodePorts from "../node-process/NodePorts.ts"
import * as Otel from "../node-process/Otel.ts"
import { layerOf } from "../opencode-sdk/OpencodeSessionClient.ts"
import { makeAsks, type Policy } from "./asks.ts"
import { unavailable, usage } from "./exit.ts"
import { type Host, rawEvents } from "./hosts.ts"
import { makeJournalReader } from "./journals.ts"
import { exitOf } from "./missionRun.ts"
import { ViewEvent } from "./missionView.ts"
import { type EndLine, type Reporter, tellEnd } from "./runLines.ts"
import { makeTales, reportOf } from "./tales.ts"

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
  /** How often what failed is run again. */
  readonly retries: number
  readonly inspect: boolean
  readonly source: { readonly plan: string } | { readonly goal: string }
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
  const store = yield* TaskStore
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

  /** Runs a plan to the end of its tasks, or of the budget; how each has ended. */
  const carryOut = Effect.fnUntraced(function*(text: string) {
    const plan = yield* decomposer.run(text, { session: root, agent: commander })
    const isOver = Effect.gen(function*() {
      const { state, windingUp } = yield* mission
      const found = (yield* plans.all).find(({ id }) => id === plan.id)
      return state !== "active" || (windingUp === undefined && found?.state !== "running")
    })
    yield* isOver.pipe(Effect.delay("200 millis"), Effect.repeat({ until: (over) => over }))
    return { plan, ends: yield* endsOf(plan) }
  })

  const endsOf = (plan: StartedPlan) =>
    Effect.forEach(
      plan.nodes,
      (node) => Effect.map(Effect.option(store.get(node.task)), (task) => ({ node, task: Option.getOrUndefined(task) }))
    )

  const results = new Map<string, { readonly node: PlanNode; readonly task: Task | undefined }>()

  const work = Effect.gen(function*() {
    let text: string
    if ("goal" in source) {
      const { plan, task } = yield* decompose(source.goal)
      const { state, why = "" } = yield* mission
      if (state !== "active") return yield* ended(state, why)
      if (task.state !== "completed") {
        return yield* ended("failed", `The ${architect} has not made a plan: ${outcome(task)}`)
      }
      if (Result.isFailure(plan)) return yield* ended("failed", plan.failure.message)
      text = asText(plan.success)
    } else text = source.plan

    for (let round = 0;; round++) {
      const { ends } = yield* carryOut(text)
      for (const end of ends) results.set(end.node.id, end)
      const { state, why = "" } = yield* mission
      if (state !== "active") return yield* ended(state, why)
      const left = ends.filter(({ task }) => task?.state !== "completed")
      if (left.length === 0) break
      const names = left.map(({ node }) => node.id).join(", ")
      if (round >= retries) return yield* ended("failed", `These tasks of the plan are not completed: ${names}.`)
      yield* reporter.tell({ type: "warning", message: `not completed, and run again: ${names}` })
      text = asText(again(left))
    }
    if (!inspect) {
      return yield* ended("complete", "All tasks of the plan are completed; nobody was asked to check them.")
    }
    const check = yield* ask(inspector, "Check the plan's results", inspectPrompt(goal, [...results.values()]))
    const answer = outcome(check)
    const { state, why = "" } = yield* mission
    if (state !== "active") return yield* ended(state, why, answer)
    if (check.state !== "completed") return yield* ended("failed", `The ${inspector} has come to no end.`, answer)
    return /^\W*PASS\b/m.test(answer) && !/^\W*FAIL\b/m.test(answer)
      ? yield* ended(
        "complete",
        `All tasks of the plan are completed, and the ${inspector} has found them good.`,
        answer
      )
      : yield* ended("failed", `The ${inspector} does not say PASS.`, answer)
  })

  const ended = (state: EndLine["state"], why: string, answer = "") => Effect.succeed<Verdict>({ state, why, answer })

  /** What a next run has to do, as a plan in a file. */
  const keepRest = Effect.gen(function*() {
    const left = [...results.values()].filter(({ task }) => task?.state !== "completed")
    if (left.length === 0) return undefined
    const file = path.join(host.root, ".opencode", "orchestrator", `rest-of-${root}.json`)
    yield* fs.writeFileString(file, asText(again(left)))
    return file
  }).pipe(Effect.orElseSucceed(() => undefined)) // the end is told all the same

  const finish = Effect.fnUntraced(function*({ answer, state, why }: Verdict) {
    const isComplete = state === "complete"
    const end = isComplete ? "complete" : state === "interrupted" ? "stopped" : "halted"
    yield* missions.apply(root, { type: "ended", state: end, why })
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
    const running = (yield* plans.all).filter((plan) => plan.root === root)
    yield* Effect.timeoutOption(manager.cancelMission(root, "you interrupted it"), "20 seconds")
    for (const plan of running) for (const end of yield* endsOf(plan)) results.set(end.node.id, end)
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

/** What is left, as a plan of its own: it waits for nothing that is done. */
const again = (left: ReadonlyArray<{ readonly node: PlanNode; readonly task: Task | undefined }>): Plan => {
  const ids = new Set(left.map(({ node }) => node.id))
  return left.map(({ node, task }) => ({
    ...node,
    depends: node.depends.filter((id) => ids.has(id)),
    prompt: task?.reason === undefined || node.prompt.includes(earlier)
      ? node.prompt
      : `${node.prompt}\n\n${earlier} ${
        task.reason.slice(0, 1_000)
      }\nFind out what is there already, and go on from it.`
  }))
}

const earlier = "An earlier attempt at this came to no good end:"

const asText = (plan: Plan): string =>
  JSON.stringify(
    plan.map(({ agent, depends, files, id, prompt, text }) => ({ id, text, agent, prompt, depends, files })),
    null,
    2
  )

const planPrompt = (goal: string): string =>
  [
    "Make a plan for this goal. Do not write it to a file and delegate nothing: answer with it, as a list in this form and nothing else beside it:",
    "- [ ] T1: what to do | agent:Builder | files:src/a.ts",
    "- [ ] T2: what to do | agent:Inspector | depends:T1",
    `The agents are ${
      planAgents.filter((name) => name !== architect).join(", ")
    }. Nobody answers questions: where the goal is silent, decide as the user would.`,
    "",
    "The goal:",
    goal
  ].join("\n")

/** Characters of each result that the Inspector is told. */
const resultChars = 2_000

const inspectPrompt = (
  goal: string,
  results: ReadonlyArray<{ readonly node: PlanNode; readonly task: Task | undefined }>
): string =>
  [
    `A plan was carried out: ${goal}. Check whether its results are really there and right, and answer PASS or FAIL first.`,
    ...results.map(({ node, task }) =>
      `## ${node.id} (${node.agent}): ${node.text}\n${task === undefined ? "" : outcome(task).slice(0, resultChars)}`
    )
  ].join("\n\n")
