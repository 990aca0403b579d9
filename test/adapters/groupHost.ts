/** A host of one process group, to be killed: its arguments are how processes are found, the id and the command. */
import { NodeServices } from "@effect/platform-node"
import { Duration, Effect, Layer } from "effect"
import * as NodeProcessGroups from "../../adapters/node-process/NodeProcessGroups.ts"
import { CommandId } from "../../src/domain/Command.ts"
import { ProcessGroups } from "../../src/host/ProcessGroups.ts"

const [platform, id = "", command = ""] = process.argv.slice(2)

await Effect.runPromise(
  Effect.gen(function*() {
    const groups = yield* ProcessGroups
    yield* groups.start({ id: CommandId.make(id), command, cwd: "/", grace: Duration.millis(500) })
    return yield* Effect.never
  }).pipe(
    Effect.scoped,
    Effect.provide(
      Layer.provide(NodeProcessGroups.layerOn(platform === "darwin" ? platform : "linux"), NodeServices.layer)
    )
  )
)
