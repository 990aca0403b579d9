/** The program of OpenCode that commands start. The user's sessions belong to the OpenCode that the user runs, so it comes first. */
import { Config, Effect, FileSystem, Option, Path, Schema } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { createRequire } from "node:module"
import { ownBinary } from "../test/RealHost.ts"
import { unavailable } from "./exit.ts"
import { packageName } from "./packageRoot.ts"

export interface Program {
  readonly file: string
  readonly from: "the PATH" | "the project" | "this package"
}

/** That on the PATH, else the project's, else this package's own; none when nobody has installed one. */
export const findProgram = Effect.fnUntraced(function*(directory: string): Effect.fn.Return<
  Program | undefined,
  Config.ConfigError,
  FileSystem.FileSystem | Path.Path
> {
  const path = yield* Path.Path
  const folders = (yield* Config.String("PATH").pipe(Config.withDefault(""))).split(path.sep === "/" ? ":" : ";")
  const own = yield* ownBinary
  const places: ReadonlyArray<Program> = [
    ...folders.filter((folder) => folder !== "").flatMap((folder) => inFolder(path, folder, "the PATH")),
    ...above(path, directory).flatMap((folder) =>
      inFolder(path, path.join(folder, "node_modules", ".bin"), "the project")
    ),
    ...(own === undefined ? [] : [{ file: own, from: "this package" as const }])
  ]
  for (const { file, from } of places) {
    const usable = yield* complete(file)
    if (usable !== undefined) return { file: usable, from }
  }
  return undefined
})

const inFolder = (path: Path.Path, folder: string, from: Program["from"]): ReadonlyArray<Program> =>
  (path.sep === "/" ? ["opencode"] : ["opencode.exe", "opencode.cmd"]).map((name) => ({
    file: path.join(folder, name),
    from
  }))

/** Packages lie in the project's folder or, in a workspace, above it. */
const above = (path: Path.Path, directory: string): ReadonlyArray<string> =>
  path.dirname(directory) === directory ? [directory] : [directory, ...above(path, path.dirname(directory))]

/**
 * What can be run in the place of a file: itself; nothing where there is none. The package `opencode-ai` holds but a note
 * until its install script puts the program in its place; where such scripts are not allowed, the program lies in a package beside it.
 */
const complete = Effect.fnUntraced(function*(file: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const info = yield* Effect.option(fs.stat(file)) // there is none, or none that may be looked at
  if (Option.isNone(info) || info.value.type !== "File") return undefined
  const folder = path.dirname(path.dirname(yield* Effect.orElseSucceed(fs.realPath(file), () => file)))
  if (path.basename(folder) !== "opencode-ai" || info.value.size > largestNote) return file
  const manifest = path.join(folder, "package.json")
  const { optionalDependencies } = yield* fs.readFileString(manifest).pipe(
    Effect.flatMap(Schema.decodeEffect(Platforms)),
    Effect.orElseSucceed((): typeof Platforms.Type => ({ optionalDependencies: {} }))
  )
  const platform = `opencode-${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  const names = Object.keys(optionalDependencies).filter((name) => name === platform || name.startsWith(`${platform}-`))
  // The baseline runs on every processor.
  for (const name of names.toSorted((a, b) => Number(b.includes("baseline")) - Number(a.includes("baseline")))) {
    const program = yield* Effect.try(() => createRequire(manifest).resolve(`${name}/package.json`)).pipe(
      Effect.map((found) => path.join(path.dirname(found), "bin", path.sep === "/" ? "opencode" : "opencode.exe")),
      Effect.option // npm installs those of this platform only
    )
    if (Option.isSome(program) && (yield* Effect.orElseSucceed(fs.exists(program.value), () => false))) {
      return program.value
    }
  }
  return file // which says itself what it lacks
})

const Platforms = Schema.fromJsonString(
  Schema.Struct({ optionalDependencies: Schema.Record(Schema.String, Schema.String) })
)

/** In bytes; the program has more than a hundred million. */
const largestNote = 100_000

/** Said before anything is tried: what the system says of a program that is not there helps nobody. */
export const requireProgram = Effect.fnUntraced(function*(directory: string) {
  const found = yield* findProgram(directory)
  if (found !== undefined) return found
  return yield* unavailable(
    `There is no OpenCode here: none on the PATH, none in ${directory}, none beside this package. ${howToInstall}; `
      + `or name a server that runs with --url. With npx: ${npx}.`
  )
})

export const howToInstall = "Install OpenCode: npm install --global opencode-ai, or https://opencode.ai"

const npx = `npx --package opencode-ai --package ${packageName} opencode-orchestrator run "…"`

/** Its version; none when it does not run. */
export const versionOf = Effect.fnUntraced(function*(file: string) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const text = yield* spawner.string(ChildProcess.make(file, ["--version"], { extendEnv: true })).pipe(
    Effect.timeout("20 seconds"),
    Effect.orElseSucceed(() => "")
  )
  return /\d+\.\d+\.\d+\S*/.exec(text)?.[0]
})

export const isAtLeast = (version: string, oldest: ReadonlyArray<number>): boolean => {
  const parts = version.split(/[.-]/).map(Number)
  const place = oldest.findIndex((part, index) => parts[index] !== part)
  return place < 0 || (parts[place] ?? 0) > (oldest[place] ?? 0)
}

/** Since it, a plugin is loaded from its default export. */
export const oldestHost = [1, 18, 29]

export const updateHost = `Update it to ${oldestHost.join(".")} or later: opencode upgrade`
