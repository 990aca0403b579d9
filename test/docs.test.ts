import { NodeFileSystem } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("..", import.meta.url))

it.effect("the programs in docs/library.md are the examples, which are run", () =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const names = (yield* fs.readDirectory(`${root}examples`)).toSorted()
    assert.deepStrictEqual(names, ["headless.ts", "mission.test.ts"])
    const page = yield* fs.readFileString(`${root}docs/library.md`)
    for (const name of names) {
      assert.include(page, `\`\`\`ts\n${yield* fs.readFileString(`${root}examples/${name}`)}\`\`\``)
    }
  }).pipe(Effect.provide(NodeFileSystem.layer)))
