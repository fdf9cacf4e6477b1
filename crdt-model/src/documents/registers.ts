import * as Automerge from '@automerge/automerge'
import { canonicalJson } from '../canonical/canonical.ts'
import type { Register, SettingsDoc } from './schema.ts'

/** How the documents' values are read and written. Everything here bears a document that another program spoiled. */

export const register = (text: string): Register => new Automerge.ImmutableString(text)

/** Inside a change Automerge takes a list for an immutable string, and then calls its `toString`. */
const isRegister = (value: unknown): value is Register =>
  !Array.isArray(value) && Automerge.isImmutableString(value)

/** A register's or text's string; `undefined` for anything else. */
export function stringOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  return isRegister(value) ? value.toString() : undefined
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !isRegister(value) &&
    !(value instanceof Date) &&
    !(value instanceof Uint8Array)
  )
}

/** The entries of a map in the order of their keys; nothing when it is no map or an entry is none. */
export function mapEntries(value: unknown): [string, Record<string, unknown>][] {
  if (!isMap(value)) return []
  const entries: [string, Record<string, unknown>][] = []
  for (const key of Object.keys(value).sort()) {
    const entry = value[key]
    if (isMap(entry)) entries.push([key, entry])
  }
  return entries
}

export type SettingRead =
  | { readonly state: 'absent' }
  | { readonly state: 'value'; readonly value: unknown }
  | { readonly state: 'unreadable' }

/** One setting's JSON value. */
export function readSetting(settings: unknown, key: string): SettingRead {
  if (!isMap(settings) || !Object.hasOwn(settings, key)) return { state: 'absent' }
  const text = stringOf(settings[key])
  if (text === undefined) return { state: 'unreadable' }
  try {
    return { state: 'value', value: JSON.parse(text) }
  } catch {
    return { state: 'unreadable' }
  }
}

/** Writes one setting, unless it already holds exactly that. */
export function writeSetting(settings: SettingsDoc, key: string, value: unknown): void {
  writeRegister(settings, key, canonicalJson(value))
}

/** Writes one register, unless it already holds exactly that. */
export function writeRegister(parent: object, key: string, text: string): void {
  const map = parent as Record<string, unknown>
  const held = map[key]
  if (isRegister(held) && held.toString() === text) return
  map[key] = register(text)
}
