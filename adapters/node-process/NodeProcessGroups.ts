/**
 * Process groups on Node and in Bun. On Linux and macOS a small shell leads each group: it runs the command, tells how
 * it ended, and keeps the group's number from being used again until all of it is over. Beside it another one waits for
 * the end of a pipe that the host holds: the system closes it with the host's process, however that ends, by `kill -9`
 * too, and the group is ended then. On Windows the tree of processes is ended instead, by the host or its successor.
 */
import { Deferred, Duration, Effect, Fiber, FileSystem, Layer, Option, Schedule } from "effect"
import { type ChildProcess, execFile, spawn } from "node:child_process"
import { readdir, readFile } from "node:fs/promises"
import type { CommandExit, CommandId } from "../../src/domain/Command.ts"
import type { Owner } from "../../src/host/Instance.ts"
import { type GroupOptions, type ProcessGroup, ProcessGroups } from "../../src/host/ProcessGroups.ts"
import * as NodeInstance from "./NodeInstance.ts"
import { spawnPrinting } from "./printing.ts"

/**
 * Its arguments: the shell for the command, the command, the seconds from TERM to KILL after the end of the host. It
 * says on its standard error which process watches the host, then how the command has ended. Signals to the group do not
 * end it: it stays until the host, or the watcher, kills all that is left, itself included.
 */
const leading = `
exec 3<&0 4>&2 </dev/null 2>/dev/null
trap : HUP INT QUIT TERM
{ trap '' HUP INT QUIT TERM; read -r _ <&3; kill -TERM "-$$"; sleep "$3"; kill -KILL "-$$"; } >/dev/null 4>&- &
echo "$!" >&4
"$1" -c "$2" 2>&1 3<&- 4>&-
code=$?
trap '' HUP INT QUIT TERM
echo "$code" >&4
read -r _ <&3
`

/** Carried by each process of a group in its environment, also by one that has left the group. */
const marker = "ORCHESTRATOR_COMMAND"

const make = Effect.fnUntraced(
  function*(platform: NodeJS.Platform) {
    const isWindows = platform === "win32"
    const isLinux = platform === "linux"
    const membersOf = isLinux ? membersByMark : membersByGroup
    const fs = yield* FileSystem.FileSystem
    const { find, isAlive, own } = yield* NodeInstance.processes(platform)
    const self = yield* own
    const shells = yield* Effect.filter(
      ["/bin/bash", "/usr/bin/bash"],
      (file) => Effect.orElseSucceed(fs.exists(file), () => false)
    )
    const shell = shells[0] ?? "/bin/sh" // agents write for bash

    const launch = ({ command, cwd, grace, id }: GroupOptions, stdout: number | "pipe"): ChildProcess => {
      const env = { ...process.env, [marker]: id }
      if (isWindows) return spawn(`(${command}) 2>&1`, { cwd, env, shell: true, stdio: "pipe", windowsHide: true })
      const seconds = String(Math.max(1, Math.ceil(Duration.toSeconds(grace))))
      return spawn("/bin/sh", ["-c", leading, "command", shell, command, seconds], {
        cwd,
        env,
        detached: true,
        stdio: ["pipe", stdout, "pipe"]
      })
    }

    const start = Effect.fnUntraced(function*(options: GroupOptions) {
      const { child, output } = yield* spawnPrinting((stdout) => launch(options, stdout), platform)
      const pid = child.pid ?? 0 // it was spawned
      const exited = yield* Deferred.make<CommandExit>()
      const gone = yield* Deferred.make<void>()
      const said = { lines: [""] }
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        said.lines = (said.lines.join("\n") + text).slice(0, 100).split("\n")
        const [, code, end] = said.lines
        if (!isWindows && end !== undefined) Deferred.doneUnsafe(exited, Effect.succeed({ code: Number(code) }))
      })
      child.once("exit", (code, signal) => {
        Deferred.doneUnsafe(exited, Effect.succeed(code === null ? { signal: signal ?? "a signal" } : { code }))
        Deferred.doneUnsafe(gone, Effect.void)
      })
      // A pipe that breaks must not bring down the host.
      for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe?.on("error", () => undefined)
      const end = isWindows
        ? Effect.andThen(killTree(pid), Effect.timeoutOption(Deferred.await(gone), options.grace))
        : Effect.gen(function*() {
          const ofOurs = new Set([pid, Number(said.lines[0])])
          const members = membersOf(options.id, pid)
          yield* terminate(Effect.map(members, (all) => all.filter((one) => !ofOurs.has(one.pid))), options.grace)
          // The leader has not gone, so the number is still the group's.
          if (!Deferred.isDoneUnsafe(gone)) yield* signal(-pid, "SIGKILL")
          yield* kill(members)
          yield* Effect.timeoutOption(Deferred.await(gone), killWait)
        })
      // In a fiber of its own: nothing can be timed out in a finalizer. It ends once, whoever asks.
      let ending: Fiber.Fiber<unknown> | undefined
      const ended = Effect.gen(function*() {
        ending ??= yield* Effect.forkDetach(Effect.interruptible(end), { startImmediately: true })
        yield* Fiber.await(ending)
      })
      yield* Effect.addFinalizer(() => ended)
      const leader = yield* find(pid)
      const group: ProcessGroup = {
        leader: Option.getOrElse(leader, () => ({ ...self, pid, startedAt: "" })), // it has ended already
        output,
        exit: Deferred.await(exited),
        end: ended
      }
      return group
    }, Effect.uninterruptible)

    const endLeft = Effect.fnUntraced(function*(id: CommandId, leader: Owner | undefined) {
      // Where the mark cannot be read, the leader has to be the same process as before.
      const isLeader = leader !== undefined && (isLinux || (yield* isAlive(leader)) === "alive")
      if (isWindows) {
        if (isLeader) yield* killTree(leader.pid)
        return
      }
      const members = isLinux
        ? membersOf(id, undefined)
        : isLeader
        ? membersOf(id, leader.pid)
        : Effect.succeed([])
      yield* terminate(members, leftGrace)
      yield* kill(members)
    })

    return ProcessGroups.of({ start, endLeft })
  }
)

/** Any Unix can be driven as macOS is: without a look into the environment of processes. */
export const layerOn = (platform: NodeJS.Platform) => Layer.effect(ProcessGroups, make(platform))

export const layer = layerOn(process.platform)

/** How long killed processes may take to be gone. */
const killWait = "2 seconds"

/** They were asked to end by their watcher already, a while ago as a rule. */
const leftGrace = Duration.seconds(1)

interface Member {
  readonly pid: number
}

type Members = (id: CommandId, group: number | undefined) => Effect.Effect<ReadonlyArray<Member>>

/** The living processes of a group on Linux: those with its number, if that is certain, and all that carry its mark. */
const membersByMark: Members = (id, group) =>
  Effect.promise(async () => {
    const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name))
    const found = await Promise.all(pids.map(async (pid): Promise<ReadonlyArray<Member>> => {
      try {
        const stat = await readFile(`/proc/${pid}/stat`, "utf8")
        // The second field, the program's name, may hold spaces; what follows it begins with the state.
        const [state, , number] = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
        if (state === "Z" || state === "X") return []
        if (group !== undefined && Number(number) === group) return [{ pid: Number(pid) }]
        const environment = await readFile(`/proc/${pid}/environ`, "utf8")
        return environment.split("\0").includes(`${marker}=${id}`) ? [{ pid: Number(pid) }] : []
      } catch {
        return [] // it has gone meanwhile, or is another user's
      }
    }))
    return found.flat()
  })

/** The same on macOS, by the number alone: what has left the group is not found. */
const membersByGroup: Members = (_, group) =>
  Effect.map(
    run("ps", ["-A", "-o", "pid=,pgid=,stat="]),
    (listing) =>
      listing.split("\n").flatMap((line): ReadonlyArray<Member> => {
        const [pid, number, state = "Z"] = line.trim().split(/\s+/)
        return Number(number) === group && !state.startsWith("Z") ? [{ pid: Number(pid) }] : []
      })
  )

/** Asks them to end, and waits until none is left, or the grace is over. */
const terminate = Effect.fnUntraced(function*(
  members: Effect.Effect<ReadonlyArray<Member>>,
  grace: Duration.Duration
) {
  const first = yield* members
  if (first.length === 0) return
  for (const { pid } of first) yield* signal(pid, "SIGTERM")
  yield* members.pipe(
    Effect.repeat({ until: (left) => left.length === 0, schedule: Schedule.spaced("30 millis") }),
    Effect.timeoutOption(grace)
  )
})

/** Kills them, and what they have started meanwhile, until none is left. */
const kill = (members: Effect.Effect<ReadonlyArray<Member>>) =>
  members.pipe(
    Effect.tap(Effect.forEach(({ pid }) => signal(pid, "SIGKILL"), { discard: true })),
    Effect.repeat({ until: (left) => left.length === 0, schedule: Schedule.spaced("20 millis") }),
    Effect.timeoutOption(killWait)
  )

const signal = (pid: number, name: NodeJS.Signals) =>
  Effect.sync(() => {
    try {
      process.kill(pid, name)
    } catch {
      // it has gone meanwhile
    }
  })

/** Ends a process with all that it has started. */
const killTree = (pid: number) => run("taskkill", ["/T", "/F", "/PID", String(pid)])

/** What a program prints; nothing when it fails. */
const run = (file: string, args: ReadonlyArray<string>): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const child = execFile(file, [...args], { timeout: 10_000, windowsHide: true }, (_, output) =>
      resume(Effect.succeed(output)))
    return Effect.sync(() =>
      child.kill()
    )
  })
