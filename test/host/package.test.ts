/** The package as people get it: the packed tarball, installed with npm into a folder of its own, used as a newcomer would. */
import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { createOpencodeClient } from "@opencode-ai/sdk/v2/client"
import { Effect, FileSystem, Layer } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { dirname } from "node:path"
import { fileURLToPath } from "node:url"
import { RunLine, TaskReport } from "../../adapters/node-cli/runLines.ts"
import { hostVersion } from "../../adapters/test/RealHost.ts"
import { decodeLines, password, Rig, run } from "./cliRig.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Where nobody may make a folder, not even root. */
const readOnly = "/sys/kernel"

/** `isBesideHost`: together with OpenCode, whose program would be the third copy of 170 MB on this disk, and so is a link. */
const installed = ({ isBesideHost }: { readonly isBesideHost: boolean }) =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-package-" })
    const npm = (cwd: string, ...args: ReadonlyArray<string>) =>
      spawner.string(ChildProcess.make("npm", args, { cwd, extendEnv: true }))
    yield* npm(root, "pack", "--ignore-scripts", "--silent", "--pack-destination", folder)
    const [tarball = ""] = yield* fs.readDirectory(folder)
    yield* fs.writeFileString(`${folder}/package.json`, "{ \"private\": true }")
    yield* npm(folder, "install", "--offline", "--no-audit", "--no-fund", "--silent", `./${tarball}`)
    if (isBesideHost) {
      const host = `${folder}/node_modules/opencode-ai`
      yield* fs.makeDirectory(`${host}/bin`, { recursive: true })
      yield* fs.copyFile(`${root}node_modules/opencode-ai/package.json`, `${host}/package.json`)
      yield* fs.symlink(`${root}node_modules/opencode-ai/bin/opencode.exe`, `${host}/bin/opencode.exe`)
    }
    return Rig.layer({
      folder: `${folder}/node_modules/opencode-orchestrator-effect`,
      program: [`${folder}/node_modules/.bin/opencode-orchestrator`]
    })
  }).pipe(Layer.unwrap, Layer.provideMerge(NodeServices.layer), Layer.orDie)

/** Without any program of OpenCode on it. */
const bare = { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` }

layer(installed({ isBesideHost: true }), { excludeTestServices: true, timeout: "60 seconds" })(
  "the packed tarball, installed beside OpenCode,",
  (it) => {
    it.effect(
      "runs that OpenCode where neither the PATH nor the project has one, and says which",
      () =>
        Effect.gen(function*() {
          const { project } = yield* Rig
          const ran = yield* run(["run", "goal"], { cwd: yield* project(), env: bare })
          assert.strictEqual(ran.code, 0, ran.stdout + ran.stderr)
          assert.match(
            ran.stdout,
            new RegExp(`OpenCode ${hostVersion} \\(\\S+/node_modules/opencode-ai/bin/opencode\\.exe\\) listens on`)
          )
        }),
      60_000
    )
  }
)

layer(installed({ isBesideHost: false }), { excludeTestServices: true, timeout: "60 seconds" })(
  "the packed tarball, installed with npm,",
  (it) => {
    it.effect("is a plugin that OpenCode loads", () =>
      Effect.gen(function*() {
        const { servers } = yield* Rig
        const headers = { authorization: `Basic ${Buffer.from("opencode:secret").toString("base64")}` }
        const client = createOpencodeClient({ baseUrl: yield* servers.live, headers })
        const tools = (yield* Effect.promise(() => client.tool.ids())).data ?? []
        for (const name of ["delegate_task", "get_task_result", "list_tasks", "cancel_task", "call_agent"]) {
          assert.include(tools, name)
        }
      }))

    it.effect(
      "is installed, added to a project, found well there, and carries out a mission that its views show",
      () =>
        Effect.gen(function*() {
          const { project } = yield* Rig
          const fs = yield* FileSystem.FileSystem
          const cwd = yield* project()
          const here = (...args: ReadonlyArray<string>) => run(args, { cwd })
          const init = yield* here("init")
          assert.strictEqual(init.code, 0, init.stdout + init.stderr)
          assert.include(
            yield* fs.readFileString(`${cwd}/opencode.json`),
            "node_modules/opencode-orchestrator-effect\""
          )
          const [well, ran] = yield* Effect.all([here("doctor", "--model-check"), here("run", "WORK on it")], {
            concurrency: 2
          })
          assert.strictEqual(well.code, 0, well.stdout + well.stderr)
          assert.include(well.stdout, "The plugin: is live")
          assert.include(well.stdout, "The model answers: after")
          assert.include(well.stdout, "The orchestrator works here.")
          assert.strictEqual(ran.code, 0, ran.stdout + ran.stderr)
          assert.match(ran.stdout, /^Builder +build one +completed /m)
          assert.include(ran.stdout, "Both are done.")
          assert.notInclude(ran.stdout, "\u001b")
          assert.strictEqual(ran.stderr, "")
          const [tasks, missions, report] = yield* Effect.all([
            here("tasks"),
            here("missions"),
            here("report", "--format", "markdown", "--out", "-"),
            here("logs")
          ], { concurrency: 4 })
          assert.match(tasks.stdout, /^ses_\w+ complete .*\n {2}- task_\w+ completed .* build one/)
          // `run` brings the plugin along, and it is configured: one of them works.
          assert.lengthOf(tasks.stdout.match(/task_/g) ?? [], 2)
          assert.match(missions.stdout, /^ses_\w+ complete .* WORK on it\n/)
          assert.include(report.stdout, "result of build two")
          const [session = ""] = /ses_\w+/.exec(missions.stdout) ?? []
          const foreign = yield* run(["run", "--resume", session], { cwd: yield* project() })
          assert.strictEqual(foreign.code, 2, foreign.stdout + foreign.stderr)
          assert.include(foreign.stderr, `belongs to another project: add --dir ${cwd}`)
          // Nothing of what was there is lost for a report that cannot be written.
          yield* fs.makeDirectory(`${cwd}/taken`)
          yield* fs.writeFileString(`${cwd}/taken.new`, "somebody's")
          const taken = yield* here("report", "--out", "taken")
          assert.strictEqual(taken.code, 1)
          assert.include(taken.stderr, "taken is a folder")
          assert.deepStrictEqual((yield* fs.readDirectory(cwd)).filter((name) => name.startsWith("taken")).toSorted(), [
            "taken",
            "taken.new"
          ])
          assert.strictEqual(yield* fs.readFileString(`${cwd}/taken.new`), "somebody's")
        }),
      120_000
    )

    it.effect("is a library, by which a program has agents work in an OpenCode", () =>
      Effect.gen(function*() {
        const { folder, project, servers } = yield* Rig
        const fs = yield* FileSystem.FileSystem
        const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
        const modules = dirname(folder)
        for (const name of ["effect", "@effect"]) {
          yield* fs.symlink(`${root}node_modules/${name}`, `${modules}/${name}`)
        }
        const program = `${dirname(modules)}/headless.ts`
        yield* fs.copyFile(`${root}examples/headless.ts`, program)
        const cwd = yield* project()
        const output = yield* spawner.string(
          ChildProcess.make(process.execPath, [program, "a.ts", "b.ts"], {
            cwd,
            env: { ...password, OPENCODE_URL: yield* servers.live },
            extendEnv: true
          })
        )
        assert.strictEqual(output, "Review a.ts: completed. PASS\nReview b.ts: completed. PASS\n")
      }))

    it.effect("what cannot be done is said in a sentence, with its code", () =>
      Effect.gen(function*() {
        const { project, servers } = yield* Rig
        const [live, plain, directory] = yield* Effect.all([
          servers.live,
          servers.plain,
          project({ "plan.md": "- [ ] T1: a" })
        ], { concurrency: 3 })
        const fs = yield* FileSystem.FileSystem
        yield* fs.writeFile(`${directory}/latin.md`, Buffer.from("- [ ] T1: the caf\u00e9 | agent:Builder\n", "latin1"))
        const cases: ReadonlyArray<
          readonly [args: ReadonlyArray<string>, code: number, says: string, env?: Record<string, string>]
        > = [
          [["run"], 2, "Say what is to be achieved"],
          [["run", "goal", "--nonsense"], 2, "--nonsense"],
          [["run", "goal", "--yes", "--deny"], 2, "Give one of --yes, --deny and --ask"],
          [["run", "goal", "--budget-cost", "much"], 2, "--budget-cost cannot be \"much\""],
          [["run", "goal", "--dir", `${directory}/none`], 2, "--dir must be a folder"],
          [["run", "goal", "--model", "model"], 2, "--model must look like provider/model"],
          [["run", "goal", "--url", "http://127.0.0.1:1"], 5, "No OpenCode answers at http://127.0.0.1:1"],
          [["run", "goal", "--dir", ""], 2, "--dir is empty"],
          [["run", "- [ ] mend it"], 2, "run -- \"- [ ] mend it\""],
          [["run", "goal", "--budget-time", "0h"], 2, "it takes a time above 0 with its unit, such as 2h"],
          [["run", "goal", "--budget-tasks", "1.5"], 2, "it takes a whole number above 0"],
          [["run", "goal", "--url", "http://user:hush@127.0.0.1:1"], 2, "--url may hold no password"],
          ...["tasks", "missions", "watch", "logs", "report", "init", "doctor"].flatMap((name) =>
            [`${directory}/none`, `${directory}/README.md`].map((dir) =>
              [[name, "--dir", dir], 2, "--dir must be a folder"] as const
            )
          ),
          [["logs", "--lines", "-3", "--dir", directory], 2, "--lines must be a whole number above 0"],
          [["report", "--out", "", "--dir", directory], 2, "--out is empty"],
          [["report", "ses_none", "--dir", directory], 1, "ses_none"],
          [["run", "--plan", `${directory}/none.md`], 2, "none.md does not exist"],
          [["run", "--plan", directory], 2, "is a folder"],
          [["run", "--plan", ""], 2, "--plan is empty"],
          [["run", "--plan", "/dev/zero"], 2, "has more than"],
          [["run", "--plan", process.execPath], 2, "has more than"],
          [["run", "--plan", `${directory}/latin.md`], 2, "latin.md is not text in UTF-8"],
          [["run", "--plan", `${directory}/README.md`], 2, "There is no task in it"],
          [["run", "goal", "--dir", readOnly, "--url", live], 2, "Nothing can be recorded in", password],
          [["run", "goal", "--url", "localhost"], 2, "--url must look like"],
          [["run", "goal", "--url", live], 5, "refuses the password", { OPENCODE_SERVER_PASSWORD: "wrong" }],
          [["run", "goal", "--url", live], 5, "refuses the password"],
          [["run", "goal", "--url", plain, "--dir", directory], 5, "does not have the plugin"],
          [
            ["run", "--plan", `${directory}/plan.md`, "--url", plain, "--dir", directory],
            5,
            "has no agent Commander, Inspector"
          ],
          [["run", "--resume", "ses_1", "--url", live, "--dir", directory], 2, "knows no session", password],
          [
            ["run", "goal", "--url", live, "--dir", directory, "--model", "scripted/none"],
            2,
            "OpenCode has no model \"scripted/none\"; it has, for example: scripted/model",
            password
          ],
          [
            ["run", "goal", "--url", live, "--dir", directory, "--agent", "Nobody"],
            2,
            "no agent \"Nobody\"",
            password
          ]
        ]
        yield* Effect.forEach(cases, ([args, code, says, env = {}]) =>
          Effect.gen(function*() {
            const ran = yield* run(args, { env })
            assert.strictEqual(ran.code, code, `${args.join(" ")}: ${ran.stdout}${ran.stderr}`)
            assert.include(ran.stderr, says)
            assert.notInclude(ran.stderr, "    at ")
            assert.notInclude(ran.stdout + ran.stderr, "hush")
          }), { concurrency: 4, discard: true })
        const json = yield* run(["run", "goal", "--url", "http://127.0.0.1:1", "--json"])
        const last = (yield* decodeLines(json.stdout)).at(-1)
        assert.deepInclude(last, { type: "error", exit: 5 })
      }))

    it.effect("nothing runs in a project in which nothing can be recorded, nor in one whose config OpenCode refuses, nor without OpenCode", () =>
      Effect.gen(function*() {
        const { project } = yield* Rig
        const fs = yield* FileSystem.FileSystem
        const blocked = yield* project()
        yield* fs.writeFileString(`${blocked}/.opencode/orchestrator`, "in the way")
        const broken = yield* project({ "opencode.json": "{ \"model\": " })
        // Its output ends before it does.
        const mute = yield* project({
          "bin/opencode": "#!/bin/sh\necho 'no home' >&2\nexec >&- 2>&-\nsleep 1\nexit 1\n"
        })
        yield* fs.chmod(`${mute}/bin/opencode`, 0o755)
        const [first, second, third, fourth] = yield* Effect.all([
          run(["run", "goal"], { cwd: blocked }),
          run(["run", "goal"], { cwd: broken }),
          run(["run", "goal"], { cwd: broken, env: bare }),
          run(["run", "goal"], { cwd: mute, env: { PATH: `${mute}/bin:${bare.PATH}` } })
        ], { concurrency: 4 })
        assert.strictEqual(fourth.code, 5, fourth.stdout + fourth.stderr)
        assert.include(fourth.stderr, "OpenCode ended before it was listening. Its last words:\n  no home")
        assert.strictEqual(first.code, 2, first.stdout + first.stderr)
        assert.include(first.stderr, "Nothing can be recorded in")
        assert.strictEqual(second.code, 5, second.stdout + second.stderr)
        assert.strictEqual(third.code, 5, third.stdout + third.stderr)
        assert.include(third.stderr, "npm install --global opencode-ai")
      }))

    it.effect("init adds the plugin to the config and changes nothing else, once", () =>
      Effect.gen(function*() {
        const { project } = yield* Rig
        const fs = yield* FileSystem.FileSystem
        const config = "// Ours\r\n{\r\n\t\"plugin\": [\"other@1.0.0\"], // one\r\n\t\"model\": \"a/b\",\r\n}\r\n"
        const directory = yield* project({ "opencode.json": "", "opencode.jsonc": config })
        yield* fs.remove(`${directory}/opencode.json`)
        const file = `${directory}/opencode.jsonc`
        const dry = yield* run(["init", "--dry-run"], { cwd: directory })
        assert.strictEqual(dry.code, 0, dry.stderr)
        assert.include(dry.stdout, "Would change")
        assert.strictEqual(yield* fs.readFileString(file), config)
        const first = yield* run(["init"], { cwd: directory })
        assert.strictEqual(first.code, 0, first.stderr)
        const after = yield* fs.readFileString(file)
        assert.match(
          after,
          /^\/\/ Ours\r\n\{\r\n\t"plugin": \[\s*"other@1\.0\.0",\s*"file:\/\/[^"]+"\s*\], \/\/ one\r\n\t"model": "a\/b",\r\n\}\r\n$/
        )
        assert.strictEqual(yield* fs.readFileString(`${file}.backup`), config)
        const second = yield* run(["init", "--dir", directory])
        assert.strictEqual(second.code, 0)
        assert.include(second.stdout, "nothing to do")
        assert.strictEqual(yield* fs.readFileString(file), after)
      }))

    it.effect("init makes a config where there is none, and refuses one that it cannot read", () =>
      Effect.gen(function*() {
        const { project } = yield* Rig
        const fs = yield* FileSystem.FileSystem
        const directory = yield* project()
        const file = `${directory}/opencode.json`
        yield* fs.remove(file)
        assert.strictEqual((yield* run(["init"], { cwd: directory })).code, 0)
        assert.match(yield* fs.readFileString(file), /"plugin": \[\n {4}"file:/)
        for (
          const [text, says] of [
            ["{\n  \"model\": \"a/b\"\n  \"plugin\": []\n}", "line 3: CommaExpected"],
            ["{\"plugin\": \"one\"}", "\"plugin\" is not a list"],
            ["[]", "holds no object"]
          ] as const
        ) {
          yield* fs.writeFileString(file, text)
          const { code, stderr } = yield* run(["init"], { cwd: directory })
          assert.strictEqual(code, 1)
          assert.include(stderr, says)
          assert.strictEqual(yield* fs.readFileString(file), text)
        }
      }))

    it.effect("doctor says what is wrong, and what to do about it", () =>
      Effect.gen(function*() {
        const { project } = yield* Rig
        const withPlugin = (path: string, files = {}) => project(files, { plugin: [path] })
        // A package like ours, whose module throws: the host skips it without a word.
        const broken = yield* project({
          "opencode-orchestrator-effect/package.json": `{ "name": "x", "main": "./dist/plugin.js" }`,
          "opencode-orchestrator-effect/dist/plugin.js": "throw new Error(\"not today\")"
        })
        const doctor = (directory: Effect.Effect<string>) =>
          Effect.flatMap(directory, (cwd) => run(["doctor"], { cwd }))
        const [without, skipped] = yield* Effect.all([
          doctor(project({ ".opencode/orchestrator.jsonc": "{ \"pollInterval\": -1 }" })),
          doctor(withPlugin(`file://${broken}/opencode-orchestrator-effect`))
        ], { concurrency: 2 })
        assert.strictEqual(without.code, 1, without.stdout + without.stderr)
        assert.include(without.stdout, "BAD  The settings: .opencode/orchestrator.jsonc: pollInterval must be")
        assert.match(
          without.stdout,
          /^BAD {2}The plugin: OpenCode's config does not name it\n +Add it: opencode-orchestrator init$/m
        )
        assert.strictEqual(skipped.code, 1, skipped.stdout + skipped.stderr)
        assert.include(skipped.stdout, "OpenCode has skipped it without a word: Error: not today")
      }))

    it.effect("its help, version and completions work, and its lines are documented", () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const commands = ["run", "tasks", "missions", "watch", "cancel", "logs", "report", "init", "doctor", "demo"]
        const shells = ["bash", "zsh", "fish", "powershell"]
        const [version, helps, completions] = yield* Effect.all([
          run(["--version"]),
          Effect.forEach(commands, (name) => run([name, "--help"]), { concurrency: 4 }),
          Effect.forEach(shells, (shell) => run(["--completions", shell]), { concurrency: 2 })
        ], { concurrency: 2 })
        assert.match(version.stdout, /\d+\.\d+\.\d+/)
        for (const [index, { code, stdout }] of helps.entries()) {
          assert.strictEqual(code, 0)
          assert.match(stdout, new RegExp(`EXAMPLES\\n[^]*opencode-orchestrator ${commands[index]}`), commands[index])
          assert.notInclude(stdout, "\u001b")
        }
        for (const { code, stdout } of completions) {
          assert.strictEqual(code, 0)
          assert.include(stdout, "doctor")
        }
        const docs = yield* fs.readFileString(fileURLToPath(new URL("../../docs/headless.md", import.meta.url)))
        for (const { fields } of RunLine.members) {
          const row = docs.split("\n").find((line) => line.startsWith(`| \`${fields.type.literal}\` |`)) ?? ""
          for (const name of Object.keys(fields)) {
            if (name !== "type" && name !== "at") assert.include(row, `\`${name}`, fields.type.literal)
          }
        }
        for (const name of Object.keys(TaskReport.fields)) assert.include(docs, `\`${name}`)
      }))
  }
)
