/** What the mission loop says to the Commander. */
import { plainLine } from "../domain/Finding.ts"
import type { Mission, Open } from "../domain/Mission.ts"
import type { TodoItem } from "../domain/Todo.ts"

/** Sent to a Commander whose turn was cut off by the end of the host. */
export const interruptedInstruction =
  "OpenCode was stopped while you worked, and is back. Your last turn was cut off: a tool call of it may be half done. See what is done, and go on with the mission."

/** After so many instructions without progress they change. */
const patience = 3

/** Sent to a Commander that stops early: says what is open, and how to go on. */
export const continueInstruction = (
  { continuations }: Pick<Mission, "continuations">,
  saidComplete: boolean,
  { failures, todos }: Open,
  advice = ""
): string =>
  [
    saidComplete
      ? "CONTINUE. You have said MISSION COMPLETE, but it is not:"
      : "CONTINUE. Nothing of your mission is running, and you have not said that it is done.",
    ...section("Open todos (to be done, or dropped as `[-] … | reason: why`):", todos),
    ...section(
      "Tasks that failed, to be done again or answered for (name the id in your answer, and why it may stay so):",
      failures.map(({ order, reason, task }) => `${task} (${order}): ${reason}`)
    ),
    ...(continuations < patience ? [] : [
      `Nothing has changed in the last ${continuations} rounds. Say in one sentence what is in the way. Then go another way than before, or have an Inspector find out what is wrong.`
    ]),
    ...(advice === "" ? [] : [advice]),
    "Compare the goal with what has been done and checked. Do or delegate the next open step now, with a tool call.",
    "If everything is done and an Inspector has checked it, sum up for the user and write MISSION COMPLETE on a line of its own.",
    "If you cannot go on, say plainly what stops you, without that line: the mission then halts, and the user is told."
  ].join("\n")

/** An open todo on one line. */
export const describeTodo = ({ id, reason, state, text }: TodoItem): string =>
  plainLine(
    [
      id === undefined ? text : `${id}: ${text}`,
      ...(state === "open" ? [] : [`(${state.replace("_", " ")}${state === "dropped" ? " without a reason" : ""})`]),
      ...(reason === undefined ? [] : [reason])
    ].join(" "),
    300
  )

const section = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? [] : [
    title,
    ...lines.slice(0, shownLines).map((line) => `- ${line}`),
    ...(lines.length > shownLines ? [`- and ${lines.length - shownLines} more`] : [])
  ]

/** Of a long list, what an instruction names. */
const shownLines = 30
