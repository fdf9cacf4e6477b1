import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterAll, expect, it } from 'vitest'
import type { MethodName, OutputOf, ParsedInputOf } from '../../src/contract/index.ts'
import type { Schema } from '../../src/documents/index.ts'
import { type Host, openHost } from '../../src/host/host.ts'

const folder = mkdtempSync(join(tmpdir(), 'pluto-too-new-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const NEWER: Schema = {
  version: 2,
  upgrades: new Map([
    [
      1,
      d => {
        d.labels = {}
      },
    ],
  ]),
}
const open = (schema?: Schema): Promise<Host> =>
  openHost({ folder, server: null, log: pino({ level: 'silent' }), ...(schema ? { schema } : {}) })
const call = async <M extends MethodName>(
  host: Host,
  method: M,
  input: ParsedInputOf<M>,
): Promise<OutputOf<M>> =>
  (await (host.handlers[method] as (input: ParsedInputOf<M>, caller: { viewId: string }) => unknown)(input, {
    viewId: 'test',
  })) as OutputOf<M>
const filesOf = (sql: string) => ({
  'pipeline.yaml': 'schema_version: 1\nname: weekly\nsteps:\n  - name: only\n',
  'only.sql': sql,
})

it('[SCHEMA1] what a newer program wrote is shown with a word, and is not imported over, published, restored, planned or run', async () => {
  const newer = await open(NEWER)
  await call(newer, 'workspace.create', { workspace_id: newId(), name: 'W' })
  const made = await call(newer, 'pipeline.import', { files: filesOf('select 1 as n\n') })
  if (made.state !== 'imported') throw new Error('it was not imported')
  const { pipeline_id } = made.pipeline
  await call(newer, 'pipeline.import', { files: filesOf('select 2 as n\n') })
  await newer.close()

  const old = await open()
  try {
    const shown = await call(old, 'document.open', { document_id: pipeline_id })
    expect(shown).toMatchObject({ read_only: true, read_only_reason: expect.stringContaining('schema 2') })
    const run = { pipeline_id, version: null, params: {}, select: null, full: false }
    const tried = {
      import: () => call(old, 'pipeline.import', { files: filesOf('select 3 as n\n') }),
      publish: () => call(old, 'version.publish', { pipeline_id, message: '' }),
      restore: () =>
        call(old, 'version.restore', { pipeline_id, number: 1, message: '', replace_unpublished: 0 }),
      compile: () => call(old, 'pipeline.compile', { pipeline_id }),
      plan: () => call(old, 'pipeline.plan', run),
      run: () => call(old, 'run.start', { ...run, run_id: newId() }),
    }
    for (const [what, attempt] of Object.entries(tried))
      await expect(attempt(), what).rejects.toMatchObject({ code: 'document.too_new' })
    expect((await call(old, 'document.open', { document_id: pipeline_id })).bytes).toBe(shown.bytes)
  } finally {
    await old.close()
  }
})
