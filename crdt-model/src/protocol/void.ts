import { z } from 'zod'
import { AppError } from '../errors/index.ts'
import { decodeSequence, encodeItem } from './frames.ts'
import { hash } from './ids.ts'

/**
 * A record of the log that takes changes of its document out again: those that it names and every change that has one of
 * them in its past. Its bytes in the log are this as one CBOR item, its hash is their SHA-256.
 */
export const voidRecord = z.strictObject({
  v: z.literal(1),
  hashes: z.array(hash).min(1),
  /** Their bytes are gone on the server, and devices drop theirs: a secret was in them. */
  erase: z.boolean(),
  reason: z.string().max(500),
})
export type VoidRecord = z.infer<typeof voidRecord>

export const encodeVoid = (record: VoidRecord): Uint8Array => encodeItem({ ...record })

/** Throws `request.invalid` for anything else. */
export const decodeVoid = (bytes: Uint8Array): VoidRecord => {
  const [item, ...more] = decodeSequence(bytes)
  const parsed = voidRecord.safeParse(item)
  if (!parsed.success || more.length > 0)
    throw new AppError('request.invalid', 'Not a void record.', { cause: parsed.error })
  return parsed.data
}

/** What of `changes` (each after what it depends on) is void: the named ones, and those that have one of them in their past. */
export function voidedBy(
  hashes: Iterable<string>,
  changes: Iterable<{ readonly hash: string; readonly deps: readonly string[] }>,
): Set<string> {
  const voided = new Set(hashes)
  const found = new Set<string>()
  for (const change of changes) {
    if (!voided.has(change.hash) && !change.deps.some(dep => voided.has(dep))) continue
    voided.add(change.hash)
    found.add(change.hash)
  }
  return found
}
