/** `opencode-orchestrator doctor`: finds out why the orchestrator does not work here, and says what to do about it. */
import { Clock, Console, Effect, FileSystem, Layer, Option, Path, Result, Schema, Stream } from "effect"
import { Command, Flag, TerminalCapabilities } from "effect/cli"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { commander, team } from "../../src/agents/team.ts"
import { readTurn } from "../../src/domain/Session.ts"
import { formatDuration, isOpen } from "../../src/domain/Task.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import { readJournal } from "../../src/tasks/TaskJournal.ts"
import * as NodePorts from "../node-process/NodePorts.ts"
import { loadConfig } from "../opencode-plugin/config.ts"
import { make as makeSessionClient } from "../opencode-sdk/OpencodeSessionClient.ts"
import { hostVersion } from "../test/RealHost.ts"
import { Ended, exitCodes } from "./exit.ts"
import { type Host, isLive, namesPlugin, start } from "./hosts.ts"
import { dirFlag, readDirectory, requireWritable } from "./options.ts"
import { packageRoot } from "./packageRoot.ts"
import { findProgram, howToInstall, isAtLeast, oldestHost, type Program, updateHost, versionOf } from "./program.ts"

/** What was looked at, what was seen, and what is to be done about it. */
interface Finding {
  readonly what: string
  readonly state: "good" | "note" | "bad"
  readonly says: string
  readonly todo?: string
}

const good = (what: string, says: string): Finding => ({ what, state: "good", says })
const note = (what: string, says: string, todo: string): Finding => ({ what, state: "note", says, todo })
const bad = (what: string, says: string, todo: string): Finding => ({ what, state: "bad", says, todo })

export const doctor = Command.make(
  "doctor",
  {
    dir: dirFlag,
    modelCheck: Flag.Boolean("model-check").pipe(
      Flag.withDescription("Also have the model answer one short prompt, which costs a few tokens"),
      Flag.withDefault(false)
    )
  },
  Effect.fn("doctor")(function*({ dir, modelCheck }) {
    const findings = yield* Effect.scoped(examine(yield* readDirectory(dir), modelCheck))
    const bads = findings.filter(({ state }) => state === "bad").length
    yield* Console.log(
      bads === 0 ? "\nThe orchestrator works here." : `\n${bads} ${bads === 1 ? "thing is" : "things are"} wrong.`
    )
    if (bads > 0) return yield* new Ended({ exit: exitCodes.failed })
  })
).pipe(
  Command.withDescription(
    "Checks whether the orchestrator works in a project: it starts an OpenCode there for a moment. Exit code 1 when something is wrong."
  ),
  Command.withShortDescription("Finds out why the orchestrator does not work, and what to do"),
  Command.withExamples([
    { command: "opencode-orchestrator doctor", description: "In this project" },
    { command: "opencode-orchestrator doctor --model-check", description: "And ask the model for one word" }
  ])
)

const examine = Effect.fnUntraced(function*(directory: string, modelCheck: boolean) {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const findings: Array<Finding> = []
  const tell = Effect.fnUntraced(function*(...found: ReadonlyArray<Finding>) {
    for (const finding of found) {
      findings.push(finding)
      const [sign, colour] = signs[finding.state]
      yield* Console.log(`${canColor ? `\u001b[${colour}m${sign}\u001b[0m` : sign} ${finding.what}: ${finding.says}`)
      if (finding.todo !== undefined) yield* Console.log(`      ${finding.todo}`)
    }
  })
  yield* tell(nodeFinding(process.versions.node))
  const program = yield* findProgram(directory)
  if (program === undefined) {
    yield* tell(programFinding(program, undefined))
    return findings
  }
  // Without the additions of `run`: what the user's own OpenCode will do is what matters.
  const started = yield* Effect.result(start({ program, directory, env: {}, news: () => Effect.void }))
  // Asking the program itself means starting it once more.
  const version = (Result.isSuccess(started) ? started.success.version : undefined)
    ?? (yield* versionOf(program.file))
  yield* tell(programFinding(program, version))
  if (Result.isFailure(started)) {
    if (version === undefined) return findings
    yield* tell(
      bad(
        "OpenCode starts",
        started.failure.message,
        "Its config is often the reason: \"opencode debug config\" says where."
      )
    )
    return findings
  }
  const host = started.success
  yield* tell(good("OpenCode starts", `in ${host.root}`))
  yield* tell(...(yield* pluginFindings(host, program.file)))
  yield* tell(...(yield* settingFindings(host.root)))
  yield* tell(yield* folderFinding(host.root))
  yield* tell(
    ...(yield* journalFindings.pipe(
      Effect.provide(Layer.provideMerge(Lease.layer, NodePorts.layer(host.root)))
    ))
  )
  yield* tell(
    ...(yield* modelFindings(modelCheck).pipe(
      Effect.provide(
        Layer.mergeAll(Layer.succeed(SessionClient, makeSessionClient(host.client, Stream.empty)), Ids.layer)
      )
    ))
  )
  return findings
})

const signs = { good: ["ok  ", 32], note: ["note", 33], bad: ["BAD ", 31] } as const

// ---- the programs ---------------------------------------------------------------------------------------------------

const oldestNode = [22, 19]
const nodeFinding = (version: string): Finding =>
  isAtLeast(version, oldestNode)
    ? good("Node", version)
    : bad("Node", version, `Install Node ${oldestNode.join(".")} or later: https://nodejs.org`)

const programFinding = (program: Program | undefined, version: string | undefined): Finding => {
  if (program === undefined) {
    return bad("OpenCode", "there is none on the PATH, in the project, or beside this package", howToInstall)
  }
  if (version === undefined) return bad("OpenCode", `${program.file} does not run`, howToInstall)
  const found = `${version} (of ${program.from}: ${program.file})`
  if (!isAtLeast(version, oldestHost)) return bad("OpenCode", found, updateHost)
  return version.split(".")[0] === hostVersion.split(".")[0]
    ? good("OpenCode", found)
    : note("OpenCode", found, `The plugin was made for ${hostVersion}; another major version may not load it.`)
}

// ---- the plugin -----------------------------------------------------------------------------------------------------

const pluginFindings = Effect.fnUntraced(function*(host: Host, binary: string) {
  const { folder } = yield* packageRoot
  const { data: config } = yield* Effect.tryPromise((signal) => host.client.config.get({}, { signal })).pipe(
    Effect.timeout("20 seconds"),
    Effect.orElseSucceed(() => ({ data: {} }))
  )
  const isNamed = namesPlugin(config, folder)
  const live = yield* Effect.orElseSucceed(isLive(host.client), () => false)
  if (!live && !isNamed) {
    return [bad("The plugin", "OpenCode's config does not name it", "Add it: opencode-orchestrator init")]
  }
  if (!live) {
    const why = yield* importError(config, folder, binary)
    return [bad(
      "The plugin",
      `the config names it, and OpenCode has skipped it without a word${why === undefined ? "" : `: ${why}`}`,
      "Install or build it again; its name in the config must lead to a package whose \"./server\" exists."
    )]
  }
  const agents = yield* makeSessionClient(host.client, Stream.empty).agents.pipe(
    Effect.map((all) => new Set(all.map(({ name }) => name))),
    Effect.orElseSucceed(() => new Set<string>())
  )
  const missing = team.filter(({ name }) => !agents.has(name)).map(({ name }) => name)
  return [
    good("The plugin", "is live: OpenCode offers its tools"),
    missing.length === 0
      ? good("The agents", team.map(({ name }) => name).join(", "))
      : bad(
        "The agents",
        `${missing.join(", ")} cannot be used`,
        "The config disables them: look for \"disable\" below \"agent\"."
      )
  ]
})

/** What the host's own runtime says when it imports a plugin that lies on this disk. */
const importError = Effect.fnUntraced(function*(config: unknown, folder: string, binary: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const entries = Option.match(Schema.decodeUnknownOption(PluginNames)(config), {
    onNone: () => [],
    onSome: ({ plugin }) => plugin.map((entry) => (typeof entry === "string" ? entry : entry[0]))
  })
  const entry = entries.find((name) => namesPlugin({ plugin: [name] }, folder) && /^(file:|\/)/.test(name))
  if (entry === undefined) return undefined
  const place = entry.startsWith("file:") ? fileURLToPath(entry) : entry
  const isFile = Option.exists(yield* Effect.option(fs.stat(place)), ({ type }) => type === "File")
  const file = isFile ? place : path.join(place, "dist", "plugin.js")
  if (!(yield* fs.exists(file))) return `there is no ${file}`
  const text = yield* spawner.string(
    ChildProcess.make(binary, ["-e", `import(${JSON.stringify(file)}).catch((error) => console.log(String(error)))`], {
      extendEnv: true,
      env: { BUN_BE_BUN: "1" }
    })
  ).pipe(Effect.timeout("20 seconds"), Effect.orElseSucceed(() => ""))
  return text.trim().split("\n")[0] || undefined
}, (finding) => Effect.orElseSucceed(finding, () => undefined))

const PluginNames = Schema.Struct({
  plugin: Schema.Array(
    Schema.Union([Schema.String, Schema.TupleWithRest(Schema.Tuple([Schema.String]), [Schema.Unknown])])
  )
})

// ---- the project ----------------------------------------------------------------------------------------------------

const settingFindings = Effect.fnUntraced(function*(root: string) {
  const { problems, values } = yield* loadConfig(root, {})
  if (problems.length > 0) {
    return problems.map((problem) =>
      bad("The settings", problem, "Correct it: dist/config.schema.json has every setting.")
    )
  }
  return [
    values.journal === "off"
      ? note(
        "The settings",
        "nothing is recorded (\"journal\": \"off\")",
        "A restart loses everything; remove that line to be safe."
      )
      : good("The settings", "understood")
  ]
})

const folderFinding = (root: string) =>
  requireWritable(root).pipe(
    Effect.as(good("The folder", `${root}/.opencode/orchestrator can be written`)),
    Effect.catch(({ reason }) =>
      Effect.succeed(bad("The folder", reason, "Without it no task is started (\"journal\": \"required\")."))
    )
  )

const journalFindings = Effect.gen(function*() {
  const lease = yield* Lease
  const others = yield* lease.others
  const abandoned = new Set((yield* lease.abandoned).map(({ path }) => path))
  const findings: Array<Finding> = []
  const alive = others.filter(({ path }) => !abandoned.has(path)).length
  for (const { foreign, path } of others) {
    const contents = yield* Effect.option(readJournal(path))
    if (Option.isNone(contents)) continue // it was moved meanwhile
    const { damaged, missions, tasks, unknownVersion } = contents.value
    if (unknownVersion) {
      findings.push(
        bad(
          "The journal",
          `${path} was written by another release`,
          "Start that release to go on with its tasks, or move the file away."
        )
      )
      continue
    }
    if (damaged.length > 0 && abandoned.has(path)) {
      findings.push(
        note(
          "The journal",
          `${path} has ${damaged.length} records that cannot be read`,
          "They are set aside at the next start; the rest is used."
        )
      )
    }
    const open = tasks.filter(isOpen).length + missions.filter(({ state }) => state === "active").length
    if (open === 0 || !abandoned.has(path)) continue
    findings.push(
      note(
        "Unfinished work",
        `${path} holds ${open} unfinished tasks and missions of an OpenCode that is gone`,
        foreign
          ? "It comes from another machine: type /resume in OpenCode to go on with it, if you trust its origin."
          : "The next OpenCode in this project goes on with it by itself."
      )
    )
  }
  return findings.length > 0 ? findings : [
    good("The journal", alive === 0 ? "nothing is left unfinished" : `${alive} running; nothing is left unfinished`)
  ]
})

// ---- the model ------------------------------------------------------------------------------------------------------

const modelFindings = Effect.fnUntraced(function*(check: boolean) {
  const sessions = yield* SessionClient
  const models = yield* Effect.orElseSucceed(sessions.models, () => [])
  if (models.length === 0) {
    return [bad("The model", "OpenCode knows no provider that it has a key for", "Log in to one: opencode auth login")]
  }
  const providers = [...new Set(models.map(({ provider }) => provider))]
  const known = good("The model", `${models.length} models of ${providers.slice(0, 5).join(", ")}`)
  if (!check) return [known]
  const ids = yield* Ids
  const now = yield* Clock.currentTimeMillis
  const answer = yield* Effect.gen(function*() {
    // The Commander would take it for a goal.
    const agent = (yield* sessions.agents).find(({ hidden, mode, name }) =>
      !hidden && mode !== "subagent" && name !== commander
    )?.name
    const { id: session } = yield* sessions.create({ title: "A check of the model" })
    const id = yield* ids.message
    yield* sessions.prompt({
      session,
      id,
      text: "Answer with the one word OK, without calling tools.",
      agent
    })
    const turn = yield* sessions.messages(session, 5).pipe(
      Effect.map((messages) => readTurn(messages, id)),
      Effect.delay("300 millis"),
      Effect.repeat({ until: ({ state }) => state === "finished" || state === "failed" }),
      Effect.timeoutOption("60 seconds"),
      // The server that holds it is stopped right after.
      Effect.ensuring(Effect.ignore(Effect.andThen(sessions.abort(session), sessions.delete(session))))
    )
    return Option.getOrUndefined(turn)
  }).pipe(Effect.orElseSucceed(() => undefined))
  const took = formatDuration((yield* Clock.currentTimeMillis) - now)
  if (answer?.state === "finished") return [known, good("The model answers", `after ${took}`)]
  return [
    known,
    bad(
      "The model answers",
      answer?.state === "failed" ? answer.error.message || answer.error.name : `not within ${took}`,
      "Look at the key, the quota and the network; \"opencode run hello\" shows the same without the orchestrator."
    )
  ]
})
