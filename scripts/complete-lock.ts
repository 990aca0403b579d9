/**
 * Adds to package-lock.json the optional platform packages that npm left out because the registry it asked does not
 * have them. Without an entry for each, `npm ci` refuses the whole file, also on platforms that never need them.
 * Run it after `npm install` behind an incomplete mirror: `node scripts/complete-lock.ts`.
 */
import { readFileSync, writeFileSync } from "node:fs"

interface Entry {
  readonly version?: string
  readonly dev?: boolean
  readonly optional?: boolean
  readonly os?: ReadonlyArray<string>
  readonly cpu?: ReadonlyArray<string>
  readonly libc?: ReadonlyArray<string>
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const file = new URL("../package-lock.json", import.meta.url)
const lock: { readonly packages: Record<string, Entry> } = JSON.parse(readFileSync(file, "utf8"))

const systems: Readonly<Record<string, string>> = {
  darwin: "darwin",
  linux: "linux",
  windows: "win32",
  win32: "win32",
  android: "android",
  freebsd: "freebsd",
  openbsd: "openbsd"
}

/** The platform that a package's name tells of, such as `opencode-linux-x64-musl`; undefined where it tells of none. */
const platform = (name: string): Pick<Entry, "os" | "cpu" | "libc"> | undefined => {
  const words = name.split(/[/-]/)
  const os = words.map((word) => systems[word]).find((system) => system !== undefined)
  const cpu = words.find((word) => /^(x64|ia32|arm|arm64|loong64|ppc64|riscv64|s390x)$/.test(word))
  if (os === undefined || cpu === undefined) return undefined
  return { os: [os], cpu: [cpu], ...(words.includes("musl") ? { libc: ["musl"] } : {}) }
}

const added: Array<string> = []
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const at = `node_modules/${name}`
    if (lock.packages[at] !== undefined) continue
    const where = platform(name)
    if (where === undefined) continue
    lock.packages[at] = { version, dev: true, optional: true, ...where }
    added.push(name)
  }
}
const { "": root = {}, ...rest } = lock.packages
const sorted = Object.fromEntries(Object.entries(rest).toSorted(([a], [b]) => (a < b ? -1 : 1)))
writeFileSync(file, JSON.stringify({ ...lock, packages: { "": root, ...sorted } }, null, 2) + "\n")
process.stdout.write(`added ${added.length} packages\n`)
