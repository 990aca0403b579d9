import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestConsole } from "effect/testing"
import { makeReporter, tellEnd } from "../../adapters/node-cli/runLines.ts"
import { SessionId } from "../../src/domain/Session.ts"

const end = {
  exit: 0,
  state: "complete",
  why: "All is done.",
  mission: SessionId.make("ses_1"),
  durationMs: 1_000,
  tokens: 0,
  cost: 0,
  tasks: [],
  answer: ""
} as const

describe("the lines of a run", () => {
  it.effect.each([true, false])(
    "end with the end, whatever still happens while all is being stopped (json: %s)",
    (isJson) =>
      Effect.gen(function*() {
        const reporter = yield* makeReporter(isJson)
        yield* reporter.tell({ type: "warning", message: "stopping" })
        yield* tellEnd(reporter, end)
        yield* reporter.tell({ type: "warning", message: "a turn of Builder failed: Aborted" })
        const lines = (yield* TestConsole.logLines).map(String)
        assert.include(lines[0], "stopping")
        assert.include(lines.at(-1), "All is done.")
        assert.notInclude(lines.join("\n"), "Aborted")
      }).pipe(Effect.provide(NodeServices.layer))
  )
})
