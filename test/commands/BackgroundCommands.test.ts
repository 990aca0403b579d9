import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Layer } from "effect"
import * as EmptySearch from "../../adapters/test/EmptySearch.ts"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import * as RecordingNotifier from "../../adapters/test/RecordingNotifier.ts"
import * as ScriptedPermissions from "../../adapters/test/ScriptedPermissions.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import { SimulatedPrograms } from "../../adapters/test/SimulatedProcessGroups.ts"
import * as SimulatedWeb from "../../adapters/test/SimulatedWeb.ts"
import { shellParts } from "../../src/commands/BackgroundCommands.ts"
import { CommandStore } from "../../src/commands/CommandStore.ts"
import { readConfig } from "../../src/Config.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import { SessionClient } from "../../src/host/SessionClient.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import type { Caller } from "../../src/tools/Tool.ts"
import {
  type Actor,
  calls,
  delegates,
  doing,
  heard,
  notices,
  pass,
  replies,
  say,
  sessionOf,
  start,
  states,
  tasks,
  until,
  use,
  withActors as withActorsAnywhere,
  withWorld as withWorldAnywhere
} from "../tasks/scripts.ts"

/** The project's folder has to be there. */
const inProject = <A, E, R>(test: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const { fileSystem } = yield* MemoryDisk
    yield* fileSystem.makeDirectory("/project", { recursive: true })
    return yield* test
  })
const withActors = (...world: Parameters<typeof withActorsAnywhere>) => <A, E, R>(test: Effect.Effect<A, E, R>) =>
  withActorsAnywhere(...world)(inProject(test))
const withWorld = (...world: Parameters<typeof withWorldAnywhere>) => <A, E, R>(test: Effect.Effect<A, E, R>) =>
  withWorldAnywhere(...world)(inProject(test))

/** Starts commands in its first turn, ends its turn, and says that it has heard when it is told. */
const runs = (...commands: ReadonlyArray<string | object>): Actor => (request) =>
  Effect.succeed(
    request.turns === 0
      ? {
        toolCalls: commands.map((command) => ({
          name: "run_background",
          args: typeof command === "string" ? { command } : command
        }))
      }
      : { text: request.toolResults.length > 0 ? "started" : "heard" }
  )

const logOf = (id: string) => `/project/.opencode/orchestrator/commands/${id}.log`
const programs = Effect.flatMap(SimulatedPrograms, ({ running }) => running)
const nextProgram = Effect.flatMap(SimulatedPrograms, ({ next }) => doing(next))
const commands = Effect.flatMap(CommandStore, ({ all }) => all)
const isTold = Effect.map(commands, (all) => all.length > 0 && all.every(({ told }) => told))
const told = (session: SessionId) =>
  Effect.map(heard(session), (texts) => texts.filter((text) => /\d+ commands? ha(s|ve) ended/.test(text)))
const builder = { agent: "Builder" }
const idle = Effect.flatMap(
  SimulatedHost,
  () => Effect.map(calls(), (all) => all.every((call) => call.outcome !== "open"))
)

describe("a background command", () => {
  it.effect("tells its agent of its end, once, with its exit code and what it printed", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      const program = yield* nextProgram
      assert.strictEqual(program.command, "npm test")
      assert.strictEqual(program.cwd, "/project")
      yield* program.print("\u001b[32mok 1\u001b[0m\n10%\r20%\rdone\n")
      yield* pass("5 seconds")
      assert.deepStrictEqual(yield* told(session), [])
      yield* program.exit({ code: 1 })
      yield* until(isTold)
      assert.deepStrictEqual(yield* told(session), [
        `1 command has ended.\n\n## ${program.id} ended with exit code 1 after 5 s · run the tests\nok 1\ndone`
      ])
      yield* pass("10 minutes")
      assert.lengthOf(yield* told(session), 1)
      assert.lengthOf((yield* calls(session)).filter(({ request }) => request.users.at(-1)?.includes("has ended")), 1)
      assert.deepStrictEqual(yield* programs, [])
    }).pipe(withActors({ test: runs({ command: " npm test\n", label: "run the tests" }) })))

  it.effect("is stopped at its time limit, and killed when it does not listen", () =>
    Effect.gen(function*() {
      yield* (yield* SimulatedPrograms).makeStubborn("ignores")
      const session = yield* say("test it", builder)
      yield* until(Effect.map(programs, ({ length }) => length === 2))
      yield* pass(29_000)
      assert.lengthOf(yield* programs, 2)
      yield* pass(2_000)
      assert.deepStrictEqual((yield* programs).map(({ command }) => command), ["ignores"])
      yield* pass(3_000)
      assert.deepStrictEqual(yield* programs, [])
      yield* until(isTold)
      const texts = (yield* told(session)).join("\n")
      assert.match(texts, /job_\w+ was stopped \(at its time limit of 30 s\) after 30 s · listens\n\(no output\)/)
      assert.match(texts, /job_\w+ was stopped \(at its time limit of 30 s\) after 33 s · ignores/)
    }).pipe(withActors({
      test: runs({ command: "listens", timeout: 30_000 }, { command: "ignores", timeout: 30_000 })
    })))

  it.effect("has the time limit of the config, and never more than its maximum", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      assert.include(yield* use(session, "run_background", { command: "a" }, "Builder"), "stopped after 1 min. ")
      const most = yield* use(session, "run_background", { command: "b", timeout: 600_000 }, "Builder")
      assert.include(most, "It is stopped after 2 min, which is the most. You will be told of its end.")
    }).pipe(withActors({ test: replies({ text: "ready" }) }, {
      config: { commands: { timeLimit: "1 minute", maxTimeLimit: "2 minutes" } }
    })))

  it.effect("is stopped by its agent with all that it has started, and told by that answer alone", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      const { id } = yield* nextProgram
      yield* until(idle)
      const answer = yield* use(session, "kill_background", { taskId: id }, "Builder")
      assert.match(answer, /^job_\w+ was stopped \(Builder stopped it\) after .* · server$/)
      assert.deepStrictEqual(yield* programs, [])
      assert.include(yield* use(session, "kill_background", { taskId: id }, "Builder"), "It had ended already")
      yield* until(isTold)
      yield* pass("5 minutes")
      assert.deepStrictEqual(yield* told(session), [])
    }).pipe(withActors({ test: runs("server") })))

  it.effect("is shown with its last lines, and told by an answer that shows its end", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      const program = yield* nextProgram
      const check = (args: object = {}) => use(session, "check_background", { taskId: program.id, ...args }, "Builder")
      assert.match(yield* check(), /^job_\w+ has been running for .* · tests\n\(no output\)$/)
      yield* program.print(Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join(""))
      yield* pass(10)
      const [, note, ...lines] = (yield* check()).split("\n")
      assert.strictEqual(
        note,
        `The last lines; all of it is in /project/.opencode/orchestrator/commands/${program.id}.log.`
      )
      assert.deepStrictEqual(lines, Array.from({ length: 50 }, (_, index) => `line ${index + 50}`))
      assert.deepStrictEqual((yield* check({ tailLines: 1 })).split("\n").at(-1), "line 99")
      assert.lengthOf((yield* check({ tailLines: 100 })).split("\n"), 101)
      // Its agent asks in the moment in which it ends.
      yield* program.exit({ code: 0 })
      yield* Effect.repeat(Effect.yieldNow, { times: 50 })
      const answer = yield* check({ tailLines: 1 })
      if (answer.includes("ended with exit code 0")) assert.include(answer, "line 99")
      yield* until(isTold)
      yield* pass("1 minute")
      const answers = answer.includes("ended with") ? 1 : 0
      assert.lengthOf(yield* told(session), 1 - answers)
    }).pipe(withActors({ test: runs("tests") })))

  it.effect("keeps the beginning and the end of a flood in memory, and a bounded file without secrets", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      const program = yield* nextProgram
      const secret = "gh" + "p_" + "a1".repeat(18)
      yield* program.print(`begins\n${secret}\n`)
      for (let index = 0; index < 200; index++) {
        yield* program.print(`${"x".repeat(9_990)}\n`)
        yield* Effect.yieldNow
      }
      yield* program.print(`it says ${secret}\nthe last line`)
      yield* program.exit({ code: 0 })
      yield* until(isTold)
      const [text = ""] = yield* told(session)
      assert.include(text, "it says [masked GitHub token]\nthe last line")
      assert.isBelow(text.length, 3_000)
      const [{ id } = assert.fail("no command")] = yield* commands
      const file = (yield* (yield* MemoryDisk).read(logOf(id))) ?? ""
      assert.isTrue(file.startsWith("begins\n[masked GitHub token]\nxxx"))
      assert.isTrue(file.endsWith("\n[the output went on; this file takes 100000 bytes]\n"))
      assert.isBelow(file.length, 101_000)
      const answer = yield* use(session, "check_background", { taskId: program.id, tailLines: 2_000 }, "Builder")
      assert.include(answer, "begins\n")
      assert.include(answer, "characters left out")
      assert.isBelow(answer.length, 21_000)
      // The agent may need what its command says, and would read it in a shell as well.
      assert.include(answer, `it says ${secret}\nthe last line`)
    }).pipe(withActors({ test: runs("floods") }, { config: { commands: { logBytes: 100_000 } } })))

  it.effect("that cannot be started leaves nothing behind", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      const answer = yield* use(session, "run_background", { command: "cannot start" }, "Builder")
      assert.strictEqual(answer, "The command could not be started: it is so written.")
      assert.deepStrictEqual(yield* commands, [])
      assert.strictEqual(yield* use(session, "list_background", {}, "Builder"), "There are no commands.")
    }).pipe(withActors({ test: replies({ text: "ready" }) })))

  it.effect("is refused when too many run already", () =>
    Effect.gen(function*() {
      const first = yield* say("test it", builder)
      const run = (session: SessionId, command: string) => use(session, "run_background", { command }, "Builder")
      yield* run(first, "a")
      yield* run(first, "b")
      const own = yield* run(first, "c")
      assert.match(own, /^2 commands of yours are running already \(job_\w+, job_\w+\)\. .*kill_background/)
      const second = yield* say("test it", builder)
      yield* run(second, "d")
      assert.match(yield* run(second, "e"), /^3 commands are running already/)
      const [program] = yield* programs
      yield* program?.exit({ code: 0 }) ?? Effect.void
      yield* until(Effect.map(programs, ({ length }) => length === 2))
      assert.match(yield* run(second, "f"), /^job_\w+ started/)
    }).pipe(withActors({ test: replies({ text: "ready" }) }, { config: { commands: { perSession: 2, total: 3 } } })))

  it.effect("is listed with its state, and belongs to its mission alone", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      yield* until(Effect.map(programs, ({ length }) => length === 2))
      const [first] = yield* programs
      yield* first?.exit({ code: 0 }) ?? Effect.void
      yield* until(Effect.map(commands, (all) => all.some(({ state }) => state === "ended")))
      const [head, ...lines] = (yield* use(session, "list_background", {}, "Builder")).split("\n")
      assert.strictEqual(head, "2 commands:")
      assert.match(lines[0] ?? "", /^job_\w+ ended with exit code 0 after .* · one · yours$/)
      assert.match(lines[1] ?? "", /^job_\w+ has been running for .* · two · yours$/)
      assert.lengthOf((yield* use(session, "list_background", { status: "running" }, "Builder")).split("\n"), 2)
      const other = yield* say("something else", builder)
      assert.strictEqual(yield* use(other, "list_background", {}, "Builder"), "There are no commands.")
      for (const tool of ["check_background", "kill_background"]) {
        const answer = yield* use(other, tool, { taskId: first?.id }, "Builder")
        assert.strictEqual(answer, `There is no command "${first?.id}". list_background shows the ids.`)
      }
      assert.lengthOf(yield* programs, 1)
    }).pipe(withActors({ test: runs("one", "two"), something: replies({ text: "ready" }) })))
})

const callRun = Effect.fnUntraced(function*(args: object, session: SessionId, ask: Caller["ask"]) {
  const { tools } = yield* Orchestrator
  const tool = tools.find(({ name }) => name === "run_background") ?? assert.fail("no such tool")
  return yield* tool.call(args, { session, agent: "Builder", ask }).pipe(
    Effect.catch(({ message }) => Effect.succeed(message))
  )
})

/** The orchestrator on the real disk; everything else is simulated. */
const onDisk = (root: string) =>
  Orchestrator.layer(readConfig({ journal: "off" }, "test").values).pipe(
    Layer.provideMerge(Layer.unwrap(Effect.gen(function*() {
      const processes = yield* SimulatedInstance.SimulatedProcesses
      return SimulatedInstance.layer(yield* processes.start(), root)
    }))),
    Layer.provideMerge(Layer.mergeAll(
      SimulatedHost.layer({ script: () => Effect.never }),
      SimulatedInstance.SimulatedProcesses.layer,
      SimulatedPrograms.layer,
      EmptySearch.layer,
      SimulatedWeb.layer(),
      RecordingNotifier.layer
    ))
  )

describe("what a command may do", () => {
  /** Calls run_background as a Builder; with what was asked, and what runs. */
  const run = Effect.fnUntraced(function*(args: object, answer: "allow" | "reject" = "allow") {
    const session = yield* say("test it", builder)
    const permissions = ScriptedPermissions.make(() => answer)
    const said = yield* doing(callRun(args, session, permissions.ask))
    return {
      said,
      asked: (yield* permissions.asked).map(({ patterns, permission }) => [permission, ...patterns].join(" | ")),
      running: (yield* programs).map(({ cwd }) => cwd)
    }
  })
  const ready = { test: replies({ text: "ready" }) }

  it.effect("is asked of the host, part by part", () =>
    Effect.gen(function*() {
      const { asked, running } = yield* run({ command: "npm ci && npm test 2>&1 | tee out" })
      assert.deepStrictEqual(asked, ["bash | npm ci | npm test > | tee out".replace(" > |", " > |")])
      assert.deepStrictEqual(running, ["/project"])
    }).pipe(withActors(ready)))

  it.effect("and nothing is started when the answer is no", () =>
    Effect.gen(function*() {
      const { running, said } = yield* run({ command: "rm -rf /" }, "reject")
      assert.include(said, "There is no permission bash for rm -rf /")
      assert.deepStrictEqual(running, [])
      assert.deepStrictEqual(yield* commands, [])
    }).pipe(withActors(ready)))

  it.live("outside of the project is asked for besides, links followed", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const root = yield* fs.realPath(yield* fs.makeTempDirectoryScoped())
      const elsewhere = yield* fs.realPath(yield* fs.makeTempDirectoryScoped())
      yield* fs.makeDirectory(`${root}/inside`)
      yield* fs.makeDirectory(`${elsewhere}/deep`)
      yield* fs.symlink(elsewhere, `${root}/link`)
      yield* fs.symlink(root, `${elsewhere}/back`)
      const asks = Effect.fnUntraced(function*(cwd: string, answer: "allow" | "reject" = "allow") {
        const session = (yield* (yield* SessionClient).create({ title: "a session" })).id
        const permissions = ScriptedPermissions.make(() => answer)
        yield* callRun({ command: "a", cwd }, session, permissions.ask)
        return (yield* permissions.asked).map(({ patterns, permission }) => `${permission} ${patterns.join()}`)
      })
      yield* Effect.gen(function*() {
        const outside = `external_directory ${elsewhere}/deep/*`
        assert.deepStrictEqual(yield* asks("inside"), ["bash a"])
        assert.deepStrictEqual(yield* asks(`${root}/inside/..`), ["bash a"])
        assert.deepStrictEqual(yield* asks(`${elsewhere}/deep`), [outside, "bash a"])
        assert.deepStrictEqual(yield* asks(`../${elsewhere.split("/").at(-1)}/deep`), [outside, "bash a"])
        assert.deepStrictEqual(yield* asks("link/deep"), [outside, "bash a"])
        assert.deepStrictEqual(yield* asks("link/back/inside"), ["bash a"])
        assert.deepStrictEqual(yield* asks("link/deep", "reject"), [outside])
        const folders = (yield* programs).map(({ cwd }) => cwd)
        assert.deepStrictEqual(folders, [
          `${root}/inside`,
          root,
          `${elsewhere}/deep`,
          `${elsewhere}/deep`,
          `${elsewhere}/deep`,
          `${root}/inside`
        ])
      }).pipe(Effect.provide(onDisk(root)))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.effect("is refused in a folder that is none, and without a command", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      yield* fs.makeDirectory("/project", { recursive: true })
      yield* fs.writeFileString("/project/file", "")
      assert.strictEqual(
        (yield* run({ command: "a", cwd: "nowhere" })).said,
        "Nothing was started: there is no folder /project/nowhere."
      )
      assert.strictEqual(
        (yield* run({ command: "a", cwd: "file" })).said,
        "Nothing was started: /project/file is not a folder."
      )
      assert.strictEqual((yield* run({ command: " \n" })).said, "Nothing was started: the command is empty.")
      assert.include((yield* run({ command: "a\0b" })).said, "Nothing was started: a command is a text")
      assert.include((yield* run({ command: "a", timeout: 0 })).said, "timeout: a whole number from 1 to")
      assert.deepStrictEqual(yield* programs, [])
    }).pipe(withActors(ready)))

  it("is every part that a shell might run by itself", () => {
    const cases: ReadonlyArray<readonly [string, ReadonlyArray<string>]> = [
      ["npm test", ["npm test"]],
      ["a && b || c; d & e | f\ng", ["a", "b", "c", "d", "e", "f", "g"]],
      ["echo $(rm x) `rm y`", ["echo $", "rm x", "rm y"]],
      ["(cd a; { rm b; })", ["cd a", "rm b"]],
      ["if a; then rm b; else rm c; fi", ["a", "rm b", "rm c", "fi"]],
      ["FOO=1 BAR=2 rm x", ["FOO=1 BAR=2 rm x", "rm x"]],
      ["npm test 2>&1", ["npm test >"]],
      ["npm test &>out", ["npm test >out"]],
      ["! rm x", ["rm x"]],
      ["diff <(rm a) >(rm b)", ["diff <", "rm a", "rm b"]],
      ["& ;", ["& ;"]]
    ]
    for (const [line, parts] of cases) assert.deepStrictEqual(shellParts(line), parts, line)
  })
})

describe("the commands of", () => {
  it.effect("a child end with its task, and start no turn of it", () =>
    Effect.gen(function*() {
      const root = yield* say("goal")
      const { id } = yield* nextProgram
      yield* until(Effect.map(states, (all) => all.length > 0 && all.every((state) => state === "completed")))
      yield* until(Effect.map(programs, ({ length }) => length === 0))
      const child = yield* sessionOf("serve it")
      yield* pass("5 minutes")
      assert.deepStrictEqual(yield* told(child), [])
      assert.lengthOf(yield* calls(child), 2)
      assert.deepStrictEqual(yield* told(root), [])
      assert.include((yield* heard(root)).join("\n"), "completed after")
      const answer = yield* use(root, "check_background", { taskId: id })
      assert.include(answer, "was stopped (the task of its agent ended)")
    }).pipe(withActors({ goal: delegates([{ prompt: "serve it" }]), serve: runs("server") })))

  it.effect("a child that ends while it works are told to it, and it goes on", () =>
    Effect.gen(function*() {
      yield* say("goal")
      const program = yield* nextProgram
      yield* pass("10 seconds")
      yield* program.exit({ code: 3 })
      yield* until(Effect.map(states, (all) => all.length > 0 && all.every((state) => state === "completed")))
      const child = yield* sessionOf("watch it")
      const texts = yield* told(child)
      assert.lengthOf(texts, 1)
      assert.include(texts[0], "ended with exit code 3")
      yield* pass("5 minutes")
      assert.lengthOf(yield* told(child), 1)
    }).pipe(withActors({
      goal: delegates([{ prompt: "watch it" }]),
      watch: replies(
        { toolCalls: [{ name: "run_background", args: { command: "tests" } }] },
        () => Effect.delay(Effect.succeed({ toolCalls: [{ name: "list_tasks", args: {} }] }), "1 minute"),
        { text: "seen" }
      )
    })))

  it.effect("a session that is deleted end", () =>
    Effect.gen(function*() {
      const session = yield* say("test it", builder)
      yield* nextProgram
      yield* doing((yield* SessionClient).delete(session))
      yield* until(Effect.map(programs, ({ length }) => length === 0))
      yield* until(isTold)
    }).pipe(withActors({ test: runs("server") })))

  it.effect("a mission end when its user aborts it, and its agent is not woken", () =>
    Effect.gen(function*() {
      const session = yield* say("goal", builder)
      yield* nextProgram
      yield* until(Effect.map(calls(session), (all) => all.at(-1)?.outcome === "open" && all.length === 2))
      yield* doing((yield* SessionClient).abort(session))
      yield* until(Effect.map(programs, ({ length }) => length === 0))
      yield* until(isTold)
      yield* pass("5 minutes")
      assert.match((yield* told(session)).join(), /was stopped \(the user aborted the mission\)/)
      assert.lengthOf(yield* calls(session), 2)
    }).pipe(withActors({
      goal: replies({ toolCalls: [{ name: "run_background", args: { command: "server" } }] }, () => Effect.never)
    })))

  it.effect("an instance that ends in order end with it, and are told by the next", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const session = yield* first.do(say("test it", builder))
      const { id } = yield* first.do(nextProgram)
      yield* until(idle)
      yield* first.end
      assert.deepStrictEqual(yield* programs, [])
      const second = yield* start()
      yield* second.do(until(isTold))
      assert.match(
        (yield* second.do(told(session))).join(),
        new RegExp(`^1 command has ended\\.\n\n## ${id} was stopped \\(with the OpenCode that it ran in\\) after`)
      )
    }).pipe(withWorld({ test: runs("server") })))

  it.effect("an instance that is killed are ended by the next, which tells with the end of what they printed", () =>
    Effect.gen(function*() {
      const first = yield* start()
      const session = yield* first.do(say("test it", builder))
      const { id, print } = yield* first.do(nextProgram)
      yield* print("it listens on 3000\n")
      yield* pass("1 second")
      yield* first.do(until(idle))
      yield* first.killHost
      assert.lengthOf(yield* programs, 1)
      const second = yield* start()
      yield* second.do(until(isTold))
      assert.deepStrictEqual(yield* programs, [])
      const texts = yield* second.do(told(session))
      assert.lengthOf(texts, 1)
      assert.include(texts[0], `${id} was stopped (with the OpenCode that it ran in)`)
      assert.include(texts[0], "\nit listens on 3000")
      assert.include(
        yield* second.do(use(session, "check_background", { taskId: id }, "Builder")),
        "\nit listens on 3000"
      )
    }).pipe(withWorld({ test: runs("server") })))

  it.effect("an instance that is not known to be dead run on", () =>
    Effect.gen(function*() {
      const processes = yield* SimulatedInstance.SimulatedProcesses
      const first = yield* start()
      yield* first.do(say("test it", builder))
      yield* first.do(nextProgram)
      yield* first.do(until(idle))
      yield* processes.see(first.owner, false)
      yield* start()
      yield* pass("5 minutes")
      assert.lengthOf(yield* programs, 1)
    }).pipe(withWorld({ test: runs({ command: "server", timeout: 3_600_000 }) })))

  it.effect("a journal that came with the repository are not taken for this machine's", () =>
    Effect.gen(function*() {
      const { fileSystem } = yield* MemoryDisk
      const first = yield* start()
      yield* first.do(say("test it", builder))
      yield* first.do(nextProgram)
      yield* first.do(until(idle))
      yield* first.kill
      const folder = "/project/.opencode/orchestrator"
      for (const name of yield* fileSystem.readDirectory(folder)) {
        if (name.endsWith(".lease")) yield* fileSystem.remove(`${folder}/${name}`)
        if (name.endsWith(".jsonl")) {
          yield* fileSystem.rename(`${folder}/${name}`, `${folder}/${name.replace("simulated1", "elsewhere9")}`)
        }
      }
      yield* start()
      yield* pass("5 minutes")
      assert.lengthOf(yield* programs, 1)
    }).pipe(withWorld({ test: runs({ command: "server", timeout: 3_600_000 }) })))

  it.effect("an instance that is killed end also when nothing else is recovered", () =>
    Effect.gen(function*() {
      const first = yield* start()
      yield* first.do(say("test it", builder))
      yield* first.do(nextProgram)
      yield* first.do(until(idle))
      yield* first.killHost
      yield* start({ config: { recovery: "off" } })
      yield* until(Effect.map(programs, ({ length }) => length === 0))
    }).pipe(withWorld({ test: runs("server") })))

  it.effect(
    "an instance that is killed at any of its effects: nothing is left to run, and the agent is told once",
    () =>
      Effect.gen(function*() {
        let reached = true
        let recorded = 0
        for (let effect = 1; reached; effect++) {
          for (const moment of ["before", "after", "torn"] as const) {
            yield* Effect.gen(function*() {
              const first = yield* start({ arm: [effect, moment] })
              yield* Effect.exit(first.do(say("test it", builder)))
              yield* pass("5 seconds")
              for (const program of yield* programs) yield* program.exit({ code: 0 })
              yield* pass("5 seconds")
              const died = yield* first.gate.diedAt
              reached = died !== undefined
              yield* first.killHost
              const second = yield* start()
              yield* pass("40 seconds")
              const where = `effect ${effect}, ${died}`
              assert.deepStrictEqual(yield* programs, [], where)
              const all = yield* second.do(commands)
              assert.isAtMost(all.length, 1, where)
              for (const command of all) {
                assert.strictEqual(command.state, "ended", where)
                assert.isTrue(command.told, where)
                const texts = yield* second.do(told(command.session))
                const own = texts.filter((text) => text.includes(command.id))
                assert.lengthOf(own, 1, `${where}\n${texts.join("\n---\n")}`)
              }
              recorded += all.length
              yield* second.end
            }).pipe(withWorld({ test: runs("tests") }))
          }
        }
        assert.isAbove(recorded, 20)
      }),
    60_000
  )

  it.effect(
    "a child in an instance that is killed at any of its effects: none runs on, and no end of one wakes a child that is done",
    () =>
      Effect.gen(function*() {
        let reached = true
        let recorded = 0
        for (let effect = 1; reached; effect++) {
          yield* Effect.gen(function*() {
            const first = yield* start({ arm: [effect, "after"] })
            yield* Effect.exit(first.do(say("goal")))
            yield* pass("15 seconds")
            const died = yield* first.gate.diedAt
            reached = died !== undefined
            yield* first.killHost
            const second = yield* start()
            yield* pass("3 minutes")
            const where = `effect ${effect}, ${died}`
            assert.deepStrictEqual(yield* programs, [], where)
            assert.isTrue((yield* second.do(commands)).every((command) => command.told), where)
            for (const { parent, session, state, told: isTold } of yield* second.do(tasks)) {
              assert.strictEqual(state, "completed", where)
              assert.isTrue(isTold, where)
              assert.lengthOf(yield* second.do(notices(parent)), 1, where)
              if (session === undefined) continue
              recorded++
              assert.isAtMost((yield* second.do(told(session))).length, 1, where)
              const made = yield* second.do(calls(session))
              assert.isTrue(made.every(({ outcome }) => outcome !== "open"), where)
            }
            yield* second.end
          }).pipe(withWorld({ goal: delegates([{ prompt: "serve it" }]), serve: runs("server") }))
        }
        assert.isAbove(recorded, 20)
      }),
    60_000
  )
})

describe("what an ended command leaves", () => {
  it.effect("is removed some time after its agent was told", () =>
    Effect.gen(function*() {
      yield* say("test it", builder)
      const program = yield* nextProgram
      yield* program.print("words\n")
      yield* program.exit({ code: 0 })
      yield* until(isTold)
      const [{ id } = assert.fail("no command")] = yield* commands
      const disk = yield* MemoryDisk
      assert.strictEqual(yield* disk.read(logOf(id)), "words\n")
      yield* pass("29 minutes")
      assert.lengthOf(yield* commands, 1)
      yield* pass("2 minutes")
      assert.deepStrictEqual(yield* commands, [])
      assert.isUndefined(yield* disk.read(logOf(id)))
    }).pipe(withActors({ test: runs("tests") })))
})
