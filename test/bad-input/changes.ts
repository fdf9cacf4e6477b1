import { newId } from '@pluto-duck/crdt-model/protocol'
import { push, pushBody } from '../harness/calls.ts'
import { ann, foreign, hers, url } from './places.ts'
import { at, by, type Case } from './requests.ts'

/** Pushed by ann, from her device, into her workspace. */
const hersPushed = (body: () => Uint8Array) => () => push(url, hers.workspace, ann, hers.device, body())

export const changes: readonly Case[] = [
  [
    'a push without a device',
    'request.invalid',
    at(
      'POST',
      () => `/v1/workspaces/${hers.workspace}/changes`,
      () => ({
        device: null,
        raw: pushBody(hers.device, newId(), []),
        type: 'application/cbor-seq',
      }),
    ),
  ],
  [
    'a push in the name of another device',
    'auth.device_mismatch',
    hersPushed(() => pushBody(newId(), newId(), [])),
  ],
  ['a push as JSON', 'request.unsupported_media_type', by('POST', '/v1/workspaces/0/changes', { json: {} })],
  ['an empty push', 'request.invalid', hersPushed(() => new Uint8Array(0))],
  ['bytes that are no CBOR', 'request.invalid', hersPushed(() => Uint8Array.from([0xff, 1, 2]))],
  [
    'a CBOR string that is longer than the body',
    'request.invalid',
    hersPushed(() => Uint8Array.from([0x5b, 255, 255, 255, 255, 255, 255, 255, 255])),
  ],
  ['CBOR nested 10,000 deep', 'request.invalid', hersPushed(() => new Uint8Array(10_000).fill(0x81))],
  [
    'a push that is cut',
    'request.invalid',
    hersPushed(() => pushBody(hers.device, newId(), [new Uint8Array(50)]).slice(0, -9)),
  ],
  ['a push of 9 MB', 'request.too_large', hersPushed(() => new Uint8Array(9_000_000))],
  [
    "a push into another's workspace",
    'workspace.not_found',
    () => push(url, foreign.workspace, ann, hers.device, pushBody(hers.device, newId(), [])),
  ],
]
