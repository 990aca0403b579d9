/** Reads the orchestrator's settings: the plugin's options in the host's config, and `.opencode/orchestrator.jsonc` over them. */
import { Effect, FileSystem, Path } from "effect"
import { parse, type ParseError, printParseErrorCode } from "jsonc-parser"
import { type ConfigValues, readConfig } from "../../src/Config.ts"

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

/** The settings in force, and a sentence for each that was not understood. Never fails. */
export const loadConfig = Effect.fnUntraced(function*(root: string, options: unknown) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = ".opencode/orchestrator.jsonc"
  const problems: Array<string> = []
  let settings: unknown = {}
  const text = yield* fs.readFileString(path.join(root, file)).pipe(
    Effect.catch((error) =>
      Effect.sync(() => {
        if (error.reason._tag !== "NotFound") {
          problems.push(`${file} cannot be read (${error.reason._tag}); the defaults are used.`)
        }
        return undefined
      })
    )
  )
  if (text !== undefined) {
    const errors: Array<ParseError> = []
    settings = parse(text, errors, { allowTrailingComma: true, allowEmptyContent: true }) ?? {}
    const [first] = errors
    if (first !== undefined) {
      const line = text.slice(0, first.offset).split("\n").length
      problems.push(`${file} line ${line}: ${printParseErrorCode(first.error)}; what is readable is used.`)
    }
  }
  const fromOptions = readConfig(options ?? {}, "plugin options")
  const fromFile = readConfig(settings, file)
  const merged = readConfig(merge(options ?? {}, settings), "both")
  const loaded: { readonly values: ConfigValues; readonly problems: ReadonlyArray<string> } = {
    values: merged.values,
    problems: [...problems, ...fromOptions.problems, ...fromFile.problems]
  }
  return loaded
})

const merge = (under: unknown, over: unknown): unknown => {
  if (!isRecord(under)) return over
  if (!isRecord(over)) return under
  const names = new Set([...Object.keys(under), ...Object.keys(over)])
  return Object.fromEntries(
    [...names].map((name) => [name, name in over ? merge(under[name], over[name]) : under[name]])
  )
}
