import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, FileSystem, Layer, Scope, Stream } from "effect"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import * as NodeProcessGroups from "../../adapters/node-process/NodeProcessGroups.ts"
import { CommandId } from "../../src/domain/Command.ts"
import { ProcessGroups } from "../../src/host/ProcessGroups.ts"
import { living, nap, untilLiving } from "./processes.ts"

type Platform = "linux" | "darwin"
const tests =
  (platform: Platform) =>
  <E>(name: string, effect: Effect.Effect<void, E, ProcessGroups | FileSystem.FileSystem | Scope.Scope>) =>
    it.live(
      name,
      () =>
        Effect.scoped(effect).pipe(
          Effect.provide(Layer.provideMerge(NodeProcessGroups.layerOn(platform), NodeServices.layer)),
          Effect.timeout("20 seconds")
        ),
      30_000
    )

let made = 0
const newId = () => CommandId.make(`job_test${process.pid}x${++made}`)

const start = (
  command: string,
  options?: { readonly cwd?: string; readonly grace?: Duration.Input; readonly id?: CommandId }
) =>
  Effect.flatMap(ProcessGroups, (groups) =>
    groups.start({
      id: options?.id ?? newId(),
      command,
      cwd: options?.cwd ?? "/",
      grace: Duration.fromInputUnsafe(options?.grace ?? "5 seconds")
    }))

const textOf = (output: Stream.Stream<Uint8Array>) => Stream.mkString(Stream.decodeText(output))

/** What holds on every Unix; driven as on macOS it is the same here, but for the system's own `ps`. */
const onUnix = (platform: Platform) => {
  const test = tests(platform)

  test(
    "tells what the command prints, on both outputs, and its exit code",
    Effect.gen(function*() {
      const group = yield* start("echo out; echo err >&2; exit 7")
      assert.deepStrictEqual(yield* group.exit, { code: 7 })
      yield* group.end
      assert.strictEqual(yield* textOf(group.output), "out\nerr\n")
    })
  )

  test(
    "runs in its folder, with nothing to read",
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const folder = yield* fs.realPath(yield* fs.makeTempDirectoryScoped())
      const group = yield* start("pwd; cat; echo $(( 1 + 1 ))", { cwd: folder })
      assert.deepStrictEqual(yield* group.exit, { code: 0 })
      yield* group.end
      assert.strictEqual(yield* textOf(group.output), `${folder}\n2\n`)
    })
  )

  test(
    "is not started in a folder that is gone",
    Effect.gen(function*() {
      const error = yield* Effect.flip(start("true", { cwd: "/no/such/folder" }))
      assert.match(error.message, /could not be started/)
    })
  )

  test(
    "ends with all that the command has started, when it is told to",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`${seconds} & (${seconds} & ${seconds}); wait`)
      yield* untilLiving(seconds, 3)
      yield* group.end
      assert.strictEqual(living(seconds), 0)
    })
  )

  test(
    "ends with its scope",
    Effect.gen(function*() {
      const seconds = nap()
      const scope = yield* Scope.make()
      yield* Scope.provide(start(`${seconds} & ${seconds}`), scope)
      yield* untilLiving(seconds, 2)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(living(seconds), 0)
    })
  )

  test(
    "may clean up before it ends",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`trap 'echo cleaned; exit 3' TERM; echo ready; ${seconds} & wait`)
      yield* untilLiving(seconds, 1)
      yield* group.end
      assert.strictEqual(yield* textOf(group.output), "ready\ncleaned\n")
    })
  )

  test(
    "is killed after the grace when it does not end",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`trap '' TERM; ${seconds} & ${seconds}`, { grace: "200 millis" })
      yield* untilLiving(seconds, 2)
      const [time] = yield* Effect.timed(group.end)
      assert.isAtLeast(Duration.toMillis(time), 200)
      assert.isBelow(Duration.toMillis(time), 3_000)
      assert.strictEqual(living(seconds), 0)
    })
  )

  test(
    "does not wait for the grace when nothing is left",
    Effect.gen(function*() {
      const group = yield* start("true", { grace: "1 minute" })
      yield* group.exit
      const [time] = yield* Effect.timed(group.end)
      assert.isBelow(Duration.toMillis(time), 5_000)
    })
  )

  test(
    "is not ended by what the command leaves behind: that is seen, and ended by the end",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`${seconds} & echo left it`)
      assert.deepStrictEqual(yield* group.exit, { code: 0 })
      // The shell may have ended before what it has left has become a sleep.
      yield* untilLiving(seconds, 1)
      yield* group.end
      assert.strictEqual(living(seconds), 0)
    })
  )

  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    test(
      `ends when its host ends by ${signal}`,
      Effect.gen(function*() {
        const seconds = nap()
        const host = yield* startHost(platform, newId(), `${seconds} & (trap '' TERM; ${seconds}) & wait`)
        yield* untilLiving(seconds, 2)
        host.kill(signal)
        yield* untilLiving(seconds, 0)
      })
    )
  }

  test(
    "is ended by the next instance, and no other one is",
    Effect.gen(function*() {
      const groups = yield* ProcessGroups
      const [mine, other] = [nap(), nap()]
      const id = newId()
      const group = yield* start(mine, { id })
      yield* start(other)
      yield* untilLiving(mine, 1)
      yield* untilLiving(other, 1)
      yield* groups.endLeft(newId(), { ...group.leader, startedAt: `${group.leader.startedAt}0` })
      assert.strictEqual(living(mine), 1, "a number alone says nothing")
      yield* groups.endLeft(id, group.leader)
      assert.strictEqual(living(mine), 0)
      assert.strictEqual(living(other), 1)
    })
  )
}

describe.skipIf(process.platform !== "linux")("a process group, found as on macOS", () => onUnix("darwin"))

describe.skipIf(process.platform !== "linux")("a process group", () => {
  const test = tests("linux")
  onUnix("linux")

  test(
    "ends also what has left it for a session of its own",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`setsid ${seconds} & setsid -f ${seconds}; ${seconds}`)
      yield* untilLiving(seconds, 3)
      yield* group.end
      assert.strictEqual(living(seconds), 0)
    })
  )

  test(
    "prints a gigabyte into bounded memory",
    Effect.gen(function*() {
      const group = yield* start("yes 0123456789abcdef | head -c 1G")
      const before = process.memoryUsage().rss
      let most = 0
      let total = 0
      const reading = yield* Stream.runForEach(group.output, (chunk) =>
        Effect.sync(() => {
          total += chunk.length
          most = Math.max(most, process.memoryUsage().rss)
        })).pipe(Effect.forkScoped)
      assert.deepStrictEqual(yield* group.exit, { code: 0 })
      yield* group.end
      yield* Fiber.join(reading)
      assert.strictEqual(total, 2 ** 30)
      assert.isBelow(most - before, 300_000_000)
    })
  )

  test(
    "is ended by the next instance, when it has escaped from the end of its host",
    Effect.gen(function*() {
      const seconds = nap()
      const id = newId()
      const host = yield* startHost("linux", id, `setsid ${seconds} & ${seconds}; wait`)
      yield* untilLiving(seconds, 2)
      host.kill("SIGKILL")
      yield* untilLiving(seconds, 1)
      const groups = yield* ProcessGroups
      yield* groups.endLeft(CommandId.make(`${id}0`), undefined)
      yield* groups.endLeft(CommandId.make(id.slice(0, -1)), undefined)
      assert.strictEqual(living(seconds), 1, "only those of the command itself are ended")
      yield* groups.endLeft(id, undefined)
      assert.strictEqual(living(seconds), 0)
    })
  )
})

/** A process that starts a group, as the host does, and does nothing more. */
const startHost = (platform: Platform, id: string, command: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [fileURLToPath(new URL("groupHost.ts", import.meta.url)), platform, id, command], {
        stdio: "inherit"
      })
    ),
    (host) => Effect.sync(() => host.kill("SIGKILL"))
  )
