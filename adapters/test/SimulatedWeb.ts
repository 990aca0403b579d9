/** The web in memory: names with their addresses, and what stands at which URL. Nothing else can be reached. */
import { Effect, Layer, Option, Stream } from "effect"
import { HttpClient, HttpClientError } from "effect/http"
import { Network, NetworkFailed } from "../../src/host/Network.ts"
import { PageReader } from "../../src/host/PageReader.ts"

export interface SimulatedPage {
  /** 200, unless said. */
  readonly status?: number
  /** By lower-case names; without a `content-type`, a page is HTML. */
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

export interface SimulatedWebOptions {
  /** Addresses by name, asked anew for each look-up, so that they may change. */
  readonly names?: Readonly<Record<string, () => ReadonlyArray<string>>>
  /** Pages by their URL, such as `http://site.test/page`. */
  readonly pages?: Readonly<Record<string, SimulatedPage>>
  /** Hears each connection: the URL, and the address that it was made to. */
  readonly onExchange?: (url: string, address: string) => void
}

/** Search providers are out of reach. Pages are read by taking their tags away. */
export const layer = (options: SimulatedWebOptions = {}): Layer.Layer<Network | PageReader | HttpClient.HttpClient> =>
  Layer.mergeAll(
    Layer.succeed(Network, {
      resolve: (name) =>
        Effect.suspend(() => {
          const addresses = options.names?.[name]?.()
          return addresses === undefined
            ? Effect.fail(new NetworkFailed({ host: name, why: "there is no such name" }))
            : Effect.succeed(addresses)
        }),
      exchange: ({ address, name, path, port, scheme }) =>
        Effect.suspend(() => {
          const usual = scheme === "http" ? 80 : 443
          const url = `${scheme}://${name}${port === usual ? "" : `:${port}`}${path}`
          options.onExchange?.(url, address)
          const page = options.pages?.[url]
          if (page === undefined) return Effect.fail(new NetworkFailed({ host: name, why: "nobody listens there" }))
          const body = typeof page.body === "string" ? new TextEncoder().encode(page.body) : page.body
          return Effect.succeed({
            status: page.status ?? 200,
            headers: { "content-type": "text/html; charset=utf-8", ...page.headers },
            body: body === undefined ? Stream.empty : Stream.make(body)
          })
        })
    }),
    Layer.succeed(PageReader, {
      decode: (bytes, encoding) => encoding === "utf-8" ? Option.some(new TextDecoder().decode(bytes)) : Option.none(),
      toMarkdown: (html) =>
        Effect.succeed({
          title: /<title>([^<]*)/.exec(html)?.[1] ?? "",
          markdown: html.replace(/<title>[^<]*<\/title>|<[^<>]*>/g, "").trim(),
          found: 1,
          isCut: false
        })
    }),
    Layer.succeed(
      HttpClient.HttpClient,
      HttpClient.make((request) =>
        Effect.fail(
          new HttpClientError.HttpClientError({
            reason: new HttpClientError.TransportError({ request, description: "there is no network" })
          })
        )
      )
    )
  )
