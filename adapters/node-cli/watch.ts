/** `watch`: missions while they run, redrawn in a terminal, a line for each change elsewhere. */
import { Clock, Console, DateTime, Effect, Queue, Terminal } from "effect"
import { Command, Flag, TerminalCapabilities } from "effect/cli"
import { addSnapshot, remaining, type Snapshot } from "../../src/domain/Progress.ts"
import { stateLine } from "../../src/domain/Report.ts"
import { formatUsage } from "../../src/domain/Session.ts"
import { isSettled, outcome, type Task } from "../../src/domain/Task.ts"
import { printable } from "./lines.ts"
import { dirFlag, type Group, groupsOf, layerProject, openProject, type Project } from "./project.ts"
import { barOf, type Line, missionEntry, missionHead, paint, taskLines } from "./taskLines.ts"

/** How often the files are looked at, and ages are drawn anew. */
const interval = "1 second"

export const watch = Command.make(
  "watch",
  {
    exit: Flag.Boolean("exit").pipe(
      Flag.withDefault(false),
      Flag.withDescription("Ends when no mission and no task goes on any more")
    ),
    directory: dirFlag
  },
  Effect.fn("watch")(function*({ exit }) {
    const { canAnimate } = yield* TerminalCapabilities.TerminalCapabilities
    const project = yield* openProject
    yield* canAnimate ? drawn(project, exit) : told(project, exit)
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription("Shows missions while they run; ends with Ctrl-C"),
  Command.withExamples([
    { command: "opencode-orchestrator watch", description: "Live, in this project" },
    { command: "opencode-orchestrator watch --exit", description: "Until nothing goes on any more" }
  ])
)

/** Nobody who could bring it to an end works on what is unattended. */
const isOver = (groups: ReadonlyArray<Group>): boolean =>
  groups.every(({ isOpen, isUnattended }) => !isOpen || isUnattended)

// ---- in a terminal --------------------------------------------------------------------------------------------------

const screen = {
  enter: "\u001b[?1049h\u001b[?25l",
  leave: "\u001b[?25h\u001b[?1049l",
  home: "\u001b[H",
  clearLine: "\u001b[K",
  clearBelow: "\u001b[J"
}

/** On a screen of its own, so that what was there before comes back; the last view stays behind. */
const drawn = Effect.fnUntraced(
  function*(project: Project, exit: boolean) {
    const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
    const terminal = yield* Terminal.Terminal
    const resized = yield* terminal.size
    const tracks = new Map<string, ReadonlyArray<Snapshot>>()
    const show = (text: string) => Effect.ignore(terminal.display(text)) // a terminal that is gone ends the process anyway
    yield* Effect.acquireRelease(show(screen.enter), () => show(screen.leave))
    while (true) {
      const groups = yield* project.groups
      const now = yield* Clock.currentTimeMillis
      const columns = (yield* terminal.columns) || 80 // some terminals do not know their size
      const rows = (yield* terminal.rows) || 24
      const whole = viewOf(project, shownOf(groups), tracks, now, columns)
      // What goes on matters most where there is not room for all.
      const lines = whole.length < rows ? whole : viewOf(
        project,
        shownOf(groups).map(withoutEnded),
        tracks,
        now,
        columns
      )
      const fitting = lines.length < rows ? lines : [...lines.slice(0, rows - 2), more(lines.length - rows + 2)]
      const text = fitting.map((line) => `${paint(line, canColor, columns)}${screen.clearLine}\n`).join("")
      yield* show(`${screen.home}${text}${screen.clearBelow}`)
      if (exit && isOver(groups)) {
        return viewOf(project, shownOf(groups), tracks, now, Infinity).map((line) => paint(line, canColor))
      }
      yield* Queue.take(resized).pipe(
        Effect.timeoutOption(interval),
        Effect.catch(() => Effect.sleep(interval)) // its size does not change any more
      )
    }
  },
  Effect.scoped,
  Effect.flatMap((lines) => Effect.forEach(lines, (line) => Console.log(line), { discard: true }))
)

const more = (count: number): Line => ({ text: `… and ${count} more lines; a higher terminal shows them`, tone: "dim" })

/** What goes on; when nothing does, how the newest mission ended. */
const shownOf = (groups: ReadonlyArray<Group>): ReadonlyArray<Group> => {
  const open = groups.filter(({ isOpen }) => isOpen)
  return open.length > 0 ? open : groups.slice(-1)
}

const withoutEnded = (group: Group) => ({ ...group, shown: group.tasks.filter((task) => !isSettled(task)) })

const viewOf = (
  project: Project,
  groups: ReadonlyArray<Group & { readonly shown?: ReadonlyArray<Task> }>,
  tracks: Map<string, ReadonlyArray<Snapshot>>,
  now: number,
  columns: number
): ReadonlyArray<Line> => {
  if (groups.length === 0) return [{ text: `Nothing is recorded in ${project.root} yet.`, tone: "dim" }]
  return groups.flatMap((group): ReadonlyArray<Line> => {
    const done = group.tasks.filter(isSettled).length
    const running = group.tasks.filter((task) => !isSettled(task) && task.state !== "queued").length
    const next: Snapshot = { at: now, unit: "tasks", done, total: group.tasks.length, running }
    const start: Snapshot = { ...next, at: group.tasks[0]?.createdAt ?? now, done: 0, running: 0 }
    const track = addSnapshot(tracks.get(group.root) ?? [start], next, snapshotsKept)
    tracks.set(group.root, track)
    return [
      ...missionEntry(group, project.limits(group.mission), now, columns),
      barOf(group, now, group.isOpen ? remaining(track, now) : undefined),
      ...taskLines(group.shown ?? group.tasks, now, columns),
      { text: "", tone: "plain" }
    ]
  })
}

const snapshotsKept = 100

// ---- elsewhere ------------------------------------------------------------------------------------------------------

/** Begins with how things stand. */
const told = Effect.fnUntraced(function*(project: Project, exit: boolean) {
  const seen = new Map<string, string>()
  let last: unknown
  while (true) {
    const records = yield* project.read
    if (records !== last) {
      last = records
      const groups = groupsOf(records)
      const now = yield* Clock.currentTimeMillis
      for (const group of seen.size === 0 ? shownOf(groups) : groups) {
        const { mission } = group
        const state = mission === undefined ? "" : `${stateLine(mission)}${group.isUnattended ? " (unattended)" : ""}`
        yield* tell(seen, group.root, state, missionHead(group, now).text)
        for (const task of group.tasks) yield* tell(seen, task.id, stateOf(task), taskWords(task))
      }
      if (seen.size === 0 && groups.length === 0) yield* Console.log(`Nothing is recorded in ${project.root} yet.`)
      if (exit && isOver(groups)) return
      if (seen.size === 0) seen.set("", "") // what comes from now on is news
    }
    yield* Effect.sleep(interval)
  }
})

const stateOf = (task: Task): string => `${task.state} ${task.run} ${task.waiting}`

const taskWords = (task: Task): string =>
  [
    `${task.id} ${task.state.replaceAll("_", " ")}${task.run > 1 ? ` (run ${task.run})` : ""}${
      task.waiting ? ", waits for its own tasks" : ""
    }`,
    task.agent,
    task.description,
    ...(isSettled(task) ? [formatUsage(task.usage)] : []),
    ...(isSettled(task) && task.state !== "completed" ? [outcome(task)] : [])
  ].join(" · ")

const tell = Effect.fnUntraced(function*(seen: Map<string, string>, key: string, state: string, words: string) {
  if (seen.get(key) === state) return
  seen.set(key, state)
  const time = DateTime.formatIso(yield* DateTime.now).slice(11, 19)
  yield* Console.log(`${time} ${printable(words)}`)
})
