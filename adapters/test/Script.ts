/** The script of a model, the same for the real OpenCode and the simulated one: what it is asked, and what it answers. */
import type { Effect } from "effect"

/** One call of the model, as the script sees it. */
export interface ModelRequest {
  /** Counted from 1 in the order of arrival; calls for session titles are not counted. */
  readonly index: number
  /** Arrival, epoch milliseconds. */
  readonly at: number
  readonly model: string
  readonly system: string
  /** Every user text of the conversation, oldest first. */
  readonly users: ReadonlyArray<string>
  /** Results of the tool calls of the newest assistant message, in order; empty when the newest message is the user's. */
  readonly toolResults: ReadonlyArray<string>
  /** Results of all tool calls of the conversation, oldest first. */
  readonly allToolResults: ReadonlyArray<string>
  /** Names of all tool calls made so far in the conversation. */
  readonly calledTools: ReadonlyArray<string>
  /** How many assistant messages the conversation already holds. */
  readonly turns: number
  /** Names of the tools on offer. */
  readonly tools: ReadonlyArray<string>
  /** Characters of the whole request. */
  readonly chars: number
  /** The request as it came. */
  readonly raw: string
}

/** What the model answers: text, tool calls, or both; or an HTTP error. */
export type ModelReply =
  | {
    readonly text?: string
    readonly toolCalls?: ReadonlyArray<{ readonly name: string; readonly args: unknown }>
    readonly usage?: { readonly input: number; readonly output: number }
  }
  | { readonly status: number; readonly message: string; readonly headers?: Record<string, string> }

/** Decides each answer. May wait, on the clock or on a signal; is interrupted when the caller hangs up. */
export type Script = (request: ModelRequest) => Effect.Effect<ModelReply>

/** How a call ended: answered, or hung up by the caller. */
export interface ModelCall {
  readonly request: ModelRequest
  readonly outcome: "open" | "answered" | "hung up"
}

/** What a reply without numbers of its own is taken to have used. */
export const defaultUsage = { input: 100, output: 10 }

export interface ConversationMessage {
  readonly role: "system" | "user" | "assistant" | "tool"
  readonly text: string
  readonly toolCalls: ReadonlyArray<string>
}

/** The request as the script sees it. Its text is made only for those who ask for it. */
export const describeRequest = (
  call: Pick<ModelRequest, "index" | "at" | "model" | "tools" | "raw">,
  messages: ReadonlyArray<ConversationMessage>
): ModelRequest => {
  const assistants = messages.filter((message) => message.role === "assistant")
  const texts = (role: ConversationMessage["role"]) =>
    messages.filter((message) => message.role === role).map((message) => message.text)
  const lastOther = messages.findLastIndex((message) => message.role !== "tool")
  return {
    index: call.index,
    at: call.at,
    model: call.model,
    tools: call.tools,
    system: texts("system").join("\n"),
    users: texts("user"),
    toolResults: messages.slice(lastOther + 1).map(({ text }) => text),
    allToolResults: texts("tool"),
    calledTools: assistants.flatMap((message) => message.toolCalls),
    turns: assistants.length,
    get raw() {
      return call.raw
    },
    get chars() {
      return call.raw.length
    }
  }
}
