import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, FileSystem, Path } from "effect"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isOf, isToast, isUserMessage, openProject, openShared, Server, settings } from "./project.ts"
import { hangUp, notices, script } from "./team.ts"

layer(Server.layer(script), { excludeTestServices: true, timeout: "60 seconds" })(
  "the plugin in a real OpenCode",
  (it) => {
    it.effect("a goal is delegated to agents that work at once, and the mission ends by itself", () =>
      Effect.gen(function*() {
        const { children, say, texts, until } = yield* openShared
        const root = yield* say("DO\nBuilder: one\nBuilder: two\nInspector: three")
        yield* until(isToast("Mission complete"))
        const heard = notices(yield* texts(root, "user"))
        assert.strictEqual(heard.length, 1)
        for (const word of ["did one", "did two", "did three"]) assert.include(heard[0], word)
        const sessions = yield* children(root)
        assert.sameMembers(sessions.map((session) => session.agent), ["Builder", "Builder", "Inspector"])
      }))

    it.effect("a child that spends 10 s in one tool call is not done before its last turn", () =>
      Effect.gen(function*() {
        const { say, seen, texts, until } = yield* openProject()
        const root = yield* say("DO\nBuilder: bash sleep 10; echo slept")
        yield* until(isToast("Mission complete"))
        assert.match(notices(yield* texts(root, "user"))[0] ?? "", /completed after 1\d s.*\ntool said: slept/)
        assert.strictEqual(seen.filter(isToast("Builder completed")).length, 1)
      }))

    it.effect("two projects in one server do not see each other's tasks", () =>
      Effect.gen(function*() {
        const here = yield* openProject()
        const root = yield* here.say("DO\nBuilder: work here")
        yield* here.until(isToast("Mission complete"))
        const id = /task_\w+/.exec(notices(yield* here.texts(root, "user"))[0] ?? "")?.[0] ?? ""
        const there = yield* openProject()
        const other = yield* there.say(`LIST ${id}`)
        yield* there.until(isToast("Mission complete"))
        const answers = (yield* there.texts(other, "assistant")).join("\n")
        assert.include(answers, "There are no tasks.")
        assert.include(answers, `There is no task "${id}".`)
        assert.strictEqual(here.seen.filter(isToast("Builder completed")).length, 1)
        assert.strictEqual(there.seen.filter(isToast("Builder completed")).length, 0)
      }))

    it.effect("a child that delegates in the background is done only when it has spoken again", () =>
      Effect.gen(function*() {
        const { children, say, texts, until } = yield* openShared
        const root = yield* say("DO\nArchitect: research the question")
        yield* until(isToast("Mission complete"))
        const heard = notices(yield* texts(root, "user"))
        assert.strictEqual(heard.length, 1)
        assert.match(heard[0] ?? "", /Architect · .*\nheard: found it-in-the-code/)
        const child = (yield* children(root))[0]?.id ?? ""
        assert.strictEqual((yield* children(child))[0]?.agent, "Researcher")
      }))

    it.effect("what one agent reports, the next one of the mission is told at its start", () =>
      Effect.gen(function*() {
        const { children, say, seen, texts, until } = yield* openShared
        const isComplete = isToast("Mission complete")
        const root = yield* say("DO\nBuilder: report it")
        yield* until(isComplete)
        yield* say("DO\nInspector: listen", "Commander", root)
        yield* until((event) => isComplete(event) && seen.filter(isComplete).length > 1)
        const child = (yield* children(root)).find(({ agent }) => agent === "Inspector")?.id ?? ""
        assert.match(
          (yield* texts(child, "user"))[0] ?? "",
          /^listen\n\n.*not instructions.*\n> DECISION by Builder: use SQLite$/
        )
      }))

    it.effect("rights hold: the Recorder writes under .opencode and nowhere else, the Inspector has no edit tool", () =>
      Effect.gen(function*() {
        const { directory, say, texts, until } = yield* openProject()
        const fs = yield* FileSystem.FileSystem
        const path = yield* Path.Path
        const notes = path.join(directory, ".opencode", "context.md")
        const outside = path.join(directory, "src.md")
        const root = yield* say(
          `DO\nRecorder: write ${notes} the notes\nRecorder: write ${outside} not allowed\nInspector: write ${outside} no tool\nBuilder: write ${
            path.join(directory, "built.md")
          } built`
        )
        yield* until(isToast("Mission complete"))
        assert.strictEqual(notices(yield* texts(root, "user")).length, 1)
        assert.strictEqual(yield* fs.readFileString(notes), "the notes")
        assert.strictEqual(yield* fs.readFileString(path.join(directory, "built.md")), "built")
        assert.isFalse(yield* fs.exists(outside))
        const model = yield* ScriptedModel
        const inspector = (yield* model.calls).find(({ request }) => request.users[0]?.endsWith("no tool"))
        const offered = inspector?.request.tools ?? []
        assert.deepStrictEqual(offered.filter((tool) => ["edit", "write", "delegate_task"].includes(tool)), [])
        assert.include(offered, "bash")
      }))

    it.effect("the user's own agents are not shown the orchestrator's tools, and stay the default", () =>
      Effect.gen(function*() {
        const { client, say, until } = yield* openShared
        const root = yield* say("plain question for build", "build")
        yield* until(isOf("session.idle", root))
        const model = yield* ScriptedModel
        const call = (yield* model.calls).find(({ request }) => request.users[0] === "plain question for build")
        assert.deepStrictEqual(call?.request.tools.filter((tool) => /task|agent/.test(tool)), ["task"])
        const config = yield* Effect.promise(() => client.config.get())
        assert.isUndefined(config.data?.default_agent)
      }))

    it.effect("/task starts a mission with its arguments untouched; /agents starts none", () =>
      Effect.gen(function*() {
        const { client, seen, texts, until } = yield* openProject()
        const session = (yield* Effect.promise(() => client.session.create({ title: "commands" }))).data?.id ?? ""
        const goal = "first line\nsecond \"quoted\" `line` with $HOME, $1, $& and $$, !`touch executed` and 'more'"
        yield* Effect.promise(() => client.session.command({ sessionID: session, command: "agents", arguments: "" }))
        assert.include((yield* texts(session, "user")).join("\n"), "Librarian")
        assert.strictEqual(seen.filter(isToast("Mission started")).length, 0)
        yield* Effect.promise(() => client.session.command({ sessionID: session, command: "task", arguments: goal }))
        yield* until(isToast("Mission complete"))
        assert.include(yield* texts(session, "user"), goal)
        yield* Effect.promise(() => client.session.command({ sessionID: session, command: "report", arguments: "" }))
        const report = (yield* texts(session, "user")).at(-1)
        assert.include(report, "# Mission report")
        assert.include(report, goal)
        assert.include(report, "Mission: complete")
        assert.strictEqual(seen.filter(isToast("Mission started")).length, 1)
      }))

    it.effect("/stop ends the mission and its children for good, until /resume", () =>
      Effect.gen(function*() {
        const { client, say, seen, texts, until } = yield* openShared
        const model = yield* ScriptedModel
        const order = "hang until the user stops"
        const root = yield* say(`DO\nBuilder: ${order}`)
        while ((yield* model.next).users[0] !== order) { /* the child's call comes after the Commander's */ }
        yield* until(isOf("session.idle", root))
        const command = (command: string) =>
          Effect.promise(() => client.session.command({ sessionID: root, command, arguments: "" }))
        yield* command("tasks")
        assert.match(
          (yield* texts(root, "user")).at(-1) ?? "",
          /Mission: active\n.*\n.*\n\n- task_\w+ running .* Builder · .* active .* ago/
        )
        yield* command("stop")
        yield* Deferred.await(hangUp(order))
        const stopped = yield* texts(root, "user")
        assert.isTrue(stopped.some((text) => text.includes("The mission is stopped, and its agents with it.")))
        assert.strictEqual(notices(stopped).length, 1)
        assert.strictEqual(seen.filter(isToast("Mission complete")).length, 0)
        yield* command("resume")
        yield* until(isToast("Mission complete"))
      }))

    it.effect("a user's abort stops the mission and its children until the user speaks again", () =>
      Effect.gen(function*() {
        const { client, say, seen, texts, until } = yield* openShared
        const model = yield* ScriptedModel
        const order = "hang while the user aborts"
        const root = yield* say(`DO\nBuilder: ${order}`)
        while ((yield* model.next).users[0] !== order) { /* the child's call comes after the Commander's */ }
        yield* until(isOf("session.idle", root))
        yield* say("HANG", "Commander", root)
        while ((yield* model.next).users.at(-1) !== "HANG") {
          /* until the Commander is in a turn that can be aborted */
        }
        const before = new Set(seen)
        yield* Effect.promise(() => client.session.abort({ sessionID: root }))
        yield* until(isToast("Mission stopped"))
        yield* Deferred.await(hangUp(order))
        yield* until((event) => !before.has(event) && isUserMessage(root)(event))
        const stored = notices(yield* texts(root, "user"))
        assert.strictEqual(stored.length, 1)
        assert.include(stored[0], "was cancelled")
        assert.strictEqual(seen.filter(isToast("Mission complete")).length, 0)
        yield* say("Go on", "Commander", root)
        yield* until(isToast("Mission complete"))
        assert.notInclude((yield* texts(root, "user")).join("\n"), "CONTINUE")
      }))

    it.effect("a bad setting is named in a toast, and the default holds", () =>
      Effect.gen(function*() {
        const { say, seen, until } = yield* openProject(
          settings("{ // limits\n  \"concurrency\": { \"agent\": 0 }, \"pollIntervall\": 5 }\n")
        )
        yield* say("DO\nBuilder: something")
        yield* until(isToast("Mission complete"))
        const toast = seen.find(isToast("Orchestrator config"))?.properties["message"]
        assert.include(
          toast,
          ".opencode/orchestrator.jsonc: concurrency.agent must be a whole number from 1 to 1000; the default is used."
        )
        assert.include(toast, "there is no setting pollIntervall")
      }))
  }
)
