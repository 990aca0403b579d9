/** What users of the library import. */
export { commander, commands, team, type UserCommand } from "./agents/team.ts"
export { Config, ConfigSchema, type ConfigValues, defaults, readConfig } from "./Config.ts"
export { DocumentCache } from "./documents/DocumentCache.ts"
export { Search } from "./documents/Search.ts"
export { Web } from "./documents/Web.ts"
export * from "./domain/Agent.ts"
export * as Mission from "./domain/Mission.ts"
export { makeMask, secretsOf } from "./domain/Secrets.ts"
export * from "./domain/Session.ts"
export * as Task from "./domain/Task.ts"
export { Instance, Owner } from "./host/Instance.ts"
export { Mask } from "./host/Mask.ts"
export { Network, NetworkFailed } from "./host/Network.ts"
export { Notifier, presets, type Toast } from "./host/Notifier.ts"
export { BadSelector, PageReader } from "./host/PageReader.ts"
export * from "./host/SessionClient.ts"
export { MissionLoop } from "./mission/MissionLoop.ts"
export { Orchestrator } from "./Orchestrator.ts"
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
export { Recovery } from "./tasks/Recovery.ts"
export { JournalFailed } from "./tasks/TaskJournal.ts"
export { TaskManager } from "./tasks/TaskManager.ts"
export { TaskNotFound, TaskStore, TooManyTasks } from "./tasks/TaskStore.ts"
export { type Caller, PermissionDenied, type PermissionRequest, type Tool, ToolRefusal } from "./tools/Tool.ts"
