/** SessionClient over `@opencode-ai/sdk`, for a server that is reached over HTTP and for the one a plugin lives in. */
import { createOpencodeClient, type OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Deferred, Effect, Layer, PubSub, Schedule, Schema, Stream } from "effect"
import type { HostEvent, Message, SessionId } from "../../src/domain/Session.ts"
import { HostTodo } from "../../src/domain/Todo.ts"
import {
  type HostError,
  HostRefused,
  HostUnavailable,
  MalformedAnswer,
  SessionClient,
  SessionNotFound
} from "../../src/host/SessionClient.ts"
import * as Wire from "./wire.ts"

/** The host's routes answer within milliseconds; one that takes this long is not going to. */
const answerTimeout = "30 seconds"

/** A summary is written by a model, and of a long conversation. */
const summaryTimeout = "10 minutes"

interface Answer {
  readonly data?: unknown
  readonly error?: unknown
  readonly response?: { readonly status: number }
}

/** Builds the port on a client of the SDK and a source of events. */
export const make = (client: OpencodeClient, events: Stream.Stream<HostEvent>): SessionClient["Service"] => {
  const ask = Effect.fnUntraced(function*<T, E>(
    operation: string,
    schema: Schema.Codec<T, E>,
    request: (options: { readonly signal: AbortSignal }) => Promise<Answer>,
    timeout: typeof answerTimeout | typeof summaryTimeout = answerTimeout
  ): Effect.fn.Return<T, HostError> {
    const answer = yield* Effect.tryPromise({
      try: (signal) => request({ signal }),
      catch: (cause) => new HostUnavailable({ operation, detail: detail(cause) })
    }).pipe(Effect.timeoutOrElse({
      duration: timeout,
      orElse: () => Effect.fail(new HostUnavailable({ operation, detail: `no answer within ${timeout}` }))
    }))
    const status = answer.response?.status
    if (status === undefined) return yield* new HostUnavailable({ operation, detail: detail(answer.error) })
    if (status >= 400) return yield* new HostRefused({ operation, status, detail: detail(answer.error) })
    return yield* Schema.decodeUnknownEffect(schema)(answer.data).pipe(
      Effect.mapError((error) => new MalformedAnswer({ operation, detail: error.message }))
    )
  })

  /** For routes below `/session/:id`: 404 means that the session is not there. */
  const orNotFound = (session: SessionId) => <A>(effect: Effect.Effect<A, HostError>) =>
    Effect.catchTag(
      effect,
      "HostRefused",
      (error): Effect.Effect<never, HostRefused | SessionNotFound> =>
        Effect.fail(error.status === 404 ? new SessionNotFound({ session }) : error)
    )

  const orElse404 = <A>(value: A) => (effect: Effect.Effect<A, HostError>) =>
    Effect.catchIf(effect, (error) => error._tag === "HostRefused" && error.status === 404, () => Effect.succeed(value))

  /** Asks for more while messages of compactions stand in the place of those that were asked for. */
  const newestSpoken = (
    session: SessionId,
    limit: number,
    asked: number
  ): Effect.Effect<ReadonlyArray<Message>, HostError> =>
    ask(
      "read messages",
      Schema.Array(Wire.WireMessage),
      (options) => client.session.messages({ sessionID: session, limit: asked }, options)
    ).pipe(Effect.flatMap((all) => {
      const spoken = Wire.toMessages(all)
      return spoken.length >= limit || all.length < asked
        ? Effect.succeed(spoken.slice(-limit))
        : newestSpoken(session, limit, asked * 2)
    }))
  const get = (session: SessionId) =>
    ask("read a session", Wire.WireSession, (options) => client.session.get({ sessionID: session }, options)).pipe(
      Effect.map(Wire.toSession),
      orNotFound(session)
    )

  return {
    create: ({ agent, metadata, parent, permission, title }) =>
      ask("create a session", Wire.WireSession, (options) =>
        client.session.create({
          title,
          ...(parent === undefined ? {} : { parentID: parent }),
          ...(agent === undefined ? {} : { agent }),
          ...(permission === undefined ? {} : { permission: [...permission] }),
          ...(metadata === undefined ? {} : { metadata: { ...metadata } })
        }, options)).pipe(Effect.map(Wire.toSession)),
    get,
    children: (session) =>
      ask(
        "list child sessions",
        Schema.Array(Wire.WireSession),
        (options) => client.session.children({ sessionID: session }, options)
      ).pipe(Effect.map((all) => all.map(Wire.toSession)), orNotFound(session)),
    sessions: ask(
      "list sessions",
      Schema.Array(Wire.WireSession),
      (options) => client.session.list({ limit: sessionsListed }, options)
    ).pipe(Effect.map((all) => all.map(Wire.toSession))),
    prompt: ({ agent, id, metadata, model, noReply, session, synthetic, text }) =>
      ask("prompt a session", Schema.Unknown, (options) =>
        client.session.promptAsync({
          sessionID: session,
          messageID: id,
          ...(agent === undefined ? {} : { agent }),
          ...(model === undefined ? {} : { model: { providerID: model.provider, modelID: model.model } }),
          ...(noReply === undefined ? {} : { noReply }),
          parts: [{
            // Sent again under the same ids, the message stays as it is; without a part id its text would double.
            id: id.replace(/^msg_/, "prt_"),
            type: "text",
            text,
            ...(synthetic === undefined ? {} : { synthetic }),
            ...(metadata === undefined ? {} : { metadata: { ...metadata } })
          }]
        }, options)).pipe(Effect.asVoid, orNotFound(session)),
    messages: (session, limit) => newestSpoken(session, limit, limit).pipe(orNotFound(session)),
    todos: (session) =>
      ask(
        "read a list of things to do",
        Schema.Array(HostTodo),
        (options) => client.session.todo({ sessionID: session }, options)
      ).pipe(orNotFound(session)),
    compact: Effect.fnUntraced(function*(session, model) {
      const by = model ?? (yield* get(session)).model
      yield* ask("shorten a conversation", Schema.Unknown, (options) =>
        client.session.summarize({
          sessionID: session,
          ...(by === undefined ? {} : { providerID: by.provider, modelID: by.model })
        }, options), summaryTimeout).pipe(orNotFound(session))
    }),
    hasMessage: (session, message) =>
      ask(
        "look for a message",
        Wire.WireMessage,
        (options) => client.session.message({ sessionID: session, messageID: message }, options)
      ).pipe(Effect.as(true), orElse404(false)),
    statuses: ask("read session states", Wire.WireStatuses, (options) => client.session.status({}, options)).pipe(
      Effect.map(Wire.toStatuses)
    ),
    abort: (session) =>
      ask("abort a session", Schema.Unknown, (options) => client.session.abort({ sessionID: session }, options)).pipe(
        Effect.asVoid,
        orElse404<void>(undefined)
      ),
    delete: (session) =>
      ask("delete a session", Schema.Unknown, (options) => client.session.delete({ sessionID: session }, options)).pipe(
        Effect.asVoid,
        orElse404<void>(undefined)
      ),
    events,
    agents: ask("list agents", Wire.WireAgents, (options) => client.app.agents({}, options)).pipe(
      Effect.map(Wire.toAgents)
    ),
    models: ask("list models", Wire.WireProviders, (options) => client.config.providers({}, options)).pipe(
      Effect.map(({ providers }) =>
        providers.flatMap(({ id, models }) => Object.keys(models).map((model) => ({ provider: id, model })))
      )
    ),
    replyPermission: (id, reply) =>
      ask(
        "answer a permission request",
        Schema.Unknown,
        (options) => client.permission.reply({ requestID: id, reply }, options)
      ).pipe(Effect.asVoid),
    replyQuestion: (id, answers) =>
      ask("answer a question", Schema.Unknown, (options) =>
        answers === undefined
          ? client.question.reject({ requestID: id }, options)
          : client.question.reply({ requestID: id, answers: answers.map((labels) => [...labels]) }, options)).pipe(
          Effect.asVoid
        )
  }
}

const sessionsListed = 1_000

/** Events that wait for a reader; beyond that the oldest are dropped, and the poll finds what they told. */
export const eventBuffer = 10_000

export const connect = ({ directory, password, url, username = "opencode" }: Wire.ServerOptions): OpencodeClient =>
  createOpencodeClient({
    baseUrl: url,
    directory,
    ...(password === undefined ? {} : {
      headers: { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}` }
    })
  })

/** A server reached over HTTP. Subscribed to its events when built; reconnects by itself. */
export const layer = (options: Wire.ServerOptions): Layer.Layer<SessionClient> => layerOf(connect(options))

/** The same, over a client that knows how to reach it. */
export const layerOf = (client: OpencodeClient): Layer.Layer<SessionClient> =>
  Layer.effect(
    SessionClient,
    Effect.gen(function*() {
      const hub = yield* PubSub.sliding<HostEvent>(eventBuffer)
      const read = Wire.makeEventReader(() => performance.now())
      yield* listen(client, (raw) =>
        Effect.suspend(() => {
          const event = read(raw)
          return event === undefined ? Effect.void : PubSub.publish(hub, event)
        }))
      return make(client, Stream.fromPubSub(hub))
    })
  )

/** The host's first event comes with the connection; one that has just been started may never answer a request. */
const connectLimit = "10 seconds"

/** Hears everything that the host tells from now on, through breaks of the connection. Returns when it is connected, or after 5 s. */
export const listen = Effect.fnUntraced(function*<R>(
  client: OpencodeClient,
  heard: (raw: unknown) => Effect.Effect<unknown, never, R>
) {
  const connected = yield* Deferred.make<void>()
  const once = Effect.gen(function*() {
    const first = yield* Deferred.make<void>()
    const signal = yield* Effect.abortSignal
    const subscribed = Effect.promise(() => client.event.subscribe({}, { signal, sseMaxRetryAttempts: 1 }))
    const events = Stream.unwrap(
      Effect.map(subscribed, ({ stream }) =>
        Stream.fromAsyncIterable<unknown, HostUnavailable>(
          stream,
          (cause) => new HostUnavailable({ operation: "listen to events", detail: detail(cause) })
        ))
    )
    const reading = events.pipe(
      Stream.runForEach((raw) =>
        Effect.andThen(
          Effect.andThen(Deferred.succeed(first, undefined), Deferred.succeed(connected, undefined)),
          heard(raw)
        )
      )
    )
    const deadline = Effect.andThen(Effect.timeout(Deferred.await(first), connectLimit), Effect.never)
    yield* Effect.raceFirst(reading, deadline)
  }).pipe(
    Effect.scoped,
    Effect.catchCause((cause) => Effect.logDebug("the event stream broke", cause)),
    Effect.repeat(Schedule.spaced("500 millis"))
  )
  yield* Effect.forkScoped(once)
  yield* Effect.timeoutOption(Deferred.await(connected), "5 seconds")
})

const detail = (error: unknown): string => {
  if (error instanceof Error) return error.message
  const decoded = Schema.decodeUnknownOption(ErrorBody)(error)
  if (decoded._tag === "None") return typeof error === "string" && error !== "" ? error : "no reason given"
  return decoded.value.data?.message ?? decoded.value.message ?? decoded.value.name ?? "no reason given"
}

const ErrorBody = Schema.Struct({
  name: Schema.optionalKey(Schema.String),
  message: Schema.optionalKey(Schema.String),
  data: Schema.optionalKey(Schema.Struct({ message: Schema.optionalKey(Schema.String) }))
})
