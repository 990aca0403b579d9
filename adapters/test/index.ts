/** What users of the library test with. Barrel of the package's `./testing` entry. */
export { type EventFaults, type Faults, noFaults, type Operation, type OperationFaults } from "./Faults.ts"
export * as MemoryFileSystem from "./MemoryFileSystem.ts"
export * as RecordingNotifier from "./RecordingNotifier.ts"
export * from "./Script.ts"
export { SimulatedHost, type SimulatedHostOptions } from "./SimulatedHost.ts"
export * as SimulatedInstance from "./SimulatedInstance.ts"
export type { SilentDeath, SimulatedScript, SimulatedTool } from "./SimulatedTurns.ts"
export * as TestOrchestrator from "./TestOrchestrator.ts"
