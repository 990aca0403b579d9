import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Task, TaskStore } from "opencode-orchestrator-effect"
import { RecordingNotifier, type SimulatedScript, TestOrchestrator } from "opencode-orchestrator-effect/testing"

const order = (part: number) => ({
  name: "delegate_task",
  args: { agent: "Builder", description: `Part ${part}`, prompt: `Build part ${part}`, background: true }
})

/** The models: a Commander that delegates six parts and waits for them, and Builders that take four minutes each. */
const script: SimulatedScript = (request) => {
  if (!request.system.includes("You are the Commander")) {
    return Effect.delay(Effect.succeed({ text: `Done: ${request.users[0]}` }), "4 minutes")
  }
  const results = request.users.join().match(/Done: Build part \d/g) ?? []
  return Effect.succeed(
    results.length === 6
      ? { text: "All parts are built.\n\nMISSION COMPLETE" }
      : request.turns === 0
      ? { toolCalls: [1, 2, 3, 4, 5, 6].map(order) }
      : { text: "I wait." }
  )
}

const settings = { concurrency: { agents: { Builder: 2 } } }

it.effect("six parts, two at a time: twelve minutes of work, tested at once", () =>
  Effect.gen(function*() {
    const user = yield* TestOrchestrator.TestUser
    const store = yield* TaskStore
    const running = Effect.map(store.all, (tasks) => tasks.filter(({ state }) => state === "running").length)

    const saying = yield* Effect.forkChild(user.say("Build it"))
    yield* TestClock.adjust("1 minute")
    yield* Fiber.join(saying)
    assert.strictEqual(yield* running, 2)

    yield* TestClock.adjust("30 minutes")
    assert.isTrue((yield* store.all).every((task) => Task.isSettled(task) && task.told))
    const toasts = yield* Effect.flatMap(RecordingNotifier.ShownToasts, ({ all }) => all)
    assert.include(toasts.map(({ title }) => title), "Mission complete")
  }).pipe(Effect.provide(TestOrchestrator.layer({ script, config: settings }))))
