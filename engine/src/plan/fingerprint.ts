import { createHash } from 'node:crypto'
import type { StepDefinition } from '@pluto-duck/crdt-model'
import type { CompiledStep, ParamValues } from '../compile/index.ts'
import type { ResolvedSource } from '../sources/resolve-sources.ts'
import type { SourceState } from '../sources/source-state.ts'
import type { FingerprintParts } from './plan-types.ts'

export interface Fingerprint {
  /** Names the result: its rows, and that these tests passed on them. */
  readonly result: string
  /** Names the rows alone; what downstream is built on, so that editing a test rebuilds nothing else. */
  readonly data: string
  readonly parts: FingerprintParts
}

/** Raised when the meaning of a part changes: every result of before is then made anew. */
const FORMAT = 1

export interface FingerprintInput {
  readonly definition: StepDefinition
  readonly compiled: CompiledStep
  readonly params: ParamValues
  readonly sources: Readonly<
    Record<string, { readonly resolved: ResolvedSource; readonly state: SourceState }>
  >
  /** By name: fingerprints of the steps that this one or its tests read. */
  readonly upstream: Readonly<Record<string, Fingerprint>>
  readonly run_id: string
}

export function fingerprintOf(input: FingerprintInput): Fingerprint {
  const { definition, compiled, upstream } = input
  const parts: FingerprintParts = {
    sql: short(compiled.normalized_sql),
    upstream: record(compiled.depends_on, name => upstream[name]!.data),
    params: record(compiled.params, name => short(input.params[name]!)),
    sources: record(compiled.sources, name => {
      const { resolved, state } = input.sources[name]!
      return short([resolved.definition.kind, sortedEntries(resolved.definition.options), state.hash])
    }),
    settings: short(definition.materialize),
    tests: short([
      definition.tests.map(({ id: _id, description: _description, ...rule }) => sortedEntries(rule)),
      compiled.test_depends_on.map(name => [name, upstream[name]!.data]),
    ]),
    run: compiled.volatile.length > 0 ? input.run_id : null,
  }
  const { tests, ...rows } = parts
  const data = hash([FORMAT, rows])
  return { data, result: hash([FORMAT, data, tests]), parts }
}

const hash = (value: unknown): string => createHash('sha256').update(JSON.stringify(value)).digest('hex')
const short = (value: unknown): string => hash(value).slice(0, 32)
const sortedEntries = (record: object): unknown => Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1))

function record(names: readonly string[], partOf: (name: string) => string): Record<string, string> {
  return Object.fromEntries([...names].sort().map(name => [name, partOf(name)]))
}

export type ReasonCode =
  | 'unchanged'
  | 'made_before'
  | 'edited'
  | 'upstream_changed'
  | 'source_changed'
  | 'params_changed'
  | 'never_ran'
  | 'volatile'
  | 'forced'
  | 'not_selected'

export interface Reason {
  readonly code: ReasonCode
  /** For people; names steps, sources and params, never a value. */
  readonly words: string
}

/** Why a step has to run, from what decided its current result and what would decide it now. */
export function whyChanged(
  before: FingerprintParts,
  now: FingerprintParts,
  volatile: readonly string[],
): Reason {
  if (before.sql !== now.sql) return { code: 'edited', words: 'Its SQL was edited.' }
  if (before.settings !== now.settings) return { code: 'edited', words: 'Its settings were edited.' }
  const sources = differing(before.sources, now.sources)
  if (sources.length > 0)
    return {
      code: 'source_changed',
      words: `The data of ${list(sources.map(name => `source.${name}`))} changed.`,
    }
  const params = differing(before.params, now.params)
  if (params.length > 0)
    return { code: 'params_changed', words: `The value of ${list(params.map(name => `$${name}`))} changed.` }
  const upstream = differing(before.upstream, now.upstream)
  if (upstream.length > 0)
    return { code: 'upstream_changed', words: `It reads ${list(upstream)}, which changed.` }
  if (before.tests !== now.tests) return { code: 'edited', words: 'Its tests, or what they read, changed.' }
  return { code: 'volatile', words: `It uses ${list(volatile)}, so each run differs.` }
}

function differing(
  before: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
): string[] {
  return [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .filter(name => before[name] !== now[name])
    .sort()
}

const list = (names: readonly string[]): string =>
  names.length <= 3 ? names.join(', ') : `${names.slice(0, 3).join(', ')} and ${names.length - 3} more`
