import { toHex } from '../protocol/hex.ts'
import { ByteReader, Unreadable } from './columns.ts'

export const MAGIC = [0x85, 0x6f, 0x4a, 0x83] as const
const DOCUMENT = 0
const CHANGE = 1
const DEFLATED_CHANGE = 2
const HASH_BYTES = 32
export const DEFLATED_COLUMN = 8
/** What a deflated piece may become. */
const MAX_INFLATED = 64 * 1024 * 1024

/** The specifications of the columns of operations, in documents and in changes. */
export const COLUMN = {
  objectActor: 1,
  objectCounter: 2,
  keyActor: 17,
  keyCounter: 19,
  key: 21,
  idActor: 33,
  idCounter: 35,
  insert: 52,
  action: 66,
  valueMeta: 86,
  value: 87,
  predCount: 112,
  predActor: 113,
  predCounter: 115,
  succCount: 128,
} as const
const WANTED: ReadonlySet<number> = new Set(Object.values(COLUMN))

/** A document's operations, or those of one change, as columns by their specification. */
export interface Chunk {
  /** A change: its operations have the numbers from here on. Null: a document, which has their ids as columns. */
  readonly startOp: number | null
  /** Hex; a column's actors are places in it. A change's first one is its own. */
  readonly actors: readonly string[]
  readonly columns: ReadonlyMap<number, Uint8Array>
}

/** The chunks of what `Automerge.load` accepts. Checksums are not looked at. */
export async function readChunks(bytes: Uint8Array): Promise<Chunk[]> {
  const reader = new ByteReader(bytes)
  const chunks: Chunk[] = []
  while (!reader.done) {
    for (const magic of MAGIC) if (reader.byte() !== magic) throw new Unreadable('no chunk begins here')
    reader.take(4)
    const type = reader.byte()
    const body = reader.take(reader.uleb())
    if (type === DOCUMENT) chunks.push(await readDocument(new ByteReader(body)))
    else if (type === CHANGE) chunks.push(await readChange(new ByteReader(body)))
    else if (type === DEFLATED_CHANGE) chunks.push(await readChange(new ByteReader(await inflate(body))))
    else throw new Unreadable('a chunk is of a kind that is not known')
  }
  return chunks
}

async function readDocument(body: ByteReader): Promise<Chunk> {
  const actors = list(body, () => toHex(body.take(body.uleb())))
  list(body, () => body.take(HASH_BYTES))
  const shapes = list(body, () => [body.uleb(), body.uleb()] as const)
  const columns = list(body, () => [body.uleb(), body.uleb()] as const)
  for (const [, size] of shapes) body.take(size)
  return { startOp: null, actors, columns: await readColumns(body, columns) }
}

async function readChange(body: ByteReader): Promise<Chunk> {
  list(body, () => body.take(HASH_BYTES))
  const own = toHex(body.take(body.uleb()))
  body.uleb()
  const startOp = body.uleb()
  body.sleb()
  body.take(body.uleb())
  const others = list(body, () => toHex(body.take(body.uleb())))
  const columns = list(body, () => [body.uleb(), body.uleb()] as const)
  return { startOp, actors: [own, ...others], columns: await readColumns(body, columns) }
}

async function readColumns(
  body: ByteReader,
  shapes: readonly (readonly [spec: number, size: number])[],
): Promise<Map<number, Uint8Array>> {
  const columns = new Map<number, Uint8Array>()
  for (const [spec, size] of shapes) {
    const data = body.take(size)
    const plain = spec & ~DEFLATED_COLUMN
    if (WANTED.has(plain)) columns.set(plain, spec & DEFLATED_COLUMN ? await inflate(data) : data)
  }
  return columns
}

function list<T>(reader: ByteReader, read: () => T): T[] {
  const out: T[] = []
  for (let count = reader.uleb(); count > 0; count--) out.push(read())
  return out
}

async function inflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new DecompressionStream('deflate-raw')
  const writer = stream.writable.getWriter()
  // What is wrong with the bytes is told to the reader below.
  const written = writer.write(new Uint8Array(bytes)).then(() => writer.close())
  written.catch(() => undefined)
  const parts: Uint8Array[] = []
  let size = 0
  const reader = stream.readable.getReader()
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Unreadable('a piece cannot be inflated')
    })
    if (done) break
    size += value.length
    if (size > MAX_INFLATED) throw new Unreadable('a piece is too large')
    parts.push(value)
  }
  const out = new Uint8Array(size)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}
