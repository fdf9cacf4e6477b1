import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { editPipeline, type PipelineDoc, spliceStepSql } from '@pluto-duck/crdt-model'
import { changeRoutes } from '@pluto-duck/crdt-model/protocol'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Marks } from '../../src/publish/index.ts'
import { fetchRecords } from '../../src/sync/index.ts'
import { Device } from './device.ts'
import { type Person, TestServer } from './server.ts'

let server: TestServer
let ada: Person
let bob: Person
let vera: Person
let workspaceId: string
const devices: Device[] = []
const device = async (person: Person) => {
  const made = await Device.start(server.server.url, person.token, workspaceId)
  devices.push(made)
  return made
}

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
  bob = await server.person('bob')
  vera = await server.person('vera')
})
afterAll(async () => {
  await server.stop()
})
afterEach(async () => {
  for (const one of devices.splice(0)) await one.remove()
})
const fresh = async () => {
  workspaceId = await server.workspace(ada)
  await server.join(workspaceId, ada, bob, 'editor')
  await server.join(workspaceId, ada, vera, 'viewer')
}
const recordsOf = async (documentId: string) => {
  const params = { workspace_id: workspaceId, document_id: documentId }
  return (await ada.client.call(changeRoutes.records, { params, query: {} })).value.records
}
const eventually = async (what: string, look: () => boolean | Promise<boolean>) => {
  const end = Date.now() + 30_000
  while (!(await look())) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`)
    await systemClock.sleep(20)
  }
}
const same = async (a: Device, b: Device, documentId: string) => {
  const end = Date.now() + 20_000
  while ((await a.heads(documentId)).join() !== (await b.heads(documentId)).join()) {
    if (Date.now() > end) throw new Error('the devices did not converge')
    await systemClock.sleep(30)
  }
}

describe('sync against the real server', () => {
  it('[SYNC1] a sync that is asked for while the log is being read brings what was there when it was asked for', async () => {
    await fresh()
    const [a, b] = [await device(ada), await device(bob)]
    b.deaf = true
    await Promise.all([a.sync.start(), b.sync.start()])
    const documentId = await a.createPipeline('p')
    await a.sync.now()
    expect(await b.sync.now()).toMatchObject({ state: 'in_sync' })

    const reading = Promise.withResolvers<void>()
    b.holdReading = reading.promise
    const before = b.readings.length
    const early = b.sync.now()
    await eventually('a reading is under way', () => b.readings.length > before)
    await systemClock.sleep(100)
    await a.describe(documentId, 'new')
    await a.sync.now()
    const late = b.sync.now()
    reading.resolve()
    expect(await late).toMatchObject({ state: 'in_sync' })
    expect(await b.text(documentId)).toBe('new')
    await early
  })

  it('[SYNC1][DOC11] texts longer than a change takes reach the other device, new or edited', async () => {
    await fresh()
    const [a, b] = [await device(ada), await device(bob)]
    for (const one of [a, b]) await one.sync.start()
    const documentId = await a.createPipeline('long')
    await a.describe(documentId, 'a line of text\n'.repeat(9_000))
    await a.describe(documentId, 'another line\n'.repeat(9_000))
    await a.until('in_sync', 0)
    await eventually('it is there', () => b.documents.has(documentId))
    await same(a, b, documentId)
    expect((await b.text(documentId)) === 'another line\n'.repeat(9_000)).toBe(true)
    expect((await recordsOf(documentId)).length).toBeGreaterThan(6)
  })

  it('[SYNC1] two devices that edit offline converge: equal heads, nothing waits, both say in sync', async () => {
    await fresh()
    const [a, b] = [await device(ada), await device(bob)]
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    await b.sync.start()
    await b.until('in_sync')
    a.sync.pause(true)
    b.sync.pause(true)
    for (let i = 0; i < 20; i++) {
      await a.describe(documentId, `from a ${i}`)
      await b.documents.edit<PipelineDoc>(documentId, doc =>
        editPipeline(doc, 'type', d => spliceStepSql(d, Object.keys(d.steps)[0]!, 0, 0, 'x')),
      )
    }
    expect(a.sync.status()).toMatchObject({ state: 'offline', paused: true, waiting: 20 })
    a.sync.pause(false)
    b.sync.pause(false)
    await a.until('in_sync', 0)
    await b.until('in_sync', 0)
    await same(a, b, documentId)
    await a.until('in_sync')
    expect(await b.text(documentId)).toBe('from a 19')
    const records = await recordsOf(documentId)
    expect(records).toHaveLength(41)
    expect(records.some(record => record.live)).toBe(false)
  })

  it('[SYNC2] connected devices see each other’s changes by live events, written live', async () => {
    await fresh()
    const [a, b] = [await device(ada), await device(bob)]
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    await b.sync.start()
    await b.until('in_sync')
    await systemClock.sleep(300)
    for (let i = 0; i < 5; i++) {
      await a.describe(documentId, `live ${i}`)
      await systemClock.sleep(50)
    }
    await same(a, b, documentId)
    expect(await b.text(documentId)).toBe('live 4')
    await a.until('in_sync', 0)
    expect((await recordsOf(documentId)).filter(record => record.live)).toHaveLength(5)
  })

  it('[SYNC2][PUB8] what is typed live makes no mark on the device that typed it, while the server has not answered', async () => {
    await fresh()
    const [a, b] = [await device(ada), await device(bob)]
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    await b.sync.start()
    await b.until('in_sync')
    await eventually('both are live', () => a.sync.live && b.sync.live)
    const type = (who: Device) =>
      who.documents.edit<PipelineDoc>(documentId, doc =>
        editPipeline(doc, 'type', d => spliceStepSql(d, Object.keys(d.steps)[0]!, 0, 0, 'x')),
      )
    const marks = () => new Marks(a.state, a.documents, systemClock).list(documentId, [], userId => userId)
    const [first, second] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
    try {
      // b's comes between two of a's, of which the later one is not answered yet.
      a.hold = first.promise
      await type(a)
      await type(b)
      // No longer than that: what is stored 5 s apart was not typed beside each other.
      await eventually('b’s is stored', () => b.documents.waiting({ documentId }) === 0)
      await type(a)
      const own = await a.heads(documentId)
      a.hold = second.promise
      first.resolve()
      await eventually('b’s is here', async () => (await a.heads(documentId)).join() !== own.join())
      expect(await marks()).toEqual([])
    } finally {
      first.resolve()
      second.resolve()
    }
    await same(a, b, documentId)
    await a.until('in_sync', 0)
    expect(await marks()).toEqual([])
  })

  it('[SYNC3] a lost reply stores nothing twice and loses nothing', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    a.loseReplies = 2
    await a.sync.start()
    await a.describe(documentId, 'once')
    await a.until('in_sync', 0)
    expect(await recordsOf(documentId)).toHaveLength(2)
  })

  it('[SYNC4] offline says so, keeps what waits over a restart, and sends it when the server is back', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    a.cut = true
    await a.sync.start()
    await a.until('offline', 1)
    await a.describe(documentId, 'kept')
    expect(a.sync.status()).toMatchObject({ waiting: 2, error: { code: 'server.unreachable' } })
    await a.close()
    await a.open()
    a.cut = false
    await a.sync.start()
    await a.until('in_sync', 0)
    expect(await a.text(documentId)).toBe('kept')
  })

  it('[SYNC10] a disk that takes nothing ends no loop: sync goes on when it does again', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    a.state.write = () => Promise.reject(new Error('No space left on device'))
    await a.sync.start()
    await a.until('offline', 1)
    Reflect.deleteProperty(a.state, 'write')
    await a.until('in_sync', 0)
    expect(await recordsOf(documentId)).toHaveLength(1)
  })

  it('[SYNC10] a wish in the middle of a round is no reason to fail in a circle', async () => {
    await fresh()
    const a = await device(ada)
    await a.sync.start()
    await a.until('in_sync')
    let requests = 0
    const wish = Promise.withResolvers<void>()
    a.hold = wish.promise
    await a.createPipeline('weekly')
    await systemClock.sleep(300)
    // The round waits for its answer: this wish ends no sleep.
    void a.sync.now()
    Object.defineProperty(a, 'cut', { configurable: true, get: () => ++requests > 0, set: () => undefined })
    wish.resolve()
    await a.until('offline')
    await systemClock.sleep(1_000)
    expect(requests).toBeLessThan(20)
    Object.defineProperty(a, 'cut', { configurable: true, writable: true, value: false })
    await a.until('in_sync')
  })

  it('[SYNC5] a viewer’s edit becomes a private local draft; other documents go on', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    const v = await device(vera)
    await v.sync.start()
    await v.until('in_sync')
    await v.describe(documentId, 'not mine to change')
    const own = await v.createPipeline('hers')
    await v.until('in_sync', 0)
    const drafts = await v.documents.drafts(workspaceId)
    expect(drafts.map(draft => [draft.documentId, draft.code]).sort()).toEqual(
      [
        [documentId, 'permission'],
        [own, 'permission'],
      ].sort(),
    )
    expect(await v.text(documentId)).toBe('')
    expect(v.documents.has(own)).toBe(false)
    await a.describe(documentId, 'by the editor')
    await same(a, v, documentId)
  })

  it('[SYNC6] a difference that should not be is found by the digest, healed, and what was lost is a draft', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    await a.close()
    await a.open()
    await a.describe(documentId, 'never sent')
    await a.state.write(tx => tx.run('delete from outbox'))
    await a.close()
    await a.open()
    await a.sync.start()
    await a.until('in_sync', 0)
    expect(await a.text(documentId)).toBe('')
    expect(await a.documents.drafts(workspaceId)).toMatchObject([{ code: 'diverged', documentId }])
    for (const said of ['this device and the server differ; healing', 'healed'])
      expect(a.logged.filter(line => line === said)).toHaveLength(1)
  })

  it('[SYNC7] a new device takes the snapshot, and the records of a document when they are asked for', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    for (let i = 0; i < 12; i++) await a.createPipeline(`p${i}`)
    await a.describe(documentId, 'x')
    await a.sync.start()
    await a.until('in_sync', 0)
    const b = await device(bob)
    await b.sync.start()
    await b.until('in_sync')
    expect(b.documents.list(workspaceId)).toHaveLength(13)
    expect(await fetchRecords({ ...b }, documentId)).toBe(true)
    expect(await fetchRecords({ ...b }, documentId)).toBe(false)
    expect(await b.state.read.first('select count(*) as n from records')).toEqual({ n: 2 })
  })

  it('[SYNC9] a host that is killed at random moments loses nothing that it acknowledged, here or there', async () => {
    await fresh()
    const a = await device(ada)
    const documentId = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    await a.close()
    let last = 0
    for (let round = 0; round < 6; round++) {
      const child = spawn(
        process.execPath,
        [
          fileURLToPath(new URL('./typing-child.ts', import.meta.url)),
          server.server.url,
          ada.token,
          workspaceId,
          a.folder,
          documentId,
          String(last + 1),
        ],
        { stdio: ['ignore', 'pipe', 'inherit'] },
      )
      let printed = ''
      const typing = new Promise<void>(resolve => {
        child.stdout.on('data', chunk => {
          printed += String(chunk)
          resolve()
        })
      })
      const gone = new Promise<void>(resolve => child.once('close', () => resolve()))
      await Promise.race([typing, gone])
      await systemClock.sleep(Math.random() * 400)
      child.kill('SIGKILL')
      await gone
      const acknowledged = Number(printed.split('\n').at(-2) ?? last)
      expect(acknowledged).toBeGreaterThan(last)
      last = acknowledged
      await a.open()
      const kept = Number((await a.text(documentId)).split(' ')[0])
      expect(kept).toBeGreaterThanOrEqual(last)
      last = kept
      await a.close()
    }
    await a.open()
    await a.sync.start()
    await a.until('in_sync', 0)
    const b = await device(bob)
    await b.sync.start()
    await b.until('in_sync')
    expect(await b.heads(documentId)).toEqual(await a.heads(documentId))
    expect(Number((await b.text(documentId)).split(' ')[0])).toBe(last)
  })
})
