/** Builds `dist/`: the plugin and the command line as one file each, the library with its types, the config's schema. */
import { Schema } from "effect"
import { execFileSync } from "node:child_process"
import { rmSync, writeFileSync } from "node:fs"
import { dirname, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { type Plugin, rolldown } from "rolldown"
import { RunLine } from "../adapters/node-cli/runLines.ts"
import { ConfigSchema } from "../src/Config.ts"

const root = fileURLToPath(new URL("..", import.meta.url))
process.chdir(root)
rmSync("dist", { recursive: true, force: true })

const bundle = async (input: string, file: string, banner = "", plugins: ReadonlyArray<Plugin> = []) => {
  const build = await rolldown({
    input,
    plugins: [...plugins],
    platform: "node",
    // The UMD build of jsonc-parser cannot be bundled; its "module" build can.
    resolve: { mainFields: ["module", "main"] },
    external: ["opencode-ai"]
  })
  await build.write({ file, format: "esm", minify: true, codeSplitting: false, banner })
  await build.close()
}

await bundle("adapters/opencode-plugin/index.ts", "dist/plugin.js")
await bundle("adapters/node-cli/main.ts", "dist/cli.js", "#!/usr/bin/env node")
// What library users have anyway, the core and effect, is not in the bundle a second time.
await bundle("adapters/node/index.ts", "dist/node.js", "", [{
  name: "library",
  resolveId: (id, importer) => {
    if (/^effect(\/|$)/.test(id)) return { id, external: true }
    const file = importer === undefined ? id : relative(root, resolve(dirname(importer), id))
    return file.startsWith("src/") ? { id: `./lib/${file.replace(/\.ts$/, ".js")}`, external: true } : null
  }
}])
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
const plugin: { readonly default?: { readonly server?: unknown } } = await import(
  new URL("../dist/plugin.js", import.meta.url).href
)
if (typeof plugin.default?.server !== "function") throw new Error("dist/plugin.js does not export a plugin")
