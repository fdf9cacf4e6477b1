import * as Automerge from '@automerge/automerge'
import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Replica } from '../../renderer/documents/replica.ts'
import { Replicas } from '../../renderer/documents/replicas.ts'
import { AWAY, type Doc, Host, ID } from './one-document.ts'

let host: Host
let replicas: Replicas
let waiting: number
let refused: ErrorBody[]

beforeEach(() => {
  vi.useFakeTimers()
  host = new Host()
  waiting = 0
  refused = []
  replicas = new Replicas(host.bridge, {
    waiting: count => {
      waiting = count
    },
    refused: error => refused.push(error),
  })
})
afterEach(() => {
  replicas.close()
  vi.useRealTimers()
})

const open = async (): Promise<Replica<Doc>> => {
  const opened = await replicas.open<Doc>(ID)
  if (!opened.ok) throw new Error(opened.error.message)
  return opened.value
}
const type = (replica: Replica<Doc>, text: string): void =>
  replica.change(doc => Automerge.change(doc, d => Automerge.splice(d as never, ['text'], 0, 0, text)))
const later = (ms = 0) => vi.advanceTimersByTimeAsync(ms)

it('[EDIT8] what was typed while the host was away is stored when it is back, although something else is shown', async () => {
  const replica = await open()
  host.appendFails = AWAY
  host.connection.set(false)
  type(replica, 'kept ')
  await later()
  expect(waiting).toBe(1)
  replicas.leave(replica)
  await later(60_000)
  expect(waiting).toBe(1)
  host.appendFails = null
  host.connection.set(true)
  await later(2_000)
  expect(host.doc.text).toBe('kept one')
  expect(waiting).toBe(0)
  // Nothing looks after it any more: the next opening reads the document.
  const opened = host.opened
  expect(await open()).not.toBe(replica)
  expect(host.opened).toBe(opened + 1)
})

it('[EDIT8] opened again meanwhile it is the same one, with what was typed', async () => {
  const replica = await open()
  host.appendFails = AWAY
  host.fails = AWAY
  type(replica, 'kept ')
  await later()
  replicas.leave(replica)
  const again = await open()
  expect(again).toBe(replica)
  expect(again.doc.text).toBe('kept one')
  host.appendFails = null
  host.fails = null
  await later(2_000)
  type(again, 'and ')
  await later()
  expect(host.doc.text).toBe('and kept one')
  replicas.leave(again)
  expect(await open()).not.toBe(replica)
})

it('[EDIT8] what the host refuses after it was left is said, and is there when it is opened again', async () => {
  const replica = await open()
  host.appendFails = AWAY
  type(replica, 'refused ')
  await later()
  replicas.leave(replica)
  host.appendFails = { code: 'document.too_new', message: 'It is newer.', hint: 'Update.' }
  await later(5_000)
  expect(refused).toEqual([host.appendFails])
  expect((await open()).doc.text).toBe('refused one')
  expect(waiting).toBe(1)
})
