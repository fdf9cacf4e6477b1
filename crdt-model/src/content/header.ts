import { toHex } from '../protocol/hex.ts'
import { COLUMN, DEFLATED_COLUMN, MAGIC } from './chunks.ts'
import { ByteReader, countRows, numbers, Unreadable } from './columns.ts'

/** What a change says of its place in the history. */
export interface ChangeHeader {
  readonly deps: readonly string[]
  readonly actor: string
  readonly seq: number
  readonly startOp: number
  readonly operations: number
}

const PLAIN = 1
const MARK = 7

/**
 * A change's header out of its bytes, a tenth of the cost of decoding it. Neither checksum nor operations are looked into, but that
 * there are at most `maxOps` of kinds that a document of ours has. Null for anything else, a deflated change too: decode it.
 */
export function readChangeHeader(bytes: Uint8Array, maxOps: number): ChangeHeader | null {
  try {
    const reader = new ByteReader(bytes)
    for (const magic of MAGIC) if (reader.byte() !== magic) return null
    reader.take(4)
    if (reader.byte() !== PLAIN) return null
    const body = new ByteReader(reader.take(reader.uleb()))
    if (!reader.done) return null
    const deps: string[] = []
    for (let count = body.uleb(); count > 0; count--) deps.push(toHex(body.take(32)))
    const actor = toHex(body.take(body.uleb()))
    const [seq, startOp] = [body.uleb(), body.uleb()]
    body.sleb()
    body.take(body.uleb())
    for (let count = body.uleb(); count > 0; count--) body.take(body.uleb())
    let [before, size] = [0, 0]
    let actions: number | null = null
    for (let count = body.uleb(); count > 0; count--) {
      const spec = body.uleb()
      if (spec & DEFLATED_COLUMN) return null
      if (spec === COLUMN.action) actions = before
      const length = body.uleb()
      if (spec === COLUMN.action) size = length
      before += length
    }
    if (actions === null) return { deps, actor, seq, startOp, operations: 0 }
    body.take(actions)
    const column = body.take(size)
    const operations = countRows(column, maxOps)
    if (numbers(column, operations).some(action => action < 0 || action >= MARK)) return null
    return { deps, actor, seq, startOp, operations }
  } catch (error) {
    if (error instanceof Unreadable) return null
    throw error
  }
}
