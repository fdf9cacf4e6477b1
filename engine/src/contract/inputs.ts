import { z } from 'zod'
import { id } from './wire.ts'

/** What many methods take or answer. */
export const none = z.strictObject({})
export const done = z.strictObject({ ok: z.literal(true) })
export const pipeline = z.strictObject({ pipeline_id: id })
export const params = z
  .record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))
  .default({})
