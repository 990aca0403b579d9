/** The promises of the design, as they can be checked when a simulated mission is over. */
import { Effect, Option, Schema } from "effect"
import type { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import type { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import type { Mission } from "../../src/domain/Mission.ts"
import { type Message, messageText, promptsOf, type Session, type SessionId } from "../../src/domain/Session.ts"
import { endWords, further, isSettled, Task } from "../../src/domain/Task.ts"
import { readJournal } from "../../src/tasks/TaskJournal.ts"
import { allJobs, isCalm, mostRetries, naturalEnd, type Scenario, titleOf } from "./Scenario.ts"

/** Counts the children whose model calls are open, for each mission, and remembers when there were too many. */
export const makeGauge = (limits: Scenario["limits"], trace: (line: string) => void) => {
  const rootOf = new Map<SessionId, SessionId>()
  const open = new Map<SessionId, { agent: string; calls: number; root: SessionId }>()
  const over: Array<string> = []
  let isStopped = false
  return {
    /** A host that lives on without its orchestrator knows no limits. */
    stop: Effect.sync(() => {
      isStopped = true
    }),
    begin: (session: Session) => {
      if (session.parent === undefined) return
      const root = rootOf.get(session.parent) ?? session.parent
      rootOf.set(session.id, root)
      const known = open.get(session.id) ?? { agent: session.agent ?? "", calls: 0, root }
      known.calls++
      open.set(session.id, known)
      if (isStopped) return
      const all = [...open.values()].filter((other) => other.root === root)
      const same = all.filter(({ agent }) => agent === known.agent)
      if (all.length > limits.total) over.push(`${all.length} children worked at once, and ${limits.total} may`)
      if (same.length > limits.agent) {
        over.push(`${same.length} ${known.agent}s worked at once, and ${limits.agent} may`)
      }
      if (all.length > limits.total || same.length > limits.agent) trace("too many children are at work")
    },
    end: (session: Session) => {
      const known = open.get(session.id)
      if (known !== undefined && --known.calls === 0) open.delete(session.id)
    },
    overLimit: (): ReadonlyArray<string> => [...new Set(over)]
  }
}

interface World {
  readonly scenario: Scenario
  /** The root sessions of all missions. */
  readonly roots: ReadonlyArray<SessionId>
  /** What all instances know of. */
  readonly known: ReadonlyArray<Task>
  readonly missions: ReadonlyArray<Mission>
  /** Sessions in which a turn still runs. */
  readonly busy: ReadonlyArray<SessionId>
  readonly host: SimulatedHost["Service"]
  readonly disk: MemoryDisk["Service"]
  readonly overLimit: ReadonlyArray<string>
  /** When the user aborted what the Commander was doing, ms. */
  readonly abortedAt: number | undefined
}

const Mark = Schema.Struct({ orchestrator: Schema.Struct({ task: Schema.String }) })
const ArchiveLine = Schema.fromJsonString(Schema.Struct({ task: Task }))

/** What was broken, in words. */
export const checkPromises = Effect.fnUntraced(function*(
  { abortedAt, busy, disk, host, known, missions, overLimit, roots, scenario }: World
) {
  const broken: Array<string> = [...overLimit]
  const sessions = yield* host.sessions
  const exists = (id: SessionId) => sessions.some((session) => session.id === id)
  const messages = new Map<SessionId, ReadonlyArray<Message>>()
  for (const { id } of sessions) {
    // As the real host shows them: by their ids.
    const stored = yield* host.direct.messages(id, 100_000)
    messages.set(id, stored.toSorted((a, b) => a.id < b.id ? -1 : 1))
  }

  const tasks = new Map<string, Task>()
  for (const task of [...(yield* archived(disk)), ...known]) tasks.set(task.id, task)

  // Nothing is lost: every task that a parent or a session knows of is known, and has ended.
  const expected = new Set(sessions.flatMap((session) => named(session, messages.get(session.id) ?? [])))
  for (const id of expected) if (!tasks.has(id)) broken.push(`${id} is lost`)
  for (const task of tasks.values()) {
    if (!isSettled(task)) {
      broken.push(`${task.id} (${task.description}) is still ${task.state}`)
      continue
    }
    // Told at most once; exactly once, unless the parent is gone.
    const told = tellings(messages.get(task.parent) ?? [], task)
    const parent = [...tasks.values()].findLast(({ session }) => session === task.parent)
    const isGone = !exists(task.parent) || (parent !== undefined && parent.state !== "completed")
    const wasCutOff = !task.background && task.state === "cancelled"
    // What is told is recorded first. An end that could not be recorded may be found again as another one.
    const other = told.find((words) => words !== endWords[task.state])
    if (other !== undefined && scenario.disk.length === 0) {
      broken.push(`${task.id} (${task.description}) ${other}, as was told, and is ${task.state}`)
    }
    if (told.length > 1) broken.push(`${task.id} (${task.description}) was told ${told.length} times`)
    if (told.length === 0 && !isGone && !wasCutOff) {
      broken.push(`${task.id} (${task.description}, ${task.state}) was never told`)
    }
    // A child that ended badly takes the tasks below it with it, and an abort by the user all of them.
    const endedAfter = task.state === "cancelled" ? 0 : (task.endedAt ?? 0) - stopTime
    if (parent !== undefined && isSettled(parent) && parent.state !== "completed") {
      if (endedAfter > (parent.endedAt ?? 0)) {
        broken.push(`${task.id} (${task.description}) went on although its parent ${parent.id} had ended`)
      }
    }
    const isAborted = abortedAt !== undefined && scenario.disk.length === 0 && task.mission === roots[0]
      && task.createdAt < abortedAt
    if (isAborted && endedAfter > abortedAt) {
      broken.push(`${task.id} (${task.description}) went on although the user had aborted the mission`)
    }
    // Where nothing goes wrong but what the models do, a task ends as its model makes it end. In no case has it to be
    // stopped at its time limit: stalls are found sooner, and only those below it may take longer. A parent that ended
    // badly takes those below with it.
    const job = allJobs(scenario.jobs).find((job) => task.description.endsWith(titleOf(job)))
    if (job !== undefined && job.below.length === 0) {
      const natural = naturalEnd(job)
      const wentWithParent = task.state === "cancelled" && parent !== undefined && parent.state !== "completed"
      if (isCalm(scenario) ? task.state !== natural && !wentWithParent : task.state === "timed_out") {
        broken.push(`${task.id} (${task.description}, ${job.nature}) is ${task.state}, not ${natural}`)
      }
    }
    // Done means done: the result is what the child said last.
    const said = task.session === undefined ? undefined : messages.get(task.session)
    if (task.state === "completed" && said !== undefined) {
      const last = said.findLast((message) => message.role === "assistant")
      if (last === undefined || messageText(last) !== task.result) {
        broken.push(`${task.id} (${task.description}) has another result than its child gave: ${task.result}`)
      }
    }
    // Everything ends: never more runs than are allowed, and none after the work was finished.
    if (said !== undefined) {
      const prompts = promptsOf("task", said)
      if (prompts.length > 2 || task.run > 2) {
        broken.push(`${task.id} (${task.description}) was run ${Math.max(prompts.length, task.run)} times`)
      }
      // Errors of turns are got over within the run, and that is counted on its own; a disk that forgets may forget that.
      const retries = promptsOf("retry", said).length
      if (retries > mostRetries && scenario.disk.length === 0) {
        broken.push(`${task.id} (${task.description}) was told ${retries} times to go on after an error`)
      }
      said.forEach((message, place) => {
        const before = said[place - 1]
        if (place > 0 && prompts.includes(message) && before !== undefined && isFinished(before)) {
          broken.push(`${task.id} (${task.description}) was run again although it had finished`)
        }
      })
    }
  }
  if (scenario.plan !== undefined) broken.push(...(yield* checkPlans([...tasks.values()], scenario.plan, disk)))
  const owners = new Map<string, number>()
  for (const session of sessions) {
    if (!Schema.is(Mark)(session.metadata)) continue
    const { task } = session.metadata.orchestrator
    owners.set(task, (owners.get(task) ?? 0) + 1)
  }
  for (const [task, count] of owners) if (count > 1) broken.push(`${task} has ${count} sessions`)

  if (busy.length > 0) broken.push(`still at work: ${busy.join(", ")}`)

  const isUndisturbed = scenario.user.length === 0 && scenario.disk.length === 0
  for (const root of roots) {
    const mission = missions.find((mission) => mission.root === root)
    if (mission === undefined) {
      if (exists(root)) broken.push("the mission is lost")
    } else if (isUndisturbed && mission.state !== "complete" && mission.state !== "out_of_budget") {
      broken.push(`the mission is ${mission.state}`)
    } else if (mission.state === "out_of_budget" && Object.keys(scenario.budget).length === 0) {
      broken.push("the mission is out of a budget that it has not reached")
    }
    if (mission !== undefined) broken.push(...overBudget(mission, scenario))
  }
  return broken
})

/** A mission ends with a reason, and used no more than it might. */
const overBudget = (mission: Mission, { budget, crashes }: Scenario): ReadonlyArray<string> => [
  ...(mission.state !== "active" && mission.why === undefined ? ["the mission has ended and does not say why"] : []),
  // What was launched just before a crash may be known to the host alone.
  ...(mission.spent.tasks > (budget.tasks ?? Infinity) + crashes.length
    ? [`the mission launched ${mission.spent.tasks} tasks, and ${budget.tasks} may be`]
    : [])
]
/** A task of a plan begins when those it depends on are completed, never beside one with its file; and no plan is left. */
const checkPlans = Effect.fnUntraced(function*(
  tasks: ReadonlyArray<Task>,
  plan: NonNullable<Scenario["plan"]>,
  disk: MemoryDisk["Service"]
) {
  const broken: Array<string> = []
  const nodeOf = (task: Task) => plan[Number(task.plan?.node.slice(1)) - 1]
  for (const task of tasks.filter(({ depth, plan }) => depth === 1 && plan !== undefined)) {
    const others = tasks.filter((other) => other !== task && other.plan?.id === task.plan?.id)
    for (const earlier of nodeOf(task)?.depends ?? []) {
      const before = others.find((other) => other.plan?.node === `J${earlier + 1}`)
      if (before?.state !== "completed" || (before.endedAt ?? Infinity) > task.createdAt) {
        broken.push(`${task.id} (${task.description}) was launched before J${earlier + 1} was completed`)
      }
    }
    for (const other of others) {
      const [a, b] = [nodeOf(task)?.file, nodeOf(other)?.file]
      const isSame = a !== undefined && b !== undefined && (a.startsWith(b) || b.startsWith(a))
      if (isSame && task.createdAt >= other.createdAt && task.createdAt < (other.endedAt ?? Infinity)) {
        broken.push(`${task.id} and ${other.id} worked on ${a} at once`)
      }
    }
  }
  for (const path of yield* disk.list("/project/.opencode/orchestrator")) {
    if (!path.endsWith(".jsonl")) continue
    for (const { id, state } of (yield* readJournal(path)).plans) broken.push(`${id} is left, ${state}`)
  }
  return broken
})

/** A child may take this long to stop, with what is below it. In ms. */
const stopTime = 30_000

/**
 * What was broken, in words: whatever a session knows of a task is on disk. To be asked when an instance has just died:
 * later it shows no more, where the next one can find it out from the host.
 */
export const checkRecords = Effect.fnUntraced(function*(
  { disk, host, scenario }: Pick<World, "disk" | "host" | "scenario">
) {
  const broken: Array<string> = []
  const recorded = new Map<string, Task>()
  const keep = (task: Task) => {
    const known = recorded.get(task.id)
    recorded.set(task.id, known === undefined ? task : further(known, task))
  }
  for (const task of yield* archived(disk)) keep(task)
  for (const path of yield* disk.list("/project/.opencode/orchestrator")) {
    if (path.endsWith(".jsonl")) { for (const task of (yield* readJournal(path)).tasks) keep(task) }
  }
  const sessions = yield* host.sessions
  for (const task of recorded.values()) {
    const parent = [...recorded.values()].findLast(({ session }) => session === task.parent)
    const isGone = parent !== undefined && isSettled(parent) && parent.state !== "completed"
    const isOwed = task.told && !isGone && (task.background || task.state !== "cancelled")
    if (!isOwed || !sessions.some(({ id }) => id === task.parent)) continue
    const told = tellings(yield* host.direct.messages(task.parent, 100_000), task)
    if (told.length === 0) broken.push(`${task.id} (${task.description}) is recorded as told, and was not`)
  }
  for (const session of sessions) {
    const messages = yield* host.direct.messages(session.id, 100_000)
    for (const id of named(session, messages)) {
      if (!recorded.has(id)) broken.push(`${id} was launched, and is not recorded`)
    }
    for (const [id, words] of allTellings(messages)) {
      const task = recorded.get(id)
      // An end that could not be recorded may be found again as another one.
      const isSo = task !== undefined && isSettled(task)
        && (endWords[task.state] === words || scenario.disk.length > 0)
      if (!isSo) broken.push(`${id} ${words}, as was told, and that is not recorded`)
    }
  }
  return broken
})

/** The tasks that a session knows of: its own, and those that it was told have begun. */
const named = ({ metadata }: Session, messages: ReadonlyArray<Message>): ReadonlyArray<string> => [
  ...(Schema.is(Mark)(metadata) ? [metadata.orchestrator.task] : []),
  ...outputs(messages).flatMap((output) => /^(task_\w+) (?:started|waits in line)/.exec(output)?.[1] ?? []),
  ...outputs(messages).flatMap((output) => [...output.matchAll(/^- J\d+ (task_\w+) /gm)].map(([, id = ""]) => id))
]

const archived = Effect.fnUntraced(function*(disk: MemoryDisk["Service"]) {
  const tasks: Array<Task> = []
  for (const path of yield* disk.list("/project/.opencode/archive")) {
    for (const line of ((yield* disk.read(path)) ?? "").split("\n")) {
      const archived = Schema.decodeOption(ArchiveLine)(line)
      if (Option.isSome(archived)) tasks.push(archived.value.task)
    }
  }
  return tasks
})

const outputs = (messages: ReadonlyArray<Message>): ReadonlyArray<string> =>
  messages.flatMap(({ parts }) => parts.flatMap((part) => part.type === "tool" ? [part.output ?? ""] : []))

/** How a session was told that tasks ended, with the words of each time: by notices, and by the answers of calls. */
const allTellings = (messages: ReadonlyArray<Message>): ReadonlyArray<readonly [id: string, words: string]> => {
  const headline = new RegExp(`^(?:## )?(task_\\w+) (${Object.values(endWords).join("|")}) after`)
  const texts = messages.flatMap((message) =>
    message.role === "user" ? message.parts.flatMap((part) => part.type === "text" ? [part.text] : []) : []
  )
  return [...texts, ...outputs(messages)].flatMap((text) => text.split("\n")).flatMap((line) => {
    const [, id, words] = headline.exec(line) ?? []
    return id === undefined || words === undefined ? [] : [[id, words] as const]
  })
}

const tellings = (messages: ReadonlyArray<Message>, task: Task): ReadonlyArray<string> =>
  allTellings(messages).flatMap(([id, words]) => id === task.id ? [words] : [])

const isFinished = (message: Message): boolean =>
  message.role === "assistant" && message.completed && message.error === undefined && message.finish === "stop"
