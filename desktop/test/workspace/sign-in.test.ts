import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge } from '@pluto-duck/engine/contract'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { awaitSignIn } from '../../renderer/workspace/sign-in.ts'

type Reply = { readonly ok: true; readonly value: object } | { readonly ok: false; readonly error: ErrorBody }
const LOCKED: ErrorBody = {
  code: 'secret.unavailable',
  message: 'The keychain is locked.',
  hint: 'Unlock it.',
}
const OFFLINE: ErrorBody = { code: 'server.unreachable', message: 'It does not answer.', hint: 'Wait.' }
const PENDING: Reply = { ok: true, value: { state: 'pending', interval_s: 5 } }
const EXPIRED: Reply = { ok: true, value: { state: 'expired' } }

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

/** What becomes of a sign-in whose polls are answered so, what was said meanwhile, and how often it was asked. */
async function signIn(...replies: Reply[]) {
  const said: (string | null)[] = []
  let asked = 0
  const bridge = { call: async () => replies[asked++] ?? EXPIRED } as unknown as Bridge
  const started = { device_code: 'code', interval_s: 5 }
  const stop = new AbortController()
  const end = awaitSignIn(bridge, started, error => said.push(error?.code ?? null), stop.signal)
  await vi.advanceTimersByTimeAsync(60_000)
  stop.abort()
  return { end: await end, said, asked }
}

it('[UI15] a locked keychain is the last word, and the used code is not asked for again', async () => {
  const { end, asked } = await signIn(PENDING, { ok: false, error: LOCKED })
  expect(end).toEqual({ state: 'failed', error: LOCKED })
  expect(asked).toBe(2)
})

it('[UI15] a sign-in that was cancelled, as another server was named meanwhile, says so and is over', async () => {
  const cancelled: ErrorBody = { code: 'auth.expired', message: 'It is cancelled.', hint: 'Sign in again.' }
  const { end, asked } = await signIn(PENDING, { ok: false, error: cancelled })
  expect(end).toEqual({ state: 'failed', error: cancelled })
  expect(asked).toBe(2)
})

it('[UI15] what may pass is tried again; when the code turns out to be used up, it stays the reason', async () => {
  expect(
    await signIn({ ok: false, error: OFFLINE }, PENDING, { ok: true, value: { state: 'signed_in' } }),
  ).toEqual({
    end: { state: 'signed_in' },
    said: ['server.unreachable', null],
    asked: 3,
  })
  const used = await signIn(PENDING, { ok: false, error: OFFLINE }, EXPIRED)
  expect(used.end).toEqual({ state: 'expired', because: OFFLINE })
  expect((await signIn(PENDING, EXPIRED)).end).toEqual({ state: 'expired', because: null })
})

it('[UI15] ends with the dialog', async () => {
  expect(await signIn(...Array(30).fill(PENDING))).toMatchObject({ end: null, asked: 12 })
})
