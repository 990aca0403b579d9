/** What of a Markdown text is said, and what is only shown. */

/** The lines outside of code blocks, whose fences are left out too. */
export const spokenLines = (text: string): ReadonlyArray<string> => {
  const spoken: Array<string> = []
  let fence: string | undefined
  for (const line of text.split(/\r?\n/)) {
    const mark = /^\s*(`{3,}|~{3,})\s*(.*)$/s.exec(line) // with s: else a line that holds another line end is tried in every way
    if (mark?.[1] !== undefined && mark[2] !== undefined) {
      const [, ticks, info] = mark
      // A fence of backticks has none of them behind it: that would be code within the line.
      if (fence === undefined && !(ticks.startsWith("`") && info.includes("`"))) fence = ticks
      else if (fence !== undefined && ticks.startsWith(fence) && info === "") fence = undefined
      continue
    }
    if (fence === undefined) spoken.push(line)
  }
  return spoken
}
