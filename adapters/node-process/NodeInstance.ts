/** The process that this copy of the orchestrator lives in, on Node and in Bun. */
import { Effect, FileSystem, Layer, Option } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { createHash } from "node:crypto"
import * as os from "node:os"
import { Instance, type Owner } from "../../src/host/Instance.ts"

/** Where one process is among others: pids are comparable only within one boot and one namespace (of a container). */
interface Place {
  readonly boot: string
  readonly namespace: string
}

/** Names processes of this machine, and recognises them again. Any Unix can be looked at as macOS is: with `ps`. */
export const processes = Effect.fnUntraced(function*(platform: NodeJS.Platform = process.platform) {
  const fs = yield* FileSystem.FileSystem
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const text = (path: string) =>
    fs.readFileString(path).pipe(Effect.map((content) => content.trim()), Effect.orElseSucceed(() => ""))

  const isLinux = platform === "linux"
  const place: Place = {
    boot: isLinux ? yield* text("/proc/sys/kernel/random/boot_id") : "",
    namespace: isLinux ? yield* fs.readLink("/proc/self/ns/pid").pipe(Effect.orElseSucceed(() => "")) : ""
  }

  /** When a process started, in the system's own terms; none when there is no such process. */
  const startOf = (pid: number): Effect.Effect<Option.Option<string>> => {
    switch (platform) {
      case "linux":
        return Effect.map(text(`/proc/${pid}/stat`), parseStat)
      case "win32":
        return output("powershell", [
          "-NoProfile",
          "-Command",
          `(Get-Process -Id ${pid}).StartTime.ToFileTimeUtc()`
        ])
      default:
        return Effect.map(output("ps", ["-o", "stat=,lstart=", "-p", String(pid)]), Option.flatMap(parsePs))
    }
  }

  const output = (command: string, args: ReadonlyArray<string>) =>
    // The same words for everybody who compares them, whatever language and zone their process has.
    spawner.string(ChildProcess.make(command, [...args], { env: { LC_ALL: "C", TZ: "UTC" }, extendEnv: true })).pipe(
      Effect.timeout("10 seconds"),
      Effect.map((answer) => answer.trim() === "" ? Option.none<string>() : Option.some(answer.trim())),
      Effect.orElseSucceed(() => Option.none<string>())
    )

  const machine = createHash("sha256").update([
    yield* text("/etc/machine-id"),
    os.hostname(),
    os.homedir(),
    os.userInfo().uid
  ].join("\n")).digest("hex").slice(0, 12)
  const named = (pid: number, start: string): Owner => ({
    pid,
    machine,
    startedAt: [place.boot, place.namespace, start].join(separator)
  })

  return {
    /** The process with this pid now; none when there is no such process. */
    find: (pid: number) => Effect.map(startOf(pid), Option.map((start) => named(pid, start))),
    own: Effect.map(startOf(process.pid), (start) => named(process.pid, Option.getOrElse(start, () => ""))),
    isAlive: Effect.fnUntraced(function*(other: Owner) {
      if (other.machine !== machine) return "unknown" as const
      const [boot, namespace, started] = other.startedAt.split(separator)
      if (boot !== place.boot) return "dead" as const
      if (namespace !== place.namespace) return "unknown" as const
      const now = yield* startOf(other.pid)
      return Option.isSome(now) && now.value === started ? "alive" as const : "dead" as const
    })
  }
})

export const layer = (root: string, platform: NodeJS.Platform = process.platform) =>
  Layer.effect(
    Instance,
    Effect.gen(function*() {
      const { isAlive, own } = yield* processes(platform)
      return Instance.of({ root, owner: yield* own, isAlive })
    })
  )

const separator = "/"

/** The start in clock ticks since the boot, field 22; none for what is only a zombie. */
const parseStat = (stat: string): Option.Option<string> => {
  // The second field, the program's name, may hold spaces; what follows it begins with field 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  const started = fields[22 - 3]
  return started === undefined || fields[0] === "Z" ? Option.none() : Option.some(started)
}

/** State and start as `ps` says them; none for what is only a zombie. */
const parsePs = (line: string): Option.Option<string> => {
  const [, state = "Z", started = ""] = /^(\S+)\s+(\S.*)$/.exec(line.trim()) ?? []
  return state.startsWith("Z") ? Option.none() : Option.some(started)
}
