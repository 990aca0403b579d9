/**
 * The whole core as one Layer, open on its ports: SessionClient, Notifier, Instance, ProcessGroups, Search, Network,
 * PageReader, and effect's FileSystem, Path and HttpClient.
 */
import { Clock, Context, Effect, type FileSystem, Layer, type Path, Stream } from "effect"
import type { HttpClient } from "effect/http"
import { BackgroundCommands } from "./commands/BackgroundCommands.ts"
import { CommandStore } from "./commands/CommandStore.ts"
import { type Config, Config as ConfigService, type ConfigValues } from "./Config.ts"
import { DocumentCache } from "./documents/DocumentCache.ts"
import { Web } from "./documents/Web.ts"
import { WebSearch } from "./documents/WebSearch.ts"
import type { Instance } from "./host/Instance.ts"
import type { Network } from "./host/Network.ts"
import type { Notifier } from "./host/Notifier.ts"
import type { PageReader } from "./host/PageReader.ts"
import type { ProcessGroups } from "./host/ProcessGroups.ts"
import { SessionClient } from "./host/SessionClient.ts"
import { Ids } from "./Ids.ts"
import { Budgets } from "./mission/Budgets.ts"
import { MissionLoop } from "./mission/MissionLoop.ts"
import { Missions } from "./mission/Missions.ts"
import { OpenWork } from "./mission/OpenWork.ts"
import { Progress } from "./mission/Progress.ts"
import { SharedContext } from "./mission/SharedContext.ts"
import { SmartContext } from "./mission/SmartContext.ts"
import { TaskDecomposer } from "./mission/TaskDecomposer.ts"
import { TodoEnforcer } from "./mission/TodoEnforcer.ts"
import { UserCommands } from "./mission/UserCommands.ts"
import { TurnRecovery } from "./recovery/TurnRecovery.ts"
import type { Search } from "./search/Search.ts"
import { Completion } from "./tasks/Completion.ts"
import { Concurrency } from "./tasks/Concurrency.ts"
import { Lease } from "./tasks/Lease.ts"
import { Notices } from "./tasks/Notices.ts"
import { Orders } from "./tasks/Orders.ts"
import { Plans } from "./tasks/Plans.ts"
import { Recovery } from "./tasks/Recovery.ts"
import { Requests } from "./tasks/Requests.ts"
import { Retries } from "./tasks/Retries.ts"
import { StallWatch } from "./tasks/StallWatch.ts"
import { TaskArchive } from "./tasks/TaskArchive.ts"
import { TaskCleaner } from "./tasks/TaskCleaner.ts"
import { TaskJournal } from "./tasks/TaskJournal.ts"
import { TaskLife } from "./tasks/TaskLife.ts"
import { TaskManager } from "./tasks/TaskManager.ts"
import { TaskPoller } from "./tasks/TaskPoller.ts"
import { TaskStore } from "./tasks/TaskStore.ts"
import { Telemetry } from "./Telemetry.ts"
import { makeCommandTools } from "./tools/commandTools.ts"
import { makePlanTools } from "./tools/planTools.ts"
import { makeSearchTools } from "./tools/searchTools.ts"
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
    | Orchestrator
    | TaskManager
    | MissionLoop
    | UserCommands
    | Missions
    | Budgets
    | Recovery
    | TaskStore
    | Concurrency
    | Notices
    | Config
    | Progress
    | SharedContext
    | SmartContext
    | TodoEnforcer
    | TaskDecomposer
    | Plans
    | BackgroundCommands
    | CommandStore,
    never,
    | SessionClient
    | Notifier
    | Instance
    | ProcessGroups
    | Search
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
    const state = Layer.mergeAll(
      CommandStore.layer,
      Concurrency.layer,
      Completion.layer,
      Ids.layer,
      Missions.layer,
      Plans.layer,
      TaskStore.layer
    ).pipe(Layer.provideMerge(records))
    const knowledge = Layer.mergeAll(SmartContext.layer, Progress.layer, OpenWork.layer).pipe(
      Layer.provideMerge(Layer.mergeAll(SharedContext.layer, TodoEnforcer.layer)),
      Layer.provideMerge(state)
    )
    const tasks = TaskManager.layer.pipe(
      Layer.provideMerge(TaskLife.layer),
      Layer.provideMerge(BackgroundCommands.layer),
      Layer.provideMerge(
        Layer.mergeAll(Notices.layer, Orders.layer, Retries.layer, StallWatch.layer, TurnRecovery.layer)
      ),
      Layer.provideMerge(knowledge)
    )
    return Layer.effect(Orchestrator, makeOrchestrator).pipe(
      Layer.provideMerge(isRecorded ? Requests.layer : Layer.empty), // others know what lives here by its records
      Layer.provideMerge(UserCommands.layer),
      Layer.provideMerge(isRecorded ? Recovery.layer : Recovery.layerMemory),
      Layer.provideMerge(
        Layer.mergeAll(MissionLoop.layer, TaskDecomposer.layer, TaskPoller.layer, TaskCleaner.layer)
      ),
      Layer.provideMerge(Budgets.layer),
      Layer.provideMerge(tasks),
      Layer.provideMerge(Layer.mergeAll(DocumentCache.layer, WebSearch.layer, Web.layer)),
      Layer.provideMerge(ConfigService.layer(config))
    )
  }
}

const makeOrchestrator = Effect.gen(function*() {
  const client = yield* SessionClient
  const manager = yield* TaskManager
  const missions = yield* MissionLoop
  const recovery = yield* Recovery
  const telemetry = yield* Telemetry
  const tools = [
    ...(yield* makeTaskTools),
    ...(yield* makePlanTools),
    ...(yield* makeCommandTools),
    ...(yield* makeSearchTools),
    ...(yield* makeWebTools)
  ]

  // Tasks first: a mission is reviewed only when its tasks know of the same event.
  yield* client.events.pipe(
    Stream.runForEach((event) =>
      Clock.currentTimeMillis.pipe(
        Effect.tap((now) => Effect.sync(() => telemetry.event(event, now))),
        Effect.andThen(manager.observe(event)),
        Effect.andThen(missions.observe(event)),
        Effect.catchCause((cause) => Effect.logError(`the event ${event.type} could not be handled`, cause))
      )
    ),
    Effect.forkScoped({ startImmediately: true })
  )
  // What is recovered may end at once: its events must find somebody who listens.
  yield* Effect.forkScoped(recovery.atStart)
  return Orchestrator.of({ tools })
})
