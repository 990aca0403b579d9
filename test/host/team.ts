/** The scripted model of a Commander whose goal says what is delegated to whom, and of agents whose orders say what they do. */
import { Deferred, Effect } from "effect"
import type { ModelRequest, Script } from "../../adapters/test/Script.ts"

const delegate = (prompt: string, agent = "Builder", background = true) => ({
  name: "delegate_task",
  args: { agent, description: `task ${prompt}`.slice(0, 40), prompt, background }
})

/** When each hanging call ended, by its prompt. */
const hungUp = new Map<string, Deferred.Deferred<number>>()
export const hangUp = (prompt: string) => {
  const end = hungUp.get(prompt) ?? Deferred.makeUnsafe<number>()
  hungUp.set(prompt, end)
  return end
}
const limited = new Set<string>()

/** Children answer by the first word of their order; the Commander delegates what its goal names, one order a line. */
export const script: Script = (request) =>
  Effect.gen(function*() {
    const text = request.users.at(-1) ?? ""
    if (text === "HANG") return yield* Effect.never
    if (/^You are the Commander/m.test(request.system)) return commander(request)
    const [word = "", ...rest] = (request.users[0] ?? "").split(" ")
    if (/tasks? ha(s|ve) ended/.test(text)) return { text: `heard: ${/found \S+/.exec(text)?.[0]}` }
    if (request.toolResults.length > 0) {
      return {
        text: word === "research" ? "waiting for the researcher" : `tool said: ${request.toolResults.join(" | ")}`
      }
    }
    switch (word) {
      case "hang":
        return yield* Effect.never.pipe(
          Effect.onInterrupt(() => Deferred.succeed(hangUp(text), Date.now()))
        )
      case "silent":
        return { text: "" }
      case "unauthorized":
        return { status: 401, message: "invalid key, says the provider" }
      case "limited":
        if (limited.has(text)) return { text: "came through" }
        limited.add(text)
        return { status: 429, message: "slow down, says the provider", headers: { "retry-after": "2" } }
      case "bash":
        return { toolCalls: [{ name: "bash", args: { command: rest.join(" "), description: "a command" } }] }
      case "write":
        return { toolCalls: [{ name: "write", args: { filePath: rest[0], content: rest.slice(1).join(" ") } }] }
      case "research":
        return { toolCalls: [delegate("find it", "Researcher")] }
      case "report":
        return { text: "DECISION: use SQLite" }
      case "find":
        return { text: "found it-in-the-code" }
      default:
        return { text: `did ${text}` }
    }
  })

const commander = (request: ModelRequest) => {
  const text = request.users.at(-1) ?? ""
  if (text.startsWith("LIST")) {
    return request.toolResults.length > 0
      ? { text: "MISSION COMPLETE" }
      : {
        toolCalls: [{ name: "list_tasks", args: {} }, { name: "get_task_result", args: { taskId: text.split(" ")[1] } }]
      }
  }
  if (/tasks? ha(s|ve) ended/.test(text)) return { text: "All heard.\nMISSION COMPLETE" }
  if (text.startsWith("DO") && request.toolResults.length === 0) {
    return {
      toolCalls: text.split("\n").slice(1).map((line) => {
        const [agent, ...prompt] = line.split(": ")
        return delegate(prompt.join(": "), agent)
      })
    }
  }
  // What has failed has to be answered for.
  const failed = text.startsWith("CONTINUE") ? text.match(/task_\w+/g) ?? [] : []
  return { text: text.startsWith("DO") ? "Waiting." : ["MISSION COMPLETE", ...failed].join("\n") }
}

export const notices = (texts: ReadonlyArray<string>) => texts.filter((text) => /tasks? ha(s|ve) ended/.test(text))
