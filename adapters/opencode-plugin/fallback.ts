/**
 * The entry that the command line adds to the user's config: it works only where that does not load the plugin itself, so
 * that the user's options stay in force. The host takes equal entries for one, and keeps the last: this is another file.
 */
import plugin from "./index.ts"
import { afterOthers } from "./once.ts"

export default { id: "opencode-orchestrator-fallback", server: afterOthers(plugin.server) }
