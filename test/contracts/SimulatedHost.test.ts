import { Layer } from "effect"
import { SimulatedHost } from "../../adapters/test/SimulatedHost.ts"
import { Ids } from "../../src/Ids.ts"
import { asker, contractScript, sessionClientContract } from "./SessionClient.ts"

sessionClientContract(
  "the simulated OpenCode",
  Layer.mergeAll(SimulatedHost.layer({ script: contractScript(), agents: [asker] }), Ids.layer)
)
