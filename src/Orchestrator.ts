/**
 * The whole core as one Layer, open on its ports: SessionClient, Notifier, Instance, Network, PageReader, and effect's
 * FileSystem, Path and HttpClient.
 */
import { Context, Effect, type FileSystem, Layer, type Path, Stream } from "effect"
import type { HttpClient } from "effect/http"
import { type Config, Config as ConfigService, type ConfigValues } from "./Config.ts"
import { DocumentCache } from "./documents/DocumentCache.ts"
import { Search } from "./documents/Search.ts"
import { Web } from "./documents/Web.ts"
import type { Instance } from "./host/Instance.ts"
import type { Network } from "./host/Network.ts"
import type { Notifier } from "./host/Notifier.ts"
import type { PageReader } from "./host/PageReader.ts"
import { SessionClient } from "./host/SessionClient.ts"
import { Ids } from "./Ids.ts"
import { MissionLoop } from "./mission/MissionLoop.ts"
import { Completion } from "./tasks/Completion.ts"
import { Concurrency } from "./tasks/Concurrency.ts"
import { Lease } from "./tasks/Lease.ts"
import { Notices } from "./tasks/Notices.ts"
import { Orders } from "./tasks/Orders.ts"
import { Recovery } from "./tasks/Recovery.ts"
import { StallWatch } from "./tasks/StallWatch.ts"
import { TaskArchive } from "./tasks/TaskArchive.ts"
import { TaskCleaner } from "./tasks/TaskCleaner.ts"
import { TaskJournal } from "./tasks/TaskJournal.ts"
import { TaskLife } from "./tasks/TaskLife.ts"
import { TaskManager } from "./tasks/TaskManager.ts"
import { TaskPoller } from "./tasks/TaskPoller.ts"
import { TaskStore } from "./tasks/TaskStore.ts"
import { makeTaskTools } from "./tools/taskTools.ts"
import type { Tool } from "./tools/Tool.ts"
import { makeWebTools } from "./tools/webTools.ts"

export class Orchestrator extends Context.Service<Orchestrator, {
  /** The tools for the host to offer, by the names that agents know. */
  readonly tools: ReadonlyArray<Tool>
}>()("orchestrator/Orchestrator") {
  static readonly layer = (
    config: ConfigValues
  ): Layer.Layer<
    Orchestrator | TaskManager | MissionLoop | Recovery | TaskStore | Concurrency | Notices | Config,
    never,
    | SessionClient
    | Notifier
    | Instance
    | Network
    | PageReader
    | HttpClient.HttpClient
    | FileSystem.FileSystem
    | Path.Path
  > => {
    const isRecorded = config.journal !== "off"
    const records = isRecorded
      ? Layer.mergeAll(TaskJournal.layer, TaskArchive.layer).pipe(Layer.provideMerge(Lease.layer))
      : Layer.mergeAll(TaskJournal.layerMemory, TaskArchive.layerMemory, Lease.layer)
    const state = Layer.mergeAll(Concurrency.layer, Completion.layer, Ids.layer, TaskStore.layer).pipe(
      Layer.provideMerge(records)
    )
    const tasks = TaskManager.layer.pipe(
      Layer.provideMerge(TaskLife.layer),
      Layer.provideMerge(Layer.mergeAll(Notices.layer, Orders.layer, StallWatch.layer)),
      Layer.provideMerge(state)
    )
    return Layer.effect(Orchestrator, makeOrchestrator).pipe(
      Layer.provideMerge(isRecorded ? Recovery.layer : Recovery.layerMemory),
      Layer.provideMerge(Layer.mergeAll(MissionLoop.layer, TaskPoller.layer, TaskCleaner.layer)),
      Layer.provideMerge(tasks),
      Layer.provideMerge(Layer.mergeAll(DocumentCache.layer, Search.layer, Web.layer)),
      Layer.provideMerge(ConfigService.layer(config))
    )
  }
}

const makeOrchestrator = Effect.gen(function*() {
  const client = yield* SessionClient
  const manager = yield* TaskManager
  const missions = yield* MissionLoop
  const recovery = yield* Recovery
  const tools = [...yield* makeTaskTools, ...yield* makeWebTools]

  // Tasks first: a mission is reviewed only when its tasks know of the same event.
  yield* client.events.pipe(
    Stream.runForEach((event) =>
      Effect.andThen(manager.observe(event), missions.observe(event)).pipe(
        Effect.catchCause((cause) => Effect.logError(`the event ${event.type} could not be handled`, cause))
      )
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  // What is recovered may end at once: its events must find somebody who listens.
  yield* Effect.forkScoped(recovery.atStart)
  return Orchestrator.of({ tools })
})
