/** Texts on their way to a model or a person: short enough to read, and honest about what was left out. */

/**
 * The text, or its beginning and its end with the count of what was left out between them. Cut at line ends where lines
 * are short; the end gets two thirds, unless told otherwise: in logs and results the outcome comes last.
 */
export const cutMiddle = (text: string, limit: number, beginning = 1 / 3): string => {
  if (text.length <= limit) return text
  const head = Math.floor(limit * beginning)
  const tail = limit - head
  const lineEnd = text.lastIndexOf("\n", head)
  const lineStart = text.indexOf("\n", text.length - tail) + 1
  const from = lineEnd > head / 2 ? lineEnd : wholeEnd(text, head)
  const to = lineStart > 0 && lineStart < text.length - tail / 2 ? lineStart : wholeStart(text, text.length - tail)
  return `${text.slice(0, from)}\n${omitted(to - from)}\n${text.slice(to)}`
}

/** Says how much is missing in this place. */
export const omitted = (characters: number): string => `[… ${characters} characters left out …]`

const isHigh = (code: number) => code >= 0xd800 && code < 0xdc00

/** The next place that does not part the two halves of a character. */
const wholeEnd = (text: string, at: number): number => (at > 0 && isHigh(text.charCodeAt(at - 1)) ? at - 1 : at)
const wholeStart = (text: string, at: number): number => (at > 0 && isHigh(text.charCodeAt(at - 1)) ? at + 1 : at)

/** What a terminal would show of a program's output: without colours, and of overwritten lines only the last state. */
export const plainText = (output: string): string =>
  output.replace(escapes, "").split("\n").map((line) => {
    const shown = line.endsWith("\r") ? line.slice(0, -1) : line
    return shown.slice(shown.lastIndexOf("\r") + 1)
  }).join("\n")

const escape = "\u001b"
const bell = "\u0007"
const escapes = new RegExp(
  `${escape}(?:\\[[0-9;:?]{0,40}[ -/]{0,4}[@-~]|\\][^${bell}${escape}]{0,1000}(?:${bell}|${escape}\\\\)|[@-Z\\\\^_])|[\0\b${bell}]`,
  "g"
)

/** The last lines of a text. */
export const lastLines = (text: string, count: number): string => {
  const end = text.endsWith("\n") ? text.length - 1 : text.length
  let start = end
  for (let left = count; left > 0 && start > 0; left--) start = text.lastIndexOf("\n", start - 1)
  return text.slice(start <= 0 ? 0 : start + 1, end)
}
