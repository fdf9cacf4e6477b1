import { CODES, type ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge, OutputOf } from '@pluto-duck/engine/contract'
import { AWAY } from '../documents/replica.ts'

export type SignInEnd =
  | { readonly state: 'signed_in' | 'denied' }
  /** `because` is what went wrong just before: the code was used up then, and that is what to say. */
  | { readonly state: 'expired'; readonly because: ErrorBody | null }
  /** The same will fail again: one mends what it says, and begins anew. */
  | { readonly state: 'failed'; readonly error: ErrorBody }

/**
 * Asks again and again whether the code was entered in the browser, until that is settled; null when `signal` ended it. What may pass by
 * itself goes to `trouble`, and null once it has passed.
 */
export async function awaitSignIn(
  bridge: Bridge,
  { device_code, interval_s }: Pick<OutputOf<'auth.start'>, 'device_code' | 'interval_s'>,
  trouble: (error: ErrorBody | null) => void,
  signal: AbortSignal,
): Promise<SignInEnd | null> {
  let wait = interval_s
  let because: ErrorBody | null = null
  for (;;) {
    await pause(wait * 1000, signal)
    if (signal.aborted) return null
    const reply = await bridge.call('auth.poll', { device_code })
    if (signal.aborted) return null
    if (!reply.ok) {
      const { error } = reply
      if (!AWAY.has(error.code) && CODES[error.code]?.retry !== 'later') return { state: 'failed', error }
      because = error
      trouble(error)
      continue
    }
    const { value } = reply
    if (value.state === 'expired') return { state: 'expired', because }
    if (value.state !== 'pending') return { state: value.state }
    wait = value.interval_s
    because = null
    trouble(null)
  }
}

const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal.addEventListener('abort', done)
  })
