import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterEach, describe, expect, it } from 'vitest'
import { State, Workspaces } from '../../src/state/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'pluto-prepared-'))
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe('statements that are run again', () => {
  it('[STATE6] a read that was made while its table was empty gives what was written later', async () => {
    const state = await State.open(folder)
    const workspaces = new Workspaces(state)
    expect(await workspaces.list()).toEqual([])
    const workspace = { workspace_id: newId(), name: 'Together', role: 'editor' as const, remote: true }
    await workspaces.put(workspace)
    expect(await workspaces.list()).toMatchObject([workspace])
    await state.close()
  })
})
