/** Missions that the command line leads in an OpenCode of its own. */
import { assert, layer } from "@effect/vitest"
import { Effect, FileSystem, Schedule } from "effect"
import { called, decodeLines, endOf, isNotice, outcomes, Rig, run, serverOf } from "./cliRig.ts"

layer(Rig.layer(), { excludeTestServices: true, timeout: "60 seconds" })("run", (it) => {
  it.effect("starts OpenCode with the plugin, sees the mission through, and tells of it in lines of the documented schema", () =>
    Effect.gen(function*() {
      const { project } = yield* Rig
      const json = yield* run(["run", "WORK on it", "--dir", yield* project(), "--json"])
      assert.strictEqual(json.code, 0, json.stdout + json.stderr)
      const lines = yield* decodeLines(json.stdout)
      assert.strictEqual(lines[0]?.type, "run")
      const end = lines.at(-1)
      if (end?.type !== "end") return assert.fail(json.stdout)
      assert.deepInclude(end, { exit: 0, state: "complete", answer: "Both are done.\n\nMISSION COMPLETE" })
      assert.notProperty(end, "resume")
      assert.deepStrictEqual(end.tasks.map(({ result, state }) => [state, result]), [
        ["completed", "result of build one"],
        ["completed", "result of build two"]
      ])
      assert.isAbove(end.tokens, 0)
      const ended = lines.flatMap((
        line
      ) => (line.type === "task" && line.task.state === "completed" ? [line.task.id] : []))
      assert.sameMembers(ended, end.tasks.map(({ id }) => id))
    }))

  it.effect(
    "Ctrl-C stops the mission and its agents; --resume goes on with it, and does nothing twice",
    () =>
      Effect.gen(function*() {
        const { project, spawn } = yield* Rig
        const directory = yield* project()
        const running = yield* spawn(["run", "HALF of it", "--json"], { cwd: directory })
        yield* running.until((line) => line.includes(`"result of build one half"`))
        yield* called("hang at the other")
        process.kill(running.pid, "SIGINT")
        const { code, stderr, stdout } = yield* running.ended
        assert.strictEqual(code, 130, stdout + stderr)
        const end = yield* endOf(stdout)
        assert.deepInclude(end, { exit: 130, state: "interrupted" })
        assert.deepStrictEqual(end.tasks.map(({ state }) => state), ["completed", "cancelled"])
        assert.match(end.resume ?? "", /^opencode-orchestrator run --resume ses_\w+$/)
        assert.deepStrictEqual(yield* outcomes("hang at the other"), ["hung up"])
        const stopped = yield* run(["missions", "--json"], { cwd: directory })
        assert.include(stopped.stdout, "\"answer\": \"I wait.\"", "no OpenCode runs any more")

        const on = yield* run([...(end.resume ?? "").split(" ").slice(1), "--json"], { cwd: directory })
        assert.strictEqual(on.code, 0, on.stdout + on.stderr)
        const last = yield* endOf(on.stdout)
        assert.deepInclude(last, {
          state: "complete",
          mission: end.mission,
          answer: "All is done.\n\nMISSION COMPLETE"
        })
        const completed = yield* run(["missions", "--json"], { cwd: directory })
        assert.include(completed.stdout, "\"answer\": \"All is done.\\n\\nMISSION COMPLETE\"")
        assert.deepStrictEqual(last.tasks.map(({ description, run, state }) => [description, run, state]), [
          ["build one half", 1, "completed"],
          ["hang at the other", 1, "cancelled"],
          ["build the rest", 1, "completed"]
        ])
        assert.deepStrictEqual(yield* outcomes("build one half"), ["answered"])
        assert.deepStrictEqual(yield* outcomes("hang at the other"), ["hung up"])
        assert.deepStrictEqual(yield* outcomes("build the rest"), ["answered"])
      }),
    120_000
  )

  it.effect("Ctrl-C twice ends at once, and takes the OpenCode that was started with it", () =>
    Effect.gen(function*() {
      const { project, spawn } = yield* Rig
      const fs = yield* FileSystem.FileSystem
      const directory = yield* project()
      const running = yield* spawn(["run", "HANG twice", "--json"], { cwd: directory })
      yield* running.until((line) => line.includes(`"state":"running"`))
      const child = yield* serverOf(running.pid)
      process.kill(running.pid, "SIGINT")
      yield* running.until((line) => line.includes("stopping the mission"))
      process.kill(running.pid, "SIGINT")
      const { code, stdout } = yield* running.ended
      assert.strictEqual(code, 130, stdout)
      assert.isFalse((yield* decodeLines(stdout)).some(({ type }) => type === "end"))
      const isGone = fs.readFileString(`/proc/${child}/stat`).pipe(
        Effect.map((stat) => stat.includes(") Z ")),
        Effect.orElseSucceed(() => true),
        Effect.repeat({ until: (gone) => gone, schedule: Schedule.spaced("50 millis") })
      )
      yield* isGone
    }))

  it.effect(
    "OpenCode is started again whenever it dies, and the mission is completed with nothing lost or done twice",
    () =>
      Effect.gen(function*() {
        const { project, spawn } = yield* Rig
        const running = yield* spawn(["run", "KILLED thrice", "--json"], { cwd: yield* project() })
        const kill = Effect.map(serverOf(running.pid), (server) => process.kill(-server, "SIGKILL"))
        const { code, stderr, stdout } = yield* Effect.gen(function*() {
          yield* called("KILLED thrice")
          yield* kill
          yield* running.until((line) => line.includes(`"result of quick one"`))
          yield* called("slow one")
          yield* kill
          yield* called("KILLED thrice", isNotice)
          yield* kill
          return yield* running.ended
        }).pipe(Effect.timeoutOrElse({
          duration: "100 seconds",
          orElse: () => Effect.map(running.lines, (lines) => assert.fail(`it hangs:\n${lines.join("\n")}`))
        }))
        assert.strictEqual(code, 0, stdout + stderr)
        const hosts = (yield* decodeLines(stdout)).flatMap((line) => (line.type === "host" ? [line.state] : []))
        assert.deepStrictEqual(hosts, ["started", "lost", "back", "lost", "back", "lost", "back"])
        const end = yield* endOf(stdout)
        assert.include(end.answer, "I am back.")
        assert.deepStrictEqual(end.tasks.map(({ result, run, state }) => [state, run, result]), [
          ["completed", 1, "result of quick one"],
          ["completed", 2, "result of slow one"]
        ])
        assert.deepStrictEqual(yield* outcomes("quick one"), ["answered"])
        assert.deepStrictEqual(yield* outcomes("slow one"), ["hung up", "answered"])
      }),
    120_000
  )
})
