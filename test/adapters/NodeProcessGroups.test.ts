import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, FileSystem, Layer, Schedule, Scope, Stream } from "effect"
import { spawn } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import * as NodeProcessGroups from "../../adapters/node-process/NodeProcessGroups.ts"
import { CommandId } from "../../src/domain/Command.ts"
import { ProcessGroups } from "../../src/host/ProcessGroups.ts"

const services = Layer.provideMerge(NodeProcessGroups.layer, NodeServices.layer)
const test = <E>(name: string, effect: Effect.Effect<void, E, ProcessGroups | FileSystem.FileSystem | Scope.Scope>) =>
  it.live(name, () => Effect.scoped(effect).pipe(Effect.provide(services), Effect.timeout("20 seconds")), 30_000)

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

/** Living processes with exactly this command line. */
const living = (text: string) =>
  readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid)) return false
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim() === text
        && !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")
    } catch {
      return false
    }
  })

/** Waits until as many live as that; the test's own time limit ends the wait. */
const untilLiving = (text: string, count: (living: number) => boolean) =>
  Effect.sync(() => living(text).length).pipe(
    Effect.repeat({ until: count, schedule: Schedule.spaced("20 millis") })
  )

/** A number of seconds that no other test sleeps. */
const nap = () => 100_000 + (process.pid % 10_000) * 80 + made++

describe.skipIf(process.platform !== "linux")("a process group", () => {
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
      const group = yield* start(`sleep ${seconds} & (sleep ${seconds} & sleep ${seconds}); wait`)
      yield* untilLiving(`sleep ${seconds}`, (count) => count >= 3)
      yield* group.end
      assert.deepStrictEqual(living(`sleep ${seconds}`), [])
    })
  )

  test(
    "ends with its scope",
    Effect.gen(function*() {
      const seconds = nap()
      const scope = yield* Scope.make()
      yield* Scope.provide(start(`sleep ${seconds} & sleep ${seconds}`), scope)
      yield* untilLiving(`sleep ${seconds}`, (count) => count >= 2)
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(living(`sleep ${seconds}`), [])
    })
  )

  test(
    "may clean up before it ends",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`trap 'echo cleaned; exit 3' TERM; echo ready; sleep ${seconds} & wait`)
      yield* untilLiving(`sleep ${seconds}`, (count) => count > 0)
      yield* group.end
      assert.strictEqual(yield* textOf(group.output), "ready\ncleaned\n")
    })
  )

  test(
    "is killed after the grace when it does not end",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`trap '' TERM; sleep ${seconds} & sleep ${seconds}`, { grace: "200 millis" })
      yield* untilLiving(`sleep ${seconds}`, (count) => count >= 2)
      const [time] = yield* Effect.timed(group.end)
      assert.isAtLeast(Duration.toMillis(time), 200)
      assert.isBelow(Duration.toMillis(time), 3_000)
      assert.deepStrictEqual(living(`sleep ${seconds}`), [])
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
    "ends also what has left it for a session of its own",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`setsid sleep ${seconds} & setsid -f sleep ${seconds}; sleep ${seconds}`)
      yield* untilLiving(`sleep ${seconds}`, (count) => count >= 3)
      yield* group.end
      assert.deepStrictEqual(living(`sleep ${seconds}`), [])
    })
  )

  test(
    "is not ended by what the command leaves behind: that is seen, and ended by the end",
    Effect.gen(function*() {
      const seconds = nap()
      const group = yield* start(`sleep ${seconds} & echo left it`)
      assert.deepStrictEqual(yield* group.exit, { code: 0 })
      assert.lengthOf(living(`sleep ${seconds}`), 1)
      yield* group.end
      assert.deepStrictEqual(living(`sleep ${seconds}`), [])
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

  for (const signal of ["SIGKILL", "SIGTERM"] as const) {
    test(
      `ends when its host ends by ${signal}`,
      Effect.gen(function*() {
        const seconds = nap()
        const host = yield* startHost(newId(), `sleep ${seconds} & (trap '' TERM; sleep ${seconds}) & wait`)
        yield* untilLiving(`sleep ${seconds}`, (count) => count >= 2)
        host.kill(signal)
        yield* untilLiving(`sleep ${seconds}`, (count) => count === 0)
      })
    )
  }

  test(
    "is ended by the next instance, when it has escaped from the end of its host",
    Effect.gen(function*() {
      const seconds = nap()
      const id = newId()
      const host = yield* startHost(id, `setsid sleep ${seconds} & sleep ${seconds}; wait`)
      yield* untilLiving(`sleep ${seconds}`, (count) => count >= 2)
      host.kill("SIGKILL")
      yield* untilLiving(`sleep ${seconds}`, (count) => count === 1)
      const groups = yield* ProcessGroups
      yield* groups.endLeft(CommandId.make(`${id}0`), undefined)
      yield* groups.endLeft(CommandId.make(id.slice(0, -1)), undefined)
      assert.lengthOf(living(`sleep ${seconds}`), 1, "only those of the command itself are ended")
      yield* groups.endLeft(id, undefined)
      assert.lengthOf(living(`sleep ${seconds}`), 0)
    })
  )
})

/** A process that starts a group, as the host does, and does nothing more. */
const startHost = (id: string, command: string) =>
  Effect.acquireRelease(
    Effect.sync(() =>
      spawn(process.execPath, [fileURLToPath(new URL("groupHost.ts", import.meta.url)), id, command], {
        stdio: "inherit"
      })
    ),
    (host) => Effect.sync(() => host.kill("SIGKILL"))
  )
