import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterEach, expect, it } from 'vitest'
import type { InputOf, MethodName, OutputOf } from '../../src/contract/index.ts'
import { type Host, openHost } from '../../src/host/host.ts'
import { Settings, State } from '../../src/state/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'pluto-broken-'))
let host: Host | null = null
afterEach(async () => {
  await host?.close()
  rmSync(folder, { recursive: true, force: true })
})
const call = async <M extends MethodName>(method: M, input: InputOf<M>): Promise<OutputOf<M>> =>
  (await (host!.handlers[method] as (input: InputOf<M>, caller: { viewId: string }) => unknown)(input, {
    viewId: 'test',
  })) as OutputOf<M>

it('[STATE4] broken records of runs, uploads, publishes and schedules are named, and keep nothing else from going on', async () => {
  const lines: string[] = []
  const log = pino({ level: 'error' }, { write: line => lines.push(line) })
  host = await openHost({ folder, server: null, log })
  const { workspace_id } = await call('workspace.create', { workspace_id: newId(), name: 'W' })
  const files = {
    'pipeline.yaml': 'schema_version: 1\nname: kept\nsteps:\n  - name: only\n',
    'only.sql': 'select 1 as n\n',
  }
  const imported = await call('pipeline.import', { files })
  if (imported.state !== 'imported') throw new Error('It was not imported.')
  const { pipeline_id } = imported.pipeline
  await host.close()

  const runId = newId()
  const state = await State.open(folder)
  await state.write(async tx => {
    const at = '2026-01-01T00:00:00.000Z'
    for (const [table, parent] of [
      ['runs', pipeline_id],
      ['uploads', workspace_id],
    ])
      await tx.run(`insert into ${table} values ($1, $2, $3, 'broken')`, runId, parent ?? '', at)
    await tx.run("insert into publishes values ($1, $2, '{}')", pipeline_id, workspace_id)
  })
  await new Settings(state).set('schedule_claims', '[1]')
  await state.close()

  host = await openHost({ folder, server: null, log })
  expect((await call('pipeline.list', {})).pipelines).toMatchObject([{ pipeline_id, last_run: null }])
  expect((await call('sync.state', {})).needs).toMatchObject([{ kind: 'publish', pipeline_id }])
  await expect(call('run.list', { pipeline_id })).rejects.toMatchObject({
    code: 'state.corrupt',
    details: { table: 'runs', key: runId },
  })
  const named = lines.map(line => JSON.parse(line) as { err?: { code?: string; details?: unknown } })
  expect(named.every(({ err }) => err?.code === 'state.corrupt')).toBe(true)
  const details = named.map(({ err }) => err?.details)
  for (const [table, key] of [
    ['runs', runId],
    ['uploads', runId],
    ['publishes', pipeline_id],
    ['meta', 'schedule_claims'],
  ])
    expect(details).toContainEqual({ table, key })
})
