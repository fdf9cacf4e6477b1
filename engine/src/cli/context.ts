import { AppError } from '@pluto-duck/crdt-model/errors'
import { validate } from 'uuid'
import type { PipelineEntry } from '../contract/index.ts'
import { noPipelines } from './next-step.ts'
import type { Output } from './output.ts'
import type { Session } from './session.ts'

/** What every command gets: a host that is opened when it is first needed, and a place to write. */
export interface Context {
  readonly output: Output
  session(): Promise<Session>
}

/** A pipeline by its name or id; says which names there are when it finds none. */
export const findPipeline = async (session: Session, nameOrId: string): Promise<PipelineEntry> => {
  const { pipelines } = await session.value('pipeline.list', {})
  const found = pipelines.find(p => (validate(nameOrId) ? p.pipeline_id === nameOrId : p.name === nameOrId))
  if (found) return found
  // A draft is edited, compiled and exported like a pipeline, by its id.
  const entry = validate(nameOrId) ? await session.call('pipeline.read', { pipeline_id: nameOrId }) : null
  if (entry?.ok) return entry.value
  const names = pipelines.map(p => p.name)
  throw new AppError(
    'pipeline.not_found',
    `There is no pipeline ${JSON.stringify(nameOrId)} in this workspace.`,
    { hint: names.length > 0 ? `There are: ${names.join(', ')}.` : await noPipelines(session) },
  )
}

/** `v7`, `7` or `working`. */
export const parseSide = (text: string): { kind: 'version'; number: number } | { kind: 'working' } => {
  if (text === 'working') return { kind: 'working' }
  return { kind: 'version', number: parseVersion(text) }
}

export const parseVersion = (text: string): number => {
  const number = Number(/^v?(\d{1,9})$/.exec(text)?.[1] ?? Number.NaN)
  if (!Number.isInteger(number) || number < 1) {
    throw new AppError('usage.invalid', `${JSON.stringify(text)} is not a version: write 7 or v7.`)
  }
  return number
}

/** `--param region=EU`, repeated: numbers, true, false and null are read as such, everything else is text. */
export const parseParams = (given: readonly string[]): Record<string, string | number | boolean | null> => {
  const params: Record<string, string | number | boolean | null> = {}
  for (const text of given) {
    const at = text.indexOf('=')
    if (at < 1) throw new AppError('usage.invalid', `--param ${text}: write NAME=VALUE.`)
    const value = text.slice(at + 1)
    params[text.slice(0, at)] = /^(true|false|null|-?\d+(\.\d+)?)$/.test(value) ? JSON.parse(value) : value
  }
  return params
}
