/** The entry that OpenCode loads. Every export of it would be taken for a plugin, so there is one only. */
import { once } from "./once.ts"
import { server } from "./plugin.ts"

export default { id: "opencode-orchestrator", server: once(server) }
