/**
 * A report as one HTML page: nothing is loaded, no script runs, whatever agents have written. All text of theirs is
 * escaped, and the page's own policy forbids what escaping might have missed.
 */
import { DateTime } from "effect"
import { type BudgetName, budgetNames, formatCount, formatSpent, reached } from "./Budget.ts"
import { type Mission, openFailures, spentBy } from "./Mission.ts"
import { answerTitle, type Report, retriesOf, timesOf, usedByTasks } from "./Report.ts"
import { formatModel, totalTokens } from "./Session.ts"
import { formatDuration, isSettled, outcome, type Task } from "./Task.ts"
import { asTree, type Branch } from "./TaskTree.ts"

export const toHtml = (report: Report): string => {
  const { mission, now, root, tasks } = report
  const branches = asTree(tasks)
  const title = firstLine(mission?.goal ?? `Tasks of ${root}`)
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>${escape(title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<header>
<p class="kind">Mission report</p>
<h1 dir="auto">${escape(title)}</h1>
${mission === undefined ? "" : stateOf(mission)}
</header>
${facts(report)}
${mission === undefined || mission.goal.trim() === title ? "" : block("The goal", text(mission.goal))}
${mission?.answer === undefined ? "" : block(answerTitle(mission), text(mission.answer))}
${list("Open todos", (report.openTodos ?? []).map(escape))}
${failures(report)}
${mission === undefined ? "" : budgets(report, mission)}
${timeline(branches, now)}
${spending(branches, now)}
${table(branches, now)}
${results(tasks)}
<footer>Made ${time(now)} from the records in <code>.opencode/</code> · session <code>${escape(root)}</code></footer>
</main>
</body>
</html>
`
}

// ---- sections -------------------------------------------------------------------------------------------------------

const block = (title: string, body: string): string => `<section><h2>${escape(title)}</h2>${body}</section>`

const list = (title: string, items: ReadonlyArray<string>): string =>
  items.length === 0 ? "" : block(title, `<ul>${items.map((item) => `<li>${item}</li>`).join("")}</ul>`)

const stateOf = (mission: Mission): string =>
  `<p><span class="state ${mission.state}">${mission.state.replaceAll("_", " ")}</span> ${
    escape(mission.why ?? "")
  }</p>`

const facts = ({ mission, now, tasks }: Report): string => {
  const { cost, tokens } = usedByTasks(tasks)
  const spent = mission === undefined ? undefined : spentBy(mission, now)
  const states = [...Map.groupBy(tasks, ({ state }) => state)].map(([state, all]) =>
    `${all.length} ${state.replaceAll("_", " ")}`
  )
  const entries: ReadonlyArray<readonly [string, string]> = [
    ...(mission === undefined || spent === undefined ? [] : [
      ["Started", time(mission.startedAt)] as const,
      ["Active for", formatDuration(spent.time)] as const
    ]),
    ["Tasks", states.length === 0 ? "none" : states.join(", ")],
    ["Tokens", formatCount(spent?.tokens ?? tokens)],
    ["Cost", money(spent?.cost ?? cost)],
    ["Retries", String(tasks.reduce((sum, task) => sum + retriesOf(task), 0))]
  ]
  return `<dl class="facts">${
    entries.map(([name, value]) => `<div><dt>${name}</dt><dd>${value}</dd></div>`).join("")
  }</dl>`
}

const budgets = ({ limits, now }: Report, mission: Mission): string => {
  const spent = spentBy(mission, now)
  const { near, over } = reached(spent, limits)
  const tone = (name: BudgetName) => over.includes(name) ? "over" : near.includes(name) ? "near" : "within"
  const rows = budgetNames.map((name) =>
    `<tr><th scope="row">${name}</th><td class="wide"><span class="gauge"><span class="${tone(name)}" style="width:${
      share(spent[name], limits[name])
    }%"></span></span></td><td>${formatSpent(name, spent, limits)}</td></tr>`
  )
  return block("Budgets", `<table class="budgets"><tbody>${rows.join("")}</tbody></table>`)
}

const failures = ({ mission, tasks }: Report): string => {
  const open = new Set<string>(openFailures(mission).map(({ task }) => task))
  const failed = tasks.filter((task) => isSettled(task) && task.state !== "completed").map((task) =>
    `${named(task)} ${badge(task)} ${isolated(outcome(task))}${
      open.has(task.id) ? " <strong>It was not answered for.</strong>" : ""
    }`
  )
  const retried = tasks.filter((task) => retriesOf(task) > 0).map((task) =>
    `${named(task)} took ${plural(task.run, "run")} and ${
      plural(task.tries?.spent ?? 0, "retry", "retries")
    } of failed turns`
  )
  return list("Failures", failed) + list("Retries", retried)
}

const timeline = (branches: ReadonlyArray<Branch>, now: number): string => {
  if (branches.length === 0) return ""
  const { from, to } = spanOf(branches, now)
  const rows = branches.slice(0, rowsShown).map(({ level, task }) => {
    const { waited, worked } = timesOf(task, now)
    const words = `${waited > 0 ? `waited ${formatDuration(waited)}, ` : ""}worked ${formatDuration(worked)}`
    const at = share(task.createdAt - from, to - from)
    const wait = share(waited, to - from)
    // Of one that never began the end shows all the same.
    const work = task.startedAt === undefined && !isSettled(task)
      ? ""
      : `<span class="work ${task.state}" style="left:min(${round(at + wait)}%,calc(100% - 3px));width:${
        share(worked, to - from)
      }%"></span>`
    return `<li><span class="who" style="padding-left:${Math.min(level, 8) * 12}px">${escape(task.agent)}: ${
      isolated(firstLine(task.description))
    }</span><span class="track" role="img" aria-label="${words}" title="${words}"><span class="wait" style="left:${at}%;width:${wait}%"></span>${work}</span></li>`
  })
  const keys = [
    ["wait", "in line for a slot"],
    ["work completed", "at work, ended well"],
    ["work failed", "failed"],
    ["work timed_out", "out of time"],
    ["work cancelled", "cancelled"],
    ["work running", "under way"]
  ].map(([mark, words]) => `<span class="with"><span class="key ${mark}"></span>${words}</span> `)
  const more = branches.length > rowsShown ? `<p class="note">and ${branches.length - rowsShown} more tasks</p>` : ""
  return block(
    "Timeline",
    `<ol class="timeline">${rows.join("")}</ol>${axis(from, to)}${more}<p class="note">${
      keys.join("")
    }</p><p class="note">A task at work may itself wait for tasks of its own, or for a provider: the records do not keep when.</p>`
  )
}

const spanOf = (branches: ReadonlyArray<Branch>, now: number) => {
  const from = Math.min(...branches.map(({ task }) => task.createdAt))
  return { from, to: Math.max(from + 1, ...branches.map(({ task }) => task.endedAt ?? now)) }
}

/** Round times since the first task. The last stands left of its place when it would leave the page. */
const axis = (from: number, to: number): string => {
  const step = tickSteps.find((step) => step * mostTicks >= to - from) ?? (to - from) / mostTicks
  const ticks = Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, index) => {
    const at = share(index * step, to - from)
    const side = index === 0 ? "first" : at > 94 ? "last" : ""
    return `<span class="${side}" style="left:${at}%">${index === 0 ? "0" : formatDuration(index * step)}</span>`
  })
  return `<div class="axis"><span class="who"></span><span class="ticks">${ticks.join("")}</span></div>`
}

const mostTicks = 5
const [second, minute, hour] = [1_000, 60_000, 3_600_000]
const tickSteps = [
  [1, 2, 5, 10, 20, 50, 100, 200, 500],
  [1, 2, 5, 10, 15, 30].map((count) => count * second),
  [1, 2, 5, 10, 15, 30].map((count) => count * minute),
  [1, 2, 3, 6, 12, 24, 48, 120, 240].map((count) => count * hour)
].flat()

/** What the tasks have used by and by, on the scale of the timeline: two lines, each as high as its sum. */
const spending = (branches: ReadonlyArray<Branch>, now: number): string => {
  const { from, to } = spanOf(branches, now)
  const steps = branches.map(({ task: { endedAt, usage } }) => ({
    at: endedAt ?? now,
    tokens: totalTokens(usage),
    cost: usage.cost
  })).toSorted((a, b) => a.at - b.at)
  const lines = (["tokens", "cost"] as const).flatMap((name) => {
    const sum = steps.reduce((sum, step) => sum + step[name], 0)
    if (sum === 0) return []
    let used = 0
    const path = steps.map((step) => {
      used += step[name]
      return `H${share(step.at - from, to - from) * 10}V${round(100 - used / sum * 98)}`
    })
    return { name, sum: name === "cost" ? money(sum) : formatCount(sum), path: `M0 100${path.join("")}H1000` }
  })
  if (lines.length === 0) return ""
  const words = lines.map(({ name, sum }) => `${name} up to ${sum}`).join(", ")
  const keys = lines.map(({ name, sum }) => `<span class="key line ${name}"></span>${name}, up to ${sum}`)
  return block(
    "Tokens and cost over time",
    `<div class="axis"><span class="who">${
      keys.map((key) => `<span class="with">${key}</span>`).join("<br>")
    }</span><svg class="spending" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="${words}">${
      lines.map(({ name, path }) => `<path class="${name}" d="${path}"/>`).join("")
    }</svg></div>${
      axis(from, to)
    }<p class="note">Of the tasks, each counted at its end; the Commander's own turns are in the sums above.</p>`
  )
}

const table = (branches: ReadonlyArray<Branch>, now: number): string => {
  if (branches.length === 0) return block("Tasks", "<p>No task was delegated.</p>")
  const head = ["Task", "Agent", "State", ...numberNames]
  const rows = branches.map(({ level, task }) => {
    const { waited, worked } = timesOf(task, now)
    const numbers = [
      formatDuration(waited),
      task.startedAt === undefined ? "–" : formatDuration(worked),
      task.run,
      task.tries?.spent ?? 0,
      formatCount(totalTokens(task.usage)),
      money(task.usage.cost)
    ].map((value, at) => `<td class="n" data-name="${numberNames[at]}">${value}</td>`)
    const model = task.model === undefined ? "" : `<br><small>${escape(formatModel(task.model))}</small>`
    return `<tr><td style="--level:${Math.min(level, 8)}">${named(task)}</td><td><bdi>${
      escape(task.agent)
    }</bdi>${model}</td><td>${badge(task)}</td>${numbers.join("")}</tr>`
  })
  return block(
    "Tasks",
    `<div class="scroll"><table class="tasks"><thead><tr>${
      head.map((name, at) => `<th scope="col"${at > 2 ? " class=\"n\"" : ""}>${name}</th>`).join("")
    }</tr></thead><tbody>${rows.join("")}</tbody></table></div>`
  )
}

const numberNames = ["Waited", "Worked", "Runs", "Retries", "Tokens", "Cost"]

const results = (tasks: ReadonlyArray<Task>): string => {
  const settled = tasks.filter(isSettled)
  if (settled.length === 0) return ""
  return block(
    "Results",
    settled.map((task) =>
      `<details id="${escape(task.id)}"><summary>${isolated(firstLine(task.description))} <small>${
        escape(task.agent)
      } · <code>${escape(task.id)}</code></small> ${badge(task)}</summary>${text(outcome(task))}</details>`
    ).join("")
  )
}

// ---- pieces ---------------------------------------------------------------------------------------------------------

const named = (task: Task): string => {
  const name = `${isolated(firstLine(task.description))}<br><small><code>${escape(task.id)}</code></small>`
  return isSettled(task) ? `<a href="#${escape(task.id)}">${name}</a>` : `<span>${name}</span>`
}

const badge = ({ state }: Task): string => `<span class="state ${state}">${state.replaceAll("_", " ")}</span>`

/** Whole, up to a length that a browser still shows without trouble. Markdown is shown as it was written. */
const text = (content: string): string => {
  const left = content.length - textChars
  const note = left > 0 ? `<p class="note">${left} characters more; the records have all of it.</p>` : ""
  return `<pre>${escape(content.slice(0, textChars))}</pre>${note}`
}

const textChars = 50_000
const rowsShown = 500

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "\"": "&quot;",
  "'": "&#39;"
}

/** For text and for attributes in quotes. What would steer a terminal, or turn the direction of the text, shows as a mark. */
const escape = (content: string): string =>
  content.toWellFormed()
    .replace(/[^\P{Cc}\t\n]|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, "\ufffd")
    .replace(/[&<>"']/g, (character) => escapes[character] ?? "")

/** In its own direction, which does not turn what stands around it. */
const isolated = (content: string): string => `<bdi>${escape(content)}</bdi>`

const firstLine = (content: string): string => {
  const line = content.trim().split("\n")[0]?.trim() ?? ""
  return line.length <= 160 ? line : `${line.slice(0, 159)}…`
}

const round = (value: number): number => Math.round(value * 100) / 100

/** A percentage from 0 to 100. */
const share = (part: number, whole: number): number =>
  whole <= 0 ? 0 : round(Math.max(0, Math.min(1, part / whole)) * 100)

const money = (cost: number): string => `$${cost.toFixed(cost < 10 ? 4 : 2)}`

const time = (ms: number): string => {
  const iso = DateTime.formatIso(DateTime.makeUnsafe(ms))
  return `<time datetime="${iso}">${iso.slice(0, 19).replace("T", " ")} UTC</time>`
}

const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`

const style = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#59636e;--line:#d8dee4;--soft:#f3f5f7;--ok:#1a7f37;--bad:#c52834;--warn:#9a6700;--off:#6e7781;--run:#0a66c2;--wait:#b9c3ce}
@media (prefers-color-scheme:dark){:root{--bg:#0e1116;--fg:#e4e8ed;--dim:#98a3af;--line:#2c333c;--soft:#171c23;--ok:#3fb950;--bad:#ff6b63;--warn:#d9a52b;--off:#8b949e;--run:#58a6ff;--wait:#4b5764}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 48px}
.kind{margin:0;color:var(--dim)}
h1{margin:2px 0 8px;font-size:26px;line-height:1.25;overflow-wrap:anywhere}
h2{margin:36px 0 10px;font-size:18px}
p,li,dd,td,summary{overflow-wrap:anywhere}
a{color:inherit;text-decoration-color:var(--line);text-underline-offset:3px}
small,.note{color:var(--dim);font-size:13px}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
pre{margin:0;padding:12px 14px;background:var(--soft);border-radius:8px;white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
.facts{display:flex;flex-wrap:wrap;gap:12px 36px;margin:20px 0 0;padding:16px 18px;background:var(--soft);border-radius:10px}
.facts dt{color:var(--dim);font-size:13px}.facts dd{margin:0;font-weight:600}
table{border-collapse:collapse;width:100%}
th,td{padding:7px 8px;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
th{font-weight:600;color:var(--dim);font-size:13px}
tbody th{font-size:inherit;color:inherit;font-weight:400}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto}.tasks{min-width:820px}.tasks td:first-child{min-width:220px;padding-left:calc(8px + var(--level)*14px)}.tasks td:nth-child(2){min-width:120px}
ul{padding-left:22px}li{margin:4px 0}.timeline li{margin:0}
.budgets td:last-child{white-space:nowrap;text-align:right}.wide{width:60%}
.gauge{display:block;height:10px;margin-top:6px;background:var(--soft);border-radius:5px;overflow:hidden}
.gauge span{display:block;height:100%}.within{background:var(--run)}.near{background:var(--warn)}.over{background:var(--bad)}
.state{display:inline-block;padding:0 8px;border:1px solid currentColor;border-radius:10px;font-size:12px;line-height:18px;white-space:nowrap;color:var(--off)}
.state.completed,.state.complete{color:var(--ok)}.state.failed,.state.halted{color:var(--bad)}.state.timed_out,.state.out_of_budget{color:var(--warn)}.state.running,.state.launching,.state.active{color:var(--run)}
.timeline{list-style:none;margin:0;padding:0}
.timeline li,.axis{display:flex;align-items:center;gap:12px}
.timeline li{padding:3px 0}
.who{flex:0 0 34%;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;font-size:13px}
.track{position:relative;flex:1;height:16px;background:var(--soft);border-radius:4px}
.track span{position:absolute;top:0;height:100%;border-radius:4px}
.wait{background:repeating-linear-gradient(135deg,var(--wait) 0 3px,transparent 3px 6px)}
.track .work{min-width:3px}
.work{background:var(--off)}.work.completed{background:var(--ok)}.work.failed{background:var(--bad)}.work.timed_out{background:var(--warn)}.work.running,.work.launching{background:var(--run)}.work.queued{background:none}
.ticks{flex:1;position:relative;height:18px;color:var(--dim);font-size:12px;line-height:18px;white-space:nowrap}
.ticks span{position:absolute;transform:translateX(-50%)}.ticks .first{transform:none}.ticks .last{transform:translateX(-100%)}
.with{white-space:nowrap;margin-right:10px}.spending{flex:1;min-width:0;height:120px;background:var(--soft);border-radius:4px}.spending path{fill:none;stroke-width:2;vector-effect:non-scaling-stroke}
.spending .tokens{stroke:var(--run)}.spending .cost{stroke:var(--warn);stroke-dasharray:6 4}.key.line{height:0;border-radius:0;border-top:2px solid var(--run);vertical-align:middle}.key.line.cost{border-top:2px dashed var(--warn)}
.key{display:inline-block;width:18px;height:10px;margin-right:6px;border-radius:3px}
details{border-bottom:1px solid var(--line);padding:8px 0}summary{cursor:pointer}details pre{margin-top:8px}
footer{margin-top:40px;color:var(--dim);font-size:13px;overflow-wrap:anywhere}
@media (max-width:640px){main{padding:20px 16px 40px}h1{font-size:22px}.facts{gap:12px 24px}.wide{width:35%}.ticks span:nth-child(even){display:none}
.timeline li{display:block;padding:5px 0}.timeline .who,.axis .who{display:block}.track{display:block}.axis{display:block}.ticks{display:block}.spending{display:block;width:100%}}
@media (max-width:880px){.tasks{min-width:0}.tasks thead{display:none}.tasks,.tasks tbody{display:block}.tasks tr{display:flex;flex-wrap:wrap;gap:2px 14px;padding:10px 0;border-bottom:1px solid var(--line)}.tasks td{padding:0;border:0;min-width:0}.tasks td:first-child{flex:0 0 100%;padding-left:calc(var(--level)*14px)}.tasks .n{font-size:13px}.tasks td:nth-child(2){flex:1 1 calc(100% - 120px)}.n[data-name]::before{content:attr(data-name) " ";color:var(--dim)}}
@media print{details>*{display:block}main{max-width:none}}
`
