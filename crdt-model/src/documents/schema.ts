import type * as Automerge from '@automerge/automerge'
import type { z } from 'zod'
import {
  type dataTest,
  paramDefinition,
  publishDefinition,
  sourceDefinition,
  stepDefinition,
} from './definition.ts'

/**
 * The shape of the Automerge documents.
 *
 * - A **register** holds one value that is replaced as a whole: an immutable string. Names and fractional indexes are plain;
 *   every entry of a `settings` map is canonical JSON, so any value takes one operation and a wrong one can be told.
 * - A **text** (`string` in these types) is an Automerge text: spliced, never assigned after it was made.
 * - Map keys are never deleted. `deleted` says that a thing is gone, so an edit made meanwhile is kept and can come back.
 * - A setting that is absent has its default.
 */
export const SCHEMA_VERSION = 1

export type Register = Automerge.ImmutableString
export type SettingsDoc = Record<string, Register>

export interface TestDoc {
  order: Register
  deleted: boolean
  description: string
  /** The SELECT of a `custom` test; empty for the others. */
  sql: string
  settings: SettingsDoc
}

export interface StepDoc {
  name: Register
  order: Register
  deleted: boolean
  sql: string
  description: string
  settings: SettingsDoc
  tests: Record<string, TestDoc>
}

/** A param or a source, keyed by its name. */
export interface NamedDoc {
  deleted: boolean
  description: string
  settings: SettingsDoc
}

/** A type, not an interface: Automerge wants its documents to have an index signature. */
export type PipelineDoc = {
  schema_version: number
  kind: Register
  name: Register
  description: string
  settings: SettingsDoc
  params: Record<string, NamedDoc>
  sources: Record<string, NamedDoc>
  steps: Record<string, StepDoc>
  report: string
  publish: SettingsDoc
}

export type SubjectKind = 'pipeline' | 'draft' | 'run' | 'report'

const pick = <T extends z.ZodObject, K extends keyof T['shape'] & string>(schema: T, keys: readonly K[]) =>
  Object.fromEntries(keys.map(key => [key, schema.shape[key]])) as unknown as Record<K, z.ZodType>

/** The settings of each thing: key -> the schema of its value, which also gives the default. */
export const STEP_SETTINGS = pick(stepDefinition, [
  'materialize',
  'unique_key',
  'time_column',
  'lookback',
  'timeout_s',
  'retry',
])
export const PARAM_SETTINGS = pick(paramDefinition, ['type', 'default', 'allowed'])
export const SOURCE_SETTINGS = pick(sourceDefinition, ['kind', 'path', 'options'])
export const PUBLISH_SETTINGS = pick(publishDefinition, ['report', 'snapshots'])
export const TEST_SETTINGS = ['type', 'severity', 'column', 'columns', 'values'] as const

export type StepSetting = keyof typeof STEP_SETTINGS
export type TestType = z.infer<typeof dataTest>['type']
