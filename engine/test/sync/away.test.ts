import { randomUUID } from 'node:crypto'
import * as A from '@automerge/automerge'
import { createPipeline, type PipelineDoc, spliceStepSql } from '@pluto-duck/crdt-model'
import { changeRoutes } from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Marks } from '../../src/publish/index.ts'
import type { Device } from './device.ts'
import { TwoPeople } from './two-people.ts'

// Clocks that are a year off, a device that was away for as long, and a push that the server refuses as a whole.

const YEAR_MS = 365 * 24 * 3_600_000
const world = new TwoPeople()

/** An edit whose change says the time that this device believes it is. */
const write = (on: Device, documentId: string, text: string) =>
  on.documents.edit<PipelineDoc>(documentId, doc =>
    A.change(doc, { time: Math.floor((Date.now() + on.skewMs) / 1_000) }, d =>
      spliceStepSql(d, 'orders', 0, 0, text),
    ),
  )
const sqlOf = (on: Device, documentId: string) =>
  on.documents.read(documentId, doc => String(doc.steps.orders?.sql))
const marksOf = (on: Device, documentId: string) =>
  new Marks(on.state, on.documents, systemClock).list(documentId, [], userId => userId)
const recordsOf = async (documentId: string) => {
  const params = { workspace_id: world.workspaceId, document_id: documentId }
  return (await world.ada.client.call(changeRoutes.records, { params, query: {} })).value.records
}
const eventually = async (what: string, look: () => boolean | Promise<boolean>) => {
  const end = Date.now() + 20_000
  while (!(await look())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`)
    await systemClock.sleep(20)
  }
}
const inStep = (a: Device, b: Device, documentId: string) =>
  eventually(
    'equal heads',
    async () => (await a.heads(documentId)).join() === (await b.heads(documentId)).join(),
  )

/** Until the server has made one snapshot of all that the document was. */
async function compacted(documentId: string): Promise<void> {
  const client = new pg.Client({ connectionString: world.server.database.url })
  await client.connect()
  try {
    await eventually('the document is compacted', async () => {
      const { rows } = await client.query('select snapshot_seq = seq as whole from documents where id = $1', [
        documentId,
      ])
      return rows[0].whole
    })
  } finally {
    await client.end()
  }
}

it('[SYNC18] a device that was away for a year merges into a compacted log, whatever the clocks say', async () => {
  const began = Date.now()
  const [away, home] = [await world.device(world.ada), await world.device(world.bob)]
  const pipeline = await away.createPipeline('weekly')
  for (const one of [away, home]) {
    await one.sync.start()
    await one.until('in_sync', 0)
  }
  await home.sync.now()
  away.skewMs = -YEAR_MS
  away.cut = true
  for (let i = 0; i < 5; i++) await write(away, pipeline, 'away ')
  await away.close()

  home.skewMs = YEAR_MS
  await Promise.all(Array.from({ length: 110 }, () => write(home, pipeline, 'h')))
  await home.until('in_sync', 0)
  await compacted(pipeline)

  away.cut = false
  await away.open()
  await away.sync.start()
  await away.until('in_sync', 0)
  await home.sync.now()
  await home.until('in_sync', 0)
  const fresh = await world.device(world.bob)
  await fresh.sync.start()
  await fresh.until('in_sync', 0)
  for (const one of [home, fresh]) {
    expect(await one.heads(pipeline)).toEqual(await away.heads(pipeline))
    expect(await sqlOf(one, pipeline)).toBe(await sqlOf(away, pipeline))
    expect(await one.documents.drafts(world.workspaceId)).toEqual([])
  }
  const sql = await sqlOf(home, pipeline)
  expect([sql.split('h').length - 1, sql.split('away ').length - 1]).toEqual([110, 5])
  expect(await away.documents.drafts(world.workspaceId)).toEqual([])

  // Numbers, authors and times are the server's.
  const records = await recordsOf(pipeline)
  expect(records).toHaveLength(116)
  expect(records.map(record => record.seq)).toEqual(
    records.map(record => record.seq).toSorted((a, b) => a - b),
  )
  for (const { received_at } of records) {
    expect(Date.parse(received_at)).toBeGreaterThanOrEqual(began - 1_000)
    expect(Date.parse(received_at)).toBeLessThanOrEqual(Date.now() + 1_000)
  }
  expect(records.slice(-5).every(record => !record.live)).toBe(true)
  // What two wrote without seeing each other is marked, alike on both.
  const marks = await marksOf(home, pipeline)
  expect(marks).toMatchObject([{ kind: 'text', step_id: 'orders' }])
  expect(await marksOf(away, pipeline)).toEqual(marks)
})

it('[SYNC18] clocks that jump by a year while two people type beside each other stop and mark nothing', async () => {
  const [a, b] = [await world.device(world.ada), await world.device(world.bob)]
  const pipeline = await a.createPipeline('weekly')
  for (const one of [a, b]) {
    await one.sync.start()
    await one.until('in_sync', 0)
  }
  await b.sync.now()
  await eventually('both are live', () => a.sync.live && b.sync.live)
  await b.client.call(changeRoutes.presence, {
    params: { workspace_id: world.workspaceId },
    body: { document_id: pipeline, at: 'orders:1' },
  })
  await eventually('b is seen', () => a.sync.status().devices_online === 1)
  for (const skewMs of [-YEAR_MS, YEAR_MS, 0]) {
    a.skewMs = skewMs
    b.skewMs = -skewMs
    await write(a, pipeline, 'a')
    await inStep(a, b, pipeline)
    await write(b, pipeline, 'b')
    await inStep(a, b, pipeline)
    for (const one of [a, b]) await one.until('in_sync', 0)
    // Nobody is held for present for a year, whichever way the clock went.
    expect(a.sync.status().devices_online).toBe(0)
  }
  expect((await sqlOf(a, pipeline)).startsWith('bababa')).toBe(true)
  expect([await marksOf(a, pipeline), await marksOf(b, pipeline)]).toEqual([[], []])
})

it('[SYNC5] what a whole push is refused for is found and set aside; everything else goes out', async () => {
  const one = await world.device(world.ada)
  const names = ['one', 'two', 'three', 'four', 'five', 'six']
  const sound: string[] = []
  for (const name of names.slice(0, 3)) sound.push(await one.createPipeline(name))
  // No id of ours: the server takes no request that names it.
  const odd = randomUUID()
  const doc = createPipeline({ name: 'odd' })
  await one.documents.create({ documentId: odd, workspaceId: world.workspaceId, kind: 'pipeline', doc })
  for (const name of names.slice(3)) sound.push(await one.createPipeline(name))
  let pushes = 0
  one.onPush = when => {
    if (when === 'asked') pushes++
  }
  await one.sync.start()
  await one.until('in_sync', 0)
  expect(await one.documents.drafts(world.workspaceId)).toMatchObject([{ documentId: odd, code: 'invalid' }])
  expect(
    one.documents
      .list(world.workspaceId)
      .map(info => info.documentId)
      .sort(),
  ).toEqual(sound.toSorted())
  for (const documentId of sound) expect(await recordsOf(documentId)).toHaveLength(1)
  expect(pushes).toBeLessThan(12)
})
