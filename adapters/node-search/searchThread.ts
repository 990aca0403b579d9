/**
 * A thread that carries out one search. Its entry is the very file that this module is in, be it this one or the bundle
 * it became a part of: a plugin is one file, and this is how a thread can come out of it.
 */
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"
import { scan, type ScanRequest } from "./scan.ts"

const mark = "orchestrator/search"

const requestOf = (data: unknown): ScanRequest | undefined =>
  typeof data === "object" && data !== null && mark in data
    ? data[mark] as ScanRequest // what `start` has put there
    : undefined

/** Starts the search. The thread answers with one message, a ScanAnswer; the caller ends it. */
export const start = (request: ScanRequest): Worker =>
  new Worker(new URL(import.meta.url), {
    workerData: { [mark]: request },
    // Enough for the largest file and the automata of its patterns. Beyond that the search fails, not the host.
    resourceLimits: { maxOldGenerationSizeMb: 256 }
  })

if (!isMainThread) {
  const request = requestOf(workerData)
  if (request !== undefined) parentPort?.postMessage(scan(request))
}
