/** `report`: a mission from its goal to its end, as a page, as Markdown, or as data. */
import { Clock, Console, Effect, FileSystem, Option, Path, Stream } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { maskReport, toJson, toMarkdown } from "../../src/domain/Report.ts"
import { toHtml } from "../../src/domain/ReportPage.ts"
import { makeMask, secretsOf } from "../../src/domain/Secrets.ts"
import { messageText, type SessionId } from "../../src/domain/Session.ts"
import { make as makeSessionClient } from "../opencode-sdk/OpencodeSessionClient.ts"
import { usage } from "./exit.ts"
import { reach } from "./hosts.ts"
import { whyUnusable } from "./options.ts"
import { dirFlag, failed, findGroup, layerProject, openProject } from "./project.ts"

const formats = ["html", "markdown", "json"] as const
const endings = { html: "html", markdown: "md", json: "json" } as const

export const report = Command.make(
  "report",
  {
    mission: Argument.String("mission").pipe(
      Argument.withDescription("A mission by its session (ses_…); default: the newest one"),
      Argument.optional
    ),
    format: Flag.Literals("format", formats).pipe(Flag.withDescription("Default: html"), Flag.withDefault("html")),
    out: Flag.String("out").pipe(
      Flag.withMetavar("file"),
      Flag.withDescription("Where to write it, - for the terminal (default: .opencode/orchestrator/reports/)"),
      Flag.optional
    ),
    url: Flag.String("url").pipe(
      Flag.withDescription("The running OpenCode server, to ask for the Commander's last words"),
      Flag.optional
    ),
    directory: dirFlag
  },
  Effect.fn("report")(function*({ format, mission, out, url }) {
    const path = yield* Path.Path
    if (Option.contains(out, "")) return yield* usage("--out is empty: name a file, or - for the terminal.")
    const project = yield* openProject
    const group = yield* findGroup(project, mission)
    const told = maskReport({
      ...group,
      limits: project.limits(group.mission),
      now: yield* Clock.currentTimeMillis,
      answer: Option.isNone(url) ? undefined : yield* lastAnswer(url.value, project.root, group.root)
    }, makeMask(secretsOf(process.env)))
    const text = format === "html" ? toHtml(told) : format === "json" ? toJson(told) : toMarkdown(told, "whole")
    if (Option.contains(out, "-")) return yield* Console.log(text)
    // A session's id comes from the records, and must not become a path.
    const name = `${group.root.replace(/\W/g, "_").slice(0, 100)}.${endings[format]}`
    const file = Option.isSome(out)
      ? path.resolve(out.value)
      : path.join(project.root, ".opencode", "orchestrator", "reports", name)
    yield* write(file, `${text}\n`).pipe(
      Effect.mapError((error) => failed(`The report cannot be written: ${file} ${whyUnusable(error)}.`))
    )
    yield* Console.log(file)
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription(
    "Writes a report of a mission: timeline, tasks with their results, failures, tokens and cost"
  ),
  Command.withExamples([
    { command: "opencode-orchestrator report", description: "The newest mission as a page; prints where it is" },
    { command: "opencode-orchestrator report --format markdown --out -", description: "To the terminal" }
  ])
)

/** Whole or not at all. */
const write = Effect.fnUntraced(function*(file: string, text: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const fresh = `${file}.${process.pid}.new`
  yield* fs.makeDirectory(path.dirname(file), { recursive: true })
  yield* fs.writeFileString(fresh, text, { flag: "wx" }).pipe( // never through a link that was put there
    Effect.andThen(fs.rename(fresh, file)),
    Effect.onError(() => Effect.ignore(fs.remove(fresh, { force: true })))
  )
})

/** What the Commander said last, as the host has it. */
const lastAnswer = Effect.fnUntraced(function*(url: string, directory: string, root: SessionId) {
  const sessions = makeSessionClient((yield* reach(url, directory)).client, Stream.empty)
  const messages = yield* sessions.messages(root, messagesRead).pipe(
    Effect.mapError(({ message }) => failed(`OpenCode does not tell what was said last: ${message}`))
  )
  const spoken = messages.findLast((message) => message.role === "assistant" && messageText(message) !== "")
  return spoken === undefined ? undefined : messageText(spoken)
})

/** The newest ones may be calls of tools alone. */
const messagesRead = 20
