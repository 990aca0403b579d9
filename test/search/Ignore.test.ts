import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Schema } from "effect"
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { scan } from "../../adapters/node-search/scan.ts"

const words = (all: string) => Arbitrary.schema(Schema.Literals(all.split(" ")))
const joined = (parts: Arbitrary.Arbitrary<Array<string>>) => Arbitrary.map(parts, (names) => names.join("/"))
const many = <A>(item: Arbitrary.Arbitrary<A>, minLength: number, maxLength: number) =>
  Arbitrary.array(item, { minLength, maxLength })

/** Of ASCII alone: git counts bytes where ripgrep and this one count characters. */
const path = joined(many(words("a b ab c.ts d.log [x] -e #f !g a\\b"), 1, 4))

/** A line of an ignore file, made of what has a meaning there. */
const line = Arbitrary.map(
  Arbitrary.all([
    words("- - - ! !! # \\! \\#"),
    words("- - - / **/ a/ */ **/a/"),
    joined(
      many(words("a b ab * ** ? *.ts *.log a* *b [ab] [!a] [[:alpha:]] [a-c]? \\[x\\] [x] -e é ** *** a\\\\b"), 1, 3)
    ),
    words("- - - / /* /** \\_ _ __ \\")
  ]),
  ([before, start, middle, end]) =>
    [before, start, middle, end].map((part) => part === "-" ? "" : part).join("").replaceAll("_", " ")
)

const tree = {
  paths: many(path, 1, 15),
  top: many(line, 0, 5),
  inner: many(line, 0, 4),
  exclude: many(line, 0, 2),
  folder: joined(many(words("a b ab"), 1, 2))
}

describe("what is ignored", () => {
  const root = mkdtempSync(join(tmpdir(), "ignore-"))
  const git = (...args: ReadonlyArray<string>) =>
    execFileSync("git", ["-c", "core.excludesFile=/dev/null", "-c", "core.ignoreCase=false", ...args], {
      cwd: root,
      encoding: "utf8"
    })
  beforeAll(() => void git("init", "-q", "--template="))
  afterAll(() => rmSync(root, { recursive: true }))

  const write = (name: string, text: string) => {
    try {
      mkdirSync(dirname(join(root, name)), { recursive: true })
      writeFileSync(join(root, name), text)
    } catch {
      // a file is where this one wants a folder, or the other way round: the tree is fine without it
    }
  }

  it("in a worktree is also what its repository excludes", () => {
    const worktree = `${root}-worktree`
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first")
    git("worktree", "add", "-q", "--detach", worktree)
    try {
      write(".git/info/exclude", "mine.txt")
      writeFileSync(join(worktree, "mine.txt"), "x")
      writeFileSync(join(worktree, "others.txt"), "x")
      const answer = scan({ files: { pattern: "**", target: worktree, top: worktree, limit: 10 } })
      assert.deepStrictEqual(answer, { files: { paths: ["others.txt"], total: 1 } })
    } finally {
      rmSync(worktree, { recursive: true })
    }
  })

  it.effect.prop(
    "is what git ignores",
    tree,
    ({ exclude, folder, inner, paths, top }) =>
      Effect.sync(() => {
        for (const name of readdirSync(root)) if (name !== ".git") rmSync(join(root, name), { recursive: true })
        write(".git/info/exclude", exclude.join("\n"))
        write(".gitignore", top.join("\n"))
        write(`${folder}/.gitignore`, inner.join("\n"))
        for (const name of paths) write(name, "x")
        const answer = scan({ files: { pattern: "**", target: root, top: root, limit: 1_000 } })
        const expected = git("ls-files", "--others", "--exclude-standard", "-z").split("\0").filter((name) =>
          name !== ""
        )
        assert.deepStrictEqual("files" in answer ? answer.files.paths.toSorted() : answer, expected.toSorted())
      }),
    { arbitrary: { runs: 200, seed: 20_261_125 } }
  )
})
