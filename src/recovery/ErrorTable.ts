/**
 * What goes wrong with turns: how it is recognised, what is done about it, and what people read. The only place that
 * looks at a provider's words. Data and pure functions; nothing in it goes on without end, for each remedy is counted.
 */
import { Duration } from "effect"
import type { ConfigValues } from "../Config.ts"
import { formatModel, type ModelRef, type Tries, type TurnError } from "../domain/Session.ts"
import { formatDuration } from "../domain/Task.ts"

export type Kind =
  | "rate limit"
  | "quota"
  | "overload"
  | "network"
  | "context overflow"
  | "provider auth"
  | "content filter"
  | "missing session"
  | "host gone"
  | "tool failure"
  | "unparsable output"
  | "degenerate output"
  | "aborted"
  | "unknown"

/** What can be done, from the mildest on. Each is an attempt of its own, and counts as one. */
type Remedy = "wait" | "switch" | "compact" | "ask again"

interface Row {
  readonly kind: Kind
  /** Names of the host's errors that mean it, whatever else they say. */
  readonly names: ReadonlyArray<string>
  /** HTTP statuses that mean it, unless the words say that another row is meant. */
  readonly statuses: (status: number) => boolean
  /** Words of providers, real ones: `test/recovery/ErrorTable.test.ts` names their origins. */
  readonly words?: RegExp
  /** Rows that the status means, and these words overrule. */
  readonly insteadOf: ReadonlyArray<Kind>
  /** In the order in which they are tried. */
  readonly remedies: ReadonlyArray<Remedy>
  /** How often one model is waited for before the next one is tried. */
  readonly patience: number
  /** What happened, as a sentence for people. */
  readonly says: string
  /** What to do about it, when all that is done here was in vain. */
  readonly advice?: string
}

const no = () => false

/** Tried from the top where neither name nor status tell. */
export const errorTable: ReadonlyArray<Row> = [
  {
    kind: "aborted",
    names: ["MessageAbortedError"],
    statuses: no,
    insteadOf: [],
    remedies: [],
    patience: 0,
    says: "Its session was aborted."
  },
  {
    kind: "missing session",
    names: ["SessionNotFound", "NotFoundError"],
    statuses: no,
    words: /\bsession not found\b/i,
    insteadOf: [],
    remedies: [],
    patience: 0,
    says: "Its session was deleted."
  },
  {
    kind: "host gone",
    names: ["HostUnavailable"],
    statuses: no,
    insteadOf: [],
    remedies: ["wait"],
    patience: 0,
    says: "The host does not answer."
  },
  {
    kind: "rate limit",
    names: [],
    statuses: (status) => status === 429,
    words:
      /rate[ _-]?limit|rate increased too quickly|too many (?:concurrent )?requests|too_many_requests|too many tokens, please wait|throttl|slow down|(?:requests|tokens) per (?:second|minute|min|hour|day)\b|\b(?:TPM|RPM|TPD|RPD)\b|(?:please )?(?:retry|try again) in \d/i,
    insteadOf: ["overload", "provider auth"],
    remedies: ["switch", "wait"],
    patience: 0,
    says: "The provider limits requests."
  },
  {
    kind: "quota",
    names: [],
    statuses: (status) => status === 402,
    words:
      /insufficient[ _](?:quota|credits?|balance|funds)|exceeded your current quota|quota exceeded|check your plan and billing|credit balance is too low|requires more credits|(?:reached|exceeded) your (?:\w+ )*(?:usage|spend(?:ing)?) limit|usage limit (?:has been )?reached|usage exceeded|payment required|billing (?:hard )?limit|out of credits|arrearage/i,
    insteadOf: ["rate limit", "provider auth", "overload"],
    remedies: ["switch"],
    patience: 0,
    says: "The provider's quota is used up.",
    advice: "top up the account, or set another model"
  },
  {
    kind: "context overflow",
    names: ["ContextOverflowError"],
    statuses: (status) => status === 413,
    words:
      /prompt is too long|input is too long|context[ _]length[ _]exceeded|maximum context length|exceeds? (?:the |its )?(?:available |model'?s )?context (?:window|size|length)|context window exceeds|input token count.*exceeds|maximum prompt length|maximum allowed input length|longer than the model'?s context|greater than the context length|context length of only \d|reduce the length of the messages|too large for model with/i,
    insteadOf: ["overload"],
    remedies: ["compact", "switch"],
    patience: 0,
    says: "The conversation is longer than the model can read.",
    advice: "split the work into smaller tasks, or set a model that reads more"
  },
  {
    kind: "content filter",
    names: ["ContentFilterError"],
    statuses: no,
    words:
      /content[ _](?:filter|management policy|policy violation)|flagged as potentially violating|prohibited_content|blocked by (?:the )?(?:safety|content)|violat\w+ (?:our|the) (?:usage|content) polic|responsible ai polic|output blocked by/i,
    insteadOf: ["provider auth"],
    remedies: [],
    patience: 0,
    says: "The provider's content filter refused it.",
    advice: "put the task in other words"
  },
  {
    kind: "provider auth",
    names: ["ProviderAuthError"],
    statuses: (status) => status === 401 || status === 403,
    words:
      /(?:invalid|incorrect|missing|expired|no) (?:x-)?(?:api[ -]?key|token|credentials?)|api key not valid|authentication[ _]?(?:error|failed)|unauthori[sz]ed|permission[ _]denied|access ?denied|security token included in the request|(?:unable to|could not) load (?:aws )?(?:the )?credentials|no auth credentials/i,
    insteadOf: [],
    remedies: ["switch"],
    patience: 0,
    says: "The provider refuses the credentials.",
    advice: "log in to the provider again, or set another model"
  },
  {
    kind: "unparsable output",
    names: ["StructuredOutputError", "MessageOutputLengthError"],
    statuses: no,
    words: /JSON parsing failed|invalid JSON response|type validation failed|no object generated|JSONParseError/i,
    insteadOf: [],
    remedies: ["ask again"],
    patience: 0,
    says: "Its answer could not be read."
  },
  {
    kind: "tool failure",
    names: [],
    statuses: no,
    words:
      /tool(?: call| execution|_use)? (?:failed|error)|ToolExecutionError|InvalidToolInput|NoSuchTool|invalid (?:input|arguments) for tool|tool_use_failed|malformed function call/i,
    insteadOf: [],
    remedies: ["ask again"],
    patience: 0,
    says: "A tool call of it failed."
  },
  {
    kind: "overload",
    names: [],
    statuses: (status) => status >= 500,
    words:
      /overloaded|(?:currently|temporarily) (?:unavailable|at capacity)|service[ _]?unavailable|high (?:demand|load)|capacity|internal (?:server )?error|server[ _]error|server had an error|bad gateway|gateway time-?out|provider returned error|resource[ _]exhausted|loading model|model is not ready|try again later/i,
    insteadOf: [],
    remedies: ["switch", "wait"],
    patience: 1,
    says: "The provider is overloaded."
  },
  {
    kind: "network",
    names: [],
    statuses: (status) => status === 408,
    words:
      /cannot connect to api|unable to connect|fetch failed|failed to fetch|network[ _-]?error|connection (?:error|refused|lost|reset|closed)|socket (?:hang up|connection was closed)|econnre(?:fused|set)|enotfound|eai_again|etimedout|epipe|getaddrinfo|timed? ?out|^terminated$/i,
    insteadOf: [],
    remedies: ["wait", "switch"],
    patience: 2,
    says: "The provider cannot be reached."
  },
  {
    kind: "degenerate output",
    names: [],
    statuses: no,
    insteadOf: [],
    remedies: ["ask again"],
    patience: 0,
    says: "Its answer is one passage over and over, or no text at all."
  },
  { kind: "unknown", names: [], statuses: no, insteadOf: [], remedies: [], patience: 0, says: "Its turn failed." }
]

const rowOf = (kind: Kind): Row => errorTable.find((row) => row.kind === kind) as Row // every kind has its row: a test says so

/** A provider may answer with a whole page; it says early what it means. */
const wordsRead = 4_000

/** By the error's name, then its status, and only then the provider's words. */
export const classify = (error: TurnError): Kind => {
  const named = errorTable.find(({ names }) => names.includes(error.name))
  if (named !== undefined) return named.kind
  const { status } = error
  const words = error.message.slice(0, wordsRead)
  const meant = status === undefined ? undefined : errorTable.find((row) => row.statuses(status))
  if (meant?.words?.test(words) === true) return meant.kind
  const said = errorTable.find((row) =>
    row.words?.test(words) === true && (meant === undefined || row.insteadOf.includes(meant.kind))
  )
  return (said ?? meant)?.kind ?? (error.retryable === true ? "overload" : "unknown")
}

export type Action =
  /** Wait so long, then tell the session to go on. */
  | { readonly type: "wait"; readonly ms: number }
  /** Tell it to go on, with this model from now on. */
  | { readonly type: "switch"; readonly model: ModelRef }
  /** Have the host shorten the conversation, then tell it to go on. */
  | { readonly type: "compact" }
  /** Tell it to answer again. */
  | { readonly type: "ask again" }
  /** Somebody has to look at what it has done: the Inspector. */
  | { readonly type: "inspect" }
  | { readonly type: "give up" }

/** What decisions depend on beside the error. */
export interface Means {
  readonly budget: ConfigValues["retries"]
  /** All fallback models that the host has, in order. */
  readonly models: ReadonlyArray<ModelRef>
  /** The provider's own delay, ms. */
  readonly retryAfter?: number | undefined
  /** False: it has been waited for long enough already. */
  readonly mayWait?: boolean
  /** From 0 to 1: spreads waits, so that what failed together does not come back together. */
  readonly random: number
}

/**
 * What is to be done. Every action but `inspect` and `give up` counts in `tries.spent` (see `spend`), and the budget
 * ends it: so at most `budget.count` of them follow each other, whatever fails in between.
 */
export const decide = (kind: Kind, tries: Tries, means: Means): Action => {
  const row = rowOf(kind)
  for (const remedy of tries.spent >= means.budget.count ? [] : row.remedies) {
    const action = available(remedy, row, tries, means)
    if (action !== undefined) return action
  }
  return { type: row.remedies.includes("ask again") ? "inspect" : "give up" }
}

const available = (remedy: Remedy, row: Row, tries: Tries, means: Means): Action | undefined => {
  const model = means.models[tries.models]
  switch (remedy) {
    case "switch":
      // A model that there is no more waiting for leaves none to be patient with.
      return model !== undefined && (tries.waits >= row.patience || means.mayWait === false)
        ? { type: "switch", model }
        : undefined
    case "wait": {
      const isOver = model !== undefined && row.remedies.includes("switch") && tries.waits >= row.patience
      if (isOver || means.mayWait === false) return undefined
      // The host has followed the provider's own delay already, and in vain: so it is the least.
      const ms = Math.max(means.retryAfter ?? 0, backoff(tries.waits, means))
      return tries.waited + ms <= Duration.toMillis(means.budget.time) ? { type: "wait", ms } : undefined
    }
    case "compact":
      return tries.compacted === true ? undefined : { type: "compact" }
    case "ask again":
      return tries.asked === true ? undefined : { type: "ask again" }
  }
}

/** Twice as long each time, up to the longest; of that, anything from the half to the whole. */
const backoff = (waits: number, { budget, random }: Means): number => {
  const whole = Math.min(Duration.toMillis(budget.backoff) * 2 ** waits, Duration.toMillis(budget.longest))
  return Math.ceil(whole / 2 + (whole / 2) * random)
}

/** The tries after an action was taken. */
export const spend = (tries: Tries, action: Action): Tries => {
  if (action.type === "inspect" || action.type === "give up") return tries
  const spent = { ...tries, spent: tries.spent + 1 }
  switch (action.type) {
    case "wait":
      return { ...spent, waits: tries.waits + 1, waited: tries.waited + action.ms }
    case "switch":
      return { ...spent, waits: 0, models: tries.models + 1 }
    case "compact":
      return { ...spent, compacted: true }
    case "ask again":
      return { ...spent, asked: true }
  }
}

/** What people read of it, in one sentence: the provider's own words first, where there are some. */
export const describe = (kind: Kind, error: TurnError, action: Action, tries: Tries): string => {
  const row = rowOf(kind)
  const words = error.message.trim() || (kind === "unknown" ? error.name : row.says.replace(/\.$/, ""))
  switch (action.type) {
    case "wait":
      return `${words}: goes on in ${formatDuration(action.ms)}.`
    case "switch":
      return `${words}: goes on with ${formatModel(action.model)}.`
    case "compact":
      return `${words}: the conversation is shortened.`
    case "ask again":
      return `${words}: it is told to answer again.`
    case "inspect":
      return `${words}${again(tries)}. Have the Inspector look at what it has done before you use it.`
    case "give up": {
      const notes = [...(row.advice === undefined ? [] : [row.advice]), ...(tries.spent > 0 ? [tried(tries)] : [])]
      return notes.length === 0 ? words : `${words} (${notes.join("; ")})`
    }
  }
}

const tried = ({ spent }: Tries) => `it was told to go on ${spent === 1 ? "once" : `${spent} times`}`
const again = ({ asked }: Tries) => asked === true ? ", also after it was told to answer again" : ""

/** What the session is told when it is to go on. */
export const instruction = (kind: Kind): string => {
  switch (kind) {
    case "context overflow":
      return "Your conversation had become too long and was shortened. Go on where you stopped, read in smaller pieces, and end with your result."
    case "unparsable output":
    case "tool failure":
      return "Your last turn could not be used: its answer or a tool call of it was cut off or malformed. Go on in smaller steps, and end with your result."
    case "degenerate output":
      return "Your last answer was one passage over and over, or no readable text. Answer again: say your result once, in plain words."
    default:
      return "Your last turn was cut off by an error of the model's provider. See what is done, go on where you stopped, and end with your result."
  }
}
