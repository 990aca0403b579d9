import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import {
  Command,
  type CommandEvent,
  CommandId,
  commandLine,
  isUntoldCommand,
  tellsEnd,
  transition
} from "../../src/domain/Command.ts"
import { MessageId, SessionId } from "../../src/domain/Session.ts"

const session = SessionId.make("ses_1")
const fresh: Command = {
  id: CommandId.make("job_1"),
  mission: session,
  session,
  agent: "Builder",
  command: "npm   test\n",
  cwd: "/project",
  timeLimit: 1_000,
  state: "starting",
  startedAt: 0,
  told: false
}
const owner = { pid: 1, startedAt: "1", machine: "abcdef" }
const notice = (id: string) => ({ type: "telling" as const, notice: MessageId.make(id) })
const after = (events: ReadonlyArray<CommandEvent>, from = fresh) =>
  events.reduce((command, event, index) => transition(command, event, (index + 1) * 1_000), from)
const started: CommandEvent = { type: "started", leader: owner }
const ended: CommandEvent = { type: "ended", exit: { code: 0 }, output: "" }

describe("a command", () => {
  it("is said in one line, whatever has become of it", () => {
    const lines: ReadonlyArray<readonly [ReadonlyArray<CommandEvent>, string]> = [
      [[], "job_1 has been starting for 9 s · npm test"],
      [[started], "job_1 has been running for 9 s · npm test"],
      [[started, ended], "job_1 ended with exit code 0 after 2 s · npm test"],
      [[{ ...ended, exit: { code: 143 } }], "job_1 ended with exit code 143 (SIGTERM) after 1 s · npm test"],
      [[{ ...ended, exit: { signal: "SIGKILL" } }], "job_1 was ended by SIGKILL after 1 s · npm test"],
      [[{ ...ended, exit: {}, stopped: "so" }], "job_1 was stopped (so) after 1 s · npm test"]
    ]
    for (const [events, line] of lines) {
      const command = after(events)
      assert.strictEqual(commandLine(command, 9_000), line)
      assert.strictEqual(tellsEnd(line, command.id), command.state === "ended", line)
      assert.isFalse(tellsEnd(line, CommandId.make("job_12")), line)
    }
    assert.include(commandLine({ ...fresh, label: "the tests" }, 0), "· the tests")
  })

  it("is told once: under the first notice, or another one that takes its place", () => {
    assert.isFalse(isUntoldCommand(after([started])))
    assert.isTrue(isUntoldCommand(after([started, ended])))
    assert.strictEqual(after([ended, notice("a"), notice("b")]).notice, "a")
    assert.strictEqual(after([ended, notice("a"), { ...notice("b"), instead: MessageId.make("a") }]).notice, "b")
    assert.isFalse(isUntoldCommand(after([ended, notice("a"), { type: "told" }])))
    // One that nobody is to hear of says nothing when it ends.
    assert.isFalse(isUntoldCommand(after([started, { type: "told" }, ended])))
  })

  it.prop(
    "has one end: no event changes how it ended, or makes it untold again",
    {
      before: Arbitrary.schema(Command),
      how: Arbitrary.array(Arbitrary.schema(Schema.Literals(["started", "ended", "telling", "told"])), { maxLength: 6 })
    },
    ({ before, how }) => {
      const events = how.map((type): CommandEvent =>
        type === "started"
          ? started
          : type === "ended"
          ? { ...ended, stopped: "late" }
          : type === "telling"
          ? notice("late")
          : { type }
      )
      const command = after(events, before)
      if (before.state === "ended") {
        const { notice: _, told: __, ...end } = command
        const { notice: ___, told: ____, ...first } = before
        assert.deepStrictEqual(end, first)
      }
      if (before.told) assert.isTrue(command.told)
      if (before.notice !== undefined) assert.strictEqual(command.notice, before.notice)
    },
    { arbitrary: { runs: 300, seed: 20_261_125 } }
  )
})
