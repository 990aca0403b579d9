/** `tasks`, `missions` and `cancel`: what is recorded of a project, also while another process works in it. */
import { Clock, Console, Effect, FileSystem, Option, Schedule } from "effect"
import { Argument, Command, Flag, TerminalCapabilities } from "effect/cli"
import { endStates, endWords, formatDuration, isSettled, type Task, TaskState } from "../../src/domain/Task.ts"
import { request } from "../../src/tasks/Requests.ts"
import { dirFlag, failed, findGroup, type Group, groupsOf, layerProject, openProject, type Project } from "./project.ts"
import { type Line, missionEntry, missionHead, paint, taskLines } from "./taskLines.ts"

const print = Effect.fnUntraced(function*(lines: ReadonlyArray<Line>) {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  for (const line of lines) yield* Console.log(paint(line, canColor))
})

const printJson = (value: unknown) => Console.log(JSON.stringify(value, null, 2))

/** What could not be read is said beside the answer, which stays readable for programs. */
const warn = Effect.fnUntraced(function*(unreadable: ReadonlyArray<string>) {
  for (const problem of unreadable) yield* Console.error(`Not read: ${problem}`)
})

const nothing = ({ root }: Project) => Console.log(`Nothing is recorded in ${root}: no mission has run there.`)

const jsonFlag = Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Prints JSON, for programs"))

export const tasks = Command.make(
  "tasks",
  {
    mission: Flag.String("mission").pipe(
      Flag.withMetavar("id"),
      Flag.withDescription("The tasks of this mission (default: those of missions that go on, else of the newest one)"),
      Flag.optional
    ),
    all: Flag.Boolean("all").pipe(
      Flag.withDefault(false),
      Flag.withDescription("The tasks of all missions, archived ones included")
    ),
    state: Flag.Literals("state", TaskState.literals).pipe(
      Flag.withDescription("Only tasks in this state"),
      Flag.optional
    ),
    json: jsonFlag,
    directory: dirFlag
  },
  Effect.fn("tasks")(function*({ all, json, mission, state }) {
    const project = yield* openProject
    const records = yield* project.read
    yield* warn(records.unreadable)
    const groups = groupsOf(records)
    const open = groups.filter(({ isOpen }) => isOpen)
    const chosen = Option.isSome(mission)
      ? [yield* findGroup(project, mission)]
      : all
      ? groups
      : open.length > 0
      ? open
      : groups.slice(-1)
    const fits = (task: Task) => Option.isNone(state) || task.state === state.value
    if (json) return yield* printJson(chosen.flatMap(({ tasks }) => tasks.filter(fits)))
    if (chosen.length === 0) return yield* nothing(project)
    const now = yield* Clock.currentTimeMillis
    for (const group of chosen) {
      const shown = taskLines(group.tasks.filter(fits), now)
      yield* print([
        missionHead(group, now),
        ...(shown.length === 0 ? [{ text: "  no tasks", tone: "dim" } as const] : shown)
      ])
    }
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription("Shows the tasks of missions as a tree, with state, age, tokens and cost"),
  Command.withExamples([
    { command: "opencode-orchestrator tasks", description: "Of the missions that go on, else of the newest" },
    {
      command: "opencode-orchestrator tasks --all --state failed --json",
      description: "All that ever failed here, for a program"
    }
  ])
)

export const missions = Command.make(
  "missions",
  { json: jsonFlag, directory: dirFlag },
  Effect.fn("missions")(function*({ json }) {
    const project = yield* openProject
    const records = yield* project.read
    yield* warn(records.unreadable)
    const groups = groupsOf(records)
    if (json) {
      return yield* printJson(
        groups.flatMap(({ isUnattended, mission }) =>
          mission === undefined ? [] : [{ ...mission, limits: project.limits(mission), unattended: isUnattended }]
        )
      )
    }
    if (groups.length === 0) return yield* nothing(project)
    const now = yield* Clock.currentTimeMillis
    for (const group of groups) yield* print(missionEntry(group, project.limits(group.mission), now))
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription("Shows all missions: state, goal, what they have used of their limits, and why they ended"),
  Command.withExamples([
    { command: "opencode-orchestrator missions", description: "In this project" },
    { command: "opencode-orchestrator missions --dir ~/shop --json", description: "In another one, for a program" }
  ])
)

/** How long `cancel` watches the records for what comes of it. */
const cancelWait = "15 seconds"

export const cancel = Command.make(
  "cancel",
  {
    id: Argument.String("id").pipe(Argument.withDescription("A task (task_…), or a mission by its session (ses_…)")),
    directory: dirFlag
  },
  Effect.fn("cancel")(function*({ id }) {
    const fs = yield* FileSystem.FileSystem
    const project = yield* openProject
    const before = yield* find(yield* project.groups, id)
    if (before === undefined) {
      return yield* failed(
        `There is no task and no mission "${id}" in ${project.root}; "opencode-orchestrator tasks" shows the ids.`
      )
    }
    if (before.end !== undefined) return yield* Console.log(`Nothing to cancel: ${id} ${before.end}.`)
    if (before.group.isUnattended) {
      return yield* failed(
        `No OpenCode works on ${id} now, so nobody can cancel it. `
          + "It goes on when OpenCode is next started in the project; cancel it then."
      )
    }
    const file = yield* request(id).pipe(
      Effect.mapError(({ message }) => failed(`${id} cannot be cancelled. ${message}`))
    )
    const end = yield* project.groups.pipe(
      Effect.flatMap((groups) => find(groups, id)),
      Effect.map((found) => found === undefined ? "is gone from the records" : found.end),
      Effect.repeat({ schedule: Schedule.spaced("250 millis"), until: (end) => end !== undefined }),
      Effect.timeoutOption(cancelWait)
    )
    if (Option.isSome(end) && end.value !== undefined) return yield* Console.log(`${id} ${end.value}.`)
    yield* Effect.ignore(fs.remove(file)) // it may have been taken this moment
    return yield* failed(
      `${id} has not ended within ${cancelWait}. Its OpenCode may be stopped or of another release; `
        + "abort the session in OpenCode itself."
    )
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription("Cancels a task, or stops a mission with all its tasks, in the OpenCode that works on it"),
  Command.withExamples([
    { command: "opencode-orchestrator cancel task_1234", description: "One task; its mission goes on" },
    { command: "opencode-orchestrator cancel ses_1234", description: "A mission and all that works for it" }
  ])
)

/** What the id names, and how that has ended if it has. */
const find = Effect.fnUntraced(function*(groups: ReadonlyArray<Group>, id: string) {
  const now = yield* Clock.currentTimeMillis
  for (const group of groups) {
    const task = group.tasks.find((task) => task.id === id)
    if (task !== undefined) return { group, end: isSettled(task) ? endOf(task, now) : undefined }
    if (group.root !== id) continue
    const running = group.tasks.filter((task) => !isSettled(task)).length
    const state = group.mission?.state ?? "over"
    return {
      group,
      end: group.isOpen
        ? undefined
        : `is ${state.replaceAll("_", " ")}${running > 0 ? "" : ", none of its tasks runs"}`
    }
  }
  return undefined
})

const endOf = (task: Task, now: number): string => {
  const state = endStates.find((state) => state === task.state) ?? "completed"
  return `${endWords[state]} ${formatDuration(now - (task.endedAt ?? now))} ago`
}
