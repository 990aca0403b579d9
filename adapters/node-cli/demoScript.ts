/** The demo's project, and the scripted model that plays the agents in it: each answer follows from the conversation. */
import { Effect } from "effect"
import { endWords } from "../../src/domain/Task.ts"
import type { ModelReply, ModelRequest, Script } from "../test/Script.ts"

/** One function that the project lacks, and how a Builder makes it. */
interface Piece {
  readonly task: string
  readonly file: string
  readonly order: string
  readonly test: string
  readonly steps: ReadonlyArray<{ readonly name: string; readonly args: unknown }>
}

const brokenTruncate = `/** The text, cut to at most \`limit\` characters; the last of them is then an ellipsis. */
export const truncate = (text, limit) => text.slice(0, limit) + "…"
`

const emptyWords = `/** The words of a text. */
export const words = () => {
  throw new Error("not written yet")
}
`

const pieces: ReadonlyArray<Piece> = [
  {
    task: "Write slug",
    file: "src/slug.js",
    order: "src/slug.js is missing. Write it: slug(text) gives lower-case words joined by dashes, without accents.",
    test: "test/slug.test.js",
    steps: [{
      name: "write",
      args: {
        filePath: "src/slug.js",
        content: `/** Lower-case words joined by dashes, without accents: fit for an address. */
export const slug = (text) =>
  text.normalize("NFD").replace(/\\p{Mark}/gu, "").toLowerCase().split(/[^a-z0-9]+/).filter(Boolean).join("-")
`
      }
    }]
  },
  {
    task: "Repair truncate",
    file: "src/truncate.js",
    order:
      "src/truncate.js gives one character too many, and cuts short texts too. Repair truncate(text, limit) as its comment says.",
    test: "test/truncate.test.js",
    steps: [
      { name: "read", args: { filePath: "src/truncate.js" } },
      {
        name: "edit",
        args: {
          filePath: "src/truncate.js",
          oldString: "text.slice(0, limit) + \"…\"",
          newString: "text.length <= limit ? text : text.slice(0, limit - 1) + \"…\""
        }
      }
    ]
  },
  {
    task: "Implement words",
    file: "src/words.js",
    order: "src/words.js only throws. Implement words(text): an array of the words of a text, [] when it has none.",
    test: "test/words.test.js",
    steps: [
      { name: "read", args: { filePath: "src/words.js" } },
      {
        name: "write",
        args: {
          filePath: "src/words.js",
          content: `/** The words of a text. */
export const words = (text) => text.match(/[\\p{Letter}\\p{Number}']+/gu) ?? []
`
        }
      }
    ]
  }
]

const testFile = (name: string, cases: string) =>
  `import assert from "node:assert/strict"
import { test } from "node:test"
import { ${name} } from "../src/${name}.js"

${cases}`

/** The project before the mission: three functions, one missing, one wrong, one empty; and their tests. */
export const projectFiles: Record<string, string> = {
  "package.json": JSON.stringify({
    name: "text-tools",
    private: true,
    type: "module",
    scripts: { test: "node --test" }
  }),
  "README.md": "# Text tools\n\nsrc/slug.js, src/truncate.js and src/words.js. Run `node --test`.\n",
  "src/truncate.js": brokenTruncate,
  "src/words.js": emptyWords,
  "test/slug.test.js": testFile(
    "slug",
    `test("joins words with dashes", () => assert.equal(slug("  Hello, World! "), "hello-world"))
test("drops accents", () => assert.equal(slug("Crème Brûlée"), "creme-brulee"))
`
  ),
  "test/truncate.test.js": testFile(
    "truncate",
    `test("leaves a short text", () => assert.equal(truncate("short", 5), "short"))
test("cuts a long text to the limit", () => assert.equal(truncate("a long text", 6), "a lon…"))
`
  ),
  "test/words.test.js": testFile(
    "words",
    `test("finds words", () => assert.deepEqual(words("It's 2 o'clock."), ["It's", "2", "o'clock"]))
test("finds none", () => assert.deepEqual(words(" … "), []))
`
  )
}

export const projectGoal =
  "Make the tests of this project pass: write src/slug.js, repair src/truncate.js, implement src/words.js. Do not change the tests."

/** How long the model thinks, so that a person can follow. */
const thinking = "600 millis"

export const script: Script = (request) => Effect.as(Effect.sleep(thinking), answer(request))

const answer = (request: ModelRequest): ModelReply => {
  const player = players.find(([words]) => request.system.includes(words))
  return player === undefined ? { text: "The demo has no part for this agent." } : player[1](request)
}

// ---- the Commander --------------------------------------------------------------------------------------------

const commander = ({ calledTools, toolResults, users }: ModelRequest): ModelReply => {
  const refused = toolResults.find((result) => !/^task_\w+ (started|waits)/.test(result))
  if (refused !== undefined) return end(`I could not delegate a task, so the work is not done: ${refused}`)
  if (toolResults.length > 0) return { text: "That is delegated. I go on when I hear of its end." }
  if (calledTools.length === 0) {
    return delegate(
      ...pieces.map((piece) => ({ agent: "Builder", description: piece.task, prompt: firstOrder(piece) }))
    )
  }
  const ended = users.flatMap(readHeadlines)
  if (calledTools.filter((tool) => tool === "delegate_task").length > ended.length) {
    return { text: "Some of my tasks still run; I wait for them." }
  }

  const attempts = pieces.map((piece) => ({
    piece,
    reports: ended.filter((task) => task.description.startsWith(piece.task))
  }))
  const open = attempts.filter(({ reports }) => !reports.some(isDone))
  const hopeless = open.find(({ reports }) => reports.length > 1)
  if (hopeless !== undefined) {
    return end(`"${hopeless.piece.task}" failed twice, so the work is not done: ${firstLine(hopeless.reports.at(-1))}`)
  }
  if (open.length > 0) {
    return delegate(...open.map(({ piece, reports }) => ({
      agent: "Builder",
      description: `${piece.task}, ${secondAttempt}`,
      prompt: `${firstOrder(piece)}\nThis is the ${secondAttempt}. The first one ended with: ${firstLine(reports[0])}`
    })))
  }

  const inspection = ended.find((task) => task.agent === "Inspector")
  if (inspection === undefined) {
    return delegate({
      agent: "Inspector",
      description: "Run the tests",
      prompt:
        "Three functions in src/ were written or repaired. Run node --test, and report PASS or FAIL with what it says."
    })
  }
  if (inspection.state !== "completed" || !inspection.body.startsWith("PASS")) {
    return end(`The work is not done. The Inspector's report: ${firstLine(inspection)}`)
  }

  const failures = ended.filter((task) => task.agent === "Builder" && !isDone(task))
  const facts = [
    ...pieces.map(({ file, task }) => `- ${task}: done (${file})`),
    ...failures.map((task) =>
      `- ${task.id}, "${task.description}", failed and was delegated again. ${firstLine(task)}`
    ),
    `- Inspector: ${firstLine(inspection)}`
  ].join("\n")
  const record = ended.find((task) => task.agent === "Recorder")
  if (record === undefined) {
    return delegate({
      agent: "Recorder",
      description: "Write down the mission",
      prompt: `${recordOrder}\n# Mission\n\nGoal: ${users[0] ?? ""}\n\n${facts}\n`
    })
  }
  const notes = record.state === "completed" ? record.body : `The notes were not written: ${firstLine(record)}`
  return end(`The three functions are there and their tests pass.\n${facts}\n- Notes: ${notes}`)
}

const secondAttempt = "second attempt"

const recordOrder = "Write this to .opencode/context.md:"

const firstOrder = ({ order, test }: Piece) =>
  `${order} Change no other file. Run node --test ${test}. Answer with DONE or NOT DONE, and what the test said.`

const delegate = (...orders: ReadonlyArray<{ agent: string; description: string; prompt: string }>): ModelReply => ({
  toolCalls: orders.map((order) => ({ name: "delegate_task", args: { ...order, background: true } }))
})

const end = (summary: string): ModelReply => ({ text: `${summary}\n\nMISSION COMPLETE` })

const isDone = (task: Headline) => task.state === "completed" && task.body.startsWith("DONE")

const firstLine = (task: Headline | undefined) => task?.body.split("\n")[0] ?? ""

// ---- the others -----------------------------------------------------------------------------------------------

const builder = ({ calledTools, toolResults, users }: ModelRequest): ModelReply => {
  const order = users[0] ?? ""
  const piece = pieces.find(({ file }) => order.includes(file))
  if (piece === undefined) return { text: "NOT DONE: I was not told which file to work on." }
  if (piece.file === "src/truncate.js" && !order.includes(secondAttempt)) {
    return { status: 400, message: "The demo's model refuses this request once, to show what a failed task leads to." }
  }
  const step = piece.steps[calledTools.length]
  if (step !== undefined) return { toolCalls: [step] }
  if (calledTools.length === piece.steps.length) return shell(`node --test ${piece.test}`)
  const { passed, words } = readTestRun(toolResults.join("\n"))
  return { text: `${passed ? "DONE" : "NOT DONE"}: ${piece.file}; node --test ${piece.test}: ${words}` }
}

const inspector = ({ calledTools, toolResults }: ModelRequest): ModelReply => {
  if (calledTools.length === 0) return shell("node --test")
  const { passed, words } = readTestRun(toolResults.join("\n"))
  return { text: `${passed ? "PASS" : "FAIL"}: node --test: ${words}` }
}

const recorder = ({ calledTools, toolResults, users }: ModelRequest): ModelReply => {
  const content = users[0]?.split(recordOrder)[1]?.trimStart()
  if (content === undefined) return { text: "I was given nothing to write." }
  if (calledTools.length === 0) {
    return { toolCalls: [{ name: "write", args: { filePath: ".opencode/context.md", content } }] }
  }
  const result = toolResults.join("\n")
  return { text: /success/i.test(result) ? ".opencode/context.md" : `.opencode/context.md was not written: ${result}` }
}

const shell = (command: string): ModelReply => ({
  toolCalls: [{ name: "bash", args: { command, description: "Runs the tests" } }]
})

/** What a run of `node --test` says of itself, in either of its formats. */
export const readTestRun = (output: string) => {
  const count = (word: string) => Number(new RegExp(`^(?:#|ℹ) ${word} (\\d+)$`, "m").exec(output)?.[1] ?? Number.NaN)
  const [pass, fail] = [count("pass"), count("fail")]
  if (Number.isNaN(pass) || Number.isNaN(fail)) return { passed: false, words: "the output names no result" }
  return { passed: pass > 0 && fail === 0, words: `${pass} passed, ${fail} failed` }
}

const players: ReadonlyArray<readonly [string, (request: ModelRequest) => ModelReply]> = [
  ["You are the Commander.", commander],
  ["You are a Builder.", builder],
  ["You are the Inspector.", inspector],
  ["You are the Recorder.", recorder]
]

// ---- the orchestrator's words about ended tasks, read back from its notices --------------------------------------

interface Headline {
  readonly id: string
  readonly state: string
  readonly duration: string
  readonly agent: string
  readonly description: string
  /** What follows the headline: the task's result, or why there is none. */
  readonly body: string
}

/** As `headline` in src/domain/Task.ts writes them. */
const pattern = new RegExp(
  `^(?:## )?(task_[a-z0-9]+) (${Object.values(endWords).join("|")}) after ([^·\\n]+) · ([^·\\n]+) · (.*)$`,
  "gm"
)

/** Every ended task that the text tells of, in its order. */
const readHeadlines = (text: string): ReadonlyArray<Headline> => {
  const matches = [...text.matchAll(pattern)]
  return matches.map((match, at) => {
    const [line, id = "", state = "", duration = "", agent = "", description = ""] = match
    const body = text.slice(match.index + line.length, matches[at + 1]?.index).trim()
    return { id, state: state.replace("was ", ""), duration, agent, description, body }
  })
}
