import { assert, describe, it } from "@effect/vitest"
import { decide, type Mission, type MissionEvent, saysComplete, transition } from "../../src/domain/Mission.ts"
import { SessionId } from "../../src/domain/Session.ts"

const active: Mission = {
  root: SessionId.make("ses_root"),
  goal: "build it",
  state: "active",
  startedAt: 1_000,
  continuations: 0
}
const endings = ["complete", "stopped", "halted"] as const

describe("saysComplete", () => {
  it.each([
    ["alone", "MISSION COMPLETE"],
    ["on a line of its own", "All tests pass.\n\nMISSION COMPLETE\n\nThree files changed."],
    ["with Windows line ends", "Done.\r\nMISSION COMPLETE\r\n"],
    ["with a dot", "MISSION COMPLETE."],
    ["with an exclamation mark", "MISSION COMPLETE!"],
    ["with space around it", "  MISSION COMPLETE  "],
    ["in bold", "**MISSION COMPLETE**"],
    ["in bold with the dot inside", "**MISSION COMPLETE.**"],
    ["in bold with the dot outside", "**MISSION COMPLETE**."],
    ["in bold with underscores", "__MISSION COMPLETE__"],
    ["as a heading", "## MISSION COMPLETE"],
    ["as a bold heading", "# **MISSION COMPLETE**"],
    ["after a code block", "```sh\nnpm test\n```\nMISSION COMPLETE"],
    ["after a ~~~ block that holds a ``` line", "~~~\n```\n~~~\nMISSION COMPLETE"],
    ["after a block closed by a longer fence", "```\ncode\n`````\nMISSION COMPLETE"],
    ["after code in a sentence that fills a line", "I ran\n```npm test```\nMISSION COMPLETE"]
  ])("ends the mission %s", (_, answer) => assert.isTrue(saysComplete(answer)))

  it.each([
    ["an empty answer", ""],
    ["another answer", "I am done."],
    ["a sentence", "When all is checked I will say MISSION COMPLETE"],
    ["the start of a sentence", "MISSION COMPLETE is what I say at the end."],
    ["a denial", "NOT MISSION COMPLETE"],
    ["a question", "MISSION COMPLETE?"],
    ["lower case", "mission complete"],
    ["words over two lines", "MISSION\nCOMPLETE"],
    ["a quotation", "> MISSION COMPLETE"],
    ["a list", "- MISSION COMPLETE"],
    ["quotation marks", "\"MISSION COMPLETE\""],
    ["code in a line", "`MISSION COMPLETE`"],
    ["half a bold", "**MISSION COMPLETE"],
    ["a bold of two kinds", "**MISSION COMPLETE__"],
    ["a code block", "```\nMISSION COMPLETE\n```"],
    ["a code block with a language", "```text\nMISSION COMPLETE\n```"],
    ["a code block of tildes", "~~~\nMISSION COMPLETE\n~~~"],
    ["an indented fence", "  ```\n  MISSION COMPLETE\n  ```"],
    ["a block that is never closed", "```\nMISSION COMPLETE"],
    ["a ``` block inside a ```` block", "````md\n```\nMISSION COMPLETE\n```\nMISSION COMPLETE\n````"],
    ["a ~~~ block inside a ``` block", "```\n~~~\nMISSION COMPLETE\n~~~\nMISSION COMPLETE\n```"],
    ["a ``` block inside a ~~~ block", "~~~\n```\nMISSION COMPLETE\n```\nMISSION COMPLETE\n~~~"],
    ["a block that shows how a block begins", "```\n```js\nMISSION COMPLETE\n```"]
  ])("does not take %s for the end", (_, answer) => assert.isFalse(saysComplete(answer)))
})

describe("decide", () => {
  it.each(endings)("does nothing for a mission that is %s, whatever the answer", (state) => {
    assert.strictEqual(decide({ ...active, state }, "MISSION COMPLETE", 5), "nothing")
    assert.strictEqual(decide({ ...active, state }, "", 5), "nothing")
  })

  it("completes an active mission when the answer says so, even at the limit", () => {
    assert.strictEqual(decide({ ...active, continuations: 5 }, "MISSION COMPLETE", 5), "complete")
  })

  it("continues below the limit and halts at it", () => {
    assert.strictEqual(decide({ ...active, continuations: 4 }, "I stop here.", 5), "continue")
    assert.strictEqual(decide({ ...active, continuations: 5 }, "I stop here.", 5), "halt")
    assert.strictEqual(decide(active, "I stop here.", 0), "halt")
  })

  it("sends at most `limit` instructions in a row to a Commander that does nothing", () => {
    let mission = active
    let sent = 0
    while (decide(mission, "", 5) === "continue" && sent < 100) {
      mission = transition(mission, { type: "continued" }, 2_000)
      sent++
    }
    assert.strictEqual(sent, 5)
  })
})

describe("transition", () => {
  it("counts instructions to go on, and starts again at a tool call or a word of the user", () => {
    const continued = transition(transition(active, { type: "continued" }, 2_000), { type: "continued" }, 3_000)
    assert.strictEqual(continued.continuations, 2)
    assert.deepStrictEqual(transition(continued, { type: "worked" }, 4_000), active)
    assert.deepStrictEqual(transition(continued, { type: "spoke", goal: "and test it" }, 4_000), active)
  })

  it.each(endings)("ends as %s, and stays so", (state) => {
    const ended = transition(active, { type: "ended", state }, 2_000)
    assert.deepStrictEqual(ended, { ...active, state })
    const later: ReadonlyArray<MissionEvent> = [
      { type: "worked" },
      { type: "continued" },
      ...endings.map((state): MissionEvent => ({ type: "ended", state }))
    ]
    for (const event of later) assert.strictEqual(transition(ended, event, 3_000), ended)
  })

  it.each(endings)("starts a new mission when the user speaks after it was %s", (state) => {
    const ended = { ...active, state, continuations: 3 }
    assert.deepStrictEqual(transition(ended, { type: "spoke", goal: "now the docs" }, 9_000), {
      ...active,
      goal: "now the docs",
      startedAt: 9_000
    })
  })

  it("returns the same object when the event changes nothing", () => {
    assert.strictEqual(transition(active, { type: "worked" }, 2_000), active)
  })
})
