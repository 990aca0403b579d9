/**
 * Finds secrets in text and puts a mark in their place: tokens that show by their form what they are, values beside a
 * name that says so, and the values of secret environment variables. What only looks random stays: hashes, ids, images.
 */

/** The secret values among environment variables, the longest first. */
export const secretsOf = (environment: Readonly<Record<string, string | undefined>>): ReadonlyArray<string> => {
  const values = Object.entries(environment).flatMap(([name, given = ""]) => {
    const value = given.trim()
    const isKnown = value.length <= longestKnown && isSecret(name, value, "environment")
    return isKnown && !marks.some((mark) => mark.includes(value)) ? [value] : []
  })
  return [...new Set(values)].toSorted((a, b) => b.length - a.length).slice(0, mostKnown)
}

/** A function that masks every secret in a text; masking twice is masking once. Its time grows with the text's length. */
export const makeMask = (known: ReadonlyArray<string>): (text: string) => string => (text) => {
  let masked = text
  for (const value of known) masked = masked.replaceAll(value, () => mark("environment secret"))
  return masked
    .replace(privateKey, mark("private key"))
    .replace(
      byForm,
      (_, edge: string, ...found: ReadonlyArray<unknown>) =>
        edge + mark(kinds.find((_, index) => found[index] !== undefined)?.[0] ?? "secret")
    )
    .replace(
      inUrl,
      (whole: string, before: string, password: string) =>
        isPlaceholder(password) ? whole : `${before}${mark("password")}`
    )
    .replace(inHeader, (_, before: string) => `${before}${mark("credentials")}`)
    .replace(inQuery, (_, before: string, name: string) => `${before}${mark(wordOf(name))}`)
    .replace(assigned, (whole: string, before: string, name: string, quote = "", quoted?: string, bare?: string) => {
      const value = quoted ?? bare ?? ""
      const place = quote !== "" ? "quoted" : /^[A-Z][A-Z0-9_]*$/.test(name) ? "environment" : "bare"
      return isSecret(name, value, place) ? `${before}${quote}${mark(wordOf(name))}${quote}` : whole
    })
}

const mark = (kind: string) => `[masked ${kind}]`

const longestKnown = 10_000
const mostKnown = 200

/**
 * Every pattern either ends in an open quantifier, so that a match takes all it has looked at, or begins where a run of
 * its own letters begins: no part of a text is looked at more than a fixed number of times. (No lookbehind: Bun does not
 * compile it, and is ten times slower then.)
 */
const kinds: ReadonlyArray<readonly [label: string, pattern: string]> = [
  ["private key", "AGE-SECRET-KEY-1[A-Z0-9]{40,}"],
  ["JSON web token", "eyJ[\\w-]{8,}\\.eyJ[\\w-]{8,}(?:\\.[\\w-]*)?"],
  ["GitHub token", "(?:gh[oprsu]_|github_pat_)\\w{20,}"],
  ["GitLab token", "gl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-[\\w-]{20,}(?:\\.\\w+)*"],
  ["Anthropic key", "sk-ant-[\\w-]{20,}"],
  ["OpenRouter key", "sk-or-[\\w-]{20,}"],
  ["OpenAI key", "sk-(?:(?:proj|svcacct|admin|None)-[\\w-]{20,}|[A-Za-z0-9]{32,}(?![\\w-]))"],
  ["AWS key", "(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"],
  ["Google key", "(?:AIza[\\w-]{35,}|ya29\\.[\\w-]{20,}|GOCSPX-[\\w-]{20,})"],
  ["Slack token", "(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}"],
  ["Slack webhook", "hooks\\.slack\\.com/(?:services|triggers|workflows)/[\\w/+-]{20,}"],
  ["Stripe key", "(?:[rs]k_(?:live|test)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{20,})"],
  ["npm token", "npm_[A-Za-z0-9]{30,}"],
  ["PyPI token", "pypi-[\\w-]{40,}"],
  ["Hugging Face token", "hf_[A-Za-z0-9]{30,}"],
  ["Docker token", "dckr_[op]at_[\\w-]{20,}"],
  ["DigitalOcean token", "do[opr]_v1_[a-f0-9]{40,}"],
  ["SendGrid key", "SG\\.[\\w-]{16,}\\.[\\w-]{16,}"],
  ["Vault token", "hv[bs]\\.[\\w-]{20,}"],
  ["Databricks token", "dapi[a-f0-9]{32,}(?![A-Za-z0-9])"],
  ["Telegram token", "\\d{8,10}:AA[\\w-]{32,}"],
  ["Shopify token", "shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32,}"],
  ["API key", "(?:gsk_|r8_|pplx-|xai-|lin_api_|ntn_|sbp_|sb_secret_|rubygems_|tvly-)[A-Za-z0-9]{30,}"]
]

/** Whole, or cut off before its end. */
const privateKey =
  /-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----(?:(?:[^-]|-(?!----)){1,16384}-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----|(?:(?:\s|\\[nr]){1,8}[A-Za-z0-9+/=]{20,})+)/g

const byForm = new RegExp(
  `(^|[^A-Za-z0-9])(?=[\\dADGSadeghlnprstwxy])(?:${kinds.map(([, pattern]) => `(${pattern})`).join("|")})[A-Za-z0-9]*`,
  "g"
)

/** What stands between the colon and the `@` of a URL. */
const inUrl = /((?:^|[^\w+.-])[a-z][a-z0-9+.-]{1,20}:\/\/[^\s:/?#@"'<>]{0,100}:)([^\s/?#@"'<>]{1,200})(?=@)/gi

const inHeader =
  /((?:^|[^\w-])(?:(?:proxy-)?authorization["']?\s{0,3}[:=]\s{0,3}["']?(?:(?:basic|bearer|token|digest)\s{1,3})?|bearer\s{1,3}(?=[^\s"',;]{0,200}\d)))([\w.~+/=-]{8,})/gi

/** Parameters of URLs whose names say too little elsewhere. */
const inQuery = /([?&]([\w-]{0,30}(?:key|secret|signature|token)|auth|sig)=)([\w.~%+/=-]{16,})/gi

const secretWords = "passwords?|passwd|passphrase|passwort|pwd|pass|secrets?|tokens?|credentials?|keys?"

/** A name that ends in a secret word, and the value that it is given. */
const assigned = new RegExp(
  `((?:^|[^\\w-])([\\w-]{0,60}(?:${secretWords})(?:[_-](?:base64|dev|live|prod|production|staging|test|value|\\d{1,3}))?)`
    + `\\\\?["'\`]?\\s{0,3}(?::=|=>|[:=])\\s{0,3})`
    + `(?:(\\\\?["'\`])([^"'\`\\\\\\n]{8,})\\3|([^\\s"'\`;,(){}<>\\[\\]\\\\]{8,})(?![\\w(]))`,
  "gi"
)

/** Whether the value of a variable of this name is to be masked. */
const isSecret = (name: string, value: string, place: "environment" | "quoted" | "bare"): boolean => {
  const strength = strengthOf(name)
  if (strength === undefined || value.length < 8 || isPlaceholder(value) || isPlace(value) || ownId.test(value)) {
    return false
  }
  const isWord = /^[A-Za-z_.-]+$/.test(value)
  if (place === "environment") {
    return strength === "strong" || (!isWord || value.length >= 24) && !/^[\d.,]+$/.test(value)
  }
  if (/\s/.test(value)) return false // a sentence about it
  // Code names variables after secrets and puts one into another: only what cannot be a name is a value.
  if (place === "bare") return /\d/.test(value) && !/^[\d.,]+$/.test(value) && !isNameInCode.test(value)
  return strength === "strong" ? !speaksOfIt.test(value) : /\d/.test(value) && /[A-Za-z]/.test(value)
}

const strengthOf = (name: string): "strong" | "weak" | undefined => {
  if (/^(?:old)?pwd$/i.test(name)) return undefined // the working folder
  if (/pass(?:words?|wd|phrase|wort)|pwd|(?:^|[_-])pass$|secret/i.test(name)) return "strong"
  if (/token|credential/i.test(name)) return "weak"
  const isKey =
    /(?:access|account|admin|api|app|auth|client|consumer|deploy|encryption|license|master|private|service|session|shared|signing|ssh|storage|webhook)[_-]?keys?(?![a-z])/i
  return isKey.test(name) || /(?:^|_)(?:API)?KEY(?:_|$)/.test(name) || /(?:^|_)AUTH(?:_|$)/.test(name)
    ? "weak"
    : undefined
}

const wordOf = (name: string): string =>
  /pass|pwd/i.test(name) ? "password" : /token/i.test(name) ? "token" : /key/i.test(name) ? "key" : "secret"

const isPlaceholder = (value: string): boolean =>
  /^(?:[$%<{*]|\[masked|x+$|\.+$|(?:your|my|the|some|an?|example|dummy|fake)[-_]|changeme|placeholder|undefined|redacted)/i
    .test(value)

/** A path, or an address; a password in one is found there. */
const isPlace = (value: string): boolean =>
  /^(?:~|\.{0,2})\/|^[A-Za-z]:[\\/]|^[a-z][a-z0-9+.-]{1,20}:/i.test(value)
  || /^[\w.-]+(?:\/[\w.-]+)+\.\w{1,5}$/.test(value)

/** Ids of the host and of the orchestrator. */
const ownId = /^(?:ses|msg|prt|per|que|call|task|job|toolu)_/

const isNameInCode =
  /^[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)+$|^[a-z]+(?:[A-Z_][a-z]+)*\d?$|^(?:[A-Z][a-z]+)+\d{0,2}(?:[A-Z][a-z]+)*$/

/** A text of letters that names a secret, such as `resetPassword`. */
const speaksOfIt = /^[a-z_.-]*(?:pass|secret|pwd)[a-z_.-]*$/i

const marks = [...kinds.map(([label]) => label), "environment secret", "password", "credentials", "token", "key"].map(
  mark
)
