/** What users of the library import. */
export { commander, commands, team, type UserCommand } from "./agents/team.ts"
export { BackgroundCommands } from "./commands/BackgroundCommands.ts"
export { Config, ConfigSchema, type ConfigValues, defaults, readConfig } from "./Config.ts"
export { DocumentCache } from "./documents/DocumentCache.ts"
export { Web } from "./documents/Web.ts"
export { WebSearch } from "./documents/WebSearch.ts"
export * from "./domain/Agent.ts"
export * as Command from "./domain/Command.ts"
export * as Mission from "./domain/Mission.ts"
export * as Plan from "./domain/Plan.ts"
export { makeMask, secretsOf } from "./domain/Secrets.ts"
export * from "./domain/Session.ts"
export * as Task from "./domain/Task.ts"
export * as Todo from "./domain/Todo.ts"
export { Instance, Owner } from "./host/Instance.ts"
export { Mask } from "./host/Mask.ts"
export { Network, NetworkFailed } from "./host/Network.ts"
export { Notifier, presets, type Toast } from "./host/Notifier.ts"
export { BadSelector, PageReader } from "./host/PageReader.ts"
export { CannotStart, type GroupOptions, type ProcessGroup, ProcessGroups } from "./host/ProcessGroups.ts"
export * from "./host/SessionClient.ts"
export { MissionLoop } from "./mission/MissionLoop.ts"
export { Missions } from "./mission/Missions.ts"
export { Progress } from "./mission/Progress.ts"
export { SharedContext } from "./mission/SharedContext.ts"
export { SmartContext } from "./mission/SmartContext.ts"
export { NotARoot, type Standing, TaskDecomposer, TooManyPlans } from "./mission/TaskDecomposer.ts"
export { TodoEnforcer } from "./mission/TodoEnforcer.ts"
export { Orchestrator } from "./Orchestrator.ts"
export * from "./search/Query.ts"
export { BadPattern, Search, SearchFailed } from "./search/Search.ts"
export { Concurrency, type Slot, type SlotRequest } from "./tasks/Concurrency.ts"
export {
  CannotResume,
  EmptyPrompt,
  type Order,
  type OrderRefused,
  ParentEnded,
  TooDeep,
  UnknownAgent,
  UnknownModel
} from "./tasks/Orders.ts"
export { Plans } from "./tasks/Plans.ts"
export { Recovery } from "./tasks/Recovery.ts"
export { JournalFailed } from "./tasks/TaskJournal.ts"
export { TaskManager } from "./tasks/TaskManager.ts"
export { TaskNotFound, TaskStore, TooManyTasks } from "./tasks/TaskStore.ts"
export { type Caller, PermissionDenied, type PermissionRequest, type Tool, ToolRefusal } from "./tools/Tool.ts"
