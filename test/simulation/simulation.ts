/** Runs one simulated mission under the virtual clock, with all that goes wrong in it, and checks the promises at its end. */
import { Clock, Effect, Exit, Layer, Path, Random, References, Scheduler, Scope, Stream } from "effect"
import * as CrashGate from "../../adapters/test/CrashGate.ts"
import * as EmptySearch from "../../adapters/test/EmptySearch.ts"
import * as MemoryFileSystem from "../../adapters/test/MemoryFileSystem.ts"
import { SimulatedHost, type SimulatedProcess } from "../../adapters/test/SimulatedHost.ts"
import * as SimulatedInstance from "../../adapters/test/SimulatedInstance.ts"
import * as SimulatedProcessGroups from "../../adapters/test/SimulatedProcessGroups.ts"
import * as SimulatedWeb from "../../adapters/test/SimulatedWeb.ts"
import { commander } from "../../src/agents/team.ts"
import { readConfig } from "../../src/Config.ts"
import { ownPrompt, type SessionId } from "../../src/domain/Session.ts"
import { isOpen } from "../../src/domain/Task.ts"
import { Notifier } from "../../src/host/Notifier.ts"
import { SessionClient, type SessionError } from "../../src/host/SessionClient.ts"
import { Ids } from "../../src/Ids.ts"
import { MissionLoop } from "../../src/mission/MissionLoop.ts"
import { Missions } from "../../src/mission/Missions.ts"
import { UserCommands } from "../../src/mission/UserCommands.ts"
import { Orchestrator } from "../../src/Orchestrator.ts"
import { Concurrency } from "../../src/tasks/Concurrency.ts"
import { TaskStore } from "../../src/tasks/TaskStore.ts"
import { checkPromises, checkRecords, makeGauge } from "./promises.ts"
import { asker, type Crash, goal, makeScript, mostRetries, type Scenario, type UserAct } from "./Scenario.ts"
import * as VirtualTime from "./VirtualTime.ts"

export interface Outcome {
  readonly seed: number
  /** Promises that were broken, in words; none, when all is well. */
  readonly broken: ReadonlyArray<string>
  /** What happened, a line each, with the virtual time in ms. */
  readonly trace: ReadonlyArray<string>
  /** Crashes of instances and of the host that came to pass. */
  readonly crashes: number
}

/** Settings that let everything that takes hours take minutes. */
const settings = (scenario: Scenario) => ({
  concurrency: { total: scenario.limits.total, agent: scenario.limits.agent },
  stallAfter: "20 seconds",
  retryLimit: "60 seconds",
  startTimeout: "10 seconds",
  retries: { count: mostRetries, backoff: "2 seconds", longest: "10 seconds" },
  fallbackModels: scenario.fallback ? ["scripted/other"] : [],
  taskTimeLimit: "10 minutes",
  noticeMaxWait: "10 seconds",
  budget: { ...scenario.budget, grace: `${grace} millis` }
})

/** How long children have to finish when a budget is used up, and then the Commander to sum up; ms. */
const grace = 20_000

/** A mission that takes longer than this in virtual time does not end. In ms. */
const deadline = 60 * 60_000

/** What stopping children, faults and a host that is away may add to the two graces of a mission out of budget. In ms. */
const windingTime = 60_000

/** Virtual time passes in steps of this length, ms: a crash shows at the end of the step that it comes in. */
const step = 1_000

export const runMission = (scenario: Scenario): Effect.Effect<Outcome> => {
  const lines: Array<readonly [number, string]> = []
  const { clock, pass, scheduler } = VirtualTime.make()
  const now = () => clock.currentTimeMillisUnsafe()
  const note = (line: string) => void lines.push([now(), line])
  const gauge = makeGauge(scenario.limits, note)
  const notifier = Layer.succeed(Notifier, {
    show: (toast) => Effect.sync(() => note(`toast: ${toast.title}: ${toast.message}`))
  })
  const world = Layer.mergeAll(
    SimulatedHost.layer({ script: makeScript(scenario, note), faults: scenario.faults, agents: [asker], gauge }),
    notifier,
    Layer.provideMerge(MemoryFileSystem.layer, MemoryFileSystem.MemoryDisk.layer),
    SimulatedInstance.SimulatedProcesses.layer,
    SimulatedProcessGroups.SimulatedPrograms.layer,
    SimulatedWeb.layer(),
    Ids.layer,
    EmptySearch.layer,
    Path.layer
  )
  return Effect.gen(function*() {
    const host = yield* SimulatedHost
    const disk = yield* MemoryFileSystem.MemoryDisk
    const ids = yield* Ids
    const processes = yield* SimulatedInstance.SimulatedProcesses
    const config = readConfig(settings(scenario), "the simulation").values
    const broken: Array<string> = []
    let crashes = 0
    let settledFrom = 0
    const here = yield* Effect.scope

    /** Runs beside the passing of time. */
    const doing = Effect.fnUntraced(function*<A, E, R>(effect: Effect.Effect<A, E, R>) {
      const fiber = yield* Effect.forkChild(Effect.exit(effect), { startImmediately: true })
      for (let passed = 0; fiber.pollUnsafe() === undefined; passed += 10) {
        if (passed > 60_000) {
          broken.push("something took more than a minute")
          return
        }
        yield* pass(10)
      }
    })

    const arm = Effect.fnUntraced(function*(gate: CrashGate.CrashGate, { effect, kind, moment }: Crash) {
      if (kind === undefined) return yield* gate.arm((yield* gate.effects).length + effect, moment)
      let left = effect
      yield* gate.arm((name) => name.startsWith(kind) && --left === 0, moment)
    })

    /** What the user does soon after a child has been given a prompt. */
    const atPrompts = scenario.user.filter(({ afterPrompt }) => afterPrompt !== undefined)
    const watched = (client: SessionClient["Service"]) =>
      SessionClient.of({
        ...client,
        prompt: (prompt) =>
          Effect.tap(
            client.prompt(prompt),
            Effect.fnUntraced(function*() {
              const parent = (yield* host.sessions).find(({ id }) => id === prompt.session)?.parent
              const place = atPrompts.findIndex(({ at, does }) =>
                parent !== undefined && at <= now() && (does !== "abort the parent" || parent !== root)
              )
              const [user] = place < 0 ? [] : atPrompts.splice(place, 1)
              if (user === undefined) return
              const whom = (user.does === "abort the parent" ? parent : undefined) ?? prompt.session
              yield* Effect.forkIn(Effect.delay(act(user, whom), user.afterPrompt ?? 0), here)
            })
          )
      })

    /** A new instance that lives in a process of the host, and serves the mission below a root session. */
    const start = Effect.fnUntraced(function*(process: SimulatedProcess, root: SessionId, crash: Crash | undefined) {
      const owner = yield* processes.start()
      const gate = yield* CrashGate.make
      const scope = yield* Scope.make()
      const ports = CrashGate.layer(gate).pipe(
        Layer.provide(SimulatedInstance.layer(owner)),
        Layer.provide(Layer.succeed(SessionClient, watched(process.client)))
      )
      const context = yield* Layer.buildWithScope(Layer.provide(Orchestrator.layer(config), ports), scope)
      const { tools } = yield* Effect.provide(Orchestrator, context)
      yield* host.offer(
        Object.fromEntries(tools.map((tool) => [tool.name, (args, caller) => gate.guard(tool.call(args, caller))])),
        root
      )
      yield* gate.crashed.pipe(
        Effect.andThen(crash?.withHost === true ? process.crash : Effect.andThen(gauge.stop, host.withdraw(root))),
        Effect.forkScoped({ startImmediately: true })
      )
      if (crash?.since === "the instance has started") yield* arm(gate, crash)
      return { process, root, owner, gate, scope, context, crash }
    })
    type Instance = Effect.Success<ReturnType<typeof start>>

    const newRoot = (process: SimulatedProcess) =>
      Effect.map(process.direct.create({ title: "A mission" }), ({ id }) => id)
    const root = yield* newRoot(host.process)
    let instance = yield* start(host.process, root, scenario.crashes[0])
    const twin = scenario.twin
      ? yield* Effect.flatMap(
        host.another,
        (process) => Effect.flatMap(newRoot(process), (root) => start(process, root, undefined))
      )
      : undefined
    const instances = () => (twin === undefined ? [instance] : [instance, twin])
    /** The mission below `root` was recorded, and must be known from now on. */
    let isKept = false
    /** When the user aborted what the Commander of it was doing. */
    let abortedAt: number | undefined
    /** Since when missions are being brought to their end. */
    const windingUp = new Map<SessionId, number>()

    /** The user says something to the Commander; the instance may die of it. */
    const say = Effect.fnUntraced(function*({ context, gate, process, root }: Instance, text: string) {
      note(`the user says: ${text}`)
      yield* gate.guard(Effect.flatMap(MissionLoop, (missions) => missions.userSpoke(root, true, text))).pipe(
        Effect.provide(context)
      )
      if (root === instance.root) isKept = scenario.disk.length === 0
      yield* process.direct.prompt({ session: root, id: yield* ids.message, text, agent: commander })
    }, Effect.exit)

    /** The user types `/stop`, and something else later. */
    const stop = Effect.fnUntraced(function*({ context, gate, process, root }: Instance) {
      // While there is no instance, nobody hears of it.
      if (!(yield* gate.isCrashed) && (yield* missionOf(instance))?.state === "active") abortedAt = now()
      events.push([now() + 7_000, Effect.suspend(() => say(instance, "Go on."))])
      const { text } = yield* gate.guard(Effect.flatMap(UserCommands, ({ run }) => run("stop", "", root))).pipe(
        Effect.provide(context)
      )
      const metadata = ownPrompt("command")
      yield* process.direct.prompt({ session: root, id: yield* ids.message, text, agent: commander, metadata })
    }, Effect.exit)

    /** What the instance dies of ends it at once: nothing of it reaches the world any more. */
    const bury = Effect.fnUntraced(function*(dead: Instance) {
      crashes++
      windingUp.clear()
      abortedAt = undefined // the user may say "Go on." before the next instance has seen it
      note(`the instance died ${yield* dead.gate.diedAt}${dead.crash?.withHost === true ? ", the host with it" : ""}`)
      yield* doing(Scope.close(dead.scope, Exit.void))
      yield* processes.end(dead.owner)
      yield* pass(dead.crash?.down ?? 0)
      yield* host.restart
      if (scenario.disk.length === 0) broken.push(...(yield* checkRecords({ disk, host, scenario })))
      note("another instance starts")
      instance = yield* start(host.process, root, scenario.crashes[crashes])
    })

    const isDeleted = (root: SessionId) => Effect.map(host.sessions, (all) => !all.some(({ id }) => id === root))
    const missionOf = ({ context, root }: Instance) =>
      Effect.flatMap(Missions, ({ get }) => get(root)).pipe(
        Effect.provide(context)
      )
    const tasksOf = ({ context }: Instance) => Effect.provide(Effect.flatMap(TaskStore, ({ all }) => all), context)
    const busyIn = ({ process }: Instance) =>
      process.direct.statuses.pipe(
        Effect.map((statuses) => [...statuses.keys()]),
        Effect.orElseSucceed(() => [root]) // it is down
      )
    const isOver = Effect.fnUntraced(function*(instance: Instance) {
      const mission = yield* missionOf(instance)
      const hasEnded = (mission !== undefined && mission.state !== "active") || (yield* isDeleted(instance.root))
      return hasEnded && !(yield* tasksOf(instance)).some(isOpen) && (yield* busyIn(instance)).length === 0
    })

    // ---- what goes wrong, and what the user does --------------------------------------------------------------

    const events: Array<readonly [number, Effect.Effect<unknown>]> = []
    for (const { at, down } of scenario.hostCrashes) {
      events.push([at, Effect.sync(() => note("the host dies")).pipe(Effect.andThen(host.crash))])
      events.push([at + down, Effect.sync(() => note("the host is back")).pipe(Effect.andThen(host.restart))])
    }
    for (const { at, lasts, room, what } of scenario.disk) {
      events.push([
        at,
        Effect.andThen(
          Effect.sync(() => note(`the disk is ${what}`)),
          what === "full" ? disk.full(true, room) : disk.readOnly(true)
        )
      ])
      events.push([
        at + lasts,
        Effect.andThen(
          Effect.sync(() => note("the disk is well again")),
          what === "full" ? disk.full(false) : disk.readOnly(false)
        )
      ])
    }
    const act = Effect.fnUntraced(function*(
      user: UserAct,
      whom: SessionId | undefined,
      patience = 20
    ): Effect.fn.Return<void, SessionError> {
      const { does } = user
      const children = (yield* host.sessions).filter(({ parent }) => parent !== undefined)
      const child = whom ?? children[Math.floor(scenario.seed % Math.max(1, children.length))]?.id ?? root
      // There is something to abort when the Commander works: the user waits for that, for a while.
      const isAtWork = (yield* host.direct.statuses).has(root)
      if (does === "abort the root" && !isAtWork && patience > 0) {
        if (whom === undefined) events.push([now() + step, act(user, undefined, patience - 1)])
        else atPrompts.push(user)
        return
      }
      note(`the user decides to ${does}`)
      settledFrom = now()
      const { crash, gate } = instance
      if (crash?.since === "the user has acted") yield* arm(gate, crash)
      if (does === "abort the root") {
        if (isAtWork) abortedAt = now()
        yield* host.direct.abort(root)
        events.push([now() + 7_000, Effect.suspend(() => say(instance, "Go on."))])
      } else if (does === "stop the mission") yield* stop(instance)
      else if (does === "abort a child" || does === "abort the parent") yield* host.direct.abort(child)
      else yield* host.direct.delete(does === "delete the root" ? root : child)
    }, Effect.exit)
    for (const user of scenario.user) if (user.afterPrompt === undefined) events.push([user.at, act(user, undefined)])
    for (const { process: { direct } } of instances()) {
      yield* direct.events.pipe(
        Stream.runForEach((event) =>
          event.type === "permission"
            ? Effect.ignore(Effect.delay(direct.replyPermission(event.id, "once"), scenario.answersAfter)) // it may be gone by then
            : Effect.void
        ),
        Effect.forkScoped
      )
    }

    // ---- the mission ------------------------------------------------------------------------------------------

    for (const one of instances()) yield* doing(say(one, goal))
    while (true) {
      const due = events.filter(([at]) => at <= now())
      for (const event of due) {
        events.splice(events.indexOf(event), 1)
        yield* doing(event[1])
      }
      if (yield* instance.gate.isCrashed) {
        yield* bury(instance)
        settledFrom = now()
        continue
      }
      // A user who sees that nothing happens says it again.
      const isUnheard = (yield* missionOf(instance)) === undefined && !(yield* isDeleted(root))
      if (now() % 30_000 < step && isUnheard) {
        const isElsewhere = twin !== undefined && (yield* missionOf({ ...twin, root })) !== undefined
        if (isKept && !isElsewhere && now() - settledFrom > 5_000) broken.push("the mission is lost")
        yield* doing(say(instance, goal))
      }
      if (due.length > 0) settledFrom = now()
      for (const one of instances()) {
        const mission = yield* missionOf(one)
        if (mission?.windingUp === undefined) windingUp.delete(one.root)
        else if (!windingUp.has(one.root)) windingUp.set(one.root, now())
        // While the host is away, or a fault is under way, nothing can end.
        else if (now() - (windingUp.get(one.root) ?? 0) > 2 * grace + windingTime) {
          broken.push("a mission out of budget was not brought to its end")
          windingUp.set(one.root, Infinity)
        }
      }
      // What a disk that could not be written has put off is looked at every ten seconds.
      const isSettled = events.length === 0 && now() - settledFrom > 15_000
      if (isSettled && (yield* Effect.forEach(instances(), isOver)).every((over) => over)) break
      if (now() > deadline) {
        broken.push("it did not end")
        break
      }
      yield* pass(step)
    }
    yield* instance.gate.disarm
    yield* pass(20_000) // children that ended badly are watched until they are known to be quiet
    broken.push(...(yield* checkRecords({ disk, host, scenario })))
    broken.push(
      ...(yield* checkPromises({
        scenario,
        roots: instances().map(({ root }) => root),
        known: (yield* Effect.forEach(instances(), tasksOf)).flat(),
        missions: (yield* Effect.forEach(instances(), missionOf)).filter((mission) => mission !== undefined),
        busy: (yield* Effect.forEach(instances(), busyIn)).flat(),
        host,
        disk,
        overLimit: gauge.overLimit(),
        abortedAt
      }))
    )
    for (const { context, gate, scope } of instances()) {
      const held = yield* Effect.provide(Effect.flatMap(Concurrency, ({ held }) => held), context)
      if (held !== 0) broken.push(`${held} slots are held after the end`)
      yield* doing(Scope.close(scope, Exit.void))
      // A fiber that is left over would come to do something.
      const effects = (yield* gate.effects).length
      yield* pass(60_000)
      if ((yield* gate.effects).length > effects) broken.push("something goes on after the instance has closed")
    }
    const leases = (yield* disk.list("/project")).filter((path) => path.endsWith(".lease"))
    // A claimed instance that died on a disk that could not be written may leave its own.
    if (leases.length > (scenario.disk.length > 0 ? 2 : 0)) broken.push(`leases are left: ${leases.join(", ")}`)
    return {
      seed: scenario.seed,
      broken,
      crashes,
      trace: lines.map(([at, line]) => `${String(at).padStart(8)} ${line}`)
    } satisfies Outcome
  }).pipe(
    Effect.orDie, // the user's own host, which the faults spare
    Effect.scoped,
    Effect.provide(world, { local: true }),
    Random.withSeed(`mission ${scenario.seed}`),
    Effect.provideService(Clock.Clock, clock),
    Effect.provideService(Scheduler.Scheduler, scheduler),
    Effect.provideService(References.MinimumLogLevel, "None")
  )
}
