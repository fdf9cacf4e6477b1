import { newId } from '@pluto-duck/crdt-model/protocol'
import { foreign, HASH, hers, NOW, newRun, newUpload } from './places.ts'
import { at, type Case, get, post } from './requests.ts'

const line = (run: string, more: Record<string, unknown> = {}): string =>
  `${JSON.stringify({ ts: NOW, level: 'info', run_id: run, trace_id: 't', project_id: hers.workspace, asset_id: null, step: null, attempt: null, cause: null, message: 'm', ...more })}\n`

export const runs: readonly Case[] = [
  [
    "a run that is another's",
    'request.id_taken',
    post(
      () => '/v1/runs',
      () => newRun(hers, { run_id: foreign.run }),
    ),
  ],
  [
    'a run of an unknown pipeline',
    'pipeline.not_found',
    post(
      () => '/v1/runs',
      () => newRun(hers, { pipeline_id: newId() }),
    ),
  ],
  [
    'a run of a version that there is not',
    'version.not_found',
    post(
      () => '/v1/runs',
      () => newRun(hers, { version: 5 }),
    ),
  ],
  [
    "a run on somebody else's device",
    'auth.device_mismatch',
    post(
      () => '/v1/runs',
      () => newRun(hers, { device_id: foreign.device }),
    ),
  ],
  [
    'a scheduled run without a claim',
    'run.lease_lost',
    post(
      () => '/v1/runs',
      () => newRun(hers, { trigger: 'schedule', schedule_id: hers.schedule, due_at: NOW, fencing_token: 1 }),
    ),
  ],
  [
    'a time that is not UTC',
    'request.invalid',
    post(
      () => '/v1/runs',
      () => newRun(hers, { created_at: '2026-01-01T00:00:00+02:00' }),
    ),
  ],
  [
    'a day that there is not',
    'request.invalid',
    post(
      () => '/v1/runs',
      () => newRun(hers, { created_at: '2026-02-30T00:00:00.000Z' }),
    ),
  ],
  [
    'a move that leaves out a state',
    'run.conflict',
    post(
      () => `/v1/runs/${hers.run}/transitions`,
      () => ({ to: 'success', at: NOW }),
    ),
  ],
  [
    'a state that there is not',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/transitions`,
      () => ({ to: 'done', at: NOW }),
    ),
  ],
  [
    'a log at a wrong offset',
    'run.log_offset',
    post(
      () => `/v1/runs/${hers.run}/logs`,
      () => ({ offset: 77, lines: line(hers.run) }),
    ),
  ],
  [
    'a log with a field of its own',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/logs`,
      () => ({ offset: 0, lines: line(hers.run, { row: 'a customer' }) }),
    ),
  ],
  [
    'a log of another run',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/logs`,
      () => ({ offset: 0, lines: line(foreign.run) }),
    ),
  ],
  [
    'a log that is cut',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/logs`,
      () => ({ offset: 0, lines: line(hers.run).slice(0, 20) }),
    ),
  ],
  [
    'a file name that climbs',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/uploads`,
      () => newUpload({ name: '../../etc/passwd' }),
    ),
  ],
  [
    'a content type with a line break',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/uploads`,
      () => newUpload({ content_type: 'text/html\r\nx: y' }),
    ),
  ],
  [
    'an upload of a negative length',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/uploads`,
      () => newUpload({ bytes: -1 }),
    ),
  ],
  [
    'an upload of a petabyte',
    'request.invalid',
    post(
      () => `/v1/runs/${hers.run}/uploads`,
      () => newUpload({ bytes: 1e15 }),
    ),
  ],
  [
    'an artifact that was not uploaded',
    'artifact.not_uploaded',
    post(
      () => `/v1/runs/${hers.run}/artifacts`,
      () => newUpload(),
    ),
  ],
  [
    "an artifact id that is another's",
    'request.id_taken',
    post(
      () => `/v1/runs/${hers.run}/artifacts`,
      () => newUpload({ artifact_id: foreign.artifact }),
    ),
  ],
  [
    'a storage address that was made up',
    'storage.signature',
    at(
      'GET',
      () =>
        `/storage/${hers.workspace}/${hers.run}/x?expires=9999999999&bytes=5&sha256=${HASH}&type=a&signature=b`,
    ),
  ],
  [
    'a storage address that climbs',
    'storage.signature',
    get('/storage/..%2f..%2fauth-secret?expires=9999999999&bytes=5'),
  ],
]
