/** The host's events that say something to a person, and lines for a terminal. */
import { Clock, Console, Effect, Schema } from "effect"
import { TerminalCapabilities } from "effect/cli"
import { SessionId } from "../../src/domain/Session.ts"
import { WireSession } from "../opencode-sdk/wire.ts"

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
  event("message.part.updated", { part: ToolPart }),
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

/** Model output must not steer the terminal. */
export const printable = (text: string): string => text.replace(/[\s\p{Cc}]+/gu, " ").trimEnd()

export const clip = (text: string): string => {
  const line = printable(text).trim()
  return line.length <= lineWidth ? line : `${line.slice(0, lineWidth - 1)}…`
}

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
