/** Builds `dist/`: the plugin and the command line as one file each, the plugin's second entry, the library with its types, the config's schema. */
import { Schema } from "effect"
import { execFileSync } from "node:child_process"
import { rmSync, writeFileSync } from "node:fs"
import { dirname, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { rolldown } from "rolldown"
import { RunLine } from "../adapters/node-cli/runLines.ts"
import { ConfigSchema } from "../src/Config.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
process.chdir(root)
rmSync("dist", { recursive: true, force: true })

/** `elsewhere` says what stands in another file, where that is beside this one. */
const bundle = async (
  input: string,
  file: string,
  { banner = "", elsewhere = () => undefined }: {
    readonly banner?: string
    readonly elsewhere?: (name: string) => string | undefined
  } = {}
) => {
  const build = await rolldown({
    input,
    plugins: [{
      name: "elsewhere",
      resolveId: (id, importer) => {
        const isFile = importer !== undefined && id.startsWith(".")
        const known = elsewhere(isFile ? relative(root, resolve(dirname(importer), id)) : id)
        return known === undefined ? null : { id: known, external: true }
      }
    }],
    platform: "node",
    // The UMD build of jsonc-parser cannot be bundled; its "module" build can.
    resolve: { mainFields: ["module", "main"] },
    external: ["opencode-ai"]
  })
  await build.write({ file, format: "esm", minify: true, codeSplitting: false, banner })
  await build.close()
}

await bundle("adapters/opencode-plugin/index.ts", "dist/plugin.js")
await bundle("adapters/opencode-plugin/fallback.ts", "dist/fallback.js", {
  elsewhere: (name) => (name === "adapters/opencode-plugin/index.ts" ? "./plugin.js" : undefined)
})
await bundle("adapters/node-cli/main.ts", "dist/cli.js", { banner: "#!/usr/bin/env node" })
// What library users have anyway, the core and effect, is not in the bundle a second time.
await bundle("adapters/node/index.ts", "dist/node.js", {
  elsewhere: (name) =>
    /^effect(\/|$)/.test(name)
      ? name
      : name.startsWith("src/")
      ? `./lib/${name.replace(/\.ts$/, ".js")}`
      : undefined
})
for (const config of ["tsconfig.build.json", "tsconfig.node.json"]) {
  execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", "-p", config], { stdio: "inherit" })
}

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
