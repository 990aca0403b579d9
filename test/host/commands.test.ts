import { NodeServices } from "@effect/platform-node"
import { assert, it, layer } from "@effect/vitest"
import { Effect, FileSystem, Layer, Schedule, Schema } from "effect"
import { makeProject, pluginUrl, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { living, memoryOf, nap, until, untilLiving } from "../adapters/processes.ts"
import { listen, type openProject, openShared, type Seen, Server } from "./project.ts"

const isOfEnd = (text: string) => /commands? ha(s|ve) ended/.test(text)

const Calls = Schema.fromJsonString(Schema.Array(Schema.Struct({ name: Schema.String, args: Schema.Unknown })))
const decodeCalls = Schema.decodeUnknownOption(Calls)

/** A prompt is the calls of the first turn, as JSON. Told of an end, the agent says that it has heard. */
const script: Script = (request) =>
  Effect.sync(() => {
    const text = request.users.at(-1) ?? ""
    if (isOfEnd(text)) return { text: "heard" }
    const calls = decodeCalls(text)
    return request.toolResults.length > 0 || calls._tag === "None" ? { text: "done" } : { toolCalls: calls.value }
  })

const run = (command: string, more: object = {}) => ({ name: "run_background", args: { command, ...more } })
const prompt = (...calls: ReadonlyArray<object>) => JSON.stringify(calls)

const TextPart = Schema.Struct({ part: Schema.Struct({ sessionID: Schema.String, text: Schema.String }) })
const says = (session: string, text: string) => ({ properties, type }: Seen) =>
  type === "message.part.updated" && Schema.is(TextPart)(properties)
  && properties.part.sessionID === session && properties.part.text === text

type Project = Effect.Success<ReturnType<typeof openProject>>

/** Waits until the agent has heard of an end, and tells what it was told, and what its tools answered. */
const untilTold = Effect.fnUntraced(function*({ texts, until }: Project, session: string) {
  yield* until(says(session, "heard"))
  return {
    told: (yield* texts(session, "user")).filter(isOfEnd),
    answers: (yield* texts(session, "assistant")).filter((text) => text !== "heard" && text !== "done")
  }
})

const rules = { permission: { bash: { "*": "allow", "rm *": "deny" } } }

// With all its compilers: it reads a lot.
layer(Server.layer(script, rules, {}, {}), { excludeTestServices: true, timeout: "120 seconds" })(
  "a background command in a real OpenCode",
  (it) => {
    it.effect("tells its agent how it ended, and ends with what it has started", () =>
      Effect.gen(function*() {
        const project = yield* openShared
        const sleep = nap()
        const session = yield* project.say(prompt(run(`${sleep} & echo begun; echo failed >&2; exit 3`)), "Builder")
        const { answers, told } = yield* untilTold(project, session)
        assert.match(answers[0] ?? "", /^job_\w+ started\. It is stopped after 10 min\. You will be told of its end\.$/)
        assert.lengthOf(told, 1)
        assert.match(told[0] ?? "", /## job_\w+ ended with exit code 3 after .* · sleep .*\nbegun\nfailed$/)
        assert.strictEqual(living(sleep), 0)
      }), 120_000)

    it.effect("is killed after its time limit when it does not listen", () =>
      Effect.gen(function*() {
        const project = yield* openShared
        const sleep = nap()
        const command = `trap '' TERM; ${sleep} & (${sleep}); ${sleep}`
        const session = yield* project.say(prompt(run(command, { timeout: 1_000 })), "Builder")
        const { told } = yield* untilTold(project, session)
        assert.match(told[0] ?? "", /was stopped \(at its time limit of 1 s\) after \d+ s/)
        assert.strictEqual(living(sleep), 0)
      }), 120_000)

    it.effect("is asked for by the rules for bash, part by part", () =>
      Effect.gen(function*() {
        const project = yield* openShared
        const sleep = nap()
        const session = yield* project.say(
          prompt(run(`${sleep}; rm -rf x`), run("echo allowed && exit 0")),
          "Builder"
        )
        const { answers } = yield* untilTold(project, session)
        assert.include(answers[0], "There is no permission bash for")
        assert.match(answers[1] ?? "", /^job_\w+ started/)
        assert.strictEqual(living(sleep), 0)
      }), 120_000)

    it.effect("may print more than the host has room for", () =>
      Effect.gen(function*() {
        const project = yield* openShared
        yield* Effect.promise(() => project.client.session.list())
        const { pid } = yield* Server
        const before = memoryOf(pid)
        const session = yield* project.say(prompt(run("yes 0123456789abcdef | head -c 1G; echo over")), "Builder")
        let most = 0
        const watch = Effect.sync(() => {
          most = Math.max(most, memoryOf(pid))
        })
        const { told } = yield* Effect.raceFirst(
          untilTold(project, session),
          Effect.andThen(Effect.repeat(watch, Schedule.spaced("50 millis")), Effect.never)
        )
        assert.match(told[0] ?? "", /ended with exit code 0 after .*\n[^]*characters left out[^]*over$/)
        assert.isAbove(before, 0)
        assert.isBelow(most - before, 400_000_000) // held in memory, what is printed alone would be more than 1 GB
      }), 120_000)
  }
)

it.live(
  "a background command does not outlive its OpenCode, and its agent is told by the next",
  () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const directory = yield* makeProject()
      const home = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" })
      const open = Effect.gen(function*() {
        const host = yield* startHost({ directory, home, plugin: [[pluginUrl, {}]], env: shortLived })
        const project = yield* listen(host.url, directory)
        return { host, project }
      })
      /** How many logs hold the line that is printed. */
      const logsIn = Effect.fnUntraced(function*(folder: string) {
        const logs = (yield* fs.readDirectory(folder)).filter((name) => name.endsWith(".log"))
        const texts = yield* Effect.forEach(logs, (name) => fs.readFileString(`${folder}/${name}`))
        return texts.filter((text) => text.includes("it listens")).length
      })
      let now = yield* open
      let round = 0
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        round++
        const sleep = nap()
        const escaped = nap()
        const command = `echo it listens; ${sleep} & (setsid ${escaped} &) ; ${sleep}`
        const session = yield* now.project.say(prompt(run(command)), "Builder")
        yield* untilLiving(sleep, 2)
        yield* untilLiving(escaped, 1)
        yield* now.project.until(says(session, "done"))
        // What the host has not read of a command dies with it.
        yield* until(Effect.map(logsIn(`${directory}/.opencode/orchestrator/commands`), (count) => count === round))
        yield* now.host.kill(signal)
        yield* untilLiving(sleep, 0)
        assert.strictEqual(living(escaped), 1, "it had left the group: only the next instance finds it")
        now = yield* open
        const { answers, told } = yield* untilTold(now.project, session)
        assert.strictEqual(living(escaped), 0)
        const id = /^job_\w+/.exec(answers[0] ?? "")?.[0]
        assert.isDefined(id)
        assert.lengthOf(told, 1)
        assert.include(told[0], `${id} was stopped (with the OpenCode that it ran in) after`)
        assert.include(told[0], "\nit listens")
      }
    }).pipe(Effect.scoped, Effect.provide(Layer.provideMerge(ScriptedModel.layer(script), NodeServices.layer))),
  120_000
)
