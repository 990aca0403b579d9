/**
 * A quick look for what every match of a pattern must contain, by which most files are told apart from those that are
 * worth matching. It reads the syntax of RE2 as far as it must, and gives up where it is not sure.
 */

/**
 * A regular expression of JavaScript that is found wherever the pattern is, in the bytes of a text in UTF-8, each taken
 * for a character. It looks for a few sequences of fixed length, so that its time is in proportion to the text, too.
 * None where nothing is sure.
 */
export const filterOf = (pattern: string): RegExp | undefined => {
  const flags = /^\(\?([imsU]+)\)/.exec(pattern)
  const isFolded = flags?.[1]?.includes("i") === true
  const reader = new Reader(pattern.slice(flags?.[0].length ?? 0), isFolded)
  try {
    const runs = reader.alternatives()
    if (runs === undefined || !reader.isAtEnd) return undefined
    const sources = new Set(runs.map(({ source }) => source))
    return new RegExp([...sources].join("|"), isFolded ? "i" : "")
  } catch (error) {
    if (error === notSure) return undefined
    throw error
  }
}

const notSure = Symbol("not sure")

/** Characters, or classes of them, that follow upon one another in every match. */
interface Run {
  readonly source: string
  readonly length: number
  /** The more, the fewer texts hold it. */
  readonly worth: number
}
const nothing: Run = { source: "", length: 0, worth: 0 }

const worthOfLetter = 4
const worthOfClass = 1

/** Below this, it is in nearly every file. */
const leastWorth = 4

const mostRuns = 12
const longestRun = 24

const repetition = /^(?:[*+?]|\{\d+(?:,\d*)?\})/

class Reader {
  private readonly pattern: string
  private readonly isFolded: boolean
  private at = 0

  constructor(pattern: string, isFolded: boolean) {
    this.pattern = pattern
    this.isFolded = isFolded
  }

  get isAtEnd(): boolean {
    return this.at >= this.pattern.length
  }

  /** Up to the end, or the bracket that closes the group: runs of which one is in every match. */
  alternatives(): ReadonlyArray<Run> | undefined {
    const all: Array<Run> = []
    let isKnown = true
    do {
      const runs = this.sequence()
      if (runs === undefined) isKnown = false
      else all.push(...runs)
    } while (this.take(/^\|/) !== undefined)
    return isKnown && all.length <= mostRuns ? all : undefined
  }

  private sequence(): ReadonlyArray<Run> | undefined {
    let best: ReadonlyArray<Run> | undefined
    let run = nothing
    const close = () => {
      if (run.worth >= leastWorth && run.worth > worth(best)) best = [run]
      run = nothing
    }
    const add = (atom: Run, times: number) => {
      for (let count = 0; count < times; count++) {
        if (run.length + atom.length > longestRun) close()
        run = {
          source: run.source + atom.source,
          length: run.length + atom.length,
          worth: run.worth + atom.worth
        }
      }
    }
    while (!this.isAtEnd && !/^[|)]/.test(this.rest)) {
      const part = this.part()
      const [least, most] = this.times()
      if (part === undefined) {
        if (least !== 1 || most !== 1) throw notSure
        continue
      }
      if ("source" in part) {
        const times = Math.min(least, longestRun)
        add(part, times)
        if (least === most && times === least) continue
        close()
        // The last ones stand before what follows.
        add(part, times)
        continue
      }
      close()
      if (least > 0 && worth(part.runs) > worth(best)) best = part.runs
    }
    close()
    return best
  }

  /** How often the part before may follow upon itself. */
  private times(): readonly [least: number, most: number] {
    const found = this.take(repetition)
    if (found === undefined) return [1, 1]
    this.take(/^\?/) // as few as possible: the same ones
    if (repetition.test(this.rest)) throw notSure
    if (found === "*") return [0, Infinity]
    if (found === "+") return [1, Infinity]
    if (found === "?") return [0, 1]
    const [least = "", most = least] = found.slice(1, -1).split(",")
    return [Number(least), most === "" ? Infinity : Number(most)]
  }

  /** A character; what a group holds; none for what takes no place in a text. */
  private part(): Run | { readonly runs: ReadonlyArray<Run> | undefined } | undefined {
    if (this.take(/^\((?:\?:|\?P?<\w+>|(?!\?))/) !== undefined) {
      const runs = this.alternatives()
      if (this.take(/^\)/) === undefined) throw notSure
      return { runs }
    }
    if (this.take(/^(?:[$^]|\\[bBAz])/) !== undefined) return undefined
    // Classes of ASCII that mean the same in JavaScript, or less than there: not those that are negated or named.
    const plain = this.take(/^(?:\\[dws]|\[(?:\\[dws]|\\[!-/:-@[-`{-~]|[ -Z_-~])+\])/)
    if (plain !== undefined) return this.classOf(plain)
    const other = this.take(/^(?:\.|\[\^?\]?(?:\\[^]|\[:\^?\w+:\]|[^\]\\])*\]|\\[pP](?:\{[^}]*\}|[A-Z])|\\[DWSaftnrv])/)
    if (other !== undefined) {
      if (other.includes("\\Q")) throw notSure
      return { runs: undefined }
    }
    const letter = this.take(/^\\[^\w\s]/u)?.slice(1) ?? this.take(/^[^\\()[*+?|]/u)
    if (letter === undefined) throw notSure
    return this.letterOf(letter)
  }

  private classOf(source: string): Run | { readonly runs: undefined } {
    // Of these two letters there is a further form outside of ASCII.
    if (this.isFolded && ["k", "s"].some((letter) => new RegExp(source, "i").test(letter))) return { runs: undefined }
    return { source, length: 1, worth: worthOfClass }
  }

  private letterOf(letter: string): Run | { readonly runs: undefined } {
    // What is no character in a file is read as the first one.
    if (/^[\uFFFD\p{Surrogate}]$/u.test(letter)) return { runs: undefined }
    if (this.isFolded && (!/^[ -~]$/.test(letter) || /[ks]/i.test(letter))) return { runs: undefined }
    const bytes = Buffer.from(letter)
    const source = [...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("")
    return { source: /^[\w ]$/.test(letter) ? letter : source, length: bytes.length, worth: worthOfLetter }
  }

  private get rest(): string {
    return this.pattern.slice(this.at)
  }

  private take(form: RegExp): string | undefined {
    const found = form.exec(this.rest)?.[0]
    this.at += found?.length ?? 0
    return found
  }
}

/** One of them is in every match: the most common one counts. */
const worth = (runs: ReadonlyArray<Run> | undefined): number =>
  runs === undefined ? 0 : Math.min(...runs.map((run) => run.worth))
