/**
 * Whether an answer is no answer: one passage over and over, or letters without words. Said only of what nobody can
 * mean: code, tables, data, lists, logs and every script that people write must pass, whatever they look like.
 */
import { cutOffNote } from "../domain/Session.ts"

/** An answer whose prose (fenced blocks apart) has come apart. */
export const isDegenerate = (answer: string): boolean => {
  const prose = answer.replaceAll(cutOffNote, "").replace(/^(```|~~~).*?(?:^\1.*?$|$(?![^]))/gms, "").trim()
  return repeatsItself(prose) || isGibberish(prose)
}

// ---- one passage over and over ------------------------------------------------------------------------------------

/** A loop of a model goes on to the end of its answer: characters of the end in which its passage is looked for. */
const tailLength = 20_000
const longestPassage = 300
/** What it takes at least to call it a loop. */
const least = { chars: 1_000, times: 20, share: 0.6 }

const repeatsItself = (text: string): boolean => {
  if (text.length < least.chars) return false
  const tail = text.slice(-tailLength)
  const needed = Math.max(least.chars, Math.min(tail.length, text.length * least.share))
  for (let period = 1; period <= longestPassage; period++) {
    if (repeated(tail, period) < needed) continue
    // The shortest passage is the one that counts: longer ones that fit are this one, several times.
    const chars = repeated(text, period)
    return chars / period >= least.times && chars >= text.length * least.share && isProse(text.slice(-period))
  }
  return false
}

/** How many characters at the end repeat every `period` characters. */
const repeated = (text: string, period: number): number => {
  let from = text.length - 1
  while (from >= period && text[from] === text[from - period]) from--
  return text.length - 1 - from + period
}

/** Sentences or words: no digits, no signs of code, tables or data, and no line that a log or a list may well repeat. */
const isProse = (passage: string): boolean => {
  if (!/^[\p{L}\p{M}\s.,!?;:'’"“”…。、，！？；：\-–—]+$/u.test(passage)) return false
  // The passage begins wherever the answer broke off: words at its two ends may be halves of one.
  const words = `${passage}${passage}`.split(/\s+/).filter((word) => /\p{L}/u.test(word)).length / 2
  const letters = passage.match(/\p{L}/gu)?.length ?? 0
  if (letters < 3) return false
  if (!/\s/.test(passage)) return /[.!?。！？]/.test(passage)
  return /[\n,;:]/.test(passage) ? words >= 4 : true
}

// ---- letters without words ----------------------------------------------------------------------------------------

/** Scripts that people do not mix within one word. Those of one language stand together; Latin goes with any. */
const scripts: ReadonlyArray<RegExp> = [
  /\p{Script=Cyrillic}/u,
  /\p{Script=Greek}/u,
  /\p{Script=Arabic}/u,
  /\p{Script=Hebrew}/u,
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Bopomofo}\p{Script=Hangul}]/u,
  /[\p{Script=Devanagari}\p{Script=Bengali}\p{Script=Tamil}\p{Script=Telugu}\p{Script=Gujarati}\p{Script=Gurmukhi}\p{Script=Kannada}\p{Script=Malayalam}]/u,
  /[\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u,
  /[\p{Script=Armenian}\p{Script=Georgian}\p{Script=Ethiopic}]/u
]

/** Characters of it that are looked at. */
const sampleLength = 4_000

const isGibberish = (text: string): boolean => {
  const sample = Array.from(text.slice(-sampleLength).replace(/\s+/g, " "))
  if (sample.length < 200) return false
  const lost = sample.filter((char) => /[\uFFFD\p{Cc}\p{Co}\p{Cn}]/u.test(char)).length
  if (lost / sample.length >= 0.3) return true
  let mixed = 0
  let pairs = 0
  let before: number | undefined
  const seen = new Set<number>()
  for (const char of sample) {
    if (!/[\p{L}\p{M}]/u.test(char)) {
      before = undefined
      continue
    }
    const script = scripts.findIndex((known) => known.test(char))
    if (script < 0) continue // Latin, and scripts that are not told apart here
    seen.add(script)
    if (before !== undefined) {
      pairs++
      if (script !== before) mixed++
    }
    before = script
  }
  return seen.size >= 4 && pairs >= 100 && mixed / pairs >= 0.3
}
