import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Option, Result } from "effect"
import { Schema } from "effect"
import { objection, parseAddress, parseException, parseUrl } from "../../src/documents/Address.ts"

/** Whether a URL whose host is an address in digits would be reached. */
const judge = (text: string, allow: ReadonlyArray<string> = []): string => {
  const url = parseUrl(text)
  if (Result.isFailure(url)) return `bad: ${url.failure.message}`
  const address = parseAddress(url.success.host)
  if (Option.isNone(address)) return "a name"
  const exceptions = allow.flatMap((entry) => Option.toArray(parseException(entry)))
  return Option.getOrElse(objection(url.success, address.value, exceptions), () => "public")
}

describe("an address that is not public is refused", () => {
  for (
    const [host, why] of [
      ["127.0.0.1", "this machine"],
      ["127.255.255.254", "this machine"],
      ["127.1", "this machine"],
      ["2130706433", "this machine"],
      ["0177.0.0.1", "this machine"],
      ["0x7f.0.0.1", "this machine"],
      ["0x7f000001", "this machine"],
      ["127.0.0.1.", "this machine"],
      ["①②⑦.⓪.⓪.①", "this machine"],
      ["0", "this machine"],
      ["0.0.0.0", "this machine"],
      ["10.0.0.1", "private"],
      ["012.0.0.1", "private"],
      ["172.16.0.1", "private"],
      ["172.31.255.255", "private"],
      ["192.168.1.1", "private"],
      ["3232235777", "private"],
      ["100.64.0.1", "a carrier's inner network"],
      ["100.100.100.200", "a carrier's inner network"],
      ["100.127.255.255", "a carrier's inner network"],
      ["169.254.169.254", "link-local, where clouds keep credentials"],
      ["0xa9fea9fe", "link-local, where clouds keep credentials"],
      ["169.254.170.2", "link-local, where clouds keep credentials"],
      ["168.63.129.16", "a cloud's service for its machines"],
      ["192.0.0.192", "reserved"],
      ["192.0.2.1", "for documentation"],
      ["198.18.0.1", "for benchmarks"],
      ["198.51.100.1", "for documentation"],
      ["203.0.113.1", "for documentation"],
      ["224.0.0.1", "multicast"],
      ["239.255.255.255", "multicast"],
      ["240.0.0.1", "reserved"],
      ["255.255.255.255", "reserved"],
      ["[::]", "this machine"],
      ["[::1]", "this machine"],
      ["[0:0:0:0:0:0:0:1]", "this machine"],
      ["[::ffff:127.0.0.1]", "this machine, inside an IPv6 address"],
      ["[::ffff:a00:1]", "private, inside an IPv6 address"],
      ["[::127.0.0.1]", "this machine, inside an IPv6 address"],
      ["[::ffff:0:10.0.0.1]", "private, inside an IPv6 address"],
      ["[64:ff9b::a9fe:a9fe]", "link-local, where clouds keep credentials, inside an IPv6 address"],
      ["[64:ff9b:1::1]", "a private translation to IPv4"],
      ["[2002:7f00:1::]", "this machine, inside an IPv6 address"],
      ["[2002:c0a8:101::1]", "private, inside an IPv6 address"],
      ["[2001:0:4136:e378::1]", "reserved"],
      ["[2001:db8::1]", "for documentation"],
      ["[3fff::1]", "for documentation"],
      ["[fc00::1]", "private"],
      ["[fd00:ec2::254]", "private"],
      ["[fe80::1]", "link-local"],
      ["[febf::1]", "link-local"],
      ["[fec0::1]", "site-local"],
      ["[ff02::1]", "multicast"],
      ["[100::1]", "discarded"],
      ["[4000::1]", "reserved"],
      ["[5f00::1]", "reserved"]
    ] as const
  ) it(host, () => assert.strictEqual(judge(`http://${host}/`), why))
})

describe("an address that is public is not", () => {
  for (
    const host of [
      "1.1.1.1",
      "8.8.8.8",
      "9.255.255.255",
      "11.0.0.0",
      "100.63.255.255",
      "100.128.0.0",
      "126.255.255.255",
      "128.0.0.0",
      "169.253.255.255",
      "172.15.255.255",
      "172.32.0.0",
      "192.167.255.255",
      "192.169.0.0",
      "223.255.255.255",
      "[2606:4700::1111]",
      "[2a00:1450:4001:800::200e]",
      "[::ffff:8.8.8.8]",
      "[64:ff9b::808:808]",
      "[2002:808:808::1]"
    ]
  ) it(host, () => assert.strictEqual(judge(`https://${host}/`), "public"))
})

describe("a URL", () => {
  for (
    const [url, message] of [
      ["ftp://example.com/", "only http and https are"],
      ["file:///etc/passwd", "only http and https are"],
      ["javascript:alert(1)", "only http and https are"],
      ["gopher://127.0.0.1:25/", "only http and https are"],
      ["example.com/page", "no complete URL"],
      ["", "no complete URL"],
      ["http://", "no complete URL"],
      ["http://[fe80::1%25eth0]/", "no complete URL"],
      ["http://[::1%eth0]/", "no complete URL"],
      ["http://256.1.1.1/", "no complete URL"],
      ["http://1.2.3.4.5/", "no complete URL"],
      ["http://0x100000000/", "no complete URL"],
      ["http://..example.com/", "its host has no name"],
      ["http://example.com:0/", "port 0 is none"],
      ["http://example.com:99999/", "no complete URL"],
      [`http://example.com/${"x".repeat(5_000)}`, "longer than"]
    ] as const
  ) it(`is refused: ${url.slice(0, 40)}`, () => assert.include(judge(url), message))

  it("with a user name or password is refused, and the answer does not repeat them", () => {
    for (
      const url of ["https://alice:hunter2@example.com/", "https://hunter2@example.com/", "http://:hunter2@1.1.1.1/"]
    ) {
      const message = judge(url)
      assert.include(message, "user name or password")
      assert.notInclude(message, "hunter2")
    }
    assert.notInclude(judge("ftp://alice:hunter2@example.com/"), "hunter2")
  })

  it("is the same in all its notations", () => {
    const href = (text: string) => Result.getOrThrow(parseUrl(text)).href
    assert.strictEqual(href("HTTP://EXAMPLE.com:80/a?b=1#c"), "http://example.com/a?b=1")
    assert.strictEqual(href("http://example.com./a"), "http://example.com/a")
    assert.strictEqual(href("https://bücher.example"), "https://xn--bcher-kva.example/")
    assert.strictEqual(href("https://example.com:8443/"), "https://example.com:8443/")
    assert.strictEqual(href("http://[2606:4700::1111]:8080/x"), "http://[2606:4700::1111]:8080/x")
    assert.strictEqual(Result.getOrThrow(parseUrl("../c?d", "https://example.com/a/b")).href, "https://example.com/c?d")
    assert.strictEqual(
      Result.getOrThrow(parseUrl("//evil.test/x", "https://example.com/a")).origin,
      "https://evil.test"
    )
  })
})

describe("the setting web.allow", () => {
  it("opens a name at one port, or at all", () => {
    const allows = (entry: string, url: string, address: string) =>
      Option.isNone(objection(
        Result.getOrThrow(parseUrl(url)),
        Option.getOrThrow(parseAddress(address)),
        Option.toArray(parseException(entry))
      ))
    assert.isTrue(allows("localhost:3000", "http://localhost:3000/", "127.0.0.1"))
    assert.isTrue(allows("LocalHost", "http://localhost:1234/", "::1"))
    assert.isFalse(allows("localhost:3000", "http://localhost:3001/", "127.0.0.1"))
    assert.isFalse(allows("localhost:3000", "http://evil.test:3000/", "127.0.0.1"))
  })

  it("opens addresses and ranges", () => {
    assert.strictEqual(judge("http://10.1.2.3/", ["10.0.0.0/8"]), "public")
    assert.strictEqual(judge("http://10.1.2.3/", ["10.0.0.0/8:8080"]), "private")
    assert.strictEqual(judge("http://10.1.2.3:8080/", ["10.0.0.0/8:8080"]), "public")
    assert.strictEqual(judge("http://11.1.2.3/", ["10.0.0.0/8"]), "public")
    assert.strictEqual(judge("http://192.168.0.1/", ["10.0.0.0/8"]), "private")
    assert.strictEqual(judge("http://127.0.0.1:3000/", ["127.0.0.1:3000"]), "public")
    assert.strictEqual(judge("http://[fd00::5]/", ["fd00::/8"]), "public")
    assert.strictEqual(judge("http://[::1]:80/", ["[::1]:80"]), "public")
    assert.strictEqual(judge("http://[::1]:81/", ["[::1]:80"]), "this machine")
  })

  it("takes no entry that says something else", () => {
    for (
      const entry of [
        "",
        "*",
        "http://localhost",
        "10.0.0.0/33",
        "localhost:0",
        "localhost:99999",
        "a b",
        "[::1",
        "x/8"
      ]
    ) {
      assert.isTrue(Option.isNone(parseException(entry)), entry)
    }
  })
})

it.prop("whatever a text is, it is a URL without user or fragment, or refused", [Schema.String], ([text]) => {
  for (const candidate of [text, `http://${text}`, `https://example.com/${text}`]) {
    const url = parseUrl(candidate)
    if (Result.isFailure(url)) continue
    assert.match(url.success.href, /^https?:\/\/[^/@\s]+\/[^\s#]*$/)
    assert.strictEqual(Result.getOrThrow(parseUrl(url.success.href)).href, url.success.href)
  }
})

it.prop(
  "an IPv4 address and all forms of IPv6 that wrap it are judged alike",
  [Arbitrary.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff_ffff })))],
  ([value]) => {
    const [a, b, c, d] = [24, 16, 8, 0].map((shift) => (value >>> shift) & 255)
    const plain = judge(`http://${a}.${b}.${c}.${d}/`)
    const hex = value.toString(16).padStart(8, "0")
    const wrapped = [
      `[::ffff:${a}.${b}.${c}.${d}]`,
      `[64:ff9b::${a}.${b}.${c}.${d}]`,
      `[2002:${hex.slice(0, 4)}:${hex.slice(4)}::1]`
    ]
    assert.strictEqual(judge(`http://${value}/`), plain)
    for (const host of wrapped) {
      assert.strictEqual(judge(`http://${host}/`), plain === "public" ? plain : `${plain}, inside an IPv6 address`)
    }
  }
)
