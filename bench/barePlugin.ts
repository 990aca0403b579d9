/**
 * The least that a plugin can do for a delegated task: make a session, prompt it, take its last text from the events.
 * Nothing is recorded, limited or watched, and whatever goes wrong is not seen. What `fan-out --way bare` measures.
 */
import { type Plugin, tool } from "@opencode-ai/plugin"

export const Bare: Plugin = async ({ client }) => {
  const texts = new Map<string, string>()
  const waiting = new Map<string, (text: string) => void>()
  return {
    config: async (config) => {
      config.agent = {
        ...config.agent,
        Lead: { mode: "primary", prompt: "You delegate." },
        Worker: { mode: "subagent", prompt: "You do what you are told.", description: "does its part" }
      }
    },
    event: async ({ event }) => {
      if (event.type === "message.part.updated" && event.properties.part.type === "text") {
        const { sessionID, text } = event.properties.part
        if (waiting.has(sessionID)) texts.set(sessionID, text)
      }
      if (event.type === "session.idle") {
        const { sessionID } = event.properties
        waiting.get(sessionID)?.(texts.get(sessionID) ?? "")
        waiting.delete(sessionID)
        texts.delete(sessionID)
      }
    },
    tool: {
      bare_task: tool({
        description: "Gives a task to an agent and waits for its result.",
        args: { description: tool.schema.string(), prompt: tool.schema.string(), agent: tool.schema.string() },
        execute: async ({ agent, description, prompt }, { sessionID }) => {
          const { data } = await client.session.create({
            body: { title: description, parentID: sessionID },
            throwOnError: true
          })
          const { promise, resolve } = Promise.withResolvers<string>()
          waiting.set(data.id, resolve)
          const parts = [{ type: "text" as const, text: prompt }]
          await client.session.promptAsync({ path: { id: data.id }, body: { agent, parts }, throwOnError: true })
          return promise
        }
      })
    }
  }
}
