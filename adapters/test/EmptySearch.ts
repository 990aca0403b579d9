/** The search port where there is nothing to find: the simulated project holds no files that could be searched. */
import { Effect, Layer } from "effect"
import { Search } from "../../src/search/Search.ts"

export const layer: Layer.Layer<Search> = Layer.succeed(Search, {
  lines: ({ patterns }) => Effect.succeed(patterns.map(() => ({ lines: [], total: 0, files: 0 }))),
  files: () => Effect.succeed({ paths: [], total: 0 })
})
