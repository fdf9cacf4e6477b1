import type * as Automerge from '@automerge/automerge'
import { v7 } from 'uuid'
import type { z } from 'zod'
import { AppError } from '../errors/index.ts'
import {
  type DataTest,
  dataTest,
  identifierName,
  type ParamDefinition,
  type PublishDefinition,
  paramDefinition,
  pipelineName,
  publishDefinition,
  type SourceDefinition,
  type StepDefinition,
  sourceDefinition,
  tagList,
} from './definition.ts'
import { changeWhole, newText, spliceText, writeText } from './long-texts.ts'
import { reorder } from './order.ts'
import { liveInOrder, parseTest } from './read-pipeline.ts'
import { isMap, mapEntries, register, stringOf, writeRegister, writeSetting } from './registers.ts'
import {
  type NamedDoc,
  PARAM_SETTINGS,
  type PipelineDoc,
  PUBLISH_SETTINGS,
  SOURCE_SETTINGS,
  STEP_SETTINGS,
  type StepDoc,
  type StepSetting,
  TEST_SETTINGS,
  type TestDoc,
} from './schema.ts'

/**
 * Edits of a pipeline. `editPipeline` opens one change; the operations take the mutable document that it hands out.
 * An operation with an invalid value throws `document.invalid`, one on a step that is not there `step.not_found`, and
 * then nothing of the change is kept. A change that alters nothing is not made: the same document comes back.
 */
export function editPipeline<D extends PipelineDoc>(
  doc: Automerge.Doc<D>,
  message: string,
  edit: (d: PipelineDoc) => void,
): Automerge.Doc<D> {
  return changeWhole(doc, message, d => edit(d as unknown as PipelineDoc))
}

export interface NewStep extends Partial<Omit<StepDefinition, 'id' | 'tests'>> {
  readonly name: string
  /** Default: a new UUID v7. */
  readonly id?: string
  /** Tests without an id get a new one. */
  readonly tests?: readonly NewTest[]
  /** Default: the end. */
  readonly at?: number
}
type WithOptionalId<T> = T extends unknown ? Omit<T, 'id'> & { id?: string } : never
type Loosely<T> = T extends unknown
  ? Omit<T, 'severity' | 'description'> & Partial<Pick<T, Extract<keyof T, 'severity' | 'description'>>>
  : never
/** A test to add: severity defaults to `error`, the id to a new UUID v7. */
export type NewTest = WithOptionalId<Loosely<DataTest>>

/** Adds a step and returns its id. */
export function addStep(d: PipelineDoc, step: NewStep): string {
  const { id = v7(), name, at, sql = '', description = '', tests = [], ...settings } = step
  if (Object.hasOwn(d.steps, id))
    throw new AppError('document.invalid', `There is a step with the id ${id} already.`, {
      hint: 'Restore it, or choose another id.',
    })
  const others = stepIds(d)
  const wanted = others.toSpliced(at ?? others.length, 0, id)
  const keys = reorder(heldOrder(d.steps), wanted)
  d.steps[id] = {
    name: register(valid(identifierName, name, 'name')),
    order: register(keys.get(id)!),
    deleted: false,
    sql: newText(d, sql),
    description: newText(d, description),
    settings: {},
    tests: {},
  }
  writeText(d, ['steps', id, 'sql'], sql)
  writeText(d, ['steps', id, 'description'], description)
  keys.delete(id)
  writeOrder(d.steps, keys)
  for (const [key, value] of Object.entries(settings)) setStepSetting(d, id, key as StepSetting, value)
  for (const test of tests) addTest(d, id, test)
  return id
}

export function renameStep(d: PipelineDoc, stepId: string, name: string): void {
  writeRegister(stepOf(d, stepId), 'name', valid(identifierName, name, 'name'))
}

/** A tombstone: what others write into the step meanwhile is kept, and `restoreStep` brings it back. */
export function removeStep(d: PipelineDoc, stepId: string): void {
  markDeleted(stepOf(d, stepId), true)
}

export function restoreStep(d: PipelineDoc, stepId: string): void {
  markDeleted(stepOf(d, stepId), false)
}

/** Moves a step to the index that it shall have among the steps that are there. */
export function moveStep(d: PipelineDoc, stepId: string, to: number): void {
  stepOf(d, stepId)
  const others = stepIds(d).filter(id => id !== stepId)
  const held = heldOrder(d.steps)
  const wanted = others.toSpliced(Math.max(0, Math.min(to, others.length)), 0, stepId)
  if (wanted.join() === stepIds(d).join()) return
  // Only the moved step takes a new key unless others' keys clash: prefer that to the shortest set of moves.
  held.delete(stepId)
  writeOrder(d.steps, reorder(held, wanted))
}

/** Splices a step's SQL as an editor does. Positions count UTF-16 code units. */
export function spliceStepSql(
  d: PipelineDoc,
  stepId: string,
  at: number,
  deleteCount: number,
  insert = '',
): void {
  stepOf(d, stepId)
  spliceText(d, ['steps', stepId, 'sql'], at, deleteCount, insert)
}

/** Makes a step's SQL equal to a text by the smallest splices, so that it merges with what others type. */
export function updateStepSql(d: PipelineDoc, stepId: string, sql: string): void {
  stepOf(d, stepId)
  writeText(d, ['steps', stepId, 'sql'], sql)
}

export function setStepDescription(d: PipelineDoc, stepId: string, description: string): void {
  stepOf(d, stepId)
  writeText(d, ['steps', stepId, 'description'], description)
}

export function setStepSetting<K extends StepSetting>(
  d: PipelineDoc,
  stepId: string,
  key: K,
  value: StepDefinition[K] | undefined,
): void {
  if (!Object.hasOwn(STEP_SETTINGS, key)) throw invalid(`A step has no setting «${key}».`)
  const step = stepOf(d, stepId)
  putSettings(step, { [key]: value }, { [key]: STEP_SETTINGS[key] })
}

/** Adds a test to a step and returns the test's id. */
export function addTest(d: PipelineDoc, stepId: string, test: NewTest): string {
  const id = test.id ?? v7()
  const step = stepOf(d, stepId)
  if (Object.hasOwn(step.tests, id)) throw invalid(`There is a test with the id ${id} already.`)
  const keys = reorder(heldOrder(step.tests), [...liveInOrder(step.tests).map(([live]) => live), id])
  putTest(d, stepId, valid(dataTest, { ...test, id }, 'test'))
  writeOrder(step.tests, keys)
  return id
}

/** Changes fields of a test; those not named stay. */
export function updateTest(d: PipelineDoc, stepId: string, testId: string, patch: Partial<NewTest>): void {
  const test = testOf(d, stepId, testId)
  const held = parseTest(testId, test as unknown as Record<string, unknown>)
  const same = patch.type === undefined || patch.type === held?.type
  const kept = same ? held : { severity: held?.severity, description: held?.description }
  putTest(d, stepId, valid(dataTest, { ...kept, ...patch, id: testId }, 'test'))
}

export function removeTest(d: PipelineDoc, stepId: string, testId: string): void {
  markDeleted(testOf(d, stepId, testId), true)
}

/** Creates, changes or brings back a param; fields that are not named keep what they have. */
export function setParam(d: PipelineDoc, name: string, param: Partial<ParamDefinition>): void {
  putNamed(d, 'params', name, param, PARAM_SETTINGS, paramDefinition)
}

export function removeParam(d: PipelineDoc, name: string): void {
  markDeleted(namedOf(d, 'params', name), true)
}

/** Creates, changes or brings back a source; fields that are not named keep what they have. */
export function setSource(d: PipelineDoc, name: string, source: Partial<SourceDefinition>): void {
  putNamed(d, 'sources', name, source, SOURCE_SETTINGS, sourceDefinition)
}

export function removeSource(d: PipelineDoc, name: string): void {
  markDeleted(namedOf(d, 'sources', name), true)
}

export function updateReport(d: PipelineDoc, report: string): void {
  writeText(d, ['report'], report)
}

export function spliceReport(d: PipelineDoc, at: number, deleteCount: number, insert = ''): void {
  spliceText(d, ['report'], at, deleteCount, insert)
}

export function setPublish(d: PipelineDoc, publish: Partial<PublishDefinition>): void {
  const allowed = valid(publishDefinition, { ...publish }, 'publish')
  for (const key of Object.keys(publish) as (keyof PublishDefinition)[])
    if (publish[key] !== undefined) writeUnlessDefault(d.publish, key, allowed[key], PUBLISH_SETTINGS[key])
}

export function setName(d: PipelineDoc, name: string): void {
  writeRegister(d, 'name', valid(pipelineName, name, 'name'))
}

export function setDescription(d: PipelineDoc, description: string): void {
  writeText(d, ['description'], description)
}

export function setTags(d: PipelineDoc, tags: readonly string[]): void {
  writeUnlessDefault(d.settings, 'tags', valid(tagList, [...tags], 'tags'), tagList.default([]))
}

// ---- what the operations and makeEqualTo share

/** A map of the document, made when another program spoiled it. */
export function mapAt<T extends object>(parent: object, key: string): T {
  const map = parent as Record<string, unknown>
  if (!isMap(map[key])) map[key] = {}
  return map[key] as T
}

export function markDeleted(thing: { deleted: boolean }, deleted: boolean): void {
  if (thing.deleted !== deleted) thing.deleted = deleted
}

export function writeOrder(
  things: Record<string, { order: unknown }>,
  keys: ReadonlyMap<string, string>,
): void {
  for (const [id, key] of keys) writeRegister(things[id]!, 'order', key)
}

/** Every well-formed entry's order key, tombstones too: new keys must not meet those of steps that may come back. */
export function heldOrder(things: unknown): Map<string, string> {
  return new Map(
    mapEntries(things).flatMap(([id, entry]) => {
      const order = stringOf(entry.order)
      return order === undefined ? [] : [[id, order] as const]
    }),
  )
}

/** Writes a value, but leaves an absent setting absent while the value is its default. */
export function writeUnlessDefault(
  settings: Record<string, Automerge.ImmutableString>,
  key: string,
  value: unknown,
  schema: z.ZodType,
): void {
  if (!Object.hasOwn(settings, key)) {
    const absent = schema.safeParse(undefined)
    if (absent.success && JSON.stringify(absent.data) === JSON.stringify(value)) return
  }
  writeSetting(settings, key, value)
}

/** Writes the settings that are given and not undefined. */
export function putSettings(
  thing: { settings: Record<string, Automerge.ImmutableString> },
  values: Readonly<Record<string, unknown>>,
  schemas: Readonly<Record<string, z.ZodType>>,
): void {
  const settings = mapAt<Record<string, Automerge.ImmutableString>>(thing, 'settings')
  for (const [key, schema] of Object.entries(schemas)) {
    const value = values[key]
    if (value !== undefined) writeUnlessDefault(settings, key, valid(schema, value, key), schema)
  }
}

/** Writes a whole test, creating or reviving it; the order is the caller's. */
export function putTest(d: PipelineDoc, stepId: string, test: DataTest): void {
  const tests = mapAt<Record<string, TestDoc>>(d.steps[stepId]!, 'tests')
  if (!isMap(tests[test.id]))
    tests[test.id] = {
      order: register('a0'),
      deleted: false,
      description: newText(d, test.description),
      sql: test.type === 'custom' ? newText(d, test.sql) : '',
      settings: {},
    }
  const entry = tests[test.id]!
  markDeleted(entry, false)
  const path = ['steps', stepId, 'tests', test.id]
  writeText(d, [...path, 'description'], test.description)
  if (test.type === 'custom') writeText(d, [...path, 'sql'], test.sql)
  const settings = mapAt<Record<string, Automerge.ImmutableString>>(entry, 'settings')
  const fields: Record<string, unknown> = { ...test }
  for (const key of TEST_SETTINGS) if (fields[key] !== undefined) writeSetting(settings, key, fields[key])
}

/** Writes all fields of a param or source, creating or reviving it. */
export function putNamed(
  d: PipelineDoc,
  area: 'params' | 'sources',
  name: string,
  given: Readonly<Record<string, unknown>>,
  schemas: Readonly<Record<string, z.ZodType>>,
  whole: z.ZodType,
): void {
  valid(identifierName, name, 'name')
  const things = mapAt<Record<string, NamedDoc>>(d, area)
  const isNew = !isMap(things[name])
  if (isNew) {
    valid(whole, given, name)
    things[name] = { deleted: false, description: '', settings: {} }
  }
  const thing = things[name]!
  putSettings(thing, given, schemas)
  if (typeof given.description === 'string') writeText(d, [area, name, 'description'], given.description)
  markDeleted(thing, false)
}

export function valid<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const issues = parsed.error.issues.map(issue => ({ path: issue.path.map(String), message: issue.message }))
  throw new AppError('document.invalid', `Invalid ${what}: ${issues[0]?.message ?? 'not allowed'}.`, {
    hint: 'Give it a value that docs/formats.md allows.',
    details: { issues },
  })
}

export function stepOf(d: PipelineDoc, stepId: string): StepDoc {
  const step: unknown = Object.hasOwn(d.steps, stepId) ? d.steps[stepId] : undefined
  if (!isMap(step)) throw new AppError('step.not_found', `There is no step ${stepId}.`)
  return step as unknown as StepDoc
}

function testOf(d: PipelineDoc, stepId: string, testId: string): TestDoc {
  const { tests } = stepOf(d, stepId)
  const test: unknown = Object.hasOwn(tests, testId) ? tests[testId] : undefined
  if (!isMap(test)) throw invalid(`There is no test ${testId}.`)
  return test as unknown as TestDoc
}

function namedOf(d: PipelineDoc, area: 'params' | 'sources', name: string): NamedDoc {
  const thing: unknown = Object.hasOwn(d[area], name) ? d[area][name] : undefined
  if (!isMap(thing)) throw invalid(`There is no ${area === 'params' ? 'param' : 'source'} «${name}».`)
  return thing as unknown as NamedDoc
}

const stepIds = (d: PipelineDoc): string[] => liveInOrder(d.steps).map(([id]) => id)

const invalid = (message: string): AppError =>
  new AppError('document.invalid', message, { hint: 'Look at what is there, then try again.' })
