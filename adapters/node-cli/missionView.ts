/** Shows a mission while it runs, one line an event, and a table of its tasks at the end. */
import type { OpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Clock, Console, Deferred, Effect, Schema, Stream } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { saysComplete } from "../../src/domain/Mission.ts"
import { messageText, ownPrompt, type Session, SessionId, totalTokens } from "../../src/domain/Session.ts"
import { presets } from "../../src/host/Notifier.ts"
import { SessionClient, type SessionError } from "../../src/host/SessionClient.ts"
import { toSession, WireSession } from "../opencode-sdk/wire.ts"
import { readHeadlines } from "./headlines.ts"

/** How a mission ended, in the words of the toast that said so. */
export interface MissionEnd {
  readonly complete: boolean
  readonly words: string
}

export class EventsLost extends Schema.TaggedError<EventsLost>()("EventsLost", { cause: Schema.Defect() }) {
  override get message() {
    return "OpenCode's event stream ended before the mission did."
  }
}

const ToolPart = Schema.Struct({
  type: Schema.Literal("tool"),
  sessionID: SessionId,
  callID: Schema.String,
  tool: Schema.String,
  state: Schema.Struct({
    status: Schema.String,
    input: Schema.optional(Schema.Record(Schema.String, Schema.Unknown)),
    output: Schema.optional(Schema.String),
    error: Schema.optional(Schema.String)
  })
})
type ToolPart = typeof ToolPart.Type

const NoticePart = Schema.Struct({
  type: Schema.Literal("text"),
  sessionID: SessionId,
  text: Schema.String,
  metadata: Schema.Struct({ orchestrator: Schema.Literal(ownPrompt("notice").orchestrator) })
})

const event = <Type extends string, Fields extends Schema.Struct.Fields>(type: Type, properties: Fields) =>
  Schema.Struct({ type: Schema.Literal(type), properties: Schema.Struct(properties) })

/** The events that say something to a person. */
export const ViewEvent = Schema.Union([
  event("server.connected", {}),
  event("session.created", { info: WireSession }),
  event("session.updated", { info: WireSession }),
  event("session.idle", { sessionID: SessionId }),
  event("session.error", {
    sessionID: SessionId,
    error: Schema.Struct({
      name: Schema.String,
      data: Schema.optional(Schema.Struct({ message: Schema.optional(Schema.String) }))
    })
  }),
  event("message.part.updated", { part: Schema.Union([ToolPart, NoticePart]) }),
  event("permission.asked", { id: Schema.String, sessionID: SessionId, permission: Schema.String }),
  event("question.asked", { id: Schema.String, sessionID: SessionId }),
  event("tui.toast.show", {
    title: Schema.optional(Schema.String),
    message: Schema.String,
    variant: Schema.Literals(["info", "success", "warning", "error"])
  })
])
export type ViewEvent = typeof ViewEvent.Type

export const colours = { info: "36", success: "32", warning: "33", error: "31", dim: "2", plain: "0" } as const
export type Tone = keyof typeof colours

/** Characters of a line's text that are shown; longer ones are cut. */
const lineWidth = 110

/** Prints lines with the time since it was made. */
export const makePrinter = Effect.gen(function*() {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const start = yield* Clock.currentTimeMillis
  const paint = (tone: Tone, text: string) => (canColor ? `\u001b[${colours[tone]}m${text}\u001b[0m` : text)
  return Effect.fnUntraced(function*(who: string, text: string, tone: Tone = "plain") {
    const elapsed = `${(((yield* Clock.currentTimeMillis) - start) / 1_000).toFixed(1)} s`.padStart(8)
    yield* Console.log(`${paint("dim", elapsed)}  ${who.padEnd(12)}  ${paint(tone, clip(text))}`)
  })
})
export type Printer = Effect.Success<typeof makePrinter>

/** Every toast that ends a mission, by its title. */
const ends = new Map([
  [presets.missionComplete(0, "").title, true],
  [presets.missionHalted("").title, false],
  [presets.missionOutOfBudget("").title, false],
  [presets.missionStopped().title, false]
])

/** The orchestrator's own word comes at once, unless its toasts are switched off. */
const graceForToasts = "5 seconds"

/**
 * Subscribed when it returns; prints until the scope closes. Permissions and questions, which nobody is there to
 * answer, are refused.
 */
export const watchMission = Effect.fn("watchMission")(function*(options: {
  readonly client: OpencodeClient
  readonly directory: string
  readonly print: Printer
}) {
  const { directory, print } = options
  const sessions = yield* SessionClient
  const connected = yield* Deferred.make<void, EventsLost>()
  const ended = yield* Deferred.make<MissionEnd, EventsLost>()
  const known = new Map<SessionId, Session>()
  const shown = new Set<string>()

  const who = (session: SessionId) => known.get(session)?.agent ?? "OpenCode"
  const isRoot = (session: SessionId) => known.get(session)?.parent === undefined

  const showTool = Effect.fnUntraced(function*({ callID, sessionID, state, tool }: ToolPart) {
    const agent = who(sessionID)
    if (state.status !== "pending" && !shown.has(callID)) {
      shown.add(callID)
      yield* print(agent, `${tool} ${describeInput(state.input ?? {}, directory)}`)
    }
    if (state.status === "error" && !shown.has(`${callID} error`)) {
      shown.add(`${callID} error`)
      yield* print(agent, `${tool} was refused: ${state.error ?? "no reason given"}`, "warning")
    }
  })

  const endLater = (end: Effect.Effect<MissionEnd | undefined, SessionError>) =>
    Effect.sleep(graceForToasts).pipe(
      Effect.andThen(end),
      Effect.tap((end) => (end === undefined ? Effect.void : Deferred.succeed(ended, end))),
      Effect.ignore, // the toast or the time limit ends the mission all the same
      Effect.forkScoped
    )

  /** Where toasts are switched off: the Commander said that it is done, and nobody works any more. */
  const saidComplete = Effect.fnUntraced(function*(root: SessionId) {
    if ((yield* sessions.statuses).size > 0) return undefined
    const [last] = yield* sessions.messages(root, 1)
    return last?.role === "assistant" && last.completed && saysComplete(messageText(last))
      ? { complete: true, words: "The Commander said that it is complete." }
      : undefined
  })

  const show = Effect.fnUntraced(function*(seen: ViewEvent) {
    switch (seen.type) {
      case "server.connected":
        return yield* Deferred.succeed(connected, undefined)
      case "session.created":
      case "session.updated":
        return known.set(seen.properties.info.id, toSession(seen.properties.info))
      case "session.idle":
        return isRoot(seen.properties.sessionID) ? yield* endLater(saidComplete(seen.properties.sessionID)) : undefined
      case "session.error": {
        const { error, sessionID } = seen.properties
        const words = error.data?.message ?? error.name
        yield* print(who(sessionID), `its turn failed: ${words}`, "error")
        if (isRoot(sessionID)) {
          yield* endLater(Effect.succeed({ complete: false, words: `The Commander's turn failed: ${words}` }))
        }
        return
      }
      case "message.part.updated": {
        const { part } = seen.properties
        if (part.type === "tool") return yield* showTool(part)
        return yield* print(who(part.sessionID), `is told: ${part.text.split("\n")[0] ?? ""}`, "info")
      }
      case "permission.asked": {
        const { id, permission, sessionID } = seen.properties
        yield* print(
          who(sessionID),
          `asks for the permission ${permission}; nobody is here, so it is refused`,
          "warning"
        )
        return yield* Effect.ignore(sessions.replyPermission(id, "reject")) // answered by somebody else, then
      }
      case "question.asked": {
        const { id, sessionID } = seen.properties
        yield* print(who(sessionID), "asks a question; nobody is here, so it is refused", "warning")
        return yield* Effect.ignore(sessions.replyQuestion(id, undefined)) // answered by somebody else, then
      }
      case "tui.toast.show": {
        const { message, title = "", variant } = seen.properties
        yield* print("orchestrator", `${title}: ${message}`, variant)
        const complete = ends.get(title)
        if (complete !== undefined) yield* Deferred.succeed(ended, { complete, words: `${title}: ${message}` })
      }
    }
  })

  const signal = yield* Effect.abortSignal
  const { stream } = yield* Effect.tryPromise({
    try: () => options.client.event.subscribe({}, { signal, sseMaxRetryAttempts: 1 }),
    catch: (cause) => new EventsLost({ cause })
  })
  yield* Stream.fromAsyncIterable<unknown, EventsLost>(stream, (cause) => new EventsLost({ cause })).pipe(
    Stream.filterMap(Schema.decodeUnknownResult(ViewEvent)), // the many others are not for people
    Stream.runForEach(show),
    Effect.andThen(new EventsLost({ cause: "the stream was closed" })),
    Effect.catch((error) => Effect.andThen(Deferred.fail(connected, error), Deferred.fail(ended, error))),
    Effect.forkScoped
  )
  yield* Deferred.await(connected)
  return { ended: Deferred.await(ended) }
})

/** The part of a tool's input that tells calls apart. */
export const describeInput = (input: Readonly<Record<string, unknown>>, directory: string): string => {
  const word = (name: string) => (typeof input[name] === "string" ? input[name] : "")
  if (word("agent") !== "") {
    const where = input["background"] === true ? " (in the background)" : ""
    return `to ${word("agent")}: ${word("description") || word("task")}${where}`
  }
  const first = Object.values(input).find((value) => typeof value === "string") ?? ""
  return (word("command") || word("filePath") || first).replace(`${directory}/`, "")
}

/** What the Commander said last, for the person who gave the goal. */
export const lastWords = Effect.fnUntraced(function*(root: SessionId) {
  const sessions = yield* SessionClient
  const last = (yield* sessions.messages(root, 1)).find(({ role }) => role === "assistant")
  return last === undefined ? [] : messageText(last).split("\n").map(printable)
})

/** Model output must not steer the terminal. */
export const printable = (text: string): string => text.replace(/[\s\p{Cc}]+/gu, " ").trimEnd()

export const clip = (text: string): string => {
  const line = printable(text).trim()
  return line.length <= lineWidth ? line : `${line.slice(0, lineWidth - 1)}…`
}

// ---- the table --------------------------------------------------------------------------------------------------

const TableMessages = Schema.Array(Schema.Struct({
  parts: Schema.Array(Schema.Union([
    NoticePart,
    Schema.Struct({ type: Schema.Literal("tool"), state: Schema.Struct({ output: Schema.optional(Schema.String) }) }),
    Schema.Struct({ type: Schema.String })
  ]))
}))

const TaskMetadata = Schema.Struct({ orchestrator: Schema.Struct({ task: Schema.String }) })

/** All tasks of a mission as the host's sessions and messages tell of them, as lines of text. */
export const taskTable = Effect.fn("taskTable")(function*(client: OpencodeClient, root: SessionId) {
  const sessions = yield* SessionClient
  const below = (session: SessionId): Effect.Effect<ReadonlyArray<Session>, SessionError> =>
    Effect.gen(function*() {
      const children = yield* sessions.children(session)
      const all = yield* Effect.forEach(children, (child) => Effect.map(below(child.id), (more) => [child, ...more]))
      return all.flat()
    })
  const children = yield* below(root)
  const told = yield* Effect.forEach(
    [root, ...children.map(({ id }) => id)],
    (sessionID) =>
      Effect.tryPromise(() => client.session.messages({ sessionID })).pipe(
        Effect.flatMap(({ data }) => Schema.decodeUnknownEffect(TableMessages)(data)),
        Effect.map((messages) => messages.flatMap(({ parts }) => parts.map(saidOf)).flatMap(readHeadlines)),
        Effect.orElseSucceed(() => []) // its tasks are shown without their end
      )
  )
  const headlines = new Map(told.flat().map((headline) => [headline.id, headline]))
  const rows = children.flatMap((session) => {
    const metadata = Schema.decodeUnknownOption(TaskMetadata)(session.metadata)
    if (metadata._tag === "None") return []
    const agent = session.agent ?? ""
    const headline = headlines.get(metadata.value.orchestrator.task)
    return [[
      agent,
      clip(withoutAgent(session.title, agent)),
      headline?.state ?? "not ended",
      headline?.duration ?? "",
      String(totalTokens(session.usage))
    ]]
  })
  return { rows, lines: layOut([["Agent", "Task", "State", "Duration", "Tokens"], ...rows]) }
})

/** The agent has a column of its own. */
const withoutAgent = (title: string, agent: string): string =>
  title.endsWith(` (${agent})`) ? title.slice(0, -agent.length - 3) : title

const saidOf = (part: (typeof TableMessages.Type)[number]["parts"][number]): string =>
  "text" in part ? part.text : "state" in part ? (part.state.output ?? "") : ""

/** Columns as wide as their widest cell; the last one, of numbers, to the right. */
export const layOut = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (row: ReadonlyArray<string>) =>
    row.map((cell, column) =>
      column === row.length - 1 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)
    ).join("  ")
  const [head = [], ...body] = rows
  return [line(head), widths.map((width) => "-".repeat(width)).join("  "), ...body.map(line)]
}
