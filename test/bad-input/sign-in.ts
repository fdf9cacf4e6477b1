import { newId } from '@pluto-duck/crdt-model/protocol'
import { call, pushBody } from '../harness/calls.ts'
import { ann, hers, signedOut, timedOut, url } from './places.ts'
import { at, type Case, get } from './requests.ts'

/** Who asks: nobody, or somebody who is signed in no more. */
export const signIn: readonly Case[] = [
  ['no session', 'auth.required', () => call(url, 'GET', '/v1/me')],
  ['a made-up token', 'auth.expired', get('/v1/me', { headers: { authorization: 'Bearer made-up' } })],
  [
    'another scheme',
    'auth.expired',
    () => call(url, 'GET', '/v1/me', { headers: { authorization: 'Basic QTpC' } }),
  ],
  [
    'the token of a session that was signed out, replayed',
    'auth.expired',
    at(
      'GET',
      () => '/v1/me',
      () => ({ as: signedOut }),
    ),
  ],
  [
    'the token of a session that has run out',
    'auth.expired',
    at(
      'GET',
      () => '/v1/me',
      () => ({ as: timedOut }),
    ),
  ],
  [
    'a push with the token of a session that has run out',
    'auth.expired',
    at(
      'POST',
      () => `/v1/workspaces/${hers.workspace}/changes`,
      () => ({
        as: timedOut,
        raw: pushBody(hers.device, newId(), []),
        type: 'application/cbor-seq',
      }),
    ),
  ],
  [
    'a session cookie sent from another site',
    'auth.forbidden',
    () =>
      call(url, 'POST', '/v1/me/sign-out', {
        headers: { cookie: 'pluto.session_token=x', origin: 'https://elsewhere.example' },
      }),
  ],
  [
    'a sign-up whose body is no JSON',
    'request.invalid',
    () => call(url, 'POST', '/v1/auth/sign-up/email', { raw: '{"name":' }),
  ],
  [
    'a sign-up with a short password',
    'request.invalid',
    () =>
      call(url, 'POST', '/v1/auth/sign-up/email', {
        json: { name: 'N', email: 'n@example.com', password: 'short' },
      }),
  ],
  [
    'a sign-in with a wrong password',
    'auth.invalid_credentials',
    () =>
      call(url, 'POST', '/v1/auth/sign-in/email', {
        json: { email: ann.email, password: 'not the password' },
        headers: { origin: url },
      }),
  ],
]
