/** What happens in one simulated mission, drawn from its seed: the work, how the model behaves, and everything that goes wrong. */
import { Effect, Random } from "effect"
import type { Moment } from "../../adapters/test/CrashGate.ts"
import type { Faults } from "../../adapters/test/Faults.ts"
import type { ModelReply, ModelRequest } from "../../adapters/test/Script.ts"
import type { SilentDeath, SimulatedScript } from "../../adapters/test/SimulatedTurns.ts"
import type { HostAgent } from "../../src/domain/Agent.ts"
import type { Limits } from "../../src/domain/Budget.ts"
import type { SessionId } from "../../src/domain/Session.ts"
import type { EndState } from "../../src/domain/Task.ts"

/** How the model behaves that works on a job. */
const natures = [
  "plain",
  "plain",
  "plain",
  "tool",
  "asks",
  "empty",
  "refused",
  "limited",
  "overloaded",
  "overloaded always",
  "overflows",
  "overflows always",
  "repeats itself",
  "dies once",
  "dies always",
  "hangs once",
  "hangs always"
] as const
type Nature = (typeof natures)[number]

/** How it behaves once it has delegated its work. */
const parentNatures: ReadonlyArray<Nature> = [
  "plain",
  "plain",
  "plain",
  "plain",
  "plain",
  "refused",
  "limited",
  "overloaded always",
  "dies once",
  "dies always",
  "hangs once",
  "hangs always"
]

export interface Job {
  readonly name: string
  readonly agent: string
  readonly background: boolean
  readonly nature: Nature
  /** Before each answer of the model, ms. */
  readonly delay: number
  /** Delegated in turn by whoever has this job. */
  readonly below: ReadonlyArray<Job>
}

/** The end of an instance at one of its effects, with its host or without. */
export interface Crash {
  /** How many effects after that. */
  readonly effect: number
  readonly since: "the instance has started" | "the user has acted"
  /** Only those whose name begins with this count. */
  readonly kind?: string
  readonly moment: Moment
  readonly withHost: boolean
  /** Until the next instance starts, ms. */
  readonly down: number
}

export interface UserAct {
  /** Ms after the start. */
  readonly at: number
  /** Not just then, but so many ms after the next prompt to a child: when its turn is about to begin, or has begun. */
  readonly afterPrompt: number | undefined
  readonly does:
    | "abort the root"
    | "abort a child"
    /** The one that has delegated what is prompted, if that is not the Commander. */
    | "abort the parent"
    | "delete a child"
    | "delete the root"
    | "stop the mission"
}

export interface Scenario {
  readonly seed: number
  readonly jobs: ReadonlyArray<Job>
  /** The Commander runs the jobs as a plan: for each of them the earlier ones that it depends on, and its file. */
  readonly plan:
    | ReadonlyArray<{ readonly depends: ReadonlyArray<number>; readonly file: string | undefined }>
    | undefined
  readonly limits: { readonly total: number; readonly agent: number }
  readonly faults: Faults
  readonly crashes: ReadonlyArray<Crash>
  /** The host dies and comes back, and the instance lives on. Times in ms after the start. */
  readonly hostCrashes: ReadonlyArray<{ readonly at: number; readonly down: number }>
  readonly user: ReadonlyArray<UserAct>
  readonly disk: ReadonlyArray<{
    readonly at: number
    readonly lasts: number
    readonly what: "full" | "read-only"
    /** Bytes that still fit. */
    readonly room: number
  }>
  /** What the mission may use, as far as that is less than it could want. */
  readonly budget: Limits
  /** The provider fails the Commander at this call of the model, so often in a row. */
  readonly commanderFails: { readonly at: number; readonly times: number } | undefined
  /** Another OpenCode, with a mission of its own, lives in the same folder all the time. */
  readonly twin: boolean
  /** There is another model to go on with. */
  readonly fallback: boolean
  /** Until the user answers what an agent asks, ms. */
  readonly answersAfter: number
}

const begun = { since: "the instance has started", moment: "before" } as const

/** Everything that can go wrong, each by chance. `calm`: nothing does, but for what the models do. */
export const drawScenario = (seed: number, calm = false): Effect.Effect<Scenario> =>
  Effect.gen(function*() {
    const random = yield* Random.Random
    const next = () => random.nextDoubleUnsafe()
    const int = (from: number, to: number) => from + Math.floor(next() * (to - from + 1))
    const chance = (probability: number) => next() < probability
    const some = <A>(most: number, probability: number, draw: () => A): ReadonlyArray<A> =>
      Array.from({ length: most }, () => chance(probability) ? [draw()] : []).flat()
    const pick = <const A>(options: ReadonlyArray<A>): A => options[int(0, options.length - 1)] as A // never empty

    const job = (name: string, agents: ReadonlyArray<string>, depth: number): Job => {
      const delegates = depth < 2 && chance(0.3)
      const nature = pick(delegates ? parentNatures : natures)
      return {
        name,
        agent: delegates ? "Architect" : nature === "asks" ? asker.name : pick(agents),
        background: chance(0.6),
        nature,
        delay: int(0, 8_000),
        below: delegates
          ? Array.from({ length: int(1, 3) }, (_, index) => job(`${name}.${index + 1}`, ["Researcher", "Librarian"], 2))
          : []
      }
    }
    const jobs = Array.from(
      { length: int(1, 6) },
      (_, index) => job(String(index + 1), ["Builder", "Builder", "Inspector", "Researcher"], 1)
    )
    const limits = { total: int(2, 6), agent: int(1, 4) }
    const level = calm || chance(0.3) ? 0 : next() * 0.03
    const faults: Faults = level === 0 ? {} : {
      every: { refused: level / 2, unreachable: level, unheard: level / 2, slow: level },
      events: { lost: 2 * level, doubled: 2 * level, late: 2 * level, reordered: 2 * level },
      slowBy: "5 seconds",
      lateBy: "5 seconds"
    }
    const hostCrashes = calm ? [] : some(1, 0.15, () => ({ at: int(500, 30_000), down: int(100, 15_000) }))
    const user = calm ? [] : some(1, 0.4, (): UserAct => {
      if (chance(0.4)) {
        const does = pick(["abort the root", "abort a child", "delete a child", "delete the root", "stop the mission"])
        return { at: int(100, 30_000), afterPrompt: undefined, does }
      }
      const delegates = jobs.some(({ below }) => below.length > 0) && chance(0.6)
      return {
        at: int(0, 5_000),
        afterPrompt: int(0, 12),
        does: delegates
          ? "abort the parent"
          : pick(["abort the root", "abort a child", "delete a child", "stop the mission"])
      }
    })
    const crashes = calm ? [] : some(2, 0.45, (): Crash => {
      const isOfUser = user.length > 0 && chance(0.4)
      return {
        effect: int(1, isOfUser ? 15 : 60),
        since: isOfUser ? "the user has acted" : "the instance has started",
        moment: pick(["before", "after", "after", "torn"]),
        withHost: chance(0.6),
        down: int(10, 20_000)
      }
    })
    const disk = calm ? [] : some(1, 0.15, () => ({
      at: int(0, 20_000),
      lasts: int(100, 20_000),
      what: pick(["full", "read-only"] as const),
      room: int(0, 300)
    }))
    const answersAfter = int(0, 10_000)
    const twin = !calm && chance(0.15)
    const budget: Limits = calm || !chance(0.2) ? {} : pick<() => Limits>([
      () => ({ time: int(5, 120) * 1_000 }),
      () => ({ tokens: int(200, 3_000) }),
      () => ({ cost: int(200, 3_000) / 1_000_000 }),
      () => ({ tasks: int(1, 5) }),
      () => ({ turns: int(2, 30) })
    ])()
    const plan = chance(0.3)
      ? jobs.map((_, index) => ({
        depends: jobs.flatMap((_, earlier) => (earlier < index && chance(0.3) ? [earlier] : [])),
        file: chance(0.4) ? pick(["a.ts", "src/b.ts", "src"]) : undefined
      }))
      : undefined
    const fallback = chance(0.3)
    const commanderFails = chance(0.1) ? { at: int(1, 6), times: int(1, 12) } : undefined
    // Children whose end is recorded are left at work by an instance that dies as it is about to stop them; what a call
    // that waited has just told is lost with one that dies before it is recorded.
    const early = calm || crashes.length > 0 || !chance(0.6) ? [] : [
      pick<() => Crash>([
        () => ({ ...begun, effect: int(1, 3), kind: "abort ", withHost: chance(0.1), down: int(10, 5_000) }),
        () => ({ ...begun, effect: int(5, 60), kind: "write ", withHost: chance(0.5), down: int(10, 5_000) })
      ])()
    ]
    return {
      seed,
      budget,
      jobs,
      plan,
      limits,
      faults,
      crashes: [...crashes, ...early],
      hostCrashes,
      user,
      disk,
      answersAfter,
      twin,
      fallback,
      commanderFails
    }
  }).pipe(Random.withSeed(`scenario ${seed}`))

/** Nothing goes wrong in it but what the models do. */
export const isCalm = ({ budget, commanderFails, crashes, disk, faults, hostCrashes, user }: Scenario): boolean =>
  faults.every === undefined && commanderFails === undefined && Object.keys(budget).length === 0
  && [crashes, disk, hostCrashes, user].every(({ length }) => length === 0)

/** How a task ends whose model behaves so, and that delegates nothing. */
export const naturalEnd = ({ nature }: Job): EndState =>
  nature === "refused" || nature.endsWith(" always") ? "failed" : "completed"

export const allJobs = (jobs: ReadonlyArray<Job>): ReadonlyArray<Job> =>
  jobs.flatMap((job) => [job, ...allJobs(job.below)])

/** Has to ask for each command. */
export const asker: HostAgent = {
  name: "Asker",
  mode: "subagent",
  description: "Asks before each command.",
  model: undefined,
  hidden: false,
  permission: [{ permission: "*", pattern: "*", action: "deny" }, { permission: "bash", pattern: "*", action: "ask" }]
}

export const goal = "MISSION: have all jobs done."
const promptOf = (job: Job) => `WORK on ${job.name}.`
export const titleOf = (job: Job) => `job <${job.name}>`

/** Acts as sensible agents would: whatever a conversation shows as delegated is not delegated again. */
export const makeScript = (scenario: Scenario, trace: (line: string) => void): SimulatedScript => {
  const jobs = new Map(allJobs(scenario.jobs).map((job) => [promptOf(job), job]))
  const jobOf = new Map<SessionId, Job>()
  let commanderCalls = 0
  const tries = new Map<string, number>()
  const failed = new Map<string, number>()

  /** Delegates what is not delegated yet; undefined when all of it has been told of, or was refused too often. */
  const manage = (request: ModelRequest, session: SessionId, below: ReadonlyArray<Job>): ModelReply | undefined => {
    const told = [...request.users, ...request.allToolResults].join("\n")
    const isTold = (job: Job) => endOf(job).test(told)
    const open = below.filter((job) =>
      !told.includes(titleOf(job)) && (tries.get(`${session} ${job.name}`) ?? 0) < mostTries
    )
    if (open.length > 0) {
      for (const { name } of open) tries.set(`${session} ${name}`, (tries.get(`${session} ${name}`) ?? 0) + 1)
      return {
        toolCalls: open.map((job) => ({
          name: "delegate_task",
          args: { agent: job.agent, description: titleOf(job), prompt: promptOf(job), background: job.background }
        }))
      }
    }
    const waiting = below.filter((job) => told.includes(titleOf(job)) && !isTold(job))
    return waiting.length > 0 ? { text: "I wait for them." } : undefined
  }

  const work = Effect.fnUntraced(
    function*(job: Job, request: ModelRequest, session: SessionId): Effect.fn.Return<ModelReply | SilentDeath> {
      // The host asks again and again for what fails, and the orchestrator as well.
      yield* Effect.sleep(job.nature.startsWith("over") ? Math.min(job.delay, 500) : job.delay)
      const before = failed.get(job.name) ?? 0
      const failsTimes = (times: number, failure: ModelReply, otherwise: ModelReply) => {
        failed.set(job.name, before + 1)
        return before < times ? failure : otherwise
      }
      const isFirstRun = request.users.length === 1
      const managed = manage(request, session, job.below)
      if (managed !== undefined && "toolCalls" in managed) return managed
      const result = { text: `RESULT of ${job.name}, call ${request.index}` }
      switch (job.nature) {
        case "tool":
        case "asks":
          return request.calledTools.includes("bash") ? result : {
            toolCalls: [{ name: "bash", args: { command: "true" } }]
          }
        case "empty":
          return { text: "" }
        case "refused":
          return { status: 401, message: "invalid key" }
        case "limited":
          return failsTimes(2, { status: 429, message: "slow down", headers: { "retry-after": "3" } }, result)
        case "overloaded":
          return failsTimes(8, overloaded, result)
        case "overloaded always":
          return overloaded
        case "overflows":
          return failsTimes(3, overflow, result)
        case "overflows always":
          return overflow
        case "repeats itself":
          return failsTimes(1, { text: "I will look at the file now. ".repeat(60) }, result)
        case "dies once":
          return isFirstRun ? { silentDeath: true } : result
        case "dies always":
          return { silentDeath: true }
        case "hangs once":
          return isFirstRun ? yield* Effect.never : result
        case "hangs always":
          return yield* Effect.never
        case "plain":
          return managed ?? result
      }
    }
  )

  /** Runs all as a plan, unless one runs; undefined when all of it has been told of. */
  const managePlan = (
    request: ModelRequest,
    session: SessionId,
    plan: NonNullable<Scenario["plan"]>
  ): ModelReply | undefined => {
    const told = [...request.users, ...request.allToolResults].join("\n")
    const count = tries.get(session) ?? 0
    if (!/\bplan_\w+ (runs:|goes on)/.test(told) && count < mostTries) {
      tries.set(session, count + 1)
      const nodes = scenario.jobs.map((job, index) => ({
        id: `J${index + 1}`,
        text: titleOf(job),
        agent: job.agent,
        prompt: promptOf(job),
        depends: plan[index]?.depends.map((earlier) => `J${earlier + 1}`) ?? [],
        files: plan[index]?.file
      }))
      return { toolCalls: [{ name: "run_plan", args: { plan: JSON.stringify(nodes) } }] }
    }
    const notRun = told.split("\n").filter((line) => line.startsWith("Not run, because")).join("\n")
    const isOver = scenario.jobs.every((job) => endOf(job).test(told) || notRun.includes(titleOf(job)))
    return isOver || count >= mostTries ? undefined : { text: "I wait for the plan." }
  }

  const command = Effect.fnUntraced(function*(request: ModelRequest, session: SessionId): Effect.fn.Return<ModelReply> {
    yield* Effect.sleep("1 second")
    const fails = scenario.commanderFails
    const call = ++commanderCalls
    if (fails !== undefined && call >= fails.at && call < fails.at + fails.times) return overloaded
    if (request.users.at(-1)?.startsWith("Show the user this") === true) return { text: "That is how it is." }
    return (scenario.plan === undefined
      ? manage(request, session, scenario.jobs)
      : managePlan(request, session, scenario.plan))
      ?? { text: ["All jobs are done.\nMISSION COMPLETE", ...askedFor(request)].join("\n") }
  })

  return (request, session) => {
    // Of a conversation that was made shorter, the first prompt is gone.
    const job = jobOf.get(session) ?? jobs.get(request.users[0]?.split("\n")[0] ?? "")
    if (job !== undefined) jobOf.set(session, job)
    if (request.system.includes("summarization")) return Effect.succeed({ text: "A summary." })
    const who = job === undefined ? "Commander" : titleOf(job)
    trace(
      `model call ${request.index} of ${who}, after: ${
        (request.toolResults.at(-1) ?? request.users.at(-1) ?? "").slice(0, 120)
      }`
    )
    // Asked to finish, most do; what hangs does not hear it.
    const hears = request.users.at(-1)?.startsWith("The mission's budget is used up") === true
      && job?.nature.startsWith("hangs") !== true
    const reply = hears
      ? Effect.delay(Effect.succeed({ text: `This is all, by call ${request.index}.` }), "1 second")
      : job === undefined
      ? command(request, session)
      : work(job, request, session)
    return reply.pipe(
      Effect.onExit((exit) =>
        Effect.sync(() => {
          const reply = exit._tag === "Success" ? JSON.stringify(exit.value).slice(0, 160) : "cut off"
          trace(`model call ${request.index} of ${who}: ${reply}`)
        })
      )
    )
  }
}

/** What the Commander is asked to answer for. */
const askedFor = (request: ModelRequest): ReadonlyArray<string> =>
  request.users.at(-1)?.startsWith("CONTINUE") === true ? request.users.at(-1)?.match(/task_\w+/g) ?? [] : []
const overloaded: ModelReply = { status: 529, message: "Overloaded", headers: { "retry-after": "1" } }
const overflow: ModelReply = { status: 400, message: "prompt is too long: 250000 tokens > 200000 maximum" }

/** A headline that tells of a job's end. */
const endOf = (job: Job) =>
  new RegExp(`(completed|failed|was cancelled|ran out of time) after [^\\n]* ${titleOf(job).replace(/[.<>]/g, "\\$&")}`)

/** How often a task may go on after an error of its provider. */
export const mostRetries = 3

/** How often a delegation that is refused is tried again. */
const mostTries = 6
