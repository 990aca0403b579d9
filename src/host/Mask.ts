/** The port to what the host's process knows as secret. Without an adapter, secrets are known by their form alone. */
import { Context } from "effect"
import { makeMask } from "../domain/Secrets.ts"

/**
 * Masks secrets in what leaves the core for other eyes than the asking agent's: logs, toasts, notices, archive, reports.
 * The journal and the answers of tools keep results whole.
 */
export const Mask = Context.Reference<(text: string) => string>("orchestrator/host/Mask", {
  defaultValue: () => makeMask([])
})
