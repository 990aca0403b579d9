/**
 * A thread that searches. Its entry is the very file that this module is in, be it this one or the bundle it became a
 * part of: a plugin is one file, and this is how a thread comes out of it.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import { scan, type ScanRequest } from "./scan.ts"

const mark = "orchestrator/search"

/** Starts a thread. It answers every ScanRequest with one message, a ScanAnswer, in order; the caller ends it. */
export const start = (): Worker =>
  new Worker(new URL(import.meta.url), {
    workerData: mark,
    // Enough for the largest file and the automata of its patterns. Beyond that the search fails, not the host.
    resourceLimits: { maxOldGenerationSizeMb: 256 }
  })

if (!isMainThread && workerData === mark) {
  parentPort?.on("message", (request: ScanRequest) => parentPort?.postMessage(scan(request))) // sent by ThreadSearch alone
}
