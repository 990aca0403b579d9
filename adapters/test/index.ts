/** What users of the library test with. Barrel of the package's `./testing` entry. */
export * as RecordingNotifier from "./RecordingNotifier.ts"
export * from "./Script.ts"
export { type Operation, SimulatedHost, type SimulatedHostOptions, type SimulatedTool } from "./SimulatedHost.ts"
export * as TestOrchestrator from "./TestOrchestrator.ts"
