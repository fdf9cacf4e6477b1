import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { contentOf, createPipeline, pipelineFromDoc, readChangeHeader, rootOf } from '../../src/index.ts'
import { anyDefinition } from '../../src/testing/index.ts'

type Doc = Automerge.Doc<Record<string, unknown>>

/** One thing that somebody does; `at` chooses among what is there. */
type Deed =
  | { do: 'set'; key: string; value: unknown }
  | { do: 'drop'; key: string }
  | { do: 'splice'; key: string; at: number; remove: number; insert: string }
  | { do: 'push' | 'replace' | 'pull'; at: number; value: unknown }
  | { do: 'mark'; key: string; at: number }

const KEYS = ['a', 'b', 'ö', '']
const anyKey = fc.constantFrom(...KEYS)
const anyText = fc.oneof(
  fc.string({ maxLength: 6 }),
  fc.constantFrom('🦆', '\ufeffx', '주간', '\u0000', 'a\u0301', '👩‍👩‍👧'),
)
const anyScalar: fc.Arbitrary<unknown> = fc.oneof(
  anyText,
  anyText.map(text => new Automerge.ImmutableString(text)),
  fc.integer(),
  // Beyond that Automerge answers with bigints, and nothing is read here.
  fc
    .double({ noNaN: true })
    .filter(value => !(Number.isInteger(value) && Math.abs(value) >= Number.MAX_SAFE_INTEGER)),
  fc.boolean(),
  fc.constant(null),
  fc.constant(new Date(1_700_000_000_123)),
  fc.uint8Array({ maxLength: 4 }),
)
const anyValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 3, arbitrary: anyScalar },
  fc.array(anyScalar, { maxLength: 3 }),
  fc.dictionary(anyKey, fc.oneof(anyScalar, fc.array(anyScalar, { maxLength: 2 })), {
    maxKeys: 2,
    noNullPrototype: true,
  }),
)
const anyDeed: fc.Arbitrary<Deed> = fc.oneof(
  fc.record({ do: fc.constant('set' as const), key: anyKey, value: anyValue }),
  fc.record({ do: fc.constant('drop' as const), key: anyKey }),
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('splice' as const),
      key: fc.constantFrom('text', 'other'),
      at: fc.nat(20),
      remove: fc.nat(3),
      insert: anyText,
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('push' as const, 'replace' as const, 'pull' as const),
      at: fc.nat(6),
      value: anyValue,
    }),
  },
  fc.record({ do: fc.constant('mark' as const), key: fc.constantFrom('text', 'other'), at: fc.nat(10) }),
)
/** What two people do in turns; each sees the other's only now and then. */
const anyHistory = fc.array(
  fc.record({
    mine: fc.array(anyDeed, { maxLength: 5 }),
    theirs: fc.array(anyDeed, { maxLength: 5 }),
    meet: fc.boolean(),
  }),
  { minLength: 1, maxLength: 6 },
)

function carryOut(doc: Doc, deed: Deed): Doc {
  return Automerge.change(doc, draft => {
    const text = deed.do === 'splice' || deed.do === 'mark' ? (draft[deed.key] as string) : ''
    const list = draft.list as unknown[]
    switch (deed.do) {
      case 'set':
        draft[deed.key] = deed.value
        break
      case 'drop':
        delete draft[deed.key]
        break
      case 'splice': {
        const at = deed.at % (text.length + 1)
        Automerge.splice(draft, [deed.key], at, Math.min(deed.remove, text.length - at), deed.insert)
        break
      }
      case 'mark':
        if (text.length < 2) break
        Automerge.mark(
          draft,
          [deed.key],
          { start: deed.at % (text.length - 1), end: text.length, expand: 'both' },
          'bold',
          true,
        )
        break
      case 'push':
        list.splice(deed.at % (list.length + 1), 0, deed.value)
        break
      case 'replace':
        if (list.length > 0) list[deed.at % list.length] = deed.value
        break
      case 'pull':
        if (list.length > 0) list.splice(deed.at % list.length, 1)
    }
  })
}

const fresh = (): Doc =>
  Automerge.from({ text: 'so it begins', other: '', list: [1, 'two'] } as Record<string, unknown>, {
    actor: 'aa',
  })

/** The document after a history, and its state in between from which changes are left. */
function play(history: readonly { mine: Deed[]; theirs: Deed[]; meet: boolean }[]): {
  docs: Doc[]
  whole: Doc
} {
  let mine = fresh()
  let theirs = Automerge.clone(mine, { actor: 'bb00' })
  const docs: Doc[] = [Automerge.clone(mine)]
  for (const round of history) {
    for (const deed of round.mine) mine = carryOut(mine, deed)
    for (const deed of round.theirs) theirs = carryOut(theirs, deed)
    if (round.meet) {
      mine = Automerge.merge(mine, theirs)
      theirs = Automerge.merge(theirs, mine)
    }
    docs.push(Automerge.clone(mine))
  }
  return { docs, whole: Automerge.merge(mine, theirs) }
}

/** A map, a list or a text: texts are strings in JavaScript, and what is one value an immutable one. */
const isObject = (value: unknown): boolean =>
  typeof value === 'string' ||
  (typeof value === 'object' &&
    value !== null &&
    !(value instanceof Date || value instanceof Uint8Array || Automerge.isImmutableString(value)))

const plain = (doc: Doc): unknown => ({ ...Automerge.toJS(doc) })
const uncompressed = (doc: Doc): Uint8Array => Automerge.getBackend(doc).saveNoCompress()
const joined = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts))

describe('content out of the bytes', () => {
  it('[CONT1] what is read out of the bytes of a document is what loading shows', async () => {
    await fc.assert(
      fc.asyncProperty(anyHistory, async history => {
        const { whole } = play(history)
        for (const bytes of [Automerge.save(whole), uncompressed(whole)])
          expect(await contentOf(bytes)).toEqual(plain(Automerge.load(bytes)))
      }),
      { numRuns: 40 },
    )
  })

  it('[CONT5] what stands at the root can be read alone', async () => {
    await fc.assert(
      fc.asyncProperty(anyHistory, fc.nat(6), async (history, at) => {
        const { docs, whole } = play(history)
        const base = docs[at % docs.length]!
        const bytes = joined([Automerge.save(base), ...Automerge.getChanges(base, whole)])
        const loaded = Automerge.load<Record<string, unknown>>(bytes)
        const scalars = Object.entries(loaded).filter(([, value]) => !isObject(value))
        expect(await rootOf(bytes)).toEqual(Object.fromEntries(scalars))
      }),
      { numRuns: 40 },
    )
  })

  it('[CONT1] a pipeline reads the same', async () => {
    await fc.assert(
      fc.asyncProperty(anyDefinition, async definition => {
        const doc = createPipeline(definition)
        const content = await contentOf(Automerge.save(doc))
        expect(pipelineFromDoc(content as never)).toEqual(pipelineFromDoc(doc))
      }),
      { numRuns: 30 },
    )
  })

  it('[CONT1] columns that are deflated read the same', async () => {
    let doc = fresh()
    for (let i = 0; i < 400; i++)
      doc = carryOut(doc, { do: 'splice', key: 'text', at: (i * 37) % 11, remove: i % 2, insert: `${i} ` })
    expect(Automerge.save(doc).length).toBeLessThan(uncompressed(doc).length)
    for (const bytes of [Automerge.save(doc), uncompressed(doc)])
      expect(await contentOf(bytes)).toEqual(plain(doc))
  })

  it('[CONT2] changes behind the document count, whichever was there first, and those that it has already', async () => {
    await fc.assert(
      fc.asyncProperty(anyHistory, fc.nat(6), fc.boolean(), async (history, at, again) => {
        const { docs, whole } = play(history)
        const base = docs[at % docs.length]!
        const later = again ? Automerge.getAllChanges(whole) : Automerge.getChanges(base, whole)
        const bytes = joined([Automerge.save(base), ...later])
        expect(await contentOf(bytes)).toEqual(plain(Automerge.load(bytes)))
      }),
      { numRuns: 50 },
    )
  })

  it('[CONT2] a large change comes deflated', async () => {
    const base = fresh()
    const whole = carryOut(Automerge.clone(base), {
      do: 'splice',
      key: 'text',
      at: 3,
      remove: 1,
      insert: 'again and '.repeat(100),
    })
    const bytes = joined([Automerge.save(base), ...Automerge.getChanges(base, whole)])
    expect(await contentOf(bytes)).toEqual(plain(whole))
  })

  it('[CONT4] the header of a change says what decoding it says, or null', () => {
    fc.assert(
      fc.property(anyHistory, history => {
        for (const bytes of Automerge.getAllChanges(play(history).whole)) {
          const { deps, actor, seq, startOp, ops } = Automerge.decodeChange(bytes)
          const header = readChangeHeader(bytes, 10_000)
          const marks = ops.some(op => String(op.action).startsWith('mark'))
          if (marks || bytes[8] === 2) expect(header).toBeNull()
          else expect(header).toEqual({ deps, actor, seq, startOp, operations: ops.length })
          if (ops.length > 1) expect(readChangeHeader(bytes, ops.length - 1)).toBeNull()
        }
      }),
      { numRuns: 40 },
    )
    const bytes = Automerge.getAllChanges(fresh())[0]!
    for (let length = 0; length < bytes.length; length++)
      expect(readChangeHeader(bytes.subarray(0, length), 100)).toBeNull()
  })

  it('[CONT3] what is not read here is null', async () => {
    const counted = Automerge.from({ n: new Automerge.Counter(1) })
    expect(await contentOf(Automerge.save(counted))).toBeNull()
    expect(await contentOf(new Uint8Array())).toBeNull()
    expect(await contentOf(joined(Automerge.getAllChanges(fresh())))).toBeNull()
  })

  it('[CONT3] broken bytes are null or some content, and nothing is thrown', async () => {
    const { whole } = play([
      {
        mine: [{ do: 'set', key: 'a', value: [1, 'x', new Date(5)] }],
        theirs: [{ do: 'splice', key: 'text', at: 4, remove: 2, insert: 'öß' }],
        meet: true,
      },
    ])
    const bytes = joined([uncompressed(whole), ...Automerge.getAllChanges(fresh())])
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        fc.option(fc.nat(bytes.length)),
        async (places, cut) => {
          const broken = bytes.slice(0, cut ?? bytes.length)
          for (const [at, byte] of places) if (at < broken.length) broken[at] = byte
          await contentOf(broken)
          await rootOf(broken)
        },
      ),
      { numRuns: 3_000 },
    )
  })
})
