import { CODES, type ErrorCode } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { forgeryWorld } from '@pluto-duck/sync-server/forgeries'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { changes } from './bad-input/changes.ts'
import { ann, foreign, hers, server, start, stop, tables, url } from './bad-input/places.ts'
import type { Case } from './bad-input/requests.ts'
import { rights } from './bad-input/rights.ts'
import { runs } from './bad-input/runs.ts'
import { schedules } from './bad-input/schedules.ts'
import { shapes } from './bad-input/shapes.ts'
import { signIn } from './bad-input/sign-in.ts'
import { versions } from './bad-input/versions.ts'
import { call, good, push, pushBody, type Reply } from './harness/calls.ts'

// A9 over HTTP: whatever is sent, the answer is a typed error with a hint, never a 500, and no row changes by it.

beforeAll(start)
afterAll(stop)

const all: readonly Case[] = [...signIn, ...shapes, ...rights, ...versions, ...runs, ...schedules, ...changes]

const assertTyped = (reply: Reply, code: ErrorCode): void => {
  expect(reply.body).toMatchObject({ code })
  expect(reply.status).toBe(CODES[code].status)
  expect(reply.status).toBeLessThan(500)
  expect(reply.body.message).not.toBe('')
  expect(reply.body.hint).not.toBe('')
  expect(reply.body).not.toHaveProperty('stack')
}

describe('bad input over HTTP', () => {
  it.each(all)('%s', async (_name, code, send) => {
    const before = await tables.kept()
    assertTyped(await send(), code)
    expect(await tables.kept()).toEqual(before)
  })

  it('a forged change is refused by a verdict of its own, and the log stays as it was', async () => {
    const { history, concurrent, forgeries } = forgeryWorld()
    const device = newId()
    const documentId = newId()
    const honest = pushBody(device, documentId, [...history, concurrent])
    const stored = await good(push(url, hers.workspace, ann, device, honest))
    expect(stored.slice(0, -1).map((verdict: { status: string }) => verdict.status)).not.toContain('refused')
    const before = await tables.kept()
    for (const { name, code, bytes } of forgeries) {
      const reply = await push(url, hers.workspace, ann, device, pushBody(device, documentId, [bytes]))
      expect(reply.status, name).toBe(200)
      expect(reply.body[0], name).toMatchObject({ status: 'refused', index: 0, code })
      expect(reply.body[0].reason, name).not.toBe('')
    }
    expect(await tables.kept()).toEqual(before)
    const together = forgeries.map(forgery => forgery.bytes)
    const batch = await good(push(url, hers.workspace, ann, device, pushBody(device, documentId, together)))
    expect(new Set(batch.slice(0, -1).map((verdict: { status: string }) => verdict.status))).toEqual(
      new Set(['refused']),
    )
    expect(await tables.kept()).toEqual(before)
  })

  it('a document id of another workspace is refused without saying where it is', async () => {
    const { history } = forgeryWorld()
    const device = newId()
    const before = await tables.kept()
    const body = pushBody(device, foreign.pipeline.id, [history[0] as Uint8Array])
    const reply = await push(url, hers.workspace, ann, device, body)
    expect(reply.body[0]).toMatchObject({ status: 'refused', code: 'permission' })
    expect(JSON.stringify(reply.body)).not.toContain(foreign.workspace)
    expect(await tables.kept()).toEqual(before)
  })

  it('nothing of it was a surprise: the server runs and logged no internal error', async () => {
    expect((await call(url, 'GET', '/readyz')).status).toBe(200)
    expect(server.output()).not.toMatch(/"code":"internal"/)
  })
})
