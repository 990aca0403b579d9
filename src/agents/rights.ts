/** Rights that all agents share. */
import type { Permission } from "../domain/Agent.ts"

/** Reading and searching in the project. Files that often hold secrets keep the host's own question. */
export const reading: Readonly<Record<string, Permission>> = {
  read: { "*": "allow", "*.env": "ask", "*.env.*": "ask", "*.env.example": "allow" },
  glob_search: "allow",
  grep_search: "allow",
  mgrep: "allow"
}

/** Running commands. Whoever can start one can also see what runs, and stop it. */
export const running: Readonly<Record<string, Permission>> = {
  bash: "allow",
  run_background: "allow",
  check_background: "allow",
  list_background: "allow",
  kill_background: "allow"
}

/** Reading the web. */
export const web: Readonly<Record<string, Permission>> = { webfetch: "allow", websearch: "allow", codesearch: "allow" }
