import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AppError, CODES, type ErrorCode } from '@pluto-duck/crdt-model/errors'
import { newId, type VersionSummary } from '@pluto-duck/crdt-model/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Publisher, type PublisherParts, type PublishRequest } from '../../src/publish/index.ts'
import { replyOf } from '../../src/publish/publisher.ts'
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

const parts = (send: PublisherParts['send']): PublisherParts => ({
  state,
  clock: systemClock,
  send,
  sync: () => undefined,
  onChange: () => undefined,
  onError: () => undefined,
  onUnreadable: () => undefined,
})
const summaryOf = ({ version_id, pipeline_id }: PublishRequest): VersionSummary => {
  const person = { user_id: 'ada', name: 'Ada' }
  return {
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
}

describe('carrying out a publish', () => {
  it('[PUB9] a reply that the disk does not take counts as none: the request is sent again, once there is room', async () => {
    const asked = request()
    const { pipeline_id } = asked
    const version = summaryOf(asked)
    let sent = 0
    const errors: string[] = []
    const publisher = await Publisher.open({
      ...parts(async () => {
        sent++
        // The disk fills up while the server answers.
        if (sent === 1) state.write = () => Promise.reject(new Error('No space left on device'))
        return { version, created: sent === 1 }
      }),
      onError: error => errors.push(error.code),
    })
    expect(await publisher.publish(asked, () => false)).toMatchObject({ state: 'queued' })
    publisher.ready(asked.workspace_id)
    await expect.poll(() => errors.length).toBe(1)
    expect(publisher.of(pipeline_id)).toMatchObject({ state: 'queued', maybe_sent: true })
    // Who waits for the end of the sending did not ask for this event, and is not told that it failed.
    await publisher.settled(asked.workspace_id)
    Reflect.deleteProperty(state, 'write')
    publisher.ready(asked.workspace_id)
    await expect.poll(() => publisher.of(pipeline_id).state).toBe('published')
    expect(sent).toBe(2)
  })
  it('[PUB10] only what can succeed later is sent again: every other answer settles the request', () => {
    for (const [code, { retry }] of Object.entries(CODES) as [ErrorCode, { retry: string }][]) {
      const { kind } = replyOf(new AppError(code, 'It was not published.'))
      if (retry === 'never') expect([code, kind]).not.toEqual([code, 'lost'])
      if (retry === 'later') expect([code, kind]).toEqual([code, 'lost'])
    }
    expect(replyOf(new AppError('auth.expired', 'Sign in.'))).toEqual({ kind: 'lost' })
  })

  it('[PUB10] a queued publish that the server never takes waits for a person, with its reason', async () => {
    const asked = request()
    const publisher = await Publisher.open(
      parts(() => Promise.reject(new AppError('request.too_large', 'It is larger than this server takes.'))),
    )
    expect(await publisher.publish(asked, () => false)).toMatchObject({ state: 'queued' })
    publisher.ready(asked.workspace_id)
    await expect.poll(() => publisher.of(asked.pipeline_id).state).toBe('needs_you')
    expect(publisher.waiting(asked.workspace_id)).toBe(0)
    const reason = 'the server refused it: It is larger than this server takes.'
    expect(publisher.needs(asked.workspace_id)).toEqual([{ pipelineId: asked.pipeline_id, reason }])
  })

  it('[PUB11] a record that cannot be read is named and waits for a person; the others go on', async () => {
    const [broken, other] = [request(), request()]
    other.workspace_id = broken.workspace_id
    const first = await Publisher.open(
      parts(() => Promise.reject(new AppError('server.unreachable', 'Away.'))),
    )
    for (const one of [broken, other]) await first.publish(one, () => false)
    await state.write(tx =>
      tx.run("update publishes set state = 'broken' where pipeline_id = $1", broken.pipeline_id),
    )
    const named: unknown[] = []
    const publisher = await Publisher.open({
      ...parts(async one => ({ version: summaryOf(one), created: true })),
      onUnreadable: (pipelineId, error) => named.push([pipelineId, error.code, error.details]),
    })
    const { pipeline_id, workspace_id } = broken
    expect(named).toEqual([[pipeline_id, 'state.corrupt', { table: 'publishes', key: pipeline_id }]])
    expect(publisher.needs(workspace_id)).toMatchObject([{ pipelineId: pipeline_id }])
    publisher.ready(workspace_id)
    await expect.poll(() => publisher.of(other.pipeline_id).state).toBe('published')

    // Asked anew it goes on as any other.
    const again = { ...broken, version_id: newId() }
    await publisher.publish(again, () => false)
    expect(publisher.needs(workspace_id)).toEqual([])
    publisher.ready(workspace_id)
    await expect.poll(() => publisher.of(pipeline_id).state).toBe('published')
  })

  it('[PUB13] one that waits for a person is put aside for good, also one that cannot be read; one that is queued is not', async () => {
    const [refused, broken, queued] = [request(), request(), request()]
    const { workspace_id } = refused
    for (const one of [broken, queued]) one.workspace_id = workspace_id
    const told: string[] = []
    const open = () =>
      Publisher.open({
        ...parts(() => Promise.reject(new AppError('auth.forbidden', 'You may not.'))),
        onChange: (pipelineId, { state: now }) => told.push(`${pipelineId} ${now}`),
      })
    const first = await open()
    for (const one of [refused, broken]) await first.publish(one, () => false)
    first.ready(workspace_id)
    await expect.poll(() => first.needs(workspace_id)).toHaveLength(2)
    await first.publish(queued, () => false)
    await state.write(tx =>
      tx.run("update publishes set state = 'broken' where pipeline_id = $1", broken.pipeline_id),
    )
    const publisher = await open()
    expect(publisher.needs(workspace_id)).toHaveLength(2)
    told.length = 0
    expect(await publisher.dismiss(refused.pipeline_id)).toBe(true)
    expect(await publisher.dismiss(broken.pipeline_id)).toBe(true)
    expect(told).toEqual([`${refused.pipeline_id} idle`, `${broken.pipeline_id} idle`])
    expect(await publisher.dismiss(queued.pipeline_id)).toBe(false)
    for (const id of [refused.pipeline_id, broken.pipeline_id, newId()])
      expect(await publisher.dismiss(id)).toBe(false)
    for (const one of [publisher, await open()]) {
      expect(one.needs(workspace_id)).toEqual([])
      expect(one.waiting(workspace_id)).toBe(1)
    }
  })
})
