/** Which addresses may be reached: public ones, and those that the settings allow. Pure. */
import { Option, Result, Schema } from "effect"
import { Url } from "effect/http"
import { IpNetwork, NetAddress } from "effect/net"

export class BadUrl extends Schema.TaggedError<BadUrl>()("BadUrl", { url: Schema.String, why: Schema.String }) {
  override get message() {
    return `${this.url} is not fetched: ${this.why}.`
  }
}

/** What a URL says, in the parts that matter here. */
export interface WebUrl {
  /** Without fragment. Two that are equal ask for the same thing. */
  readonly href: string
  readonly scheme: "http" | "https"
  /** The name or the address in digits; without brackets, without the root's dot. */
  readonly host: string
  readonly port: number
  /** Path and query. */
  readonly path: string
  /** Scheme, host and port. */
  readonly origin: string
}

const longest = 4_096

/** Reads a URL, or a reference from one. Whatever notation its host is in (decimal, octal, Unicode) comes out as one. */
export const parseUrl = (text: string, base?: string): Result.Result<WebUrl, BadUrl> => {
  const bad = (why: string) => Result.fail(new BadUrl({ url: quote(text), why }))
  if (text.length > longest) return bad(`it is longer than ${longest} characters`)
  const parsed = Url.fromString(text, base)
  if (Result.isFailure(parsed)) return bad("it is no complete URL, such as https://example.com/page")
  const { hostname, password, pathname, port, protocol, search, username } = parsed.success
  if (protocol !== "http:" && protocol !== "https:") return bad("only http and https are")
  if (username !== "" || password !== "") {
    return Result.fail(
      new BadUrl({ url: "The URL", why: "it holds a user name or password; send none to a site this way" })
    )
  }
  const scheme = protocol === "http:" ? "http" : "https"
  const isV6 = hostname.startsWith("[")
  const host = isV6 ? hostname.slice(1, -1) : hostname.replace(/\.$/, "")
  if (host === "" || host.startsWith(".") || host.includes("..")) return bad("its host has no name")
  const number = port === "" ? (scheme === "http" ? 80 : 443) : Number(port)
  if (number === 0) return bad("port 0 is none")
  const origin = `${scheme}://${isV6 ? `[${host}]` : host}${port === "" ? "" : `:${port}`}`
  const path = `${pathname}${search}`
  return Result.succeed({ href: `${origin}${path}`, scheme, host, port: number, path, origin })
}

const quote = (text: string) => {
  // Never repeat what may be a password.
  const shown = text.replace(/\/\/[^/?#]*@/, "//…@")
  return `"${shown.length > 200 ? `${shown.slice(0, 200)}…` : shown}"`
}

/** Something that may be reached although it is not public: a name, or addresses; at one port or all. */
interface Exception {
  readonly name: string | undefined
  readonly network: IpNetwork.IpNetwork | undefined
  readonly port: number | undefined
}

/** Reads one entry of the setting `web.allow`: `localhost:3000`, `10.0.0.0/8`, `[fd00::1]:8080`, `wiki.corp`. */
export const parseException = (entry: string): Option.Option<Exception> => {
  const match =
    /^(?:\[(?<v6>[^\]]+)\]|(?<plain>[^:[\]]+)|(?<bare>[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:./]*))(?::(?<port>\d{1,5}))?$/i
      .exec(entry.trim())
  if (match?.groups === undefined) return Option.none()
  const { bare, plain, v6 } = match.groups
  const host = v6 ?? bare ?? plain ?? ""
  const port = match.groups["port"] === undefined ? undefined : Number(match.groups["port"])
  if (port !== undefined && (port < 1 || port > 65_535)) return Option.none()
  if (host.includes("/")) {
    return Option.map(Result.getSuccess(IpNetwork.fromString(host)), (network) => ({ name: undefined, network, port }))
  }
  const address = Result.getSuccess(NetAddress.ipFromString(host))
  if (Option.isSome(address)) {
    return Option.map(
      Result.getSuccess(IpNetwork.make(address.value, NetAddress.width(address.value))),
      (network) => ({ name: undefined, network, port })
    )
  }
  if (!/^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/i.test(host)) return Option.none()
  return Option.some({ name: host.toLowerCase(), network: undefined, port })
}

/** An address in digits, as it stands in a URL or comes from a resolver. One with a zone is none: it is link-local. */
export const parseAddress = (text: string): Option.Option<NetAddress.IpAddress> =>
  Result.getSuccess(NetAddress.ipFromString(text))

/** Why an address of `url` must not be reached; none when it may be. */
export const objection = (
  url: Pick<WebUrl, "host" | "port">,
  address: NetAddress.IpAddress,
  exceptions: ReadonlyArray<Exception>
): Option.Option<string> => {
  const isAllowed = exceptions.some((exception) =>
    (exception.port === undefined || exception.port === url.port)
    && (exception.name === url.host.toLowerCase()
      || (exception.network !== undefined && IpNetwork.contains(exception.network, address)))
  )
  return isAllowed ? Option.none() : notPublic(address)
}

const notPublic = (address: NetAddress.IpAddress): Option.Option<string> => {
  const { global6, reserved4, reserved6 } = tables()
  const ranges = NetAddress.isIpv4Address(address) ? reserved4 : reserved6
  const range = ranges.find(([network]) => IpNetwork.contains(network, address))
  if (range !== undefined) return Option.some(range[1])
  if (NetAddress.isIpv4Address(address)) return Option.none()
  const inner = embedded(address)
  if (Option.isSome(inner)) return Option.map(notPublic(inner.value), (why) => `${why}, inside an IPv6 address`)
  return IpNetwork.contains(global6, address) ? Option.none() : Option.some("reserved")
}

/** The IPv4 address that an IPv6 address only wraps: mapped, compatible, translated by NAT64, or carried by 6to4. */
const embedded = (address: NetAddress.Ipv6Address): Option.Option<NetAddress.Ipv4Address> => {
  const segments = NetAddress.ipv6ToSegments(address)
  const at = tables().wrappings.find(([network]) => IpNetwork.contains(network, address))?.[1]
  if (at === undefined) return Option.none()
  const [high, low] = [segments[at] ?? 0, segments[at + 1] ?? 0]
  return Result.getSuccess(NetAddress.ipv4FromOctets([high >> 8, high & 255, low >> 8, low & 255]))
}

const parse = (entries: ReadonlyArray<readonly [network: string, why: string]>) =>
  entries.map(([network, why]) => [IpNetwork.fromStringUnsafe(network), why] as const)

/** Made at the first use: a start has no time for it. */
const tables = () => (made ??= {
  reserved4: parse(reserved4),
  reserved6: parse(reserved6),
  wrappings: wrappings.map(([network, at]) => [IpNetwork.fromStringUnsafe(network), at] as const),
  global6: IpNetwork.fromStringUnsafe(global6)
})
let made: {
  readonly reserved4: ReturnType<typeof parse>
  readonly reserved6: ReturnType<typeof parse>
  readonly wrappings: ReadonlyArray<readonly [IpNetwork.IpNetwork, number]>
  readonly global6: IpNetwork.IpNetwork
} | undefined

/** From the IANA registry of special-purpose addresses, and what cloud hosts keep for themselves. */
const reserved4 = [
  ["0.0.0.0/8", "this machine"],
  ["10.0.0.0/8", "private"],
  ["100.64.0.0/10", "a carrier's inner network"],
  ["127.0.0.0/8", "this machine"],
  ["168.63.129.16/32", "a cloud's service for its machines"],
  ["169.254.0.0/16", "link-local, where clouds keep credentials"],
  ["172.16.0.0/12", "private"],
  ["192.0.0.0/24", "reserved"],
  ["192.0.2.0/24", "for documentation"],
  ["192.88.99.0/24", "reserved"],
  ["192.168.0.0/16", "private"],
  ["198.18.0.0/15", "for benchmarks"],
  ["198.51.100.0/24", "for documentation"],
  ["203.0.113.0/24", "for documentation"],
  ["224.0.0.0/4", "multicast"],
  ["240.0.0.0/4", "reserved"]
] as const

const reserved6 = [
  ["::/128", "this machine"],
  ["::1/128", "this machine"],
  ["64:ff9b:1::/48", "a private translation to IPv4"],
  ["100::/64", "discarded"],
  ["2001::/23", "reserved"],
  ["2001:db8::/32", "for documentation"],
  ["3fff::/20", "for documentation"],
  ["fc00::/7", "private"],
  ["fe80::/10", "link-local"],
  ["fec0::/10", "site-local"],
  ["ff00::/8", "multicast"]
] as const

/** Where the IPv4 address begins, in segments of 16 bits. */
const wrappings = [
  ["::ffff:0:0/96", 6],
  ["::ffff:0:0:0/96", 6],
  ["::/96", 6],
  ["64:ff9b::/96", 6],
  ["2002::/16", 1]
] as const

/** All that is routed in public. */
const global6 = "2000::/3"
