import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, FileSystem, Layer, Path } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { fileURLToPath } from "node:url"
import { startHost } from "../../adapters/test/RealHost.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

it.live("the packed tarball, unpacked, is a plugin that OpenCode loads", () =>
  Effect.gen(function*() {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
    const folder = yield* fs.makeTempDirectoryScoped({ prefix: "orchestrator-package-" })
    yield* spawner.string(
      ChildProcess.make("npm", ["pack", "--ignore-scripts", "--silent", "--pack-destination", folder], { cwd: root })
    )
    const [tarball = ""] = yield* fs.readDirectory(folder)
    yield* spawner.string(ChildProcess.make("tar", ["-xf", tarball], { cwd: folder }))
    const host = yield* startHost({ plugin: [`file://${path.join(folder, "package")}`] })
    const tools = (yield* Effect.promise(() => host.client.tool.ids())).data ?? []
    for (const name of ["delegate_task", "get_task_result", "list_tasks", "cancel_task", "call_agent"]) {
      assert.include(tools, name)
    }
  }).pipe(
    Effect.scoped,
    Effect.provide(ScriptedModel.layer(() => Effect.succeed({ text: "" })).pipe(Layer.provideMerge(NodeServices.layer)))
  ))
