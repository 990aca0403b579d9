/**
 * What every match of a pattern must contain: to look for a text in a file is many times as fast as to match. It reads
 * the syntax of RE2 as far as it must, and says nothing where it is not sure.
 */

export interface Literals {
  /** One of them is in every match. */
  readonly texts: ReadonlyArray<string>
  /** The texts are in lower-case ASCII, and so must be what they are looked for in. */
  readonly isFolded: boolean
}

/** Each text is one more pass over every file. */
const mostTexts = 6

/** A single letter is in nearly every file. */
const shortest = 2

/** The texts of which one is in every match; none where that cannot be told. */
export const literalsOf = (pattern: string): Literals | undefined => {
  const flags = /^\(\?([imsU]+)\)/.exec(pattern)
  const isFolded = flags?.[1]?.includes("i") === true
  const reader = new Reader(pattern.slice(flags?.[0].length ?? 0), isFolded)
  try {
    const texts = reader.alternatives()
    return texts === undefined || !reader.isAtEnd ? undefined : { texts, isFolded }
  } catch (error) {
    if (error === notSure) return undefined
    throw error
  }
}

const notSure = Symbol("not sure")

type Texts = ReadonlyArray<string>

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

  /** Up to the end, or the bracket that closes the group. */
  alternatives(): Texts | undefined {
    const all: Array<string> = []
    let isKnown = true
    do {
      const texts = this.sequence()
      if (texts === undefined) isKnown = false
      else all.push(...texts)
    } while (this.take(/^\|/) !== undefined)
    return isKnown && all.length <= mostTexts ? [...new Set(all)] : undefined
  }

  private sequence(): Texts | undefined {
    let best: Texts | undefined
    const offer = (texts: Texts | undefined) => {
      if (texts !== undefined && worth(texts) > worth(best)) best = texts
    }
    // The letters that follow upon one another in every match.
    let run = ""
    const close = () => {
      if (run.length >= shortest) offer([run])
      run = ""
    }
    while (!this.isAtEnd && !/^[|)]/.test(this.rest)) {
      const atom = this.atom()
      const repeat = this.take(/^(?:[*+?]|\{\d+(?:,\d*)?\})\??/)
      if (repeat !== undefined && (atom === undefined || /^(?:[*+?]|\{\d+(?:,\d*)?\})/.test(this.rest))) throw notSure
      if (atom === undefined) continue
      const isOptional = repeat !== undefined && /^(?:[*?]|\{0)/.test(repeat)
      if (typeof atom === "string" && !isOptional) {
        run += atom
        if (repeat !== undefined) close()
        continue
      }
      close()
      if (typeof atom === "object" && !isOptional) offer(atom.texts)
    }
    close()
    return best
  }

  /** The text that it stands for; what a group holds; none for what takes no place in a text. */
  private atom(): string | { readonly texts: Texts | undefined } | undefined {
    if (this.take(/^\((?:\?:|\?P?<\w+>|(?!\?))/) !== undefined) {
      const texts = this.alternatives()
      if (this.take(/^\)/) === undefined) throw notSure
      return { texts }
    }
    if (this.take(/^(?:[$^]|\\[bBAz])/) !== undefined) return undefined
    const some = this.take(
      /^(?:\.|\[\^?\]?(?:\\[^]|\[:\^?\w+:\]|[^\]\\])*\]|\\[pP](?:\{[^}]*\}|[A-Z])|\\[dDwWsSaftnrv])/
    )
    if (some !== undefined) {
      if (some.includes("\\Q")) throw notSure
      return { texts: undefined }
    }
    const [letter] = this.take(/^\\[^\w\s]/u)?.slice(1) ?? this.take(/^[^\\()[*+?|]/u) ?? []
    if (letter === undefined) throw notSure
    return this.known(letter)
  }

  private known(letter: string): string | { readonly texts: undefined } {
    // What is no character in a file is read as the first one.
    if (/^[\uFFFD\p{Surrogate}]$/u.test(letter)) return { texts: undefined }
    if (!this.isFolded) return letter
    // Of these two there is a further form, outside of ASCII.
    return /^[ -~]$/.test(letter) && !/[ks]/i.test(letter) ? letter.toLowerCase() : { texts: undefined }
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

/** The longer the shortest of them is, the fewer files hold one. */
const worth = (texts: Texts | undefined): number =>
  texts === undefined ? 0 : Math.min(...texts.map(({ length }) => length))
