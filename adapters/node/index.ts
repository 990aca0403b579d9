/** The entry of the package for programs on Node: every port of the core but the Notifier. */
import { Layer } from "effect"
import * as NodePorts from "../node-process/NodePorts.ts"
import * as OpencodeSessionClient from "../opencode-sdk/OpencodeSessionClient.ts"
import type { ServerOptions } from "../opencode-sdk/wire.ts"

/**
 * A server of OpenCode that runs, reached over HTTP, and this process with its file system. The server needs the agents that
 * tasks name; it has them where the plugin is live, or where its config names agents of these names. `directory` is the
 * root of the project: journal, archive and log are kept there, below `.opencode/`.
 */
export const layer = (options: ServerOptions) =>
  Layer.merge(OpencodeSessionClient.layer(options), NodePorts.layer(options.directory))
