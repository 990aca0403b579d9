import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Layer } from "effect"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import { request } from "../../src/tasks/Requests.ts"
import { delegates, folder, hangs, isWorking, pass, say, start, states, task, until, withWorld } from "./scripts.ts"

/** Another process of the same machine asks. */
const ask = Effect.fnUntraced(function*(cancel: string) {
  const processes = yield* SimulatedInstance.SimulatedProcesses
  const owner = yield* processes.start()
  return yield* request(cancel).pipe(
    Effect.provide(Lease.layer.pipe(Layer.provideMerge(SimulatedInstance.layer(owner))))
  )
})

const left = Effect.flatMap(
  FileSystem.FileSystem,
  (fs) => Effect.orElseSucceed(fs.readDirectory(`${folder}/requests`), (): ReadonlyArray<string> => [])
)
const isEmpty = Effect.map(left, (names) => names.length === 0)
const stateOf = (root: string) =>
  Effect.flatMap(Missions, ({ all }) => Effect.map(all, (all) => all.find((mission) => mission.root === root)?.state))

const actors = { goal: delegates([{ prompt: "work 1" }, { prompt: "work 2" }]), work: hangs }

describe("a request of another process", () => {
  it.effect("cancels the task that it names, and is gone then", () =>
    Effect.gen(function*() {
      const life = yield* start()
      yield* life.do(say("goal"))
      yield* life.do(until(isWorking("work 2")))
      const { id } = yield* life.do(task("work 1"))
      yield* ask(id)
      yield* until(isEmpty, "20 seconds")
      assert.deepStrictEqual(yield* life.do(states), ["cancelled", "running"])
      assert.strictEqual(
        (yield* life.do(task("work 1"))).reason,
        "Cancelled: the user asked for it on the command line."
      )
    }).pipe(withWorld(actors)))

  it.effect("stops the mission that it names, with its tasks", () =>
    Effect.gen(function*() {
      const life = yield* start()
      const root = yield* life.do(say("goal"))
      yield* life.do(until(isWorking("work 2")))
      yield* ask(root)
      yield* until(isEmpty, "20 seconds")
      assert.strictEqual(yield* life.do(stateOf(root)), "stopped")
      assert.deepStrictEqual(yield* life.do(states), ["cancelled", "cancelled"])
    }).pipe(withWorld(actors)))

  it.effect("for a task that is elsewhere waits for its instance, and is dropped after a minute", () =>
    Effect.gen(function*() {
      const life = yield* start()
      yield* life.do(say("goal"))
      yield* life.do(until(isWorking("work 2")))
      yield* ask("task_elsewhere")
      yield* pass("50 seconds")
      assert.lengthOf(yield* left, 1)
      yield* until(isEmpty, "20 seconds")
      assert.deepStrictEqual(yield* life.do(states), ["running", "running"])
    }).pipe(withWorld(actors)))

  it.effect("that is no request is left alone: another name, a folder, too large, something else inside", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const life = yield* start()
      yield* life.do(say("goal"))
      yield* life.do(until(isWorking("work 2")))
      const { id } = yield* life.do(task("work 1"))
      const put = (name: string, text: string) => fs.writeFileString(`${folder}/requests/${name}`, text)
      yield* fs.makeDirectory(`${folder}/requests/request_aaaaaaaaaaaa.json`, { recursive: true })
      yield* put("mine.json", JSON.stringify({ cancel: id }))
      yield* put("request_bbbbbbbbbbbb.json", JSON.stringify({ cancel: id, more: "x".repeat(2_000) }))
      yield* put("request_cccccccccccc.json", "not JSON")
      yield* put("request_dddddddddddd.json", JSON.stringify({ cancel: `../${id}` }))
      yield* pass("2 minutes")
      assert.deepStrictEqual(yield* life.do(states), ["running", "running"])
      assert.deepStrictEqual(
        (yield* left).map((name) => name.replace(/^.*\//, "")).toSorted(),
        ["mine.json", "request_aaaaaaaaaaaa.json", "request_bbbbbbbbbbbb.json"]
      )
    }).pipe(withWorld(actors)))

  it.effect("refuses an id that could be no task's and no mission's", () =>
    Effect.gen(function*() {
      yield* start()
      assert.isTrue((yield* Effect.exit(ask("../x")))._tag === "Failure")
    }).pipe(withWorld(actors)))
})
