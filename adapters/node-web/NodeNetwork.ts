/**
 * The network over plain sockets, on Node and in Bun. Not over node:http or fetch: in Bun both go through the proxies
 * that the environment names, whatever their options say, and a proxy would connect to where it likes.
 */
import { Effect, Layer, Stream } from "effect"
import * as dns from "node:dns/promises"
import * as net from "node:net"
import { pipeline, Readable, type Transform } from "node:stream"
import * as tls from "node:tls"
import * as zlib from "node:zlib"
import { type Answer, type Exchange, Network, NetworkFailed } from "../../src/host/Network.ts"
import { BadAnswer, type Head, Incoming, readBody, readHead } from "./http1.ts"

export interface NodeNetworkOptions {
  /** Certificates to trust beside the system's, in PEM. */
  readonly ca?: string
  /** Whether the environment names a proxy. It is not used, and who cannot get out without it is told so. */
  readonly hasProxy?: boolean
}

export const layer = (options: NodeNetworkOptions = {}): Layer.Layer<Network> =>
  Layer.succeed(Network, {
    resolve: (name) =>
      Effect.map(
        Effect.mapError(attempt(name, () => dns.lookup(name, { all: true, verbatim: true })), explain(options)),
        (found) => found.map(({ address }) => address)
      ),
    exchange: Effect.fn("NodeNetwork.exchange")(function*(exchange) {
      const socket = yield* Effect.mapError(connect(exchange, options), explain(options))
      const incoming = new Incoming(socket as AsyncIterable<Uint8Array>) // without an encoding, a socket gives bytes
      const head = yield* attempt(exchange.name, () => {
        socket.write(requestText(exchange))
        return readHead(incoming)
      })
      const body = readBody(incoming, head)
      const answer: Answer = {
        ...head,
        body: Stream.unwrap(Effect.map(
          attempt(exchange.name, () => unpack(body, head)),
          (unpacked) => Stream.fromAsyncIterable(unpacked, (error) => failure(exchange.name, error))
        ))
      }
      return answer
    })
  })

const explain = ({ hasProxy }: NodeNetworkOptions) => (error: NetworkFailed): NetworkFailed =>
  hasProxy !== true ? error : new NetworkFailed({
    host: error.host,
    why: `${error.why} (the proxy that the environment names is not used: nobody could check where it connects to)`
  })

const attempt = <A>(host: string, act: () => Promise<A>) =>
  Effect.tryPromise({ try: act, catch: (error) => failure(host, error) })

/** Connected, and for https known to be who it should be. Destroyed with the scope, whatever it is doing. */
const connect = Effect.fnUntraced(function*({ address, name, port, scheme }: Exchange, { ca }: NodeNetworkOptions) {
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => {
      if (scheme === "http") return net.connect({ host: address, port })
      return tls.connect({
        host: address,
        port,
        ...(net.isIP(name) === 0 ? { servername: name } : {}),
        ...(ca === undefined ? {} : { ca: [...tls.rootCertificates, ca] }),
        ALPNProtocols: ["http/1.1"],
        rejectUnauthorized: true
      })
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  socket.on("error", () => undefined) // an error between two reads comes out of the next one
  yield* Effect.callback<void, NetworkFailed>((resume) => {
    socket.once("error", (error) => resume(Effect.fail(failure(name, error))))
    socket.once(scheme === "http" ? "connect" : "secureConnect", () => resume(Effect.void))
  })
  return socket
})

const requestText = ({ headers, name, path, port, scheme }: Exchange): string => {
  const host = name.includes(":") ? `[${name}]` : name
  const isUsual = port === (scheme === "http" ? 80 : 443)
  const lines = Object.entries({ host: isUsual ? host : `${host}:${port}`, ...headers, connection: "close" }).map(
    ([key, value]) => `${key}: ${value}`
  )
  const all = [`GET ${path} HTTP/1.1`, ...lines]
  if (all.some((line) => !/^[\x20-\x7e]*$/.test(line))) {
    throw new BadAnswer({ message: "the request cannot be written" })
  }
  return `${all.join("\r\n")}\r\n\r\n`
}

/** Undoes the content encoding, as it is read: what nobody reads is not unpacked. */
const unpack = async (body: AsyncGenerator<Uint8Array>, { headers }: Head): Promise<AsyncIterable<Uint8Array>> => {
  const encoding = (headers["content-encoding"] ?? "identity").trim().toLowerCase()
  switch (encoding) {
    case "identity":
    case "":
      return body
    case "gzip":
    case "x-gzip":
      return through(body, zlib.createGunzip())
    case "br":
      return through(body, zlib.createBrotliDecompress())
    case "deflate": {
      // Some servers leave out the wrapping that the standard asks for; its first byte tells.
      const first = await body.next()
      if (first.done === true) return body
      const isWrapped = ((first.value[0] ?? 0) & 15) === 8
      return through(prepend(first.value, body), isWrapped ? zlib.createInflate() : zlib.createInflateRaw())
    }
    default:
      throw new BadAnswer({ message: `the answer is packed as "${encoding.slice(0, 50)}", which was not asked for` })
  }
}

async function* prepend(first: Uint8Array, rest: AsyncGenerator<Uint8Array>): AsyncGenerator<Uint8Array> {
  yield first
  yield* rest
}

const through = (body: AsyncGenerator<Uint8Array>, transform: Transform): AsyncIterable<Uint8Array> =>
  pipeline(Readable.from(body, { objectMode: false }), transform, () => undefined) // its errors come out of the reading

/** What went wrong, in words. */
const failure = (host: string, error: unknown): NetworkFailed => {
  const code = error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined
  const why = error instanceof BadAnswer
    ? error.message
    : code === undefined
    ? (error instanceof Error ? error.message : String(error))
    : reasons[code]
      ?? (/^Z_|BROTLI|ERR__ERROR/.test(code) ? "what it sent cannot be unpacked" : certificateReason(code))
  return new NetworkFailed({ host, why })
}

const certificateReason = (code: string) =>
  /CERT|ALTNAME|SELF_SIGNED|UNABLE_TO/.test(code) ? `its certificate is not valid (${code})` : code

const reasons: Readonly<Record<string, string>> = {
  ENOTFOUND: "there is no such name",
  EAI_AGAIN: "the name could not be looked up",
  ENODATA: "the name has no address",
  ECONNREFUSED: "nobody listens there",
  ECONNRESET: "the connection was cut",
  ETIMEDOUT: "nobody answered",
  EHOSTUNREACH: "there is no way to it",
  ENETUNREACH: "there is no way to it"
}
