/**
 * The port to the network, where effect's HttpClient cannot keep the promise: it resolves names by itself, and in the
 * host's runtime goes through any proxy that the environment names. Here the address is chosen by the caller.
 */
import { Context, type Effect, Schema, type Scope, type Stream } from "effect"

/** The name has no address, nobody answered, or what came was not HTTP. */
export class NetworkFailed extends Schema.TaggedError<NetworkFailed>()("NetworkFailed", {
  host: Schema.String,
  why: Schema.String
}) {
  override get message() {
    return `${this.host} could not be reached: ${this.why}. Check the address, or try another source.`
  }
}

/** One request, to one address. */
export interface Exchange {
  readonly scheme: "http" | "https"
  /** The address to connect to, in digits. It is never resolved again. */
  readonly address: string
  readonly port: number
  /** Whom the server is asked for, and whom its certificate must name. */
  readonly name: string
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

export interface Answer {
  readonly status: number
  /** By lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  /** What was sent, unpacked. It may be endless: whoever reads it says how much. */
  readonly body: Stream.Stream<Uint8Array, NetworkFailed>
}

export class Network extends Context.Service<Network, {
  /** All addresses of a name, in digits, as the system's resolver orders them. */
  readonly resolve: (name: string) => Effect.Effect<ReadonlyArray<string>, NetworkFailed>
  /** Sends a GET to that address and no other: redirects are not followed, proxies not used. Closed with the scope. */
  readonly exchange: (exchange: Exchange) => Effect.Effect<Answer, NetworkFailed, Scope.Scope>
}>()("orchestrator/host/Network") {}
