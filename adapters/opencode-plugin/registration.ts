/** What the plugin adds to the host's config: agents with their rights, commands. Whatever the user set stays in force. */
import { commander, commands, team } from "../../src/agents/team.ts"
import type { ConfigValues } from "../../src/Config.ts"
import { type AgentDefinition, combine, endOfRole, matches, type Permission } from "../../src/domain/Agent.ts"

type Permissions = Readonly<Record<string, Permission>>

/** The part of the host's config that is changed, as the host hands it over. */
export interface HostConfig {
  agent?: Record<string, Record<string, unknown> | undefined>
  command?: Record<string, unknown>
  permission?: unknown
  default_agent?: string
}

/** Stands for what `command.execute.before` puts in its place. */
export const commandMark = "{{orchestrator}}"

/**
 * The host would replace `$1` and `$&` in what a user types after a command, and run what stands in "!`…`". So it gets
 * nothing to put in: a place that no word reaches keeps it from adding the words at the end.
 */
const commandTemplate = `${commandMark}$9999999`

/** Tools that the host has too. Ours take their place for everyone, under the rules that hold for the host's. */
const hostTools: ReadonlySet<string> = new Set(["webfetch", "websearch"])

/** Changes the host's config in place, which is how the host takes additions. */
export const register = (host: HostConfig, config: ConfigValues, toolNames: ReadonlyArray<string>): void => {
  const users = readPermissions(host.permission)
  host.agent = { ...host.agent }
  for (const definition of team) {
    host.agent[definition.name] = agentConfig(definition, users, host.agent[definition.name])
  }
  host.command = {
    ...Object.fromEntries(commands.map(({ agent, description, name }) => [
      name,
      { description, template: commandTemplate, ...(agent === undefined ? {} : { agent }) }
    ])),
    ...host.command
  }
  // The user's own agents stay as they are: they are not shown tools they never asked for.
  const hidden = toolNames.filter((name) => !(name in users) && !hostTools.has(name))
  host.permission = { ...users, ...Object.fromEntries(hidden.map((name) => [name, "deny"])) }
  if (config.commanderByDefault) host.default_agent = commander
}

/** An agent of ours as the host's config writes it, under what the user set for it. */
const agentConfig = (definition: AgentDefinition, users: Permissions, own: Record<string, unknown> = {}) => {
  const { permission, ...rest } = own
  return {
    description: definition.description,
    mode: definition.mode,
    prompt: definition.prompt,
    ...rest,
    permission: agentPermissions(definition.rights, users, readPermissions(permission))
  }
}

/**
 * First everything is denied, then the role is allowed as far as the user's general settings allow it; after the mark
 * of the role's end comes what the user set for this agent. The host reads them in this order, and the last one decides.
 * Names with wild cards are spelled out for the permissions of the role: as they stand they would fall before the role.
 */
const agentPermissions = (rights: Permissions, users: Permissions, own: Permissions): Permissions => {
  const limited = (name: string) => {
    const right = rights[name]
    return right === undefined ? undefined : combine(right, settingFor(users, name))
  }
  const role: Record<string, Permission> = {}
  const overrides: Record<string, Permission> = {}
  for (const name of new Set([...Object.keys(rights), ...Object.keys(own).filter((key) => !/[*?]/.test(key))])) {
    const setting = settingFor(own, name)
    const base = limited(name)
    if (setting !== undefined) {
      overrides[name] = typeof setting === "string"
        ? setting
        : { ...patterns(base), ...setting }
    } else if (base !== undefined) role[name] = base
  }
  return { "*": "deny", ...role, [endOfRole.permission]: endOfRole.action, ...overrides }
}

/** What a config says of one permission: the keys that fit, in their order; patterns lie over what came before. */
const settingFor = (all: Permissions, name: string): Permission | undefined =>
  Object.entries(all).filter(([key]) => matches(key, name)).reduce<Permission | undefined>(
    (base, [, value]) => typeof value === "string" ? value : { ...patterns(base), ...value },
    undefined
  )

const patterns = (permission: Permission | undefined) =>
  permission === undefined ? {} : typeof permission === "string" ? { "*": permission } : permission

const isAction = (value: unknown): value is "allow" | "deny" | "ask" =>
  value === "allow" || value === "deny" || value === "ask"

/** A `permission` setting in its long form. What is not one of its forms is left for the host to complain about. */
const readPermissions = (value: unknown): Permissions => {
  if (isAction(value)) return { "*": value }
  if (typeof value !== "object" || value === null) return {}
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, setting]: [string, unknown]): ReadonlyArray<[string, Permission]> => {
      if (isAction(setting)) return [[name, setting]]
      if (typeof setting !== "object" || setting === null) return []
      const entries = Object.entries(setting).filter((entry): entry is [string, "allow" | "deny" | "ask"] =>
        isAction(entry[1])
      )
      return [[name, Object.fromEntries(entries)]]
    })
  )
}
