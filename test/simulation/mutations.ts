/** Builds with one promise broken each, as small changes of the source. The simulation has to notice every one. */

export interface Mutation {
  /** What the change breaks. */
  readonly promise: string
  /** Below `src/`. */
  readonly file: string
  /** Occurs once in the file. */
  readonly find: string
  readonly replace: string
  /** One of the problems that the simulation then prints. */
  readonly expects: RegExp
}

export const mutations: ReadonlyArray<Mutation> = [
  // ---- nothing is lost ------------------------------------------------------------------------------------------
  {
    promise: "A task is recorded before it is launched",
    file: "tasks/TaskStore.ts",
    find: `const recorded = yield* Effect.exit(journal.record("task", task.id, task))`,
    replace: `const recorded = yield* Effect.exit(journal.note("task", task.id, task))`,
    expects: /launched, and is not recorded/
  },
  {
    promise: "A transition is recorded before its effects happen",
    file: "tasks/TaskStore.ts",
    find: `yield* Effect.ignore(journal.record("task", id, after))`,
    replace: `yield* journal.note("task", id, after)`,
    expects: /is not recorded/
  },
  {
    promise: "A result is recorded before anyone is told",
    file: "tasks/TaskStore.ts",
    find: `yield* Effect.ignore(journal.record("task", id, after))`,
    replace:
      `yield* event.type === "ended" ? Effect.forkDetach(Effect.delay(Effect.suspend(() => journal.note("task", id, tasks.get(id) ?? after)), "1 second")) : Effect.ignore(journal.record("task", id, after))`,
    expects: /as was told, and that is not recorded/
  },
  {
    promise: "What could not be written is written later",
    file: "tasks/TaskJournal.ts",
    find: `for (const [key] of batch) dirty.add(key)`,
    replace: ``,
    expects: /is not recorded/
  },
  {
    promise: "A line that was half written does not spoil the next one",
    file: "tasks/TaskJournal.ts",
    find: `file.truncate(before).pipe(`,
    replace: `Effect.void.pipe(`,
    expects: /is not recorded/
  },
  {
    promise: "A torn line costs nothing but itself",
    file: "tasks/TaskJournal.ts",
    find: `damaged.push(raw)\n      continue`,
    replace:
      `return { tasks: [], missions: [], contexts: [], plans: [], commands: [], damaged: [raw], unknownVersion: false }`,
    expects: /is lost/
  },
  {
    promise: "A mission is recorded",
    file: "tasks/TaskJournal.ts",
    find: `key.startsWith("mission ") ? decodeMission(record) : Option.none()`,
    replace: `key.startsWith("no mission ") ? decodeMission(record) : Option.none()`,
    expects: /the mission is lost/
  },
  {
    promise: "A mission goes on after a restart",
    file: "tasks/Recovery.ts",
    find: `for (const { root } of roots) yield* missions.wake(root)`,
    replace: ``,
    expects: /did not end/
  },
  {
    promise: "A task has one session, also when its making was not recorded",
    file: "tasks/Recovery.ts",
    find: `const session = byTask.get(task.id)`,
    replace: `const session = byTask.get("")`,
    expects: /has 2 sessions/
  },
  {
    promise: "A task has one session, also when the host's answer was lost",
    file: "tasks/TaskLife.ts",
    find: `const made = children.find((child) => readMark(child)?.task === task.id)`,
    replace: `const made = children.find(() => false)`,
    expects: /has 2 sessions/
  },
  {
    promise: "A task that two journals know of is taken up once",
    file: "tasks/Recovery.ts",
    find: `const known = new Map(left.flatMap((one) => one.tasks).map((task) => [task.id, task]))`,
    replace: `const known = new Map(left.flatMap((one) => one.tasks).map((task, place) => [place, task]))`,
    expects: /./
  },

  // ---- told exactly once ------------------------------------------------------------------------------------------
  {
    promise: "What a parent was told by a dead instance is not told again",
    file: "tasks/Notices.ts",
    find: `messages.some((message) => tellsOf(message, task))`,
    replace: `messages.length < 0 && tellsOf`,
    expects: /was told 2 times/
  },
  {
    promise: "A notice that the parent has already is not sent again",
    file: "tasks/Notices.ts",
    find: `if (pending === undefined || !(yield* client.hasMessage(parent, pending))) {`,
    replace: `if (pending !== undefined) sent.delete(pending)\n        {`,
    expects: /was told 2 times/
  },
  {
    promise: "A notice counts as told when the parent has it",
    file: "tasks/Notices.ts",
    find: `yield* arrival(client, parent, id)`,
    replace: ``,
    expects: /was never told/
  },
  {
    promise: "A notice is sent before it counts as told",
    file: "tasks/Notices.ts",
    find: `if (pending === undefined || !(yield* client.hasMessage(parent, pending))) {`,
    replace: `if (pending !== undefined && !(yield* client.hasMessage(parent, pending))) {`,
    expects: /was never told/
  },
  {
    promise: "What ended before a crash is told after it",
    file: "tasks/Recovery.ts",
    find: `for (const parent of new Set(left.map(({ parent }) => parent))) yield* notices.consider(parent)`,
    replace: ``,
    expects: /is still|was never told|did not end/
  },
  {
    promise: "A task whose waiting call died with its instance is told by a notice",
    file: "tasks/Recovery.ts",
    find: `for (const { id } of left) yield* Effect.ignore(store.apply(id, { type: "detached" }))`,
    replace: ``,
    expects: /was never told|did not end/
  },

  {
    promise: "An answer counts as told when the host has it",
    file: "tasks/Notices.ts",
    find: `yield* FiberSet.run(deliveries, Effect.delay(delivered(task.parent), deliveryWait))`,
    replace: `yield* delivered(task.parent)`,
    expects: /was never told|recorded as told, and was not/
  },

  // ---- limits hold ------------------------------------------------------------------------------------------------
  {
    promise: "No more children work than may",
    file: "tasks/Concurrency.ts",
    find: `(used.get(name) ?? 0) < limit`,
    replace: `(used.get(name) ?? 0) <= limit`,
    expects: /worked at once/
  },
  {
    promise: "No more children of one agent work than may",
    file: "tasks/Concurrency.ts",
    find: `named(limits.agents, agent) ?? limits.agent]`,
    replace: `named(limits.agents, agent) ?? limits.total]`,
    expects: /s worked at once/
  },
  {
    promise: "A slot is given back",
    file: "tasks/Concurrency.ts",
    find: `if (before === "held") release(counted)`,
    replace: `if (before === "held" && next === "free") release(counted)`,
    expects: /slots are held|did not end/
  },
  {
    promise: "A slot is given back once",
    file: "tasks/Concurrency.ts",
    find: `if (before === "held") release(counted)`,
    replace: `if (before !== "closed") release(counted)`,
    expects: /slots are held|worked at once/
  },
  {
    promise: "Who gives up waiting in line gets no slot",
    file: "tasks/Concurrency.ts",
    find: `else line.splice(place, 1)`,
    replace: ``,
    expects: /slots are held|did not end/
  },
  {
    promise: "A parent whose call waited goes on when it has a slot again",
    file: "tasks/Concurrency.ts",
    find: `yield* restore(Effect.flatMap(retake, Fiber.await))\n`,
    replace: `yield* retake\n`,
    expects: /worked at once/
  },

  {
    promise: "A child that gave its slot up is told of its tasks when it has one again",
    // It is waited for in two ways, either of which is enough, as a rule.
    file: "tasks/Notices.ts",
    find: `yield* ready.get(parent) ?? Effect.void
            // The parent may have ended, or begun to wait, while it was waited for.
            yield* quietly(parent, Effect.flatMap(wait(parent), (due) => due === 0 ? sendAll(parent) : Effect.void))`,
    replace: `yield* sendAll(parent)`,
    expects: /worked at once/
  },

  // ---- done means done ------------------------------------------------------------------------------------------
  {
    promise: "Only a finished turn is a completion",
    file: "domain/Session.ts",
    find: `if (!newest.completed || newest.finish === undefined || newest.finish === "tool-calls") return`,
    replace: `if (newest.parts.length < 0) return`,
    expects: /another result/
  },
  {
    promise: "A child that waits for tasks of its own is not done",
    file: "tasks/TaskLife.ts",
    find: `if (!hasCommands && (yield* ownTasks).length === 0) return`,
    replace: `if (!hasCommands && (yield* ownTasks).length >= 0) return`,
    expects: /another result/
  },
  {
    promise: "An order is sent under the id that was recorded",
    file: "tasks/TaskLife.ts",
    find: `yield* say(task, session, promptId, withDigest(task.prompt, yield* smart.digest(task)))`,
    replace: `yield* say(task, session, yield* ids.message, task.prompt)`,
    expects: /was run 3 times|run again although/
  },
  {
    promise: "Work that was finished before a restart is not done again",
    file: "tasks/Recovery.ts",
    find: `if (turn.state !== "finished") {`,
    replace: `{`,
    expects: /run again although/
  },

  // ---- everything ends ------------------------------------------------------------------------------------------
  {
    promise: "A task has no more runs than it may, also after a restart",
    file: "tasks/Recovery.ts",
    find: `if (run < config.maxRuns || (yield* isOrphan(task))) return "resume"`,
    replace: `if (run > 0) return "resume"`,
    expects: /was run 3 times/
  },
  {
    promise: "A task that stalls has no more runs than it may",
    file: "tasks/TaskLife.ts",
    find: `if (run >= config.maxRuns) {`,
    replace: `if (run > config.maxRuns) {`,
    expects: /was run 3 times/
  },
  {
    promise: "The poll finds what a lost event would have told",
    file: "tasks/TaskPoller.ts",
    find: `yield* completion.poll(statuses)`,
    replace: ``,
    expects: /run again although/
  },
  {
    promise: "A turn that died in silence is noticed",
    file: "tasks/Completion.ts",
    find: `if (yield* isStill(session, turn.newest)) return { type: "stalled", started, newest: turn.newest }`,
    replace: ``,
    expects: /is timed_out, not/
  },
  {
    promise: "A child without a sign of life is stopped, and run again",
    file: "tasks/StallWatch.ts",
    find: `const wait = Math.max(since, steppedAt) + patience - now`,
    replace: `const wait = patience`,
    expects: /is timed_out, not/
  },
  {
    promise: "A mission whose idle event was lost goes on",
    file: "mission/MissionLoop.ts",
    find: `if (!statuses.has(root)) yield* look(root)`,
    replace: ``,
    expects: /did not end/
  },

  // ---- errors of turns --------------------------------------------------------------------------------------------
  {
    promise: "A task goes on after errors only so often",
    file: "recovery/ErrorTable.ts",
    find: `tries.spent >= means.budget.count ? [] : row.remedies`,
    replace: `row.remedies`,
    expects: /times to go on|is timed_out/
  },
  {
    promise: "What was tried about an error is remembered",
    file: "domain/Task.ts",
    find: `{ ...quiet(task), tries: event.tries, mending`,
    replace: `{ ...quiet(task), mending`,
    expects: /times to go on|is timed_out|did not end/
  },
  {
    promise: "What the host shows again after its summary is no other run",
    file: "domain/Session.ts",
    find: `message.role === "user" && message.repeated !== true`,
    replace: `message.role === "user"`,
    expects: /was run \d times|run again although/
  },
  {
    promise: "A retry is sent under the id that was recorded",
    file: "tasks/Retries.ts",
    find: `const { instruction: text, promptId: id } = current`,
    replace: `const [text, id] = [current.instruction, yield* ids.message]`,
    expects: /times to go on|run again although/
  },

  // ---- nothing is left behind -------------------------------------------------------------------------------------
  {
    promise: "A child is stopped before its slot is given back",
    file: "tasks/TaskLife.ts",
    find: `child.idle ? Effect.void : stop(task.id, session)`,
    replace: `child.idle || stop === undefined ? Effect.void : Effect.void`,
    expects: /still at work|worked at once|did not end/
  },
  {
    promise: "A child is aborted until it is quiet",
    file: "tasks/quieten.ts",
    find: `else if (seen !== "unknown") quiet++`,
    replace: `else if (seen !== "unknown") return`,
    expects: /still at work|worked at once|did not end/
  },
  {
    promise: "The tasks of a child that ended badly end with it",
    file: "tasks/TaskLife.ts",
    find: `yield* cancelAll((task) => task.parent === session, \`its parent \${id} ended\`)`,
    replace: ``,
    expects: /although its parent/
  },
  {
    promise: "Children of tasks that had ended before a crash are stopped after it",
    file: "tasks/Recovery.ts",
    find: `yield* stopEnded(tasks, busy)`,
    replace: ``,
    expects: /still at work|worked at once|did not end/
  },
  {
    promise: "When the user aborts, all tasks of the mission end",
    file: "mission/MissionLoop.ts",
    find: `yield* abortTasks(root)`,
    replace: ``,
    expects: /although the user/
  },
  {
    promise: "No more tasks are launched than the mission may have",
    file: "tasks/Orders.ts",
    find: `const isOver = mission.spent.tasks >= limits.tasks`,
    replace: `const isOver = mission.spent.tasks > limits.tasks`,
    expects: /the mission launched/
  },
  {
    promise: "A mission that has used up its budget is brought to its end",
    file: "mission/Budgets.ts",
    find: `yield* missions.apply(root, { type: "ended", state: "out_of_budget", why, answer })`,
    replace: ``,
    expects: /was not brought to its end/
  },
  {
    promise: "Children that are told to finish are not woken",
    file: "mission/Budgets.ts",
    find: `tell(task.session, finishInstruction(grace), true)`,
    replace: `tell(task.session, finishInstruction(grace), false)`,
    expects: /has another result|was run again/
  },
  {
    promise: "A lease goes with its instance",
    file: "tasks/Lease.ts",
    find: `yield* Effect.addFinalizer(() => beat === 0 ? Effect.void : release)`,
    replace: `yield* Effect.addFinalizer(() => beat === 0 ? release : Effect.void)`,
    expects: /leases are left/
  },
  // ---- plans ----------------------------------------------------------------------------------------------------
  {
    promise: "A plan goes on after a restart",
    file: "tasks/Recovery.ts",
    find: `yield* decomposer.goOn(left.flatMap((one) => one.plans))`,
    replace: `yield* decomposer.goOn([])`,
    expects: /did not end/
  },
  {
    promise: "A task of a plan waits for those it depends on",
    file: "mission/TaskDecomposer.ts",
    find: `if (missing.length > 0) return`,
    replace: `if (missing.length > 5) return`,
    expects: /was launched before/
  },
  {
    promise: "Tasks of a plan that name one file do not run at once",
    file: "mission/TaskDecomposer.ts",
    find: `chosen.every((other) => sharedPath(node, other) === undefined)`,
    replace: `true`,
    expects: /worked on .* at once/
  },
  {
    promise: "A plan that was told is forgotten",
    file: "mission/TaskDecomposer.ts",
    find: `yield* plans.forget(plan.id)`,
    replace: ``,
    expects: /is left, over/
  }
]
