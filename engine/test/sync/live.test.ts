import { encodeSequence, newId } from '@pluto-duck/crdt-model/protocol'
import { expect, it } from 'vitest'
import type { Clock } from '../../src/clock.ts'
import type { Documents } from '../../src/documents/index.ts'
import type { Incoming } from '../../src/sync/incoming.ts'
import { Live } from '../../src/sync/live.ts'
import type { SyncOptions } from '../../src/sync/options.ts'
import { Standing } from '../../src/sync/standing.ts'
import { Waker } from '../../src/sync/waker.ts'

/** Time that passes when it is told to. */
class ToldClock implements Clock {
  #now = 1_000_000
  readonly #sleeping = new Set<{ readonly until: number; readonly wake: () => void }>()

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      const one = { until: this.#now + ms, wake: resolve }
      this.#sleeping.add(one)
      signal?.addEventListener('abort', () => resolve(), { once: true })
      if (signal?.aborted) resolve()
    })
  }

  pass(ms: number): void {
    this.#now += ms
    for (const one of this.#sleeping)
      if (one.until <= this.#now) {
        this.#sleeping.delete(one)
        one.wake()
      }
  }
}

const id = newId()
/** A commit of one change as the stream tells it. */
const frameOf = (seq: number): Uint8Array => {
  const of = { document_id: id, kind: 'pipeline', subject: null, base: null, device_id: id, live: true }
  const item = { ...of, seq, hash: 'ab'.repeat(32), author_id: 'u', received_at: 1, bytes: new Uint8Array(9) }
  const items = Buffer.from(encodeSequence([item])).toString('base64')
  const event = { type: 'changes', from: seq - 1, to: seq, items }
  return Buffer.from(`id: ${seq}\nevent: changes\ndata: ${JSON.stringify(event)}\n\n`)
}
const turns = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await new Promise(resolve => setImmediate(resolve))
}

it('[SYNC2] what comes after a quiet while is applied at once, what follows quickly together', async () => {
  const clock = new ToldClock()
  const stop = new AbortController()
  const sent: Uint8Array[] = []
  let more = Promise.withResolvers<void>()
  const tell = (...seqs: number[]): void => {
    sent.push(...seqs.map(frameOf))
    more.resolve()
  }
  async function* stream(_route: unknown, _input: unknown, { onOpen }: { onOpen: () => void }) {
    onOpen()
    while (!stop.signal.aborted) {
      yield* sent.splice(0)
      more = Promise.withResolvers()
      if (sent.length === 0) await more.promise
    }
  }
  const options = { workspaceId: id, deviceId: newId(), client: { stream }, clock, log: () => {} }
  const standing = new Standing({ workspaceId: id, documents: {} as Documents })
  standing.cursor = 0
  const applied: number[][] = []
  const incoming = {
    take: async (items: readonly { readonly seq: number }[], upTo: number) => {
      applied.push(items.map(item => item.seq))
      // A long document: each application takes its time.
      clock.pass(20)
      standing.cursor = upTo
    },
  }
  const waker = new Waker(clock, stop.signal)
  const live = new Live({
    options: options as unknown as SyncOptions,
    incoming: incoming as unknown as Incoming,
    standing,
    waker,
    stop: stop.signal,
    news: () => {},
    tell: () => {},
  })
  live.listen()
  const loop = (async () => {
    while (!stop.signal.aborted) {
      await waker.sleep(30_000)
      await live.takeArrived()
    }
  })()

  tell(1)
  await turns()
  expect(applied).toEqual([[1]])
  for (const seq of [2, 3, 4, 5]) {
    tell(seq)
    await turns()
  }
  clock.pass(59)
  await turns()
  expect(applied).toEqual([[1]])
  clock.pass(1)
  await turns()
  expect(applied).toEqual([[1], [2, 3, 4, 5]])
  // Quiet again.
  clock.pass(1_000)
  tell(6)
  await turns()
  expect(applied.at(-1)).toEqual([6])

  stop.abort()
  live.hangUp()
  waker.end()
  more.resolve()
  await Promise.all([loop, live.ended()])
})
