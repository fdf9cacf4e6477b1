import { changeRoutes } from '@pluto-duck/crdt-model/protocol'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { Device } from './device.ts'
import { type Person, TestServer } from './server.ts'

let server: TestServer
let ada: Person
let workspaceId: string
const devices: Device[] = []
const device = async () => {
  const made = await Device.start(server.server.url, ada.token, workspaceId)
  devices.push(made)
  return made
}

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
})
afterAll(() => server?.stop())
beforeEach(async () => {
  workspaceId = await server.workspace(ada)
})
afterEach(async () => {
  for (const one of devices.splice(0)) await one.remove()
})

/** Connects a device that has something to send, until its push has left; that arrives when this is called. */
async function heldPush(of: Device): Promise<() => void> {
  const hold = Promise.withResolvers<void>()
  of.hold = hold.promise
  const asked = new Promise<void>(resolve => {
    of.onPush = () => resolve()
  })
  of.sync.pause(false)
  await asked
  of.onPush = () => undefined
  return () => hold.resolve()
}

/** They have all there is, and are paused. */
async function pausedInSync(...of: Device[]): Promise<void> {
  for (const one of of) {
    await one.sync.start()
    await one.until('in_sync', 0)
    one.sync.pause(true)
  }
}

/** The records that a device has of a document, but for its first change: that came by snapshot. */
async function recordsHere(of: Device, documentId: string): Promise<unknown[]> {
  return await of.state.read.all(
    'select hash, seq, received_at, live, author_id from records where document_id = $1 and seq > 1 order by seq, hash',
    documentId,
  )
}
async function recordsThere(documentId: string): Promise<unknown[]> {
  const params = { workspace_id: workspaceId, document_id: documentId }
  const { value } = await ada.client.call(changeRoutes.records, { params, query: {} })
  return value.records
    .filter(one => one.seq > 1)
    .map(one => ({ ...one, received_at: Date.parse(one.received_at) }))
}
async function everywhere(documentId: string, ...of: Device[]): Promise<void> {
  const there = await recordsThere(documentId)
  for (const one of of) {
    await one.until('in_sync', 0)
    expect(await recordsHere(one, documentId)).toEqual(there)
    expect(await one.heads(documentId)).toEqual(await of[0]!.heads(documentId))
  }
}

describe('own changes', () => {
  it('[SYNC17] are not read again: their records come with the answer, and the cursor moves on', async () => {
    const a = await device()
    const documentId = await a.createPipeline('weekly')
    for (let n = 0; n < 30; n++) await a.describe(documentId, `edit ${n}`)
    await a.sync.start()
    await a.until('in_sync', 0)
    const { seq } = a.sync.status()
    expect(seq).toBe(31)
    expect(a.readings.filter(reading => reading.after < seq && reading.after > 0)).toEqual([])
    expect(a.readings.some(reading => reading.after === seq)).toBe(true)
    await everywhere(documentId, a)
  })

  it('[SYNC17] are stepped over when others wrote before them, whose changes are read up to there', async () => {
    const [a, b] = [await device(), await device()]
    const documentId = await a.createPipeline('weekly')
    await pausedInSync(a, b)
    const { seq } = b.sync.status()
    for (let n = 0; n < 20; n++) await a.describe(documentId, `a ${n}`)
    for (let n = 0; n < 10; n++) await b.describe(documentId, `b ${n}`)
    // What b sends is under way while a's is stored.
    const release = await heldPush(b)
    a.sync.pause(false)
    await a.until('in_sync', 0)
    b.readings.length = 0
    release()
    await b.until('in_sync', 0)
    // Of a's 20, what live events have not brought by then is read, and nothing of b's own 10 behind them.
    for (const { after, limit } of b.readings)
      if (after !== seq + 30) expect(after + limit).toBeLessThanOrEqual(seq + 20)
    await everywhere(documentId, a, b)
  })

  it('[SYNC17] have each record once when the disk takes the answer later only', async () => {
    const a = await device()
    const documentId = await a.createPipeline('weekly')
    await pausedInSync(a)
    for (let n = 0; n < 5; n++) await a.describe(documentId, `a ${n}`)
    const release = await heldPush(a)
    a.onPush = when => {
      if (when === 'answered') a.state.write = () => Promise.reject(new Error('No space left on device'))
    }
    release()
    await a.until('offline', 5)
    a.onPush = () => undefined
    Reflect.deleteProperty(a.state, 'write')
    await everywhere(documentId, a)
  })

  it('[SYNC17] have each record once after a crash before the answer was stored, and before the cursor passed it', async () => {
    const [a, b] = [await device(), await device()]
    const documentId = await a.createPipeline('weekly')
    await pausedInSync(a, b)
    // The answer never came.
    for (let n = 0; n < 5; n++) await b.describe(documentId, `b ${n}`)
    b.loseReplies = 1
    b.onPush = when => {
      if (when === 'answered') b.cut = true
    }
    b.sync.pause(false)
    await b.until('offline')
    await b.close()
    b.cut = false
    b.onPush = () => undefined
    await b.open()
    await b.sync.start()
    await everywhere(documentId, b)
    b.sync.pause(true)

    // The answer came, and what stands before it in the log did not.
    for (let n = 0; n < 3; n++) await a.describe(documentId, `a ${n}`)
    for (let n = 0; n < 5; n++) await b.describe(documentId, `b again ${n}`)
    const release = await heldPush(b)
    b.onPush = when => {
      if (when === 'answered') b.cut = true
    }
    a.sync.pause(false)
    await a.until('in_sync', 0)
    release()
    await b.until('offline', 0)
    await b.close()
    b.cut = false
    b.onPush = () => undefined
    await b.open()
    await b.sync.start()
    await everywhere(documentId, a, b)
  })
})
