import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId, runRoutes } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { InputOf, MethodName, OutputOf } from '../../src/contract/index.ts'
import { type Host, openHost } from '../../src/host/host.ts'
import { type Person, TestServer } from '../sync/server.ts'

let server: TestServer
let ada: Person
let host: Host
const folder = mkdtempSync(join(tmpdir(), 'pluto-paused-'))

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
  host = await openHost({
    folder,
    server: server.server.url,
    token: ada.token,
    log: pino({ level: 'silent' }),
  })
})
afterAll(async () => {
  await host?.close()
  await server?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const call = async <M extends MethodName>(method: M, input: InputOf<M>): Promise<OutputOf<M>> => {
  const handler = host.handlers[method] as (input: unknown, caller: unknown) => Promise<OutputOf<M>>
  return await handler(input, { viewId: 'test' })
}

it('[DELIVER9] while sync is paused nothing of a run is sent; then it is', async () => {
  const workspace_id = await server.workspace(ada)
  await call('workspace.list', {})
  await call('workspace.select', { workspace_id })
  const files = {
    'pipeline.yaml': 'schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n',
    'orders.sql': 'select 1 as a\n',
  }
  await call('pipeline.import', { files })
  await call('sync.now', {})
  const [pipeline] = (await call('pipeline.list', {})).pipelines
  const { pipeline_id } = pipeline!
  const { grants_needed } = await call('pipeline.plan', { pipeline_id, version: null, select: null })
  await call('grant.allow', {
    pipeline_id,
    targets: grants_needed.map(({ kind, target }) => ({ kind, target })),
  })

  await call('sync.pause', { paused: true })
  const run_id = newId()
  await call('run.start', {
    pipeline_id,
    run_id,
    version: null,
    select: null,
    full: false,
  })
  await expect
    .poll(async () => (await call('run.read', { run_id })).state, { timeout: 30_000 })
    .toBe('success')
  expect((await call('run.deliver', { run_ids: [run_id] })).runs).toMatchObject([{ state: 'waiting' }])
  const onServer = () => ada.client.call(runRoutes.read, { params: { run_id } })
  await expect(onServer()).rejects.toMatchObject({ code: 'run.not_found' })

  await call('sync.pause', { paused: false })
  await call('sync.now', {})
  await expect
    .poll(async () => (await onServer().catch(() => null))?.value.state, { timeout: 30_000 })
    .toBe('success')
})
