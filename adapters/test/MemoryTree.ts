/**
 * The folders and files of a disk in memory: what each operation does to them, at once and in whole, or which error of
 * the operating system it runs into. The process is the owner of everything, and not the superuser.
 */
import type { FileSystem } from "effect"

export interface FileNode {
  readonly type: "File"
  readonly ino: number
  /** Grows by doubling, so that an append costs what it adds; the content is the first `size` bytes. */
  bytes: Uint8Array
  size: number
  links: number
  mode: number
  mtime: number
}

export interface FolderNode {
  readonly type: "Directory"
  readonly ino: number
  readonly entries: Map<string, Node>
  mode: number
  mtime: number
}

export type Node = FileNode | FolderNode

/** Thrown by every operation that cannot be done. */
export class Errno {
  readonly code: keyof typeof errnos
  constructor(code: keyof typeof errnos) {
    this.code = code
  }
}

/** As `@effect/platform-node-shared` maps them: what it does not name is `Unknown`, a full disk included. */
export const errnos = {
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

/** The names on the way to a path, which may go up and down. */
export const segments = (path: string): ReadonlyArray<string> => {
  const names: Array<string> = []
  for (const name of path.split("/")) {
    if (name === "..") names.pop()
    else if (name !== "" && name !== ".") names.push(name)
  }
  return names
}

/** Whether the owner has the rights, as bits of a mode. */
export const allowed = (node: Node, bits: number): void => {
  if ((node.mode & bits) !== bits) throw new Errno("EACCES")
}

const readable = 0o400
const writable = 0o200

export class MemoryTree {
  /** Bytes that still fit. */
  room = Infinity
  isReadOnly = false
  private inodes = 0
  private readonly root = this.newFolder(0)

  // ---- looking ------------------------------------------------------------------------------------------------------

  lookUp(path: string): Node {
    return this.walk(segments(path))
  }

  fileAt(path: string): FileNode {
    const node = this.lookUp(path)
    if (node.type === "Directory") throw new Errno("EISDIR")
    return node
  }

  folderAt(path: string): FolderNode {
    const node = this.lookUp(path)
    if (node.type === "File") throw new Errno("ENOTDIR")
    return node
  }

  private walk(names: ReadonlyArray<string>): Node {
    let node: Node = this.root
    for (const name of names) {
      if (node.type !== "Directory") throw new Errno("ENOTDIR")
      const next: Node | undefined = node.entries.get(name)
      if (next === undefined) throw new Errno("ENOENT")
      node = next
    }
    return node
  }

  /** Where a path's last name stands, or would stand. */
  private place(path: string) {
    const names = segments(path)
    const folder = this.walk(names.slice(0, -1))
    if (folder.type !== "Directory") throw new Errno("ENOTDIR")
    const name = names.at(-1)
    if (name === undefined) throw new Errno("EPERM") // the root cannot be replaced
    return { folder, name, node: folder.entries.get(name) }
  }

  // ---- content ------------------------------------------------------------------------------------------------------

  /** The file to work on under a path, made and emptied as the flag says; a folder only to read. */
  open(path: string, flag: FileSystem.OpenFlag, mode: number | undefined, now: number): Node {
    const both = flag.endsWith("+")
    if (flag.startsWith("r")) {
      const node = this.lookUp(path)
      if (both && node.type === "Directory") throw new Errno("EISDIR")
      if (both) this.change()
      allowed(node, both ? readable | writable : readable)
      return node
    }
    const { folder, name, node } = this.place(path)
    if (node === undefined) {
      this.change()
      allowed(folder, writable)
      const made: FileNode = {
        type: "File",
        ino: ++this.inodes,
        bytes: new Uint8Array(0),
        size: 0,
        links: 1,
        mode: mode ?? 0o644,
        mtime: now
      }
      this.enter(folder, name, made, now)
      return made
    }
    if (flag.includes("x")) throw new Errno("EEXIST")
    if (node.type === "Directory") throw new Errno("EISDIR")
    this.change()
    allowed(node, both ? readable | writable : writable)
    if (flag.startsWith("w") && node.size > 0) this.truncate(node, 0, now)
    return node
  }

  /** Stores as much as there is room for, at least a byte, and tells how much that was. */
  store(file: FileNode, data: Uint8Array, position: number, now: number): number {
    this.change()
    const more = position + data.length - file.size
    const stored = more <= this.room ? data.length : data.length - (more - this.room)
    if (data.length > 0 && stored <= 0) throw new Errno("ENOSPC")
    const end = position + stored
    this.room -= Math.max(0, end - file.size)
    if (end > file.size) this.resize(file, end)
    file.bytes.set(data.subarray(0, stored), position)
    file.mtime = now
    return stored
  }

  storeAll(file: FileNode, data: Uint8Array, position: number, now: number): void {
    for (let stored = 0; stored < data.length;) {
      stored += this.store(file, data.subarray(stored), position + stored, now)
    }
  }

  truncate(file: FileNode, length: number, now: number): void {
    this.change()
    const more = length - file.size
    if (more > this.room) throw new Errno("ENOSPC")
    this.room -= more
    this.resize(file, length)
    file.mtime = now
  }

  private resize(file: FileNode, size: number) {
    if (size > file.bytes.length) {
      const bytes = new Uint8Array(Math.max(size, 2 * file.bytes.length, 256))
      bytes.set(file.bytes.subarray(0, file.size))
      file.bytes = bytes
    } else if (size < file.size) file.bytes.fill(0, size, file.size)
    file.size = size
  }

  // ---- names --------------------------------------------------------------------------------------------------------

  makeFolder(path: string, mode: number | undefined, now: number): void {
    const { folder, name, node } = this.place(path)
    if (node !== undefined) throw new Errno("EEXIST")
    this.makeIn(folder, name, mode, now)
  }

  /** Makes a folder with those above it; what is there already stays. */
  makeFolders(path: string, mode: number | undefined, now: number): void {
    const names = segments(path)
    let folder = this.root
    for (const [index, name] of names.entries()) {
      const node = folder.entries.get(name)
      if (node?.type === "File") throw new Errno(index === names.length - 1 ? "EEXIST" : "ENOTDIR")
      folder = node ?? this.makeIn(folder, name, mode, now)
    }
  }

  link(from: string, to: string, now: number): void {
    const node = this.lookUp(from)
    const { folder, name, node: there } = this.place(to)
    if (there !== undefined) throw new Errno("EEXIST")
    if (node.type === "Directory") throw new Errno("EPERM")
    this.change()
    node.links++
    this.enter(folder, name, node, now)
  }

  rename(from: string, to: string, now: number): void {
    const source = this.place(from)
    const target = this.place(to)
    const node = source.node
    if (node === undefined) throw new Errno("ENOENT")
    this.change()
    if (target.node === node) return
    if (node.type === "Directory") {
      const [above, below] = [segments(from), segments(to)]
      if (above.every((name, index) => below[index] === name)) throw new Errno("EINVAL")
      if (target.node?.type === "File") throw new Errno("ENOTDIR")
      if (target.node !== undefined && target.node.entries.size > 0) throw new Errno("ENOTEMPTY")
    } else if (target.node?.type === "Directory") throw new Errno("EISDIR")
    allowed(source.folder, writable)
    allowed(target.folder, writable)
    source.folder.entries.delete(source.name)
    source.folder.mtime = now
    this.enter(target.folder, target.name, node, now)
    if (target.node !== undefined) this.release(target.node)
  }

  remove(path: string, recursive: boolean, now: number): void {
    const { folder, name, node } = this.place(path)
    if (node === undefined) throw new Errno("ENOENT")
    if (node.type === "Directory" && !recursive) throw new Errno("ERR_FS_EISDIR")
    this.change()
    allowed(folder, writable)
    folder.entries.delete(name)
    folder.mtime = now
    this.release(node)
  }

  /** Refuses every change of a disk that is read-only. */
  change(): void {
    if (this.isReadOnly) throw new Errno("EROFS")
  }

  private makeIn(folder: FolderNode, name: string, mode: number | undefined, now: number): FolderNode {
    this.change()
    if (this.room <= 0) throw new Errno("ENOSPC")
    const made = this.newFolder(now, mode)
    this.enter(folder, name, made, now)
    return made
  }

  private newFolder(now: number, mode = 0o755): FolderNode {
    return { type: "Directory", ino: ++this.inodes, entries: new Map(), mode, mtime: now }
  }

  private enter(folder: FolderNode, name: string, node: Node, now: number) {
    folder.entries.set(name, node)
    folder.mtime = now
  }

  /** A name is gone; what has none left gives its room back. */
  private release(node: Node) {
    if (node.type === "Directory") { for (const child of node.entries.values()) this.release(child) }
    else if (--node.links === 0) this.room += node.size
  }
}
