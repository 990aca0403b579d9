import { NodeServices } from "@effect/platform-node"
import { assert, it as test, layer } from "@effect/vitest"
import { Deferred, Effect, FileSystem, Layer, Schedule } from "effect"
import { makeProject, pluginUrl, type RealHost, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import type { Script } from "../../adapters/test/Script.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isToast, openProject, Server } from "./project.ts"

const plan = [
  "# The plan",
  "- [ ] T12: step T12 | agent:Inspector | depends:T9,T11",
  "- [ ] T1: step T1",
  "- [ ] T2: step T2",
  "- [ ] T3: step T3",
  "- [ ] T4: step T4",
  "- [ ] T5: step T5 | depends:T1",
  "- [ ] T6: step T6 | depends:T2,T3",
  "- [ ] T7: step T7 | depends:T4 | files:src/a.ts",
  "- [ ] T8: step T8 | depends:T4 | files:./src/a.ts",
  "- [ ] T9: step T9 | depends:T5,T6",
  "- [ ] T10: step T10 | depends:T7,T8",
  "- [ ] T11: step T11 | agent:Inspector | depends:T10",
  "- [x] T13: step T13"
].join("\n")

/** K2 is at work when OpenCode is killed. */
const killed = [
  "- [ ] K1: step K1",
  "- [ ] K2: step K2 | depends:K1",
  "- [ ] K3: step K3 | depends:K2",
  "- [ ] K4: step K4 | depends:K1",
  "- [ ] K5: step K5 | depends:K3,K4"
].join("\n")

/** What began and ended, in this order, as the model saw it. */
const log: Array<string> = []
const signals = new Map<string, Deferred.Deferred<void>>()
const signal = (name: string) => {
  const known = signals.get(name) ?? Deferred.makeUnsafe<void>()
  signals.set(name, known)
  return known
}
/** What a step waits for until it answers: begins of others that must not wait for its end. */
const together: Readonly<Record<string, ReadonlyArray<string>>> = {
  T1: ["T1", "T2", "T3", "T4"],
  T2: ["T1", "T2", "T3", "T4", "T5"],
  T3: ["T1", "T2", "T3", "T4"],
  T4: ["T1", "T2", "T3", "T4"]
}

const script: Script = (request) =>
  Effect.gen(function*() {
    const text = request.users.at(-1) ?? ""
    if (/^You are the Commander/m.test(request.system)) {
      if (/tasks? ha(s|ve) ended/.test(text)) return { text: "All heard.\nMISSION COMPLETE" }
      if (request.toolResults.length > 0) return { text: "I wait." }
      const wanted = text.startsWith("BAD") ? text : text.startsWith("KILL") ? killed : plan
      return { toolCalls: [{ name: "run_plan", args: { plan: wanted } }] }
    }
    const name = /^step (\w+)/.exec(request.users[0] ?? "")?.[1] ?? ""
    log.push(`begin ${name}`)
    yield* Deferred.succeed(signal(name), undefined)
    if (name === "K2" && request.users.length === 1) return yield* Effect.never
    yield* Effect.forEach(together[name] ?? [], (other) => Deferred.await(signal(other)), { discard: true })
    log.push(`end ${name}`)
    return { text: `result of ${name}` }
  })

layer(Server.layer(script), { excludeTestServices: true, timeout: "60 seconds" })(
  "a plan in a real OpenCode",
  (it) => {
    it.effect("of twelve tasks runs each as soon as it may, side by side, and is told in one message", () =>
      Effect.gen(function*() {
        const { children, say, texts, until } = yield* openProject()
        const root = yield* say("Carry out the plan")
        yield* until(isToast("Mission complete"))
        const at = (entry: string) => {
          const index = log.indexOf(entry)
          assert.isAtLeast(index, 0, `${entry} in ${log.join(", ")}`)
          assert.strictEqual(log.lastIndexOf(entry), index, `${entry} twice in ${log.join(", ")}`)
          return index
        }
        assert.lengthOf(log, 24)
        for (const [, name = "", before = ""] of plan.matchAll(/- \[ \] (\w+): .*depends:(\S+)/g)) {
          for (const other of before.split(",")) assert.isBelow(at(`end ${other}`), at(`begin ${name}`))
        }
        // The four that depend on nothing are at work together before any has ended, and T5 does not wait for T2.
        assert.sameMembers(log.slice(0, 4), ["begin T1", "begin T2", "begin T3", "begin T4"])
        assert.isBelow(at("begin T5"), at("end T2"))
        // They name the same file.
        assert.isTrue(at("end T7") < at("begin T8") || at("end T8") < at("begin T7"), log.join(", "))
        const answer = (yield* texts(root, "assistant")).find((text) => text.startsWith("plan_")) ?? ""
        assert.match(answer, /^plan_\w+ runs: 12 tasks, 4 started\.\nStarted:\n- T1 task_\w+ \(Builder\): step T1\n/)
        assert.match(answer, /\nWaiting:\n- T5 \(Builder\) waits for T1: step T5\n/)
        const heard = yield* texts(root, "user")
        assert.lengthOf(heard, 2)
        assert.match(heard[1] ?? "", /^12 tasks have ended\./)
        for (let step = 1; step <= 12; step++) assert.include(heard[1], `T${step}: step T${step}\nresult of T${step}`)
        const sessions = yield* children(root)
        assert.lengthOf(sessions, 12)
        assert.lengthOf(sessions.filter(({ agent }) => agent === "Inspector"), 2)
        const model = yield* ScriptedModel
        const calls = yield* model.calls
        const last = calls.find(({ request }) => request.users[0]?.startsWith("step T12"))?.request
        assert.include(last?.users[0], "## T9 (Builder): step T9\nresult of T9")
        assert.notInclude(last?.users[0], "result of T1\n")
        // Only the Commander is shown the tool.
        for (const { request } of calls) {
          const isCommander = /^You are the Commander/m.test(request.system)
          assert.strictEqual(request.tools.includes("run_plan"), isCommander, request.users[0])
        }
      }))

    it.effect("that cannot be carried out is refused in one answer, with everything that is wrong", () =>
      Effect.gen(function*() {
        const { children, say, texts, until } = yield* openProject()
        const root = yield* say(
          "BAD\n- [ ] T1: a | agent:Nobody\n- [ ] T2: b | depends:T3\n- [ ] T3: c | depends:T2,T9"
        )
        yield* until((event) => event.type === "session.idle" && event.properties["sessionID"] === root)
        const answer = (yield* texts(root, "assistant")).find((text) => text.includes("plan was not started")) ?? ""
        assert.match(answer, /line 2: there is no agent "Nobody" to delegate to; there are .*Builder, .*Researcher/)
        assert.match(answer, /line 4: it depends on "T9", which is not in the plan; there are T1, T2, T3\./)
        assert.match(answer, /line 3: a circle: T2 waits for T3 waits for T2\./)
        assert.deepStrictEqual(yield* children(root), [])
      }))
  }
)

/** What a session was told: the user's words, and the orchestrator's. */
const heardIn = (host: RealHost, session: string) =>
  Effect.promise(async () =>
    ((await host.client.session.messages({ sessionID: session })).data ?? [])
      .filter(({ info }) => info.role === "user")
      .flatMap(({ parts }) => parts.flatMap((part) => (part.type === "text" ? [part.text] : [])))
  )

test.live(
  "a plan whose OpenCode is killed in the middle goes on after a restart, and runs no step twice",
  () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const model = yield* ScriptedModel
      const directory = yield* makeProject()
      const home = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-home-" })
      const start = startHost({ plugin: [pluginUrl], directory, home, env: shortLived }).pipe(
        Effect.tap((host) => Effect.promise(() => host.client.tool.ids())) // loads the plugin
      )
      const first = yield* start
      const { data } = yield* Effect.promise(() => first.client.session.create({ title: "killed" }))
      const root = data?.id ?? ""
      yield* Effect.promise(() =>
        first.client.session.promptAsync({
          sessionID: root,
          agent: "Commander",
          parts: [{ type: "text", text: "KILL" }]
        })
      )
      while ((yield* model.next).users[0]?.startsWith("step K2") !== true) { /* not yet */ }
      yield* Deferred.await(signal("K4"))
      yield* first.kill("SIGKILL")
      const second = yield* start
      const notices = Effect.map(
        heardIn(second, root),
        (all) => all.filter((text) => /tasks? ha(s|ve) ended/.test(text))
      )
      yield* notices.pipe(
        Effect.repeat({
          until: (all) => all.length > 0,
          schedule: Schedule.spaced("100 millis")
        }),
        Effect.timeout("60 seconds")
      )
      const [told = "", ...more] = yield* notices
      assert.deepStrictEqual(more, [])
      assert.match(told, /^5 tasks have ended\./)
      for (let step = 1; step <= 5; step++) assert.include(told, `K${step}: step K${step}\nresult of K${step}`)
      const children = (yield* Effect.promise(() => second.client.session.children({ sessionID: root }))).data ?? []
      assert.lengthOf(children, 5)
      const begun = log.filter((entry) => entry.startsWith("begin K"))
      assert.deepStrictEqual(begun.filter((entry) => entry === "begin K2").length, 2) // once more, as its run 2
      for (const name of ["K1", "K3", "K5"]) assert.lengthOf(begun.filter((entry) => entry === `begin ${name}`), 1)
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.provideMerge(ScriptedModel.layer(script), NodeServices.layer))
    ),
  120_000
)
