/**
 * The port to searching in files: lines by regular expressions, files by their paths. Every adapter gives the same
 * answers: what is ignored, binary or huge is left out, links are not followed, all comes in the order of paths, and no
 * pattern takes more time than in proportion to what is searched. Nothing blocks the event loop.
 */
import { Context, type Effect, Schema } from "effect"
import type { FilesQuery, FoundFiles, FoundLines, LinesQuery } from "./Query.ts"

export class BadPattern extends Schema.TaggedError<BadPattern>()("BadPattern", {
  pattern: Schema.String,
  /** Counted from 1; absent where the pattern as a whole is at fault. */
  position: Schema.optionalKey(Schema.Int),
  problem: Schema.String
}) {
  override get message() {
    const where = this.position === undefined ? "" : ` at character ${this.position}`
    return `The pattern ${
      JSON.stringify(this.pattern)
    } cannot be used${where}: ${this.problem}. Correct it and call again.`
  }
}

export class SearchFailed extends Schema.TaggedError<SearchFailed>()("SearchFailed", { reason: Schema.String }) {
  override get message() {
    return `The search failed: ${this.reason}. Narrow dir or the pattern and call again.`
  }
}

export class Search extends Context.Service<Search, {
  /** What each pattern finds, in the order of the patterns. Stops when interrupted. */
  readonly lines: (query: LinesQuery) => Effect.Effect<ReadonlyArray<FoundLines>, BadPattern | SearchFailed>
  /** The files whose paths match. Stops when interrupted. */
  readonly files: (query: FilesQuery) => Effect.Effect<FoundFiles, BadPattern | SearchFailed>
}>()("orchestrator/search/Search") {}
