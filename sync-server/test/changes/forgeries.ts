import { deflateRawSync } from 'node:zlib'
import * as Automerge from '@automerge/automerge'
import type { RefusalCode } from '../../src/changes/admission/limits.ts'
import { frame, type RawChange, rawBody, takeApart, uleb, writeChange } from './raw-change.ts'

/**
 * Changes that no honest device makes, each named after what is wrong with it.
 *
 * All are written by an actor of their own on top of `history`; `concurrent` is honest, known to the server, and not in
 * their causal past.
 */
export interface Forgery {
  readonly name: string
  readonly code: RefusalCode
  readonly bytes: Uint8Array
}

export interface ForgeryWorld {
  /** In causal order. */
  readonly history: readonly Uint8Array[]
  readonly concurrent: Uint8Array
  readonly forgeries: readonly Forgery[]
}

const ALICE = 'aa'.repeat(16)
const BOB = 'bb'.repeat(16)
const MALLORY = 'ee'.repeat(16)
const HUGE = 100_000_000

interface Op {
  action: string
  obj: string
  key?: string
  elemId?: string
  insert?: boolean
  value?: unknown
  datatype?: string
  name?: string
  expand?: boolean
  pred: string[]
}
type Decoded = Omit<Automerge.DecodedChange, 'ops'> & { ops: Op[] }

const decode = (bytes: Uint8Array): Decoded => Automerge.decodeChange(bytes) as unknown as Decoded
const encode = (change: Omit<Decoded, 'hash'>): Uint8Array =>
  Automerge.encodeChange(change as unknown as Automerge.DecodedChange)

interface Base {
  title: string
  body: string
  n: number
  other: number
  gone?: number
  clicks: Automerge.Counter
  list: string[]
  list2: string[]
  inner: Record<string, unknown>
  bobs?: Record<string, unknown>
}

export function forgeryWorld(): ForgeryWorld {
  const at = { time: 1_700_000_000 }
  let alice = Automerge.init<Base>({ actor: ALICE })
  alice = Automerge.change(alice, at, doc => {
    doc.title = 'select 1'
    doc.body = 'text'
    doc.n = 1
    doc.other = 2
    doc.gone = 3
    doc.clicks = new Automerge.Counter(1)
    doc.list = ['a', 'b']
    doc.list2 = ['c']
    doc.inner = { k: 1 }
  })
  let bob = Automerge.clone(alice, { actor: BOB })
  bob = Automerge.change(bob, at, doc => {
    doc.other = 4
  })
  alice = Automerge.merge(alice, bob)
  bob = Automerge.change(bob, at, doc => {
    doc.n = 5
    doc.bobs = {}
    doc.bobs.x = 1
    Automerge.splice(doc, ['title'], 0, 0, 'Z')
  })
  alice = Automerge.change(alice, at, doc => {
    Automerge.splice(doc, ['title'], 8, 0, '2')
    delete doc.gone
    doc.clicks.increment(2)
  })
  const history = Automerge.getAllChanges(alice)
  const concurrent = Automerge.getLastLocalChange(bob)!
  const head = decode(history[2]!)
  const first = decode(history[0]!)

  /** The id of an operation that these changes made. */
  const id = (change: Decoded, matches: (op: Op) => boolean): string => {
    const at = change.ops.findIndex(matches)
    if (at < 0) throw new Error('no such operation in the base document')
    return `${change.startOp + at}@${change.actor}`
  }
  const onRoot = (key: string): string => id(first, op => op.obj === '_root' && op.key === key)
  const inObject = (obj: string): string => id(first, op => op.obj === obj)
  const title = onRoot('title')
  const body = onRoot('body')
  const list = onRoot('list')
  const list2 = onRoot('list2')
  const inner = onRoot('inner')
  const letter = inObject(title)
  const bodyLetter = inObject(body)
  const item = inObject(list)
  const item2 = inObject(list2)
  const deletion = id(head, op => op.action === 'del')
  const increment = id(head, op => op.action === 'inc')
  const bobsChange = decode(concurrent)
  const bobsN = id(bobsChange, op => op.key === 'n')
  const bobsObject = id(bobsChange, op => op.key === 'bobs')
  const bobsLetter = id(bobsChange, op => op.obj === title)

  const startOp = head.startOp + head.ops.length
  const honest: Omit<Decoded, 'hash'> = {
    actor: MALLORY,
    author: null,
    seq: 1,
    startOp,
    time: at.time,
    message: null,
    deps: [head.hash],
    ops: [],
  }
  const set = (key: string, pred: string[], more: Partial<Op> = {}): Op => ({
    action: 'set',
    obj: '_root',
    key,
    value: 'v',
    pred,
    ...more,
  })
  const insert = (obj: string, elemId: string, more: Partial<Op> = {}): Op => ({
    action: 'set',
    obj,
    elemId,
    insert: true,
    value: 'x',
    pred: [],
    ...more,
  })
  const own = (offset: number): string => `${startOp + offset}@${MALLORY}`
  const forgeries: Forgery[] = []
  const add = (name: string, code: RefusalCode, bytes: Uint8Array): void => {
    forgeries.push({ name, code, bytes })
  }
  const ops = (name: string, list: Op[], more: Partial<Decoded> = {}): void =>
    add(name, 'invalid', encode({ ...honest, ops: list, ...more }))
  const good = encode({ ...honest, ops: [set('n', [onRoot('n')])] })
  const raw = (name: string, code: RefusalCode, edit: (change: RawChange) => void, from = good): void => {
    const change = takeApart(from)
    edit(change)
    add(name, code, writeChange(change))
  }

  // What an operation is on.
  ops('an unknown object', [set('k', [], { obj: `${HUGE}@${ALICE}` })])
  ops('an object by an unknown actor', [set('k', [], { obj: `1@${'99'.repeat(16)}` })])
  ops('an object that is a scalar', [set('k', [], { obj: onRoot('n') })])
  ops('an object that a concurrent change made', [set('k', [], { obj: bobsObject })])
  ops('an object that the change makes later', [
    set('k', [], { obj: own(1) }),
    { action: 'makeMap', obj: '_root', key: 'later', pred: [] },
  ])
  ops('an operation on itself', [{ action: 'makeMap', obj: own(0), key: 'me', pred: [] }])
  ops('a map key on a text', [set('k', [], { obj: title })])
  ops('a map key on a list', [set('k', [], { obj: list })])
  ops('a list element on a map', [insert(inner, '_head')])
  ops('a list element on the root', [insert('_root', '_head')])
  ops('an empty map key', [set('', [])])
  ops('an insertion with a map key', [set('k', [], { insert: true })])

  // Where in a list or text it is.
  ops('an unknown element', [insert(list, `${HUGE}@${ALICE}`)])
  ops('an element of another list', [insert(list, item2)])
  ops('an element of another text', [insert(title, bodyLetter)])
  ops('an element that a concurrent change inserted', [insert(title, bobsLetter)])
  ops('an element that is a map entry', [insert(list, onRoot('n'))])
  ops('a deletion named as an element', [insert(list, deletion)])
  ops('an insertion after itself', [insert(list, own(0))])
  ops('an assignment to the head of a list', [insert(list, '_head', { insert: false })])
  ops('an assignment to an element without a predecessor', [insert(list, item, { insert: false })])
  ops('an assignment to a letter', [insert(title, letter, { insert: false, pred: [letter] })])
  ops('a number in a text', [insert(title, letter, { value: 7, datatype: 'int' })])
  ops('an empty string in a text', [insert(title, letter, { value: '' })])
  ops('a list in a text', [insert(title, letter, { action: 'makeList' })])

  // Predecessors.
  ops('an unknown predecessor', [set('n', [`${HUGE}@${ALICE}`])])
  ops('a predecessor by an unknown actor', [set('n', [`1@${'99'.repeat(16)}`])])
  ops('a predecessor of another key', [set('n', [onRoot('other')])])
  ops('a predecessor in another object', [set('n', [inObject(inner)])])
  ops('a predecessor of another element', [
    insert(list, item, { insert: false, pred: [`${Number.parseInt(item, 10) + 1}@${ALICE}`] }),
  ])
  ops('a predecessor of a text for a map key', [set('n', [letter])])
  ops('a predecessor that a concurrent change made', [set('n', [onRoot('n'), bobsN])])
  ops('a predecessor that is a deletion', [set('gone', [deletion])])
  ops('a predecessor that is an increment', [set('clicks', [increment])])
  ops('a predecessor named twice', [set('n', [onRoot('n'), onRoot('n')])])
  ops('a predecessor that comes later', [set('z', [own(1)]), set('z', [own(0)])])
  ops('an operation that precedes itself', [set('z', [own(0)])])
  ops('an insertion with a predecessor', [insert(list, item, { pred: [item] })])
  ops('a deletion without a predecessor', [{ action: 'del', obj: '_root', key: 'n', pred: [] }])
  ops('a deletion of a letter without a predecessor', [
    { action: 'del', obj: title, elemId: letter, pred: [] },
  ])
  ops('an insertion of a deletion', [{ action: 'del', obj: list, elemId: item, insert: true, pred: [] }])
  ops('an increment without a predecessor', [
    { action: 'inc', obj: '_root', key: 'clicks', value: 1, pred: [] },
  ])
  ops('an increment of a number', [{ action: 'inc', obj: '_root', key: 'n', value: 1, pred: [onRoot('n')] }])
  ops('an unsigned number', [set('n', [onRoot('n')], { value: 7, datatype: 'uint' })])
  ops('a counter out of range', [set('n', [onRoot('n')], { value: 2 ** 52, datatype: 'counter' })])
  ops('a time out of range', [set('n', [onRoot('n')], { value: 2 ** 53 - 1, datatype: 'timestamp' })])

  // What this product does not use: a mark whose end lies before its start never loads again.
  const begin: Op = {
    action: 'markBegin',
    obj: title,
    elemId: letter,
    insert: true,
    name: 'b',
    value: true,
    expand: false,
    pred: [],
  }
  const end: Op = { action: 'markEnd', obj: title, elemId: letter, insert: true, expand: false, pred: [] }
  ops('a mark', [begin, end])
  ops('a mark whose end lies before its start', [begin, { ...end, elemId: '_head' }])
  ops('a mark without an end', [begin])
  ops('an end without a mark', [end])
  ops('a block in a text', [insert(title, letter, { action: 'makeMap' })])

  // The change's place in the history.
  ops('an operation number gap of 10^8', [set('z', [])], { startOp: HUGE })
  ops('operation numbers that start one too high', [set('z', [])], { startOp: startOp + 1 })
  ops('operation numbers that start one too low', [set('z', [])], { startOp: startOp - 1 })
  ops('operation numbers that start at 1', [set('z', [])], { startOp: 1 })
  ops('an empty change with a gap', [], { startOp: startOp + 5 })
  ops("a gap in the actor's numbers", [set('z', [])], { seq: 2 })
  ops("an actor's first change with number 0", [set('z', [])], { seq: 0 })
  ops('an actor that continues without its past', [set('z', [])], {
    actor: ALICE,
    seq: 3,
    deps: [first.hash],
    startOp: first.startOp + first.ops.length,
  })
  ops('a dependency that another one includes', [set('z', [])], { deps: [first.hash, head.hash].sort() })
  add(
    'an unknown dependency',
    'missing_deps',
    encode({ ...honest, deps: ['11'.repeat(32)], ops: [set('z', [])] }),
  )
  add(
    "a copied data folder: other content under an actor's number",
    'actor',
    encode({
      ...honest,
      actor: ALICE,
      seq: 2,
      deps: [first.hash],
      startOp: first.startOp + first.ops.length,
      ops: [set('z', [])],
    }),
  )
  add(
    'a second first change of a known actor',
    'actor',
    encode({ ...honest, actor: ALICE, seq: 1, deps: [], startOp: 1, ops: [set('z', [])] }),
  )
  raw('a dependency named twice', 'invalid', change => change.deps.push(change.deps[0]!))

  // Bytes.
  const flipped = good.slice()
  flipped[flipped.length - 1]! ^= 1
  add('a flipped bit', 'invalid', flipped)
  add('nothing', 'invalid', new Uint8Array(0))
  add('only a header', 'invalid', good.slice(0, 9))
  add('a cut end', 'invalid', good.slice(0, -3))
  add('bytes behind the change', 'invalid', Uint8Array.from([...good, 0]))
  add('two changes in one', 'invalid', Uint8Array.from([...good, ...good]))
  add('a whole document', 'invalid', Automerge.save(alice))
  add('a bundle', 'invalid', Automerge.saveBundle(alice, [head.hash]))
  add('a chunk of an unknown type', 'invalid', frame(rawBody(takeApart(good)), { type: 9 }))
  add(
    'a length of 2^50',
    'invalid',
    Uint8Array.from([...good.slice(0, 9), ...uleb(2 ** 50), ...good.slice(10)]),
  )
  const goodBody = rawBody(takeApart(good))
  add(
    'bytes behind the compressed content',
    'invalid',
    frame(goodBody, {
      type: 2,
      compressed: Uint8Array.from([...deflateRawSync(goodBody), 1, 2, 3]),
    }),
  )
  add(
    'compressed content that is no deflate stream',
    'invalid',
    frame(goodBody, {
      type: 2,
      compressed: Uint8Array.from([255, 255, 255, 255]),
    }),
  )
  add(
    'a deflate bomb',
    'quota',
    frame(goodBody, { type: 2, compressed: deflateRawSync(new Uint8Array(50_000_000)) }),
  )
  raw('bytes behind the last column', 'invalid', change => {
    change.extra = Uint8Array.from([1, 2, 3])
  })
  raw('an author claimed inside the change', 'invalid', change => {
    change.extra = Uint8Array.from([1, 8, 255, 255, 255, 255, 255, 255, 255, 255])
  })
  raw('an unknown column', 'invalid', change => change.columns.push([0xf2, Uint8Array.from([1, 1])]))
  raw('a compressed column', 'invalid', change => {
    change.columns = change.columns.map(([spec, bytes]) =>
      spec === 0x42 ? [0x4a, deflateRawSync(bytes)] : [spec, bytes],
    )
  })
  raw('columns out of order', 'invalid', change => change.columns.reverse())
  raw('the same column twice', 'invalid', change => change.columns.splice(1, 0, change.columns[0]!))
  raw('an actor listed for nothing', 'invalid', change => change.others.push(BOB))
  raw('its own actor listed again', 'invalid', change => change.others.push(MALLORY))
  raw('an actor place that is not listed', 'invalid', change => {
    change.columns = change.columns.map(([spec, bytes]) =>
      spec === 0x71 ? [spec, Uint8Array.from([0x7f, 9])] : [spec, bytes],
    )
  })
  const column =
    (spec: number, bytes: number[]) =>
    (change: RawChange): void => {
      change.columns = change.columns.filter(([known]) => known !== spec)
      change.columns.push([spec, Uint8Array.from(bytes)])
      change.columns.sort((a, b) => a[0] - b[0])
    }
  const make = encode({ ...honest, ops: [{ action: 'makeMap', obj: '_root', key: 'made', pred: [] }] })
  raw('an unknown action', 'invalid', column(0x42, [0x7f, 12]), make)
  raw('a table', 'invalid', column(0x42, [0x7f, 6]), make)
  raw(
    '10^9 operations in one run',
    'quota',
    column(0x42, [...uleb(0).slice(1), 0x80, 0x94, 0xeb, 0xdc, 0x03, 1]),
  )
  raw('a run of predecessors longer than the change', 'quota', column(0x70, [0x7f, ...uleb(2 ** 40)]))
  raw('a column longer than the change', 'invalid', column(0x56, [0x80, 0x80, 0x80, 0x80, 0x01, 0x16]))
  raw('a run of one', 'invalid', column(0x42, [1, 1]))
  raw('a column of nothing but nulls', 'invalid', column(0x11, [0, 1]))
  raw('a column left out', 'invalid', change => {
    change.columns = change.columns.filter(([spec]) => spec !== 0x34)
  })
  raw('a value that is longer than its bytes', 'invalid', column(0x56, [0x7f, ...uleb(200 * 16 + 6)]))
  raw('a value of an unknown type', 'invalid', column(0x56, [0x7f, 0x1b]))
  raw('text that is not UTF-8', 'invalid', column(0x57, [0xff]))
  raw('a number that is not in its shortest form', 'invalid', change => {
    column(0x56, [0x7f, 0x24])(change)
    column(0x57, [0x81, 0x00])(change)
  })
  raw('a number above 2^53', 'invalid', change => {
    column(0x56, [0x7f, 0x94, 0x01])(change)
    column(0x57, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00])(change)
  })

  // Size.
  add('a paste of 2 million characters', 'quota', frame(new Uint8Array(2_000_000)))
  add('a message of 10 kB', 'quota', encode({ ...honest, message: 'm'.repeat(10_000), ops: [set('z', [])] }))
  add('a map key of 10 kB', 'quota', encode({ ...honest, ops: [set('k'.repeat(10_000), [])] }))
  add(
    'objects 500 deep',
    'quota',
    encode({
      ...honest,
      ops: Array.from({ length: 500 }, (_, i) => ({
        action: 'makeMap',
        obj: i === 0 ? '_root' : own(i - 1),
        key: 'deeper',
        pred: [],
      })),
    }),
  )

  return { history, concurrent, forgeries }
}
