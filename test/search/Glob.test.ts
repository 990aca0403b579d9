import { assert, describe, it } from "@effect/vitest"
import { matchesPath, parse, parseWithBraces } from "../../src/search/Glob.ts"

const matches = (pattern: string, path: string): boolean => {
  const globs = parseWithBraces(pattern)
  return "problem" in globs ? assert.fail(globs.problem) : globs.some((glob) => matchesPath(glob, path.split("/")))
}

/** A pattern, paths that match, and paths that do not. */
const table: ReadonlyArray<readonly [pattern: string, yes: string, no: string]> = [
  ["*.ts", "a.ts deep/er/a.ts .ts", "a.tsx ts"],
  ["/*.ts", "a.ts", "deep/a.ts"],
  ["a?c", "abc a😀c", "ac a/c abbc"],
  ["a/b", "a/b", "x/a/b a/b/c"],
  ["a/**/b", "a/b a/x/b a/x/y/b", "a b a/bb"],
  ["**/b", "b a/b a/a/b", "b/a"],
  ["a/**", "a/b a/b/c", "a b/a"],
  ["**/a/**/b/**", "a/b/c x/a/y/b/z/c", "a/b b/a/c"],
  ["a**b", "ab axb", "a/b"],
  ["***", "a a/b", ""],
  ["[a-c]x", "ax bx", "dx x"],
  ["[!a-c]x [^b]", "", ""],
  ["[!a-c]x", "dx", "ax"],
  ["[]a]x", "]x ax", "bx"],
  ["[a\\]]x", "]x ax", "\\x"],
  ["[[:digit:][:upper:]]", "1 A", "a -"],
  ["[a-]", "a -", "b"],
  ["\\*x", "*x", "ax"],
  ["{a,b/c}.ts", "a.ts b/c.ts", "c.ts"],
  ["*.{ts,{m,c}js}", "a.ts a.mjs a.cjs", "a.js"],
  ["\\{a,b\\}", "{a,b}", "a b"],
  ["x{,y}z", "xz xyz", "xyyz"],
  ["*a*b*c", "abc xaxbxc aabbcc", "acb ab"]
]

describe("a glob", () => {
  it("matches what git and ripgrep would match", () => {
    for (const [pattern, yes, no] of table) {
      for (const path of yes.split(" ").filter((path) => path !== "")) {
        assert.isTrue(matches(pattern, path), `${pattern} on ${path}`)
      }
      for (const path of no.split(" ").filter((path) => path !== "")) {
        assert.isFalse(matches(pattern, path), `${pattern} on ${path}`)
      }
    }
  })

  it("that is none is refused with its place", () => {
    assert.deepStrictEqual(parse("a/[b"), { position: 3, problem: "the [ is not closed" })
    assert.deepStrictEqual(parse("/a\\"), { position: 3, problem: "the \\ stands before nothing" })
    assert.deepStrictEqual(parseWithBraces("a{b,{c}"), { position: 2, problem: "the { is not closed" })
  })

  it("takes no more steps for a hostile pattern than its length times the path's", () => {
    const name = "a".repeat(5_000)
    const path = Array.from({ length: 2_000 }, () => "a").join("/")
    const before = performance.now()
    assert.isFalse(matches(`${"*a".repeat(400)}b`, name))
    assert.isFalse(matches(`${"**/a/".repeat(150)}b`, path))
    assert.isFalse(matches(`${"**/a*a/".repeat(100)}b`, path))
    // The first alone has more than 10^400 ways to be tried.
    assert.isBelow(performance.now() - before, 5_000)
  })
})
