import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterAll, expect, it } from 'vitest'
import type { InputOf, MethodName, OutputOf } from '../../src/contract/index.ts'
import { type Host, openHost } from '../../src/host/host.ts'
import { State } from '../../src/state/index.ts'

const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

const open = (folder: string): Promise<Host> =>
  openHost({ folder, server: null, log: pino({ level: 'silent' }) })
const call = async <M extends MethodName>(host: Host, method: M, input: InputOf<M>): Promise<OutputOf<M>> =>
  (await (host.handlers[method] as (input: InputOf<M>, caller: { viewId: string }) => unknown)(input, {
    viewId: 'test',
  })) as OutputOf<M>

/** A data folder with so many pipelines, whose overviews are stored. */
const workspaceOf = async (count: number): Promise<string> => {
  const folder = mkdtempSync(join(tmpdir(), 'pluto-overviews-'))
  folders.push(folder)
  const host = await open(folder)
  await call(host, 'workspace.create', { workspace_id: newId(), name: 'W' })
  for (let n = 0; n < count; n++) {
    const sql = `select ${n} as n\n`
    const yaml = `schema_version: 1\nname: pipeline-${n}\nsteps:\n  - name: only\n`
    await call(host, 'pipeline.import', { files: { 'pipeline.yaml': yaml, 'only.sql': sql } })
  }
  await call(host, 'pipeline.list', {})
  await host.close()
  return folder
}
const damage = async (folder: string, where: string): Promise<void> => {
  const state = await State.open(folder)
  await state.write(async tx => {
    await tx.run(`update changes set bytes = encode('broken') where ${where}`)
    await tx.run(`update snapshots set bytes = encode('broken') where ${where}`)
  })
  await state.close()
}

it('[HOSTDOC10] lists from the overviews, and loads no document for it', async () => {
  const folder = await workspaceOf(3)
  const before = await open(folder)
  const { pipelines } = await call(before, 'pipeline.list', {})
  expect(pipelines.map(({ name, steps, unpublished }) => ({ name, steps, unpublished }))).toEqual(
    [0, 1, 2].map(n => ({ name: `pipeline-${n}`, steps: 1, unpublished: expect.any(Number) })),
  )
  await before.close()
  // Whatever would load one now would say that it cannot be read.
  await damage(folder, 'true')
  const after = await open(folder)
  expect(await call(after, 'pipeline.list', {})).toEqual({ pipelines })
  expect((await call(after, 'sync.state', {})).needs).toEqual([])
  await after.close()
})

it('[HOSTDOC10] of many without an overview the first ones are waited for, and the rest follows', async () => {
  const folder = await workspaceOf(70)
  const state = await State.open(folder)
  await state.write(tx => tx.run('delete from overviews'))
  await state.close()
  const host = await open(folder)
  const told = Promise.withResolvers<void>()
  const off = host.bus.subscribe(({ topic }) => {
    if (topic === 'pipelines.changed') told.resolve()
  })
  const first = (await call(host, 'pipeline.list', {})).pipelines
  expect(first.map(({ name }) => name).toSorted()).toEqual(
    Array.from({ length: 70 }, (_, n) => `pipeline-${n}`).toSorted(),
  )
  expect(first.filter(({ steps }) => steps === null)).toHaveLength(6)
  await told.promise
  off()
  const { pipelines } = await call(host, 'pipeline.list', {})
  expect(pipelines.every(({ steps }) => steps === 1)).toBe(true)
  await host.close()
})

it('[HOSTDOC10] overviews that cannot be read are made again: the host starts and lists', async () => {
  const folder = await workspaceOf(2)
  const state = await State.open(folder)
  await state.write(tx => tx.run("update overviews set body = 'broken'"))
  await state.close()
  const host = await open(folder)
  const { pipelines } = await call(host, 'pipeline.list', {})
  expect(pipelines.map(({ name, steps }) => ({ name, steps }))).toEqual([
    { name: 'pipeline-0', steps: 1 },
    { name: 'pipeline-1', steps: 1 },
  ])
  await host.close()
})

it('[HOSTDOC11] one document that cannot be read is listed with the reason, and holds up nothing', async () => {
  const folder = await workspaceOf(2)
  const first = await open(folder)
  const [broken, whole] = (await call(first, 'pipeline.list', {})).pipelines
  await first.close()
  await damage(folder, `document_id = '${broken!.pipeline_id}'`)
  const state = await State.open(folder)
  await state.write(tx => tx.run('delete from overviews'))
  await state.close()
  const host = await open(folder)
  const { pipelines } = await call(host, 'pipeline.list', {})
  expect(pipelines).toEqual([
    { ...broken, steps: 0, unpublished: 0, unreadable: expect.stringContaining('cannot be read') },
    whole,
  ])
  expect((await call(host, 'sync.state', {})).state).toBe('local')
  await call(host, 'pipeline.create', { pipeline_id: newId(), name: 'another' })
  await host.close()
})
