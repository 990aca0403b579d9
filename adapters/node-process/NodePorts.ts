/** Every port of the core that Node itself serves, the same for the plugin and the command line. */
import { NodeChildProcessSpawner, NodeFileSystem, NodePath } from "@effect/platform-node"
import { Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { makeMask, secretsOf } from "../../src/domain/Secrets.ts"
import { Mask } from "../../src/host/Mask.ts"
import * as RipgrepSearch from "../node-search/RipgrepSearch.ts"
import * as HtmlReader from "../node-web/HtmlReader.ts"
import * as NodeNetwork from "../node-web/NodeNetwork.ts"
import * as NodeInstance from "./NodeInstance.ts"
import * as NodeProcessGroups from "./NodeProcessGroups.ts"

/** For an instance in the project of `root`. What is left are the host's own: SessionClient and Notifier. */
export const layer = (root: string) =>
  Layer.mergeAll(
    NodeInstance.layer(root),
    NodeProcessGroups.layer,
    RipgrepSearch.layer(),
    NodeNetwork.layer({ hasProxy: Object.keys(process.env).some((name) => /^https?_proxy$/i.test(name)) }),
    HtmlReader.layer,
    searchClient,
    Layer.succeed(Mask, makeMask(secretsOf(process.env)))
  ).pipe(
    Layer.provideMerge(
      NodeChildProcessSpawner.layer.pipe(Layer.provideMerge(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer)))
    )
  )

/** For search providers, which are given keys: a redirect would carry those elsewhere, so none is followed. */
const searchClient = FetchHttpClient.layer.pipe(
  Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" }))
)
