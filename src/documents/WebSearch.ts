/** Searches the web and public code with the providers that the user has set up, one after the other until one answers. */
import {
  Clock,
  Config as Environment,
  Context,
  Effect,
  Layer,
  Option,
  Redacted,
  Schema,
  Semaphore,
  Stream
} from "effect"
import { HttpClient, type HttpClientError } from "effect/http"
import { Config } from "../Config.ts"
import { type Hit, type ProviderName, providers, type Question } from "./providers.ts"

/** No provider of the order can be asked. */
export class NotConfigured extends Schema.TaggedError<NotConfigured>()("NotConfigured", {
  tool: Schema.String,
  variables: Schema.Array(Schema.String)
}) {
  override get message() {
    return this.variables.length === 0
      ? `${this.tool} is turned off in the settings. Go on without it.`
      : `${this.tool} has no provider yet. Tell the user to set one of ${
        this.variables.join(", ")
      } in the environment of OpenCode, and go on without it.`
  }
}

/** All providers failed; one sentence for each. */
export class WebSearchFailed extends Schema.TaggedError<WebSearchFailed>()("WebSearchFailed", {
  reasons: Schema.Array(Schema.String)
}) {
  override get message() {
    return `Nothing could be searched. ${this.reasons.join(" ")} Try again later, or go on without it.`
  }
}

export interface Found {
  readonly provider: string
  readonly hits: ReadonlyArray<Hit>
  /** Why those before it in the order did not answer. */
  readonly reasons: ReadonlyArray<string>
}

export class WebSearch extends Context.Service<WebSearch, {
  readonly web: (question: Question) => Effect.Effect<Found, NotConfigured | WebSearchFailed>
  readonly code: (question: Question) => Effect.Effect<Found, NotConfigured | WebSearchFailed>
}>()("orchestrator/documents/WebSearch") {
  static readonly layer = Layer.effect(
    WebSearch,
    Effect.gen(function*() {
      const { web: config } = yield* Config
      const client = yield* HttpClient.HttpClient

      const read = (variable: string) =>
        Environment.option(Environment.Redacted(variable)).pipe(
          Effect.orElseSucceed(() => Option.none<Redacted.Redacted>()),
          Effect.map(Option.filter((value) => Redacted.value(value).trim() !== ""))
        )

      /** A provider with what the environment says of it; none where something is missing. */
      const setUp = Effect.fnUntraced(function*(name: ProviderName) {
        const provider = providers[name]
        const key = provider.keyVariable === undefined ? Option.none() : yield* read(provider.keyVariable)
        const url = Option.match(yield* read(provider.urlVariable), {
          onNone: () => provider.url,
          onSome: (value) => Redacted.value(value).replace(/\/+$/, "")
        })
        if (url === undefined || (provider.needsKey && Option.isNone(key))) return Option.none()
        return Option.some({
          name,
          provider,
          url,
          key: Option.getOrElse(key, () => Redacted.make("")),
          turn: yield* Semaphore.make(1),
          /** No question before this time, epoch ms. */
          openAt: 0
        })
      })
      type Ready = Effect.Success<ReturnType<typeof setUp>> extends Option.Option<infer A> ? A : never

      const ask = Effect.fnUntraced(function*(ready: Ready, question: Question) {
        const { key, name, provider, url } = ready
        const fail = (why: string) => Effect.fail(`${name} ${why}.`)
        const response = yield* ready.turn.withPermit(Effect.gen(function*() {
          const wait = ready.openAt - (yield* Clock.currentTimeMillis)
          if (wait > longestWait) return yield* fail(`asks to be left alone for ${Math.ceil(wait / 1_000)} s`)
          if (wait > 0) yield* Effect.sleep(wait)
          ready.openAt = (yield* Clock.currentTimeMillis) + provider.pause
          const response = yield* client.execute(provider.request(question, url, Redacted.value(key)))
          if (response.status === 429 || response.status === 503) {
            const seconds = Number(response.headers["retry-after"] ?? "")
            const rest = Number.isFinite(seconds) && seconds > 0 ? Math.min(seconds, 3_600) : defaultRest
            ready.openAt = (yield* Clock.currentTimeMillis) + rest * 1_000
          }
          return response
        }))
        if (response.status === 401 || response.status === 403) {
          return yield* fail(
            `refuses the key${provider.keyVariable === undefined ? "" : ` in ${provider.keyVariable}`}`
          )
        }
        if (response.status === 429) return yield* fail("has had too many questions")
        if (response.status < 200 || response.status > 299) {
          return yield* fail(`answered with status ${response.status}`)
        }
        let size = 0
        const body = yield* response.stream.pipe(
          Stream.takeWhile((chunk) => (size += chunk.length) <= answerLimit),
          Stream.decodeText,
          Stream.mkString
        )
        const answer = Schema.decodeOption(Json)(body)
        const hits = Option.flatMap(answer, provider.read)
        return Option.isSome(hits) ? hits.value : yield* fail("answered in a form that is not known here")
      }, (effect, { name }) =>
        effect.pipe(
          Effect.catchTag("HttpClientError", (error: HttpClientError.HttpClientError) =>
            // Its message may hold the address, and that the key.
            Effect.fail(`${name} could not be reached (${error.reason._tag}).`)),
          // What is traced here is nobody else's business.
          Effect.provideService(HttpClient.TracerPropagationEnabled, false),
          Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(`${name} did not answer in time.`) })
        ))

      const search = Effect.fnUntraced(function*(
        tool: string,
        order: ReadonlyArray<ProviderName>,
        all: ReadonlyArray<Ready>,
        question: Question
      ) {
        if (all.length === 0) {
          return yield* new NotConfigured({
            tool,
            variables: order.map((name) => providers[name].keyVariable ?? providers[name].urlVariable)
          })
        }
        const reasons: Array<string> = []
        for (const ready of all) {
          const hits = yield* ask(ready, question).pipe(
            Effect.asSome,
            Effect.catch((reason) => Effect.sync(() => void reasons.push(reason)).pipe(Effect.as(Option.none())))
          )
          if (Option.isSome(hits)) return { provider: ready.name, hits: hits.value.slice(0, question.count), reasons }
        }
        return yield* new WebSearchFailed({ reasons })
      })

      const readyOf = (order: ReadonlyArray<ProviderName>) =>
        Effect.map(Effect.forEach(order, setUp), (all) => all.flatMap(Option.toArray))
      const web = yield* readyOf(config.search)
      const code = yield* readyOf(config.codeSearch)
      return WebSearch.of({
        web: Effect.fn("WebSearch.web")((question) => search("websearch", config.search, web, question)),
        code: Effect.fn("WebSearch.code")((question) => search("codesearch", config.codeSearch, code, question))
      })
    })
  )
}

const Json = Schema.fromJsonString(Schema.Unknown)

/** For one provider, waiting for its turn included. */
const timeout = "25 seconds"

/** A provider that is to be left alone for longer is passed over. In ms. */
const longestWait = 10_000

/** How long a provider is left alone that does not say how long, in s. */
const defaultRest = 30

/** In bytes. */
const answerLimit = 4_000_000
