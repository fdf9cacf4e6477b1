import { randomBytes } from 'node:crypto'
import * as Automerge from '@automerge/automerge'
import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge } from '@pluto-duck/engine/contract'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { connectionOf, listenersOf } from '../../renderer/bridge/listeners.ts'
import { fromBase64, toBase64 } from '../../renderer/documents/base64.ts'
import { Replica, type ReplicaChange } from '../../renderer/documents/replica.ts'

type Doc = { text: string }
const ID = '01900000-0000-7000-8000-000000000001'
const CORRUPT: ErrorBody = {
  code: 'document.corrupt',
  message: 'It cannot be read.',
  hint: 'It is fetched again.',
}
const AWAY: ErrorBody = { code: 'host.unreachable', message: 'It does not answer.', hint: 'Start it.' }

/** A host with one document: it may be away, refuse to open, or answer late. */
class Host {
  doc = Automerge.from<Doc>({ text: 'one' })
  fails: ErrorBody | null = null
  broken = false
  appendFails: ErrorBody | null = null
  opened = 0
  /** Answers to `document.open` wait for it. */
  late: Promise<void> = Promise.resolve()
  readonly #listeners = listenersOf()
  readonly connection = connectionOf()

  readonly bridge = {
    call: async (method: string, input: { changes: string[] }) => {
      if (method === 'document.append') {
        if (this.appendFails) return { ok: false, error: this.appendFails }
        this.doc = Automerge.applyChanges(this.doc, input.changes.map(fromBase64))[0]
        return { ok: true, value: { heads: Automerge.getHeads(this.doc) } }
      }
      this.opened++
      const { fails } = this
      const bytes = this.broken ? 'AAAA' : toBase64(Automerge.save(this.doc))
      await this.late
      if (fails) return { ok: false, error: fails }
      const actor = crypto.randomUUID().replaceAll('-', '')
      return { ok: true, value: { document_id: ID, bytes, actor, read_only: false, read_only_reason: null } }
    },
    on: this.#listeners.add,
    onConnection: this.connection.add,
  } as unknown as Bridge

  constructor() {
    this.connection.set(true)
  }

  /** A change by somebody else. */
  edit(text: string): void {
    const before = Automerge.getHeads(this.doc)
    this.doc = Automerge.change(this.doc, d => Automerge.splice(d as never, ['text'], d.text.length, 0, text))
    const changes = Automerge.getChangesSince(this.doc, before).map(toBase64)
    this.#listeners.tell({ topic: 'document.changes', event: { document_id: ID, changes } } as never)
  }
  reset(): void {
    this.#listeners.tell({ topic: 'document.reset', event: { document_id: ID } } as never)
  }
}

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

const type = (text: string): void =>
  replica.change(doc => Automerge.change(doc, d => Automerge.splice(d as never, ['text'], 0, 0, text)))
const later = (ms = 0) => vi.advanceTimersByTimeAsync(ms)

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
