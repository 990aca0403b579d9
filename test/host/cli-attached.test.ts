/** The command line in an OpenCode that runs already. */
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Schedule } from "effect"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { called, decodeLines, endOf, password, Rig, runThere } from "./cliRig.ts"
import { settings } from "./project.ts"

layer(Rig.layer(), { excludeTestServices: true, timeout: "60 seconds" })("run --url", (it) => {
  it.effect("Ctrl-C in a server that runs already stops its own mission there, and leaves the server", () =>
    Effect.gen(function*() {
      const { project, servers, spawn } = yield* Rig
      const directory = yield* project()
      const model = yield* ScriptedModel
      const args = ["run", "HANG there", "--url", yield* servers.live, "--dir", directory, "--json"]
      const running = yield* spawn(args, { env: password })
      yield* running.until((line) => line.includes(`"state":"running"`))
      yield* called("hang about")
      process.kill(running.pid, "SIGINT")
      const { code, stderr, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout + stderr)
      assert.deepStrictEqual((yield* endOf(stdout)).tasks.map(({ state }) => state), ["cancelled"])
      const isQuiet = model.calls.pipe(
        Effect.map((calls) => calls.every(({ outcome }) => outcome !== "open")),
        Effect.repeat({ until: (quiet) => quiet, schedule: Schedule.spaced("100 millis") })
      )
      yield* isQuiet
      assert.strictEqual((yield* runThere(["goal", "--dir", directory])).code, 0)
    }))

  it.effect("attached to a server, the mission's limits hold; --resume with more goes on with it", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project()
      const spent = yield* runThere(["SPEND it", "--dir", directory, "--budget-tasks", "1", "--json"])
      assert.strictEqual(spent.code, 3, spent.stdout + spent.stderr)
      const end = yield* endOf(spent.stdout)
      assert.deepInclude(end, { exit: 3, state: "out_of_budget" })
      assert.match(end.why, /1 of 1 tasks/)
      const on = yield* runThere(["--resume", end.mission, "--dir", directory, "--budget-tasks", "10", "--json"])
      assert.strictEqual(on.code, 0, on.stdout + on.stderr)
      assert.deepInclude(yield* endOf(on.stdout), { state: "complete", mission: end.mission })
      const nothing = yield* runThere(["--resume", end.mission, "--dir", directory, "--json"])
      assert.include((yield* endOf(nothing.stdout)).why, "There was nothing to go on with")
    }))

  it.effect("a mission without progress ends with a code of its own, and a config that is not understood is said", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project(settings(`{ "continuations": 1, "nonsense": true }`))
      const { code, stdout } = yield* runThere(["STAGNATE", "--dir", directory])
      assert.strictEqual(code, 4, stdout)
      assert.include(stdout, "there is no setting nonsense; it is ignored.")
      assert.match(stdout, /^stagnated: The Commander was told to go on 1 times/m)
      assert.match(stdout, /^To go on: opencode-orchestrator run --resume ses_\w+ --dir /m)
    }))

  it.effect("a permission that nobody answers is denied, and the mission goes on; --yes gives it", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const cases = [["--deny", false], ["--ask", false], ["--ask", true, "y\n"], ["--yes", true]] as const
      yield* Effect.forEach(cases, ([flag, exists, input]) =>
        Effect.gen(function*() {
          const directory = yield* project({}, { permission: { bash: "ask" } })
          const { code, stderr, stdout } = yield* runThere(["ASK first", "--dir", directory, flag, "--json"], input)
          assert.strictEqual(code, 0, stdout + stderr)
          const asked = (yield* decodeLines(stdout)).filter((line) => line.type === "ask")
          assert.deepStrictEqual(asked.map(({ answer, kind }) => [kind, answer]), [[
            "permission",
            exists ? "allowed" : "denied"
          ]])
          assert.strictEqual(yield* fs.exists(`${directory}/asked.txt`), exists)
        }), { concurrency: "unbounded", discard: true })
    }))

  it.effect("another agent is done with its turn", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const { code, stdout } = yield* runThere(["hello", "--dir", yield* project(), "--agent", "build"])
      assert.strictEqual(code, 0, stdout)
      assert.include(stdout, "result of hello")
    }))
})
