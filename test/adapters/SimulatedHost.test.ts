import { assert, describe, it } from "@effect/vitest"
import { type Duration, Effect, Fiber, Layer, Queue, Random, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Faults } from "../../adapters/test/Faults.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import type { SimulatedScript } from "../../adapters/test/SimulatedTurns.ts"
import type { HostEvent, Message, SessionId } from "../../src/domain/Session.ts"
import { SessionClient, type SessionError } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"

/** Answers by the first word: `think` after ten seconds, `use` by a tool call, anything else at once. */
const script: SimulatedScript = ({ toolResults, users }) => {
  const [word] = (users.at(-1) ?? "").split(" ")
  if (toolResults.length > 0) return Effect.succeed({ text: toolResults.join(" ") })
  if (word === "think") return Effect.delay(Effect.succeed({ text: "thought" }), "10 seconds")
  if (word === "use") return Effect.succeed({ text: "I use it.", toolCalls: [{ name: "tool", args: {} }] })
  return Effect.succeed({ text: "said" })
}

const onHost = (faults: Faults = {}) =>
  Effect.provide(Layer.mergeAll(SimulatedHost.layer({ script, faults }), Ids.layer), { local: true })

const pass = (time: Duration.Input) => TestClock.adjust(time)

/** Sends something on its way, and lets time pass until it is back. */
const doing = <A, E, R>(effect: Effect.Effect<A, E, R>, time: Duration.Input = 20) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.exit(effect), { startImmediately: true })
    yield* pass(time)
    return yield* yield* Fiber.join(fiber)
  })

const failing = <A, E, R>(effect: Effect.Effect<A, E, R>, time?: Duration.Input) => doing(Effect.flip(effect), time)

/** A session, its events from now on, and what can be seen of it past all faults. */
const open = Effect.gen(function*() {
  const client = yield* SessionClient
  const host = yield* SimulatedHost
  const ids = yield* Ids
  const events = yield* Queue.unbounded<HostEvent>()
  yield* client.events.pipe(
    Stream.runForEach((event) => Queue.offer(events, event)),
    Effect.forkScoped({ startImmediately: true })
  )
  const { id } = yield* host.direct.create({ title: "a session" })
  return {
    client,
    host,
    id,
    prompt: (text: string) => Effect.flatMap(ids.message, (id_) => client.prompt({ session: id, id: id_, text })),
    messages: host.direct.messages(id, 100),
    seen: Effect.map(Queue.clear(events), (all) => all.map(({ type }) => type))
  }
})

const shape = (message: Message) =>
  message.role === "user" ? "user" : message.error?.name ?? (message.completed ? message.finish : "unfinished")

describe("the simulated host, when it crashes", () => {
  it.effect("ends running turns without a word, and keeps what was stored", () =>
    Effect.gen(function*() {
      const { client, host, id, messages, prompt, seen } = yield* open
      yield* doing(prompt("think hard"))
      assert.isTrue((yield* doing(client.statuses)).has(id))
      yield* seen
      yield* host.crash
      yield* pass("1 minute")
      yield* host.restart
      assert.deepStrictEqual(yield* seen, [])
      assert.deepStrictEqual((yield* messages).map(shape), ["user", "unfinished"])
      assert.strictEqual((yield* doing(client.statuses)).size, 0)
      assert.deepStrictEqual((yield* host.calls).map(({ outcome }) => outcome), ["hung up"])
    }).pipe(onHost()))

  it.effect("answers nothing until it is started again, and calls under way fail at once", () =>
    Effect.gen(function*() {
      const { client, host, id, prompt } = yield* open
      yield* host.setFaults({ every: { slow: 1 }, slowBy: "10 minutes" })
      const waiting = yield* Effect.forkChild(Effect.flip(prompt("say")), { startImmediately: true })
      yield* pass(1)
      yield* host.crash
      assert.strictEqual((yield* Fiber.join(waiting))._tag, "HostUnavailable")
      yield* host.setFaults({})
      const calls: ReadonlyArray<Effect.Effect<void, SessionError>> = [
        Effect.asVoid(client.get(id)),
        Effect.asVoid(client.statuses),
        Effect.asVoid(client.create({ title: "no" })),
        client.abort(id)
      ]
      for (const call of calls) assert.strictEqual((yield* failing(call))._tag, "HostUnavailable")
      assert.strictEqual((yield* Effect.flip(host.direct.get(id)))._tag, "HostUnavailable")
      yield* host.restart
      assert.lengthOf(yield* doing(client.sessions), 1)
      assert.deepStrictEqual(yield* doing(client.messages(id, 10)), [])
    }).pipe(onHost()))

  it.effect("loses a prompt that it had accepted and not stored", () =>
    Effect.gen(function*() {
      const { host, messages, prompt } = yield* open
      yield* doing(prompt("say"), 1)
      yield* host.crash
      yield* host.restart
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* messages, [])
    }).pipe(onHost()))

  it.effect("goes on with a session that is prompted again", () =>
    Effect.gen(function*() {
      const { host, messages, prompt, seen } = yield* open
      yield* doing(prompt("think hard"))
      yield* host.crash
      yield* host.restart
      yield* seen
      yield* doing(prompt("say"), "1 second")
      assert.deepStrictEqual((yield* messages).map(shape), ["user", "unfinished", "user", "stop"])
      assert.deepStrictEqual((yield* seen).filter((type) => type === "idle"), ["idle"])
    }).pipe(onHost()))

  it.effect("leaves a tool call running for ever in its message, and is not held up by one that does not end", () =>
    Effect.gen(function*() {
      const { host, messages, prompt } = yield* open
      yield* host.offer({ tool: () => Effect.uninterruptible(Effect.delay(Effect.succeed("too late"), "1 minute")) })
      yield* doing(prompt("use it"))
      yield* host.crash
      yield* host.restart
      yield* host.offer({ tool: () => Effect.succeed("served again") })
      yield* doing(prompt("use it"), "1 second")
      const all = yield* messages
      assert.deepStrictEqual(all.map(shape), ["user", "unfinished", "user", "tool-calls", "stop"])
      assert.deepStrictEqual(all[1]?.parts[1], {
        type: "tool",
        tool: "tool",
        status: "running",
        input: "{}",
        output: undefined
      })
      assert.deepStrictEqual(all[3]?.parts[1], {
        type: "tool",
        tool: "tool",
        status: "completed",
        input: "{}",
        output: "served again"
      })
      yield* pass("1 minute")
      assert.deepStrictEqual(yield* messages, all)
    }).pipe(onHost()))
})

describe("tools on the simulated host", () => {
  it.effect("fail in the model's hands when those who served them are gone", () =>
    Effect.gen(function*() {
      const { host, messages, prompt } = yield* open
      yield* host.offer({ tool: () => Effect.never })
      yield* doing(prompt("use it"))
      yield* host.withdraw()
      yield* pass("1 second")
      const all = yield* messages
      assert.deepStrictEqual(all[1]?.parts[1], {
        type: "tool",
        tool: "tool",
        status: "error",
        input: "{}",
        output: undefined
      })
      assert.deepStrictEqual(all.map(shape), ["user", "tool-calls", "stop"])
    }).pipe(onHost()))

  it.effect("that die are an error for the model, not the end of its turn", () =>
    Effect.gen(function*() {
      const { host, messages, prompt } = yield* open
      yield* host.offer({ tool: () => Effect.die("broken") })
      yield* doing(prompt("use it"), "1 second")
      assert.deepStrictEqual((yield* messages).at(-1)?.parts, [
        { type: "text", text: "Error: broken", metadata: {} }
      ])
    }).pipe(onHost()))

  it.effect("are served to each tree of sessions by the one that offers them there", () =>
    Effect.gen(function*() {
      const { client, host, id, messages, prompt } = yield* open
      const other = (yield* host.direct.create({ title: "another root" })).id
      yield* host.offer({ tool: () => Effect.succeed("first") }, id)
      yield* host.offer({ tool: () => Effect.succeed("second") }, other)
      const child = (yield* host.direct.create({ title: "child", parent: other })).id
      const ask = (session: SessionId) =>
        Effect.flatMap(
          Ids,
          (ids) => Effect.flatMap(ids.message, (id) => client.prompt({ session, id, text: "use it" }))
        )
      yield* doing(prompt("use it"))
      yield* doing(ask(child), "1 second")
      const answer = (all: ReadonlyArray<Message>) => all.at(-1)?.parts
      assert.deepStrictEqual(answer(yield* messages), [{ type: "text", text: "first", metadata: {} }])
      const below = yield* host.direct.messages(child, 10)
      assert.deepStrictEqual(answer(below), [{ type: "text", text: "second", metadata: {} }])
    }).pipe(onHost()))
})

describe("faults of the simulated host", () => {
  it.effect("refuse a call, or cut it off before or after its effect", () =>
    Effect.gen(function*() {
      const { client, host } = yield* open
      const create = client.create({ title: "another" })
      const count = Effect.map(host.sessions, (all) => all.length)
      yield* host.setFaults({ operations: { create: { refused: 1 } } })
      const refused = yield* failing(create)
      assert.isTrue(refused._tag === "HostRefused" && refused.status === 500)
      yield* host.setFaults({ every: { refused: 1 }, operations: { create: { unreachable: 1 } } })
      assert.strictEqual((yield* failing(create))._tag, "HostUnavailable")
      assert.strictEqual(yield* count, 1)
      yield* host.setFaults({ operations: { create: { unheard: 1 } } })
      assert.strictEqual((yield* failing(create))._tag, "HostUnavailable")
      assert.strictEqual(yield* count, 2)
      assert.lengthOf(yield* doing(client.sessions), 2)
    }).pipe(onHost()))

  it.effect("make a call slow, by no more than they say", () =>
    Effect.gen(function*() {
      const { client } = yield* open
      const fiber = yield* Effect.forkChild(client.statuses, { startImmediately: true })
      yield* pass(1)
      assert.isUndefined(fiber.pollUnsafe())
      yield* pass("5 seconds")
      assert.isDefined(fiber.pollUnsafe())
    }).pipe(onHost({ every: { slow: 1 }, slowBy: "5 seconds" })))

  const eventsUnder = (events: Faults["events"], seed = "faults") =>
    Effect.gen(function*() {
      const { prompt, seen } = yield* open
      yield* doing(prompt("say"), "1 second")
      const soon = yield* seen
      yield* pass("1 minute")
      return { soon, later: yield* seen }
    }).pipe(onHost(events === undefined ? {} : { events, lateBy: "30 seconds" }), Random.withSeed(seed))

  it.effect("lose, double and delay events", () =>
    Effect.gen(function*() {
      const told: Effect.Success<ReturnType<typeof eventsUnder>> = {
        soon: ["status", "activity", "usage", "idle"],
        later: []
      }
      assert.deepStrictEqual(yield* eventsUnder(undefined), told)
      assert.deepStrictEqual(yield* eventsUnder({ lost: 1 }), { soon: [], later: [] })
      const doubled = yield* eventsUnder({ doubled: 1 })
      assert.sameMembers([...doubled.soon, ...doubled.later], [...told.soon, ...told.soon])
      const late = yield* eventsUnder({ late: 1 })
      assert.notDeepEqual(late.soon, told.soon)
      assert.sameMembers([...late.soon, ...late.later], told.soon)
      const reordered = yield* eventsUnder({ reordered: 1 }, "one that shows it")
      assert.sameMembers(reordered.soon, told.soon)
      assert.notDeepEqual(reordered.soon, told.soon)
    }))

  it.effect("are the same again under the same seed, with the ids of all that was made", () =>
    Effect.gen(function*() {
      const faults: Faults = {
        every: { refused: 0.1, unreachable: 0.1, unheard: 0.1, slow: 0.2 },
        events: { lost: 0.2, doubled: 0.2, late: 0.2, reordered: 0.2 }
      }
      const run = (seed: string) =>
        Effect.gen(function*() {
          const { host, messages, prompt, seen } = yield* open
          const ends: Array<string> = []
          for (let i = 0; i < 20; i++) ends.push((yield* doing(Effect.exit(prompt(`say ${i}`)), "12 seconds"))._tag)
          yield* pass("1 minute")
          return JSON.stringify([ends, yield* messages, yield* seen, yield* host.sessions])
        }).pipe(onHost(faults), Random.withSeed(seed), Effect.provide(TestClock.layer(), { local: true }))
      const first = yield* run("a")
      assert.strictEqual(yield* run("a"), first)
      assert.notStrictEqual(yield* run("b"), first)
    }))
})

describe("two simulated processes in one folder", () => {
  it.effect("share sessions and messages, and know only of their own turns", () =>
    Effect.gen(function*() {
      const { client, host, id, messages, prompt, seen } = yield* open
      const another = yield* host.another
      const ids = yield* Ids
      const theirs = yield* another.direct.create({ title: "of the other" })
      const told = yield* Queue.unbounded<HostEvent>()
      yield* another.client.events.pipe(
        Stream.runForEach((event) => Queue.offer(told, event)),
        Effect.forkScoped({ startImmediately: true })
      )
      yield* doing(another.client.prompt({ session: theirs.id, id: yield* ids.message, text: "think" }))
      assert.isTrue((yield* doing(another.client.statuses)).has(theirs.id))
      assert.strictEqual((yield* doing(client.statuses)).size, 0)
      yield* doing(client.abort(theirs.id))
      assert.isTrue((yield* doing(another.client.statuses)).has(theirs.id))
      yield* doing(prompt("say"), "1 minute")
      assert.deepStrictEqual(yield* seen, ["idle", "status", "activity", "usage", "idle"])
      assert.isTrue((yield* Queue.clear(told)).every(({ session }) => session === theirs.id))
      assert.deepStrictEqual(yield* doing(another.client.messages(id, 10)), yield* messages)
      assert.lengthOf(yield* doing(client.sessions), 2)
    }).pipe(onHost()))

  it.effect("die one by one", () =>
    Effect.gen(function*() {
      const { client, host, id, messages, prompt } = yield* open
      const another = yield* host.another
      yield* doing(prompt("think"))
      yield* another.crash
      assert.strictEqual((yield* failing(another.client.statuses))._tag, "HostUnavailable")
      assert.isTrue((yield* doing(client.statuses)).has(id))
      yield* pass("1 minute")
      assert.deepStrictEqual((yield* messages).map(shape), ["user", "stop"])
    }).pipe(onHost()))
})
