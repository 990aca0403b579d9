/** What the agents of a mission have reported: each child is told of it at its start, and it outlives restarts. */
import { Context, Effect, Layer } from "effect"
import { Config } from "../Config.ts"
import {
  digestOf,
  type Finding,
  findingChars,
  type FindingKind,
  findingsOf,
  plainLine,
  remember
} from "../domain/Finding.ts"
import type { SessionId } from "../domain/Session.ts"
import type { Task, TaskId } from "../domain/Task.ts"
import { type Findings, TaskJournal } from "../tasks/TaskJournal.ts"
import { TaskStore } from "../tasks/TaskStore.ts"

export class SharedContext extends Context.Service<SharedContext, {
  /** Takes in what the answer of a task passes on, if it has completed. */
  readonly hear: (task: Task) => Effect.Effect<void>
  /** What is known in a mission, oldest first. */
  readonly known: (root: SessionId) => Effect.Effect<ReadonlyArray<Finding>>
  /**
   * What a task is told beside its prompt, in `sharedContextChars` times `share` characters; empty when there is nothing
   * to tell. One that goes on in the session of an earlier task hears only of what was reported since that began.
   */
  readonly digest: (
    task: Task,
    detail: { readonly share: number; readonly kinds: ReadonlyArray<FindingKind> }
  ) => Effect.Effect<string>
  /** Takes over what an earlier instance has recorded. */
  readonly adopt: (context: { readonly root: SessionId; readonly findings: Findings }) => Effect.Effect<void>
  /** The mission's root session is gone. */
  readonly forget: (root: SessionId) => Effect.Effect<void>
}>()("orchestrator/mission/SharedContext") {
  static readonly layer = Layer.effect(
    SharedContext,
    Effect.gen(function*() {
      const { sharedContextChars } = yield* Config
      const journal = yield* TaskJournal
      const store = yield* TaskStore
      const contexts = new Map<SessionId, Findings>()
      const heard = new Set<TaskId>()

      /** Recorded at leisure: as long as a task is at hand, what it reported can be read again from its result. */
      const take = Effect.fnUntraced(function*(root: SessionId, more: ReadonlyArray<Finding>) {
        if (more.length === 0) return
        const known = contexts.get(root) ?? {}
        const kept = remember(Object.values(known), more, bounds)
        // What stays keeps its number, so that the record says only what changes.
        const numbers = new Map(Object.entries(known).map(([number, finding]) => [finding, number]))
        let next = Math.max(0, ...Object.keys(known).map(Number))
        const findings = Object.fromEntries(kept.map((finding) => [numbers.get(finding) ?? String(++next), finding]))
        contexts.delete(root)
        contexts.set(root, findings)
        yield* journal.note("context", root, findings)
        for (const oldest of contexts.keys()) {
          if (contexts.size <= missionsKept) break
          yield* forget(oldest)
        }
      })

      const hear = Effect.fnUntraced(function*(task: Task) {
        if (task.state !== "completed" || heard.has(task.id)) return
        heard.add(task.id)
        for (const oldest of heard) {
          if (heard.size <= heardKept) break
          heard.delete(oldest)
        }
        yield* take(task.mission, findingsOf(task))
      })

      const known = Effect.fnUntraced(function*(root: SessionId) {
        // Those of an earlier instance have ended without a word to this one.
        yield* Effect.forEach((yield* store.all).filter((task) => task.mission === root), hear, { discard: true })
        return Object.values(contexts.get(root) ?? {}).toSorted((a, b) => a.at - b.at)
      })

      const forget = (root: SessionId) =>
        Effect.suspend(() => contexts.delete(root) ? journal.drop("context", root) : Effect.void)

      return SharedContext.of({
        hear,
        known,
        digest: Effect.fnUntraced(function*(task, { kinds, share }) {
          const budget = Math.floor(sharedContextChars * share)
          if (budget <= 0) return ""
          const own = (yield* store.all).filter((other) =>
            task.session !== undefined && other.session === task.session && other.id !== task.id
          )
          const since = Math.max(-Infinity, ...own.map((other) => other.startedAt ?? other.createdAt))
          const news = (yield* known(task.mission)).filter((finding) =>
            kinds.includes(finding.kind) && finding.at >= since && !own.some(({ id }) => id === finding.task)
          )
          return digestOf(news, budget)
        }),
        adopt: ({ findings, root }) =>
          // A journal may have come with the repository.
          take(root, Object.values(findings).map((known) => ({ ...known, text: plainLine(known.text, findingChars) }))),
        forget
      })
    })
  )
}

/** What is kept of one mission. */
const bounds = { count: 200, chars: 20_000 }

/** Missions whose context is kept at once; the one that reported least recently goes first. */
const missionsKept = 1_000

/** Tasks whose answers need not be read again. One that is forgotten and read again says nothing new. */
const heardKept = 10_000
