/** `report`: a mission from its goal to its end, as a page, as Markdown, or as data. */
import { Clock, Console, Effect, FileSystem, Option, Path } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { maskReport, toJson, toMarkdown } from "../../src/domain/Report.ts"
import { toHtml } from "../../src/domain/ReportPage.ts"
import { makeMask, secretsOf } from "../../src/domain/Secrets.ts"
import { ownFolder, replaceFile } from "../../src/OwnFiles.ts"
import { usage } from "./exit.ts"
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
    directory: dirFlag
  },
  Effect.fn("report")(function*({ format, mission, out }) {
    const path = yield* Path.Path
    if (Option.contains(out, "")) return yield* usage("--out is empty: name a file, or - for the terminal.")
    const project = yield* openProject
    const group = yield* findGroup(project, mission)
    const told = maskReport({
      ...group,
      limits: project.limits(group.mission),
      now: yield* Clock.currentTimeMillis
    }, makeMask(secretsOf(process.env)))
    const text = format === "html" ? toHtml(told) : format === "json" ? toJson(told) : toMarkdown(told, "whole")
    if (Option.contains(out, "-")) return yield* Console.log(text)
    // A session's id comes from the records, and must not become a path.
    const name = `${group.root.replace(/\W/g, "_").slice(0, 100)}.${endings[format]}`
    const fs = yield* FileSystem.FileSystem
    const file = Option.isSome(out)
      ? path.resolve(out.value)
      : path.join(project.root, ".opencode", "orchestrator", "reports", name)
    yield* Effect.gen(function*() {
      if (Option.isSome(out)) yield* fs.makeDirectory(path.dirname(file), { recursive: true })
      else yield* ownFolder({ fs, path }, project.root, "orchestrator", "reports")
      yield* replaceFile(fs, file, `${text}\n`, `${file}.${process.pid}.new`)
      yield* Console.log(file)
    }).pipe(Effect.mapError((error) => failed(`The report cannot be written: ${file} ${whyUnusable(error)}.`)))
  }, (view, { directory }) => Effect.provide(view, layerProject(directory)))
).pipe(
  Command.withDescription(
    "Writes a report of a mission: its final answer, timeline, tasks with their results, failures, tokens and cost"
  ),
  Command.withExamples([
    { command: "opencode-orchestrator report", description: "The newest mission as a page; prints where it is" },
    { command: "opencode-orchestrator report --format markdown --out -", description: "To the terminal" }
  ])
)
