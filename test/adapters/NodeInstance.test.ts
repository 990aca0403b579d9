import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Schema } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as NodeInstance from "../../adapters/node-process/NodeInstance.ts"
import { Instance, Owner } from "../../src/host/Instance.ts"

/** The port as another process finds it: that process tells who it is. */
const ownerScript = `
  import { NodeServices } from "@effect/platform-node"
  import { Effect } from "effect"
  import * as NodeInstance from "./adapters/node-process/NodeInstance.ts"
  import { Instance } from "./src/host/Instance.ts"
  const owner = await Effect.runPromise(
    Effect.map(Instance, ({ owner }) => owner).pipe(
      Effect.provide(NodeInstance.layer("/project", process.argv[1])), Effect.provide(NodeServices.layer)
    )
  )
  console.log(JSON.stringify(owner))
  process.stdin.resume()
`

/** A process that knows who it is, and lives until it is killed. It has a language and a zone of its own. */
const anotherProcess = Effect.fnUntraced(function*(platform: string) {
  const told = yield* Deferred.make<string>()
  const gone = yield* Deferred.make<void>()
  const child = yield* Effect.acquireRelease(
    Effect.sync((): ChildProcess => {
      const child = spawn(process.execPath, ["--input-type=module", "-e", ownerScript, platform], {
        env: { ...process.env, TZ: "Asia/Tokyo", LC_ALL: "C.UTF-8" },
        stdio: ["pipe", "pipe", "inherit"]
      })
      let text = ""
      child.stdout.on("data", (chunk: Buffer) => {
        text += chunk.toString()
        if (text.includes("\n")) Deferred.doneUnsafe(told, Effect.succeed(text))
      })
      child.on("exit", () => {
        Deferred.doneUnsafe(told, Effect.succeed("it ended before it had told"))
        Deferred.doneUnsafe(gone, Effect.void)
      })
      return child
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )
  const owner = yield* Schema.decodeEffect(Schema.fromJsonString(Owner))(yield* Deferred.await(told))
  return {
    owner,
    signal: (signal: NodeJS.Signals) => Effect.sync(() => child.kill(signal)),
    gone: Deferred.await(gone)
  }
})

const withInstance = Effect.provide(Layer.provide(NodeInstance.layer("/project"), NodeServices.layer))

// As on macOS any Unix can be asked; as on Linux only that one.
for (const platform of process.platform === "win32" ? [] : [process.platform, "darwin"] as const) {
  it.live(`a process, looked at as on ${platform}, is alive, paused or not, until it is killed; then dead for ever`, () =>
    Effect.gen(function*() {
      const { isAlive, owner } = yield* Instance
      assert.strictEqual(yield* isAlive(owner), "alive")
      assert.strictEqual(yield* isAlive({ ...owner, startedAt: `${owner.startedAt}1` }), "dead")
      const other = yield* anotherProcess(platform)
      assert.strictEqual(other.owner.machine, owner.machine)
      assert.notStrictEqual(other.owner.pid, owner.pid)
      assert.strictEqual(yield* isAlive(other.owner), "alive")
      yield* other.signal("SIGSTOP")
      assert.strictEqual(yield* isAlive(other.owner), "alive")
      yield* other.signal("SIGKILL")
      yield* other.gone
      assert.strictEqual(yield* isAlive(other.owner), "dead")
    }).pipe(Effect.provide(Layer.provide(NodeInstance.layer("/project", platform), NodeServices.layer))))
}

describe("the process of an instance", () => {
  it.live("is alive to itself, under a name that is a name", () =>
    Effect.gen(function*() {
      const { isAlive, owner, root } = yield* Instance
      assert.strictEqual(root, "/project")
      assert.strictEqual(owner.pid, process.pid)
      assert.isTrue(Schema.is(Owner)(owner))
      assert.strictEqual(yield* isAlive(owner), "alive")
    }).pipe(withInstance))

  it.live("is dead when its pid belongs to a process that started at another time, or in another boot", () =>
    Effect.gen(function*() {
      const { isAlive, owner } = yield* Instance
      const [boot, namespace, started] = owner.startedAt.split("/")
      const other = (startedAt: string) => isAlive({ ...owner, startedAt })
      assert.strictEqual(yield* other([boot, namespace, `${started}1`].join("/")), "dead")
      assert.strictEqual(yield* other(["another-boot", namespace, started].join("/")), "dead")
      assert.strictEqual(yield* other(""), "dead")
      assert.strictEqual(yield* isAlive({ ...owner, pid: 2 ** 30 }), "dead")
    }).pipe(withInstance))

  it.live("is unknown on another machine, and in another container's namespace", () =>
    Effect.gen(function*() {
      const { isAlive, owner } = yield* Instance
      const [boot, , started] = owner.startedAt.split("/")
      assert.strictEqual(yield* isAlive({ ...owner, machine: "anothermachine" }), "unknown")
      assert.strictEqual(yield* isAlive({ ...owner, startedAt: [boot, "pid:[1]", started].join("/") }), "unknown")
    }).pipe(withInstance))
})
