/** Builds `dist/`: the plugin and the command line as one file each, the plugin's second entry, the library with its types, the config's schema. */
import { Schema } from "effect"
import { execFileSync } from "node:child_process"
import { rmSync, writeFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { RunLine } from "../adapters/node-cli/runLines.ts"
import { ConfigSchema } from "../src/Config.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
process.chdir(root)
rmSync("dist", { recursive: true, force: true })

const pluginEntry = `${root}adapters/opencode-plugin/index.ts`

const bundle = async (input: string, file: string, banner = "") => {
  const build = await rolldown({
    input,
    platform: "node",
    // The UMD build of jsonc-parser cannot be bundled; its "module" build can.
    resolve: { mainFields: ["module", "main"] },
    external: ["opencode-ai", ...(input.endsWith("fallback.ts") ? [pluginEntry] : [])]
  })
  await build.write({
    file,
    format: "esm",
    minify: true,
    codeSplitting: false,
    banner,
    paths: { [pluginEntry]: "./plugin.js" }
  })
  await build.close()
}

await bundle("adapters/opencode-plugin/index.ts", "dist/plugin.js")
await bundle("adapters/opencode-plugin/fallback.ts", "dist/fallback.js")
await bundle("adapters/node-cli/main.ts", "dist/cli.js", "#!/usr/bin/env node")
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json"], { stdio: "inherit" })

const writeSchema = (schema: Schema.Top, file: string) => {
  const document = Schema.toJsonSchemaDocument(schema)
  writeFileSync(
    file,
    JSON.stringify(
      { $schema: "https://json-schema.org/draft/2020-12/schema", ...document.schema, $defs: document.definitions },
      null,
      2
    ) + "\n"
  )
}
writeSchema(ConfigSchema, "dist/config.schema.json")
writeSchema(RunLine, "dist/run.schema.json")

// A plugin that cannot be imported is skipped by the host without a word, so find out here.
for (const file of ["dist/plugin.js", "dist/fallback.js"]) {
  const plugin: { readonly default?: { readonly server?: unknown } } = await import(
    new URL(`../${file}`, import.meta.url).href
  )
  if (typeof plugin.default?.server !== "function") throw new Error(`${file} does not export a plugin`)
}
