import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../../dist/cli.js", import.meta.url))

const run = Effect.fnUntraced(function*(args: ReadonlyArray<string>) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const handle = yield* spawner.spawn(ChildProcess.make(process.execPath, [main, ...args], {
    extendEnv: true,
    env: { FORCE_COLOR: undefined }
  }))
  const output = yield* handle.all.pipe(Stream.decodeText, Stream.mkString)
  return { output, code: Number(yield* handle.exitCode) }
}, Effect.scoped)

describe("the demo", () => {
  it.live("sees a mission through, with a task that fails and is delegated again", () =>
    Effect.gen(function*() {
      const { code, output } = yield* run(["demo"])
      assert.match(output, /^Builder +Repair truncate +failed /m)
      assert.match(output, /^Builder +Repair truncate, second attempt +completed /m)
      assert.match(output, /^Inspector +Run the tests +completed /m)
      assert.include(output, "the project's own tests say: 6 passed, 0 failed.")
      assert.notInclude(output, "\u001b")
      assert.strictEqual(code, 0, output)
    }).pipe(Effect.provide(NodeServices.layer)), 120_000)

  it.live("refuses options that it cannot use, in one sentence", () =>
    Effect.gen(function*() {
      const { code, output } = yield* run(["demo", "--model", "no-provider", "--goal", "anything"])
      assert.include(output, "--model must look like provider/model, and \"no-provider\" does not.")
      assert.notInclude(output, "    at ")
      assert.strictEqual(code, 2)
    }).pipe(Effect.provide(NodeServices.layer)), 30_000)
})
