/** Run as a process of its own by DocumentCache.test.ts: writes 50 documents of its own, and 10 that its twin writes too. */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Config, defaults } from "../../src/Config.ts"
import { DocumentCache } from "../../src/documents/DocumentCache.ts"
import { Instance } from "../../src/host/Instance.ts"

const [, , root = "", name = ""] = process.argv

const instance = Layer.succeed(Instance, {
  root,
  owner: { pid: process.pid, startedAt: "1", machine: "abcdef" },
  isAlive: () => Effect.succeed("alive" as const)
})

await Effect.runPromise(
  DocumentCache.use((cache) =>
    Effect.forEach(
      Array.from({ length: 60 }, (_, n) => n < 50 ? `${name}/${n}` : `both/${n - 50}`),
      (path) =>
        cache.put({
          source: `https://site.test/${path}`,
          title: name,
          kind: "text",
          text: `${name} ${"x".repeat(20_000)}`
        }),
      { concurrency: "unbounded" }
    )
  ).pipe(Effect.provide(
    DocumentCache.layer.pipe(Layer.provide([instance, Config.layer(defaults)]), Layer.provide(NodeServices.layer))
  ))
)
