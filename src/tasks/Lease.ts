/**
 * The right to a journal. Each instance has a journal and a lease of its own in `.opencode/orchestrator/`; what a dead
 * instance left is claimed by renaming its journal, which the file system lets only one succeed in.
 */
import {
  Clock,
  Context,
  Effect,
  FileSystem,
  Layer,
  Option,
  Path,
  type PlatformError,
  Random,
  Schedule,
  Schema
} from "effect"
import { randomText } from "../domain/Session.ts"
import { Instance, Owner } from "../host/Instance.ts"
import { ownFolder, ownNames, replaceFile, writeOnce } from "../OwnFiles.ts"

const LeaseFile = Schema.fromJsonString(Schema.Struct({ owner: Owner, beat: Schema.Int }))

/** How often a holder shows that it lives. It matters only to machines that cannot see each other's processes. */
const heartbeat = "10 seconds"

/** An instance of another machine whose lease has not changed for this long, watched by our own clock, is dead. In ms. */
const expiry = 60_000

/** How long a claimed instance may learn that it was, if it should live after all. In ms. */
const takenKept = 24 * 60 * 60_000

export class Lease extends Context.Service<Lease, {
  /** This instance's name, in files and in the metadata of the sessions it makes. */
  readonly instance: string
  /** The folder of all journals. */
  readonly folder: string
  /** The path of this instance's own journal. */
  readonly journal: string
  /** Shows to others that the journal has an owner. Taken before the journal is begun; given back with the scope. */
  readonly take: Effect.Effect<void, PlatformError.PlatformError>
  /**
   * Makes the journals of dead instances this one's own. Each is given to one instance only. Those of another machine
   * only when `foreign`: they may have come with the repository, and what they order must not start by itself.
   * `undecided` when an instance of another machine may be dead, and only time can tell: ask again.
   */
  readonly claim: (
    foreign: boolean
  ) => Effect.Effect<{ readonly claimed: ReadonlyArray<Journal>; readonly undecided: boolean }>
  /** Whether another instance has claimed this one's journal; it may also have been deleted. */
  readonly isTaken: Effect.Effect<boolean>
  /** The journals that `claim` might give, without claiming them. */
  readonly abandoned: Effect.Effect<ReadonlyArray<Journal>>
  /** The journals of instances that are dead for certain, as far as can be seen from here at once, without claiming them. */
  readonly dead: Effect.Effect<ReadonlyArray<Journal>>
  /** The journals of all other instances, to read only. */
  readonly others: Effect.Effect<ReadonlyArray<Journal>>
}>()("orchestrator/tasks/Lease") {
  static readonly layer = Layer.effect(
    Lease,
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const path = yield* Path.Path
      const { isAlive, owner, root } = yield* Instance
      const random = yield* Random.Random
      const instance = `${owner.machine}-${randomText(10, () => random.nextDoubleUnsafe())}`
      const folder = path.join(root, ".opencode", "orchestrator")
      const journal = path.join(folder, `${instance}.jsonl`)
      const takenOf = (name: string) => path.join(folder, `${name}.taken`)
      const leaseOf = (name: string) => path.join(folder, `${name}.lease`)
      /** Others whose process cannot be seen from here: their newest beat, and since when it is that. */
      const watched = new Map<string, { readonly beat: number; readonly since: number }>()
      let beat = 0

      const write = Effect.gen(function*() {
        const text = yield* Effect.orDie(Schema.encodeEffect(LeaseFile)({ owner, beat: beat++ })) // it always fits
        yield* replaceFile(fs, leaseOf(instance), text)
      })

      const release = Effect.forEach(
        [leaseOf(instance), `${leaseOf(instance)}.new`],
        (file) => Effect.ignore(fs.remove(file, { force: true })), // whoever starts next finds its owner dead
        { discard: true }
      )

      const take = Effect.gen(function*() {
        yield* ownFolder({ fs, path }, root, "orchestrator")
        yield* writeOnce(fs, path.join(folder, ".gitignore"), "*\n")
        yield* write
      })

      const isDead = Effect.fnUntraced(function*(name: string) {
        const text = yield* Effect.option(fs.readFileString(leaseOf(name)))
        // Without a lease it has ended in order, or given up before it had recorded anything.
        if (Option.isNone(text)) return true
        const lease = Schema.decodeOption(LeaseFile)(text.value)
        const alive = Option.isNone(lease) ? "unknown" : yield* isAlive(lease.value.owner)
        if (alive !== "unknown") return alive === "dead"
        // No wall clock here: it may jump, and other machines have others.
        const now = Number((yield* Clock.monotonicTimeNanos) / 1_000_000n)
        const beat = Option.isNone(lease) ? -1 : lease.value.beat
        const seen = watched.get(name)
        if (seen?.beat !== beat) {
          watched.set(name, { beat, since: now })
          return undefined
        }
        return now - seen.since >= expiry ? true : undefined
      })

      const list = Effect.gen(function*() {
        const names = yield* ownNames({ fs, path }, root, folder)
        return names.flatMap((name): ReadonlyArray<Journal> => {
          const match = journalName.exec(name)
          const holder = match?.groups?.["owner"]
          if (holder === undefined || holder === instance) return []
          const origin = match?.groups?.["origin"] ?? holder
          const foreign = !origin.startsWith(`${owner.machine}-`) || !holder.startsWith(`${owner.machine}-`)
          return [{ path: path.join(folder, name), owner: holder, instance: origin, foreign }]
        })
      })

      /** A lease of a dead instance without a journal says nothing, nor does it matter any more that one was claimed. */
      const sweep = Effect.gen(function*() {
        const owners = new Set((yield* list).map(({ owner }) => owner))
        const now = yield* Clock.currentTimeMillis
        for (const name of yield* ownNames({ fs, path }, root, folder)) {
          if (name.endsWith(".taken")) {
            const { mtime } = yield* fs.stat(path.join(folder, name))
            if (Option.exists(mtime, (time) => now - time.getTime() > takenKept)) {
              yield* fs.remove(path.join(folder, name))
            }
          }
          const holder = /^([a-z0-9]+-[a-z0-9]+)\.lease$/.exec(name)?.[1]
          if (holder === undefined || holder === instance || owners.has(holder)) continue
          if (yield* isDead(holder)) yield* fs.remove(path.join(folder, name), { force: true })
        }
      }).pipe(Effect.ignore) // it does no harm, and the next claim sweeps again

      const claim = Effect.fnUntraced(function*(foreign: boolean) {
        let undecided = false
        const claimed: Array<Journal> = []
        for (const found of yield* list) {
          if (found.foreign && !foreign) continue
          const dead = yield* isDead(found.owner)
          if (dead === undefined) undecided = true
          if (dead !== true) continue
          const mine = path.join(folder, `${instance}.claims.${found.instance}.jsonl`)
          // Its owner is looked up by the name of the file: this instance must have a lease before the name says so.
          const won = yield* (beat === 0 ? take : Effect.void).pipe(
            // Should it live after all, this tells it why its journal is gone.
            Effect.andThen(writeOnce(fs, takenOf(found.owner), "")),
            Effect.andThen(fs.rename(found.path, mine)),
            Effect.as(true),
            Effect.orElseSucceed(() => false)
          )
          if (!won) {
            // Another instance was faster, or the disk cannot be written now.
            if (yield* Effect.orElseSucceed(fs.exists(found.path), () => true)) undecided = true
            continue
          }
          watched.delete(found.owner)
          yield* Effect.ignore(fs.remove(leaseOf(found.owner), { force: true })) // a lease without a journal says nothing
          yield* Effect.ignore(fs.remove(`${found.path}.new`, { force: true })) // of a compaction that was cut off
          claimed.push({ ...found, owner: instance, path: mine })
        }
        yield* sweep
        return { claimed, undecided }
      })

      yield* Effect.addFinalizer(() => beat === 0 ? Effect.void : release)
      yield* Effect.suspend(() => beat === 0 ? Effect.void : write).pipe(
        Effect.catch((error) => Effect.logDebug("a heartbeat could not be written", error)), // the next one may
        Effect.repeat(Schedule.spaced(heartbeat)),
        Effect.forkScoped
      )

      const abandoned = Effect.flatMap(
        list,
        Effect.filter(({ owner }) => Effect.map(isDead(owner), (dead) => dead !== false))
      )

      const dead = Effect.flatMap(
        list,
        Effect.filter(({ owner }) => Effect.map(isDead(owner), (isCertain) => isCertain === true))
      )

      return Lease.of({
        instance,
        folder,
        journal,
        take,
        claim,
        abandoned,
        dead,
        others: list,
        isTaken: Effect.orElseSucceed(fs.exists(takenOf(instance)), () => false)
      })
    })
  )
}

/** A journal of another instance. */
export interface Journal {
  readonly path: string
  /** The instance that may write it, or has claimed it. */
  readonly owner: string
  /** The instance that began it. */
  readonly instance: string
  /** It was begun, or claimed, on another machine. */
  readonly foreign: boolean
}

const journalName = /^(?<owner>[a-z0-9]+-[a-z0-9]+)(?:\.claims\.(?<origin>[a-z0-9]+-[a-z0-9]+))?\.jsonl$/
