/** Reads one HTTP/1.1 answer from a connection that is used once. Every part of it is bounded, the body by its reader. */
import { Data } from "effect"

export interface Head {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
}

/** What came is not an answer as HTTP/1.1 has it. */
export class BadAnswer extends Data.TaggedError("BadAnswer")<{ readonly message: string }> {}

/** All lines of a head together, in bytes. */
const headLimit = 64 * 1024

/** Answers of the kind "100 Continue" before the real one. */
const interimLimit = 5

/** Bytes as they come, in the pieces that a reader asks for. */
export class Incoming {
  private buffer: Buffer = Buffer.alloc(0)
  private at = 0
  private readonly source: AsyncIterator<Uint8Array>

  constructor(source: AsyncIterable<Uint8Array>) {
    this.source = source[Symbol.asyncIterator]()
  }

  /** The next bytes, at least one and at most `limit`; undefined at the end. */
  async some(limit: number): Promise<Uint8Array | undefined> {
    if (!(await this.fill())) return undefined
    const piece = this.buffer.subarray(this.at, this.at + limit)
    this.at += piece.length
    return piece
  }

  /** The next line without its end. */
  async line(limit: number): Promise<string> {
    let text = ""
    while (await this.fill()) {
      const end = this.buffer.indexOf(10, this.at)
      const stop = end === -1 ? this.buffer.length : end
      if (text.length + stop - this.at > limit) throw new BadAnswer({ message: "the head of the answer is too large" })
      text += this.buffer.toString("latin1", this.at, stop)
      this.at = stop + 1
      if (end !== -1) return text.replace(/\r$/, "")
    }
    throw new BadAnswer({ message: "the answer ended before it was complete" })
  }

  /** Whether there is a byte to read. */
  private async fill(): Promise<boolean> {
    while (this.at >= this.buffer.length) {
      const next = await this.source.next()
      if (next.done === true) return false
      this.buffer = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength)
      this.at = 0
    }
    return true
  }
}

export const readHead = async (incoming: Incoming): Promise<Head> => {
  let room = headLimit
  for (let interim = 0; interim <= interimLimit; interim++) {
    const first = await incoming.line(room)
    const status = /^HTTP\/1\.[01] (?<status>[1-5]\d\d)(?: |$)/.exec(first)?.groups?.["status"]
    if (status === undefined) throw new BadAnswer({ message: "the answer is not HTTP" })
    const headers = new Map<string, string>()
    while (true) {
      const line = await incoming.line(room)
      room -= line.length + 1
      if (line === "") break
      const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(line) ?? []
      if (name === undefined || value === undefined) throw new BadAnswer({ message: "the answer has a damaged header" })
      const key = name.toLowerCase()
      const before = headers.get(key)
      if (key === "content-length" && before !== undefined && before !== value) {
        throw new BadAnswer({ message: "the answer names two lengths" })
      }
      headers.set(key, before === undefined || key === "content-length" ? value : `${before}, ${value}`)
    }
    if (status.startsWith("1")) continue
    return { status: Number(status), headers: Object.fromEntries(headers) }
  }
  throw new BadAnswer({ message: "the answer does not begin" })
}

const pieceLimit = 64 * 1024

/** The body as it was sent, without its transfer encoding. */
export async function* readBody(incoming: Incoming, { headers, status }: Head): AsyncGenerator<Uint8Array> {
  if (status === 204 || status === 304) return
  const transfer = headers["transfer-encoding"]
  if (transfer !== undefined) {
    if (transfer.toLowerCase() !== "chunked") {
      throw new BadAnswer({ message: `the answer is sent as "${transfer.slice(0, 50)}"` })
    }
    return yield* readChunks(incoming)
  }
  const length = headers["content-length"]
  if (length === undefined) {
    while (true) {
      const piece = await incoming.some(pieceLimit)
      if (piece === undefined) return
      yield piece
    }
  }
  if (!/^\d{1,15}$/.test(length)) throw new BadAnswer({ message: "the answer names no valid length" })
  yield* readExactly(incoming, Number(length))
}

async function* readChunks(incoming: Incoming): AsyncGenerator<Uint8Array> {
  while (true) {
    const size = /^([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(await incoming.line(1_024))?.[1]
    if (size === undefined) throw new BadAnswer({ message: "the answer has a damaged chunk" })
    const length = Number.parseInt(size, 16)
    if (length === 0) return // trailers say nothing that matters, and the connection is not used again
    yield* readExactly(incoming, length)
    if ((await incoming.line(2)) !== "") throw new BadAnswer({ message: "the answer has a damaged chunk" })
  }
}

async function* readExactly(incoming: Incoming, length: number): AsyncGenerator<Uint8Array> {
  for (let left = length; left > 0;) {
    const piece = await incoming.some(Math.min(left, pieceLimit))
    if (piece === undefined) throw new BadAnswer({ message: "the answer ended before it was complete" })
    left -= piece.length
    yield piece
  }
}
