/** Lines for a terminal. */
import { Clock, Console, Effect } from "effect"
import { TerminalCapabilities } from "effect/cli"

export const colours = { info: "36", success: "32", warning: "33", error: "31", dim: "2", plain: "0" } as const
export type Tone = keyof typeof colours

/** Characters of a line's text that are shown; longer ones are cut. */
const lineWidth = 110

/** Prints lines with the time since it was made. */
export const makePrinter = Effect.gen(function*() {
  const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
  const start = yield* Clock.currentTimeMillis
  const paint = (tone: Tone, text: string) => (canColor ? `\u001b[${colours[tone]}m${text}\u001b[0m` : text)
  return Effect.fnUntraced(function*(who: string, text: string, tone: Tone = "plain") {
    const elapsed = `${(((yield* Clock.currentTimeMillis) - start) / 1_000).toFixed(1)} s`.padStart(8)
    yield* Console.log(`${paint("dim", elapsed)}  ${who.padEnd(12)}  ${paint(tone, clip(text))}`)
  })
})

/** Model output must not steer the terminal. */
export const printable = (text: string): string =>
  text.replace(/[\s\p{Cc}\u202a-\u202e\u2066-\u2069]+/gu, " ").trimEnd() // the last ones turn the order of letters

export const clip = (text: string): string => {
  const line = printable(text).trim()
  return line.length <= lineWidth ? line : `${line.slice(0, lineWidth - 1)}…`
}

/** Columns as wide as their widest cell; the last one, of numbers, to the right. */
export const layOut = (rows: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> => {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  const line = (row: ReadonlyArray<string>) =>
    row.map((cell, column) =>
      column === row.length - 1 ? cell.padStart(widths[column] ?? 0) : cell.padEnd(widths[column] ?? 0)
    ).join("  ")
  const [head = [], ...body] = rows
  return [line(head), widths.map((width) => "-".repeat(width)).join("  "), ...body.map(line)]
}
