import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import {
  appendItem,
  appendRun,
  appendVerdict,
  decodeSequence,
  encodeItem,
  encodeSequence,
  endItem,
  LIMITS,
  liveEvent,
  logItem,
  logRun,
  newId,
  PROTOCOL_VERSION,
  packItem,
  packItemHead,
  parseAppend,
  ROUTES,
  SequenceReader,
  snapshotItem,
  storedRun,
  voidRecord,
} from '../../src/protocol/index.ts'

// Change this only together with PROTOCOL_VERSION, or (before the first release) when a wire change is meant.
const WIRE = { version: 1, hash: '7ec688b02423652b8a7a0480d437076c327b84752da2532660ec5e56e286b682' }

const schemaOf = (value: unknown) =>
  value instanceof z.ZodType
    ? z.toJSONSchema(value, { io: 'input', unrepresentable: 'any' })
    : (value ?? null)

describe('the wire', () => {
  it('[WIRE1] a change of any route or frame needs a new protocol version', () => {
    const described = {
      routes: ROUTES.map(({ id, method, path, access, params, query, body, reply }) => ({
        id,
        method,
        path,
        access,
        params: schemaOf(params),
        query: schemaOf(query),
        body: schemaOf(body),
        reply: schemaOf(reply),
      })),
      frames: [
        appendItem,
        appendRun,
        appendVerdict,
        storedRun,
        endItem,
        logItem,
        logRun,
        packItem,
        snapshotItem,
        liveEvent,
        voidRecord,
      ].map(schemaOf),
    }
    const hash = createHash('sha256').update(JSON.stringify(described)).digest('hex')
    expect({ version: PROTOCOL_VERSION, hash }).toEqual(WIRE)
  })

  it('[WIRE2] every route has its own id and its own method and path', () => {
    expect(new Set(ROUTES.map(r => r.id)).size).toBe(ROUTES.length)
    expect(new Set(ROUTES.map(r => `${r.method} ${r.path}`)).size).toBe(ROUTES.length)
  })

  it('[WIRE3] a route with a permission says where its workspace comes from', () => {
    for (const r of ROUTES) {
      expect(Boolean(r.workspace), r.id).toBe(r.access !== 'public' && r.access !== 'session')
    }
  })

  it('[WIRE4] a sequence cut anywhere gives back its whole items and says that it was cut', () => {
    const items = Array.from({ length: 5 }, (_, i) => ({
      seq: i + 1,
      document_id: newId(),
      hash: i.toString(16).padStart(64, 'a'),
      bytes: new Uint8Array(i * 40),
    }))
    const whole = encodeSequence(items)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: whole.length }), fc.integer({ min: 1, max: 50 }), (cut, step) => {
        const reader = new SequenceReader()
        const got: unknown[] = []
        for (let at = 0; at < cut; at += step)
          got.push(...reader.push(whole.subarray(at, Math.min(cut, at + step))))
        expect(got).toEqual(items.slice(0, got.length))
        if (cut === whole.length) expect(got.length).toBe(items.length)
        const boundary = encodeSequence(items.slice(0, got.length)).length
        expect(reader.finish().cut).toBe(cut > boundary)
      }),
    )
  })

  it('[WIRE5] any bytes are either a sequence or a typed error', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
        for (const read of [decodeSequence, parseAppend]) {
          try {
            read(bytes)
          } catch (error) {
            expect(error).toMatchObject({ code: 'request.invalid' })
          }
        }
      }),
    )
  })

  it('[FUZZ5] a push is read no further than to what is wrong or too much', () => {
    const header = encodeSequence([{ v: 1, device_id: newId(), live: true }])
    const after = (...parts: Uint8Array[]) => Uint8Array.from(Buffer.concat([header, ...parts]))
    // The last byte is no CBOR at all; nobody comes that far.
    const end = Uint8Array.of(0xff)
    expect(() => parseAppend(after(new Uint8Array(1000).fill(0xa0), end))).toThrow(/item 0/)
    const change = {
      document_id: newId(),
      kind: 'pipeline',
      subject: null,
      base: null,
      bytes: new Uint8Array(1),
    }
    const many = encodeSequence(Array.from({ length: LIMITS.pushChanges + 1 }, () => change))
    expect(() => parseAppend(after(many, end))).toThrow(/at most 2000 changes/)

    let unpackedBytes = 0
    const packs = encodeSequence(
      Array.from({ length: 5 }, () => ({
        pack: 'zstd',
        size: LIMITS.packBytes / 2,
        bytes: new Uint8Array(1),
      })),
    )
    const unpack = ({ size }: { size: number }) => {
      unpackedBytes += size
      return encodeSequence([change])
    }
    expect(() => parseAppend(after(packs, end), { unpack })).toThrow(/packs of a push/)
    expect(unpackedBytes).toBe(LIMITS.packBytes)
    for (const lead of [Uint8Array.of(0xb8, 65), Uint8Array.of(0x9a, 0, 2, 0, 0)])
      expect(() => parseAppend(after(lead, end))).toThrow(/more parts/)
  })

  it('[WIRE10] a pack whose bytes follow in pieces is the item that is made at once', () => {
    for (const length of [0, 1, 23, 24, 255, 256, 65_535, 65_536, 1_000_000]) {
      const bytes = new Uint8Array(length).fill(7)
      const item = encodeItem({ pack: 'zstd', size: length * 3, bytes })
      const head = packItemHead({ size: length * 3, length })
      expect(Buffer.concat([head, bytes]).equals(item), `${length} bytes`).toBe(true)
    }
  })

  it('[WIRE5] sixteen bytes are an id, or a typed error', () => {
    const body = encodeSequence([{ v: 1, device_id: newId(), live: true }])
    const key = body.indexOf(0x50)
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), bytes => {
        body.set(bytes, key + 1)
        const [header] = decodeSequence(body)
        expect(Buffer.from(String(header?.device_id).replaceAll('-', ''), 'hex')).toEqual(Buffer.from(bytes))
        try {
          expect(parseAppend(body).header.device_id).toBe(header?.device_id)
        } catch (error) {
          expect(error).toMatchObject({ code: 'request.invalid' })
        }
      }),
    )
  })
})
