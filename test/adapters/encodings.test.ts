import { assert, it } from "@effect/vitest"
import { decodeByTable, decodeText } from "../../adapters/node-web/encodings.ts"

const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte)

for (
  const name of [
    "windows-1250",
    "windows-1251",
    "CP1251",
    "windows-1253",
    "windows-1254",
    "iso-8859-9",
    "iso-8859-2",
    "latin2",
    "iso-8859-5",
    "iso-8859-7",
    "iso-8859-15",
    "koi8-r",
    "koi8-u"
  ]
) {
  it(`${name} is read as Node's own decoder reads it, on runtimes too that do not know it`, () => {
    assert.strictEqual(decodeByTable(bytes, name), new TextDecoder(name).decode(bytes))
    assert.strictEqual(decodeByTable(bytes.subarray(200), name), new TextDecoder(name).decode(bytes.subarray(200)))
  })
}

it("a name that nobody knows is no encoding", () => {
  for (const name of ["klingon", "", "__proto__", "constructor"]) assert.isUndefined(decodeText(bytes, name), name)
})
