import { z } from 'zod'
import { column } from './state.ts'
import { id } from './wire.ts'

/** A side of a comparison: a version, the working state on this device, or a local draft. */
export const side = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('version'), number: z.number().int().positive() }),
  z.strictObject({ kind: z.literal('working') }),
  z.strictObject({ kind: z.literal('local_draft'), draft_id: id }),
])

export const textLine = z.strictObject({
  op: z.enum(['same', 'added', 'removed']),
  text: z.string(),
  before: z.number().int().nullable(),
  after: z.number().int().nullable(),
})

export const comparison = z.strictObject({
  /** Of comments: their document. */
  pipeline_id: id,
  /** File by file, as the folder format has them; unchanged files are left out. */
  files: z.array(
    z.strictObject({
      path: z.string(),
      status: z.enum(['added', 'removed', 'changed', 'formatting']),
      before: z.string(),
      after: z.string(),
      lines: z.array(textLine),
    }),
  ),
  settings: z.array(
    z.strictObject({ label: z.string(), before: z.string().nullable(), after: z.string().nullable() }),
  ),
  steps: z.array(
    z.strictObject({
      step_id: z.string(),
      name: z.string(),
      change: z.enum(['added', 'removed', 'renamed', 'edited', 'downstream', 'same']),
      columns_added: z.array(column),
      columns_removed: z.array(column),
      columns_retyped: z.array(z.strictObject({ name: z.string(), before: z.string(), after: z.string() })),
      rows_before: z.number().int().nullable(),
      rows_after: z.number().int().nullable(),
    }),
  ),
})
export type Comparison = z.infer<typeof comparison>
