/** The services that search the web and code, as data: how each is asked, and what it answers. */
import { Option, Schema } from "effect"
import { HttpClientRequest as Request } from "effect/http"

export interface Hit {
  readonly title: string
  readonly url: string
  /** What was found there; may be empty. */
  readonly text: string
}

export interface Question {
  readonly query: string
  readonly count: number
  readonly language?: string | undefined
  /** `owner/name`. */
  readonly repo?: string | undefined
}

export interface Provider {
  /** The environment variable of its key. */
  readonly keyVariable: string | undefined
  readonly needsKey: boolean
  /** The environment variable of its address: it is never read from a project's settings, for the key is sent there. */
  readonly urlVariable: string
  /** Where it is, unless the variable says otherwise; undefined where there is no usual place. */
  readonly url: string | undefined
  /** The least time between two questions, in ms, as its free plan allows. */
  readonly pause: number
  /** `key` is empty where none is set. */
  readonly request: (question: Question, url: string, key: string) => Request.HttpClientRequest
  /** Its JSON answer as hits; none when it has another form. */
  readonly read: (answer: unknown) => Option.Option<ReadonlyArray<Hit>>
}

export const webProviders = ["exa", "brave", "tavily", "searxng"] as const
export const codeProviders = ["grep.app", "github", "sourcegraph"] as const
export type ProviderName = typeof webProviders[number] | typeof codeProviders[number]

const reads = <T, E>(schema: Schema.Codec<T, E>, toHits: (answer: T) => ReadonlyArray<Hit>): Provider["read"] => {
  const decode = Schema.decodeUnknownOption(schema)
  return (answer) => Option.map(decode(answer), toHits)
}

const text = Schema.optional(Schema.NullOr(Schema.String))
const results = <Fields extends Schema.Struct.Fields>(fields: Fields) => Schema.Array(Schema.Struct(fields))
/** A field that grep.app sends bare or as `{raw}`. */
const Raw = Schema.Union([Schema.String, Schema.Struct({ raw: Schema.String })])
const bare = (value: typeof Raw.Type) => (typeof value === "string" ? value : value.raw)

/** Text with marks of HTML around what was found. */
const plain = (html: string) =>
  html.replace(/<\/tr>|<br\s*\/?>/g, "\n").replace(/<[^<>]*>/g, "").replace(/&lt;/g, "<").replace(/&gt;/g, ">")
    .replace(/&quot;/g, "\"").replace(/&#0*39;|&#x27;/g, "'").replace(/&nbsp;/g, " ").replace(/&amp;/g, "&")

const words = (parts: ReadonlyArray<string | undefined>) => parts.filter((part) => part !== undefined).join(" ")

export const providers: Readonly<Record<ProviderName, Provider>> = {
  exa: {
    keyVariable: "EXA_API_KEY",
    needsKey: true,
    urlVariable: "EXA_BASE_URL",
    url: "https://api.exa.ai",
    pause: 200,
    request: ({ count, query }, url, key) =>
      Request.post(`${url}/search`).pipe(
        Request.setHeader("x-api-key", key),
        Request.bodyJsonUnsafe({ query, numResults: count, contents: { text: { maxCharacters: 1_000 } } })
      ),
    read: reads(
      Schema.Struct({ results: results({ title: text, url: Schema.String, text }) }),
      (answer) => answer.results.map((hit) => ({ title: hit.title ?? "", url: hit.url, text: hit.text ?? "" }))
    )
  },
  brave: {
    keyVariable: "BRAVE_API_KEY",
    needsKey: true,
    urlVariable: "BRAVE_BASE_URL",
    url: "https://api.search.brave.com",
    pause: 1_100,
    request: ({ count, query }, url, key) =>
      Request.get(`${url}/res/v1/web/search`).pipe(
        Request.setUrlParams({ q: query, count: Math.min(count, 20) }),
        Request.setHeader("x-subscription-token", key)
      ),
    read: reads(
      Schema.Struct({
        web: Schema.optional(Schema.NullOr(Schema.Struct({
          results: results({ title: Schema.String, url: Schema.String, description: text })
        })))
      }),
      ({ web }) =>
        (web?.results ?? []).map(({ description, title, url }) => ({
          title: plain(title),
          url,
          text: plain(description ?? "")
        }))
    )
  },
  tavily: {
    keyVariable: "TAVILY_API_KEY",
    needsKey: true,
    urlVariable: "TAVILY_BASE_URL",
    url: "https://api.tavily.com",
    pause: 200,
    request: ({ count, query }, url, key) =>
      Request.post(`${url}/search`).pipe(
        Request.bearerToken(key),
        Request.bodyJsonUnsafe({ query, max_results: Math.min(count, 20) })
      ),
    read: reads(
      Schema.Struct({ results: results({ title: text, url: Schema.String, content: text }) }),
      (answer) => answer.results.map((hit) => ({ title: hit.title ?? "", url: hit.url, text: hit.content ?? "" }))
    )
  },
  searxng: {
    keyVariable: undefined,
    needsKey: false,
    urlVariable: "SEARXNG_URL",
    url: undefined,
    pause: 500,
    request: ({ query }, url) => Request.get(`${url}/search`).pipe(Request.setUrlParams({ q: query, format: "json" })),
    read: reads(
      Schema.Struct({ results: results({ title: text, url: Schema.String, content: text }) }),
      (answer) => answer.results.map((hit) => ({ title: hit.title ?? "", url: hit.url, text: hit.content ?? "" }))
    )
  },
  "grep.app": {
    keyVariable: undefined,
    needsKey: false,
    urlVariable: "GREP_APP_BASE_URL",
    url: "https://grep.app",
    pause: 1_000,
    request: ({ language, query, repo }, url) =>
      Request.get(`${url}/api/search`).pipe(Request.setUrlParams({
        q: query,
        ...(language === undefined ? {} : { "f.lang": language }),
        ...(repo === undefined ? {} : { "f.repo": repo })
      })),
    read: reads(
      Schema.Struct({
        hits: Schema.Struct({
          hits: results({
            repo: Raw,
            path: Raw,
            branch: Schema.optional(Raw),
            content: Schema.optional(Schema.Struct({ snippet: text }))
          })
        })
      }),
      ({ hits }) =>
        hits.hits.map((hit) => ({
          title: `${bare(hit.repo)} ${bare(hit.path)}`,
          url: `https://github.com/${bare(hit.repo)}/blob/${bare(hit.branch ?? "HEAD")}/${bare(hit.path)}`,
          text: plain(hit.content?.snippet ?? "")
        }))
    )
  },
  github: {
    keyVariable: "GITHUB_TOKEN",
    needsKey: true,
    urlVariable: "GITHUB_API_URL",
    url: "https://api.github.com",
    pause: 6_500,
    request: ({ count, language, query, repo }, url, key) =>
      Request.get(`${url}/search/code`).pipe(
        Request.setUrlParams({
          q: words([query, language && `language:${language}`, repo && `repo:${repo}`]),
          per_page: Math.min(count, 100)
        }),
        Request.bearerToken(key),
        Request.setHeaders({
          accept: "application/vnd.github.text-match+json",
          "user-agent": "opencode-orchestrator"
        })
      ),
    read: reads(
      Schema.Struct({
        items: results({
          path: Schema.String,
          html_url: Schema.String,
          repository: Schema.Struct({ full_name: Schema.String }),
          text_matches: Schema.optional(results({ fragment: text }))
        })
      }),
      ({ items }) =>
        items.map((item) => ({
          title: `${item.repository.full_name} ${item.path}`,
          url: item.html_url,
          text: (item.text_matches ?? []).map(({ fragment }) => fragment ?? "").join("\n…\n")
        }))
    )
  },
  sourcegraph: {
    keyVariable: "SOURCEGRAPH_TOKEN",
    needsKey: true,
    urlVariable: "SOURCEGRAPH_URL",
    url: "https://sourcegraph.com",
    pause: 1_000,
    request: ({ count, language, query, repo }, url, key) =>
      Request.post(`${url}/.api/graphql`).pipe(
        Request.setHeader("authorization", `token ${key}`),
        Request.bodyJsonUnsafe({
          query: sourcegraphQuery,
          variables: {
            query: words([
              query,
              "type:file",
              `count:${count}`,
              language && `lang:${language}`,
              repo && `repo:${repo.replace(/[.+*?^$()[\]{}|\\]/g, "\\$&")}$`
            ])
          }
        })
      ),
    read: reads(
      Schema.Struct({
        data: Schema.Struct({
          search: Schema.Struct({
            results: Schema.Struct({
              results: results({
                repository: Schema.optional(Schema.Struct({ name: Schema.String })),
                file: Schema.optional(Schema.Struct({ path: Schema.String, canonicalURL: Schema.String })),
                lineMatches: Schema.optional(results({ preview: Schema.String, lineNumber: Schema.Int }))
              })
            })
          })
        })
      }),
      ({ data }) =>
        data.search.results.results.flatMap(({ file, lineMatches, repository }) =>
          file === undefined || repository === undefined ? [] : [{
            title: `${repository.name} ${file.path}`,
            url: file.canonicalURL.startsWith("/") ? `https://sourcegraph.com${file.canonicalURL}` : file.canonicalURL,
            text: (lineMatches ?? []).map(({ lineNumber, preview }) => `${lineNumber + 1}: ${preview}`).join("\n")
          }]
        )
    )
  }
}

const sourcegraphQuery = `query ($query: String!) {
  search(query: $query, version: V3, patternType: standard) {
    results { results { ... on FileMatch { repository { name } file { path canonicalURL } lineMatches { preview lineNumber } } } }
  }
}`
