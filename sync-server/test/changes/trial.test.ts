import * as Automerge from '@automerge/automerge'
import { afterAll, describe, expect, it } from 'vitest'
import { Trial, type TrialDocument, type TriedChange } from '../../src/changes/admission/trial.ts'
import { warmUp } from '../../src/changes/admission/warm-up.ts'
import { Dice, honestHistory } from './histories.ts'

const trial = new Trial({ timeoutMs: 20_000 })
afterAll(() => trial.close())

const tried = (bytes: Uint8Array): TriedChange => {
  const { hash, deps } = Automerge.decodeChange(bytes)
  return { hash, deps, bytes }
}
const failures = async (on: Trial, document: TrialDocument, changes: TriedChange[]) =>
  (await on.try(document, changes)).failures
const at = (id: string, changes: readonly Uint8Array[]): TrialDocument => ({
  id,
  heads: Automerge.getHeads(Automerge.applyChanges(Automerge.init(), [...changes])[0]).toSorted(),
  load: async () => Buffer.concat(changes),
})

/** A change that Automerge applies and then never loads: a mark which ends before it starts. */
function poison(history: readonly Uint8Array[], actor: string): Uint8Array {
  let doc = Automerge.applyChanges(Automerge.init<{ title: string }>({ actor }), [...history])[0]
  doc = Automerge.change(doc, draft => Automerge.splice(draft, ['title'], 0, 0, 'p'))
  const change = Automerge.decodeChange(Automerge.getLastLocalChange(doc)!)
  const [op] = change.ops
  return Automerge.encodeChange({ ...change, ops: [{ ...op!, pred: [`1@${'77'.repeat(16)}`] }] })
}

describe('the trial', () => {
  it('[ADM13] honest changes pass, with and without the document in the worker', async () => {
    const history = honestHistory(new Dice(1), 30)
    const first = history.slice(0, 10)
    const later = history.slice(10)
    expect(await failures(trial, at('a', []), first.map(tried))).toEqual(first.map(() => null))
    expect(await failures(trial, at('a', first), later.map(tried))).toEqual(later.map(() => null))
    expect(await failures(trial, at('b', first), later.map(tried))).toEqual(later.map(() => null))
  })

  it('[ADM17] warming up tries edits that pass, ends when it is told to, and says when one does not pass', async () => {
    const ended = new AbortController()
    expect(await warmUp(trial, ended.signal)).toBe(40)
    ended.abort()
    expect(await warmUp(trial, ended.signal)).toBe(0)
    const hasty = new Trial({ timeoutMs: 1 })
    await expect(warmUp(hasty, new AbortController().signal)).rejects.toThrow('it took too long')
    await hasty.close()
  })

  it('[ADM13] of a batch that fails only the guilty change is refused, with what depends on it', async () => {
    const history = honestHistory(new Dice(2), 12)
    const bad = poison(history, '88'.repeat(16))
    let other = Automerge.applyChanges(Automerge.init<{ title: string }>({ actor: '99'.repeat(16) }), [
      ...history,
    ])[0]
    other = Automerge.change(other, draft => Automerge.splice(draft, ['title'], 0, 0, 'ok'))
    const good = Automerge.getLastLocalChange(other)!
    const verdicts = await failures(trial, at('c', history), [bad, good].map(tried))
    expect(verdicts[0]).toEqual(expect.any(String))
    expect(verdicts[1]).toBeNull()
    expect(await failures(trial, at('d', history), [good].map(tried))).toEqual([null])
  })

  it('[ADM13] a snapshot is proven to load with the same heads', async () => {
    const history = honestHistory(new Dice(3), 20)
    const result = await trial.snapshot(at('e', history))
    if (!('bytes' in result)) throw new Error(result.failed)
    expect(Automerge.getHeads(Automerge.load(result.bytes)).toSorted()).toEqual(at('e', history).heads)
  })

  it('[ADM13] a worker that takes too long is killed, and the next trial finds another', async () => {
    const hasty = new Trial({ timeoutMs: 1 })
    const history = honestHistory(new Dice(4), 5)
    expect(await failures(hasty, at('f', history.slice(0, 1)), history.slice(1, 2).map(tried))).toEqual([
      'it took too long',
    ])
    await hasty.close()
  })

  it('[ADM16] nobody waits for a worker that is slow with another document', async () => {
    const pool = new Trial({ workers: 1, slowMs: 50, timeoutMs: 60_000 })
    const history = honestHistory(new Dice(5), 5)
    // Loading is part of a document's turn at its worker: this one's takes until it is released.
    const reached = Promise.withResolvers<void>()
    const release = Promise.withResolvers<void>()
    const slow = pool.try(
      {
        ...at('slow', history.slice(0, 1)),
        load: async () => {
          reached.resolve()
          await release.promise
          return Buffer.concat(history.slice(0, 1))
        },
      },
      history.slice(1, 2).map(tried),
    )
    await reached.promise
    expect(await failures(pool, at('quick', []), history.map(tried))).toEqual(history.map(() => null))
    release.resolve()
    expect((await slow).failures).toEqual([null])
    await pool.close()
  })

  it('[ADM16] a failure of one document reaches no other that waits for the same worker', async () => {
    const pool = new Trial({ workers: 1 })
    const history = honestHistory(new Dice(6), 8)
    const bad = poison(history, '66'.repeat(16))
    const all = await Promise.all([
      failures(pool, at('g', history), [tried(bad)]),
      ...Array.from({ length: 5 }, (_, i) => failures(pool, at(`h${i}`, []), history.map(tried))),
    ])
    expect(all[0]).toEqual([expect.any(String)])
    for (const others of all.slice(1)) expect(others).toEqual(history.map(() => null))
    await pool.close()
  })

  it('[ADM13] a worker that has a document takes what came to the log meanwhile, without the whole', async () => {
    const pool = new Trial({ workers: 1 })
    const history = honestHistory(new Dice(7), 12)
    const never = async (): Promise<Uint8Array> => {
      throw new Error('it was read anew')
    }
    await failures(pool, at('i', []), history.slice(0, 4).map(tried))
    const later = { ...at('i', history.slice(0, 8)), load: never, untold: history.slice(4, 8) }
    expect(await failures(pool, later, history.slice(8).map(tried))).toEqual(history.slice(8).map(() => null))
    await pool.close()
  })
})
