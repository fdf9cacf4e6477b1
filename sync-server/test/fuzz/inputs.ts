import { isUint8Array } from 'node:util/types'
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import * as Automerge from '@automerge/automerge'
import { CBOR_SEQUENCE } from '@pluto-duck/crdt-model/protocol'
import { frame, rawBody, takeApart, uleb } from '../changes/raw-change.ts'
import { type Cbor, encodeCbor } from './cbor.ts'
import { BLOCK, type Corpus, type CorpusDocument, corpusOf } from './corpus.ts'
import { mutateBytes, mutateValue, oddValue } from './mutate.ts'
import { requestOf } from './requests.ts'
import { Rng } from './rng.ts'

/** Whose session and device a request carries. */
export type Sender = 'ann' | 'ben' | 'vic' | 'eve'

/** One request. `{workspace}` and `{device}` in it stand for what the world knows. */
export interface Input {
  readonly kind: string
  readonly as: Sender
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array | null
}

let known: { readonly seed: number; readonly block: number; readonly corpus: Corpus } | null = null

/** The documents that the input finds. */
export const corpusFor = (seed: number, index: number): Corpus => {
  const block = Math.floor(index / BLOCK)
  if (known?.seed !== seed || known.block !== block) known = { seed, block, corpus: corpusOf(seed, block) }
  return known.corpus
}

/** The input with this number: it depends on nothing else. */
export const inputOf = (seed: number, index: number): Input => {
  const rng = new Rng('input', seed, index)
  const corpus = corpusFor(seed, index)
  const roll = rng.next()
  if (roll < 0.15) return requestOf(rng, corpus)
  const as: Sender = rng.chance(0.8) ? 'ann' : rng.pick(['ben', 'vic', 'eve'])
  const items = Array.from({ length: rng.chance(0.7) ? 1 : 1 + rng.below(4) }, () => itemOf(rng, corpus))
  const [kind, body] = frameOf(rng, roll, items)
  const zipped = rng.chance(0.02)
  return {
    kind,
    as,
    method: 'POST',
    path: '/v1/workspaces/{workspace}/changes',
    headers: {
      'content-type': rng.chance(0.99) ? CBOR_SEQUENCE : rng.pick(['application/json', 'text/plain', 'x']),
      ...(zipped ? { 'content-encoding': rng.pick(['gzip', 'deflate', 'br', 'nonsense']) } : {}),
    },
    body: zipped && rng.chance(0.7) ? gzipSync(body) : body,
  }
}

interface Item {
  readonly document: CorpusDocument
  readonly documentId: string
  readonly bytes: Uint8Array
}

const itemOf = (rng: Rng, corpus: Corpus): Item => {
  const document = rng.pick(corpus.documents)
  // A pipeline's change may be sent as its draft's, and the other way round.
  const from = rng.chance(0.95) ? document : rng.pick(corpus.documents)
  const given = rng.chance(0.9) ? rng.pick(from.next) : rng.pick(from.history)
  const documentId = rng.chance(0.95) ? document.documentId : rng.id()
  const bytes = from === document || rng.chance(0.5) ? changeOf(rng, document, given) : given
  return { document, documentId, bytes }
}

/** A change that is wrong in one of many ways; now and then one that is right. */
const changeOf = (rng: Rng, document: CorpusDocument, given: Uint8Array): Uint8Array => {
  const roll = rng.next()
  if (roll < 0.05) return given
  if (roll < 0.2) return mutateBytes(rng, given)
  if (roll < 0.5) return mutatedInside(rng, given)
  if (roll < 0.85) return mutatedMeaning(rng, given)
  if (roll < 0.95) return mutatedParts(rng, given)
  return strangeChunk(rng, document, given)
}

/** Other bytes below a checksum that is right for them. */
const mutatedInside = (rng: Rng, given: Uint8Array): Uint8Array => {
  const body = mutateBytes(rng, rawBody(takeApart(given)))
  return rng.chance(0.8) ? frame(body) : frame(body, { type: 2 })
}

/** Another content, written by Automerge's own encoder where it takes it. */
const mutatedMeaning = (rng: Rng, given: Uint8Array): Uint8Array => {
  const fresh = rng.hex(16)
  const decoded = Automerge.decodeChange(given)
  const { hash: _, ...change } = JSON.parse(
    JSON.stringify(decoded, (_key, value) =>
      isUint8Array(value) ? { bytes: [...value] } : value,
    ).replaceAll(decoded.actor, rng.chance(0.9) ? fresh : decoded.actor),
    (_key, value) => (value?.bytes && Array.isArray(value.bytes) ? Uint8Array.from(value.bytes) : value),
  )
  const mutated = rng.chance(0.1) ? change : mutateValue(rng, change)
  try {
    return Automerge.encodeChange(mutated)
  } catch {
    // Nothing that the encoder can write: its bytes then.
    return mutatedInside(rng, given)
  }
}

/** A column, a dependency or a number replaced; written byte by byte. */
const mutatedParts = (rng: Rng, given: Uint8Array): Uint8Array => {
  const parts = takeApart(given)
  const body = { ...parts, actor: rng.hex(16), columns: [...parts.columns] }
  const at = rng.below(body.columns.length)
  // An empty change has none.
  const [spec, bytes] = body.columns[at] ?? [0x15, new Uint8Array()]
  switch (rng.below(7)) {
    case 0:
      body.columns[at] = [spec, mutateBytes(rng, bytes)]
      break
    case 1:
      body.columns[at] = [rng.pick([spec + 1, spec ^ 8, 0, 127, 300]), bytes]
      break
    case 2:
      body.columns.splice(at, 1)
      break
    case 3:
      body.columns[at] = [spec, Uint8Array.from([...uleb(rng.below(1 << 20) + 1), 0x7f, ...bytes])]
      break
    case 4:
      body.startOp = rng.pick([0, 1, body.startOp - 1, body.startOp + 1, 10 ** 8, 2 ** 50])
      break
    case 5:
      body.seq = rng.pick([0, 2, 3, 2 ** 40])
      break
    default:
      body.deps = rng.pick([[], [rng.hex(32)], [...body.deps, ...body.deps]])
  }
  return frame(rawBody(body))
}

/** Eight megabytes of nothing. */
const BOMB = deflateRawSync(new Uint8Array(8 << 20))

/** What Automerge also reads and nobody may push: whole documents, chunks in a row, unknown kinds, bombs. */
const strangeChunk = (rng: Rng, document: CorpusDocument, given: Uint8Array): Uint8Array => {
  switch (rng.below(5)) {
    case 0: {
      const [doc] = Automerge.applyChanges(Automerge.init(), [...document.history])
      return Automerge.save(doc)
    }
    case 1:
      return Uint8Array.from([...given, ...given])
    case 2:
      return frame(rawBody(takeApart(given)), { type: rng.below(256) })
    case 3: {
      const head = Uint8Array.from([0x85, 0x6f, 0x4a, 0x83, ...rng.bytes(4), 2, ...uleb(BOMB.length)])
      return Uint8Array.from([...head, ...BOMB])
    }
    default:
      return frame(rawBody(takeApart(given)), {
        type: 2,
        compressed: mutateBytes(rng, deflateRawSync(given)),
      })
  }
}

const idBytes = (id: string): Uint8Array => Buffer.from(id.replaceAll('-', ''), 'hex')

/** A map as it goes on the wire; what is bytes there is bytes here. */
type Wire = Record<string, unknown>

const toCbor = (value: unknown): Cbor => {
  if (isUint8Array(value)) return value
  if (Array.isArray(value)) return value.map(toCbor)
  if (value !== null && typeof value === 'object')
    return { map: Object.entries(value).map(([key, inner]) => [key, toCbor(inner)] as const) }
  return value as Cbor
}

const join = (parts: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(parts.flat())

/** `{device}` stands for the sender's device: sixteen bytes that the world puts in their place. */
export const DEVICE = new Uint8Array(16).fill(0xd7)

const frameOf = (rng: Rng, roll: number, items: readonly Item[]): [kind: string, body: Uint8Array] => {
  const header: Wire = { v: 1, device_id: DEVICE, live: rng.chance(0.5) }
  const all: Wire[] = [
    header,
    ...items.map(({ document, documentId, bytes }) => ({
      document_id: idBytes(documentId),
      kind: document.kind,
      subject: document.subject && { kind: document.subject.kind, id: idBytes(document.subject.id) },
      base: document.base === null ? null : idBytes(document.base),
      bytes,
    })),
  ]
  const write = (values: readonly unknown[], wide = false): Uint8Array =>
    join(values.map(value => encodeCbor(toCbor(value), wide)))
  if (roll < 0.6) return ['change', write(all)]
  if (roll < 0.78) return ['item', write(mutateValue(rng, all))]
  if (roll < 0.9) return ['frame', mutateBytes(rng, write(all))]
  switch (rng.below(11)) {
    case 0:
      return ['wide', write(all, true)]
    case 1:
      return ['order', write(all.toReversed())]
    case 2:
      return ['twice', join(all.map(one => encodeCbor({ map: twice(one) })))]
    case 3:
      return ['indefinite', join(all.map(one => encodeCbor({ map: entries(one), indefinite: true })))]
    case 4:
      return ['tag', join(all.map(one => encodeCbor({ tag: rng.below(70_000), value: toCbor(one) })))]
    case 5:
      return ['huge', huge(rng)]
    case 6:
      return ['keys', join(all.map(one => encodeCbor({ map: [[oddCbor(rng), 1], ...entries(one)] })))]
    case 7:
      return ['pack', packed(rng, write(all.slice(0, 1)), write(all.slice(1)))]
    case 8:
      return ['pack of packs', packed(rng, write(all.slice(0, 1)), packOf(rng, write(all.slice(1))))]
    case 9:
      return ['empty items', Uint8Array.from([...write(all.slice(0, 1)), ...EMPTY_ITEMS])]
    default:
      return ['noise', rng.bytes(rng.below(400))]
  }
}

const entries = (of: Wire) => Object.entries(of).map(([key, value]) => [key, toCbor(value)] as const)
const twice = (of: Wire) => [...entries(of), ...entries(of).slice(0, 1)]
const oddCbor = (rng: Rng): Cbor => {
  const value = oddValue(rng)
  return toCbor(value)
}

const EMPTY_ITEMS = new Uint8Array(100_000).fill(0xa0)
const EMPTY_PACK = zstdCompressSync(new Uint8Array(16 << 20).fill(0xa0))

/** A pack of a sequence, right or wrong: its size, its bytes, or what is in it. */
const packOf = (rng: Rng, sequence: Uint8Array): Uint8Array => {
  const inside = rng.chance(0.5) ? sequence : mutateBytes(rng, sequence)
  const bytes = rng.chance(0.1) ? EMPTY_PACK : zstdCompressSync(inside)
  const size = rng.chance(0.7) ? inside.length : rng.pick([0, 1, 2 * inside.length, 16 << 20, 2 ** 40, -1])
  const item = { pack: 'zstd', size, bytes: rng.chance(0.7) ? bytes : mutateBytes(rng, bytes) }
  return Uint8Array.from(encodeCbor(toCbor(rng.chance(0.8) ? item : mutateValue(rng, item))))
}

const packed = (rng: Rng, header: Uint8Array, rest: Uint8Array): Uint8Array => {
  const packs = Array.from({ length: 1 + rng.below(4) }, () => packOf(rng, rest))
  return Uint8Array.from([...header, ...packs.flatMap(pack => [...pack])])
}

/** Lengths that nobody could hold. */
const huge = (rng: Rng): Uint8Array => {
  const major = rng.pick([2, 3, 4, 5, 6]) << 5
  const length = rng.pick([
    [26, 0xff, 0xff, 0xff, 0xff],
    [27, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    [27, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  ])
  const [info, ...rest] = length as [number, ...number[]]
  return Uint8Array.from([major | info, ...rest, ...rng.bytes(rng.below(64))])
}
