/** The host's events that say something to a person. */
import { Schema } from "effect"
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

/** All others are skipped. */
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
