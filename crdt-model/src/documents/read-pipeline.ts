import type { z } from 'zod'
import {
  type DataTest,
  dataTest,
  type ParamDefinition,
  type PipelineDefinition,
  type PublishDefinition,
  type SourceDefinition,
  type StepDefinition,
  tagList,
} from './definition.ts'
import { byPlace } from './order.ts'
import type { Problem } from './problem.ts'
import { mapEntries, readSetting, stringOf } from './registers.ts'
import {
  PARAM_SETTINGS,
  type PipelineDoc,
  PUBLISH_SETTINGS,
  SOURCE_SETTINGS,
  STEP_SETTINGS,
} from './schema.ts'

/** What stands in for a value that a document must have and has not. */
const FALLBACK: Record<string, unknown> = { type: 'text', kind: 'csv', path: '' }

export interface PipelineReading {
  readonly definition: PipelineDefinition
  /** What the document holds that is no valid value; the definition has the default in its place. */
  readonly problems: readonly Problem[]
}

/**
 * The canonical form of a document: tombstones left out, lists in their order, every default filled in.
 *
 * Never throws, whatever the document holds, and depends on its visible content alone, so equal heads give equal
 * definitions. Two steps of one name (two devices added them) are both kept, in their order; `problemsOf` says so.
 */
export function pipelineFromDoc(doc: PipelineDoc): PipelineDefinition {
  return readPipeline(doc).definition
}

/** `pipelineFromDoc`, with what had to be left out or replaced. */
export function readPipeline(doc: PipelineDoc): PipelineReading {
  const problems: Problem[] = []
  const root = doc as unknown as Record<string, unknown>
  const tags = readSetting(root.settings, 'tags')
  const parsedTags = tagList.safeParse(tags.state === 'value' ? tags.value : [])
  if (tags.state === 'unreadable' || !parsedTags.success) problems.push(unreadable(['tags']))
  const definition: PipelineDefinition = {
    schema_version: 1,
    name: stringOf(root.name) ?? '',
    description: stringOf(root.description) ?? '',
    tags: parsedTags.success ? parsedTags.data : [],
    params: readNamed<ParamDefinition>(root.params, 'params', PARAM_SETTINGS, problems),
    sources: readNamed<SourceDefinition>(root.sources, 'sources', SOURCE_SETTINGS, problems),
    steps: readSteps(root.steps, problems),
    report: stringOf(root.report) ?? '',
    publish: readSettings(root.publish, PUBLISH_SETTINGS, ['publish'], problems) as PublishDefinition,
  }
  return { definition, problems }
}

function readSettings(
  settings: unknown,
  schemas: Readonly<Record<string, z.ZodType>>,
  path: readonly (string | number)[],
  problems: Problem[],
  stepId?: string,
): Record<string, unknown> {
  const values: Record<string, unknown> = {}
  for (const [key, schema] of Object.entries(schemas)) {
    const held = readSetting(settings, key)
    const given = held.state === 'value' ? schema.safeParse(held.value) : undefined
    if (given?.success) {
      values[key] = given.data
      continue
    }
    if (held.state !== 'absent') problems.push(unreadable([...path, key], stepId))
    const absent = schema.safeParse(undefined)
    values[key] = absent.success ? absent.data : FALLBACK[key]
  }
  return values
}

function readNamed<T>(
  map: unknown,
  area: string,
  schemas: Readonly<Record<string, z.ZodType>>,
  problems: Problem[],
): Record<string, T> {
  const named: Record<string, T> = {}
  for (const [name, entry] of mapEntries(map)) {
    if (entry.deleted === true || name === '__proto__') continue
    named[name] = {
      ...readSettings(entry.settings, schemas, [area, name], problems),
      description: stringOf(entry.description) ?? '',
    } as T
  }
  return named
}

function readSteps(map: unknown, problems: Problem[]): StepDefinition[] {
  return liveInOrder(map).map(([id, entry], index) => ({
    ...(readSettings(entry.settings, STEP_SETTINGS, ['steps', index], problems, id) as Omit<
      StepDefinition,
      'id' | 'name' | 'description' | 'sql' | 'tests'
    >),
    id,
    name: stringOf(entry.name) ?? '',
    description: stringOf(entry.description) ?? '',
    sql: stringOf(entry.sql) ?? '',
    tests: readTests(entry.tests, index, id, problems),
  }))
}

function readTests(map: unknown, stepIndex: number, stepId: string, problems: Problem[]): DataTest[] {
  const tests: DataTest[] = []
  for (const [id, entry] of liveInOrder(map)) {
    const parsed = parseTest(id, entry)
    if (parsed) tests.push(parsed)
    else problems.push(unreadable(['steps', stepIndex, 'tests', id], stepId))
  }
  return tests
}

/** A test as the definition has it; `undefined` when the document's settings make none. */
export function parseTest(id: string, entry: Record<string, unknown>): DataTest | undefined {
  const setting = (key: string): unknown => {
    const held = readSetting(entry.settings, key)
    return held.state === 'value' ? held.value : undefined
  }
  const type = setting('type')
  const fields: Record<string, readonly string[]> = {
    not_null: ['column'],
    unique: ['columns'],
    accepted_values: ['column', 'values'],
    custom: [],
  }
  const own = typeof type === 'string' && Object.hasOwn(fields, type) ? fields[type]! : []
  const parsed = dataTest.safeParse({
    id,
    type,
    severity: setting('severity'),
    description: stringOf(entry.description),
    ...(type === 'custom' ? { sql: stringOf(entry.sql) } : {}),
    ...Object.fromEntries(own.map(key => [key, setting(key)])),
  })
  return parsed.success ? parsed.data : undefined
}

/** The entries that are not tombstones, in their order. */
export function liveInOrder(map: unknown): [string, Record<string, unknown>][] {
  return mapEntries(map)
    .filter(([, entry]) => entry.deleted !== true)
    .map(([id, entry]) => ({ id, entry, order: stringOf(entry.order) ?? '' }))
    .sort(byPlace)
    .map(({ id, entry }) => [id, entry])
}

function unreadable(path: readonly (string | number)[], stepId?: string): Problem {
  return {
    code: 'value.unreadable',
    message: `The document holds no valid value at ${path.join('.')}.`,
    hint: 'Set it again, or restore a version in which it was right.',
    severity: 'error',
    file: 'pipeline.yaml',
    path,
    ...(stepId === undefined ? {} : { step_id: stepId }),
  }
}

/** What to call a document in a list: its name, or a placeholder for one that has none. */
export function displayName(doc: PipelineDoc): string {
  return stringOf((doc as unknown as Record<string, unknown>).name) || 'unnamed'
}
