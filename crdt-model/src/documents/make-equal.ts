import type * as Automerge from '@automerge/automerge'
import { canonicalJson, contentHash } from '../canonical/canonical.ts'
import { AppError } from '../errors/index.ts'
import {
  type PipelineDefinition,
  paramDefinition,
  pipelineDefinition,
  sourceDefinition,
  tagList,
} from './definition.ts'
import {
  heldOrder,
  mapAt,
  markDeleted,
  putNamed,
  putSettings,
  putTest,
  valid,
  writeOrder,
  writeUnlessDefault,
} from './edit-pipeline.ts'
import { changeWhole, newText, writeText } from './long-texts.ts'
import { reorder } from './order.ts'
import { identityProblems, textProblems } from './problems.ts'
import { pipelineFromDoc } from './read-pipeline.ts'
import { isMap, mapEntries, register, writeRegister } from './registers.ts'
import {
  PARAM_SETTINGS,
  type PipelineDoc,
  PUBLISH_SETTINGS,
  SCHEMA_VERSION,
  SOURCE_SETTINGS,
  STEP_SETTINGS,
  type StepDoc,
} from './schema.ts'

/**
 * One change, or several where texts are longer than one takes, after which `pipelineFromDoc` equals the definition exactly, content hash included: what import and restoring a
 * version do. Edits as little as it can: texts by splices, a removed step comes back by its id, what is equal stays untouched
 * (and a document that is equal already is returned as it is).
 *
 * Throws `document.invalid` for a definition that the schema refuses or that uses an id twice.
 */
export function makeEqualTo<D extends PipelineDoc>(
  doc: Automerge.Doc<D>,
  definition: PipelineDefinition,
  message: string,
): Automerge.Doc<D> {
  const wanted = checked(definition)
  if (canonicalJson(pipelineFromDoc(doc as PipelineDoc)) === canonicalJson(wanted)) return doc
  const next = changeWhole(doc, message, d => writeDefinition(d as unknown as PipelineDoc, wanted))
  if (contentHash(pipelineFromDoc(next as PipelineDoc)) !== contentHash(wanted))
    throw new AppError('internal', 'A document could not be made equal to a definition.')
  return next
}

function checked(definition: PipelineDefinition): PipelineDefinition {
  const wanted = valid(pipelineDefinition, definition, 'definition')
  const [problem] = [
    ...identityProblems(wanted).filter(found => found.code !== 'step.duplicate_name'),
    ...textProblems(wanted),
  ]
  if (problem) throw new AppError('document.invalid', problem.message, { hint: problem.hint })
  return wanted
}

/** A new document's content, in the change that makes it. */
export function writeNewDocument(d: PipelineDoc, definition: PipelineDefinition): void {
  const wanted = checked(definition)
  d.schema_version = SCHEMA_VERSION
  d.kind = register('pipeline')
  for (const key of ['settings', 'params', 'sources', 'steps', 'publish'] as const) mapAt(d, key)
  d.description = newText(d, wanted.description)
  d.report = newText(d, wanted.report)
  writeDefinition(d, wanted)
}

function writeDefinition(d: PipelineDoc, wanted: PipelineDefinition): void {
  writeRegister(d, 'name', wanted.name)
  writeText(d, ['description'], wanted.description)
  writeText(d, ['report'], wanted.report)
  writeUnlessDefault(mapAt(d, 'settings'), 'tags', wanted.tags, tagList.default([]))
  const publish = mapAt<PipelineDoc['publish']>(d, 'publish')
  for (const [key, schema] of Object.entries(PUBLISH_SETTINGS))
    writeUnlessDefault(publish, key, wanted.publish[key as keyof typeof wanted.publish], schema)
  writeNamed(d, 'params', wanted)
  writeNamed(d, 'sources', wanted)
  writeSteps(d, wanted)
}

function writeNamed(d: PipelineDoc, area: 'params' | 'sources', wanted: PipelineDefinition): void {
  const things = mapAt<PipelineDoc['params']>(d, area)
  const schemas = area === 'params' ? PARAM_SETTINGS : SOURCE_SETTINGS
  const whole = area === 'params' ? paramDefinition : sourceDefinition
  for (const [name] of mapEntries(things))
    if (!Object.hasOwn(wanted[area], name)) markDeleted(things[name]!, true)
  for (const [name, thing] of Object.entries(wanted[area])) putNamed(d, area, name, thing, schemas, whole)
}

function writeSteps(d: PipelineDoc, wanted: PipelineDefinition): void {
  const steps = mapAt<PipelineDoc['steps']>(d, 'steps')
  const ids = new Set(wanted.steps.map(step => step.id))
  for (const [id] of mapEntries(steps)) if (!ids.has(id)) markDeleted(steps[id]!, true)
  const keys = reorder(heldOrder(steps), [...ids])
  for (const step of wanted.steps) {
    if (!isMap(steps[step.id])) steps[step.id] = newStep(d, step, keys.get(step.id)!)
    const entry = steps[step.id]!
    markDeleted(entry, false)
    writeRegister(entry, 'name', step.name)
    writeText(d, ['steps', step.id, 'sql'], step.sql)
    writeText(d, ['steps', step.id, 'description'], step.description)
    putSettings(entry, { ...step }, STEP_SETTINGS)
    writeTests(d, step)
  }
  writeOrder(steps, keys)
}

const newStep = (d: PipelineDoc, step: PipelineDefinition['steps'][number], order: string): StepDoc => ({
  name: register(step.name),
  order: register(order),
  deleted: false,
  sql: newText(d, step.sql),
  description: newText(d, step.description),
  settings: {},
  tests: {},
})

function writeTests(d: PipelineDoc, step: PipelineDefinition['steps'][number]): void {
  const tests = mapAt<StepDoc['tests']>(d.steps[step.id]!, 'tests')
  const ids = step.tests.map(test => test.id)
  for (const [id] of mapEntries(tests)) if (!ids.includes(id)) markDeleted(tests[id]!, true)
  const keys = reorder(heldOrder(tests), ids)
  for (const test of step.tests) putTest(d, step.id, test)
  writeOrder(tests, keys)
}
