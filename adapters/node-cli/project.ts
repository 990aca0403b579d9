/** The project that a command looks at: where it is, what is recorded there, and what may be spent. It takes no part in it. */
import { Duration, Effect, FileSystem, Layer, Option, Path } from "effect"
import { Flag } from "effect/cli"
import type { Amounts } from "../../src/domain/Budget.ts"
import type { Mission } from "../../src/domain/Mission.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { isSettled, type Task } from "../../src/domain/Task.ts"
import { Instance } from "../../src/host/Instance.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import { makeReader, type Records } from "../../src/tasks/Records.ts"
import * as NodeInstance from "../node-process/NodeInstance.ts"
import { loadConfig } from "../opencode-plugin/config.ts"
import { CommandFailed, exitCodes } from "./exit.ts"
import { readDirectory } from "./options.ts"

/** Ends the command; `reason` is one sentence for the person who ran it. */
export const failed = (reason: string) => new CommandFailed({ exit: exitCodes.failed, reason })

export const dirFlag = Flag.String("dir").pipe(
  Flag.withMetavar("path"),
  Flag.withDescription("The project, or a folder in it (default: this folder)"),
  Flag.withDefault(".")
)

/** The nearest folder, from the one given upwards, in which the orchestrator has recorded something; else that one. */
const findRoot = Effect.fnUntraced(function*(text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const start = yield* readDirectory(text)
  for (let folder = start;; folder = path.dirname(folder)) {
    if (yield* Effect.orElseSucceed(fs.exists(path.join(folder, ".opencode", "orchestrator")), () => false)) {
      return folder
    }
    if (folder === path.dirname(folder)) return start
  }
})

/** The lease is never taken: it only tells which other instances live. */
export const layerProject = (directory: string) =>
  Layer.unwrap(
    Effect.map(findRoot(directory), (root) => Lease.layer.pipe(Layer.provideMerge(NodeInstance.layer(root))))
  )

/** A mission with its tasks; one that is not recorded may have tasks all the same. */
export interface Group {
  readonly root: SessionId
  readonly mission: Mission | undefined
  readonly tasks: ReadonlyArray<Task>
  /** Whether anything of it is still to end. */
  readonly isOpen: boolean
  /** Nobody works on what is open. */
  readonly isUnattended: boolean
}

/** All missions, the newest last. */
export const groupsOf = ({ missions, tasks, unattended }: Records): ReadonlyArray<Group> => {
  const byMission = Map.groupBy(tasks, ({ mission }) => mission)
  const roots = new Set([...missions.map(({ root }) => root), ...byMission.keys()])
  const startOf = ({ mission, tasks }: Group) => mission?.startedAt ?? tasks[0]?.createdAt ?? 0
  return [...roots].map((root): Group => {
    const mission = missions.find((mission) => mission.root === root)
    const own = byMission.get(root) ?? []
    return {
      root,
      mission,
      tasks: own,
      isOpen: mission?.state === "active" || own.some((task) => !isSettled(task)),
      isUnattended: unattended.has(root)
    }
  }).toSorted((a, b) => startOf(a) - startOf(b))
}

/** The missions of a project, read again with each `read`; and what a mission of it may use. */
export const openProject = Effect.gen(function*() {
  const { root } = yield* Instance
  const { read } = yield* makeReader
  const { values } = yield* loadConfig(root, {})
  const configured: Amounts = { ...values.budget, time: Duration.toMillis(values.budget.time) }
  return {
    root,
    read,
    groups: Effect.map(read, groupsOf),
    /** As far as the project's own settings say: options in the host's config are not known here. */
    limits: (mission: Mission | undefined): Amounts => ({ ...configured, ...mission?.limits })
  }
})
export type Project = Effect.Success<typeof openProject>

/** The mission that is named; without a name the newest one. */
export const findGroup = Effect.fnUntraced(function*(project: Project, id: Option.Option<string>) {
  const all = yield* project.groups
  const found = Option.isNone(id) ? all.at(-1) : all.find(({ root }) => root === id.value)
  if (found !== undefined) return found
  return yield* failed(
    Option.isNone(id)
      ? `Nothing is recorded in ${project.root}: no mission has run there.`
      : `There is no mission "${id.value}" in ${project.root}; "opencode-orchestrator missions" shows them.`
  )
})
