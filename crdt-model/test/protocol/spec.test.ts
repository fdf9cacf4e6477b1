import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { zstdDecompressSync } from 'node:zlib'
import * as Automerge from '@automerge/automerge'
import * as cborg from 'cborg'
import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import { CODES } from '../../src/errors/index.ts'
import { commentsDocumentId, createComments, createPipeline } from '../../src/index.ts'
import {
  appendHeader,
  appendItem,
  appendRun,
  appendVerdict,
  changeRoutes,
  decodeBundle,
  decodeItem,
  decodeSequence,
  decodeVoid,
  digestOfHeads,
  encodeItem,
  endItem,
  LIMITS,
  liveEvent,
  logItem,
  logRun,
  packItem,
  refusal,
  snapshotItem,
  storedRun,
  voidRecord,
} from '../../src/protocol/index.ts'
import { examplesOf, fromDiagnostic, toDiagnostic } from './diagnostic.ts'

const page = readFileSync(new URL('../../src/protocol/SPEC.md', import.meta.url), 'utf8')
const examples = examplesOf(page)
const FRAMES: Record<string, z.ZodType> = {
  appendHeader,
  appendItem,
  appendRun,
  appendVerdict,
  storedRun,
  endItem,
  logItem,
  logRun,
  packItem,
  snapshotItem,
  voidRecord,
}
/** The items of a frame, as the page has them. */
const itemsOf = <S extends z.ZodType>(frame: string, schema: S): z.output<S>[] =>
  examples
    .filter(example => example.frame === frame)
    .map(({ hex }) => schema.parse(decodeItem(new Uint8Array(Buffer.from(hex, 'hex')))?.item))
/** A fenced block of another kind. */
const block = (kind: string): string => {
  const found = new RegExp(`^\`\`\`${kind}\\n([\\s\\S]*?)\\n\`\`\`$`, 'm').exec(page)?.[1]
  if (found === undefined) throw new Error(`the page has no block ${kind}`)
  return found
}
const sha256 = (given: string | Uint8Array): string => createHash('sha256').update(given).digest('hex')
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe('the protocol’s page', () => {
  it('[WIRE6] has an example of every frame', () => {
    expect(new Set(examples.map(example => example.frame))).toEqual(new Set(Object.keys(FRAMES)))
  })

  it.each(examples.map((example, i) => [`${i + 1}: ${example.frame}`, example] as const))(
    '[WIRE6] its example %s says the same in both notations, and is a frame',
    (_, { frame, diagnostic, hex }) => {
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'))
      expect(toDiagnostic(cborg.decode(bytes))).toBe(diagnostic)
      expect(Buffer.from(cborg.encode(fromDiagnostic(diagnostic))).toString('hex')).toBe(hex)
      const read = decodeItem(bytes)
      expect(read?.rest).toHaveLength(0)
      const parsed = (FRAMES[frame] as z.ZodType).parse(read?.item)
      expect(Buffer.from(encodeItem(parsed as Record<string, unknown>)).toString('hex')).toBe(hex)
      // Nothing less than the whole is an item.
      expect(decodeItem(bytes.subarray(0, -1))).toBeNull()
    },
  )

  it('[WIRE6] names every refusal, every live event and the limits', () => {
    for (const code of refusal.options) expect(page).toContain(`| \`${code}\` |`)
    for (const option of liveEvent.options) expect(page).toContain(`| \`${option.shape.type.value}\` |`)
    expect(page).toContain(`${LIMITS.pushChanges.toLocaleString('en')} and ${LIMITS.pushBytes / 2 ** 20} MiB`)
    expect(page).toContain(
      `${LIMITS.changeBytes / 2 ** 10} KiB and ${LIMITS.changeOps.toLocaleString('en')} operations`,
    )
    expect(page).toContain(`(${LIMITS.logPage.toLocaleString('en')})`)
    expect(page).toContain(`up to ${LIMITS.waitSeconds} s`)
    expect(page).toContain(`at most ${LIMITS.packBytes / 2 ** 20} MiB`)
  })

  it('[WIRE6] its comments, void record, bundles and pack are what it says that they are', () => {
    const [, comments] = itemsOf('appendItem', appendItem)
    if (!comments?.subject) throw new Error('the second change to append is no comment')
    const about = { subject_kind: comments.subject.kind, subject_id: comments.subject.id }
    expect(comments.document_id).toBe(commentsDocumentId(about))
    expect(hexOf(comments.bytes)).toBe(hexOf(Automerge.getAllChanges(createComments(about))[0]!))
    // As the page says how: without our own code.
    const key = `comments:${about.subject_kind}:${about.subject_id}`
    const bits = sha256(`${key}:document`)
    const variant = (8 + (Number.parseInt(bits.charAt(3), 16) % 4)).toString(16)
    const time = about.subject_id.replaceAll('-', '').slice(0, 12)
    expect(comments.document_id.replaceAll('-', '')).toBe(
      `${time}7${bits.slice(0, 3)}${variant}${bits.slice(4, 19)}`,
    )
    const first = Automerge.decodeChange(comments.bytes)
    expect(first).toMatchObject({ actor: sha256(`${key}:actor`).slice(0, 32), seq: 1, startOp: 1, deps: [] })
    expect(first).toMatchObject({ time: 0, message: 'create' })
    const fields = ['schema_version', 'kind', 'subject_kind', 'subject_id', 'threads']
    expect(first.ops.map(op => op.key)).toEqual(fields)

    const [voided] = itemsOf('logItem', logItem).filter(item => item.record === 'void')
    expect(voided?.hash).toBe(sha256(voided?.bytes as Uint8Array))
    expect(decodeVoid(voided?.bytes as Uint8Array)).toEqual(itemsOf('voidRecord', voidRecord)[0])

    const limits = { changes: 10, bytes: 10_000 }
    for (const run of [...itemsOf('appendRun', appendRun), ...itemsOf('logRun', logRun)])
      expect(decodeBundle(run.bundle, limits).map(change => hexOf(change.bytes))).toEqual(
        block('changes').split('\n'),
      )
    const [pack] = itemsOf('packItem', packItem)
    const inside = zstdDecompressSync(pack?.bytes as Uint8Array)
    expect(inside).toHaveLength(pack?.size as number)
    expect(decodeSequence(inside).map(item => logRun.parse(item))).toEqual(itemsOf('logRun', logRun))
  })

  it('[WIRE6] its digest is that of its lines, and of heads without those of which nothing counts', () => {
    const [text = '', digest] = block('digest').split('\n--\n')
    const lines = text.split('\n').map(line => line.split(':'))
    const heads = lines.map(([document_id = '', list = '']) => ({
      document_id,
      heads: list.split(',').filter(Boolean),
    }))
    expect(heads.filter(one => one.heads.length === 0)).toHaveLength(1)
    expect(digestOfHeads(heads)).toBe(digest)
    const counted = text.split('\n').filter(line => !line.endsWith(':'))
    expect(sha256(counted.map(line => `${line}\n`).join(''))).toBe(digest)
  })

  it('[WIRE6] its JSON and its stream of events are of the routes', () => {
    changeRoutes.records.reply.parse(JSON.parse(block('json records')))
    changeRoutes.presence.body.parse(JSON.parse(block('json presence')))
    const error = JSON.parse(block('json error'))
    expect(error.hint).toBe(CODES[error.code as keyof typeof CODES].hint)
    const events = block('sse')
      .split('\n\n')
      .map(one => new Map(one.split('\n').map(line => line.split(/: (.*)/s) as [string, string])))
      .filter(event => event.has('data'))
    expect(events.map(event => event.get('event'))).toEqual(['changes', 'presence'])
    for (const event of events)
      expect(liveEvent.parse(JSON.parse(event.get('data') as string)).type).toBe(event.get('event'))
    const [changes] = events.map(event => JSON.parse(event.get('data') as string))
    expect(decodeSequence(new Uint8Array(Buffer.from(changes.items, 'base64')))).toEqual(
      itemsOf('logItem', logItem).slice(0, 1),
    )
  })

  it('[WIRE6] names the fields of documents, and errors under their status', () => {
    const whole = createPipeline({
      name: 'weekly',
      params: { region: { type: 'text' } },
      sources: { orders: { kind: 'csv', path: 'orders.csv' } },
      steps: [{ id: 'a', name: 'a', sql: 'select 1', tests: [{ id: 't', type: 'not_null', column: 'x' }] }],
    })
    const [step] = Object.values(whole.steps)
    const comments = createComments({
      subject_kind: 'run',
      subject_id: '019a0000-0000-7000-8000-0000000000e1',
    })
    const rows: [string, object | undefined][] = [
      ['pipeline', whole],
      ['`params.<name>`, `sources.<name>`', whole.params.region],
      ['`steps.<id>`', step],
      ['`steps.<id>.tests.<id>`', Object.values(step?.tests ?? {})[0]],
      ['comments', comments],
    ]
    for (const [name, held] of rows) {
      const row = page.split('\n').find(line => line.startsWith(`| ${name} |`))
      const fields = row?.slice(name.length + 4).match(/`[a-z_]+`/g)
      expect(fields?.map(field => field.slice(1, -1)).sort(), name).toEqual(Object.keys(held ?? {}).sort())
    }
    const statuses = [...page.matchAll(/^\| (\d{3}) \| (.*?) \|/gm)]
    expect(statuses.length).toBeGreaterThan(8)
    for (const [, status, codes = ''] of statuses)
      for (const [, code = ''] of codes.matchAll(/`([a-z_.]+)`/g))
        expect([code, CODES[code as keyof typeof CODES]?.status]).toEqual([code, Number(status)])
  })
})
