import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Device } from './device.ts'
import { type Person, TestServer } from './server.ts'

let server: TestServer
let ada: Person
const devices: Device[] = []

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
})
afterEach(async () => {
  for (const one of devices.splice(0)) await one.remove()
})
afterAll(() => server?.stop())

const device = async () => {
  const made = await Device.start(server.server.url, ada.token, await server.workspace(ada))
  devices.push(made)
  return made
}
/** What a broken disk does: of these changes nothing is left but their names. */
const damage = async (of: Device, documentId: string, which = 'true') => {
  await of.close()
  await of.open()
  await of.state.write(tx =>
    tx.run(`update changes set bytes = encode('broken') where document_id = $1 and ${which}`, documentId),
  )
}
const until = async (what: string, there: () => Promise<boolean>) => {
  const end = Date.now() + 30_000
  while (!(await there())) {
    if (Date.now() > end) throw new Error(`not so: ${what}`)
    await systemClock.sleep(20)
  }
}

describe('a document that cannot be read', () => {
  it('[SYNC16] is fetched anew once it was found, and what waits is on top of it', async () => {
    const a = await device()
    const [documentId, other] = [await a.createPipeline('weekly'), await a.createPipeline('other')]
    await a.describe(documentId, 'first')
    await a.sync.start()
    await a.until('in_sync', 0)
    const heads = await a.heads(documentId)
    a.sync.pause(true)
    await a.describe(documentId, 'unsent')
    await damage(a, documentId, 'ord not in (select ord from outbox)')
    await expect(a.documents.read(documentId, () => 0)).rejects.toMatchObject({ code: 'document.corrupt' })
    expect(a.documents.unreadable(a.workspaceId)).toEqual([documentId])
    const resets: string[] = []
    a.documents.on(event => void (event.kind === 'reset' && resets.push(event.documentId)))
    await a.sync.start()
    await until('it can be read', async () => a.documents.unreadable(a.workspaceId).length === 0)
    expect(await a.text(documentId)).toBe('unsent')
    expect(await a.text(other)).toBe('')
    expect(resets).toEqual([documentId])
    await a.until('in_sync', 0)
    expect(await a.heads(documentId)).not.toEqual(heads)
    expect(await a.documents.drafts(a.workspaceId)).toEqual([])
  })

  it('[SYNC16] is found by a check of all documents', async () => {
    const a = await device()
    const [documentId] = [await a.createPipeline('weekly'), await a.createPipeline('other')]
    await a.sync.start()
    await a.until('in_sync', 0)
    await damage(a, documentId)
    expect(a.documents.unreadable(a.workspaceId)).toEqual([])
    expect(await a.documents.check(a.workspaceId)).toEqual({ documents: 2, unreadable: [documentId] })
    await a.sync.start()
    await a.sync.now()
    expect(await a.documents.check(a.workspaceId)).toEqual({ documents: 2, unreadable: [] })
    expect(await a.heads(documentId)).toHaveLength(1)
  })

  it('[SYNC16] stays as it is when unsent work in it cannot be read, and holds up nothing', async () => {
    const a = await device()
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    a.sync.pause(true)
    await a.describe(documentId, 'unsent')
    await damage(a, documentId, 'ord in (select ord from outbox)')
    const rows = () =>
      a.state.read.all(
        'select ord, hash from changes where document_id = $1 and ord in (select ord from outbox)',
        documentId,
      )
    const before = await rows()
    expect(before).toHaveLength(1)
    expect(await a.documents.check(a.workspaceId)).toMatchObject({ unreadable: [documentId] })
    const other = await a.createPipeline('other')
    await a.sync.start()
    await until('the other one is there', async () => a.documents.waiting({ documentId: other }) === 0)
    expect(a.documents.unreadable(a.workspaceId)).toEqual([documentId])
    expect(await rows()).toEqual(before)
  })
})
