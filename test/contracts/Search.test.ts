import { spawnSync } from "node:child_process"
import * as RipgrepSearch from "../../adapters/node-search/RipgrepSearch.ts"
import * as ThreadSearch from "../../adapters/node-search/ThreadSearch.ts"
import { searchContract } from "./Search.ts"

const hasRipgrep = spawnSync("rg", ["--version"]).status === 0

searchContract("on a thread", ThreadSearch.layer)
searchContract("with ripgrep", RipgrepSearch.layer(), hasRipgrep ? undefined : "no rg on the PATH")
searchContract("with ripgrep where there is none", RipgrepSearch.layer("no-such-ripgrep"))
