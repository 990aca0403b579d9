import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import * as OpencodeSessionClient from "../../adapters/opencode-sdk/OpencodeSessionClient.ts"
import { pluginUrl, shortLived, startHost } from "../../adapters/test/RealHost.ts"
import { ScriptedModel } from "../../adapters/test/ScriptedModel.ts"
import { Ids } from "../../src/Ids.ts"
import { asker, contractScript, sessionClientContract } from "../contracts/SessionClient.ts"

const real = Layer.unwrap(Effect.gen(function*() {
  const { directory, url } = yield* startHost({
    plugin: [pluginUrl],
    env: shortLived,
    config: { agent: { [asker.name]: { mode: "primary", permission: { bash: "ask" } } } }
  })
  return OpencodeSessionClient.layer({ url, directory })
})).pipe(
  Layer.provide(ScriptedModel.layer(contractScript())),
  Layer.provide(NodeServices.layer),
  Layer.provideMerge(Ids.layer)
)

sessionClientContract("the real OpenCode", real)
