/**
 * A language model on loopback that answers from a script: the OpenAI-compatible streaming endpoint that a real
 * OpenCode talks to in tests, benchmarks and the demo. No key and no internet are needed.
 */
import { Cause, Clock, Context, Effect, FiberSet, Layer, Queue, Ref, Schema } from "effect"
import { createServer, type Server } from "node:http"
import {
  type ConversationMessage,
  defaultUsage,
  describeRequest,
  type ModelCall,
  type ModelReply,
  type ModelRequest,
  type Script
} from "./Script.ts"

const ToolCall = Schema.Struct({
  id: Schema.String,
  function: Schema.Struct({ name: Schema.String, arguments: Schema.String })
})

const Content = Schema.Union([
  Schema.String,
  Schema.Null,
  Schema.Array(Schema.Struct({ type: Schema.String, text: Schema.optionalKey(Schema.String) }))
])

const Message = Schema.Struct({
  role: Schema.Literals(["system", "developer", "user", "assistant", "tool"]),
  content: Schema.optionalKey(Content),
  tool_calls: Schema.optionalKey(Schema.Array(ToolCall)),
  tool_call_id: Schema.optionalKey(Schema.String)
})

const Body = Schema.Struct({
  model: Schema.String,
  messages: Schema.Array(Message),
  tools: Schema.optionalKey(Schema.Array(Schema.Struct({ function: Schema.Struct({ name: Schema.String }) })))
})

export class ScriptedModel extends Context.Service<ScriptedModel, {
  /** Base URL for an OpenAI-compatible provider, ends in `/v1`. */
  readonly url: string
  /** All calls so far, oldest first. */
  readonly calls: Effect.Effect<ReadonlyArray<ModelCall>>
  /** The next call that has not been taken yet; waits for one. The newest 10,000 are kept. */
  readonly next: Effect.Effect<ModelRequest>
}>()("orchestrator/test/ScriptedModel") {
  /** Serves `script` on a free port of loopback until the scope closes. */
  static readonly layer = (script: Script) =>
    Layer.effect(
      ScriptedModel,
      Effect.gen(function*() {
        const calls = yield* Ref.make<ReadonlyArray<ModelCall>>([])
        const arrivals = yield* Queue.sliding<ModelRequest>(10_000)
        const settle = (index: number, outcome: "answered" | "hung up") =>
          Ref.update(calls, (all) => all.map((call) => call.request.index === index ? { ...call, outcome } : call))

        const answer = Effect.fnUntraced(function*(raw: string) {
          const body = yield* Schema.decodeEffect(Schema.fromJsonString(Body))(raw)
          if (isTitleCall(body)) return completion({ text: "Scripted session" }, "title")
          const at = yield* Clock.currentTimeMillis
          const request = yield* Ref.modify(calls, (all) => {
            const call = {
              index: all.length + 1,
              at,
              model: body.model,
              tools: (body.tools ?? []).map((tool) => tool.function.name),
              raw
            }
            const request = describeRequest(call, body.messages.map(normalize))
            return [request, [...all, { request, outcome: "open" as const }]]
          })
          yield* Queue.offer(arrivals, request)
          const reply = yield* script(request).pipe(
            Effect.tap(() => settle(request.index, "answered")),
            Effect.onInterrupt(() => settle(request.index, "hung up"))
          )
          return "status" in reply ? failure(reply) : completion(reply, String(request.index))
        }, Effect.catchCause((cause) => Effect.succeed(failure({ status: 400, message: Cause.pretty(cause) }))))

        const run = yield* FiberSet.makeRuntime()
        const server = yield* Effect.acquireRelease(
          Effect.callback<Server>((resume) => {
            const server = createServer((incoming, outgoing) => {
              const chunks: Array<Buffer> = []
              incoming.on("data", (chunk: Buffer) => chunks.push(chunk))
              incoming.on("end", () => {
                const fiber = run(Effect.map(
                  answer(Buffer.concat(chunks).toString("utf8")),
                  ({ body, headers, status }) => outgoing.writeHead(status, headers).end(body)
                ))
                // The caller hung up: its script is interrupted.
                outgoing.on("close", () => fiber.interruptUnsafe())
              })
            }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) =>
            Effect.sync(() => {
              server.close()
              server.closeAllConnections()
            })
        )
        const address = server.address()
        return {
          url: `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}/v1`,
          calls: Ref.get(calls),
          next: Queue.take(arrivals)
        }
      })
    )
}

interface HttpAnswer {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: string
}

const failure = ({ headers, message, status }: Extract<ModelReply, { readonly status: number }>): HttpAnswer => ({
  status,
  headers: { "content-type": "application/json", ...headers },
  body: JSON.stringify({ error: { message, type: "scripted", code: null } })
})

const isTitleCall = (body: typeof Body.Type) =>
  body.tools === undefined && body.messages.some((m) => m.role === "system" && /title generator/i.test(text(m)))

const text = (message: typeof Message.Type): string => {
  const content = message.content ?? ""
  return typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("\n")
}

const normalize = (message: typeof Message.Type): ConversationMessage => ({
  role: message.role === "developer" ? "system" : message.role,
  text: text(message),
  toolCalls: (message.tool_calls ?? []).map((call) => call.function.name)
})

const completion = (reply: Exclude<ModelReply, { readonly status: number }>, id: string): HttpAnswer => {
  const chunk = (delta: unknown, finish: string | null) => ({
    id: `chatcmpl-${id}`,
    object: "chat.completion.chunk",
    created: 0,
    model: "scripted",
    choices: [{ index: 0, delta, finish_reason: finish }]
  })
  const toolCalls = (reply.toolCalls ?? []).map((call, index) => ({
    index,
    id: `call_${id}_${index}`,
    type: "function",
    function: { name: call.name, arguments: JSON.stringify(call.args) }
  }))
  const usage = reply.usage ?? defaultUsage
  const chunks = [
    chunk({ role: "assistant", content: reply.text ?? "" }, null),
    ...(toolCalls.length > 0 ? [chunk({ tool_calls: toolCalls }, null)] : []),
    {
      ...chunk({}, toolCalls.length > 0 ? "tool_calls" : "stop"),
      usage: {
        prompt_tokens: usage.input,
        completion_tokens: usage.output,
        total_tokens: usage.input + usage.output
      }
    }
  ]
  return {
    status: 200,
    headers: { "content-type": "text/event-stream" },
    body: chunks.map((c) => `data: ${JSON.stringify(c)}\n\n`).join("") + "data: [DONE]\n\n"
  }
}
