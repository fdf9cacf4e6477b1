import { randomUUID } from 'node:crypto'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { call } from '../harness/calls.ts'
import { ann, foreign, hers, url } from './places.ts'
import { at, by, type Case, get, post } from './requests.ts'

const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels)

/** What is no request of this server at all. */
export const shapes: readonly Case[] = [
  ['an unknown address', 'request.not_found', get('/v1/nothing')],
  ['a path that climbs', 'request.not_found', get('/v1/%2e%2e%2f%2e%2e%2fetc/passwd')],
  ['a broken escape in the path', 'request.invalid', get('/v1/pipelines/%E0%A4%A')],
  ['a method that the address does not take', 'request.method_not_allowed', by('DELETE', '/v1/me')],
  ['malformed JSON', 'request.invalid', by('POST', '/v1/workspaces', { raw: '{"name": "W"' })],
  ['JSON that is no object', 'request.invalid', by('POST', '/v1/workspaces', { raw: '[1, 2]' })],
  ['JSON nested 100,000 deep', 'request.invalid', by('POST', '/v1/workspaces', { raw: deep(100_000) })],
  [
    'another content type',
    'request.unsupported_media_type',
    by('POST', '/v1/workspaces', { raw: 'name=W', type: 'application/x-www-form-urlencoded' }),
  ],
  [
    'a body in an unknown encoding',
    'request.unsupported_media_type',
    by('POST', '/v1/workspaces', { raw: '{}', headers: { 'content-encoding': 'zstd-of-mine' } }),
  ],
  [
    'a body that is not what its encoding says',
    'request.invalid',
    by('POST', '/v1/workspaces', { raw: '{}', headers: { 'content-encoding': 'gzip' } }),
  ],
  [
    'a JSON body of 2 MB',
    'request.too_large',
    by('POST', '/v1/workspaces', { raw: JSON.stringify({ name: 'x'.repeat(2_000_000) }) }),
  ],
  ['an older protocol', 'request.protocol_version', get('/v1/me', { headers: { 'x-pluto-protocol': '0' } })],
  [
    'a protocol that is no number',
    'request.protocol_version',
    get('/v1/me', { headers: { 'x-pluto-protocol': 'new' } }),
  ],
  ['a device id that is none', 'request.invalid', get('/v1/me', { device: 'my-laptop' })],
  ['a device id of version 4', 'request.invalid', get('/v1/me', { device: randomUUID() })],
  [
    "somebody else's device",
    'auth.device_mismatch',
    at(
      'GET',
      () => '/v1/me',
      () => ({ device: foreign.device }),
    ),
  ],
  [
    'an id of version 4',
    'request.invalid',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: randomUUID(), name: 'W' }),
    ),
  ],
  [
    'an unknown field',
    'request.invalid',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: newId(), name: 'W', owner: 'me' }),
    ),
  ],
  [
    'a field named __proto__',
    'request.invalid',
    () =>
      call(url, 'POST', '/v1/workspaces', {
        as: ann,
        raw: `{"workspace_id":"${newId()}","name":"W","__proto__":{"role":"owner"}}`,
      }),
  ],
  [
    'a name of the wrong type',
    'request.invalid',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: newId(), name: { toString: 'W' } }),
    ),
  ],
  [
    'a name with a NUL, which Postgres cannot hold',
    'request.invalid',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: newId(), name: 'a\u0000b' }),
    ),
  ],
  [
    'half a surrogate pair',
    'request.invalid',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: newId(), name: 'a\ud800b' }),
    ),
  ],
  [
    'a query of the wrong type',
    'request.invalid',
    at('GET', () => `/v1/workspaces/${hers.workspace}/changes?after=soon`),
  ],
  [
    'a number beyond what a bigint holds',
    'request.invalid',
    at('GET', () => `/v1/workspaces/${hers.workspace}/changes?after=99999999999999999999999`),
  ],
  ['an unknown query', 'request.invalid', at('GET', () => `/v1/runs?workspace_id=${hers.workspace}&all=1`)],
  [
    'a query given twice',
    'request.invalid',
    at('GET', () => `/v1/runs?workspace_id=${hers.workspace}&workspace_id=${foreign.workspace}`),
  ],
]
