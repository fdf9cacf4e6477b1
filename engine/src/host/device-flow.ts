import { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import { type Clock, isoTime } from '../clock.ts'
import type { OutputOf } from '../contract/index.ts'

const CLIENT_ID = 'pluto'
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code'
const TIMEOUT_MS = 15_000

const started = z.object({
  device_code: z.string(),
  user_code: z.string(),
  verification_uri: z.string(),
  verification_uri_complete: z.string().optional(),
  expires_in: z.number(),
  interval: z.number(),
})
const granted = z.object({ access_token: z.string() })
const refused = z.object({ error: z.string() })

/** What the server says about a sign-in; a token is given out once. */
export type DeviceAnswer =
  | { readonly state: 'granted'; readonly token: string }
  | Exclude<OutputOf<'auth.poll'>, { state: 'signed_in' }>

/** The device flow of RFC 8628: a person allows the code in a browser, anywhere. Nothing is kept here. */
export const startDeviceFlow = async (server: string, clock: Clock): Promise<OutputOf<'auth.start'>> => {
  const reply = await post(server, '/v1/auth/device/code', { client_id: CLIENT_ID })
  if (!reply.ok)
    throw new AppError('server.unreachable', `${server} did not start a sign-in (${reply.status}).`)
  const code = started.parse(reply.body)
  return {
    verification_url: code.verification_uri_complete ?? code.verification_uri,
    user_code: code.user_code,
    device_code: code.device_code,
    interval_s: code.interval,
    expires_at: isoTime(clock.now() + code.expires_in * 1000),
  }
}

export const pollDeviceFlow = async (server: string, deviceCode: string): Promise<DeviceAnswer> => {
  const reply = await post(server, '/v1/auth/device/token', {
    grant_type: DEVICE_GRANT,
    device_code: deviceCode,
    client_id: CLIENT_ID,
  })
  if (reply.ok) return { state: 'granted', token: granted.parse(reply.body).access_token }
  const error = refused.safeParse(reply.body).data?.error
  if (error === 'authorization_pending') return { state: 'pending', interval_s: 5 }
  if (error === 'slow_down') return { state: 'pending', interval_s: 10 }
  if (error === 'access_denied') return { state: 'denied' }
  if (error === 'expired_token' || error === 'invalid_grant') return { state: 'expired' }
  throw new AppError('server.unreachable', `${server} did not answer the sign-in (${reply.status}).`)
}

/** Ends the session of a token that will not be used, without saying from which device. */
export const endSession = async (server: string, token: string): Promise<void> => {
  const reply = await post(server, '/v1/me/sign-out', undefined, { authorization: `Bearer ${token}` })
  if (!reply.ok) throw new AppError('server.unreachable', `${server} did not sign out (${reply.status}).`)
}

const post = async (
  server: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ ok: boolean; status: number; body: unknown }> => {
  try {
    const response = await fetch(`${server}${path}`, {
      method: 'POST',
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      // What carries a token goes to the address that was named, and to no other.
      redirect: 'error',
      signal: AbortSignal.timeout(TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    return { ok: response.ok, status: response.status, body: await response.json().catch(() => null) }
  } catch (cause) {
    throw new AppError('server.unreachable', `${server} does not answer.`, { cause })
  }
}
