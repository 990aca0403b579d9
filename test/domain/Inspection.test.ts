import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Arbitrary from "effect/Arbitrary"
import { again, type End, endState, faulted, isGood, passes, redone, withChecks } from "../../src/domain/Inspection.ts"
import { type Plan, type PlanNode, readPlan, sortPlan } from "../../src/domain/Plan.ts"
import { SessionId } from "../../src/domain/Session.ts"
import { queued, type Task, TaskId } from "../../src/domain/Task.ts"

const plan = (...lines: ReadonlyArray<string>): Plan =>
  Result.getOrThrowWith(
    readPlan(lines.join("\n"), ["Builder", "Inspector"]),
    (error) => new Error(error.message)
  )
const checked = (...lines: ReadonlyArray<string>): Plan => withChecks(plan(...lines), "Inspector", "the goal")
const waits = (nodes: Plan) => Object.fromEntries(nodes.map(({ depends, id }) => [id, depends.join(" ")]))

const ended = (node: PlanNode, text: string, state: "completed" | "failed" = "completed"): Task => {
  const root = SessionId.make("ses_root")
  const { agent, id, prompt } = node
  const task = { id: TaskId.make(`task_${id}`), mission: root, parent: root, agent, description: id, prompt }
  const settled = { ...queued({ ...task, background: true, depth: 1 }, 1), state, endedAt: 2 }
  return state === "completed" ? { ...settled, result: text } : { ...settled, reason: text }
}
/** All completed, checks with a PASS, except where another end is given. */
const ends = (nodes: Plan, others: Readonly<Record<string, string | Error | undefined>> = {}): ReadonlyArray<End> =>
  nodes.map((node) => {
    const other = node.id in others ? others[node.id] : node.verdict === true ? "PASS" : "done"
    const task = other === undefined
      ? undefined
      : typeof other === "string"
      ? ended(node, other)
      : ended(node, other.message, "failed")
    return { node, task }
  })

const twoGroups = [
  "- [ ] G1: backend",
  "  - [ ] T1: server",
  "  - [ ] T2: store",
  "- [ ] G2: frontend | depends:G1",
  "  - [ ] T3: page",
  "- [ ] T4: notes"
]

describe("the checks of a plan", () => {
  it("come after each group and after all; what depends on a group waits for its check, the rest does not", () => {
    assert.deepStrictEqual(waits(checked(...twoGroups)), {
      T1: "",
      T2: "",
      T4: "",
      "check-G1": "T1 T2",
      T3: "T1 T2 check-G1",
      "check-G2": "T3",
      check: "T1 T2 T3 T4 check-G1 check-G2"
    })
  })

  it("are one for a plan that is flat, or one group", () => {
    assert.deepStrictEqual(waits(checked("- [ ] T1: a", "- [ ] T2: b | depends:T1")), {
      T1: "",
      T2: "T1",
      check: "T1 T2"
    })
    assert.sameMembers(Object.keys(waits(checked("- [ ] G: all", "  - [ ] T1: a", "  - [ ] T2: b"))), [
      "T1",
      "T2",
      "check"
    ])
  })

  it("take a common name for a group, the nearest item otherwise, and a task that closes its item with it", () => {
    const nodes = plan(
      "- [ ] Goal",
      "  - [ ] G1: part | agent:Builder",
      "    - [ ] A1: a",
      "    - [ ] A2: b | parallel:side",
      "  - [ ] B1: c",
      "- [ ] C1: d"
    )
    assert.deepStrictEqual(Object.fromEntries(nodes.map(({ group, id }) => [id, group])), {
      A1: "G1",
      A2: "side",
      G1: "G1",
      B1: "T1",
      C1: undefined
    })
  })

  it("have names that no task has", () => {
    const text = JSON.stringify([{ id: "Check", text: "a" }, { text: "b", parallel: "A" }, {
      id: "check-a",
      text: "c"
    }])
    assert.includeMembers(checked(text).map(({ id }) => id), ["check+", "check-A+"])
  })

  it("keep nothing waiting that their own group waits for", () => {
    const nodes = checked(
      "- [ ] T1: a | parallel:A",
      "- [ ] T2: b | depends:T1",
      "- [ ] T3: c | parallel:A | depends:T2"
    )
    assert.strictEqual(waits(nodes)["T2"], "T1")
    assert.lengthOf(nodes, 5)
  })

  const task = Schema.Struct({
    group: Schema.Literals(["A", "B", "C", "check"]),
    isGrouped: Schema.Boolean,
    depends: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 11 })))
  })
  const anyPlan = Arbitrary.array(Arbitrary.schema(task), { minLength: 1, maxLength: 12 }).pipe(
    Arbitrary.map((tasks): Plan =>
      tasks.map(({ depends, group, isGrouped }, index) => ({
        id: `T${index}`,
        text: "a",
        agent: "Builder",
        depends: [...new Set(depends.filter((other) => other < index).map((other) => `T${other}`))],
        files: [],
        prompt: "a",
        ...(isGrouped ? { group } : {})
      }))
    )
  )

  it.prop("leave every order that there was, in every plan, and come to an end", { nodes: anyPlan }, ({ nodes }) => {
    const all = withChecks(nodes, "Inspector", "goal")
    const groups = new Set(nodes.flatMap(({ group }) => group ?? []))
    const isOne = groups.size === 1 && nodes.every(({ group }) => group !== undefined)
    assert.lengthOf(all, nodes.length + 1 + (isOne ? 0 : groups.size))
    assert.lengthOf(sortPlan(all), all.length)
    const seen = new Set<string>()
    for (const { depends, id } of all) {
      for (const other of depends) assert.isTrue(seen.has(other), `${id} before ${other}`)
      seen.add(id)
    }
    const byId = new Map(all.map((node) => [node.id, node]))
    for (const node of nodes) assert.includeMembers([...byId.get(node.id)?.depends ?? []], [...node.depends])
    // Whoever depends on a group from outside waits for its check, or the group waits for whoever that is.
    for (const check of all.filter(({ id, verdict }) => verdict === true && id !== all.at(-1)?.id)) {
      const before = new Set(check.depends)
      for (const node of all.toReversed()) if (before.has(node.id)) { for (const id of node.depends) before.add(id) }
      for (const node of nodes.filter(({ depends }) => depends.some((id) => check.depends.includes(id)))) {
        assert.isTrue(before.has(node.id) || byId.get(node.id)?.depends.includes(check.id), `${node.id}, ${check.id}`)
      }
    }
    assert.deepStrictEqual(again(ends(all)), [])
  }, { arbitrary: { runs: 2_000, seed: 6 } })

  it.prop("have what failed run again until all is good, and nothing that is good", {
    nodes: anyPlan,
    bad: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 15 }))), {
      maxLength: 4
    })
  }, ({ bad, nodes }) => {
    const all = withChecks(nodes, "Inspector", "goal")
    const names = new Set(bad.flatMap((index) => all[index]?.id ?? []))
    // As the plan runs: what depends on a bad end is not run.
    const failed = new Set<string>()
    const first = all.map((node): End => {
      if (node.depends.some((id) => failed.has(id))) return (failed.add(node.id), { node, task: undefined })
      if (!names.has(node.id)) return { node, task: ended(node, node.verdict === true ? "PASS" : "done") }
      failed.add(node.id)
      return { node, task: node.verdict === true ? ended(node, "FAIL") : ended(node, "broken", "failed") }
    })
    const left = again(first)
    const ids = new Set(left.map(({ id }) => id))
    assert.lengthOf(sortPlan(left), left.length)
    for (const { depends } of left) assert.isTrue(depends.every((id) => ids.has(id)))
    const toRedo = new Set(first.flatMap((end) => faulted(first, end).map(({ node }) => node.id)))
    for (const end of first) {
      if (!isGood(end) || toRedo.has(end.node.id)) assert.isTrue(ids.has(end.node.id), end.node.id)
      else if (end.node.verdict !== true) assert.isFalse(ids.has(end.node.id), end.node.id)
    }
    for (const end of first.filter((end) => end.task !== undefined && !isGood(end))) {
      const now = redone(first, end.node.id)
      assert.include(now.map(({ id }) => id), end.node.id)
      for (const { depends, id } of now) {
        assert.isTrue(ids.has(id), id)
        assert.deepStrictEqual(depends, all.find((node) => node.id === id)?.depends)
      }
    }
    const second = first.map((end) => (ids.has(end.node.id) ? ends([end.node])[0] ?? end : end))
    assert.deepStrictEqual(again(second), [])
  }, { arbitrary: { runs: 2_000, seed: 7 } })
})

describe("what is run again", () => {
  const nodes = checked(...twoGroups)
  const rerun = (others: Parameters<typeof ends>[1]) => again(ends(nodes, others))

  it("is what a check names behind FAIL, with its words, and the checks of that; else all that it has looked at", () => {
    const named = rerun({
      "check-G1": "FAIL t2: the store loses data",
      T3: undefined,
      check: undefined,
      "check-G2": undefined
    })
    assert.deepStrictEqual(waits(named), {
      T2: "",
      "check-G1": "T2",
      T3: "T2 check-G1",
      "check-G2": "T3",
      check: "T2 T3 check-G1 check-G2"
    })
    const [again2] = named
    assert.match(again2?.prompt ?? "", /^store\n\nAn earlier attempt .*: FAIL t2: the store loses data\n/)
    assert.include(named[1]?.prompt ?? "", "Completed before, and to be looked at too:\n- T1: server")
    assert.sameMembers(Object.keys(waits(rerun({ "check-G1": "Not good.\nFAIL" }))), ["T1", "T2", "check-G1", "check"])
    assert.sameMembers(Object.keys(waits(rerun({ check: "FAIL T22, T4." }))), ["T4", "check"])
  })

  it("is a check alone when only its own session came to no end", () => {
    assert.deepStrictEqual(waits(rerun({ check: new Error("no credit") })), { check: "" })
  })

  it("tells of the newest attempt only", () => {
    const [first] = again(ends(plan("- [ ] T1: a"), { T1: new Error("broken pipe") }))
    const [second] = again(ends(first === undefined ? [] : [first], { T1: new Error("no space") }))
    assert.match(second?.prompt ?? "", /^a\n\nAn earlier attempt at this came to no good end: no space\n/)
    assert.notInclude(second?.prompt ?? "", "broken pipe")
  })
})

it("a verdict is a PASS at the beginning of a line, and no FAIL", () => {
  for (const text of ["PASS", "**PASS**: all there", "I looked.\nPASS"]) assert.isTrue(passes(text), text)
  for (const text of ["", "FAIL", "PASS\nFAIL T1", "It does not PASS", "PASSED", "(no output)"]) {
    assert.isFalse(passes(text), text)
  }
  const [node] = plan("- [ ] T1: a")
  if (node === undefined) return assert.fail()
  assert.strictEqual(endState(node, ended(node, "FAIL")), "completed")
  assert.strictEqual(endState({ ...node, verdict: true }, ended(node, "FAIL")), "failed")
})
