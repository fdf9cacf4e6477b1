import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { available, missing } from '@pluto-duck/test-fixtures/services'
import { afterAll, expect, it } from 'vitest'
import { AppPage } from './harness/app.ts'
import { Folders, signUp, startDevice, startServerProcess, until } from './harness/world.ts'

/** What each list says when it cannot be read, and what it says when there is nothing. */
const LISTS = [
  ['#/machine', 'The ledger could not be read', 'Nothing has left this machine.'],
  ['#/schedules', 'The schedules could not be read', 'No schedules yet'],
] as const

const chromium = available('chromium')
if (!chromium) process.stderr.write(`skipped: ${missing('chromium')}\n`)

const folders = new Folders()
const closing: (() => Promise<void>)[] = []
afterAll(async () => {
  for (const close of closing.reverse()) await close()
  folders.remove()
})

/** What a broken disk does to a pipeline and to the ledger: their rows are there, and hold something else. */
const damage = async (home: string, documentId: string): Promise<void> => {
  const instance = await DuckDBInstance.create(join(home, 'state.duckdb'))
  const connection = await instance.connect()
  await connection.run("update changes set bytes = encode('broken') where document_id = $1", [documentId])
  await connection.run("update snapshots set bytes = encode('broken') where document_id = $1", [documentId])
  await connection.run("insert into ledger values ($1, $2, '2026-01-01T00:00:00.000Z', 'broken')", [
    newId(),
    documentId,
  ])
  connection.closeSync()
  instance.closeSync()
}

it.skipIf(!chromium)(
  '[SYNC16][UI14] a pipeline that cannot be read on this machine says so while the server is away, and opens by itself when it is back',
  async () => {
    const dataDir = folders.make('server')
    const server = await startServerProcess({ dataDir })
    const person = await signUp(server.url, 'Ada')
    const home = folders.make('home')
    const first = await startDevice({ home, server: server.url, person })
    await first.session.value('workspace.create', { workspace_id: newId(), name: 'W' })
    const { pipeline_id } = await first.session.value('pipeline.create_sample', {})
    await until('it is in sync', async () => {
      const { state, waiting } = await first.session.value('sync.now', {})
      return state === 'in_sync' && waiting === 0
    })
    await first.stop()
    await server.stop()
    await damage(home, pipeline_id)

    const device = await startDevice({ home, server: server.url, person })
    closing.push(() => device.stop())
    const repaired = await device.session.value('sync.repair', {})
    expect(repaired).toMatchObject({ documents: 1, unreadable: ['city-weather'], left: ['city-weather'] })
    const app = await AppPage.open(device.url)
    closing.push(() => app.close())
    await app.at('pipeline-item').first().click()
    await app.page.getByText('This pipeline can’t be opened').waitFor()
    for (const [place, notRead, empty] of LISTS) {
      await app.page.evaluate(`location.hash = '${place}'`)
      const told = app.page.getByRole('alert').filter({ hasText: notRead })
      await told.getByRole('button', { name: 'Try again' }).waitFor()
      expect(await app.page.getByText(empty).count()).toBe(0)
    }

    const port = Number(new URL(server.url).port)
    const again = await startServerProcess({ dataDir, port })
    closing.push(() => again.stop())
    await app.page.getByText('No schedules yet').waitFor()
    await app.at('pipeline-item').first().click()
    await app.at('step-node').first().waitFor()
    await app.chooseStep('yearly')
    expect(await app.editorText()).toContain('select')
    expect(await device.session.value('sync.repair', {})).toMatchObject({ unreadable: [], left: [] })
  },
)
