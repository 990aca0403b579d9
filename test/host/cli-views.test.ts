import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer, Path, Queue, Schedule, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as NodeInstance from "../../adapters/node-process/NodeInstance.ts"
import * as RecordingNotifier from "../../adapters/test/RecordingNotifier.ts"
import { Config, readConfig } from "../../src/Config.ts"
import { transition } from "../../src/domain/Mission.ts"
import { noUsage, SessionId } from "../../src/domain/Session.ts"
import { TaskId } from "../../src/domain/Task.ts"
import { logFile } from "../../src/LogFile.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import { TaskArchive } from "../../src/tasks/TaskArchive.ts"
import { TaskJournal } from "../../src/tasks/TaskJournal.ts"
import { completed, mission, root, running } from "../tasks/records.ts"

const main = fileURLToPath(new URL("../../dist/cli.js", import.meta.url))

/** A project in which this process is the instance that works. */
const project = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.realPath(yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-views-" }))
  const context = yield* Layer.mergeAll(TaskJournal.layer, TaskArchive.layer).pipe(
    Layer.provideMerge(Lease.layer),
    Layer.provide([
      NodeInstance.layer(directory),
      RecordingNotifier.layer,
      Config.layer(readConfig({}, "test").values)
    ]),
    Layer.build
  )
  const journal = Context.get(context, TaskJournal)
  return { directory, journal, archive: Context.get(context, TaskArchive), lease: Context.get(context, Lease) }
})

const start = Effect.fnUntraced(function*(directory: string, args: ReadonlyArray<string>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  return yield* spawner.spawn(ChildProcess.make(process.execPath, [main, ...args], {
    cwd: directory,
    extendEnv: true,
    env: { FORCE_COLOR: undefined, NO_COLOR: "1" }
  }))
})

/** Runs a command in the project to its end. */
const run = Effect.fnUntraced(function*(directory: string, ...args: ReadonlyArray<string>) {
  const handle = yield* start(directory, args)
  const output = yield* handle.all.pipe(Stream.decodeText, Stream.mkString)
  return { output, code: Number(yield* handle.exitCode) }
}, Effect.scoped)

/** Starts a command; gives its lines one by one. */
const follow = Effect.fnUntraced(function*(directory: string, ...args: ReadonlyArray<string>) {
  const handle = yield* start(directory, args)
  const lines = yield* Queue.unbounded<string>()
  yield* handle.stdout.pipe(
    Stream.decodeText,
    Stream.splitLines,
    Stream.runForEach((line) => Queue.offer(lines, line)),
    Effect.forkScoped
  )
  const until = Effect.fnUntraced(function*(part: string) {
    while (true) {
      const line = yield* Queue.take(lines)
      if (line.includes(part)) return line
    }
  })
  return { until, code: Effect.map(handle.exitCode, Number) }
})

const live = <E>(name: string, test: Effect.Effect<void, E, Layer.Success<typeof NodeServices.layer>>) =>
  it.live(name, () => Effect.provide(test, NodeServices.layer), 60_000)

/** A mission with a task that runs, one below it, and one that is done. */
const recorded = Effect.gen(function*() {
  const made = yield* project
  const { journal } = made
  yield* journal.record("mission", root, mission("Repair the parser\nand more"))
  yield* journal.record("task", "task_a", running("a"))
  yield* journal.record("task", "task_b", { ...running("b"), parent: SessionId.make("ses_a"), createdAt: 3_000 })
  yield* journal.record("task", "task_c", completed("c", "found \u001b[31mit"))
  return made
})

describe("tasks and missions", () => {
  live(
    "show the tree of tasks while another process records them, from a folder of the project too",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { directory } = yield* recorded
      yield* fs.makeDirectory(`${directory}/src/deep`, { recursive: true })
      const { code, output } = yield* run(`${directory}/src/deep`, "tasks")
      const [head, ...lines] = output.trimEnd().split("\n")
      assert.match(head ?? "", /^ses_root active · .* old · Repair the parser$/)
      assert.deepStrictEqual(lines.map((line) => line.slice(0, line.indexOf(" · "))), [
        "  - task_a running",
        "    - task_b running",
        "  - task_c completed"
      ])
      assert.match(lines[0] ?? "", / Builder · write a · 0 tokens · \$0\.0000 · active .* ago$/)
      assert.strictEqual(code, 0)
      const states = yield* run(directory, "tasks", "--state", "completed", "--json")
      assert.deepStrictEqual(
        (JSON.parse(states.output) as ReadonlyArray<{ id: string }>).map(({ id }) => id), // the assertion tells otherwise
        ["task_c"]
      )
    }).pipe(Effect.scoped)
  )

  live(
    "tell state, goal, budget and end of each mission, and what nobody works on",
    Effect.gen(function*() {
      const { directory, journal } = yield* recorded
      const other = SessionId.make("ses_other")
      yield* journal.record(
        "mission",
        other,
        transition({ ...mission("Another"), root: other, startedAt: 5 }, {
          type: "ended",
          state: "halted",
          why: "It stood still.",
          answer: "I do not know."
        }, 9)
      )
      const { output } = yield* run(directory, "missions")
      assert.match(
        output,
        /^ses_root active · .* old · Repair the parser\n.* of 8 h · 0 of 50M tokens · \$0\.00 of \$50/
      )
      assert.match(output, /\nses_other halted · .* · Another\n {2}halted: It stood still\.\n/)
      const data: unknown = JSON.parse((yield* run(directory, "missions", "--json")).output)
      assert.deepNestedInclude({ data }, {
        "data[0].goal": "Repair the parser\nand more",
        "data[0].limits.cost": 50,
        "data[1].state": "halted",
        "data[1].answer": "I do not know."
      })
    }).pipe(Effect.scoped)
  )

  live(
    "say so where nothing is recorded, and refuse what they do not know",
    Effect.gen(function*() {
      const { directory } = yield* project
      const nothing = yield* run(directory, "tasks")
      assert.include(nothing.output, `Nothing is recorded in ${directory}`)
      assert.strictEqual(nothing.code, 0)
      const unknown = yield* run(directory, "tasks", "--mission", "ses_none")
      assert.include(unknown.output, "There is no mission \"ses_none\"")
      assert.notInclude(unknown.output, "    at ")
      assert.strictEqual(unknown.code, 1)
      assert.strictEqual((yield* run(directory, "tasks", "--dir", "/nowhere/at/all")).code, 2)
    }).pipe(Effect.scoped)
  )

  live(
    "end without a word when nobody reads on",
    Effect.gen(function*() {
      const { directory, journal } = yield* recorded
      yield* Effect.forEach(
        Array.from({ length: 3_000 }, (_, index) => index),
        (index) => journal.note("task", `task_x${index}`, { ...running(`x${index}`), description: "x".repeat(100) })
      )
      yield* journal.flushed
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const output = yield* spawner.string(ChildProcess.make("sh", [
        "-c",
        "{ \"$1\" \"$2\" tasks --dir \"$3\" 2>&3 | head -n 1; } 3>&1",
        "sh",
        process.execPath,
        main,
        directory
      ], { extendEnv: true, env: { FORCE_COLOR: undefined, NO_COLOR: "1" } }))
      assert.match(output, /^ses_root active · .* · Repair the parser\n$/)
    }).pipe(Effect.scoped)
  )

  live(
    "find archived tasks",
    Effect.gen(function*() {
      const { archive, directory, journal } = yield* project
      yield* archive.add(completed("old", "long ago"))
      yield* journal.record(
        "mission",
        root,
        transition(mission("goal"), { type: "ended", state: "complete", why: "Done." }, 9)
      )
      assert.include((yield* run(directory, "tasks")).output, "  - task_old completed · 7 s · Builder · write old")
    }).pipe(Effect.scoped)
  )
})

describe("watch", () => {
  live(
    "tells each change in a line where there is no terminal, and ends with the missions",
    Effect.gen(function*() {
      const { directory, journal } = yield* recorded
      const { code, until } = yield* follow(directory, "watch", "--exit")
      assert.match(yield* until("task_a"), /^\d\d:\d\d:\d\d task_a running · Builder · write a$/)
      yield* until("task_c completed")
      yield* journal.record("task", "task_a", completed("a", "done"))
      yield* journal.record("task", "task_b", { ...running("b"), state: "failed", reason: "no credit", endedAt: 9_000 })
      assert.include(yield* until("task_b failed"), "· no credit")
      const end = transition(mission("Repair the parser"), { type: "ended", state: "complete", why: "Done." }, 10_000)
      yield* journal.record("mission", root, end)
      assert.include(yield* until("ses_root complete"), "Repair the parser")
      assert.strictEqual(yield* code, 0)
    }).pipe(Effect.scoped)
  )
})

describe("cancel", () => {
  live(
    "asks the instance that lives, and tells what came of it",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { directory, journal, lease } = yield* recorded
      const { code, until } = yield* follow(directory, "cancel", "task_a")
      const folder = `${lease.folder}/requests`
      // What the instance does is tested beside it; here it is this test that answers.
      const asked = yield* Effect.repeat(Effect.orElseSucceed(fs.readDirectory(folder), (): Array<string> => []), {
        until: (names) => names.some((name) => name.endsWith(".json")),
        schedule: Schedule.spaced("20 millis")
      })
      assert.strictEqual(yield* fs.readFileString(`${folder}/${asked[0]}`), "{\"cancel\":\"task_a\"}")
      yield* journal.record("task", "task_a", {
        ...running("a"),
        state: "cancelled",
        reason: "asked",
        endedAt: Date.now()
      })
      assert.match(yield* until("task_a"), /^task_a was cancelled \d+ m?s ago\.$/)
      assert.strictEqual(yield* code, 0)
    }).pipe(Effect.scoped)
  )

  live(
    "says what is not to be cancelled: unknown, ended, or nobody's",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { directory, lease } = yield* recorded
      const unknown = yield* run(directory, "cancel", "task_none")
      assert.include(unknown.output, "There is no task and no mission \"task_none\"")
      assert.strictEqual(unknown.code, 1)
      const ended = yield* run(directory, "cancel", "task_c")
      assert.include(ended.output, "Nothing to cancel: task_c completed")
      assert.strictEqual(ended.code, 0)
      // As after a crash: the journal is there, its owner is not. Under another name, since this process renews its own lease.
      const name = lease.journal.slice(0, -".jsonl".length)
      const text = yield* fs.readFileString(`${name}.lease`)
      yield* fs.writeFileString(`${name}dead.lease`, text.replace(/"pid":\d+/, "\"pid\":999999999"))
      yield* fs.rename(lease.journal, `${name}dead.jsonl`)
      const nobodys = yield* run(directory, "cancel", "task_a")
      assert.include(nobodys.output, "No OpenCode works on task_a now")
      assert.strictEqual(nobodys.code, 1)
      assert.isFalse(yield* fs.exists(`${lease.folder}/requests`))
    }).pipe(Effect.scoped)
  )
})

describe("logs", () => {
  const write = (directory: string, name: string, text: string, flag: "a" | "w" = "w") =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      yield* fs.makeDirectory(`${directory}/.opencode/orchestrator`, { recursive: true })
      yield* fs.writeFileString(`${directory}/.opencode/orchestrator/${name}`, text, { flag })
    })
  const entry = (level: string, text: string) => `2026-01-01T00:00:00.000Z ${level.padEnd(5)} ${text}\n`

  live(
    "shows both files, the newest lines, of the level that is asked for",
    Effect.gen(function*() {
      const { directory } = yield* project
      const none = yield* run(directory, "logs")
      assert.include(none.output, "There is no log in")
      assert.strictEqual(none.code, 1)
      yield* write(directory, "orchestrator.log.1", entry("INFO", "first"))
      yield* write(
        directory,
        "orchestrator.log",
        `${entry("ERROR", "second\n  its cause")}${entry("INFO", "third")}half a li`
      )
      const texts = (output: string) => output.trimEnd().split("\n").map((line) => line.slice(31))
      assert.deepStrictEqual(texts((yield* run(directory, "logs")).output), ["first", "second", "", "third"])
      assert.deepStrictEqual(texts((yield* run(directory, "logs", "-n", "1")).output), ["third"])
      const errors = (yield* run(directory, "logs", "--level", "warn")).output
      assert.strictEqual(errors, entry("ERROR", "second\n  its cause"))
    }).pipe(Effect.scoped)
  )

  live(
    "goes on with what is written, also in the file that follows a full one",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { directory } = yield* project
      yield* write(directory, "orchestrator.log", `${entry("INFO", "an entry of some length")}`)
      const { until } = yield* follow(directory, "logs", "--follow")
      yield* until("an entry of some length")
      yield* write(directory, "orchestrator.log", entry("WARN", "added"), "a")
      yield* until("added")
      // Between two looks the file is filled, put aside, and followed by one that is longer already.
      const folder = `${directory}/.opencode/orchestrator`
      yield* write(directory, "orchestrator.log", entry("INFO", "the last of it"), "a")
      yield* fs.rename(`${folder}/orchestrator.log`, `${folder}/orchestrator.log.1`)
      yield* write(
        directory,
        "orchestrator.log",
        `${entry("INFO", "anew")}${entry("INFO", `\u001b[2Jlong ${"x".repeat(300)}`)}`
      )
      assert.include(yield* until("the last of it"), "INFO")
      assert.match(yield* until(""), /INFO {2}anew$/)
      assert.match(yield* until(""), /INFO {2}\[2Jlong x+$/)
    }).pipe(Effect.scoped)
  )
})

describe("report", () => {
  const hostile = "</pre><script>document.title = 'ran'</script><img src=x onerror=\"document.title = 'ran'\">"
  const withHostile = Effect.gen(function*() {
    const made = yield* recorded
    yield* made.journal.record("task", "task_h", {
      ...completed("h", hostile),
      id: TaskId.make("task_h"),
      description: hostile
    })
    return made
  })

  live(
    "writes a page into the project, Markdown and JSON to where they are wanted",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const { directory } = yield* withHostile
      const { code, output } = yield* run(directory, "report")
      assert.strictEqual(code, 0, output)
      const file = path.join(directory, ".opencode", "orchestrator", "reports", "ses_root.html")
      assert.strictEqual(output.trim(), file)
      const html = yield* fs.readFileString(file)
      assert.include(html, "<h1 dir=\"auto\">Repair the parser</h1>")
      assert.notInclude(html, "<script>")
      const markdown = yield* run(directory, "report", "ses_root", "--format", "markdown", "--out", "-")
      assert.include(markdown.output, "# Mission report\n")
      yield* run(directory, "report", "--format", "json", "--out", "out/report.json")
      assert.deepNestedInclude(
        JSON.parse(yield* fs.readFileString(path.join(directory, "out", "report.json"))),
        { version: 1, "mission.root": "ses_root", "tasks[0].id": "task_a", "tasks[1].id": "task_b" }
      )
    }).pipe(Effect.scoped)
  )

  /** As a real one goes: six at a time, some below others, two that failed, one that was run twice, all with results. */
  const withThirty = Effect.gen(function*() {
    const made = yield* project
    const { journal } = made
    const minute = 60_000
    for (let index = 0; index < 30; index++) {
      const name = `t${String(index + 1).padStart(2, "0")}`
      const createdAt = Math.floor(index / 10) * 9 * minute
      const startedAt = createdAt + Math.floor((index % 10) / 6) * 4 * minute + index * 1_500
      const ended = {
        ...completed(name, `The ${name} is written, and its ${index + 2} tests pass.\n\n- src/${name}.ts`),
        agent: ["Builder", "Researcher", "Builder", "Inspector", "Librarian"][index % 5] ?? "Builder",
        description: `Write ${name} of the parser, with all that belongs to it and its tests`,
        ...(index % 7 === 5 ? { parent: SessionId.make(`ses_t${String(index).padStart(2, "0")}`), depth: 2 } : {}),
        run: index === 12 ? 2 : 1,
        createdAt,
        startedAt,
        endedAt: startedAt + (2 + (index * 7) % 5) * minute,
        usage: { ...noUsage, input: 20_000 + index * 900, output: 2_000 + index * 70, cost: 0.11 + index * 0.004 }
      }
      const { result: _, ...without } = ended
      yield* journal.record(
        "task",
        ended.id,
        index === 8 || index === 21
          ? { ...without, state: "failed", reason: "The provider refused: no credit is left on this key." }
          : ended
      )
    }
    const end = { type: "ended", state: "complete", why: "The Commander said that it is complete." } as const
    const begun = {
      ...mission("Write the parser, its tests and its documentation"),
      spent: { time: 0, tokens: 1_240_000, cost: 5.61, tasks: 30, turns: 14 }
    }
    yield* journal.record("mission", root, transition(begun, end, 33 * minute))
    return made
  })

  const browser = ["chromium", "chromium-browser", "google-chrome"].find((name) =>
    spawnSync(name, ["--version"]).status === 0
  )
  /** Opens a page in the browser. */
  const opener = (directory: string, file: string) => (...args: ReadonlyArray<string>) =>
    Effect.flatMap(
      ChildProcessSpawner.ChildProcessSpawner,
      (spawner) =>
        spawner.string(ChildProcess.make(browser ?? "", [
          "--headless=new",
          "--no-sandbox",
          "--disable-gpu",
          "--hide-scrollbars",
          `--user-data-dir=${directory}/browser`,
          ...args,
          `file://${file}`
        ], { extendEnv: true }))
    )
  const title = "runs nothing of what agents have written in a real browser, in light and dark"
  if (browser === undefined) it.skip(`${title} (skipped: there is no Chromium on the PATH)`)
  else {
    live(
      title,
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const { directory } = yield* withHostile
        const file = (yield* run(directory, "report")).output.trim()
        const open = opener(directory, file)
        const dom = yield* open("--dump-dom")
        assert.include(dom, "<title>Repair the parser</title>")
        const pictures = yield* Effect.forEach([1, 0], (scheme) => {
          const picture = `${directory}/${scheme}.png`
          return open(
            `--blink-settings=preferredColorScheme=${scheme}`,
            "--window-size=1000,1400",
            `--screenshot=${picture}`
          )
            .pipe(Effect.andThen(fs.readFile(picture)))
        })
        assert.deepStrictEqual([...(pictures[0] ?? [])].slice(1, 4), [...Buffer.from("PNG")])
        assert.notDeepEqual(pictures[0], pictures[1])
      }).pipe(Effect.scoped)
    )

    live(
      "shows a mission of thirty tasks within the width of a screen, and of a telephone",
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const { directory } = yield* withThirty
        const file = (yield* run(directory, "report")).output.trim()
        const html = yield* fs.readFileString(file)
        const kept = process.env["REPORT_PICTURES"] ?? directory
        const widths = [360, 800, 1_400]
        // In frames: a window of the browser's is never as narrow as a telephone. The script stands beside the page.
        const frames = widths.map((width) =>
          `<iframe style="border:0;width:${width}px;height:7000px" srcdoc="${
            html.replaceAll("&", "&amp;").replaceAll("\"", "&quot;")
          }"></iframe>`
        )
        const framed = `${directory}/framed.html`
        yield* fs.writeFileString(
          framed,
          `<title>not measured</title><body style="margin:0;display:flex;width:max-content">${
            frames.join("")
          }<script>onload = () => { document.title = Array.from(frames).map(({ document, innerWidth }) => document.documentElement.scrollWidth + "/" + innerWidth).join(" ") }</script>`
        )
        const open = opener(directory, framed)
        const window = `--window-size=${widths.reduce((sum, width) => sum + width, 0)},7000`
        const dom = yield* open(window, "--virtual-time-budget=2000", "--dump-dom")
        assert.include(dom, `<title>${widths.map((width) => `${width}/${width}`).join(" ")}</title>`)
        const picture = `${kept}/thirty.png`
        yield* open(window, `--screenshot=${picture}`)
        assert.isAbove((yield* fs.readFile(picture)).length, 60_000)
      }).pipe(Effect.scoped)
    )
  }
})

describe("a command", () => {
  live(
    "ends without a word when whoever reads its lines is gone",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { directory } = yield* project
      const lines = Array.from({ length: 2_000 }, (_, at) => `2026-01-01T00:00:00.000Z INFO ${at} ${"x".repeat(200)}\n`)
      yield* fs.makeDirectory(`${directory}/.opencode/orchestrator`, { recursive: true })
      yield* fs.writeFileString(`${directory}/${logFile}`, lines.join(""))
      const { status, stderr, stdout } = spawnSync("sh", [
        "-c",
        "\"$0\" \"$1\" logs --follow --lines 2000 | head -n 1",
        process.execPath,
        main
      ], { cwd: directory, encoding: "utf8", timeout: 30_000 })
      assert.match(stdout, /^2026-01-01T00:00:00\.000Z INFO 0 x+\n$/)
      assert.strictEqual(stderr, "")
      assert.strictEqual(status, 0)
    }).pipe(Effect.scoped)
  )

  live(
    "says so when the folder that it runs in is gone",
    Effect.gen(function*() {
      const { directory } = yield* project
      const { status, stderr } = spawnSync("sh", [
        "-c",
        "mkdir gone && cd gone && rmdir ../gone && \"$0\" \"$1\" tasks",
        process.execPath,
        main
      ], { cwd: directory, encoding: "utf8", timeout: 30_000 })
      assert.include(stderr, "The folder that this runs in is gone")
      assert.notInclude(stderr, "    at ")
      assert.strictEqual(status, 2)
    }).pipe(Effect.scoped)
  )
})
