import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Schema } from "effect"
import { readFileSync } from "node:fs"
import { makeMask, secretsOf } from "../../src/domain/Secrets.ts"

const mask = makeMask([])

/** Letters and digits as a secret has them. Secrets are put together here, so that nobody takes them for real ones. */
const random = (length: number) => "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zC".repeat(8).slice(0, length)
const upper = (length: number) => "A2B3C4D5E6F7G2H3".repeat(4).slice(0, length)
const hex = (length: number) => "0a1b2c3d4e5f60718293a4b5c6d7e8f9".repeat(4).slice(0, length)
const jwt = ["ey" + "J" + random(20), "ey" + "J" + random(40), random(43)].join(".")
const pem = (kind: string) =>
  ["-----BEGIN " + kind + "-----", random(64), random(64), random(10) + "==", "-----END " + kind + "-----"].join("\n")

const tokens: ReadonlyArray<readonly [label: string, secret: string]> = [
  ["OpenAI key", "sk" + "-" + random(48)],
  ["OpenAI key", "sk" + "-proj-" + random(40) + "_" + random(20) + "-" + random(9)],
  ["OpenAI key", "sk" + "-svcacct-" + random(40)],
  ["Anthropic key", "sk" + "-ant-api03-" + random(80) + "-" + random(8) + "AA"],
  ["OpenRouter key", "sk" + "-or-v1-" + hex(64)],
  ["GitHub token", "gh" + "p_" + random(36)],
  ["GitHub token", "gh" + "s_" + random(36)],
  ["GitHub token", "github" + "_pat_" + random(22) + "_" + random(59)],
  ["GitLab token", "gl" + "pat-" + random(20)],
  ["GitLab token", "gl" + "pat-" + random(27) + ".01." + hex(9)],
  ["AWS key", "AK" + "IA" + upper(16)],
  ["AWS key", "AS" + "IA" + upper(16)],
  ["Google key", "AI" + "za" + random(35)],
  ["Google key", "ya" + "29." + random(60)],
  ["Google key", "GOC" + "SPX-" + random(28)],
  ["Slack token", "xo" + "xb-123456789012-1234567890123-" + random(24)],
  ["Slack token", "xa" + "pp-1-A0123-" + hex(30)],
  ["Slack webhook", "hooks.slack" + ".com/services/T00000000/B00000000/" + random(24)],
  ["Stripe key", "sk" + "_live_" + random(24)],
  ["Stripe key", "rk" + "_test_" + random(24)],
  ["Stripe key", "wh" + "sec_" + random(32)],
  ["npm token", "np" + "m_" + random(36)],
  ["PyPI token", "py" + "pi-AgEIcHlwaS5vcmc" + random(60)],
  ["Hugging Face token", "h" + "f_" + random(34)],
  ["JSON web token", jwt],
  ["private key", pem("PRIVATE KEY")],
  ["private key", pem("RSA PRIVATE KEY")],
  ["private key", pem("OPENSSH PRIVATE KEY")],
  ["private key", pem("PGP PRIVATE KEY BLOCK")],
  ["private key", pem("EC PRIVATE KEY").replaceAll("\n", "\\n")],
  ["private key", ["-----BEGIN PRIVATE KEY-----", random(64), random(40)].join("\n")],
  ["private key", "AGE-SECRET" + "-KEY-1" + upper(58)],
  ["Docker token", "dckr" + "_pat_" + random(27)],
  ["DigitalOcean token", "do" + "p_v1_" + hex(64)],
  ["SendGrid key", "SG" + "." + random(22) + "." + random(43)],
  ["Vault token", "hv" + "s." + random(24)],
  ["Databricks token", "da" + "pi" + hex(32)],
  ["Telegram token", "123456789" + ":AA" + random(33)],
  ["Shopify token", "shp" + "at_" + hex(32)],
  ["API key", "gs" + "k_" + random(52)]
]

/** A text with a secret in it, and what is left of it. */
const inContext: ReadonlyArray<readonly [text: string, masked: string]> = [
  [`curl -H "Authorization: Bearer ${random(24)}" x`, "curl -H \"Authorization: Bearer [masked credentials]\" x"],
  ["Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: Basic [masked credentials]"],
  [`authorization=${random(20)}`, "authorization=[masked credentials]"],
  [`{"authorization":"token ${random(30)}"}`, "{\"authorization\":\"token [masked credentials]\"}"],
  [`sent bearer ${random(30)} to it`, "sent bearer [masked credentials] to it"],
  ["postgres://app:hunter2@db.local/x", "postgres://app:[masked password]@db.local/x"],
  ["git clone https://me:p%40ss!word@host/r.git", "git clone https://me:[masked password]@host/r.git"],
  ["redis://:s3cret-word@host:6379", "redis://:[masked password]@host:6379"],
  ["DB_PASSWORD=correcthorse", "DB_PASSWORD=[masked password]"],
  ["export API_KEY=abc123def456\nNEXT=1", "export API_KEY=[masked key]\nNEXT=1"],
  ["DB_PASSWORD=\"pa$$w0rd;99\"", "DB_PASSWORD=\"[masked password]\""],
  [`AWS_SECRET_ACCESS_KEY=${random(20)}/${random(19)}`, "AWS_SECRET_ACCESS_KEY=[masked key]"],
  [`aws_secret_access_key = ${random(20)}/${random(19)}`, "aws_secret_access_key = [masked key]"],
  ["  \"clientSecret\": \"a8f-77-zz-91\",", "  \"clientSecret\": \"[masked secret]\","],
  ["{\\\"apiKey\\\":\\\"a8f77zz91q\\\"}", "{\\\"apiKey\\\":\\\"[masked key]\\\"}"],
  ["password: hunter2-and-more", "password: [masked password]"],
  ["x-api-key: 77aa88bb99cc", "x-api-key: [masked key]"],
  ["npm --token=abc123def456ghi run", "npm --token=[masked token] run"],
  ["//registry.npmjs.org/:_authToken=a1b2c3d4-e5f6", "//registry.npmjs.org/:_authToken=[masked token]"],
  [`GET /v1?q=1&key=${random(20)}&z=2`, "GET /v1?q=1&key=[masked key]&z=2"],
  [`https://s3/x?X-Amz-Signature=${hex(64)}`, "https://s3/x?X-Amz-Signature=[masked secret]"],
  [`https://h/x?access_token=${random(20)}&z=2`, "https://h/x?access_token=[masked token]&z=2"],
  [`AccountKey=${random(80)}==;EndpointSuffix=x`, "AccountKey=[masked key];EndpointSuffix=x"]
]

const harmless: ReadonlyArray<string> = [
  hex(40),
  `commit ${hex(40)}\nsha256:${hex(64)} ${hex(7)}`,
  "550e8400-e29b-41d4-a716-446655440000",
  "ses_0a1b2c3d4e5fAbCdEfGhIjKlMn msg_0a1b2c3d4e5fAbCdEfGhIjKlMn task_ab12cd34ef job_ab12cd34ef",
  "token: task_ab12cd34ef",
  "integrity sha512-" + random(86) + "==",
  "data:image/png;base64,iVBORw0KGgo" + random(200) + "/" + random(50) + "+AK" + "IA" + random(20) + "==",
  "/home/me/.ssh/id_ed25519 C:\\Users\\me\\token.txt src/domain/Secrets.ts",
  "const token = parseToken(input)\nconst password = await readPassword()",
  "readonly signingPrivateKey: Uint8Array",
  "password: string; token?: string | undefined; apiKey: Redacted<string>",
  "apiKey: process.env.OPENAI_API_KEY, secret: config.auth.clientSecret",
  "API_KEY=your-key-here TOKEN=$GITHUB_TOKEN SECRET=${SECRET} DB_PASSWORD=<password>",
  "export PWD=/home/me/project1 OLDPWD=/home/me/project2",
  "SSH_AUTH_SOCK=/tmp/ssh-XXXX/agent.1234",
  "max_tokens: 100000000 total tokens=123456789",
  "the keyboard-key: keydown1234 and monkey=banana12345 and primary_key=id1234567",
  "https://example.com:8080/path?key=short https://user@example.com/a:b@c",
  "class=\"sk-loading-animation-circle-large-blue\" sk-learn",
  "Bearer authentication-is-required here; Basic authentication; basic usageExample",
  "if (text.includes(\"-----BEGIN PRIVATE KEY-----\")) return \"it is one\"",
  "-----BEGIN CERTIFICATE-----\n" + random(64) + "\n-----END CERTIFICATE-----",
  "npm_config_registry=https://registry.npmjs.org npm_lifecycle_event",
  "expect(password).toBe(\"password\"); t(\"reset_password\"); secret: \"secretName\"",
  "password: \"Password is required\""
]

describe("a secret", () => {
  for (const [index, [label, secret]] of tokens.entries()) {
    it(`of the form ${label} is masked, wherever it stands (${index})`, () => {
      for (const [before, after] of [["", ""], ["a ", " b"], ["\"", "\""], ["(", ")"], ["x=", "\n"], ["/", "?"]]) {
        assert.strictEqual(mask(`${before}${secret}${after}`), `${before}[masked ${label}]${after}`)
      }
    })
  }

  for (const [text, masked] of inContext) {
    it(`is masked in: ${text.slice(0, 50)}`, () => {
      assert.strictEqual(mask(text), masked)
      assert.strictEqual(mask(`before ${text}\nafter`), `before ${masked}\nafter`)
    })
  }

  it("of which a text holds several is masked each time", () => {
    const [first, second] = ["gh" + "p_" + random(36), "np" + "m_" + random(36)]
    assert.strictEqual(
      mask(`${first},${second} ${first}`),
      "[masked GitHub token],[masked npm token] [masked GitHub token]"
    )
  })
})

describe("what only looks like a secret", () => {
  for (const text of harmless) it(`stays: ${text.slice(0, 50)}`, () => assert.strictEqual(mask(text), text))

  it("is nowhere in the orchestrator's own sources", () => {
    for (
      const file of ["src/domain/Secrets.ts", "src/tasks/TaskJournal.ts", "src/domain/Session.ts", "src/Config.ts"]
    ) {
      const text = readFileSync(new URL(`../../${file}`, import.meta.url), "utf8")
      assert.strictEqual(mask(text), text)
    }
  })
})

describe("the environment", () => {
  it("gives the values of variables with secret names, the longest first", () => {
    const secrets = secretsOf({
      GITHUB_TOKEN: "abc-12345",
      MY_DB_PASSWORD: "correct horse",
      OPENAI_API_KEY: "k".repeat(30),
      JWT_SECRET: "tell-nobody",
      COPY_OF_TOKEN: "abc-12345",
      PATH: "/usr/bin:/bin",
      PWD: "/home/me/project1",
      SSH_AUTH_SOCK: "/tmp/ssh-1234/agent.1",
      KEYBOARD_LAYOUT: "de-latin1-nodeadkeys",
      TOKENIZERS_PARALLELISM: "disabled",
      MAX_TOKENS: "100000000",
      SHORT_TOKEN: "abc",
      EMPTY_TOKEN: undefined
    })
    assert.deepStrictEqual(secrets, ["k".repeat(30), "correct horse", "tell-nobody", "abc-12345"])
  })

  it("names values that are masked wherever they stand, also within others", () => {
    const known = makeMask(secretsOf({ A_PASSWORD: "tell-nobody", B_PASSWORD: "tell-nobody-else" }))
    assert.strictEqual(
      known("it is tell-nobody-else.xtell-nobodyx $&"),
      "it is [masked environment secret].x[masked environment secret]x $&"
    )
  })

  it("does not name a value that a mark contains", () => {
    assert.deepStrictEqual(secretsOf({ A_PASSWORD: "password", B_SECRET: "environment secret" }), [])
  })
})

const texts = [...tokens.map(([, secret]) => secret), ...inContext.map(([text]) => text), ...harmless]
const piece = Arbitrary.map(
  Arbitrary.all({
    text: Arbitrary.schema(Schema.Literals(texts)),
    noise: Arbitrary.schema(Schema.String),
    from: Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 }))),
    cut: Arbitrary.schema(Schema.Boolean),
    glue: Arbitrary.schema(Schema.Literals(["", " ", "\n", "-", "_", "=", ":", "\"", "/", "&", "a", "://", "@"]))
  }),
  ({ cut, from, glue, noise, text }) => (cut ? text.slice(from) + noise : text) + glue
)
const known = secretsOf({ A_PASSWORD: "tell-nobody", B_TOKEN: random(12) })

describe("whatever the text", () => {
  it.prop(
    "masking it twice is masking it once",
    { pieces: Arbitrary.array(piece, { maxLength: 8 }) },
    ({ pieces }) => {
      for (const apply of [mask, makeMask(known)]) {
        const once = apply(pieces.join(""))
        assert.strictEqual(apply(once), once)
      }
    },
    { arbitrary: { runs: 3_000, seed: 20_261_125 } }
  )

  it.prop(
    "hashes, ids and paths stay",
    { pieces: Arbitrary.array(innocent(), { maxLength: 12 }) },
    ({ pieces }) => assert.strictEqual(mask(pieces.join(" ")), pieces.join(" ")),
    { arbitrary: { runs: 2_000, seed: 20_261_126 } }
  )

  it("a text made to be slow takes time in proportion to its length", () => {
    const seeds = [
      "sk-",
      "ey" + "J",
      "ey" + "Jaaaaaaaaaa.",
      "-----BEGIN PRIVATE KEY-----",
      "key=",
      "key=\"",
      "key='\"",
      "a://b:",
      "token",
      "a-",
      "SG.aaaaaaaaaaaaaaaa",
      "bearer ",
      "authorization:",
      "x".repeat(61),
      "_key",
      "?key=",
      "-----BEGIN PRIVATE KEY-----\n",
      "gl" + "pat-"
    ]
    const time = (text: string) => {
      const start = performance.now()
      mask(text)
      return performance.now() - start
    }
    for (const seed of seeds) {
      const text = seed.repeat(Math.ceil(400_000 / seed.length))
      // Quadratic time would be minutes; the bound leaves room for a busy machine.
      assert.isBelow(time(text), 2_000, seed)
    }
  })
})

function innocent() {
  return Arbitrary.map(
    Arbitrary.all({
      kind: Arbitrary.schema(
        Schema.Literals(["hash", "sha256", "uuid", "session", "message", "task", "path", "image"])
      ),
      digits: Arbitrary.array(Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 61 }))), {
        minLength: 64,
        maxLength: 64
      })
    }),
    ({ digits, kind }) => {
      const hexes = digits.map((digit) => (digit % 16).toString(16)).join("")
      const letters = digits.map((digit) =>
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".charAt(digit)
      ).join("")
      switch (kind) {
        case "hash":
          return hexes.slice(0, 40)
        case "sha256":
          return `sha256:${hexes}`
        case "uuid":
          return [8, 4, 4, 4, 12].map((length, index) => hexes.slice(index * 9, index * 9 + length)).join("-")
        case "session":
          return `ses_${hexes.slice(0, 12)}${letters.slice(0, 14)}`
        case "message":
          return `msg_${hexes.slice(0, 12)}${letters.slice(0, 14)}`
        case "task":
          return `task_${letters.slice(0, 10).toLowerCase()}`
        case "path":
          return `/home/${letters.slice(0, 8)}/${letters.slice(8, 20)}.ts:${digits[0]}`
        case "image":
          return `data:image/png;base64,${letters}+/${letters}==`
      }
    }
  )
}
