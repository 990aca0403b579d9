/** What agents ask for when they delegate: checked, then recorded as a task; or refused in a sentence. */
import { Cache, Clock, Context, Effect, Equal, Layer, Option, Schedule, Schema } from "effect"
import { Config } from "../Config.ts"
import { ceiling, evaluate, type HostAgent, narrow } from "../domain/Agent.ts"
import { formatModel, type ModelRef, Rule, type Session, type SessionId } from "../domain/Session.ts"
import { isSettled, queued, type Task, type TaskId } from "../domain/Task.ts"
import { type HostError, SessionClient, type SessionError, SessionNotFound } from "../host/SessionClient.ts"
import { Ids } from "../Ids.ts"
import { Missions } from "../mission/Missions.ts"
import type { JournalFailed } from "./TaskJournal.ts"
import { TaskStore, type TooManyTasks } from "./TaskStore.ts"

/** What an agent asks for when it delegates. */
export interface Order {
  /** The session that delegates. */
  readonly parent: SessionId
  /** The agent that delegates. */
  readonly by: string
  readonly agent: string
  readonly description: string
  readonly prompt: string
  readonly background: boolean
  /** A task, or the session of one, in whose session to go on. */
  readonly resume?: string | undefined
  /** The plan that it comes of, its place there, and the id that was given to the task there. */
  readonly plan?: { readonly id: string; readonly node: string; readonly task: TaskId }
}

export class UnknownAgent extends Schema.TaggedError<UnknownAgent>()("UnknownAgent", {
  agent: Schema.String,
  known: Schema.Array(Schema.String)
}) {
  override get message() {
    return `No agent "${this.agent}" to delegate to. Use one of: ${this.known.join(", ")}.`
  }
}

export class UnknownModel extends Schema.TaggedError<UnknownModel>()("UnknownModel", {
  agent: Schema.String,
  model: Schema.String,
  known: Schema.Array(Schema.String)
}) {
  override get message() {
    return `The agent ${this.agent} is set to the model "${this.model}", which is not available. Use another agent, or `
      + `ask the user to set one of: ${this.known.join(", ")}.`
  }
}

export class EmptyPrompt extends Schema.TaggedError<EmptyPrompt>()("EmptyPrompt", {}) {
  override get message() {
    return "The prompt is empty. Say what the agent should do, with all it needs to know: it sees nothing else."
  }
}

export class TooDeep extends Schema.TaggedError<TooDeep>()("TooDeep", { maxDepth: Schema.Int }) {
  override get message() {
    return `Tasks may be delegated ${this.maxDepth} levels deep, and this is the last. Do the work yourself.`
  }
}

export class ParentEnded extends Schema.TaggedError<ParentEnded>()("ParentEnded", {}) {
  override get message() {
    return "Your own task has ended. Delegate nothing more, and end your turn."
  }
}

export class CannotResume extends Schema.TaggedError<CannotResume>()("CannotResume", {
  resume: Schema.String,
  why: Schema.String
}) {
  override get message() {
    return `Cannot resume "${this.resume}": ${this.why}`
  }
}

export class OutOfBudget extends Schema.TaggedError<OutOfBudget>()("OutOfBudget", { used: Schema.String }) {
  override get message() {
    return `The mission's budget is used up (${this.used}), and nothing new starts. Sum up what is done and what is left, `
      + "and end your turn. The user can allow more with /resume and new limits."
  }
}

export type OrderRefused =
  | OutOfBudget
  | UnknownAgent
  | UnknownModel
  | EmptyPrompt
  | TooDeep
  | CannotResume
  | ParentEnded
  | TooManyTasks
  | JournalFailed
  | SessionError

/** Tools by which an agent delegates; hidden from tasks that may not go deeper. */
export const delegationTools = ["delegate_task", "call_agent"] as const

export class Orders extends Context.Service<Orders, {
  /** The task that the order asks for, not recorded yet. */
  readonly check: (order: Order) => Effect.Effect<Accepted, OrderRefused>
  /** A recorded task as it was accepted, by the rights and models of today. */
  readonly restore: (task: Task) => Effect.Effect<Accepted, OrderRefused>
  /** Records the task. Refuses what has become wrong since the check: its parent ended, its session was taken. */
  readonly record: (task: Task) => Effect.Effect<void, OrderRefused>
  /** The agents that an agent may delegate to, by name. */
  readonly agentsFor: (by: string) => Effect.Effect<ReadonlyArray<string>, HostError>
  /** The root session of the mission that a session belongs to. */
  readonly missionOf: (session: SessionId) => Effect.Effect<SessionId, SessionError>
  /** The session is gone: it may order nothing more, whatever call of it is still under way. */
  readonly forget: (session: SessionId) => Effect.Effect<void>
}>()("orchestrator/tasks/Orders") {
  static readonly layer = Layer.effect(
    Orders,
    Effect.gen(function*() {
      const client = yield* SessionClient
      const config = yield* Config
      const ids = yield* Ids
      const missions = yield* Missions
      const store = yield* TaskStore
      const agents = yield* remember(client.agents)
      const models = yield* remember(client.models)
      const deleted = new Set<SessionId>()
      /** Reads of parents are shared by the orders of one turn, which come all at once. */
      const parents = yield* Cache.make({
        capacity: 100,
        timeToLive: "1 second",
        lookup: (session: SessionId) => client.get(session)
      })

      const missionOf = (session: SessionId): Effect.Effect<SessionId, SessionError> =>
        Effect.gen(function*() {
          let current = session
          while (true) {
            const task = yield* store.bySession(current)
            if (task._tag === "Some") return task.value.mission
            const { parent } = yield* Cache.get(parents, current)
            if (parent === undefined) return current
            current = parent
          }
        })

      const findAgent = Effect.fnUntraced(
        function*(order: Order, by: HostAgent | undefined): Effect.fn.Return<HostAgent, HostError | UnknownAgent> {
          const usable = usableBy(yield* agents, by)
          const wanted = order.agent.trim().toLowerCase()
          const agent = usable.find((agent) => agent.name.toLowerCase() === wanted)
          return agent ?? (yield* new UnknownAgent({ agent: order.agent, known: usable.map((agent) => agent.name) }))
        }
      )

      const chooseModel = Effect.fnUntraced(function*(agent: HostAgent, parent: Session) {
        const model = agent.model ?? parent.model
        if (model === undefined) return undefined
        const available = yield* models
        const same = (a: ModelRef) => a.provider === model.provider && a.model === model.model
        if (available.some(same)) return model
        const near = available.filter((a) => a.provider === model.provider)
        const known = (near.length > 0 ? near : available).slice(0, 10).map(formatModel)
        return yield* new UnknownModel({ agent: agent.name, model: formatModel(model), known })
      })

      const refuseBusy = Effect.fnUntraced(function*(session: SessionId, resume: string) {
        if ((yield* store.all).some((task) => task.session === session && !isSettled(task))) {
          return yield* new CannotResume({ resume, why: "it is still working; wait for its end, or cancel it." })
        }
      })

      /** The session to go on in: that of an ended task which the caller delegated, to the same agent. */
      const findResumable = Effect.fnUntraced(function*(resume: string, order: Order, agent: HostAgent) {
        const mine = (yield* store.all).filter((task) => task.parent === order.parent && task.session !== undefined)
        const known = mine.filter((task) => isSettled(task)).map((task) => task.id)
        const refuse = (why: string) => new CannotResume({ resume, why })
        const task = mine.findLast((task) => task.id === resume || task.session === resume)
        if (task?.session === undefined) {
          return yield* refuse(
            known.length === 0
              ? "you have no ended task to resume; leave resume out."
              : `it is not one of your tasks. You can resume: ${known.join(", ")}.`
          )
        }
        const session = task.session
        yield* refuseBusy(session, resume)
        if (task.agent !== agent.name) {
          return yield* refuse(`it belongs to the agent ${task.agent}; resume it with that agent, or leave resume out.`)
        }
        return yield* client.get(session).pipe(
          Effect.catchTag(
            "SessionNotFound",
            () => Effect.fail(refuse("its session has been deleted; delegate a new task with all that is needed."))
          )
        )
      })

      /** Decides and records without a pause: whoever cancels the tasks of a parent that ended must not miss this one. */
      const record = Effect.fnUntraced(function*(task: Task): Effect.fn.Return<void, OrderRefused> {
        if (deleted.has(task.parent)) return yield* new SessionNotFound({ session: task.parent })
        const own = yield* store.bySession(task.parent)
        if (own._tag === "Some" && isSettled(own.value) && own.value.state !== "completed") {
          return yield* new ParentEnded({})
        }
        if (task.session !== undefined) yield* refuseBusy(task.session, task.id)
        yield* refuseOverBudget(task.mission)
        yield* missions.apply(task.mission, { type: "launched", count: 1 })
        yield* store.add(task).pipe(
          Effect.onError(() => missions.apply(task.mission, { type: "launched", count: -1 }))
        )
      })

      /** A mission that asks for more than it may use comes to its end. */
      const refuseOverBudget = Effect.fnUntraced(function*(root: SessionId) {
        const mission = yield* missions.get(root)
        if (mission === undefined) return
        const limits = missions.limits(mission)
        const isOver = mission.spent.tasks >= limits.tasks
        if (isOver && mission.state === "active") yield* missions.apply(root, { type: "windingUp", limit: "tasks" })
        if (!isOver && mission.windingUp === undefined && mission.state !== "out_of_budget") return
        const used = yield* missions.describe(mission, [mission.windingUp ?? "tasks"])
        return yield* new OutOfBudget({ used })
      })

      /** Rights of a child at a depth: no wider than those of the parent that `by` talks in. */
      const rightsOf = (agent: HostAgent, by: HostAgent | undefined, parent: Session, depth: number) => {
        const limits = ceiling(by, limitsOf(parent))
        const permission = [
          ...narrow(agent.permission, limits),
          ...(depth < config.maxDepth
            ? []
            : delegationTools.map((permission): Rule => ({ permission, pattern: "*", action: "deny" })))
        ]
        return { limits, permission }
      }

      const restore = Effect.fn("Orders.restore")(function*(task: Task): Effect.fn.Return<Accepted, OrderRefused> {
        const known = yield* agents
        const agent = known.find(({ name }) => name === task.agent)
        if (agent === undefined) {
          return yield* new UnknownAgent({ agent: task.agent, known: known.map(({ name }) => name) })
        }
        const parent = yield* Cache.get(parents, task.parent)
        const by = known.find(({ name }) => name === parent.agent)
        yield* chooseModel(agent, parent)
        return { task, ...rightsOf(agent, by, parent, task.depth) }
      })

      const check = Effect.fn("Orders.check")(function*(order: Order): Effect.fn.Return<Accepted, OrderRefused> {
        if (order.prompt.trim() === "") return yield* new EmptyPrompt({})
        const by = (yield* agents).find((known) => known.name === order.by)
        const agent = yield* findAgent(order, by)
        const parentTask = yield* store.bySession(order.parent)
        const depth = parentTask._tag === "Some" ? parentTask.value.depth + 1 : 1
        if (depth > config.maxDepth) return yield* new TooDeep({ maxDepth: config.maxDepth })
        const parent = yield* Cache.get(parents, order.parent)
        const model = yield* chooseModel(agent, parent)
        const { limits, permission } = rightsOf(agent, by, parent, depth)
        const resumed = order.resume === undefined || order.resume === ""
          ? undefined
          : yield* findResumable(order.resume, order, agent)
        if (resumed !== undefined && !Equal.equals(resumed.permission, permission)) {
          const why = "it was started under other rights; delegate a new task with all that is needed."
          return yield* new CannotResume({ resume: order.resume ?? "", why })
        }
        const now = yield* Clock.currentTimeMillis
        const task: Task = {
          ...queued({
            id: order.plan?.task ?? (yield* ids.task),
            mission: yield* missionOf(order.parent),
            parent: order.parent,
            agent: agent.name,
            description: order.description.trim() || firstLine(order.prompt),
            prompt: order.prompt,
            background: order.background,
            depth
          }, now),
          ...(order.plan === undefined ? {} : { plan: { id: order.plan.id, node: order.plan.node } }),
          ...(model === undefined ? {} : { model }),
          ...(resumed === undefined ? {} : { session: resumed.id, usedBefore: resumed.usage })
        }
        return { task, permission, limits }
      })

      const agentsFor = Effect.fn("Orders.agentsFor")(function*(by: string) {
        const all = yield* agents
        return usableBy(all, all.find(({ name }) => name === by)).map(({ name }) => name)
      })

      return Orders.of({
        check,
        agentsFor,
        restore,
        record,
        missionOf,
        forget: (session) =>
          Effect.sync(() => {
            for (const oldest of deleted) {
              if (deleted.size < deletedKept) break
              deleted.delete(oldest)
            }
            deleted.add(session)
          })
      })
    })
  )
}

export interface Accepted {
  readonly task: Task
  /** Rules for the child's session: with them it has no right that its parent lacks. */
  readonly permission: ReadonlyArray<Rule>
  /** What was taken from its parents, for the tasks that it delegates in turn; its own role is no limit for them. */
  readonly limits: ReadonlyArray<Rule>
}

/** The limits that a child's session carries; those of any other session are its rules. */
const limitsOf = ({ metadata, permission }: Session): ReadonlyArray<Rule> =>
  Option.match(decodeMetadata(metadata), {
    onNone: () => permission,
    onSome: ({ orchestrator }) => orchestrator.limits
  })

const decodeMetadata = Schema.decodeUnknownOption(
  Schema.Struct({ orchestrator: Schema.Struct({ limits: Schema.Array(Rule) }) })
)

const usableBy = (agents: ReadonlyArray<HostAgent>, by: HostAgent | undefined) =>
  agents.filter((agent) =>
    agent.mode !== "primary" && !agent.hidden
    && evaluate(by?.permission ?? [], "delegate_task", agent.name) !== "deny"
  )

/** Deleted sessions that are remembered. */
const deletedKept = 1_000

/** An answer that does not change while the host runs, kept for five minutes; a failure is not kept. */
const remember = <A, E>(ask: Effect.Effect<A, E>) =>
  Effect.map(
    // All orders of one turn share the answer, and would share a failure.
    Effect.cachedInvalidateWithTTL(
      Effect.retry(ask, { times: 3, schedule: Schedule.exponential("100 millis") }),
      "5 minutes"
    ),
    ([cached, invalidate]) => Effect.tapError(cached, () => invalidate)
  )

const firstLine = (text: string): string => (text.trim().split("\n")[0] ?? "").slice(0, 80)
