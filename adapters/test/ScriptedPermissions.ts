/** The user's answers to what tools ask, by a script; what was asked is kept. */
import { Effect } from "effect"
import { type Caller, PermissionDenied, type PermissionRequest } from "../../src/tools/Tool.ts"

export interface ScriptedPermissions {
  readonly ask: Caller["ask"]
  /** All requests so far, oldest first. */
  readonly asked: Effect.Effect<ReadonlyArray<PermissionRequest>>
}

/** Allows everything, unless `answer` says "reject". */
export const make = (
  answer: (request: PermissionRequest) => "allow" | "reject" = () => "allow"
): ScriptedPermissions => {
  const asked: Array<PermissionRequest> = []
  return {
    ask: (request) =>
      Effect.suspend(() => {
        asked.push(request)
        if (answer(request) === "allow") return Effect.void
        const { patterns, permission } = request
        return Effect.fail(new PermissionDenied({ permission, patterns, reason: "the user rejected it" }))
      }),
    asked: Effect.sync(() => [...asked])
  }
}
