/**
 * Effect's FileSystem in memory. The disk is made apart from the service, so that what one instance of the orchestrator
 * wrote is there for the next; it can be full, read-only or slow. It fails as the real one does on Node: the same
 * reasons, with the same `code` in the cause. There are no symbolic links, and nothing can be watched.
 */
import { ByteSize, Context, type Duration, Effect, FileSystem, Layer, Option, PlatformError, Stream } from "effect"
import {
  allowed,
  Errno,
  errnos,
  type FileNode,
  type FolderNode,
  MemoryTree,
  type Node,
  segments
} from "./MemoryTree.ts"

export class MemoryDisk extends Context.Service<MemoryDisk, {
  /** Writes a file past all faults, with the folders it needs. */
  readonly put: (path: string, content: string | Uint8Array) => Effect.Effect<void>
  /** The text of a file; undefined when there is none. */
  readonly read: (path: string) => Effect.Effect<string | undefined>
  /** The paths of all files below a folder, sorted. */
  readonly list: (folder?: string) => Effect.Effect<ReadonlyArray<string>>
  /** Nothing more fits from now on, or `room` more bytes: the write that goes beyond stores what fits, then fails. */
  readonly full: (on: boolean, room?: number) => Effect.Effect<void>
  /** Every change is refused. */
  readonly readOnly: (on: boolean) => Effect.Effect<void>
  /** Each change and each sync takes this long. Zero, as at first: they happen at once. */
  readonly slow: (delay: Duration.Input) => Effect.Effect<void>
  /** The disk as effect's service. */
  readonly fileSystem: FileSystem.FileSystem
}>()("orchestrator/test/MemoryDisk") {
  /** An empty disk with the folder `/tmp`. */
  static readonly make: Effect.Effect<MemoryDisk["Service"]> = Effect.sync(() => makeDisk())
  static readonly layer: Layer.Layer<MemoryDisk> = Layer.effect(MemoryDisk, MemoryDisk.make)
}

/** The file system of a disk that was made elsewhere. */
export const layer: Layer.Layer<FileSystem.FileSystem, never, MemoryDisk> = Layer.effect(
  FileSystem.FileSystem,
  Effect.map(MemoryDisk, (disk) => disk.fileSystem)
)

type Outcome<A> = Effect.Effect<A, PlatformError.PlatformError>

/** How operations are done on one disk. */
interface Disk {
  readonly tree: MemoryTree
  readonly read: <A>(method: string, path: string, act: () => A) => Outcome<A>
  readonly change: <A>(method: string, path: string, act: (now: number) => A) => Outcome<A>
}

const makeDisk = (): MemoryDisk["Service"] => {
  const tree = new MemoryTree()
  tree.makeFolders("/tmp", undefined, 0)
  let delay: Duration.Input | undefined

  const read: Disk["read"] = (method, path, act) =>
    Effect.suspend(() => {
      try {
        return Effect.succeed(act())
      } catch (error) {
        if (!(error instanceof Errno)) throw error
        return Effect.fail(systemError(method, path, error))
      }
    })

  const change: Disk["change"] = (method, path, act) => {
    const acting = Effect.clockWith((clock) => read(method, path, () => act(clock.currentTimeMillisUnsafe())))
    return Effect.suspend(() => (delay === undefined ? acting : Effect.delay(acting, delay)))
  }

  const fileSystem = makeFileSystem({ tree, read, change })
  return MemoryDisk.of({
    put: (path, content) =>
      Effect.clockWith((clock) =>
        Effect.sync(() => {
          const { isReadOnly, room } = tree
          tree.room = Infinity
          tree.isReadOnly = false
          const now = clock.currentTimeMillisUnsafe()
          tree.makeFolders(segments(path).slice(0, -1).join("/"), undefined, now)
          const node = tree.open(path, "w", undefined, now)
          const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content
          if (node.type === "File") tree.storeAll(node, bytes, 0, now)
          tree.room = room
          tree.isReadOnly = isReadOnly
        })
      ),
    read: (path) => Effect.orElseSucceed(fileSystem.readFileString(path), () => undefined),
    list: (folder = "/") => {
      const base = `/${segments(folder).join("/")}`.replace(/\/$/, "")
      const below = (node: Node, path: string): ReadonlyArray<string> =>
        node.type === "File" ? [path] : [...node.entries].flatMap(([name, child]) => below(child, `${path}/${name}`))
      return read("list", folder, () => [...below(tree.lookUp(folder), base)].sort()).pipe(
        Effect.orElseSucceed(() => [])
      )
    },
    full: (on, room = 0) => Effect.sync(() => void (tree.room = on ? room : Infinity)),
    readOnly: (on) => Effect.sync(() => void (tree.isReadOnly = on)),
    slow: (time) =>
      Effect.sync(() => {
        delay = time === 0 ? undefined : time
      }),
    fileSystem
  })
}

const systemError = (method: string, path: string, { code }: Errno): PlatformError.PlatformError =>
  PlatformError.systemError({
    _tag: errnos[code].reason,
    module: "FileSystem",
    method,
    pathOrDescriptor: path,
    syscall: method,
    cause: Object.assign(new Error(`${code}: ${errnos[code].text}, ${method} '${path}'`), { code })
  })

const makeFileSystem = ({ change, read, tree }: Disk): FileSystem.FileSystem => {
  let handles = 2
  let temporary = 0

  const makeDirectory: FileSystem.FileSystem["makeDirectory"] = (path, options) =>
    change("makeDirectory", path, (now) =>
      options?.recursive === true
        ? tree.makeFolders(path, options.mode, now)
        : tree.makeFolder(path, options?.mode, now))

  const makeTempDirectory: FileSystem.FileSystem["makeTempDirectory"] = (options) =>
    Effect.suspend(() => {
      const name = `${options?.prefix ?? ""}${String(++temporary).padStart(6, "0")}`
      const path = `${options?.directory ?? "/tmp"}/${name}`
      return Effect.as(makeDirectory(path), path)
    })

  const writeFile: FileSystem.FileSystem["writeFile"] = (path, data, options) =>
    change("writeFile", path, (now) => {
      const flag = options?.flag ?? "w"
      const node = tree.open(path, flag, options?.mode, now)
      if (node.type === "Directory") throw new Errno("EISDIR")
      if (flag === "r") throw new Errno("EBADF")
      tree.storeAll(node, data, flag.startsWith("a") ? node.size : 0, now)
    })

  const makeTempFile: FileSystem.FileSystem["makeTempFile"] = (options) =>
    Effect.flatMap(makeTempDirectory(options), (folder) => {
      const path = `${folder}/file${options?.suffix ?? ""}`
      return Effect.as(writeFile(path, new Uint8Array(0)), path)
    })

  const copyFile: FileSystem.FileSystem["copyFile"] = (from, to) =>
    change("copyFile", from, (now) => {
      const source = tree.fileAt(from)
      const target = tree.open(to, "w", source.mode, now)
      if (target.type === "File") tree.storeAll(target, source.bytes.subarray(0, source.size), 0, now)
    })

  /** As `cp -r`; what is there already stays, unless it is to be overwritten. */
  const copy: FileSystem.FileSystem["copy"] = (from, to, options) =>
    Effect.flatMap(read("copy", from, () => tree.lookUp(from)), (node) => {
      if (node.type === "File") {
        return Effect.flatMap(
          fileSystem.exists(to),
          (there) => there && options?.overwrite !== true ? Effect.void : copyFile(from, to)
        )
      }
      const copies = [...node.entries.keys()].map((name) => copy(`${from}/${name}`, `${to}/${name}`, options))
      return Effect.andThen(makeDirectory(to, { recursive: true }), Effect.all(copies, { discard: true }))
    })

  const remove: FileSystem.FileSystem["remove"] = (path, options) =>
    change("remove", path, (now) => tree.remove(path, options?.recursive === true, now)).pipe(
      Effect.catchIf((error) => options?.force === true && error.reason._tag === "NotFound", () => Effect.void)
    )

  const open: FileSystem.FileSystem["open"] = (path, options) => {
    const flag = options?.flag ?? "r"
    const opening = flag === "r"
      ? read("open", path, () => tree.open(path, flag, undefined, 0))
      : change("open", path, (now) => tree.open(path, flag, options?.mode, now))
    return Effect.acquireRelease(
      Effect.map(opening, (node) => {
        const handle = { isClosed: false }
        return { handle, file: makeFile({ tree, read, change }, node, flag, String(++handles), handle) }
      }),
      ({ handle }) => Effect.sync(() => void (handle.isClosed = true))
    ).pipe(Effect.map(({ file }) => file))
  }

  const removed = (path: string) => Effect.ignore(remove(path, { recursive: true, force: true })) // the disk may be read-only by now

  const fileSystem: FileSystem.FileSystem = FileSystem.make({
    access: (path, options) =>
      read("access", path, () => {
        const node = tree.lookUp(path)
        if (options?.writable === true) tree.change()
        allowed(node, (options?.readable === true ? 0o400 : 0) | (options?.writable === true ? 0o200 : 0))
      }),
    chmod: (path, mode) =>
      change("chmod", path, () => {
        const node = tree.lookUp(path)
        tree.change()
        node.mode = mode & 0o777
      }),
    chown: (path) => change("chown", path, () => void tree.lookUp(path)),
    copy,
    copyFile,
    link: (from, to) => change("link", from, (now) => tree.link(from, to, now)),
    lstat: (path) => read("lstat", path, () => info(tree.lookUp(path))),
    makeDirectory,
    makeTempDirectory,
    makeTempDirectoryScoped: (options) => Effect.acquireRelease(makeTempDirectory(options), removed),
    makeTempFile,
    makeTempFileScoped: (options) =>
      Effect.acquireRelease(makeTempFile(options), (path) => removed(path.slice(0, path.lastIndexOf("/")))),
    open,
    readDirectory: (path, options) =>
      read("readDirectory", path, () => names(tree.folderAt(path), options?.recursive === true, "")),
    readDirectoryEntries: (path) =>
      read(
        "readDirectoryEntries",
        path,
        () => [...tree.folderAt(path).entries].map(([name, node]) => ({ name, type: node.type }))
      ),
    readFile: (path) =>
      read("readFile", path, () => {
        const file = tree.fileAt(path)
        allowed(file, 0o400)
        return file.bytes.slice(0, file.size)
      }),
    readLink: (path) =>
      read("readLink", path, () => {
        tree.lookUp(path)
        throw new Errno("EINVAL")
      }),
    realPath: (path) =>
      read("realPath", path, () => {
        tree.lookUp(path)
        return `/${segments(path).join("/")}`
      }),
    remove,
    rename: (from, to) => change("rename", from, (now) => tree.rename(from, to, now)),
    stat: (path) => read("stat", path, () => info(tree.lookUp(path))),
    symlink: (path) => Effect.fail(systemError("symlink", path, new Errno("ENOSYS"))),
    truncate: (path, length) => change("truncate", path, (now) => tree.truncate(tree.fileAt(path), length ?? 0, now)),
    utimes: (path, _, mtime) =>
      change("utime", path, () => {
        const node = tree.lookUp(path)
        tree.change()
        node.mtime = typeof mtime === "number" ? mtime * 1_000 : mtime.getTime()
      }),
    watch: (path) => Stream.fail(systemError("watch", path, new Errno("ENOSYS"))),
    writeFile
  })
  return fileSystem
}

/** An open file, with a cursor of its own; one that appends has none. */
const makeFile = (
  { change, read, tree }: Disk,
  node: Node,
  flag: FileSystem.OpenFlag,
  name: string,
  handle: { readonly isClosed: boolean }
): FileSystem.File => {
  const appends = flag.startsWith("a")
  let position = 0

  const opened = () => {
    if (handle.isClosed) throw new Errno("EBADF")
    return node
  }
  const file = (access: "read" | "write"): FileNode => {
    const node = opened()
    const may = access === "read" ? flag === "r" || flag.endsWith("+") : flag !== "r"
    if (!may) throw new Errno("EBADF")
    if (node.type === "Directory") throw new Errno("EISDIR")
    return node
  }
  const outside = (method: string) =>
    PlatformError.badArgument({ module: "FileSystem", method, description: "Cannot go before the start of the file" })

  const readInto = (method: string, buffer: Uint8Array, explicit: bigint | undefined) =>
    explicit !== undefined && explicit < 0n
      ? Effect.fail(outside(method))
      : read(method, name, () => {
        const { bytes, size } = file("read")
        const start = explicit === undefined ? position : Number(explicit)
        const count = Math.max(0, Math.min(buffer.length, size - start))
        buffer.set(bytes.subarray(start, start + count))
        if (explicit === undefined) position += count
        return count
      })

  const writeSome = (data: Uint8Array, now: number): number => {
    const target = file("write")
    const stored = tree.store(target, data, appends ? target.size : position, now)
    if (!appends) position += stored
    return stored
  }

  return {
    [FileSystem.FileTypeId]: FileSystem.FileTypeId,
    stat: read("stat", name, () => info(opened())),
    seek: (offset, from) =>
      Effect.suspend(() => {
        const next = from === "start" ? Number(offset) : position + Number(offset)
        if (next < 0) return Effect.fail(outside("seek"))
        position = next
        return Effect.succeed(BigInt(next))
      }),
    sync: change("sync", name, () => void opened()),
    read: (buffer, options) => Effect.suspend(() => readInto("read", buffer, options?.position)),
    readAlloc: (size, options) =>
      Effect.suspend(() => {
        const buffer = new Uint8Array(size)
        return Effect.map(
          readInto("readAlloc", buffer, options?.position),
          (count) => (count === 0 ? Option.none() : Option.some(buffer.subarray(0, count)))
        )
      }),
    truncate: (length) =>
      change("truncate", name, (now) => {
        tree.truncate(file("write"), length ?? 0, now)
        if (!appends) position = Math.min(position, length ?? 0)
      }),
    write: (data) => change("write", name, (now) => writeSome(data, now)),
    writeAll: (data) =>
      change("writeAll", name, (now) => {
        for (let stored = 0; stored < data.length;) stored += writeSome(data.subarray(stored), now)
      })
  }
}

const names = (folder: FolderNode, recursive: boolean, prefix: string): Array<string> =>
  [...folder.entries].flatMap(([name, node]) =>
    recursive && node.type === "Directory"
      ? [prefix + name, ...names(node, true, `${prefix}${name}/`)]
      : [prefix + name]
  )

const info = (node: Node): FileSystem.File.Info => {
  const time = Option.some(new Date(node.mtime))
  const isFile = node.type === "File"
  return {
    type: node.type,
    mtime: time,
    atime: time,
    birthtime: time,
    dev: 1n,
    ino: Option.some(BigInt(node.ino)),
    mode: (isFile ? 0o100000 : 0o040000) | node.mode,
    nlink: Option.some(isFile ? BigInt(node.links) : 2n),
    uid: Option.some(1_000),
    gid: Option.some(1_000),
    rdev: Option.some(0n),
    size: ByteSize.bytes(isFile ? node.size : 4_096),
    blksize: Option.some(ByteSize.bytes(4_096)),
    blocks: Option.some(isFile ? BigInt(Math.ceil(node.size / 512)) : 8n)
  }
}
