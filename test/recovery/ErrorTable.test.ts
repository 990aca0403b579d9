import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Duration, Schema } from "effect"
import { defaults } from "../../src/Config.ts"
import { type ModelRef, noTries, type TurnError } from "../../src/domain/Session.ts"
import { HostUnavailable, SessionNotFound } from "../../src/host/SessionClient.ts"
import {
  type Action,
  classify,
  decide,
  describe as say,
  errorTable,
  instruction,
  type Kind,
  type Means,
  spend
} from "../../src/recovery/ErrorTable.ts"

const api = (status: number | undefined, message: string): TurnError =>
  status === undefined ? { name: "UnknownError", message } : { name: "APIError", message, status }

/** What providers really say: kind, origin, status, words. */
const phrasings: ReadonlyArray<readonly [Kind, string, number | undefined, string]> = [
  [
    "rate limit",
    "OpenAI",
    429,
    "Rate limit reached for gpt-4o in organization org-abc on tokens per min (TPM): Limit 30000, Used 29500, Requested 1200. Please try again in 1.4s. Visit https://platform.openai.com/account/rate-limits to learn more."
  ],
  [
    "rate limit",
    "Anthropic",
    429,
    "This request would exceed your organization's rate limit of 30,000 input tokens per minute (org: 1234, model: claude-sonnet-4-5)."
  ],
  [
    "rate limit",
    "Google, which calls its rates quotas",
    429,
    "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 10 Please retry in 23.5s."
  ],
  ["rate limit", "Bedrock", 429, "ThrottlingException: Too many tokens, please wait before trying again."],
  ["rate limit", "Bedrock without a status", undefined, "Too many requests, please wait before trying again."],
  ["rate limit", "OpenRouter", 429, "Rate limit exceeded: free-models-per-min."],
  ["rate limit", "OpenRouter, for another", 429, "Provider returned error"],
  [
    "rate limit",
    "Groq",
    429,
    "Rate limit reached for model `llama-3.3-70b` on requests per day (RPD): Limit 1000, Used 1000. Please try again in 1m26.4s."
  ],
  ["rate limit", "Mistral", 429, "Requests rate limit exceeded"],
  ["rate limit", "a gateway that says nothing", 429, ""],
  ["rate limit", "a 503 that is one", 503, "Too many requests, slow down"],
  [
    "quota",
    "OpenAI",
    429,
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
  ],
  [
    "quota",
    "OpenAI in a stream, as the host says it",
    undefined,
    "Quota exceeded. Check your plan and billing details."
  ],
  [
    "quota",
    "Anthropic",
    400,
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."
  ],
  [
    "quota",
    "Anthropic, limit of the account",
    400,
    "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."
  ],
  ["quota", "OpenRouter", 402, "This request requires more credits, or fewer max_tokens."],
  ["quota", "DeepSeek", 402, "Insufficient Balance"],
  ["quota", "OpenRouter, key limit", 403, "Payment required: key limit exceeded"],
  ["overload", "Anthropic", 529, "Overloaded"],
  ["overload", "the host's own words for it", undefined, "Provider is overloaded"],
  ["overload", "OpenAI", 503, "That model is currently overloaded with other requests. You can retry your request."],
  ["overload", "OpenAI, inside", 500, "The server had an error while processing your request. Sorry about that!"],
  ["overload", "Google", 503, "The model is overloaded. Please try again later."],
  ["overload", "Bedrock", 503, "ServiceUnavailableException: Bedrock is unable to process your request."],
  ["overload", "Cloudflare", 502, "Bad Gateway"],
  ["overload", "llama.cpp", 503, "Loading model"],
  ["overload", "an empty 500", 500, ""],
  [
    "network",
    "AI SDK, a local server that is down",
    undefined,
    "Cannot connect to API: connect ECONNREFUSED 127.0.0.1:11434"
  ],
  ["network", "Bun", undefined, "Unable to connect. Is the computer able to access the url?"],
  ["network", "Node", undefined, "fetch failed"],
  ["network", "DNS", undefined, "Cannot connect to API: getaddrinfo ENOTFOUND api.example.com"],
  ["network", "a stream that broke", undefined, "The socket connection was closed unexpectedly."],
  ["network", "a timeout", 408, "Request timed out"],
  [
    "context overflow",
    "OpenAI",
    400,
    "This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens. Please reduce the length of the messages."
  ],
  ["context overflow", "Anthropic", 400, "prompt is too long: 215000 tokens > 200000 maximum"],
  [
    "context overflow",
    "Google",
    400,
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
  ],
  ["context overflow", "Bedrock", 400, "ValidationException: Input is too long for requested model."],
  [
    "context overflow",
    "OpenRouter",
    400,
    "This endpoint's maximum context length is 32768 tokens. However, you requested about 40000 tokens."
  ],
  [
    "context overflow",
    "llama.cpp",
    400,
    "the request exceeds the available context size. try increasing the context size or enable context shift"
  ],
  [
    "context overflow",
    "LM Studio, with a 500",
    500,
    "Trying to keep the first 5000 tokens. However, the model is loaded with context length of only 4096 tokens, which is not enough."
  ],
  ["context overflow", "a proxy", 413, "Request Entity Too Large"],
  [
    "provider auth",
    "OpenAI",
    401,
    "Incorrect API key provided: sk-***. You can find your API key at https://platform.openai.com."
  ],
  ["provider auth", "Anthropic", 401, "invalid x-api-key"],
  ["provider auth", "Google", 400, "API key not valid. Please pass a valid API key."],
  ["provider auth", "Bedrock", 403, "The security token included in the request is expired"],
  [
    "provider auth",
    "Bedrock, a model that is not enabled",
    403,
    "You don't have access to the model with the specified model ID."
  ],
  ["provider auth", "OpenRouter", 401, "No auth credentials found"],
  ["provider auth", "a local server", 401, ""],
  [
    "content filter",
    "Azure",
    400,
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."
  ],
  [
    "content filter",
    "OpenAI",
    400,
    "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
  ],
  ["content filter", "Anthropic", 400, "Output blocked by content filtering policy"],
  [
    "content filter",
    "OpenRouter's moderation",
    403,
    "Your chosen model requires moderation and your input was blocked by content checks"
  ],
  ["unparsable output", "AI SDK", undefined, "JSON parsing failed: Text: {\"a\": . Error message: Unexpected token"],
  ["unparsable output", "AI SDK, a wrong body", 200, "Invalid JSON response"],
  ["tool failure", "Groq", 400, "Failed to call a function: tool_use_failed"],
  ["tool failure", "Google", undefined, "The model ended with MALFORMED_FUNCTION_CALL: malformed function call"],
  ["missing session", "the host", undefined, "Session not found: ses_123"],
  ["unknown", "a wrong request", 400, "messages.1.content: field required"],
  ["unknown", "a model that is not there", 404, "model \"llama9\" not found, try pulling it first"],
  ["unknown", "the host, of an agent", undefined, "Agent not found: \"Baker\"."],
  ["unknown", "nothing at all", undefined, ""]
]

describe("an error of a turn is recognised", () => {
  it.each(phrasings)("as %s, from %s (%s)", (kind, _origin, status, words) => {
    assert.strictEqual(classify(api(status, words)), kind)
  })

  it.each<readonly [Kind, string]>([
    ["aborted", "MessageAbortedError"],
    ["context overflow", "ContextOverflowError"],
    ["provider auth", "ProviderAuthError"],
    ["content filter", "ContentFilterError"],
    ["unparsable output", "StructuredOutputError"],
    ["unparsable output", "MessageOutputLengthError"]
  ])("as %s by its name %s, whatever its words are", (kind, name) => {
    assert.strictEqual(classify({ name, message: "Overloaded: rate limit, invalid api key", status: 429 }), kind)
  })

  it("by what the host itself says of it, where nothing else does", () => {
    assert.strictEqual(classify({ name: "APIError", message: "oh no", retryable: true }), "overload")
    assert.strictEqual(classify({ name: "APIError", message: "oh no", retryable: false }), "unknown")
  })

  it("in a bounded time, whatever page the provider answers with", () => {
    const from = performance.now()
    assert.strictEqual(classify({ name: "APIError", message: "reached your ".repeat(20_000) }), "unknown")
    assert.strictEqual(
      classify({ name: "APIError", message: `Overloaded. ${"reached your ".repeat(20_000)}` }),
      "overload"
    )
    assert.isBelow(performance.now() - from, 3_000)
  })

  it("when it is the port's, by its tag", () => {
    const named = (error: { readonly _tag: string; readonly message: string }) =>
      classify({ name: error._tag, message: error.message })
    assert.strictEqual(named(new HostUnavailable({ operation: "prompt", detail: "timeout" })), "host gone")
    assert.strictEqual(named(new SessionNotFound({ session: "ses_1" })), "missing session")
  })

  it("only as something that has a row", () => {
    for (const [kind] of phrasings) assert.lengthOf(errorTable.filter((row) => row.kind === kind), 1)
    assert.lengthOf([...new Set(errorTable.map(({ kind }) => kind))], errorTable.length)
  })
})

const other: ModelRef = { provider: "openai", model: "gpt" }
const third: ModelRef = { provider: "local", model: "llama" }
const means = (more: Partial<Means> = {}): Means => ({ budget: defaults.retries, models: [], random: 1, ...more })

/** What is done, one after the other, when a kind of error comes back each time. */
const course = (kind: Kind, more: Partial<Means> = {}): ReadonlyArray<Action> => {
  const actions: Array<Action> = []
  let tries = noTries
  while (actions.length < 1_000) {
    const action = decide(kind, tries, means(more))
    actions.push(action)
    if (action.type === "give up" || action.type === "inspect") break
    tries = spend(tries, action)
  }
  return actions
}

const words = (actions: ReadonlyArray<Action>) =>
  actions.map((action) =>
    action.type === "wait" ? action.ms : action.type === "switch" ? action.model.model : action.type
  )

describe("what is done about it", () => {
  it("a limit is waited for, twice as long each time, then given up", () => {
    assert.deepStrictEqual(words(course("rate limit")), [10_000, 20_000, 40_000, 80_000, 160_000, "give up"])
  })

  it("a wait is spread, between its half and its whole", () => {
    assert.deepStrictEqual(words(course("overload", { random: 0 })).slice(0, 3), [5_000, 10_000, 20_000])
  })

  it("a wait is never longer than the longest, unless the provider names it", () => {
    const budget = { ...defaults.retries, count: 8, time: Duration.hours(2) }
    assert.deepStrictEqual(words(course("rate limit", { budget })).slice(5), [300_000, 300_000, 300_000, "give up"])
    assert.deepStrictEqual(words(course("rate limit", { budget, retryAfter: 600_000 })).slice(0, 2), [600_000, 600_000])
  })

  it("a provider that asks for less than that has been heard in vain, by the host", () => {
    assert.deepStrictEqual(words(course("rate limit", { retryAfter: 15_000 })).slice(0, 3), [15_000, 20_000, 40_000])
  })

  it("a provider that asks to wait for longer than may be waited is not waited for", () => {
    assert.deepStrictEqual(words(course("rate limit", { retryAfter: 3 * 3_600_000 })), ["give up"])
    assert.deepStrictEqual(words(course("rate limit", { retryAfter: 9 * 60_000 })), [540_000, 540_000, "give up"])
  })

  it("a limited model gives way to the next at once, and the last is waited for", () => {
    assert.deepStrictEqual(words(course("rate limit", { models: [other, third] })), [
      "gpt",
      "llama",
      10_000,
      20_000,
      40_000,
      "give up"
    ])
  })

  it("an overloaded model is waited for once, one that is out of reach twice, before the next", () => {
    assert.deepStrictEqual(words(course("overload", { models: [other] })).slice(0, 3), [10_000, "gpt", 10_000])
    assert.deepStrictEqual(words(course("network", { models: [other] })).slice(0, 4), [10_000, 20_000, "gpt", 10_000])
  })

  it("where the host has waited for long enough, only another model helps", () => {
    assert.deepStrictEqual(words(course("overload", { models: [other], mayWait: false })), ["gpt", "give up"])
    assert.deepStrictEqual(words(course("rate limit", { mayWait: false })), ["give up"])
  })

  it.each<readonly [Kind, ReadonlyArray<unknown>]>([
    ["quota", ["give up"]],
    ["provider auth", ["give up"]],
    ["content filter", ["give up"]],
    ["missing session", ["give up"]],
    ["aborted", ["give up"]],
    ["unknown", ["give up"]],
    ["context overflow", ["compact", "give up"]],
    ["unparsable output", ["ask again", "inspect"]],
    ["tool failure", ["ask again", "inspect"]],
    ["degenerate output", ["ask again", "inspect"]]
  ])("%s: %j", (kind, expected) => assert.deepStrictEqual(words(course(kind)), expected))

  it("a key that is refused, or used up, may be another model's luck; a filter may not", () => {
    assert.deepStrictEqual(words(course("provider auth", { models: [other] })), ["gpt", "give up"])
    assert.deepStrictEqual(words(course("quota", { models: [other] })), ["gpt", "give up"])
    assert.deepStrictEqual(words(course("content filter", { models: [other] })), ["give up"])
  })

  it("a budget of none tries nothing", () => {
    const budget = { ...defaults.retries, count: 0 }
    for (const { kind } of errorTable) assert.include(["give up", "inspect"], words(course(kind, { budget }))[0])
  })
})

const kind = Schema.Literals(errorTable.map((row) => row.kind))
const budget = Schema.Struct({
  count: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 12 })),
  minutes: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 60 }))
})
const fault = Schema.Struct({
  kind,
  retryAfter: Schema.optionalKey(Schema.Literals([0, 100, 60_000, 3_600_000])),
  mayWait: Schema.Boolean
})

describe("nothing goes on without end", () => {
  it.prop(
    "whatever fails, in whatever order, the budget of tries and of time holds",
    {
      faults: Arbitrary.array(Arbitrary.schema(fault), { minLength: 1, maxLength: 60 }),
      budget,
      models: Schema.Literals([0, 1, 2, 20])
    },
    ({ budget, faults, models }) => {
      const allowed = { ...defaults.retries, count: budget.count, time: Duration.minutes(budget.minutes) }
      const all = Array.from({ length: models }, () => other)
      let tries = noTries
      let taken = 0
      let waited = 0
      // The faults come round and round, for as long as anything is done about them.
      for (let turn = 0;; turn++) {
        const { kind, mayWait, retryAfter } = faults[turn % faults.length] as typeof fault.Type // never empty
        const action = decide(kind, tries, { budget: allowed, models: all, retryAfter, mayWait, random: 0.5 })
        const isLast = action.type === "give up" || action.type === "inspect"
        assert.strictEqual(spend(tries, action) === tries, isLast)
        if (isLast) break
        taken++
        if (action.type === "wait") waited += action.ms
        tries = spend(tries, action)
        assert.strictEqual(tries.spent, taken)
        assert.isAtMost(taken, budget.count)
        assert.isAtMost(waited, budget.minutes * 60_000)
      }
    },
    { arbitrary: { runs: 500, seed: 1 } }
  )
})

describe("what people read", () => {
  const failed: TurnError = { name: "APIError", message: "invalid key", status: 401 }
  it("is the provider's words, and what to do", () => {
    assert.strictEqual(
      say("provider auth", failed, { type: "give up" }, noTries),
      "invalid key (log in to the provider again, or set another model)"
    )
    assert.strictEqual(
      say("overload", { ...failed, message: "Overloaded" }, { type: "give up" }, { ...noTries, spent: 5 }),
      "Overloaded (it was told to go on 5 times)"
    )
    assert.strictEqual(
      say("overload", { ...failed, message: "Overloaded" }, { type: "wait", ms: 20_000 }, noTries),
      "Overloaded: goes on in 20 s."
    )
    assert.strictEqual(
      say("rate limit", { ...failed, message: "" }, { type: "switch", model: other }, noTries),
      "The provider limits requests: goes on with openai/gpt."
    )
    assert.strictEqual(say("unknown", { name: "OddError", message: "" }, { type: "give up" }, noTries), "OddError")
  })

  it("sends those whose work cannot be trusted to the Inspector", () => {
    const said = say("degenerate output", { name: "", message: "" }, { type: "inspect" }, { ...noTries, asked: true })
    assert.include(said, "also after it was told to answer again")
    assert.include(said, "Inspector")
  })

  it("and every kind has words for the child that goes on", () => {
    for (const { kind } of errorTable) assert.match(instruction(kind), /result/)
  })
})
