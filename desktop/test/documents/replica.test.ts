import { randomBytes } from 'node:crypto'
import * as Automerge from '@automerge/automerge'
import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Replica, type ReplicaChange } from '../../renderer/documents/replica.ts'
import { AWAY, CORRUPT, type Doc, Host, ID } from './one-document.ts'

let host: Host
let replica: Replica<Doc>
let errors: (ErrorBody | null)[]
let told: ReplicaChange[]

beforeEach(async () => {
  vi.useFakeTimers()
  host = new Host()
  const opened = await Replica.open<Doc>(host.bridge, ID)
  if (!opened.ok) throw new Error(opened.error.message)
  replica = opened.value
  errors = []
  told = []
  replica.onOpen(error => errors.push(error))
  replica.onChange(change => told.push(change))
})
afterEach(() => {
  replica.close()
  vi.useRealTimers()
})

const FULL: ErrorBody = { code: 'internal', message: 'The disk is full.', hint: 'Make room.' }
const type = (text: string): void =>
  replica.change(doc => Automerge.change(doc, d => Automerge.splice(d as never, ['text'], 0, 0, text)))
const later = (ms = 0) => vi.advanceTimersByTimeAsync(ms)
/** Typed and stored; then the host takes it back, and is away. */
const takenBack = async (text: string): Promise<void> => {
  const before = Automerge.clone(host.doc)
  type(text)
  await later()
  host.doc = before
  host.appendFails = AWAY
}

describe('a document that is opened again', () => {
  it('[EDIT7] says why it cannot be, takes no text meanwhile, and goes on when the host has it', async () => {
    host.fails = CORRUPT
    host.reset()
    await later()
    expect(errors).toEqual([CORRUPT])
    expect(replica.openError).toEqual(CORRUPT)
    expect(() => type('lost ')).toThrow(CORRUPT.message)
    expect(replica.doc.text).toBe('one')
    // It is not asked for again and again: the host says when there is something new.
    const asked = host.opened
    await later(60_000)
    expect(host.opened).toBe(asked)

    host.fails = null
    host.doc = Automerge.from<Doc>({ text: 'mended' })
    host.reset()
    await later()
    expect(errors).toEqual([CORRUPT, null])
    expect(replica.doc.text).toBe('mended')
    type('and ')
    await later()
    expect(host.doc.text).toBe('and mended')
  })

  it('[EDIT7] is tried again by a person', async () => {
    host.fails = CORRUPT
    host.reset()
    await later()
    host.fails = null
    await replica.openAgain()
    expect(replica.openError).toBeNull()
    expect(told.at(-1)?.origin).toBe('reopened')
  })

  it('[EDIT7] bytes that cannot be read are an error that is said, at first and later', async () => {
    host.broken = true
    expect(await Replica.open(host.bridge, ID)).toMatchObject({
      ok: false,
      error: { code: 'document.corrupt' },
    })
    host.reset()
    await later()
    expect(errors).toMatchObject([{ code: 'document.corrupt' }])
  })

  it('[EDIT4][EDIT7] of a host that went away again it is tried until it answers, and what was typed is kept', async () => {
    host.appendFails = AWAY
    host.connection.set(false)
    type('kept ')
    await later()
    host.fails = AWAY
    host.connection.set(true)
    await later(5_000)
    expect(replica.doc.text).toBe('kept one')
    type('also ')
    host.fails = null
    host.appendFails = null
    await later(3_000)
    expect(replica.openError).toBeNull()
    expect(host.doc.text).toBe('also kept one')
    expect(replica.doc.text).toBe('also kept one')
  })

  it('[EDIT4] what a host that is there could not store is handed over again without another keystroke', async () => {
    host.appendFails = FULL
    type('kept ')
    await later()
    expect(replica.appendState).toMatchObject({ state: 'failed', waiting: 1, error: FULL })
    await later(10_000)
    expect(replica.appendState).toMatchObject({ state: 'failed', waiting: 1, error: FULL })
    host.appendFails = null
    await later(10_000)
    expect(host.doc.text).toBe('kept one')
    expect(replica.appendState).toEqual({ state: 'stored' })
  })

  it('[EDIT4] who waits for it to be stored hears why it is not, and has it tried at once', async () => {
    host.appendFails = FULL
    type('kept ')
    await later()
    const failed = replica.stored()
    await later()
    expect(await failed).toEqual(FULL)
    host.appendFails = null
    const stored = replica.stored()
    await later()
    expect(await stored).toBeNull()
    expect(host.doc.text).toBe('kept one')
  })

  it('[EDIT4] what can never be stored is not handed over again by itself', async () => {
    let failures = 0
    replica.onAppend(({ state }) => {
      if (state === 'failed') failures++
    })
    host.appendFails = CORRUPT
    type('kept ')
    await later(60_000)
    expect(failures).toBe(1)
    expect(replica.held).toBe(1)
  })

  it('[EDIT7] what a reset gave up is given up although the first try failed', async () => {
    host.appendFails = AWAY
    type('refused ')
    await later()
    host.fails = AWAY
    host.reset()
    await later(100)
    host.fails = null
    host.connection.set(false)
    host.connection.set(true)
    await later()
    expect(replica.doc.text).toBe('one')
  })

  it('[EDIT7] shows what came while the host answered, and only the last answer', async () => {
    const slow = Promise.withResolvers<void>()
    host.late = slow.promise
    void replica.openAgain()
    host.edit(' two')
    host.late = Promise.resolve()
    slow.resolve()
    await later(1_000)
    expect(replica.doc.text).toBe('one two')

    const slower = Promise.withResolvers<void>()
    host.late = slower.promise
    void replica.openAgain()
    host.late = Promise.resolve()
    host.doc = Automerge.from<Doc>({ text: 'newer' })
    await replica.openAgain()
    slower.resolve()
    await later(1_000)
    expect(replica.doc.text).toBe('newer')
  })
})

describe('a document that the host opened anew', () => {
  it('[EDIT8] keeps what was typed during the round trip, as nothing was given up', async () => {
    const slow = Promise.withResolvers<void>()
    host.late = slow.promise
    host.edit(' and more')
    host.reset(null)
    // The host read what it answers before this.
    host.appendFails = AWAY
    type('kept ')
    await later()
    host.late = Promise.resolve()
    slow.resolve()
    await later()
    expect(replica.doc.text).toBe('kept one and more')
    host.appendFails = null
    await later(2_000)
    expect(host.doc.text).toBe('kept one and more')
    expect(replica.appendState).toEqual({ state: 'stored' })
  })

  it('[EDIT8] shows what others and oneself wrote while the host answered, however long it takes', async () => {
    const slow = Promise.withResolvers<void>()
    host.late = slow.promise
    void replica.openAgain()
    await later()
    type('kept ')
    host.edit(' two')
    await later(1_000)
    expect(host.doc.text).toBe('kept one two')
    expect(replica.appendState).toEqual({ state: 'stored' })
    slow.resolve()
    await later()
    expect(replica.doc.text).toBe('kept one two')
  })

  it('[EDIT8] hands what was typed on top of a refused change to the draft that holds that', async () => {
    await takenBack('refused ')
    host.reset()
    type('and this ')
    await later()
    expect(replica.doc.text).toBe('one')
    expect(replica.waiting).toBe(1)
    host.appendFails = null
    await later(2_000)
    expect(host.doc.text).toBe('one')
    expect(host.drafted).toHaveLength(1)
    expect(replica.appendState).toEqual({ state: 'stored' })
    type('next ')
    await later()
    expect(host.doc.text).toBe('next one')
  })

  it('[EDIT8] says so when what was typed builds on what the host no longer has, and goes on', async () => {
    await takenBack('erased ')
    type('lost ')
    await later()
    const failures: string[] = []
    replica.onAppend(state => state.state === 'failed' && failures.push(state.error.code))
    host.appendFails = null
    host.reset(null)
    await later()
    await later(2_000)
    expect(failures).toEqual(['change.missing_deps'])
    type('next ')
    await later()
    expect(host.doc.text).toBe('next one')
    expect(replica.appendState).toEqual({ state: 'stored' })
  })
})

describe('a long document', () => {
  const long = randomBytes(20_000).toString('base64')
  const openAgain = async (readFirst: (content: Doc) => Promise<void>): Promise<void> => {
    replica.close()
    host.doc = Automerge.from<Doc>({ text: long })
    const opened = await Replica.open<Doc>(host.bridge, ID, readFirst)
    if (!opened.ok) throw new Error(opened.error.message)
    replica = opened.value
  }

  it('[UI13] is shown before it is loaded, and misses nothing that comes meanwhile', async () => {
    let shown = ''
    await openAgain(async content => {
      shown = content.text
      host.edit(' and more')
    })
    expect(shown).toBe(long)
    await later(100)
    expect(replica.doc.text).toBe(`${long} and more`)
  })

  it('[UI13] that the host gave up meanwhile is taken as the host has it then', async () => {
    await openAgain(async () => {
      host.edit(' and more')
      host.doc = Automerge.from<Doc>({ text: 'short' })
      host.reset()
    })
    await later(100)
    expect(replica.doc.text).toBe('short')
  })
})
