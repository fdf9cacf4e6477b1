import type { z } from 'zod'
import { AppError } from '../errors/index.ts'
import {
  type DataTest,
  dataTest,
  type ParamDefinition,
  type PublishDefinition,
  type SourceDefinition,
  tagList,
} from './definition.ts'
import {
  putTest,
  removeParam,
  removeSource,
  removeStep,
  removeTest,
  renameStep,
  restoreStep,
  setDescription,
  setName,
  setParam,
  setPublish,
  setSource,
  setStepDescription,
  setStepSetting,
  setTags,
  stepOf,
  updateReport,
  updateStepSql,
  valid,
} from './edit-pipeline.ts'
import type { Mark } from './marks.ts'
import {
  PARAM_SETTINGS,
  type PipelineDoc,
  PUBLISH_SETTINGS,
  SOURCE_SETTINGS,
  STEP_SETTINGS,
  type StepSetting,
} from './schema.ts'

/**
 * Settles a mark by one side: what it marks becomes what that side had. The mark itself stays until a version is published that
 * lists it as resolved; a person may as well write something else altogether.
 *
 * Of a step that one side removed and the other changed, keeping it keeps the text as it is now. Throws `document.invalid` when
 * the mark has no such side.
 */
export function takeSide(d: PipelineDoc, mark: Mark, side: number): void {
  if (side < 0 || side >= mark.sides.length) throw invalid(`The mark has no side ${side}.`)
  const value = mark.values[side]
  if (mark.step_id !== undefined) takeInStep(d, mark.step_id, mark.field, value)
  else takeInPipeline(d, mark.field, value)
}

function takeInPipeline(d: PipelineDoc, field: string, value: unknown): void {
  const [area, key = ''] = splitOnce(field)
  switch (area) {
    case 'name':
      setName(d, String(value))
      break
    case 'description':
      setDescription(d, String(value))
      break
    case 'report':
      updateReport(d, String(value))
      break
    case 'tags':
      setTags(d, valid(tagList, value ?? [], 'tags'))
      break
    case 'publish':
      setPublish(d, { [key]: withDefault(PUBLISH_SETTINGS, key, value) } as Partial<PublishDefinition>)
      break
    case 'params':
      if (value === null) removeParam(d, key)
      else setParam(d, key, whole<ParamDefinition>(PARAM_SETTINGS, value))
      break
    case 'sources':
      if (value === null) removeSource(d, key)
      else setSource(d, key, whole<SourceDefinition>(SOURCE_SETTINGS, value))
      break
    default:
      throw invalid(`There is nothing to settle at «${field}».`)
  }
}

function takeInStep(d: PipelineDoc, stepId: string, field: string, value: unknown): void {
  const [area, key = ''] = splitOnce(field)
  switch (area) {
    case 'deleted':
      if ((value as { deleted: boolean }).deleted) removeStep(d, stepId)
      else restoreStep(d, stepId)
      break
    case 'step': {
      const { name, sql } = value as { name: string; sql: string }
      renameStep(d, stepId, name)
      updateStepSql(d, stepId, sql)
      break
    }
    case 'name':
      renameStep(d, stepId, String(value))
      break
    case 'sql':
      updateStepSql(d, stepId, String(value))
      break
    case 'description':
      setStepDescription(d, stepId, String(value))
      break
    case 'tests':
      stepOf(d, stepId)
      if (value === null) removeTest(d, stepId, key)
      else putTest(d, stepId, valid<z.ZodType<DataTest>>(dataTest, value, 'test'))
      break
    default:
      setStepSetting(d, stepId, area as StepSetting, withDefault(STEP_SETTINGS, area, value) as never)
  }
}

function splitOnce(field: string): [string, string?] {
  const at = field.indexOf('/')
  return at < 0 ? [field] : [field.slice(0, at), field.slice(at + 1)]
}

/** A side without the setting had its default; so it is written out. */
function withDefault(schemas: Readonly<Record<string, z.ZodType>>, key: string, value: unknown): unknown {
  if (!Object.hasOwn(schemas, key)) throw invalid(`There is no setting «${key}».`)
  return value ?? schemas[key]!.parse(undefined)
}

function whole<T>(schemas: Readonly<Record<string, z.ZodType>>, value: unknown): Partial<T> {
  const given = value as Record<string, unknown>
  const settings = Object.entries(schemas).map(([key, schema]) => [
    key,
    Object.hasOwn(given, key) ? given[key] : schema.safeParse(undefined).data,
  ])
  return { ...Object.fromEntries(settings), description: given.description } as Partial<T>
}

const invalid = (message: string): AppError =>
  new AppError('document.invalid', message, { hint: 'Look at the marks again.' })
