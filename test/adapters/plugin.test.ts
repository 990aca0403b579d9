import { assert, describe, it } from "@effect/vitest"
import type { PluginInput, ToolContext } from "@opencode-ai/plugin"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { server } from "../../adapters/opencode-plugin/plugin.ts"
import { merge } from "../../adapters/opencode-plugin/Toasts.ts"

/** A project whose host does not answer anything. */
const withPlugin = async (use: (hooks: Awaited<ReturnType<typeof server>>) => Promise<void>) => {
  const directory = mkdtempSync(join(tmpdir(), "orchestrator-plugin-"))
  const input = { client: {}, directory, worktree: directory, serverUrl: new URL("http://127.0.0.1:1/") }
  const hooks = await server(input as unknown as PluginInput, {}) // as little of the host's input as a broken host may give
  try {
    await use(hooks)
  } finally {
    await hooks.dispose?.()
    rmSync(directory, { recursive: true })
  }
}

const context = { sessionID: "ses_1", agent: "Commander", abort: new AbortController().signal } as ToolContext // what the tools read of it

describe("the plugin's hooks, in a host that answers nothing", () => {
  it("take events of any shape", () =>
    withPlugin(async (hooks) => {
      const shapes: ReadonlyArray<unknown> = [
        { type: "session.idle", properties: null },
        { type: "session.error", properties: { sessionID: 7 } },
        { type: "session.created", properties: {} },
        { type: "made.up", properties: { a: 1 } },
        { type: "session.deleted", properties: { info: { id: "ses_1" } } },
        {}
      ]
      for (const event of shapes) await hooks.event?.({ event } as never) // hostile on purpose
    }))

  it("take a message of the user", () =>
    withPlugin(async (hooks) => {
      const message = { agent: "Commander" }
      const parts = [{ type: "text", text: "Do it" }, { type: "file" }]
      await hooks["chat.message"]?.({ sessionID: "ses_1" }, { message, parts } as never) // as little as a host may give
    }))

  it("register the agents beside what the user set, whatever it looks like", () =>
    withPlugin(async (hooks) => {
      const config: Record<string, unknown> = {
        permission: { bash: "ask", edit: 7, read: { "secret/*": "deny", "*": "maybe" } },
        agent: { Builder: { model: "a/b", permission: { bash: "deny" } }, mine: { mode: "primary" } },
        command: { task: { template: "mine" } },
        default_agent: "mine"
      }
      await hooks.config?.(config as never) // the host's types do not know every form of it
      const { agent, command, default_agent, permission } = config as unknown as {
        agent: Record<string, { model?: string; permission: Record<string, unknown> }>
        command: Record<string, { template: string }>
        default_agent: string
        permission: Record<string, unknown>
      } // what register made of it
      assert.strictEqual(default_agent, "mine")
      assert.strictEqual(command["task"]?.template, "mine")
      assert.strictEqual(agent["Builder"]?.model, "a/b")
      assert.strictEqual(agent["Builder"]?.permission["bash"], "deny")
      assert.strictEqual(agent["Inspector"]?.permission["bash"], "ask")
      assert.strictEqual(Object.keys(agent["Inspector"]?.permission ?? {})[0], "*")
      assert.strictEqual(permission["delegate_task"], "deny")
      assert.strictEqual(permission["bash"], "ask")
      // What the host has too stays the user's: ours stands in its place.
      assert.isUndefined(permission["webfetch"])
      assert.isUndefined(permission["websearch"])
      assert.strictEqual(permission["cache_docs"], "deny")
    }))

  it("keep the user's settings in force where they are patterns and wild cards", () =>
    withPlugin(async (hooks) => {
      const actions = async (config: Record<string, unknown>, agent: string, permission: string) => {
        await hooks.config?.(config as never) // the host's types do not know every form of it
        const made = (config as unknown as { agent: Record<string, { permission: Record<string, unknown> }> }).agent // what register made of it
        return made[agent]?.permission[permission]
      }
      const some = { permission: { bash: { "rm *": "deny" } } }
      assert.deepStrictEqual(await actions(some, "Builder", "bash"), { "*": "allow", "rm *": "deny" })
      const denied = {
        permission: { bash: "deny" },
        agent: { Builder: { permission: { bash: { "npm test": "allow" } } } }
      }
      assert.deepStrictEqual(await actions(denied, "Builder", "bash"), { "*": "deny", "npm test": "allow" })
      assert.strictEqual(await actions({ permission: { "web*": "deny" } }, "Researcher", "webfetch"), "deny")
      assert.strictEqual(await actions({ agent: { Builder: { permission: "ask" } } }, "Builder", "edit"), "ask")
      assert.strictEqual(
        await actions({ agent: { Builder: { permission: { "*": "deny" } } } }, "Builder", "bash"),
        "deny"
      )
    }))

  it("refuse a tool call in a sentence that says what is wrong", () =>
    withPlugin(async (hooks) => {
      const call = (tool: string, args: unknown) =>
        hooks.tool?.[tool]?.execute(args as never, context).then(() => "done", (error: Error) => error.message) // any model may send anything
      assert.match(String(await call("list_tasks", {})), /^OpenCode did not answer read a session: /)
      assert.match(String(await call("delegate_task", { agent: 5 })), /^delegate_task was called with arguments/)
    }))

  it("toasts with the same title become one", () => {
    const toast = (title: string, message: string) => ({ variant: "info" as const, title, message })
    const many = Array.from({ length: 7 }, (_, n) => toast("Builder started", `part ${n}`))
    assert.deepStrictEqual(merge([...many, toast("Mission complete", "Done.")]), [
      toast("Builder started (7)", "part 2\npart 3\npart 4\npart 5\npart 6\nand 2 more"),
      toast("Mission complete", "Done.")
    ])
  })
})
