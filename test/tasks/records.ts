/** The part of an instance that keeps records: lease, journal and archive, without a host. */
import { Context, Effect, Exit, Layer, Path, Scope } from "effect"
import * as CrashGate from "../../adapters/test/CrashGate.ts"
import * as MemoryFileSystem from "../../adapters/test/MemoryFileSystem.ts"
import * as RecordingNotifier from "../../adapters/test/RecordingNotifier.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import * as SimulatedProcessGroups from "../../adapters/test/SimulatedProcessGroups.ts"
import { Config, readConfig } from "../../src/Config.ts"
import { begin, type Mission } from "../../src/domain/Mission.ts"
import { MessageId, noUsage, SessionId } from "../../src/domain/Session.ts"
import { type Task, TaskId } from "../../src/domain/Task.ts"
import type { Owner } from "../../src/host/Instance.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import { TaskArchive } from "../../src/tasks/TaskArchive.ts"
import { TaskJournal } from "../../src/tasks/TaskJournal.ts"

export const folder = "/project/.opencode/orchestrator"

/** All that outlives an instance. */
export const world = (config: Readonly<Record<string, unknown>> = {}) =>
  MemoryFileSystem.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(
      MemoryFileSystem.MemoryDisk.layer,
      SimulatedInstance.SimulatedProcesses.layer,
      SimulatedProcessGroups.SimulatedPrograms.layer,
      RecordingNotifier.layer,
      SimulatedHost.layer({ script: () => Effect.never }),
      Path.layer,
      Config.layer(readConfig(config, "test").values)
    ))
  )

/** Lease, journal and archive in a process of their own. */
export const start = Effect.fnUntraced(function*(of?: Owner) {
  const processes = yield* SimulatedInstance.SimulatedProcesses
  const owner = of ?? (yield* processes.start())
  const gate = yield* CrashGate.make
  const scope = yield* Scope.make()
  const ports = CrashGate.layer(gate).pipe(Layer.provide(SimulatedInstance.layer(owner)))
  const context = yield* Layer.mergeAll(TaskJournal.layer, TaskArchive.layer).pipe(
    Layer.provideMerge(Lease.layer),
    Layer.provide(ports),
    Layer.buildWithScope(scope)
  )
  return {
    owner,
    gate,
    lease: Context.get(context, Lease),
    journal: Context.get(context, TaskJournal),
    archive: Context.get(context, TaskArchive),
    kill: Effect.all([gate.crash, processes.end(owner), Effect.exit(Scope.close(scope, Exit.void))], { discard: true }),
    end: Effect.andThen(Scope.close(scope, Exit.void), processes.end(owner))
  }
})

export const root = SessionId.make("ses_root")

export const mission = (goal: string): Mission => begin(root, goal, 0)

/** A task that runs. */
export const running = (name: string): Task => ({
  id: TaskId.make(`task_${name}`),
  mission: root,
  parent: root,
  agent: "Builder",
  description: `write ${name}`,
  prompt: `Write the ${name}.`,
  background: true,
  depth: 1,
  run: 1,
  state: "running",
  session: SessionId.make(`ses_${name}`),
  promptId: MessageId.make(`msg_${name}`),
  waiting: false,
  createdAt: 1_000,
  startedAt: 2_000,
  activityAt: 2_000,
  usage: noUsage,
  told: false
})

/** The same, ended. */
export const completed = (name: string, result: string): Task => ({
  ...running(name),
  state: "completed",
  result,
  endedAt: 9_000,
  told: true
})
