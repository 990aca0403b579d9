import { assert, describe, it } from "@effect/vitest"
import type { Hooks, Plugin, PluginInput } from "@opencode-ai/plugin"
import { afterOthers, once } from "../../adapters/opencode-plugin/once.ts"

/** Loads plugins into a project as the host does: one after the other, with the same input; then their hooks for the config. */
const load = async (...plugins: ReadonlyArray<readonly [plugin: Plugin, options: object]>) => {
  const input = { client: {} } as PluginInput // what the loads are told apart by
  const all: Array<Hooks> = []
  for (const [plugin, options] of plugins) all.push(await plugin(input, { ...options }))
  for (const hooks of all) await hooks.config?.({})
  return all.filter((hooks) => hooks.event !== undefined).length
}

/** A plugin that notes with what options it works, and whether its hook for the config was called. */
const noting = () => {
  const notes: Array<unknown> = []
  const server: Plugin = async (_, options) => {
    notes.push(options)
    return {
      config: async () => void notes.push("config"),
      event: async () => undefined
    }
  }
  return { notes, server }
}

describe("a plugin that is loaded more than once in a project", () => {
  it("works once, as the first that the host has loaded", async () => {
    const { notes, server } = noting()
    const copy = once(server)
    assert.strictEqual(await load([once(server), { is: "first" }], [copy, { is: "second" }]), 1)
    assert.deepStrictEqual(notes, [{ is: "first" }, "config"])
    assert.strictEqual(await load([copy, { is: "reloaded" }]), 1)
    assert.deepStrictEqual(notes.slice(2), [{ is: "reloaded" }, "config"])
  })

  it("works as the user has configured it, before or behind that of the command line", async () => {
    const { notes, server } = noting()
    const fallback = [afterOthers(once(server)), { is: "fallback" }] as const
    const configured = [once(server), { is: "configured" }] as const
    assert.strictEqual(await load(configured, fallback), 1)
    assert.strictEqual(await load(fallback, configured), 1)
    assert.deepStrictEqual(notes, [{ is: "configured" }, "config", { is: "configured" }, "config"])
    assert.strictEqual(await load(fallback), 1)
    assert.deepStrictEqual(notes.slice(4), [{ is: "fallback" }, "config"])
  })
})
