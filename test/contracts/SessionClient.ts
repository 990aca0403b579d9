/** What every SessionClient promises; run by the real OpenCode and by the simulated one, on the live clock. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, type Layer, Queue, Stream } from "effect"
import type { Script } from "../../adapters/test/Script.ts"
import type { HostAgent } from "../../src/domain/Agent.ts"
import { type HostEvent, isAbort, MessageId, messageText, readTurn, SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"

const hanging = new Map<string, Deferred.Deferred<void>>()

/** Completes when a model call with this prompt, which is never answered, has arrived. */
const hangs = (text: string) => {
  const arrived = hanging.get(text) ?? Deferred.makeUnsafe<void>()
  hanging.set(text, arrived)
  return arrived
}

/** Answers by the newest user text. */
export const contractScript = (): Script => {
  const limited = new Set<string>()
  return (request) =>
    Effect.gen(function*() {
      const text = request.users.at(-1) ?? ""
      const [word, ...rest] = text.split(" ")
      if (request.toolResults.length > 0) return { text: `the tool said: ${request.toolResults.join(" ")}` }
      switch (word) {
        case "say":
          return { text: rest.join(" ") }
        case "silent":
          return { text: "" }
        case "hang":
          yield* Deferred.succeed(hangs(text), undefined)
          return yield* Effect.never
        case "slow":
          yield* Effect.sleep("400 millis")
          return { text: "slow done" }
        case "unauthorized":
          return { status: 401, message: "invalid key, says the provider" }
        case "limited":
          if (limited.has(text)) return { text: "after the limit" }
          limited.add(text)
          return { status: 429, message: "too many requests, says the provider", headers: { "retry-after": "1" } }
        case "always":
          return {
            status: Number(rest[0]),
            message: `${rest[0]}, says the provider`,
            headers: { "retry-after-ms": "20", "retry-after": "7" }
          }
        case "long":
          if (limited.has(text)) return { text: "short enough" }
          limited.add(text)
          return { status: 400, message: "prompt is too long: 250000 tokens > 200000 maximum" }
        case "run":
          return { toolCalls: [{ name: "bash", args: { command: "echo hi", description: "say hi" } }] }
        case "ask":
          return {
            toolCalls: [{
              name: "question",
              args: {
                questions: [{
                  question: "Which?",
                  header: "Which",
                  options: [{ label: "left", description: "l" }, { label: "right", description: "r" }]
                }]
              }
            }]
          }
        case "tools":
          return { text: request.tools.join(" ") }
        case "count":
          return { text: `${request.users.length} user messages` }
        case "fill":
          return { text: "my context is full", usage: { input: 199_000, output: 10 } }
        case "plan":
          return {
            toolCalls: [{
              name: "todowrite",
              args: {
                todos: [
                  { content: "look", status: "completed", priority: "high" },
                  { content: "build", status: "in_progress", priority: "low" }
                ]
              }
            }]
          }
        case "overflow":
          return { status: 400, message: "maximum context length: context_length_exceeded, prompt is too long" }
        case "Here": // is the conversation so far, says the host
          return { text: "a summary, and no answer" }
        case "Continue":
        case "The": // previous request was too large. Continue, says the host
          return { text: `went on after ${request.users[0]}` }
        default:
          return { text: "?" }
      }
    })
}

/** An agent that asks before every command. */
export const asker: HostAgent = {
  name: "asker",
  mode: "primary",
  description: undefined,
  model: undefined,
  hidden: false,
  permission: [
    { permission: "*", pattern: "*", action: "allow" },
    { permission: "bash", pattern: "*", action: "ask" }
  ]
}

/** A session whose events are kept from before anything happens in it. */
const open = Effect.fnUntraced(function*(agent = "build") {
  const client = yield* SessionClient
  const ids = yield* Ids
  const events = yield* Queue.sliding<HostEvent>(10_000)
  yield* client.events.pipe(
    Stream.runForEach((event) => Queue.offer(events, event)),
    Effect.forkScoped({ startImmediately: true })
  )
  const { id } = yield* client.create({ title: "contract", agent })
  /** The next event of this session that fits. */
  const until = Effect.fnUntraced(function*<T extends HostEvent["type"]>(type: T, session = id) {
    while (true) {
      const event = yield* Queue.take(events)
      if (event.type === type && event.session === session) return event as Extract<HostEvent, { type: T }> // just compared
    }
  })
  /** The types of this session's events up to the end of the turn. */
  const story = Effect.gen(function*() {
    const types: Array<HostEvent["type"]> = []
    while (types.at(-1) !== "idle") {
      const event = yield* Queue.take(events)
      if (event.session === id) types.push(event.type)
    }
    return types
  })
  const send = Effect.fnUntraced(
    function*(text: string, more: { readonly agent?: string; readonly noReply?: boolean } = {}) {
      const message = yield* ids.message
      yield* client.prompt({ session: id, id: message, text, agent, ...more })
      return message
    }
  )
  const turn = (prompt: MessageId) => Effect.map(client.messages(id, 10), (messages) => readTurn(messages, prompt))
  const isBusy = Effect.map(client.statuses, (statuses) => statuses.has(id))
  return { client, id, until, story, send, turn, isBusy }
})

export const sessionClientContract = <E>(name: string, subject: Layer.Layer<SessionClient | Ids, E>) => {
  layer(subject, { excludeTestServices: true, timeout: "60 seconds" })(`SessionClient, ${name}`, (it) => {
    it.effect("a session keeps its parent, agent, rules and metadata", () =>
      Effect.gen(function*() {
        const { client, id } = yield* open()
        const permission = [{ permission: "bash", pattern: "*", action: "deny" as const }]
        const child = yield* client.create({
          title: "child",
          parent: id,
          agent: "general",
          permission,
          metadata: { orchestrator: { task: "task_1", run: 1 } }
        })
        const read = yield* client.get(child.id)
        assert.strictEqual(read.parent, id)
        assert.strictEqual(read.agent, "general")
        assert.deepStrictEqual(read.permission, permission)
        assert.deepStrictEqual(read.metadata, { orchestrator: { task: "task_1", run: 1 } })
        assert.deepStrictEqual((yield* client.children(id)).map((session) => session.id), [child.id])
        assert.deepStrictEqual(yield* client.children(child.id), [])
      }))

    it.effect("the sessions of the project are listed, children with their metadata", () =>
      Effect.gen(function*() {
        const { client, id } = yield* open()
        const metadata = { orchestrator: { task: "task_listed", run: 2 } }
        const child = yield* client.create({ title: "child", parent: id, agent: "general", metadata })
        const listed = yield* client.sessions
        assert.isTrue(listed.some((session) => session.id === id && session.parent === undefined))
        const found = listed.find((session) => session.id === child.id)
        assert.strictEqual(found?.parent, id)
        assert.strictEqual(found?.agent, "general")
        assert.deepStrictEqual(found?.metadata, metadata)
        yield* client.delete(child.id)
        assert.isFalse((yield* client.sessions).some((session) => session.id === child.id))
      }))

    it.effect("a prompt is answered under its own id, and the end of the turn is an idle event", () =>
      Effect.gen(function*() {
        const { client, id, isBusy, send, turn, until } = yield* open()
        const prompt = yield* send("say hello there")
        yield* until("status")
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "hello there" })
        assert.isTrue(yield* client.hasMessage(id, prompt))
        assert.isFalse(yield* client.hasMessage(id, MessageId.make("msg_000000000000abcdefghijklmn")))
        assert.isFalse(yield* isBusy)
      }))

    it.effect("an answer without a word is a finished turn", () =>
      Effect.gen(function*() {
        const { send, turn, until } = yield* open()
        const prompt = yield* send("silent")
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "" })
      }))

    it.effect("the same prompt sent again starts no second turn", () =>
      Effect.gen(function*() {
        const { client, id, send, turn, until } = yield* open()
        const prompt = yield* send("say once")
        yield* until("idle")
        yield* client.prompt({ session: id, id: prompt, text: "say once", agent: "build" })
        const next = yield* send("count")
        // The real host goes idle once more for the prompt it knew already.
        while ((yield* turn(next)).state !== "finished") yield* until("idle")
        assert.deepStrictEqual(yield* turn(next), { state: "finished", text: "2 user messages" })
        const messages = yield* client.messages(id, 10)
        assert.deepStrictEqual(messages.map((message) => message.role), ["user", "assistant", "user", "assistant"])
        assert.strictEqual(messages[0]?.parts.length, 1)
      }))

    it.effect("a running turn shows in the states, and an abort ends it", () =>
      Effect.gen(function*() {
        const { client, id, isBusy, send, turn, until } = yield* open()
        const prompt = yield* send(`hang ${id}`)
        yield* Deferred.await(hangs(`hang ${id}`))
        assert.isTrue(yield* isBusy)
        yield* client.abort(id)
        assert.isTrue(isAbort((yield* until("error")).error))
        yield* until("idle")
        const seen = yield* turn(prompt)
        assert.isTrue(seen.state === "failed" && isAbort(seen.error), seen.state)
        assert.isFalse(yield* isBusy)
      }))

    it.effect("aborting succeeds where nothing runs", () =>
      Effect.gen(function*() {
        const { client, id } = yield* open()
        yield* client.abort(id)
        yield* client.abort(SessionId.make("ses_doesnotexist000000000000"))
      }))

    it.effect("an error of the provider arrives with its status and words, and ends the turn", () =>
      Effect.gen(function*() {
        const { send, turn, until } = yield* open()
        const prompt = yield* send("unauthorized")
        const { error } = yield* until("error")
        assert.strictEqual(error.status, 401)
        assert.include(error.message, "invalid key, says the provider")
        yield* until("idle")
        yield* until("idle")
        const seen = yield* turn(prompt)
        assert.strictEqual(seen.state === "failed" ? seen.error.status : undefined, 401)
      }))

    it.effect("a rate limit is waited out by the host, which says so", () =>
      Effect.gen(function*() {
        const { id, send, turn, until } = yield* open()
        const prompt = yield* send(`limited ${id}`)
        let status = (yield* until("status")).status
        while (status.type === "busy") status = (yield* until("status")).status
        assert.include(status.message, "too many requests, says the provider")
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "after the limit" })
      }))

    it.effect.each([429, 500, 529])(
      "an error %i that does not pass is given up by the host after five retries, and arrives with all that is known of it",
      (status) =>
        Effect.gen(function*() {
          const { send, turn, until } = yield* open()
          const prompt = yield* send(`always ${status}`)
          for (let attempt = 1; attempt <= 5; attempt++) {
            while (true) {
              const event = yield* until("status")
              if (event.status.type !== "retry") continue
              assert.strictEqual(event.status.attempt, attempt)
              break
            }
          }
          const { error } = yield* until("error")
          assert.deepStrictEqual(error, {
            name: "APIError",
            message: `${status}, says the provider`,
            status,
            retryable: true,
            retryAfter: 20
          })
          yield* until("idle")
          yield* until("idle")
          assert.deepStrictEqual(yield* turn(prompt), { state: "failed", error })
        })
    )

    it.effect("a conversation that is too long is shortened by the host, which then goes on", () =>
      Effect.gen(function*() {
        const { client, id, send, turn, until } = yield* open()
        yield* send("say one")
        yield* until("idle")
        const prompt = yield* send(`long ${id}`)
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "short enough" })
        const users = (yield* client.messages(id, 20)).filter((message) => message.role === "user")
        assert.deepStrictEqual(users.map(({ repeated }) => repeated === true), [false, false, true])
      }))

    it.effect("a conversation is shortened on request, and nothing of that is anybody's answer", () =>
      Effect.gen(function*() {
        const { client, id, send, turn, until } = yield* open()
        const first = yield* send("say one")
        yield* until("idle")
        yield* client.compact(id)
        assert.deepStrictEqual(yield* turn(first), { state: "finished", text: "one" })
        const next = yield* send("say two")
        yield* until("idle")
        while ((yield* turn(next)).state !== "finished") yield* until("idle")
        assert.deepStrictEqual(yield* turn(next), { state: "finished", text: "two" })
      }))

    it.effect("a deleted session is gone, with its children, and can be deleted again", () =>
      Effect.gen(function*() {
        const { client, id, until } = yield* open()
        const child = yield* client.create({ title: "child", parent: id })
        yield* client.delete(id)
        yield* until("deleted", child.id)
        yield* until("deleted")
        for (const session of [id, child.id]) {
          assert.strictEqual((yield* Effect.flip(client.get(session)))._tag, "SessionNotFound")
          assert.strictEqual((yield* Effect.flip(client.messages(session, 1)))._tag, "SessionNotFound")
        }
        yield* client.delete(id)
      }))

    it.effect("deleting a busy session does not stop its turn; an abort does", () =>
      Effect.gen(function*() {
        const { client, id, isBusy, send, until } = yield* open()
        yield* send(`hang ${id}`)
        yield* Deferred.await(hangs(`hang ${id}`))
        yield* client.delete(id)
        assert.isTrue(yield* isBusy)
        yield* client.abort(id)
        yield* until("idle")
        assert.isFalse(yield* isBusy)
      }))

    it.effect("a prompt for an unknown agent is accepted, and then there is only an error", () =>
      Effect.gen(function*() {
        const { isBusy, send, turn, until } = yield* open()
        const prompt = yield* send("say never", { agent: "nobody" })
        assert.include((yield* until("error")).error.message, "nobody")
        assert.deepStrictEqual(yield* turn(prompt), { state: "not started" })
        assert.isFalse(yield* isBusy)
      }))

    it.effect("a prompt to a busy session is read by the running turn", () =>
      Effect.gen(function*() {
        const { client, id, send, turn, until } = yield* open()
        yield* send("slow")
        yield* until("status")
        const second = yield* send("count")
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(second), { state: "finished", text: "2 user messages" })
        const roles = (yield* client.messages(id, 10)).map((message) => message.role)
        assert.strictEqual(roles.filter((role) => role === "assistant").length, 2)
      }))

    it.effect("a message without reply is stored and starts nothing", () =>
      Effect.gen(function*() {
        const { client, id, isBusy, send, turn, until } = yield* open()
        const quiet = yield* send("say nothing", { noReply: true })
        while (!(yield* client.hasMessage(id, quiet))) yield* Effect.yieldNow
        assert.isFalse(yield* isBusy)
        const prompt = yield* send("count")
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "2 user messages" })
      }))

    it.effect("a tool that the session's rules deny is not even shown", () =>
      Effect.gen(function*() {
        const { client } = yield* open()
        const ids = yield* Ids
        const permission = [{ permission: "bash", pattern: "*", action: "deny" as const }]
        const session = yield* client.create({ title: "without bash", agent: "build", permission })
        const events = yield* Queue.sliding<HostEvent>(1_000)
        yield* client.events.pipe(
          Stream.filter((event) => event.type === "idle" && event.session === session.id),
          Stream.runForEach((event) => Queue.offer(events, event)),
          Effect.forkScoped({ startImmediately: true })
        )
        const prompt = yield* ids.message
        yield* client.prompt({ session: session.id, id: prompt, text: "tools", agent: "build" })
        yield* Queue.take(events)
        const turn = readTurn(yield* client.messages(session.id, 10), prompt)
        assert.strictEqual(turn.state, "finished")
        const offered = turn.state === "finished" ? turn.text.split(" ") : []
        assert.notInclude(offered, "bash")
        assert.include(offered, "question")
      }))

    it.effect("a tool call is a part of its message, with what it answered", () =>
      Effect.gen(function*() {
        const { client, id, send, until } = yield* open()
        yield* send("run")
        yield* until("tool")
        yield* until("idle")
        const parts = (yield* client.messages(id, 10)).flatMap((message) => message.parts)
        const tools = parts.filter((part) => part.type === "tool")
        assert.deepStrictEqual(tools.map(({ status, tool }) => [tool, status]), [["bash", "completed"]])
        assert.include(tools[0]?.output, "hi")
      }))

    it.effect("a tool call that goes on is shown as running, in a message without an end", () =>
      Effect.gen(function*() {
        const { client, id, send, until } = yield* open("asker")
        yield* send("run")
        const asked = yield* until("permission")
        const message = (yield* client.messages(id, 1))[0]
        assert.isFalse(message?.role === "assistant" ? message.completed : undefined)
        const tools = message?.parts.filter((part) => part.type === "tool") ?? []
        assert.deepStrictEqual(tools.map(({ output, status, tool }) => [tool, status, output]), [
          ["bash", "running", undefined]
        ])
        yield* client.replyPermission(asked.id, "reject")
        yield* until("idle")
        const parts = (yield* client.messages(id, 10)).flatMap(({ parts }) => parts)
        assert.isFalse(parts.some((part) => part.type === "tool" && part.status === "running"))
      }))

    it.effect("a permission that is asked holds the turn until it is answered", () =>
      Effect.gen(function*() {
        const { client, isBusy, send, turn, until } = yield* open("asker")
        const prompt = yield* send("run")
        const { id, permission } = yield* until("permission")
        assert.strictEqual(permission, "bash")
        assert.isTrue(yield* isBusy)
        yield* client.replyPermission(id, "once")
        yield* until("idle")
        const seen = yield* turn(prompt)
        assert.include(seen.state === "finished" ? seen.text : seen.state, "hi")
        assert.strictEqual((yield* Effect.flip(client.replyPermission("per_unknown", "once")))._tag, "HostRefused")
      }))

    it.effect("what a session's model has put down to do can be read", () =>
      Effect.gen(function*() {
        const { client, id, send, until } = yield* open()
        assert.deepStrictEqual(yield* client.todos(id), [])
        yield* send("plan")
        yield* until("idle")
        assert.deepStrictEqual(
          (yield* client.todos(id)).map(({ content, status }) => [content, status]),
          [["look", "completed"], ["build", "in_progress"]]
        )
      }))

    it.effect("a question holds the turn until it is answered", () =>
      Effect.gen(function*() {
        const { client, send, turn, until } = yield* open()
        const prompt = yield* send("ask")
        const { id } = yield* until("question")
        yield* client.replyQuestion(id, [["right"]])
        yield* until("idle")
        const seen = yield* turn(prompt)
        assert.include(seen.state === "finished" ? seen.text : seen.state, "right")
      }))

    it.effect("a conversation that is made shorter goes on, and the summary is nobody's answer", () =>
      Effect.gen(function*() {
        const { client, id, send, turn, until } = yield* open()
        const prompt = yield* send("fill")
        yield* until("idle")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "went on after What did we do so far?" })
        const messages = yield* client.messages(id, 10)
        assert.deepStrictEqual(messages.map(({ role }) => role), ["user", "assistant", "user", "assistant"])
        assert.isFalse(messages.some((message) => messageText(message).includes("summary")))
        assert.deepStrictEqual(
          (yield* client.messages(id, 3)).map((message) => message.id),
          messages.slice(1).map((message) => message.id)
        )
      }))

    it.effect("a conversation that the provider finds too long is made shorter, and no error is told", () =>
      Effect.gen(function*() {
        const { send, story, turn } = yield* open()
        const prompt = yield* send("overflow")
        assert.notInclude(yield* story, "error")
        assert.deepStrictEqual(yield* turn(prompt), { state: "finished", text: "went on after What did we do so far?" })
      }))

    it.effect("tokens and cost of a session are told as it goes", () =>
      Effect.gen(function*() {
        const { client, id, send, until } = yield* open()
        yield* send("say hello")
        let { usage } = yield* until("usage")
        while (usage.output === 0) usage = (yield* until("usage")).usage
        assert.strictEqual(usage.input, 100)
        assert.strictEqual(usage.output, 10)
        assert.isAbove(usage.cost, 0)
        assert.deepStrictEqual((yield* client.get(id)).usage, usage)
      }))

    it.effect("agents and models are listed", () =>
      Effect.gen(function*() {
        const client = yield* SessionClient
        const agents = yield* client.agents
        assert.strictEqual(agents.find(({ name }) => name === "Commander")?.mode, "primary")
        assert.strictEqual(agents.find(({ name }) => name === "Builder")?.mode, "subagent")
        assert.isAbove(agents.find(({ name }) => name === "Builder")?.permission.length ?? 0, 0)
        assert.deepInclude(yield* client.models, { provider: "scripted", model: "model" })
      }))

    it.effect("an unknown session is named as such", () =>
      Effect.gen(function*() {
        const client = yield* SessionClient
        const ids = yield* Ids
        const session = SessionId.make("ses_doesnotexist000000000000")
        assert.strictEqual((yield* Effect.flip(client.get(session)))._tag, "SessionNotFound")
        assert.strictEqual((yield* Effect.flip(client.messages(session, 1)))._tag, "SessionNotFound")
        assert.strictEqual((yield* Effect.flip(client.compact(session)))._tag, "SessionNotFound")
        const prompt = client.prompt({ session, id: yield* ids.message, text: "say hello" })
        assert.strictEqual((yield* Effect.flip(prompt))._tag, "SessionNotFound")
      }))
  })
}
