/** Answers what the agents of one mission ask a person: permissions and questions. Nothing that is asked waits for ever. */
import { Console, Effect, FiberHandle, Option, Schema, Scope, Semaphore, Terminal } from "effect"
import { SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import type { Host } from "./hosts.ts"
import { printable } from "./lines.ts"
import type { Reporter } from "./runLines.ts"

export type Policy = "yes" | "deny" | "ask"

/** How long a person may take to answer on the terminal. */
const patience = "2 minutes"

const PermissionAsk = Schema.Struct({
  id: Schema.String,
  sessionID: SessionId,
  permission: Schema.String,
  patterns: Schema.Array(Schema.String)
})
const QuestionAsk = Schema.Struct({
  id: Schema.String,
  sessionID: SessionId,
  questions: Schema.Array(Schema.Struct({
    question: Schema.String,
    options: Schema.Array(Schema.Struct({ label: Schema.String }))
  }))
})
type Ask =
  | { readonly kind: "permission"; readonly ask: typeof PermissionAsk.Type }
  | { readonly kind: "question"; readonly ask: typeof QuestionAsk.Type }

/** A host that was killed and started again may leave a request without any answer. */
const answerLimit = "10 seconds"

/** Said to the agent, which then goes on: a refusal without words would end its turn. */
const nobody = "Nobody is here to answer. Go on without it, decide as the user would, and say so in the end."

/**
 * `look` answers what is being asked now, below `root`, in the background; what others ask in the same project is theirs
 * to answer.
 */
export const makeAsks = Effect.fnUntraced(function*(options: {
  readonly host: Pick<Host, "client">
  readonly root: SessionId
  readonly policy: Policy
  readonly reporter: Reporter
}) {
  const { host: { client }, policy, reporter, root } = options
  const scope = yield* Effect.scope
  const sessions = yield* SessionClient
  const terminal = yield* Terminal.Terminal
  const oneAtATime = yield* Semaphore.make(1)
  const handled = new Set<string>()
  const roots = new Map<SessionId, SessionId>()

  const rootOf = (session: SessionId): Effect.Effect<SessionId | undefined> =>
    Effect.suspend(() => {
      const known = roots.get(session)
      if (known !== undefined) return Effect.succeed(known)
      return sessions.get(session).pipe(
        Effect.flatMap(({ parent }) => (parent === undefined ? Effect.succeed(session) : rootOf(parent))),
        Effect.tap((found) => Effect.sync(() => void (found !== undefined && roots.set(session, found)))),
        Effect.orElseSucceed(() => undefined) // asked again at the next look
      )
    })

  const list = Effect.gen(function*() {
    const read = <T, E>(schema: Schema.Codec<T, E>, data: unknown) =>
      Option.getOrElse(Schema.decodeUnknownOption(Schema.Array(schema))(data), (): ReadonlyArray<T> => [])
    const permissions = yield* Effect.tryPromise((signal) => client.permission.list({}, { signal }))
    const questions = yield* Effect.tryPromise((signal) => client.question.list({}, { signal }))
    return [
      ...read(PermissionAsk, permissions.data).map((ask): Ask => ({ kind: "permission", ask })),
      ...read(QuestionAsk, questions.data).map((ask): Ask => ({ kind: "question", ask }))
    ]
  }).pipe(Effect.timeout(answerLimit))

  /** A line from the terminal; none when nobody types one in time, or nobody can. */
  const ask = (prompt: string) =>
    oneAtATime.withPermit(
      Console.error(prompt).pipe(
        Effect.andThen(terminal.readLine),
        Effect.map((answer) => answer.trim()),
        Effect.timeoutOption(patience),
        Effect.orElseSucceed(() => Option.none<string>()) // the input has ended
      )
    )

  const permission = Effect.fnUntraced(function*({ id, patterns, permission, sessionID }: typeof PermissionAsk.Type) {
    const what = printable(`${permission} ${patterns.join(", ")}`)
    const answer = policy === "ask" ? yield* ask(`Allow ${what}? [y/N] `) : Option.none<string>()
    const isAllowed = policy === "yes" || Option.exists(answer, (text) => /^y(es)?$/i.test(text))
    yield* Effect.tryPromise((signal) =>
      client.permission.reply({
        requestID: id,
        ...(isAllowed ? { reply: "once" } : { reply: "reject", message: nobody })
      }, { signal })
    ).pipe(Effect.timeout(answerLimit))
    yield* reporter.tell({
      type: "ask",
      kind: "permission",
      session: sessionID,
      what,
      answer: isAllowed ? "allowed" : "denied",
      why: reason(answer)
    })
  })

  const question = Effect.fnUntraced(function*({ id, questions, sessionID }: typeof QuestionAsk.Type) {
    const what = printable(questions.map(({ question }) => question).join(" "))
    const answers: Array<Array<string>> = []
    let given = Option.none<string>()
    for (const { options, question } of questions) {
      const labels = options.map(({ label }) => printable(label))
      if (policy === "ask") given = yield* ask(`${printable(question)} [${labels.join(" / ")}] `)
      const first = policy === "yes" ? options[0]?.label : undefined
      answers.push([Option.getOrElse(given, () => first ?? nobody) || nobody])
    }
    yield* Effect.tryPromise((signal) => client.question.reply({ requestID: id, answers }, { signal })).pipe(
      Effect.timeout(answerLimit)
    )
    const isAnswered = answers.some(([answer]) => answer !== nobody)
    yield* reporter.tell({
      type: "ask",
      kind: "question",
      session: sessionID,
      what,
      answer: isAnswered ? "answered" : "denied",
      why: reason(given)
    })
  })

  const reason = (answer: Option.Option<string>): string =>
    policy === "yes"
      ? "--yes"
      : policy === "deny"
      ? "nobody is here; --yes allows, --ask asks you"
      : Option.isSome(answer)
      ? "your answer"
      : "nobody has answered"

  const look = Effect.gen(function*() {
    for (const asked of yield* list) {
      const { id, sessionID } = asked.ask
      if (handled.has(id) || (yield* rootOf(sessionID)) !== root) continue
      handled.add(id)
      const answering = asked.kind === "permission" ? permission(asked.ask) : question(asked.ask)
      yield* answering.pipe(
        Effect.catch(() => Effect.sync(() => void handled.delete(id))), // it is looked at again
        Effect.forkIn(scope)
      )
    }
  })
  const looking = yield* FiberHandle.make<void>()
  // A host that does not answer is asked again with a later look, and holds up nothing else.
  return { look: Effect.asVoid(FiberHandle.run(looking, Effect.ignore(look), { onlyIfMissing: true })) }
}, (making) => making satisfies Effect.Effect<unknown, never, Scope.Scope | SessionClient | Terminal.Terminal>)
