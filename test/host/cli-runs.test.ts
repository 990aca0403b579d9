/** Plans that the command line carries out without a Commander, and missions that it leads in an OpenCode that runs already. */
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Schedule } from "effect"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { called, decodeLines, endOf, outcomes, password, Rig, run, runThere } from "./cliRig.ts"
import { settings } from "./project.ts"

layer(Rig.layer(), { excludeTestServices: true, timeout: "60 seconds" })("run with a plan, and in a server", (it) => {
  it.effect("runs the tasks in their order, has each group and the whole checked, and runs again what failed or was faulted", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project({
        "plan.md": [
          "- [ ] T2: plain two | depends:G1",
          "- [ ] G1: a part",
          "  - [ ] T1: mended one",
          "- [ ] T3: flaky one",
          "- [x] T0: done before"
        ].join("\n")
      })
      const { code, stderr, stdout } = yield* run(["run", "--plan", "plan.md", "--json"], { cwd: directory })
      assert.strictEqual(code, 0, stdout + stderr)
      const end = yield* endOf(stdout)
      assert.deepInclude(end, { exit: 0, state: "complete", answer: "PASS" })
      assert.sameDeepMembers(end.tasks.map(({ agent, description, state }) => [agent, description, state]), [
        ["Builder", "T1: mended one", "completed"],
        ["Builder", "T3: flaky one", "failed"],
        ["Inspector", "check-G1: Check the results of T1", "completed"],
        ["Builder", "T1: mended one", "completed"],
        ["Builder", "T3: flaky one", "completed"],
        ["Inspector", "check-G1: Check the results of T1", "completed"],
        ["Builder", "T2: plain two", "completed"],
        ["Inspector", "check: Check the plan's results", "completed"]
      ])
      for (const message of ["T3: not this time", "T1, check-G1: FAIL T1: mend it"]) {
        assert.include(stdout, `"title":"Run again","message":"${message}"`)
      }
    }))

  it.effect("an Inspector that does not say PASS is a failure, and the Architect's plan is corrected once", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project({ "plan.md": "- [ ] T1: rotten one" })
      const [rotten, planned] = yield* Effect.all([
        runThere(["--plan", `${directory}/plan.md`, "--dir", directory, "--retries", "0", "--json"]),
        Effect.flatMap(project(), (other) => runThere(["--decompose", "Something nice", "--dir", other, "--json"]))
      ], { concurrency: 2 })
      assert.strictEqual(rotten.code, 1, rotten.stdout + rotten.stderr)
      const end = yield* endOf(rotten.stdout)
      assert.deepInclude(end, { answer: "FAIL: it is rotten", why: "The Inspector does not say PASS to these: T1." })
      assert.match(end.resume ?? "", /--plan \S+rest-of-ses_\w+\.json/)
      assert.strictEqual(planned.code, 0, planned.stdout + planned.stderr)
      assert.deepStrictEqual((yield* endOf(planned.stdout)).tasks.map(({ description }) => description), [
        "Plan the goal",
        "Correct the plan",
        "T1: plain one",
        "T2: plain two",
        "check: Check the plan's results"
      ])
    }))

  it.effect("Ctrl-C stops its agents, and leaves the rest as a plan that can be run", () =>
    Effect.gen(function*() {
      const { project, servers, spawn } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project({
        "plan.md": "- [ ] T0: plain start\n- [ ] T1: slow one\n- [ ] T2: plain two | depends:T1"
      })
      const args = ["run", "--plan", `${directory}/plan.md`, "--url", yield* servers.live, "--dir", directory, "--json"]
      const running = yield* spawn(args, { env: password })
      yield* called("slow one")
      yield* running.until((line) => line.includes(`"result of plain start"`))
      process.kill(running.pid, "SIGINT")
      const { code, stderr, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout + stderr)
      const end = yield* endOf(stdout)
      assert.deepStrictEqual(end.tasks.map(({ state }) => state), ["completed", "cancelled"])
      const file = /--plan (\S+)/.exec(end.resume ?? "")?.[1] ?? ""
      assert.include(yield* fs.readFileString(file), "\"depends\": [\n      \"T1\"")
      const on = yield* runThere(["--plan", file, "--dir", directory, "--json"])
      assert.strictEqual(on.code, 0, on.stdout + on.stderr)
      assert.deepStrictEqual((yield* endOf(on.stdout)).tasks.map(({ description }) => description), [
        "T1: slow one",
        "T2: plain two",
        "check: Check the plan's results"
      ])
      assert.lengthOf(yield* outcomes("plain start"), 1)
    }))

  it.effect("a plan with mistakes is refused with all of them", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const directory = yield* project({
        "bad.md": "- [ ] T1: a | agent:Nobody\n- [ ] T2: b | depends:T3\n- [ ] T3: c | depends:T2,T9"
      })
      const bad = yield* run(["run", "--plan", "bad.md"], { cwd: directory })
      assert.strictEqual(bad.code, 2)
      for (const says of ["no agent \"Nobody\"", "it depends on \"T9\"", "a circle: T2 waits for T3 waits for T2"]) {
        assert.include(bad.stderr, says)
      }
    }))

  // ---- missions in a server that runs already ------------------------------------------------------------------------

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
