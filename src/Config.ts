// @effect-diagnostics schemaNumber:off -- Finite would put its own words before ours; the checks here refuse NaN and infinity
/** Every tunable of the orchestrator: one schema with defaults and units. Its JSON Schema is generated from it. */
import { Context, Duration, Effect, Layer, Option, Result, Schema, SchemaIssue, SchemaTransformation } from "effect"
import { parseException } from "./documents/Address.ts"
import { codeProviders, webProviders } from "./documents/providers.ts"

const field = <T, E>(schema: Schema.Codec<T, E>, value: E, description: string) =>
  schema.annotate({ description }).pipe(Schema.withDecodingDefaultKey(Effect.succeed(value)))

const count = (minimum: number, maximum: number) => {
  const message = `a whole number from ${minimum} to ${maximum}`
  return Schema.Number.annotate({ message }).check(
    Schema.isInt({ message }),
    Schema.isBetween({ minimum, maximum }, { message })
  )
}

const parseTime = (value: number | string): Option.Option<Duration.Duration> =>
  typeof value === "number" ? Option.some(Duration.millis(value)) : Duration.fromInput(value as Duration.Input) // checked by fromInput itself

const amountMessage = "a number above zero"
const amount = Schema.Number.annotate({ message: amountMessage }).check(
  Schema.isFinite({ message: amountMessage }),
  Schema.isGreaterThan(0, { message: amountMessage })
)

const timeMessage = "milliseconds above zero, or a text such as \"3 seconds\" or \"60 minutes\""

const Time = Schema.Union([Schema.Number, Schema.String]).annotate({ message: timeMessage }).check(
  Schema.makeFilter((value) =>
    Option.exists(parseTime(value), (time) => Duration.isFinite(time) && Duration.toMillis(time) > 0) || timeMessage
  )
).pipe(Schema.decodeTo(
  Schema.Duration,
  SchemaTransformation.transform({
    decode: (value: number | string) => Option.getOrThrow(parseTime(value)),
    encode: (time): number | string => Duration.toMillis(time)
  })
))

const Flag = Schema.Boolean.annotate({ message: "true or false" })

const choice = <const Options extends ReadonlyArray<string>>(options: Options) => {
  const message = `one of ${options.map((option) => `"${option}"`).join(", ")}`
  return Schema.Literals(options).annotate({ message })
}

const modelNamesMessage = "a list of models, each written as \"provider/model\""
const modelNames = Schema.Array(
  Schema.String.annotate({ message: modelNamesMessage }).check(
    Schema.isPattern(/^[^/\s]+\/\S+$/, { message: modelNamesMessage })
  )
).annotate({ message: modelNamesMessage })
/** Names from a list, each at most once, in the user's order. */
const order = <const Options extends ReadonlyArray<string>>(options: Options) => {
  const message = `a list of ${options.map((option) => `"${option}"`).join(", ")}, each at most once`
  return Schema.Array(Schema.Literals(options).annotate({ message })).annotate({ message }).check(
    Schema.makeFilter((chosen) => new Set(chosen).size === chosen.length || message)
  )
}

const exceptionsMessage = "a list of names and addresses such as \"localhost:3000\" or \"10.0.0.0/8\""
const exceptions = Schema.Array(Schema.String.annotate({ message: exceptionsMessage })).annotate({
  message: exceptionsMessage
}).check(
  Schema.makeFilter((entries) => entries.every((entry) => Option.isSome(parseException(entry))) || exceptionsMessage)
)

const limit = count(1, 1_000)
const limits = Schema.Record(Schema.String, limit).annotate({ message: "an object of names and whole numbers" })
const group = <Fields extends Schema.Struct.Fields>(fields: Fields) =>
  Schema.Struct(fields).annotate({ message: "an object" })

export const ConfigSchema = group({
  concurrency: field(
    group({
      total: field(limit, 50, "Child sessions that run at once, all together."),
      agent: field(limit, 10, "Child sessions that run at once for each agent that `agents` does not name."),
      agents: field(limits, {}, "Limits by agent, for example {\"Builder\": 4}."),
      models: field(limits, {}, "Limits by model, for example {\"anthropic/claude-sonnet-4-5\": 5}."),
      providers: field(limits, {}, "Limits by provider, for example {\"anthropic\": 8}."),
      growEvery: field(
        Time,
        "15 seconds",
        "When a provider limits requests, half as many sessions of it run at once, and one more each time it was quiet for this long."
      )
    }),
    {},
    "How much runs at once. A task needs room in every limit that applies to it."
  ),
  pollInterval: field(Time, "1 second", "How often the host is asked for the states of all sessions while tasks run."),
  stabilityWait: field(
    Time,
    "3 seconds",
    "How long a child must be idle without a finished turn before it is resumed."
  ),
  startTimeout: field(Time, "60 seconds", "How long the host may take to begin a turn it has accepted."),
  taskTimeLimit: field(Time, "60 minutes", "The longest a task may take, from its slot to its end."),
  stallAfter: field(
    Time,
    "5 minutes",
    "How long a child may show no sign of life before it is looked at; after twice that it is nudged, after three times aborted and resumed."
  ),
  retryLimit: field(Time, "30 minutes", "How long the host may retry a provider's error before the task fails."),
  retries: field(
    group({
      count: field(
        count(0, 100),
        5,
        "How often a task goes on after an error of its provider, once the host has given up on that; on other models included."
      ),
      time: field(Time, "20 minutes", "The longest a task waits for that, all together."),
      backoff: field(
        Time,
        "10 seconds",
        "The first wait where the provider names none; each further one is twice as long."
      ),
      longest: field(Time, "5 minutes", "The longest of these waits.")
    }),
    {},
    "What is done about errors of providers. A task that waits holds no slot."
  ),
  fallbackModels: field(
    modelNames,
    [],
    "Models, each written as \"provider/model\", that a task goes on with, one after the other, when its own is limited, overloaded, out of reach or refuses its key."
  ),
  maxRuns: field(count(1, 10), 2, "Attempts at one task, the first included."),
  maxDepth: field(count(1, 10), 3, "How deep tasks may delegate in turn; 1 means that only the root session may."),
  noticeMaxWait: field(Time, "60 seconds", "How long an ended task may wait for the others before its parent is told."),
  planMaxWait: field(
    Time,
    "30 minutes",
    "How long an ended task of a plan may wait for the rest of the plan before its parent is told."
  ),
  noticeResultChars: field(
    count(200, 1_000_000),
    4_000,
    "A result of up to this many characters is told whole, a longer one by its beginning."
  ),
  noticesPerParent: field(count(1, 10_000), 100, "Results told in one notice; older ones are named in it by id."),
  retention: field(
    group({
      completed: field(Time, "30 minutes", "How long a completed task stays at hand before it is archived."),
      failed: field(Time, "10 minutes", "The same for a task that ended in any other way."),
      sessions: field(Time, "10 minutes", "How long a child session is kept after its end."),
      tasks: field(count(10, 100_000), 1_000, "Tasks kept at hand; the oldest settled ones are archived first."),
      archive: field(Time, "30 days", "How long archived tasks are kept in .opencode/archive/.")
    }),
    {},
    "How long things are kept."
  ),
  journal: field(
    choice(["required", "preferred", "off"]),
    "required",
    "Tasks are recorded on disk. When that fails: required refuses new tasks, preferred goes on in memory. off records nothing."
  ),
  recovery: field(
    choice(["auto", "ask", "off"]),
    "auto",
    "What becomes of tasks that a restart interrupted: auto goes on with them, ask waits for /resume, off leaves them."
  ),
  commands: field(
    group({
      perSession: field(limit, 5, "Background commands of one session that run at once."),
      total: field(limit, 20, "Background commands that run at once, all together."),
      timeLimit: field(Time, "10 minutes", "How long a background command may run when its agent sets no limit."),
      maxTimeLimit: field(Time, "60 minutes", "The longest limit that an agent can set."),
      grace: field(Time, "3 seconds", "How long a command that is stopped may take to end before it is killed."),
      logBytes: field(count(1_000, 1_000_000_000), 10_000_000, "How much of a command's output its log file takes.")
    }),
    {},
    "Commands that agents run in the background."
  ),
  continuations: field(
    count(0, 100),
    5,
    "How often in a row a Commander that stops early is told to go on, without progress in between; then the mission halts."
  ),
  budget: field(
    group({
      time: field(Time, "8 hours", "The longest a mission may be active."),
      tokens: field(amount, 50_000_000, "Tokens of all its sessions together, cached ones included."),
      cost: field(amount, 50, "US dollars, by the host's price list."),
      tasks: field(count(1, 100_000), 500, "Tasks, those of tasks included."),
      turns: field(count(1, 1_000_000), 3_000, "Answers of models, each step with tool calls counted."),
      grace: field(
        Time,
        "2 minutes",
        "How long children have to finish when a limit is reached, and then the Commander to sum up."
      )
    }),
    {},
    "What a mission may use. At 80 % the Commander is told, at 100 % the mission is brought to its end."
  ),
  sharedContextChars: field(
    count(0, 100_000),
    2_000,
    "Characters by which a task is told, at its start, what other agents of its mission have reported; 0 tells nothing."
  ),
  smartContext: field(
    choice(["auto", "off"]),
    "auto",
    "auto: the further the plan is, the less background goes into notices and orders, and the Commander is asked to have .opencode/context.md and summary.md kept. off: all is told as at the beginning."
  ),
  progressSnapshots: field(count(2, 10_000), 100, "Snapshots kept of each mission's progress; the oldest go first."),
  searchTimeLimit: field(Time, "30 seconds", "The longest that one search in files may take."),
  web: field(
    group({
      allow: field(
        exceptions,
        [],
        "What webfetch may reach although it is not public, for example [\"localhost:3000\", \"10.0.0.0/8\"]."
      ),
      timeout: field(Time, "30 seconds", "How long a site may take, at each address that it redirects to."),
      maxBytes: field(count(1_000, 100_000_000), 5_000_000, "Bytes read of an answer, unpacked; the rest is left out."),
      redirects: field(count(0, 20), 5, "Redirects that are followed."),
      answerChars: field(count(1_000, 1_000_000), 40_000, "Characters of a page that an agent is shown at once."),
      search: field(
        order(webProviders),
        webProviders,
        "Where websearch asks, in this order until one answers. Those without their key in the environment are left out."
      ),
      codeSearch: field(order(codeProviders), codeProviders, "The same for codesearch.")
    }),
    {},
    "What the web tools may do. webfetch uses no proxy. Keys of search providers are read from the environment, never from here."
  ),
  documents: field(
    group({
      expiry: field(Time, "24 hours", "How long a document in .opencode/docs/ answers for the web."),
      maxBytes: field(count(10_000, 10_000_000_000), 50_000_000, "Bytes of all documents; the oldest go first."),
      maxFiles: field(count(1, 10_000), 500, "The same for their number.")
    }),
    {},
    "The cache of fetched documents in .opencode/docs/."
  ),
  logLevel: field(
    choice(["debug", "info", "warn", "error", "off"]),
    "info",
    "What is written to .opencode/orchestrator/orchestrator.log: entries of this level and above, or none."
  ),
  commanderByDefault: field(Flag, false, "Makes the Commander the host's default agent."),
  toasts: field(Flag, true, "Shows short messages in the host's user interface.")
}).annotate({ title: "OpenCode Orchestrator" })

export type ConfigValues = typeof ConfigSchema.Type

/** The values in force. */
export class Config extends Context.Service<Config, ConfigValues>()("orchestrator/Config") {
  static readonly layer = (values: ConfigValues) => Layer.succeed(this, values)
}

/**
 * Reads settings from outside. A value that does not fit is left out, so that its default holds, and is named in
 * `problems`: one sentence each, with the path, what is accepted, and what is used instead.
 */
export const readConfig = (
  input: unknown,
  source: string
): { readonly values: ConfigValues; readonly problems: ReadonlyArray<string> } => {
  const problems: Array<string> = []
  let rest: unknown = input
  while (true) {
    const decoded = Schema.decodeUnknownResult(ConfigSchema, { errors: "all", onExcessProperty: "error" })(rest)
    if (Result.isSuccess(decoded)) return { values: decoded.success, problems }
    const issues = SchemaIssue.makeFormatterStandardSchemaV1()(decoded.failure.issue).issues
    for (const issue of issues) {
      const keys = (issue.path ?? []).map((key) => typeof key === "object" ? key.key : key)
      // A list holds as a whole, or not at all.
      const place = keys.findIndex((key) => typeof key === "number")
      const path = keys.slice(0, place < 0 ? keys.length : place).map(String)
      const problem = describeProblem(path, issue.message, source)
      if (!problems.includes(problem)) problems.push(problem) // a value may fail two checks of one field
      rest = path.length === 0 ? {} : without(rest, path)
    }
  }
}

/** What holds where nothing is set. */
export const defaults: ConfigValues = readConfig({}, "the defaults").values

const describeProblem = (path: ReadonlyArray<string>, message: string, source: string): string => {
  if (path.length === 0) return `${source}: expected an object of settings; the defaults are used.`
  return message === "Expected no excess property"
    ? `${source}: there is no setting ${path.join(".")}; it is ignored.`
    : `${source}: ${path.join(".")} must be ${message}; the default is used.`
}

const without = (value: unknown, path: ReadonlyArray<string>): unknown => {
  const [key, ...below] = path
  if (key === undefined || typeof value !== "object" || value === null) return {}
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, inner]): ReadonlyArray<[string, unknown]> => {
      if (name !== key) return [[name, inner]]
      return below.length === 0 ? [] : [[name, without(inner, below)]]
    })
  )
}
