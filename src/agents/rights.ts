/** Rights that all agents share. */
import type { Permission } from "../domain/Agent.ts"

/** Reading and searching in the project. Files that often hold secrets keep the host's own question. */
export const reading: Readonly<Record<string, Permission>> = {
  read: { "*": "allow", "*.env": "ask", "*.env.*": "ask", "*.env.example": "allow" },
  glob_search: "allow",
  grep_search: "allow",
  mgrep: "allow"
}

/** Reading the web. */
export const web: Readonly<Record<string, Permission>> = { webfetch: "allow", websearch: "allow", codesearch: "allow" }
