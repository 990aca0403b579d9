/** What the benchmarks share. */
import { Effect, FileSystem, Option, Schema } from "effect"
import { Flag } from "effect/cli"

export class BenchmarkFailed extends Schema.TaggedError<BenchmarkFailed>()("BenchmarkFailed", { why: Schema.String }) {
  override get message() {
    return this.why
  }
}

/** The upper one of two in the middle; none of nothing. */
export const median = (numbers: ReadonlyArray<number>): number =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN

/** A whole number above 0. */
export const count = (name: string, value: number, what: string) =>
  Flag.Int(name).pipe(
    Flag.withSchema(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000 }))),
    Flag.withDefault(value),
    Flag.withDescription(what)
  )

/** Linux counts CPU time in hundredths of a second. */
const ticksPerSecond = 100

/** User and system time of a process since its start; undefined without Linux. */
export const cpuSeconds = Effect.fnUntraced(function*(pid: number) {
  const fs = yield* FileSystem.FileSystem
  const stat = yield* Effect.option(fs.readFileString(`/proc/${pid}/stat`))
  return Option.getOrUndefined(Option.map(stat, (text) => {
    // The second field, the program's name, may hold spaces; what follows it begins with field 3.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ")
    return (Number(fields[14 - 3]) + Number(fields[15 - 3])) / ticksPerSecond
  }))
})
