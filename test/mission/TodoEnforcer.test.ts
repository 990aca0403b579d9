import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Layer, Logger, type PlatformError } from "effect"
import { TestClock } from "effect/testing"
import { MemoryDisk } from "../../adapters/test/MemoryFileSystem.ts"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { SimulatedProcesses } from "../../adapters/test/SimulatedInstance.ts"
import { Config, readConfig } from "../../src/Config.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { isSettled as isSettledTask } from "../../src/domain/Task.ts"
import { Instance } from "../../src/host/Instance.ts"
import { TodoEnforcer } from "../../src/mission/TodoEnforcer.ts"
import { Lease } from "../../src/tasks/Lease.ts"
import {
  type Actor,
  doing,
  fileText,
  hangs,
  type Life,
  pass,
  replies,
  say,
  start,
  tasks,
  until,
  withActors,
  withWorld,
  works
} from "../tasks/scripts.ts"

const file = "/project/.opencode/todo.md"
const archived = (number: number) => `/project/.opencode/archive/todo-2026-03-01-${number}.md`
const put = (text: string) => Effect.flatMap(MemoryDisk, (disk) => disk.put(file, text))
const exists = Effect.flatMap(MemoryDisk, (disk) => Effect.map(disk.read(file), (text) => text !== undefined))
const open = (root: SessionId) =>
  Effect.flatMap(
    TodoEnforcer,
    (todos) => doing(Effect.map(todos.open(root), (items) => items.map(({ text }) => text)))
  )
const progress = (root: SessionId) => Effect.flatMap(TodoEnforcer, (todos) => doing(todos.progress(root)))
/** A mission starts, while these are active. */
const starts = (root: SessionId, ...active: ReadonlyArray<SessionId>) =>
  Effect.flatMap(TodoEnforcer, (todos) => doing(todos.archive(root, (mission) => active.includes(mission))))

const first = SessionId.make("ses_first")
const second = SessionId.make("ses_second")
const list = "# Plan\n- [x] T1: look\n- [ ] T2: build\n- [ ] T3: check\n"
const day = TestClock.setTime(Date.parse("2026-03-01T10:00:00Z"))

/** Its model puts down a list with the host's own tool. */
const planner: Actor = replies(
  {
    toolCalls: [{
      name: "todowrite",
      args: {
        todos: [
          { content: "Build", status: "pending" },
          { content: "ship", status: "in_progress" },
          { content: "think", status: "completed" }
        ]
      }
    }]
  },
  { text: "planned" }
)

describe("what is left to do", () => {
  it.effect("is nothing without a list", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* open(first), [])
      assert.deepStrictEqual(yield* progress(first), { done: 0, total: 0 })
    }).pipe(withActors({})))

  it.effect("is what todo.md says", () =>
    Effect.gen(function*() {
      yield* put(list)
      assert.deepStrictEqual(yield* open(first), ["build", "check"])
      assert.deepStrictEqual(yield* progress(first), { done: 1, total: 3 })
    }).pipe(withActors({})))

  it.effect("is what the host's own list says too, each step once", () =>
    Effect.gen(function*() {
      const root = yield* say("plan", { agent: "build" })
      yield* until(Effect.map(open(root), (steps) => steps.length > 0))
      assert.deepStrictEqual(yield* open(root), ["Build", "ship"])
      yield* put(list)
      assert.deepStrictEqual(yield* open(root), ["build", "check", "ship"])
      assert.deepStrictEqual(yield* progress(root), { done: 2, total: 5 })
    }).pipe(withActors({ plan: planner })))

  for (
    const [what, spoil] of [
      ["larger than 200,000 bytes", put(`${list}${" ".repeat(200_000)}`)],
      ["a folder", Effect.flatMap(MemoryDisk, (disk) => disk.put(`${file}/x`, ""))]
    ] as const
  ) {
    it.effect(`is nothing when todo.md is ${what}, and the log says so once`, () => {
      const logged: Array<unknown> = []
      const logger = Logger.make(({ message }) => void logged.push(message))
      return Effect.gen(function*() {
        yield* spoil
        assert.deepStrictEqual(yield* open(first), [])
        assert.deepStrictEqual(yield* progress(first), { done: 0, total: 0 })
        assert.lengthOf(logged.filter((message) => String(message).includes("cannot be read and counts as no list")), 1)
      }).pipe(withActors({}), Effect.provide(Layer.mergeAll(Logger.layer([logger]))))
    })
  }
})

describe("a list on a real disk", () => {
  const withDisk = Effect.fnUntraced(
    function*(
      test: (project: string) => Effect.Effect<void, PlatformError.PlatformError, TodoEnforcer | FileSystem.FileSystem>
    ) {
      const fs = yield* FileSystem.FileSystem
      const project = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-todo-" })
      yield* fs.makeDirectory(`${project}/.opencode`)
      const processes = yield* SimulatedProcesses
      const instance = processes.instance(yield* processes.start(), project)
      const config = Config.layer(readConfig({ journal: "off" }, "test").values)
      yield* test(project).pipe(
        Effect.provide(TodoEnforcer.layer.pipe(
          Layer.provideMerge(Lease.layer),
          Layer.provideMerge(Layer.mergeAll(Layer.succeed(Instance, instance), config))
        ))
      )
    },
    Effect.provide(Layer.mergeAll(NodeServices.layer, SimulatedProcesses.layer, SimulatedHost.layer({ script: hangs })))
  )

  it.effect("is read", () =>
    withDisk((project) =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        yield* fs.writeFileString(`${project}/.opencode/todo.md`, list)
        assert.deepStrictEqual(yield* open(first), ["build", "check"])
      })
    ))

  it.effect("counts as none when it is a link out of the project", () =>
    withDisk((project) =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const elsewhere = yield* fs.makeTempFileScoped({ prefix: "orchestrator-todo-" })
        yield* fs.writeFileString(elsewhere, list)
        yield* fs.symlink(elsewhere, `${project}/.opencode/todo.md`)
        assert.deepStrictEqual(yield* open(first), [])
        yield* fs.remove(`${project}/.opencode/todo.md`)
        yield* fs.writeFileString(`${project}/list.md`, list)
        yield* fs.symlink(`${project}/list.md`, `${project}/.opencode/todo.md`)
        assert.lengthOf(yield* open(first), 2)
      }).pipe(Effect.scoped)
    ))
})

/** An instance that records, on the day that the archive's names say. */
const recorded = <E, R>(test: (life: Life) => Effect.Effect<void, E, R>) =>
  Effect.andThen(day, Effect.flatMap(start(), test)).pipe(withWorld({ goal: hangs }))

describe("when a mission starts", () => {
  it.effect("a list that an earlier one has left is archived byte by byte, whatever is there already", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        const disk = yield* MemoryDisk
        yield* disk.put(archived(1), "somebody's")
        assert.isUndefined(yield* starts(first))
        yield* put(list)
        assert.lengthOf(yield* open(first), 2)
        assert.strictEqual(yield* starts(second), archived(2))
        assert.isFalse(yield* exists)
        assert.strictEqual(yield* fileText(archived(1)), "somebody's")
        assert.strictEqual(yield* fileText(archived(2)), list)
        yield* put(list)
        assert.lengthOf(yield* open(second), 2)
        assert.strictEqual(yield* starts(first), archived(3))
      }))
    ))

  it.effect("a list that a person wrote before it stays, and is the mission's", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* put(list)
        assert.isUndefined(yield* starts(first))
        assert.lengthOf(yield* open(first), 2)
        assert.isTrue(yield* exists)
      }))
    ))

  it.effect("a list that was changed after the earlier mission stays: it was written for this one", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* starts(first)
        yield* put(list)
        yield* open(first)
        yield* put(`${list}- [ ] T4: more\n`)
        assert.isUndefined(yield* starts(second))
        assert.deepStrictEqual(yield* open(second), ["build", "check", "more"])
      }))
    ))

  it.effect("a list on which all is done is archived, whoever wrote it", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* put("- [x] T1: look\n- [-] T2: build (dropped: not needed)\n")
        assert.strictEqual(yield* starts(first), archived(1))
      }))
    ))

  it.effect("a file without any step stays", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* put("# Ideas\nNothing yet.\n")
        assert.isUndefined(yield* starts(first))
        assert.isUndefined(yield* starts(second))
        assert.isTrue(yield* exists)
      }))
    ))

  it.effect("its own list stays when it starts again in the same session", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* starts(first)
        yield* put(list)
        yield* open(first)
        assert.isUndefined(yield* starts(first))
        assert.lengthOf(yield* open(first), 2)
      }))
    ))

  it.effect("the list of a mission that is still active stays, and is not the new one's", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* starts(first)
        yield* put(list)
        yield* open(first)
        assert.isUndefined(yield* starts(second, first))
        assert.deepStrictEqual(yield* open(second), [])
        assert.lengthOf(yield* open(first), 2)
      }))
    ))

  for (const end of ["", "that was killed"]) {
    it.effect(`the list of a mission that is active in another OpenCode ${end} stays`, () =>
      recorded((life) =>
        Effect.gen(function*() {
          const root = yield* life.do(say("goal"))
          yield* life.do(starts(root))
          yield* put(list)
          yield* life.do(open(root))
          if (end !== "") yield* life.kill
          const other = yield* start({ config: { recovery: "ask" } })
          assert.isUndefined(yield* other.do(starts(second)))
          assert.isTrue(yield* exists)
          assert.deepStrictEqual(yield* other.do(open(second)), [])
        })
      ))
  }

  it.effect("the list of one that ended before a restart is archived", () =>
    recorded((life) =>
      Effect.gen(function*() {
        yield* life.do(starts(first))
        yield* put(list)
        yield* life.do(open(first))
        yield* life.kill
        const next = yield* start()
        assert.strictEqual(yield* next.do(starts(second)), archived(1))
      })
    ))

  it.effect("a list that cannot be moved stays as it is", () =>
    recorded((life) =>
      life.do(Effect.gen(function*() {
        yield* starts(first)
        yield* put(list)
        yield* open(first)
        const disk = yield* MemoryDisk
        yield* disk.readOnly(true)
        assert.isUndefined(yield* starts(second))
        yield* disk.readOnly(false)
        assert.strictEqual(yield* fileText(file), list)
        assert.deepStrictEqual(
          (yield* disk.list("/project/.opencode")).filter((path) => path.includes("archive")),
          []
        )
      }))
    ))

  it.effect("nothing is recorded when nothing is to be", () =>
    Effect.gen(function*() {
      yield* starts(first)
      yield* put(list)
      assert.lengthOf(yield* open(first), 2)
      const disk = yield* MemoryDisk
      assert.deepStrictEqual(yield* disk.list("/project"), [file])
      assert.strictEqual(yield* starts(second), archived(1))
    }).pipe(withActors({}), (test) => Effect.andThen(day, test)))
})

describe("what becomes of a step that a plan has run", () => {
  const written =
    "Mind the licence.\r\n- [ ] T1: work one | files:a.ts\r\n- [ ] T2: bad | agent:Builder\r\n- [ ] T3: work else\r\n"
  const runsPlan = (): Readonly<Record<string, Actor>> => ({
    goal: replies(
      {
        toolCalls: [{ name: "run_plan", args: { plan: "- [ ] T1: work one\n- [ ] T2: bad\n- [ ] T3: work another" } }]
      },
      { text: "I wait." }
    ),
    work: works("5 seconds"),
    bad: () => Effect.succeed({ status: 401, message: "no key" })
  })

  it.effect("is put down in the list, and every other byte stays; a step with another text is another step", () =>
    Effect.gen(function*() {
      yield* put(written)
      const root = yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 3 && all.every(isSettledTask)))
      yield* doing(pass("1 second"))
      assert.match(
        yield* fileText(file),
        /^Mind the licence\.\r\n- \[x\] T1: work one \| files:a\.ts\r\n- \[ \] T2: bad \| agent:Builder \| state:failed \| reason: [^\n]*no key[^\n]*\r\n- \[ \] T3: work else\r\n$/
      )
      assert.deepStrictEqual(yield* open(root), ["bad", "work else"])
    }).pipe(withActors(runsPlan())))

  it.effect.each(
    [
      ["read-only", (disk: MemoryDisk["Service"], is: boolean) => disk.readOnly(is)],
      ["full", (disk: MemoryDisk["Service"], is: boolean) => is ? disk.full(true, 20) : disk.full(false)]
    ] as const
  )("is not put down where the disk is %s, and no half file stays", ([, spoil]) =>
    Effect.gen(function*() {
      const disk = yield* MemoryDisk
      yield* put(written)
      yield* say("goal")
      yield* until(Effect.map(tasks, (all) => all.length === 3))
      yield* spoil(disk, true)
      yield* pass("1 minute")
      assert.isTrue((yield* tasks).every(isSettledTask))
      yield* spoil(disk, false)
      assert.strictEqual(yield* fileText(file), written)
      assert.lengthOf((yield* disk.list("/project/.opencode")).filter((path) => path.endsWith(".new")), 0)
    }).pipe(withActors(runsPlan())))
})
