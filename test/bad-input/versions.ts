import { newId } from '@pluto-duck/crdt-model/protocol'
import { foreign, HASH, hers, newVersion } from './places.ts'
import { at, type Case, post } from './requests.ts'

export const versions: readonly Case[] = [
  [
    'a version of an unknown pipeline',
    'pipeline.not_found',
    post(
      () => '/v1/pipelines',
      () => newVersion(hers, { pipeline_id: newId() }),
    ),
  ],
  [
    "a version of another workspace's pipeline",
    'pipeline.not_found',
    post(
      () => '/v1/pipelines',
      () => newVersion(hers, { pipeline_id: foreign.pipeline.id }),
    ),
  ],
  [
    'a version at heads that nobody sent',
    'version.unknown_heads',
    post(
      () => '/v1/pipelines',
      () => newVersion(hers, { heads: [HASH] }),
    ),
  ],
  [
    'heads that are no hashes',
    'request.invalid',
    post(
      () => '/v1/pipelines',
      () => newVersion(hers, { heads: ["'; drop table versions; --"] }),
    ),
  ],
  [
    'a version without heads',
    'request.invalid',
    post(
      () => '/v1/pipelines',
      () => newVersion(hers, { heads: [] }),
    ),
  ],
  [
    'a version that there is not',
    'version.not_found',
    at('GET', () => `/v1/pipelines/${hers.pipeline.id}/versions/9`),
  ],
  ['version 0', 'request.invalid', at('GET', () => `/v1/pipelines/${hers.pipeline.id}/versions/0`)],
  [
    'a version beyond an integer',
    'request.invalid',
    at('GET', () => `/v1/pipelines/${hers.pipeline.id}/versions/4000000000`),
  ],
]
