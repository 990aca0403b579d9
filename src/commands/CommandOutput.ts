/** What a command prints: the beginning and the end in memory, and all of it in a file, as far as that may grow. */
import { Effect, FileSystem, type PlatformError, type Scope } from "effect"
import { omitted, plainText } from "../domain/Text.ts"

export interface CommandOutput {
  readonly take: (text: string) => Effect.Effect<void>
  /** What is held in memory, as a terminal would show it. */
  readonly text: () => string
}

/** The beginning of a long output says what was begun, the end what came of it. In characters. */
const headSize = 8_000
const tailSize = 64_000

/** A line that is longer is written in parts, and a secret that lies on the cut is not recognised. */
const longestLine = 16_000

/** Opens the file, which must be new. It is whole when the scope has closed. A file that cannot be written is given up. */
export const make = Effect.fnUntraced(function*(options: {
  readonly file: string
  readonly limit: number
  readonly mask: (text: string) => string
}): Effect.fn.Return<CommandOutput, PlatformError.PlatformError, FileSystem.FileSystem | Scope.Scope> {
  const fs = yield* FileSystem.FileSystem
  const file = yield* fs.open(options.file, { flag: "wx", mode: 0o600 })
  let head = ""
  let tail = ""
  let total = 0
  /** The end of what was printed, to which more of its line may come. */
  let line = ""
  let room = options.limit
  let isOpen = true

  const put = Effect.fnUntraced(function*(text: string) {
    if (!isOpen || text === "") return
    const bytes = encoder.encode(options.mask(text))
    const fits = bytes.length <= room
    yield* file.writeAll(fits ? bytes : bytes.subarray(0, room))
    room -= bytes.length
    if (fits) return
    isOpen = false
    yield* file.writeAll(encoder.encode(`\n[the output went on; this file takes ${options.limit} bytes]\n`))
  }, (putting) =>
    Effect.catch(putting, (error) => {
      isOpen = false
      return Effect.logWarning(`the output of a command cannot be written to ${options.file} any more`, error)
    }))

  yield* Effect.addFinalizer(() => Effect.suspend(() => put(line)))
  return {
    take: (text) =>
      Effect.suspend(() => {
        total += text.length
        if (head.length < headSize) head += text.slice(0, headSize - head.length)
        tail += text
        if (tail.length > 2 * tailSize) tail = tail.slice(-tailSize)
        if (!isOpen) return Effect.void
        line += text
        const end = line.length > longestLine ? line.length : line.lastIndexOf("\n") + 1
        const whole = line.slice(0, end)
        line = line.slice(end)
        return put(whole)
      }),
    text: () => {
      if (tail.length === total) return plainText(tail)
      const end = tail.slice(-tailSize)
      const missing = total - head.length - end.length
      if (missing <= 0) return plainText(head + end.slice(-(total - head.length)))
      return `${plainText(head)}\n${omitted(missing)}\n${plainText(end)}`
    }
  }
})

/** Every host has it; the core's types, which know no host, do not. */
declare const TextEncoder: new() => { readonly encode: (text: string) => Uint8Array }
const encoder = new TextEncoder()
