import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import type { Input } from './inputs.ts'

const FOLDER = join(import.meta.dirname, '..', '..', '..', 'test-fixtures', 'regressions', 'wire')

const regression = z.strictObject({
  /** What happened before it was mended. */
  found: z.string(),
  /** Which input it was: the documents that it is about are those of its block. */
  seed: z.number().int(),
  index: z.number().int(),
  as: z.enum(['ann', 'ben', 'vic', 'eve']),
  method: z.enum(['GET', 'POST', 'PATCH', 'DELETE']),
  path: z.string(),
  headers: z.record(z.string(), z.string()),
  body_base64: z.base64().nullable(),
})

/** Inputs that failed once, by file name. */
export interface Regression {
  readonly name: string
  readonly seed: number
  readonly index: number
  readonly input: Input
}

export const regressions = (): Regression[] =>
  (existsSync(FOLDER) ? readdirSync(FOLDER) : [])
    .filter(name => name.endsWith('.json'))
    .toSorted()
    .map(name => {
      const { found, seed, index, body_base64, ...input } = regression.parse(
        JSON.parse(readFileSync(join(FOLDER, name), 'utf8')),
      )
      const body = body_base64 === null ? null : Uint8Array.from(Buffer.from(body_base64, 'base64'))
      return { name, seed, index, input: { kind: found, ...input, body } }
    })

/** Keeps an input; answers its file's path. */
export const keepRegression = (seed: number, index: number, found: string, input: Input): string => {
  const { kind: _, body, ...request } = input
  const kept = {
    found,
    seed,
    index,
    ...request,
    body_base64: body === null ? null : Buffer.from(body).toString('base64'),
  }
  mkdirSync(FOLDER, { recursive: true })
  const path = join(FOLDER, `${seed}-${index}.json`)
  writeFileSync(path, `${JSON.stringify(regression.parse(kept), null, 2)}\n`)
  return path
}
