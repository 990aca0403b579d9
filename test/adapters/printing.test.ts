import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { spawn } from "node:child_process"
import { readdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { spawnPrinting } from "../../adapters/node-process/printing.ts"
import { ownBinary } from "../../adapters/test/RealHost.ts"
import { Flood, size } from "./flood.ts"

const script = fileURLToPath(new URL("flood.ts", import.meta.url))

describe("what a program prints", () => {
  for (const where of ["Node", "OpenCode's Bun"]) {
    it.live(`is read in small pieces into little memory in ${where}, however much it is`, () =>
      Effect.gen(function*() {
        const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
        const program = where === "Node"
          ? ChildProcess.make(process.execPath, [script], { extendEnv: true })
          : ChildProcess.make((yield* ownBinary) ?? "", ["run", script], { env: { BUN_BE_BUN: "1" }, extendEnv: true })
        const flood = yield* Schema.decodeEffect(Flood)(yield* spawner.string(program))
        assert.strictEqual(flood.total, size)
        assert.isAtMost(flood.largest, 65_536)
        assert.isBelow(flood.grown, 150_000_000)
      }).pipe(Effect.provide(NodeServices.layer)))
  }

  it.live("comes to its end when the last that holds it open has ended, and is not waited for by a scope that closes", () =>
    Effect.gen(function*() {
      const text = (command: string) =>
        Effect.scoped(Effect.gen(function*() {
          const { child, output } = yield* spawnPrinting((stdout) =>
            spawn("/bin/sh", ["-c", command], { stdio: ["ignore", stdout, "ignore"] })
          )
          yield* Effect.addFinalizer(() => Effect.sync(() => child.kill()))
          return yield* Stream.mkString(Stream.decodeText(output))
        }))
      assert.strictEqual(yield* text("(sleep 0.3; echo late) & echo now"), "now\nlate\n")
      assert.strictEqual(yield* text("printf ''"), "")
      const cut = yield* Effect.timeoutOption(text("exec sleep 30"), "300 millis")
      assert.strictEqual(cut._tag, "None")
    }))

  it.live("by a program that is not there is refused, and nothing is left open", () =>
    Effect.gen(function*() {
      const open = () => readdirSync("/dev/fd").length
      const before = open()
      for (let n = 0; n < 20; n++) {
        const error = yield* spawnPrinting((stdout) =>
          spawn("/no/such/program", [], { stdio: ["ignore", stdout, "ignore"] })
        ).pipe(Effect.scoped, Effect.flip)
        assert.include(error.message, "ENOENT")
      }
      assert.isAtMost(open(), before)
    }))
})
