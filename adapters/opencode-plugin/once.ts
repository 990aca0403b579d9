/** One load of the plugin works in a project, however often the host's config names it. */
import type { Hooks, Plugin, PluginInput } from "@opencode-ai/plugin"

const key = Symbol.for("opencode-orchestrator/loaded")

/** Shared by all copies of this package in the process: the user's config may name another one than the command line adds. */
const shared = globalThis as { [key]?: WeakSet<object> } // nobody else uses the key

/** Of several loads in one project only the first works. The host gives them all the same client, and another one after a reload. */
export const once = (server: Plugin): Plugin => async (input, options) => {
  const loaded = shared[key] ??= new WeakSet()
  const project: PluginInput["client"] | PluginInput = input.client ?? input // a host that gives none is served without a word
  if (loaded.has(project)) return {}
  loaded.add(project)
  return server(input, options)
}

/** Loads only after all others, whatever the order of the config: the host calls the hooks for the config when it has all plugins. */
export const afterOthers = (server: Plugin): Plugin => async (input, options) => {
  const hooks: Hooks = {
    config: async (config) => {
      const made = await server(input, options)
      Object.assign(hooks, made) // the host looks each hook up when it calls it
      await made.config?.(config)
    }
  }
  return hooks
}
