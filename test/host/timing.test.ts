/** How soon things happen: nothing runs beside these tests. */
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { isOf, isToast, isUserMessage, openProject, type Seen, Server } from "./project.ts"
import { hangUp, notices, script } from "./team.ts"

/** From the end of a child, as the host told it, to the parent's message, in ms. */
const delays: Array<number> = []

/** The parent of a child that has `ended` is told of it once, in these words; how soon is noted. */
const isToldOnce = Effect.fnUntraced(function*(
  { seen, texts, until }: Effect.Success<ReturnType<typeof openProject>>,
  root: string,
  ended: Seen,
  expected: RegExp
) {
  yield* until(isToast("Mission complete"))
  const heard = notices(yield* texts(root, "user"))
  assert.strictEqual(heard.length, 1)
  assert.match(heard[0] ?? "", expected)
  const told = seen.filter(isUserMessage(root)).find((event) => event.at >= ended.at)
  delays.push((told?.at ?? Infinity) - ended.at)
})

// With snapshots and all compilers, as users have it.
layer(Server.layer(script, { snapshot: true }, {}, {}), { excludeTestServices: true, timeout: "60 seconds" })(
  "the plugin in a real OpenCode",
  (it) => {
    for (
      const [name, order, expected] of [
        ["that answers with nothing", "silent", /completed after .*\n\(no output\)/],
        ["whose provider refuses its key", "unauthorized", /failed after .*\ninvalid key, says the provider/],
        ["that is rate limited", "limited please", /completed after .*\ncame through/]
      ] as const
    ) {
      it.effect(`the parent is told once of a child ${name}`, () =>
        Effect.gen(function*() {
          const project = yield* openProject()
          const root = yield* project.say(`DO\nBuilder: ${order}`)
          yield* project.until(isToast("Mission complete"))
          const child = (yield* project.children(root))[0]?.id ?? ""
          const ended = yield* project.until(isOf(order === "unauthorized" ? "session.error" : "session.idle", child))
          yield* isToldOnce(project, root, ended, expected)
        }))
    }

    it.effect("an aborted child ends as cancelled, and the parent is told once", () =>
      Effect.gen(function*() {
        const project = yield* openProject()
        const { children, client, say, until } = project
        const model = yield* ScriptedModel
        const root = yield* say("DO\nBuilder: hang until aborted")
        while (
          (yield* model.next).users[0] !== "hang until aborted"
        ) { /* the child's call comes after the Commander's */ }
        const child = (yield* children(root))[0]?.id ?? ""
        yield* Effect.promise(() => client.session.abort({ sessionID: child }))
        const ended = yield* until(isOf("session.error", child))
        yield* isToldOnce(project, root, ended, /was cancelled after/)
      }))

    it.effect("a child whose session is deleted ends as failed, and the parent is told once", () =>
      Effect.gen(function*() {
        const project = yield* openProject()
        const { children, client, say, until } = project
        const model = yield* ScriptedModel
        const root = yield* say("DO\nBuilder: hang until deleted")
        while (
          (yield* model.next).users[0] !== "hang until deleted"
        ) {
          /* the child's call comes after the Commander's */
        }
        const child = (yield* children(root))[0]?.id ?? ""
        yield* Effect.promise(() => client.session.delete({ sessionID: child }))
        const ended = yield* until((event) =>
          event.type === "session.deleted" && event.properties["sessionID"] === child
        )
        yield* isToldOnce(project, root, ended, /failed after .*\nIts session was deleted while it worked/)
        yield* Deferred.await(hangUp("hang until deleted"))
      }))

    it.effect("when the parent is deleted, no child calls the model any more within 2 s", () =>
      Effect.gen(function*() {
        const { client, say } = yield* openProject()
        const model = yield* ScriptedModel
        const orders = [1, 2, 3, 4].map((n) => `hang for the deleted parent ${n}`)
        const root = yield* say(`DO\n${orders.map((order) => `Builder: ${order}`).join("\n")}`)
        const missing = new Set(orders)
        while (missing.size > 0) missing.delete((yield* model.next).users[0] ?? "")
        const deletedAt = Date.now()
        yield* Effect.promise(() => client.session.delete({ sessionID: root }))
        const ends = yield* Effect.forEach(orders, (order) => Deferred.await(hangUp(order)), {
          concurrency: "unbounded"
        })
        assert.isBelow(Math.max(...ends) - deletedAt, 2_000)
        const late = (yield* model.calls).filter(({ request }) =>
          orders.includes(request.users[0] ?? "") && request.at > deletedAt
        )
        assert.deepStrictEqual(late, [])
      }))

    it.effect("the parent was told within 300 ms of each of these ends, in the median", () =>
      Effect.sync(() => {
        const median = delays.toSorted((a, b) => a - b)[Math.floor(delays.length / 2)] ?? Infinity
        assert.isBelow(median, 300, `of ${delays.join(", ")} ms`)
      }))
  }
)
