/** The promises of the design, as they can be checked when a simulated mission is over. */
import { Effect, Option, Schema } from "effect"
import type { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import type { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import type { Mission } from "../../src/domain/Mission.ts"
import { type Message, messageText, type Session, type SessionId, startsRun } from "../../src/domain/Session.ts"
import { isSettled, Task } from "../../src/domain/Task.ts"
import { type Scenario } from "./Scenario.ts"

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
}

const Mark = Schema.Struct({ orchestrator: Schema.Struct({ task: Schema.String }) })
const ArchiveLine = Schema.fromJsonString(Schema.Struct({ task: Task }))

/** What was broken, in words. */
export const checkPromises = Effect.fnUntraced(function*(
  { busy, disk, host, known, missions, overLimit, roots, scenario }: World
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
  for (const path of yield* disk.list("/project/.opencode/archive")) {
    for (const line of ((yield* disk.read(path)) ?? "").split("\n")) {
      const archived = Schema.decodeOption(ArchiveLine)(line)
      if (Option.isSome(archived)) tasks.set(archived.value.task.id, archived.value.task)
    }
  }
  for (const task of known) tasks.set(task.id, task)

  // Nothing is lost: every task that a parent or a session knows of is known, and has ended.
  const named = new Set<string>()
  for (const session of sessions) {
    if (Schema.is(Mark)(session.metadata)) named.add(session.metadata.orchestrator.task)
    for (const output of outputs(messages.get(session.id) ?? [])) {
      const started = /^(task_\w+) (started|waits in line)/.exec(output)
      if (started?.[1] !== undefined) named.add(started[1])
    }
  }
  for (const id of named) if (!tasks.has(id)) broken.push(`${id} is lost`)
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
    if (told > 1) broken.push(`${task.id} (${task.description}) was told ${told} times`)
    if (told === 0 && !isGone && !wasCutOff) {
      broken.push(`${task.id} (${task.description}, ${task.state}) was never told`)
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
      const prompts = said.filter(startsRun)
      if (prompts.length > 2 || task.run > 2) {
        broken.push(`${task.id} (${task.description}) was run ${prompts.length} times`)
      }
      said.forEach((message, place) => {
        const before = said[place - 1]
        if (place > 0 && startsRun(message) && before !== undefined && isFinished(before)) {
          broken.push(`${task.id} (${task.description}) was run again although it had finished`)
        }
      })
    }
  }
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
    } else if (isUndisturbed && mission.state !== "complete") broken.push(`the mission is ${mission.state}`)
  }
  return broken
})

const outputs = (messages: ReadonlyArray<Message>): ReadonlyArray<string> =>
  messages.flatMap(({ parts }) => parts.flatMap((part) => part.type === "tool" ? [part.output ?? ""] : []))

/** How often a session was told of a task's end: by notices, and by the answers of calls. */
const tellings = (messages: ReadonlyArray<Message>, task: Task): number => {
  const words = new RegExp(`^(## )?${task.id} (completed|failed|was cancelled|ran out of time) after`)
  const texts = messages.flatMap((message) =>
    message.role === "user" ? message.parts.flatMap((part) => part.type === "text" ? [part.text] : []) : []
  )
  return [...texts, ...outputs(messages)].flatMap((text) => text.split("\n")).filter((line) => words.test(line)).length
}

const isFinished = (message: Message): boolean =>
  message.role === "assistant" && message.completed && message.error === undefined && message.finish === "stop"
