import { type BundledChange, encodeBundle, encodeItem, type LogItem } from '@pluto-duck/crdt-model/protocol'
import { Packer } from './packs.ts'
import type { Verdict } from './push.ts'

/** Fewer changes than this are not worth a bundle. */
const WORTH_BUNDLING = 4
/** The type of a plain change chunk, behind magic and checksum. */
const TYPE_AT = 8
const PLAIN = 1

/** A page of the log as one sequence: what one device wrote in one go as bundles, and all of it in packs. */
export async function packLog(items: readonly LogItem[]): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  const packer = new Packer(async part => {
    parts.push(part)
  })
  for (const run of runsOf(items)) {
    const [first] = run as [LogItem]
    const bundle = run.length < WORTH_BUNDLING ? null : encodeBundle(run as readonly BundledChange[])
    if (bundle === null) {
      for (const item of run) await packer.add(encodeItem({ ...item }))
      continue
    }
    const { bytes: _, hash: __, ...of } = first
    await packer.add(encodeItem({ ...of, bundle }))
  }
  await packer.flush()
  return Buffer.concat(parts)
}

function runsOf(items: readonly LogItem[]): LogItem[][] {
  const runs: LogItem[][] = []
  for (const item of items) {
    const run = runs.at(-1)
    if (run && follows(run.at(-1)!, item)) run.push(item)
    else runs.push([item])
  }
  return runs
}

const follows = (before: LogItem, item: LogItem): boolean =>
  item.seq === before.seq + 1 &&
  item.document_id === before.document_id &&
  item.author_id === before.author_id &&
  item.device_id === before.device_id &&
  item.received_at === before.received_at &&
  item.live === before.live &&
  item.record === undefined &&
  before.record === undefined &&
  item.bytes[TYPE_AT] === PLAIN &&
  before.bytes[TYPE_AT] === PLAIN

/** Verdicts as they are sent: runs of what was stored with numbers that follow each other as one when `packed`. */
export function verdictItems(verdicts: readonly Verdict[], packed: boolean): Record<string, unknown>[] {
  if (!packed) return verdicts.map((verdict, index) => ({ ...itemOf(verdict), index }))
  const items: Record<string, unknown>[] = []
  for (let index = 0; index < verdicts.length; ) {
    const first = verdicts[index]!
    if (first.status !== 'stored') {
      items.push({ ...itemOf(first), index })
      index++
      continue
    }
    let count = 1
    while (goesOn(first, verdicts[index + count], count)) count++
    const { hash: _, ...run } = itemOf(first)
    items.push({ ...run, index, count })
    index += count
  }
  return items
}

function itemOf(verdict: Verdict): Record<string, unknown> {
  if (verdict.status === 'refused') return { ...verdict }
  const { status, hash, seq, authorId, receivedAt, live } = verdict
  return { status, hash, seq, author_id: authorId, received_at: receivedAt.getTime(), live }
}

/** Is `next` the one that a run of so many changes would have next? */
const goesOn = (
  first: Verdict & { readonly status: 'stored' },
  next: Verdict | undefined,
  count: number,
): boolean =>
  next?.status === 'stored' &&
  next.seq === first.seq + count &&
  next.live === first.live &&
  next.authorId === first.authorId &&
  next.receivedAt.getTime() === first.receivedAt.getTime()
