import { NodeFileSystem } from "@effect/platform-node"
import { Layer } from "effect"
import * as MemoryFileSystem from "../../adapters/test/MemoryFileSystem.ts"
import { fileSystemContract } from "./FileSystem.ts"

fileSystemContract("Node's", NodeFileSystem.layer)
fileSystemContract("in memory", Layer.provide(MemoryFileSystem.layer, MemoryFileSystem.MemoryDisk.layer))
