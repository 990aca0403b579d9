/**
 * Effect's FileSystem in memory. The disk is made apart from the service, so that what one instance of the orchestrator
 * wrote is there for the next; it can be full, read-only or slow. It fails as the real one does on Node: the same
 * reasons, with the same `code` in the cause. There are no symbolic links, and nothing can be watched.
 */
import {
  ByteSize,
  Context,
  type Duration,
  Effect,
  FileSystem,
  Layer,
  Option,
  PlatformError,
  type Scope,
  Stream
} from "effect"

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
  /** Each write and each sync takes this long. Zero, as at first: they happen at once. */
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

interface FileNode {
  readonly type: "File"
  readonly ino: number
  /** Grows by doubling, so that an append costs what it adds; the content is the first `size` bytes. */
  bytes: Uint8Array
  size: number
  links: number
  mode: number
  mtime: number
}

interface FolderNode {
  readonly type: "Directory"
  readonly ino: number
  readonly entries: Map<string, Node>
  mode: number
  mtime: number
}

type Node = FileNode | FolderNode

/** What an operation runs into; turned into a PlatformError where the operation's name is known. */
class Errno {
  readonly code: keyof typeof codes
  constructor(code: keyof typeof codes) {
    this.code = code
  }
}

/** As `@effect/platform-node-shared` maps them: what it does not name is `Unknown`, a full disk included. */
const codes = {
  EACCES: { reason: "PermissionDenied", text: "permission denied" },
  EBADF: { reason: "Unknown", text: "bad file descriptor" },
  EEXIST: { reason: "AlreadyExists", text: "file already exists" },
  EINVAL: { reason: "Unknown", text: "invalid argument" },
  EISDIR: { reason: "BadResource", text: "illegal operation on a directory" },
  ENOENT: { reason: "NotFound", text: "no such file or directory" },
  ENOSPC: { reason: "Unknown", text: "no space left on device" },
  ENOSYS: { reason: "Unknown", text: "function not implemented" },
  ENOTDIR: { reason: "BadResource", text: "not a directory" },
  ENOTEMPTY: { reason: "Unknown", text: "directory not empty" },
  EPERM: { reason: "PermissionDenied", text: "operation not permitted" },
  EROFS: { reason: "Unknown", text: "read-only file system" },
  // Node's own, for a folder that is removed without `recursive`.
  ERR_FS_EISDIR: { reason: "Unknown", text: "Path is a directory" }
} as const

const systemError = (method: string, path: string, error: unknown): PlatformError.PlatformError => {
  if (!(error instanceof Errno)) throw error
  return PlatformError.systemError({
    _tag: codes[error.code].reason,
    module: "FileSystem",
    method,
    pathOrDescriptor: path,
    syscall: method,
    cause: Object.assign(new Error(`${error.code}: ${codes[error.code].text}, ${method} '${path}'`), {
      code: error.code
    })
  })
}

const segments = (path: string): ReadonlyArray<string> => {
  const names: Array<string> = []
  for (const name of path.split("/")) {
    if (name === "..") names.pop()
    else if (name !== "" && name !== ".") names.push(name)
  }
  return names
}

const makeDisk = (): MemoryDisk["Service"] => {
  let inodes = 0
  let handles = 2
  let temporary = 0
  let room = Infinity
  let isReadOnly = false
  let delay: Duration.Input | undefined

  const newFolder = (now: number, mode = 0o755): FolderNode => ({
    type: "Directory",
    ino: ++inodes,
    entries: new Map(),
    mode,
    mtime: now
  })
  const newFile = (now: number, mode = 0o644): FileNode => ({
    type: "File",
    ino: ++inodes,
    bytes: new Uint8Array(0),
    size: 0,
    links: 1,
    mode,
    mtime: now
  })
  const root = newFolder(0)
  root.entries.set("tmp", newFolder(0))

  // ---- paths ------------------------------------------------------------------------------------------------------

  const walk = (names: ReadonlyArray<string>): Node => {
    let node: Node = root
    for (const name of names) {
      if (node.type !== "Directory") throw new Errno("ENOTDIR")
      const next: Node | undefined = node.entries.get(name)
      if (next === undefined) throw new Errno("ENOENT")
      node = next
    }
    return node
  }

  const lookUp = (path: string): Node => walk(segments(path))

  /** Where a path's last name stands, or would stand. */
  const place = (path: string) => {
    const names = segments(path)
    const folder = walk(names.slice(0, -1))
    if (folder.type !== "Directory") throw new Errno("ENOTDIR")
    const name = names.at(-1)
    if (name === undefined) throw new Errno("EPERM") // the root cannot be replaced
    return { folder, name, node: folder.entries.get(name) }
  }

  const writable = () => {
    if (isReadOnly) throw new Errno("EROFS")
  }

  const fileAt = (path: string): FileNode => {
    const node = lookUp(path)
    if (node.type === "Directory") throw new Errno("EISDIR")
    return node
  }

  // ---- content ------------------------------------------------------------------------------------------------------

  const resize = (file: FileNode, size: number) => {
    if (size > file.bytes.length) {
      const bytes = new Uint8Array(Math.max(size, 2 * file.bytes.length, 256))
      bytes.set(file.bytes.subarray(0, file.size))
      file.bytes = bytes
    } else if (size < file.size) file.bytes.fill(0, size, file.size)
    file.size = size
  }

  /** Stores as much as there is room for, at least a byte, and tells how much that was. */
  const store = (file: FileNode, data: Uint8Array, position: number, now: number): number => {
    writable()
    const more = position + data.length - file.size
    const stored = more <= room ? data.length : data.length - (more - room)
    if (data.length > 0 && stored <= 0) throw new Errno("ENOSPC")
    const end = position + stored
    room -= Math.max(0, end - file.size)
    if (end > file.size) resize(file, end)
    file.bytes.set(data.subarray(0, stored), position)
    file.mtime = now
    return stored
  }

  const storeAll = (file: FileNode, data: Uint8Array, position: number, now: number) => {
    for (let stored = 0; stored < data.length;) {
      stored += store(file, data.subarray(stored), position + stored, now)
    }
  }

  /** The file to write under a path, made and emptied as the flag says. */
  const openNode = (path: string, flag: FileSystem.OpenFlag, mode: number | undefined, now: number): Node => {
    const writes = flag !== "r"
    if (flag === "r" || flag === "r+") {
      const node = lookUp(path)
      if (writes && node.type === "Directory") throw new Errno("EISDIR")
      if (writes) writable()
      allowed(node, writes ? 0o600 : 0o400)
      return node
    }
    const { folder, name, node } = place(path)
    if (node !== undefined) {
      if (flag.includes("x")) throw new Errno("EEXIST")
      if (node.type === "Directory") throw new Errno("EISDIR")
      writable()
      allowed(node, flag.includes("+") ? 0o600 : 0o200)
      if (flag.startsWith("w") && node.size > 0) {
        room += node.size
        resize(node, 0)
        node.mtime = now
      }
      return node
    }
    writable()
    allowed(folder, 0o200)
    const made = newFile(now, mode)
    folder.entries.set(name, made)
    folder.mtime = now
    return made
  }

  /** The process is the owner of everything, and not the superuser. */
  const allowed = (node: Node, bits: number) => {
    if ((node.mode & bits) !== bits) throw new Errno("EACCES")
  }

  const release = (node: Node) => {
    if (node.type === "File" && --node.links === 0) room += node.size
    if (node.type === "Directory") { for (const child of node.entries.values()) release(child) }
  }

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

  // ---- operations ---------------------------------------------------------------------------------------------------

  const read = <A>(method: string, path: string, act: () => A): Effect.Effect<A, PlatformError.PlatformError> =>
    Effect.suspend(() => {
      try {
        return Effect.succeed(act())
      } catch (error) {
        return Effect.fail(systemError(method, path, error))
      }
    })

  const change = <A>(
    method: string,
    path: string,
    act: (now: number) => A
  ): Effect.Effect<A, PlatformError.PlatformError> => {
    const acting = Effect.clockWith((clock) => read(method, path, () => act(clock.currentTimeMillisUnsafe())))
    return Effect.suspend(() => (delay === undefined ? acting : Effect.delay(acting, delay)))
  }

  const makeFolders = (path: string, mode: number | undefined, now: number): FolderNode => {
    let folder = root
    for (const name of segments(path)) {
      const node = folder.entries.get(name)
      if (node?.type === "File") throw new Errno("ENOTDIR")
      if (node === undefined) {
        writable()
        if (room <= 0) throw new Errno("ENOSPC")
        const made = newFolder(now, mode)
        folder.entries.set(name, made)
        folder.mtime = now
        folder = made
      } else folder = node
    }
    return folder
  }

  const makeDirectory: FileSystem.FileSystem["makeDirectory"] = (path, options) =>
    change("makeDirectory", path, (now) => {
      if (options?.recursive === true) {
        const names = segments(path)
        const parent = makeFolders(names.slice(0, -1).join("/"), options.mode, now)
        if (names.length > 0 && parent.entries.get(names.at(-1) ?? "")?.type === "File") throw new Errno("EEXIST")
        return void makeFolders(path, options.mode, now)
      }
      const { folder, name, node } = place(path)
      if (node !== undefined) throw new Errno("EEXIST")
      writable()
      if (room <= 0) throw new Errno("ENOSPC")
      folder.entries.set(name, newFolder(now, options?.mode))
      folder.mtime = now
    })

  const makeTempDirectory: FileSystem.FileSystem["makeTempDirectory"] = (options) => {
    const path = `${options?.directory ?? "/tmp"}/${options?.prefix ?? ""}${String(++temporary).padStart(6, "0")}`
    return Effect.as(makeDirectory(path), path)
  }

  const writeFile: FileSystem.FileSystem["writeFile"] = (path, data, options) =>
    change("writeFile", path, (now) => {
      const flag = options?.flag ?? "w"
      const node = openNode(path, flag, options?.mode, now)
      if (node.type === "Directory") throw new Errno("EISDIR")
      if (flag === "r") throw new Errno("EBADF")
      storeAll(node, data, flag.startsWith("a") ? node.size : 0, now)
    })

  const names = (folder: FolderNode, recursive: boolean, prefix: string): Array<string> =>
    [...folder.entries].flatMap(([name, node]) =>
      recursive && node.type === "Directory"
        ? [prefix + name, ...names(node, true, `${prefix}${name}/`)]
        : [prefix + name]
    )

  const folderAt = (path: string): FolderNode => {
    const node = lookUp(path)
    if (node.type !== "Directory") throw new Errno("ENOTDIR")
    return node
  }

  const remove: FileSystem.FileSystem["remove"] = (path, options) =>
    change("remove", path, (now) => {
      let found: ReturnType<typeof place>
      try {
        found = place(path)
        if (found.node === undefined) throw new Errno("ENOENT")
      } catch (error) {
        if (options?.force === true && error instanceof Errno && error.code === "ENOENT") return
        throw error
      }
      const { folder, name, node } = found
      if (node?.type === "Directory" && options?.recursive !== true) throw new Errno("ERR_FS_EISDIR")
      writable()
      allowed(folder, 0o200)
      folder.entries.delete(name)
      folder.mtime = now
      if (node !== undefined) release(node)
    })

  const rename: FileSystem.FileSystem["rename"] = (from, to) =>
    change("rename", from, (now) => {
      const source = place(from)
      const target = place(to)
      const node = source.node
      if (node === undefined) throw new Errno("ENOENT")
      writable()
      if (target.node === node) return
      if (node.type === "Directory") {
        const [above, below] = [segments(from), segments(to)]
        if (above.every((name, index) => below[index] === name)) throw new Errno("EINVAL")
        if (target.node?.type === "File") throw new Errno("ENOTDIR")
        if (target.node !== undefined && target.node.entries.size > 0) throw new Errno("ENOTEMPTY")
      } else if (target.node?.type === "Directory") throw new Errno("EISDIR")
      allowed(source.folder, 0o200)
      allowed(target.folder, 0o200)
      source.folder.entries.delete(source.name)
      target.folder.entries.set(target.name, node)
      source.folder.mtime = now
      target.folder.mtime = now
      if (target.node !== undefined) release(target.node)
    })

  const truncate = (node: FileNode, length: number, now: number) => {
    writable()
    const more = length - node.size
    if (more > room) throw new Errno("ENOSPC")
    room -= more
    resize(node, length)
    node.mtime = now
  }

  const copyFile: FileSystem.FileSystem["copyFile"] = (from, to) =>
    change("copyFile", from, (now) => {
      const source = fileAt(from)
      const target = openNode(to, "w", source.mode, now)
      if (target.type === "File") storeAll(target, source.bytes.subarray(0, source.size), 0, now)
    })

  const open: FileSystem.FileSystem["open"] = (path, options) => {
    const flag = options?.flag ?? "r"
    const opening = flag === "r"
      ? read("open", path, () => openNode(path, flag, options?.mode, 0))
      : change("open", path, (now) => openNode(path, flag, options?.mode, now))
    return Effect.acquireRelease(
      Effect.map(opening, (node) => {
        const handle = { closed: false }
        return { handle, file: makeFile(node, flag, ++handles, handle) }
      }),
      ({ handle }) => Effect.sync(() => void (handle.closed = true))
    ).pipe(Effect.map(({ file }) => file))
  }

  const makeFile = (
    node: Node,
    flag: FileSystem.OpenFlag,
    descriptor: number,
    handle: { readonly closed: boolean }
  ): FileSystem.File => {
    const name = String(descriptor)
    const appends = flag.startsWith("a")
    const reads = flag === "r" || flag.endsWith("+")
    let position = 0
    const usable = (may: boolean): FileNode => {
      if (handle.closed || !may) throw new Errno("EBADF")
      if (node.type === "Directory") throw new Errno("EISDIR")
      return node
    }
    const outside = (method: string) =>
      PlatformError.badArgument({ module: "FileSystem", method, description: "Cannot go before the start of the file" })
    const readInto = (method: string, buffer: Uint8Array, options?: FileSystem.File.ReadOptions) => {
      const explicit = options?.position
      if (explicit !== undefined && explicit < 0n) return Effect.fail(outside(method))
      return read(method, name, () => {
        const file = usable(reads)
        const start = explicit === undefined ? position : Number(explicit)
        const count = Math.max(0, Math.min(buffer.length, file.size - start))
        buffer.set(file.bytes.subarray(start, start + count))
        if (explicit === undefined) position += count
        return count
      })
    }
    return {
      [FileSystem.FileTypeId]: FileSystem.FileTypeId,
      stat: read("stat", name, () => {
        if (handle.closed) throw new Errno("EBADF")
        return info(node)
      }),
      seek: (offset, from) =>
        Effect.suspend(() => {
          const next = from === "start" ? Number(offset) : position + Number(offset)
          if (next < 0) return Effect.fail(outside("seek"))
          position = next
          return Effect.succeed(BigInt(next))
        }),
      sync: change("sync", name, () => {
        if (handle.closed) throw new Errno("EBADF")
      }),
      read: (buffer, options) => readInto("read", buffer, options),
      readAlloc: (size, options) =>
        Effect.suspend(() => {
          const buffer = new Uint8Array(size)
          return Effect.map(
            readInto("readAlloc", buffer, options),
            (count) => (count === 0 ? Option.none() : Option.some(buffer.subarray(0, count)))
          )
        }),
      truncate: (length) =>
        change("truncate", name, (now) => {
          truncate(usable(flag !== "r"), length ?? 0, now)
          if (!appends) position = Math.min(position, length ?? 0)
        }),
      write: (buffer) =>
        change("write", name, (now) => {
          const file = usable(flag !== "r")
          const stored = store(file, buffer, appends ? file.size : position, now)
          if (!appends) position += stored
          return stored
        }),
      writeAll: (buffer) =>
        change("writeAll", name, (now) => {
          const file = usable(flag !== "r")
          for (let stored = 0; stored < buffer.length;) {
            const count = store(file, buffer.subarray(stored), appends ? file.size : position, now)
            stored += count
            if (!appends) position += count
          }
        })
    }
  }

  /** As `cp -r`. */
  const copy = (
    from: string,
    to: string,
    options?: { readonly overwrite?: boolean | undefined }
  ): Effect.Effect<void, PlatformError.PlatformError> =>
    Effect.flatMap(
      read("copy", from, () => lookUp(from)),
      (node) =>
        node.type === "File"
          ? Effect.flatMap(
            fileSystem.exists(to),
            (there) => there && options?.overwrite !== true ? Effect.void : copyFile(from, to)
          )
          : Effect.andThen(
            makeDirectory(to, { recursive: true }),
            Effect.forEach([...node.entries.keys()], (name) => copy(`${from}/${name}`, `${to}/${name}`, options), {
              discard: true
            })
          )
    )

  const unsupported = (method: string) => (path: string) => Effect.fail(systemError(method, path, new Errno("ENOSYS")))
  const removing = (path: string): Effect.Effect<void> => Effect.ignore(remove(path, { recursive: true, force: true })) // a temporary file on a disk that vanishes anyway
  const makeTempFile: FileSystem.FileSystem["makeTempFile"] = (options) =>
    Effect.flatMap(makeTempDirectory(options), (folder) => {
      const path = `${folder}/file${options?.suffix ?? ""}`
      return Effect.as(writeFile(path, new Uint8Array(0)), path)
    })
  const scoped = (making: Effect.Effect<string, PlatformError.PlatformError>, folder: (path: string) => string) =>
    Effect.acquireRelease(making, (path): Effect.Effect<void, never, Scope.Scope> => removing(folder(path)))

  const fileSystem: FileSystem.FileSystem = FileSystem.make({
    access: (path, options) =>
      read("access", path, () => {
        const node = lookUp(path)
        if (options?.writable === true) writable()
        allowed(node, (options?.readable === true ? 0o400 : 0) | (options?.writable === true ? 0o200 : 0))
      }),
    chmod: (path, mode) =>
      change("chmod", path, () => {
        const node = lookUp(path)
        writable()
        node.mode = mode & 0o777
      }),
    chown: (path) => change("chown", path, () => void lookUp(path)),
    copy,
    copyFile,
    link: (from, to) =>
      change("link", from, (now) => {
        const node = lookUp(from)
        const { folder, name, node: there } = place(to)
        if (there !== undefined) throw new Errno("EEXIST")
        if (node.type === "Directory") throw new Errno("EPERM")
        writable()
        node.links++
        folder.entries.set(name, node)
        folder.mtime = now
      }),
    lstat: (path) => read("lstat", path, () => info(lookUp(path))),
    makeDirectory,
    makeTempDirectory,
    makeTempDirectoryScoped: (options) => scoped(makeTempDirectory(options), (path) => path),
    makeTempFile,
    makeTempFileScoped: (options) => scoped(makeTempFile(options), (path) => path.slice(0, path.lastIndexOf("/"))),
    open,
    readDirectory: (path, options) =>
      read("readDirectory", path, () => names(folderAt(path), options?.recursive === true, "")),
    readDirectoryEntries: (path) =>
      read(
        "readDirectoryEntries",
        path,
        () => [...folderAt(path).entries].map(([name, node]) => ({ name, type: node.type }))
      ),
    readFile: (path) =>
      read("readFile", path, () => {
        const file = fileAt(path)
        allowed(file, 0o400)
        return file.bytes.slice(0, file.size)
      }),
    readLink: (path) =>
      read("readLink", path, () => {
        lookUp(path)
        throw new Errno("EINVAL")
      }),
    realPath: (path) =>
      read("realPath", path, () => {
        lookUp(path)
        return `/${segments(path).join("/")}`
      }),
    remove,
    rename,
    stat: (path) => read("stat", path, () => info(lookUp(path))),
    symlink: unsupported("symlink"),
    truncate: (path, length) => change("truncate", path, (now) => truncate(fileAt(path), length ?? 0, now)),
    utimes: (path, _, mtime) =>
      change("utime", path, () => {
        const node = lookUp(path)
        writable()
        node.mtime = typeof mtime === "number" ? mtime * 1_000 : mtime.getTime()
      }),
    watch: (path) => Stream.fromEffect(unsupported("watch")(path)),
    writeFile
  })

  return MemoryDisk.of({
    put: (path, content) =>
      Effect.clockWith((clock) =>
        Effect.sync(() => {
          const before = { room, isReadOnly }
          room = Infinity
          isReadOnly = false
          const now = clock.currentTimeMillisUnsafe()
          makeFolders(segments(path).slice(0, -1).join("/"), undefined, now)
          const node = openNode(path, "w", undefined, now)
          const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content
          if (node.type === "File") storeAll(node, bytes, 0, now)
          room = before.room
          isReadOnly = before.isReadOnly
        })
      ),
    read: (path) => Effect.orElseSucceed(fileSystem.readFileString(path), () => undefined),
    list: (folder = "/") => {
      const base = `/${segments(folder).join("/")}`.replace(/\/$/, "")
      const below = (node: Node, path: string): ReadonlyArray<string> =>
        node.type === "File" ? [path] : [...node.entries].flatMap(([name, child]) => below(child, `${path}/${name}`))
      return read("list", folder, () => [...below(lookUp(folder), base)].sort()).pipe(Effect.orElseSucceed(() => []))
    },
    full: (on, bytes = 0) => Effect.sync(() => void (room = on ? bytes : Infinity)),
    readOnly: (on) => Effect.sync(() => void (isReadOnly = on)),
    slow: (time) =>
      Effect.sync(() => {
        delay = time === 0 ? undefined : time
      }),
    fileSystem
  })
}
