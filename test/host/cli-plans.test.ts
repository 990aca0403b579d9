/** Plans that the command line carries out without a Commander. */
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { collector, pathsOf, valueOf } from "../adapters/collector.ts"
import { called, endOf, outcomes, password, Rig, run, runThere } from "./cliRig.ts"

layer(Rig.layer(), { excludeTestServices: true, timeout: "60 seconds" })("run --plan", (it) => {
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
      const { spans, url } = yield* collector
      const { code, stderr, stdout } = yield* run(["run", "--plan", "plan.md", "--json"], {
        cwd: directory,
        env: { OTEL_EXPORTER_OTLP_ENDPOINT: url }
      })
      assert.strictEqual(code, 0, stdout + stderr)
      const all = (yield* spans).flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      const paths = pathsOf(all).filter((path) => /task \w+$/.test(path))
      assert.deepStrictEqual(paths.toSorted(), [
        ...Array.from({ length: 5 }, () => "mission > task Builder"),
        ...Array.from({ length: 3 }, () => "mission > task Inspector")
      ])
      assert.deepStrictEqual(
        all.filter(({ name }) => name === "mission").map((span) => valueOf(span, "orchestrator.state")),
        ["complete"]
      )
      const end = yield* endOf(stdout)
      assert.deepInclude(end, { exit: 0, state: "complete", answer: "PASS" })
      const report = yield* run(["report", "--format", "markdown", "--out", "-"], { cwd: directory })
      assert.include(report.stdout, "## The final answer: the check of the plan\n\n```text\nPASS\n```")
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

  it.effect("a plan with mistakes is refused with all of them; so is a server without the agents", () =>
    Effect.gen(function*() {
      const { project, servers } = yield* Rig
      const directory = yield* project({
        "bad.md": "- [ ] T1: a | agent:Nobody\n- [ ] T2: b | depends:T3\n- [ ] T3: c | depends:T2,T9",
        "good.md": "- [ ] T1: a"
      })
      const bad = yield* run(["run", "--plan", "bad.md"], { cwd: directory })
      assert.strictEqual(bad.code, 2)
      for (const says of ["no agent \"Nobody\"", "it depends on \"T9\"", "a circle: T2 waits for T3 waits for T2"]) {
        assert.include(bad.stderr, says)
      }
      const plain = yield* run(["run", "--plan", "good.md", "--url", yield* servers.plain], { cwd: directory })
      assert.strictEqual(plain.code, 5, plain.stdout + plain.stderr)
      assert.include(plain.stderr, "has no agent Commander, Inspector")
    }))
})
