/**
 * Fetches one page as readable text. Whatever a page or its redirects name, nothing is reached but addresses that are
 * public or allowed: every address of a name is checked, and the one that was checked is connected to.
 */
import { Context, Effect, Layer, Option, Schema, type Scope, Stream } from "effect"
import { Config } from "../Config.ts"
import { type Answer, Network, NetworkFailed } from "../host/Network.ts"
import { type BadSelector, PageReader } from "../host/PageReader.ts"
import { type BadUrl, objection, parseAddress, parseException, parseUrl, type WebUrl } from "./Address.ts"

export class AddressRefused extends Schema.TaggedError<AddressRefused>()("AddressRefused", {
  host: Schema.String,
  address: Schema.String,
  why: Schema.String
}) {
  override get message() {
    const at = this.host === this.address ? this.host : `${this.host} is at ${this.address}, which`
    return `${at} is not public (${this.why}) and is not fetched. Use another source; only the user can allow it, in web.allow.`
  }
}

export class TooManyRedirects extends Schema.TaggedError<TooManyRedirects>()("TooManyRedirects", {
  url: Schema.String,
  limit: Schema.Int
}) {
  override get message() {
    return `${this.url} redirects more than ${this.limit} times. Use another address.`
  }
}

export class BadStatus extends Schema.TaggedError<BadStatus>()("BadStatus", {
  url: Schema.String,
  status: Schema.Int
}) {
  override get message() {
    const advice = this.status === 404 || this.status === 410
      ? "There is no such page: check the address, or search for it."
      : this.status === 429 || this.status >= 500
      ? "Try again later, or use another source."
      : "Use another source."
    return `${this.url} answered with status ${this.status}. ${advice}`
  }
}

export class NothingFound extends Schema.TaggedError<NothingFound>()("NothingFound", {
  url: Schema.String,
  selector: Schema.String
}) {
  override get message() {
    return `Nothing on ${this.url} fits the selector "${this.selector}". Fetch it without a selector.`
  }
}

export type FetchFailed =
  | BadUrl
  | AddressRefused
  | TooManyRedirects
  | BadStatus
  | NothingFound
  | BadSelector
  | NetworkFailed

export interface Page {
  /** Where it was in the end. */
  readonly url: string
  /** What it is, in words: "web page", "JSON", "PDF". */
  readonly kind: string
  readonly title: string
  /** What it says; for what is no text, a sentence about it. */
  readonly text: string
  /** Whether `text` is what the site sent, and not a sentence about it. */
  readonly isReadable: boolean
  /** Bytes read. */
  readonly bytes: number
  /** Whether something at the end was left out. */
  readonly isCut: boolean
}

export class Web extends Context.Service<Web, {
  /**
   * Fetches a page, or what a CSS selector fits on it. `approve` is asked before another site (scheme, host and port)
   * than the first one is contacted, with the address that the page redirects to.
   */
  readonly fetch: <E>(
    request: { readonly url: WebUrl; readonly selector: string | undefined },
    approve: (url: WebUrl) => Effect.Effect<void, E>
  ) => Effect.Effect<Page, FetchFailed | E>
}>()("orchestrator/documents/Web") {
  static readonly layer = Layer.effect(
    Web,
    Effect.gen(function*() {
      const { web: config } = yield* Config
      const network = yield* Network
      const reader = yield* PageReader
      const exceptions = config.allow.flatMap((entry) => Option.toArray(parseException(entry)))

      /** The addresses to connect to. One that must not be reached refuses them all: the name is not to be trusted. */
      const addressesOf = Effect.fnUntraced(function*(url: WebUrl) {
        const literal = parseAddress(url.host)
        const found = Option.isSome(literal) ? [url.host] : yield* network.resolve(url.host)
        const checked = yield* Effect.forEach(
          found,
          Effect.fnUntraced(function*(text) {
            const address = parseAddress(text)
            const why = Option.isNone(address)
              ? Option.some("no plain address")
              : objection(url, address.value, exceptions)
            if (Option.isSome(why)) {
              return yield* new AddressRefused({ host: url.host, address: text, why: why.value })
            }
            return text
          })
        )
        // IPv4 first: where IPv6 leads nowhere, finding out takes long. Some of each, for where only one of them leads out.
        const [v4, v6] = [false, true].map((is6) =>
          checked.filter((text) => text.includes(":") === is6).slice(0, attempts)
        )
        return [...v4 ?? [], ...v6 ?? []]
      })

      const ask = Effect.fnUntraced(function*(url: WebUrl) {
        const [first, ...others] = yield* addressesOf(url)
        if (first === undefined) return yield* new NetworkFailed({ host: url.host, why: "the name has no address" })
        const at = (address: string) => network.exchange({ ...url, name: url.host, address, headers: requestHeaders })
        return yield* others.reduce(
          (before: Effect.Effect<Answer, NetworkFailed, Scope.Scope>, address) =>
            before.pipe(
              Effect.timeoutOrElse({
                duration: attemptTime,
                orElse: () => Effect.fail(new NetworkFailed({ host: url.host, why: "nobody answered" }))
              }),
              Effect.catch(() => at(address))
            ),
          at(first)
        )
      })

      const read = Effect.fnUntraced(function*(url: WebUrl, selector: string | undefined, answer: Answer) {
        const type = parseType(answer.headers["content-type"] ?? "")
        const length = Number(answer.headers["content-length"])
        const about = (kind: string, bytes: number): Page => ({
          url: url.href,
          kind,
          title: "",
          text: `This is a ${kind} (${
            Number.isSafeInteger(bytes) && bytes > 0 ? `${bytes} bytes` : "of unknown size"
          }), which cannot be read as text here.`,
          isReadable: false,
          bytes,
          isCut: false
        })
        const announced = kindOf(type.mime)
        if (announced.form === "binary") return about(announced.kind, length)
        const { bytes, isCut } = yield* collect(answer, config.maxBytes)
        const { form, kind } = announced.form === "unknown" ? sniff(bytes) : announced
        if (form === "binary") return about(kind, isCut ? length : bytes.length)
        const text = yield* decode(bytes, type.charset, form === "html")
        if (form !== "html") {
          return { url: url.href, kind, title: "", text, isReadable: true, bytes: bytes.length, isCut }
        }
        const reading = yield* reader.toMarkdown(text, { base: url.href, selector })
        if (reading.found === 0) return yield* new NothingFound({ url: url.href, selector: selector ?? "" })
        return {
          url: url.href,
          kind,
          title: reading.title,
          text: reading.markdown,
          isReadable: true,
          bytes: bytes.length,
          isCut: isCut || reading.isCut
        }
      })

      const decode = Effect.fnUntraced(function*(bytes: Uint8Array, header: string | undefined, isHtml: boolean) {
        const named = byteOrderMark(bytes) ?? header
          ?? (isHtml ? metaCharset(latin1(bytes.subarray(0, 4_096))) : undefined)
        const text = reader.decode(bytes, named ?? "utf-8")
        if (Option.isSome(text)) return text.value
        yield* Effect.logDebug(`the encoding "${named}" is not known here`)
        return Option.getOrElse(reader.decode(bytes, "utf-8"), () => latin1(bytes))
      })

      return Web.of({
        fetch: Effect.fn("Web.fetch")(function*({ selector, url: first }, approve) {
          let url = first
          for (let hop = 0; hop <= config.redirects; hop++) {
            const here = url
            const next = yield* Effect.gen(function*() {
              const answer = yield* ask(here)
              const location = redirects.has(answer.status) ? answer.headers["location"] : undefined
              if (location !== undefined) return yield* Effect.fromResult(parseUrl(location, here.href))
              if (answer.status < 200 || answer.status > 299) {
                return yield* new BadStatus({ url: here.href, status: answer.status })
              }
              return { page: yield* read(here, selector, answer) }
            }).pipe(
              Effect.scoped,
              Effect.timeoutOrElse({
                duration: config.timeout,
                orElse: () => Effect.fail(new NetworkFailed({ host: here.host, why: "it took too long" }))
              })
            )
            if ("page" in next) return next.page
            if (next.origin !== url.origin) yield* approve(next)
            url = next
          }
          return yield* new TooManyRedirects({ url: first.href, limit: config.redirects })
        })
      })
    })
  )
}

/** Addresses of one name and each kind that are tried, and how long each but the last is waited for. */
const attempts = 2
const attemptTime = "5 seconds"

const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

const requestHeaders = {
  accept:
    "text/markdown, text/html;q=0.9, application/xhtml+xml;q=0.9, application/json;q=0.8, text/*;q=0.7, */*;q=0.1",
  "accept-encoding": "gzip, br, deflate",
  "user-agent": "Mozilla/5.0 (compatible; opencode-orchestrator)"
}

/** What was sent, up to a limit: what comes after it is never unpacked. */
const collect = Effect.fnUntraced(function*(answer: Answer, limit: number) {
  const chunks: Array<Uint8Array> = []
  let size = 0
  yield* answer.body.pipe(
    Stream.takeUntil((chunk) => {
      chunks.push(chunk)
      size += chunk.length
      return size > limit
    }),
    Stream.runDrain
  )
  const bytes = new Uint8Array(Math.min(size, limit))
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk.subarray(0, bytes.length - at), at)
    at += Math.min(chunk.length, bytes.length - at)
  }
  return { bytes, isCut: size > limit }
})

const parseType = (header: string) => {
  const [mime = "", ...parameters] = header.toLowerCase().split(";")
  const charset = /^\s*charset\s*=\s*"?(?<name>[\w.:-]{1,40})/.exec(
    parameters.find((parameter) => parameter.trim().startsWith("charset")) ?? ""
  )?.groups?.["name"]
  return { mime: mime.trim(), charset }
}

/** The kind of what selectors work on. */
export const webPage = "web page"

interface Kind {
  readonly form: "html" | "text" | "binary" | "unknown"
  /** In words. */
  readonly kind: string
}

const kindOf = (mime: string): Kind => {
  if (mime === "" || mime === "application/octet-stream" || mime === "binary/octet-stream") {
    return { form: "unknown", kind: "file" }
  }
  if (mime === "text/html" || mime === "application/xhtml+xml") return { form: "html", kind: webPage }
  if (mime === "application/json" || mime.endsWith("+json")) return { form: "text", kind: "JSON" }
  if (mime === "text/markdown" || mime === "text/x-markdown") return { form: "text", kind: "Markdown" }
  if (mime === "application/pdf") return { form: "binary", kind: "PDF" }
  if (mime === "application/xml" || mime.endsWith("+xml") || mime === "text/xml") return { form: "text", kind: "XML" }
  if (mime.startsWith("text/") || /^application\/(x-)?(javascript|ecmascript|yaml|toml|sh|ndjson)$/.test(mime)) {
    return { form: "text", kind: "text" }
  }
  return { form: "binary", kind: `file of type ${mime.slice(0, 100)}` }
}

/** What it is, by its first bytes. */
const sniff = (bytes: Uint8Array): Kind => {
  const start = latin1(bytes.subarray(0, 1_024))
  if (start.startsWith("%PDF-")) return { form: "binary", kind: "PDF" }
  if (byteOrderMark(bytes) === undefined && start.includes("\0")) return { form: "binary", kind: "binary file" }
  return /^\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b/is.test(start)
    ? { form: "html", kind: webPage }
    : { form: "text", kind: "text" }
}

const byteOrderMark = (bytes: Uint8Array): string | undefined => {
  const [first, second, third] = bytes
  if (first === 0xef && second === 0xbb && third === 0xbf) return "utf-8"
  if (first === 0xfe && second === 0xff) return "utf-16be"
  return first === 0xff && second === 0xfe ? "utf-16le" : undefined
}

const metaCharset = (start: string): string | undefined => {
  const name = /<meta\s[^>]{0,500}?charset\s{0,10}=\s{0,10}["']?(?<name>[\w.:-]{1,40})/i.exec(start)?.groups?.["name"]
  // A page that can be read this far is not in UTF-16, whatever it says.
  return name?.toLowerCase().startsWith("utf-16") === true ? "utf-8" : name
}

const latin1 = (bytes: Uint8Array): string => {
  let text = ""
  for (let at = 0; at < bytes.length; at += 8_192) text += String.fromCharCode(...bytes.subarray(at, at + 8_192))
  return text
}
