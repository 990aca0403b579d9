/** The process that this copy of the orchestrator lives in, on Node and in Bun. */
import { Effect, FileSystem, Layer, Option } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { createHash } from "node:crypto"
import * as os from "node:os"
import { Instance } from "../../src/host/Instance.ts"

/** Where one process is among others: pids are comparable only within one boot and one namespace (of a container). */
interface Place {
  readonly boot: string
  readonly namespace: string
}

export const layer = (root: string) =>
  Layer.effect(
    Instance,
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
      const text = (path: string) =>
        fs.readFileString(path).pipe(Effect.map((content) => content.trim()), Effect.orElseSucceed(() => ""))

      const place: Place = {
        boot: yield* text("/proc/sys/kernel/random/boot_id"),
        namespace: yield* fs.readLink("/proc/self/ns/pid").pipe(Effect.orElseSucceed(() => ""))
      }

      /** When a process started, in the system's own terms; none when there is no such process. */
      const startOf = (pid: number): Effect.Effect<Option.Option<string>> => {
        switch (process.platform) {
          case "linux":
            return Effect.map(text(`/proc/${pid}/stat`), parseStat)
          case "win32":
            return output("powershell", [
              "-NoProfile",
              "-Command",
              `(Get-Process -Id ${pid}).StartTime.ToFileTimeUtc()`
            ])
          default:
            return output("ps", ["-o", "lstart=", "-p", String(pid)])
        }
      }

      const output = (command: string, args: ReadonlyArray<string>) =>
        spawner.string(ChildProcess.make(command, [...args])).pipe(
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
      const start = yield* startOf(process.pid)
      const owner = {
        pid: process.pid,
        machine,
        startedAt: [place.boot, place.namespace, Option.getOrElse(start, () => "")].join(separator)
      }

      return Instance.of({
        root,
        owner,
        isAlive: Effect.fnUntraced(function*(other) {
          if (other.machine !== machine) return "unknown"
          const [boot, namespace, started] = other.startedAt.split(separator)
          if (boot !== place.boot) return "dead"
          if (namespace !== place.namespace) return "unknown"
          const now = yield* startOf(other.pid)
          return Option.isSome(now) && now.value === started ? "alive" : "dead"
        })
      })
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
