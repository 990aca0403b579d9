import { NodeServices } from "@effect/platform-node"
import { assert, layer } from "@effect/vitest"
import { ConfigProvider, Effect, FileSystem, Path } from "effect"
import { findProgram } from "../../adapters/node-cli/program.ts"

/** A folder with files, removed with the scope. */
const folderOf = Effect.fnUntraced(function*(files: Readonly<Record<string, string>>) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const made = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-program-" })
  const folder = yield* fs.realPath(made)
  for (const [name, text] of Object.entries(files)) {
    yield* fs.makeDirectory(path.dirname(path.join(folder, name)), { recursive: true })
    yield* fs.writeFileString(path.join(folder, name), text)
  }
  return folder
})

const found = (directory: string, PATH: string) =>
  findProgram(directory).pipe(
    Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({ PATH }))
  )

const platform = `opencode-${process.platform}-${process.arch}`

layer(NodeServices.layer)("the OpenCode that commands start", (it) => {
  it.effect("is the one on the PATH, else the one of the project or of a folder above it, else that of this package", () =>
    Effect.gen(function*() {
      const project = yield* folderOf({
        "node_modules/.bin/opencode": "the project's",
        "packages/part/README.md": "",
        "programs/opencode": "the user's",
        // A folder by that name is no program.
        "others/opencode/README.md": ""
      })
      const part = `${project}/packages/part`
      assert.deepStrictEqual(yield* found(part, `${project}/none:${project}/others:${project}/programs`), {
        file: `${project}/programs/opencode`,
        from: "the PATH"
      })
      assert.deepStrictEqual(yield* found(part, `${project}/none`), {
        file: `${project}/node_modules/.bin/opencode`,
        from: "the project"
      })
      const own = yield* found(yield* folderOf({}), "")
      assert.strictEqual(own?.from, "this package")
      assert.match(own?.file ?? "", /node_modules.opencode-ai.bin.opencode\.exe$/)
    }))

  it.effect("is the program of this platform where the install script of opencode-ai was not allowed to run", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const manifest = (optionalDependencies: Record<string, string>) => JSON.stringify({ optionalDependencies })
      const bare = { "node_modules/opencode-ai/bin/opencode.exe": "echo 'postinstall script was not run'; exit 1" }
      const project = yield* folderOf({
        ...bare,
        "node_modules/opencode-ai/package.json": manifest({
          "opencode-other-system": "1.0.0",
          [platform]: "1.0.0",
          [`${platform}-baseline`]: "1.0.0"
        }),
        [`node_modules/${platform}/package.json`]: "{}",
        [`node_modules/${platform}/bin/opencode`]: "the program",
        "node_modules/.bin/README.md": ""
      })
      yield* fs.symlink("../opencode-ai/bin/opencode.exe", `${project}/node_modules/.bin/opencode`)
      assert.strictEqual((yield* found(project, ""))?.file, `${project}/node_modules/${platform}/bin/opencode`)
      // Where there is none of this platform, what is there says itself what it lacks.
      const without = yield* folderOf({
        ...bare,
        "node_modules/opencode-ai/package.json": manifest({ "opencode-other-system": "1.0.0" })
      })
      const note = `${without}/node_modules/opencode-ai/bin/opencode.exe`
      yield* fs.makeDirectory(`${without}/programs`)
      yield* fs.symlink(note, `${without}/programs/opencode`)
      assert.strictEqual((yield* found(without, `${without}/programs`))?.file, `${without}/programs/opencode`)
    }))
})
