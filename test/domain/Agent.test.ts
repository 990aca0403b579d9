import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { ceiling, endOfRole, evaluate, type HostAgent, matches, narrow } from "../../src/domain/Agent.ts"
import { Rule } from "../../src/domain/Session.ts"

const rule = (permission: string, pattern: string, action: Rule["action"]): Rule => ({ permission, pattern, action })

describe("matches", () => {
  const few = (letters: string) =>
    Arbitrary.schema(Schema.String.check(Schema.isPattern(new RegExp(`^[${letters}]{0,8}$`))))

  it.prop(
    "fits what the same regular expression fits",
    { pattern: few("ab*?"), text: few("ab*?") },
    ({ pattern, text }) => {
      const source = pattern.replaceAll("*", ".*").replaceAll("?", ".")
      assert.strictEqual(matches(pattern, text), new RegExp(`^(?:${source})$`, "s").test(text))
    }
  )

  it("ends soon, whatever the pattern", () => {
    assert.isFalse(matches(`${"*a".repeat(100)}*b`, "a".repeat(20_000)))
  })
})

describe("evaluate", () => {
  it("asks when no rule matches", () => {
    assert.strictEqual(evaluate([], "edit", "a.ts"), "ask")
    assert.strictEqual(evaluate([rule("bash", "*", "allow"), rule("edit", "b.ts", "allow")], "edit", "a.ts"), "ask")
  })

  it("lets the last rule that matches decide", () => {
    const rules = [rule("edit", "*", "deny"), rule("edit", "src/*", "allow"), rule("bash", "*", "deny")]
    assert.strictEqual(evaluate(rules, "edit", "src/a.ts"), "allow")
    assert.strictEqual(evaluate(rules, "edit", "a.ts"), "deny")
    assert.strictEqual(evaluate([...rules, rule("*", "*", "ask")], "edit", "src/a.ts"), "ask")
  })

  it("takes * for any text and ? for one character, in permissions and patterns", () => {
    assert.strictEqual(evaluate([rule("mcp_*", "*", "allow")], "mcp_github", "x"), "allow")
    assert.strictEqual(evaluate([rule("mcp_*", "*", "allow")], "mpc_github", "x"), "ask")
    assert.strictEqual(evaluate([rule("edit", ".opencode/**", "allow")], "edit", ".opencode/docs/a.md"), "allow")
    assert.strictEqual(evaluate([rule("edit", "?.ts", "allow")], "edit", "a.ts"), "allow")
    assert.strictEqual(evaluate([rule("edit", "?.ts", "allow")], "edit", "ab.ts"), "ask")
    assert.strictEqual(evaluate([rule("bash", "git *", "allow")], "bash", "git log\n--all"), "allow")
  })

  it("takes every other character for itself", () => {
    const path = "a.b+c^d$e{f}g(h)i|j[k]l\\m"
    assert.strictEqual(evaluate([rule("edit", `${path}*`, "allow")], "edit", `${path}.ts`), "allow")
    assert.strictEqual(evaluate([rule("edit", "*.ts", "allow")], "edit", "ats"), "ask")
    assert.strictEqual(evaluate([rule("edit", "src/*", "allow")], "edit", "other/src/a.ts"), "ask")
  })
})

describe("ceiling", () => {
  const agent = (permission: ReadonlyArray<Rule>): HostAgent => ({
    name: "Commander",
    mode: "primary",
    description: undefined,
    model: undefined,
    hidden: false,
    permission
  })
  const role = [rule("*", "*", "deny"), rule("read", "*", "allow")]
  const users = [rule("bash", "rm *", "deny")]
  const session = [rule("edit", "*", "deny")]

  it("is what the user set for one of our own agents, then the session's rules: a role is no limit", () => {
    assert.deepStrictEqual(ceiling(agent([...role, endOfRole, ...users]), session), [...users, ...session])
    assert.deepStrictEqual(ceiling(agent([...role, endOfRole]), []), [])
  })

  it("is all rules of an agent that is not ours", () => {
    assert.deepStrictEqual(ceiling(agent(users), session), [...users, ...session])
  })

  it("is the session's rules when the agent is unknown", () => {
    assert.deepStrictEqual(ceiling(undefined, session), session)
  })
})

describe("narrow", () => {
  const everything = [rule("*", "*", "allow")]
  const effective = (child: ReadonlyArray<Rule>, limits: ReadonlyArray<Rule>, permission: string, path: string) =>
    evaluate([...child, ...narrow(child, limits)], permission, path)

  it("gives no rules where there are no limits", () => assert.deepStrictEqual(narrow(everything, []), []))

  it("keeps a child from what its parent may not do", () => {
    assert.strictEqual(effective(everything, [rule("bash", "*", "deny")], "bash", "ls"), "deny")
    assert.strictEqual(effective(everything, [rule("bash", "*", "deny")], "edit", "a.ts"), "allow")
    assert.strictEqual(effective(everything, [rule("edit", "src/*", "ask")], "edit", "src/a.ts"), "ask")
    assert.strictEqual(effective(everything, [rule("edit", "src/*", "ask")], "edit", "a.ts"), "allow")
  })

  it("leaves a child its own narrower rules when the parent may do more", () => {
    const recorder = [rule("*", "*", "deny"), rule("edit", ".opencode/**", "allow")]
    assert.strictEqual(effective(recorder, everything, "edit", "src/a.ts"), "deny")
    assert.strictEqual(effective(recorder, everything, "edit", ".opencode/a.md"), "allow")
    assert.strictEqual(effective(recorder, everything, "bash", "ls"), "deny")
  })

  it("does not give back what an exception of the parent allows but the child's own rules deny", () => {
    const child = [rule("*", "*", "allow"), rule("edit", "*", "deny")]
    const limits = [rule("*", "*", "allow"), rule("*", ".opencode/**", "deny")]
    assert.strictEqual(effective(child, limits, "edit", "src/a.ts"), "deny")
  })

  it("does not turn a child's own denial into a question", () => {
    const child = [rule("edit", "*", "allow"), rule("edit", "src/*", "deny")]
    assert.strictEqual(effective(child, [rule("edit", "*", "ask")], "edit", "src/a.ts"), "deny")
  })

  it("leaves a child what its own rules allow and its parent's do not touch", () => {
    const recorder = [rule("*", "*", "deny"), rule("read", "*", "allow"), rule("edit", ".opencode/**", "allow")]
    const limits = [rule("*", "*", "allow"), rule("bash", "*", "deny"), rule("edit", "src/*", "deny")]
    assert.strictEqual(effective(recorder, limits, "edit", ".opencode/a.md"), "allow")
    assert.strictEqual(effective(recorder, limits, "read", "src/a.ts"), "allow")
    const builder = [...recorder, rule("edit", "*", "allow"), rule("bash", "*", "allow")]
    assert.strictEqual(effective(builder, limits, "edit", "a.ts"), "allow")
    assert.strictEqual(effective(builder, limits, "edit", "src/a.ts"), "deny")
    assert.strictEqual(effective(builder, limits, "bash", "ls"), "deny")
    const exceptions = [rule("bash", "*", "deny"), rule("bash", "git *", "allow")]
    assert.strictEqual(effective(builder, exceptions, "bash", "git log"), "allow")
    assert.strictEqual(effective(builder, exceptions, "bash", "ls"), "deny")
  })

  const width: Record<Rule["action"], number> = { deny: 0, ask: 1, allow: 2 }
  const permissions = ["read", "edit", "bash", "webfetch"] as const
  const paths = ["a.ts", "src/a.ts", ".opencode/a.md", ".opencode/docs/a.md"]
  const anyRules = Arbitrary.array(
    Arbitrary.schema(
      Schema.Struct({
        permission: Schema.Literals([...permissions, "*"]),
        pattern: Schema.Literals(["*", ".opencode/**", "src/*"]),
        action: Rule.fields.action
      })
    ),
    { maxLength: 5 }
  )
  const input = { child: anyRules, limits: anyRules }
  const seeded = { arbitrary: { runs: 3_000, seed: 42 } }
  const uses = permissions.flatMap((permission) => paths.map((path) => ({ permission, path })))

  it.prop("never gives a child more than its own rules do", input, ({ child, limits }) => {
    for (const { path, permission } of uses) {
      const own = evaluate(child, permission, path)
      const result = effective(child, limits, permission, path)
      assert.isAtMost(width[result], width[own], `${permission} ${path}: ${own} became ${result}`)
    }
  }, seeded)

  it.prop("never gives a child more than its parent's rules do", input, ({ child, limits }) => {
    for (const { path, permission } of uses) {
      // Silence is no limit: only where a rule of the parent matches does it say something.
      const limit = evaluate([rule("*", "*", "allow"), ...limits], permission, path)
      const result = effective(child, limits, permission, path)
      assert.isAtMost(width[result], width[limit], `${permission} ${path}: limited to ${limit}, is ${result}`)
    }
  }, seeded)
})
