/** Where this package lies on disk, from its sources as well as from the bundle. */
import { Effect, FileSystem, Option, Path, Schema } from "effect"
import { fileURLToPath } from "node:url"

export const packageName = "opencode-orchestrator-effect"

export class PackageNotFound extends Schema.TaggedError<PackageNotFound>()("PackageNotFound", { from: Schema.String }) {
  override get message() {
    return `No package.json of ${packageName} lies above ${this.from}; install the package again.`
  }
}

const Manifest = Schema.fromJsonString(Schema.Struct({ name: Schema.String, version: Schema.String }))

/** The folder and the version of the package that this file is a part of. */
export const packageRoot = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const from = path.dirname(fileURLToPath(import.meta.url))
  for (let folder = from; true; folder = path.dirname(folder)) {
    const manifest = yield* fs.readFileString(path.join(folder, "package.json")).pipe(
      Effect.flatMap(Schema.decodeEffect(Manifest)),
      Effect.option // no package.json here, or that of something else
    )
    if (Option.isSome(manifest) && manifest.value.name === packageName) {
      return { folder, version: manifest.value.version }
    }
    if (folder === path.dirname(folder)) return yield* new PackageNotFound({ from })
  }
})
