/** A project on the real OpenCode, with its events as they arrived: what the host tests act on and look at. */
import { NodeServices } from "@effect/platform-node"
import { createOpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Clock, Context, Deferred, Effect, Layer, Queue, Schema, Stream } from "effect"
import { createServer } from "node:http"
import {
  hostVersion,
  makeProject,
  pluginUrl,
  type RealHost,
  shortLived,
  startHost
} from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"

/** The server that a file's tests share. */
export class Server extends Context.Service<Server, RealHost>()("test/Server") {
  static readonly layer = (
    script: Script,
    config: Record<string, unknown> = {},
    options: unknown = {},
    env: Record<string, string> = shortLived
  ) =>
    Layer.effect(Server, startHost({ plugin: [[pluginUrl, options]], config, env })).pipe(
      Layer.provideMerge(ScriptedModel.layer(script)),
      Layer.provideMerge(NodeServices.layer),
      Layer.orDie
    )
}

export interface Seen {
  readonly type: string
  readonly properties: Readonly<Record<string, unknown>>
  /** Arrival, epoch ms. */
  readonly at: number
}

const Raw = Schema.Struct({ type: Schema.String, properties: Schema.Record(Schema.String, Schema.Unknown) })
const UserMessage = Schema.Struct({
  info: Schema.Struct({ role: Schema.Literal("user"), sessionID: Schema.String, agent: Schema.String })
})
const Toast = Schema.Struct({ title: Schema.String, message: Schema.String })

export const isUserMessage = (session: string) => (event: Seen) =>
  event.type === "message.updated" && Schema.is(UserMessage)(event.properties)
  && event.properties.info.sessionID === session

export const isToast = (title: string) => (event: Seen) =>
  event.type === "tui.toast.show" && Schema.is(Toast)(event.properties) && event.properties.title.includes(title)

export const isOf = (type: string, session: string) => (event: Seen) =>
  event.type === type && event.properties["sessionID"] === session

/** Files of a project with settings of its own for the orchestrator. */
export const settings = (text: string): Record<string, string> => {
  const dependencies = { "@opencode-ai/plugin": hostVersion }
  return {
    ".opencode/orchestrator.jsonc": text,
    // Tells the host that its own types are installed here, which takes it many seconds otherwise.
    ".opencode/node_modules/.keep": "",
    ".opencode/package.json": JSON.stringify({ dependencies }),
    ".opencode/package-lock.json": JSON.stringify({ lockfileVersion: 3, packages: { "": { dependencies } } })
  }
}

/** Opens a fresh project in the shared server and listens to it. */
export const openProject = Effect.fnUntraced(function*(files: Record<string, string> = {}) {
  return yield* listen((yield* Server).url, yield* makeProject(files))
})

/** Listens to the server's own project: for tests that leave nothing there which the next one minds. Another takes 0.6 s of CPU. */
export const openShared = Effect.flatMap(Server, ({ directory, url }) => listen(url, directory))

/** Listens to a project in a server. */
export const listen = Effect.fnUntraced(function*(url: string, directory: string) {
  const client = createOpencodeClient({ baseUrl: url, directory })
  const seen: Array<Seen> = []
  const news = yield* Queue.sliding<void>(1)
  const connected = yield* Deferred.make<void>()
  const signal = yield* Effect.abortSignal
  const { stream } = yield* Effect.promise(() => client.event.subscribe({}, { signal }))
  yield* Stream.fromAsyncIterable<unknown, unknown>(stream, (cause) => cause).pipe(
    Stream.runForEach((raw) =>
      Effect.gen(function*() {
        const event = yield* Schema.decodeUnknownEffect(Raw)(raw)
        seen.push({ ...event, at: yield* Clock.currentTimeMillis })
        yield* Deferred.succeed(connected, undefined)
        yield* Queue.offer(news, undefined)
      })
    ),
    Effect.ignore, // the stream breaks when the server stops
    Effect.forkScoped
  )
  yield* Deferred.await(connected)

  /** The first event that fits, of those that have come and those that will. */
  const until = Effect.fnUntraced(function*(fits: (event: Seen) => boolean) {
    while (true) {
      const found = seen.find(fits)
      if (found !== undefined) return found
      yield* Queue.take(news)
    }
  })

  const say = Effect.fnUntraced(function*(text: string, agent = "Commander", session?: string) {
    const create = Effect.promise(() => client.session.create({ title: "A test" }, { throwOnError: true }))
    const id = session ?? (yield* create).data.id
    const prompt = { sessionID: id, agent, parts: [{ type: "text" as const, text }] }
    yield* Effect.promise(() => client.session.promptAsync(prompt, { throwOnError: true }))
    return id
  })

  const children = (session: string) =>
    Effect.promise(async () => (await client.session.children({ sessionID: session })).data ?? [])

  /** All texts of one role in a session, oldest first; tool results count as the assistant's. */
  const texts = (session: string, role: "user" | "assistant") =>
    Effect.promise(async () => {
      const messages = (await client.session.messages({ sessionID: session })).data ?? []
      return messages.filter((message) => message.info.role === role).flatMap((message) =>
        message.parts.flatMap((part) => {
          if (part.type === "text") return [part.text]
          if (part.type !== "tool") return []
          return part.state.status === "completed"
            ? [part.state.output]
            : part.state.status === "error"
            ? [part.state.error]
            : []
        })
      )
    })

  return { client, directory, seen, until, say, children, texts }
})

/** A web server for a test; it notes what it is asked for, and answers with a redirect, or a media type and a body. */
export const serveSite = (
  address: string,
  heard: Array<string>,
  answer: (path: string) => readonly [type: string, body: string] | string
) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const server = createServer((request, response) => {
        heard.push(request.url ?? "")
        const said = answer(request.url ?? "")
        if (typeof said === "string") response.writeHead(302, { location: said }).end()
        else response.writeHead(200, { "content-type": said[0] }).end(said[1])
      })
      server.listen(0, address, () => {
        const at = server.address()
        const port = typeof at === "object" && at !== null ? at.port : 0
        resume(Effect.succeed({ port, close: () => void server.close() }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
