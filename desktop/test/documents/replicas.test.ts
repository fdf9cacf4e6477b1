import * as Automerge from '@automerge/automerge'
import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { Replica } from '../../renderer/documents/replica.ts'
import { Replicas } from '../../renderer/documents/replicas.ts'
import { AWAY, type Doc, Host, ID } from './one-document.ts'

let host: Host
let replicas: Replicas
let waiting: number
let failing: number
let refused: ErrorBody[]

beforeEach(() => {
  vi.useFakeTimers()
  host = new Host()
  waiting = 0
  failing = 0
  refused = []
  replicas = new Replicas(host.bridge, {
    waiting: (count, failed) => {
      waiting = count
      failing = failed
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

it('[EDIT9] what the host could not store is counted as in this window alone, also what is typed on top and what one left, until it is stored', async () => {
  const replica = await open()
  host.appendFails = AWAY
  type(replica, 'one ')
  await later()
  expect([failing, replicas.held]).toEqual([1, 1])
  type(replica, 'two ')
  expect([failing, replicas.held]).toEqual([2, 2])
  // It is tried again and again, and is no safer while that goes on.
  for (let i = 0; i < 30; i++) {
    await later(100)
    expect([failing, replicas.held]).toEqual([2, 2])
  }
  replicas.leave(replica)
  expect(replicas.held).toBe(2)
  host.appendFails = null
  await later(2_000)
  expect(host.doc.text).toBe('two one one')
  expect([waiting, failing, replicas.held]).toEqual([0, 0, 0])
})

it('[EDIT9] what the host refuses for good is in this window alone', async () => {
  const replica = await open()
  host.appendFails = { code: 'document.too_new', message: 'It is newer.', hint: 'Update.' }
  type(replica, 'refused ')
  await later()
  expect([failing, replicas.held]).toEqual([1, 1])
})

it('[EDIT9] what is under way to a host that is there needs no question; what waits behind it, and what is too long to outlive the page, does', async () => {
  const replica = await open()
  let answer = (): void => undefined
  host.appendLate = new Promise(resolve => {
    answer = resolve
  })
  type(replica, 'under way ')
  expect(replicas.held).toBe(1)
  await later()
  expect([waiting, failing, replicas.held]).toEqual([1, 0, 0])
  type(replica, 'behind ')
  expect(replicas.held).toBe(1)
  host.appendLate = Promise.resolve()
  answer()
  await later()
  expect([waiting, replicas.held]).toEqual([0, 0])

  host.appendLate = new Promise(resolve => {
    answer = resolve
  })
  // No compression makes this short.
  type(replica, Array.from({ length: 900 }, () => crypto.randomUUID()).join(''))
  await later()
  expect([waiting, failing, replicas.held]).toEqual([1, 0, 1])
  answer()
  await later()
  expect([waiting, replicas.held]).toEqual([0, 0])
})

it('[UI21] whether it may be written is followed while it is open, and what waits stays', async () => {
  const replica = await open()
  const told: (string | null)[] = []
  replica.onChange(() => told.push(replica.readOnlyReason))
  host.setReadOnly('You are a viewer.')
  await later()
  expect([replica.readOnlyReason, told]).toEqual(['You are a viewer.', ['You are a viewer.']])
  host.setReadOnly(null)
  await later()
  expect([replica.readOnlyReason, told.at(-1)]).toEqual([null, null])
  host.appendFails = AWAY
  type(replica, 'kept ')
  await later()
  host.setReadOnly('You are a viewer.')
  await later()
  expect([replica.readOnlyReason, replica.doc.text, waiting]).toEqual(['You are a viewer.', 'kept one', 1])
})
