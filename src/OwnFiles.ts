/**
 * Files of the orchestrator's own below a project's `.opencode/`. A repository may have brought a link in the place of any
 * of them, which leads anywhere: nothing is written through one.
 */
import { Effect, type FileSystem, Option, type Path, PlatformError } from "effect"

interface Disk {
  readonly fs: FileSystem.FileSystem
  readonly path: Path.Path
}

/** Whether something that is there is in the project, links followed. */
export const isWithin = Effect.fnUntraced(function*({ fs, path }: Disk, root: string, place: string) {
  const way = path.relative(yield* fs.realPath(root), yield* fs.realPath(place))
  return way !== ".." && !way.startsWith(`..${path.sep}`) && !path.isAbsolute(way)
})

/** The names in a folder of the orchestrator's own; none where there is none, or it leads out of the project. */
export const ownNames = (disk: Disk, root: string, folder: string): Effect.Effect<ReadonlyArray<string>> =>
  isWithin(disk, root, folder).pipe(
    Effect.flatMap((within): Effect.Effect<ReadonlyArray<string>, PlatformError.PlatformError> =>
      within ? disk.fs.readDirectory(folder) : Effect.succeed([])
    ),
    Effect.orElseSucceed(() => [])
  )

/** Makes `.opencode/` and the folders named in it, each within the one before. One that leads out of the project is refused. */
export const ownFolder = Effect.fnUntraced(function*(disk: Disk, root: string, ...names: ReadonlyArray<string>) {
  const { fs, path } = disk
  let folder = root
  for (const name of [".opencode", ...names]) {
    folder = path.join(folder, name)
    if (!(yield* fs.exists(folder))) yield* fs.makeDirectory(folder, { recursive: true }).pipe(unlessThere)
    if (!(yield* isWithin(disk, root, folder))) {
      const description = `${folder} is a link out of the project`
      return yield* PlatformError.badArgument({ module: "FileSystem", method: "makeDirectory", description })
    }
  }
  return folder
})

/** Writes a file, unless there is one. */
export const writeOnce = (fs: FileSystem.FileSystem, file: string, text: string) =>
  fs.writeFileString(file, text, { flag: "wx" }).pipe(unlessThere)

/** Puts a whole file in the place of one, or of nothing; until then it stands in `fresh`. By one writer at a time. */
export const replaceFile = Effect.fnUntraced(function*(
  fs: FileSystem.FileSystem,
  file: string,
  text: string,
  fresh = `${file}.new`
) {
  yield* fs.remove(fresh, { force: true })
  yield* fs.writeFileString(fresh, text, { flag: "wx" }).pipe(
    Effect.andThen(fs.rename(fresh, file)),
    Effect.tapError(() => Effect.ignore(fs.remove(fresh, { force: true }))) // the error that matters is the other one
  )
})

/** Adds to a file, or begins it. What is no file goes from its place: a pipe would hold up who writes to it. */
export const addToFile = Effect.fnUntraced(function*(fs: FileSystem.FileSystem, file: string, text: string) {
  const info = yield* Effect.option(fs.lstat(file))
  if (Option.exists(info, ({ type }) => type !== "File")) yield* fs.remove(file)
  yield* fs.writeFileString(file, text, { flag: "a" })
})

const unlessThere = <A>(effect: Effect.Effect<A, PlatformError.PlatformError>) =>
  Effect.catchIf(
    Effect.asVoid(effect),
    ({ reason }) => reason._tag === "AlreadyExists",
    () => Effect.void
  )
