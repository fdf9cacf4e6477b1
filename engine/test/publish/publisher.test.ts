import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId, type VersionSummary } from '@pluto-duck/crdt-model/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Publisher, type PublishRequest } from '../../src/publish/index.ts'
import { State } from '../../src/state/index.ts'

let folder: string
let state: State
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-publisher-'))
  state = await State.open(folder)
})
afterEach(async () => {
  await state.close()
  rmSync(folder, { recursive: true, force: true })
})

const hash = 'a'.repeat(64)
const request = (): PublishRequest => ({
  version_id: newId(),
  workspace_id: newId(),
  pipeline_id: newId(),
  heads: [hash],
  parent: null,
  resolved: [],
  message: 'm',
  content_hash: hash,
})

describe('carrying out a publish', () => {
  it('[PUB9] a reply that the disk does not take counts as none: the request is sent again, once there is room', async () => {
    const asked = request()
    const { version_id, pipeline_id } = asked
    const person = { user_id: 'ada', name: 'Ada' }
    const version: VersionSummary = {
      version_id,
      pipeline_id,
      number: 1,
      content_hash: hash,
      heads: [hash],
      parent: null,
      message: 'm',
      published_by: person,
      published_at: '2026-01-01T00:00:00.000Z',
      authors: [person],
      resolved: [],
      restores: null,
    }
    let sent = 0
    const errors: string[] = []
    const publisher = await Publisher.open({
      state,
      clock: systemClock,
      send: async () => {
        sent++
        // The disk fills up while the server answers.
        if (sent === 1) state.write = () => Promise.reject(new Error('No space left on device'))
        return { version, created: sent === 1 }
      },
      sync: () => undefined,
      onChange: () => undefined,
      onError: error => errors.push(error.code),
    })
    expect(await publisher.publish(asked, () => false)).toMatchObject({ state: 'queued' })
    publisher.ready(asked.workspace_id)
    await expect.poll(() => errors.length).toBe(1)
    expect(publisher.of(pipeline_id)).toMatchObject({ state: 'queued', maybe_sent: true })
    Reflect.deleteProperty(state, 'write')
    publisher.ready(asked.workspace_id)
    await expect.poll(() => publisher.of(pipeline_id).state).toBe('published')
    expect(sent).toBe(2)
  })
})
