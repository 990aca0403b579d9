import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { addSnapshot, formatBar, levelOf, remaining, type Snapshot } from "../../src/domain/Progress.ts"

const minutes = (count: number) => count * 60_000
const at = (minute: number, done: number, total = 10, unit: Snapshot["unit"] = "tasks", running = 1): Snapshot => ({
  at: minutes(minute),
  done,
  total,
  unit,
  running
})
const anyCount = Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1_000 })))

describe("the level", () => {
  it.each([
    [0, 10, "early"],
    [2, 10, "early"],
    [3, 10, "building"],
    [7, 10, "building"],
    [8, 10, "finishing"],
    [10, 10, "finishing"],
    [29, 100, "early"],
    [71, 100, "finishing"],
    [0, 0, undefined]
  ])("with %s of %s done is %s", (done, total, level) => assert.strictEqual(levelOf({ done, total }), level))
})

describe("snapshots", () => {
  it("are kept when something has changed, the newest up to the limit", () => {
    let kept: ReadonlyArray<Snapshot> = []
    for (let done = 0; done <= 5; done++) kept = addSnapshot(kept, at(done, done), 3)
    assert.deepStrictEqual(kept, [at(3, 3), at(4, 4), at(5, 5)])
    assert.strictEqual(addSnapshot(kept, at(9, 5), 3), kept)
    assert.lengthOf(addSnapshot(kept, at(9, 5, 10, "tasks", 2), 10), 4)
  })
})

describe("the remaining time", () => {
  it("follows from what was done since the counting began", () =>
    assert.strictEqual(remaining([at(0, 0), at(1, 1), at(6, 3)], minutes(6)), minutes(14)))

  it("grows while nothing more gets done", () =>
    assert.strictEqual(remaining([at(0, 0), at(5, 5)], minutes(10)), minutes(10)))

  it.each([
    ["nothing was counted", []],
    ["one look was taken", [at(0, 3)]],
    ["nothing got done", [at(0, 3), at(5, 3, 12)]],
    ["less is done than before", [at(0, 3), at(5, 2)]],
    ["something else is counted since", [at(0, 0), at(4, 4), at(5, 2, 20, "steps")]],
    ["all is done", [at(0, 0), at(5, 10)]]
  ])("is not known when %s", (_, snapshots) => assert.isUndefined(remaining(snapshots, minutes(10))))
})

describe("the bar", () => {
  it.each([
    [
      { done: 5, total: 10, running: 3, elapsed: minutes(12), remaining: minutes(10) },
      "[#####-----] 5/10 · 3 running · 12 min · about 10 min left"
    ],
    [{ done: 0, total: 0, running: 0, elapsed: 400, remaining: undefined }, "1 s"],
    [
      { done: 9, total: 10, running: 0, elapsed: 724_000, remaining: 29_400 },
      "[#########-] 9/10 · 12 min · about 29 s left"
    ],
    [
      { done: 99, total: 100, running: 1, elapsed: minutes(100), remaining: undefined },
      "[#########-] 99/100 · 1 running · 1 h 40 min"
    ],
    [{ done: 3, total: 3, running: 0, elapsed: minutes(721), remaining: undefined }, "[##########] 3/3 · 12 h"],
    [{ done: 4, total: 3, running: 0, elapsed: 0, remaining: undefined }, "[##########] 3/3 · 1 s"]
  ])("of %o is %s", (parts, expected) => assert.strictEqual(formatBar(parts), expected))

  it.prop("is one line with ten marks, whatever is counted", {
    done: anyCount,
    total: anyCount,
    running: anyCount,
    elapsed: anyCount
  }, (parts) =>
    assert.match(
      formatBar({ ...parts, remaining: undefined }),
      parts.total === 0
        ? /^(\d+ running · )?\d+ [^·]+$/
        : /^\[(?=.{10}\])#*-*\] \d+\/\d+( · \d+ running)? · .+$/
    ))
})
