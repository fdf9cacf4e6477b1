import { randomUUID } from 'node:crypto'
import { CODES, type ErrorCode } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { forgeryWorld } from '@pluto-duck/sync-server/forgeries'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  call,
  good,
  join,
  newWorkspace,
  type Published,
  publishedPipeline,
  push,
  pushBody,
  type Reply,
  type Sending,
} from './harness/calls.ts'
import { Tables } from './harness/tables.ts'
import { Folders, type Person, type ServerProcess, signUp, startServerProcess } from './harness/world.ts'

// A9 over HTTP: whatever is sent, the answer is a typed error with a hint, never a 500, and no row changes by it.

const folders = new Folders()
let database: TestDatabase
let tables: Tables
let server: ServerProcess
let url: string
let ann: Person
let vic: Person
let eve: Person

/** A workspace with one of everything, and a device of its owner. */
interface Place {
  readonly workspace: string
  readonly device: string
  readonly pipeline: Published
  readonly run: string
  readonly schedule: string
  readonly artifact: string
}
let hers: Place
let foreign: Place
let usedToken: string
let signedOut: Person
let timedOut: Person

const NOW = '2026-01-01T00:00:00.000Z'
const HASH = 'ab'.repeat(32)

const newRun = (place: Place, more: Record<string, unknown> = {}) => ({
  run_id: newId(),
  workspace_id: place.workspace,
  pipeline_id: place.pipeline.id,
  version: 1,
  heads: place.pipeline.heads,
  trigger: 'manual',
  schedule_id: null,
  due_at: null,
  device_id: place.device,
  created_at: NOW,
  ...more,
})
const newSchedule = (place: Place, more: Record<string, unknown> = {}) => ({
  schedule_id: newId(),
  workspace_id: place.workspace,
  pipeline_id: place.pipeline.id,
  cron: '0 3 * * *',
  timezone: 'Europe/Berlin',
  ...more,
})
const newUpload = (more: Record<string, unknown> = {}) => ({
  artifact_id: newId(),
  kind: 'report',
  name: 'report.html',
  content_type: 'text/html',
  bytes: 5,
  // of "hello"
  sha256: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
  ...more,
})
const newVersion = (place: Place, more: Record<string, unknown> = {}) => ({
  workspace_id: place.workspace,
  pipeline_id: place.pipeline.id,
  version_id: newId(),
  heads: place.pipeline.heads,
  parent: 1,
  message: 'm',
  ...more,
})

const makePlace = async (owner: Person): Promise<Place> => {
  const device = newId()
  const workspace = await newWorkspace(url, owner)
  const pipeline = await publishedPipeline(url, workspace, owner, device)
  const empty: Place = { workspace, device, pipeline, run: '', schedule: '', artifact: '' }
  const post = (path: string, json: unknown) => good(call(url, 'POST', path, { as: owner, device, json }))
  const run = newRun(empty)
  await post('/v1/runs', run)
  const schedule = newSchedule(empty)
  await post('/v1/schedules', schedule)
  const file = newUpload()
  const { upload } = await post(`/v1/runs/${run.run_id}/uploads`, file)
  await fetch(upload.url, { method: upload.method, headers: upload.headers, body: 'hello' })
  await post(`/v1/runs/${run.run_id}/artifacts`, file)
  return { ...empty, run: run.run_id, schedule: schedule.schedule_id, artifact: file.artifact_id }
}

beforeAll(async () => {
  database = await testDatabase()
  tables = new Tables(database.url)
  server = await startServerProcess({ dataDir: folders.make('bad-http'), databaseUrl: database.url })
  url = server.url
  ann = await signUp(url, 'Ann')
  vic = await signUp(url, 'Vic')
  eve = await signUp(url, 'Eve')
  hers = await makePlace(ann)
  foreign = await makePlace(eve)
  usedToken = await join(url, hers.workspace, ann, vic, 'viewer')

  signedOut = await signUp(url, 'Sigi')
  await good(call(url, 'POST', '/v1/me/sign-out', { as: signedOut }))
  timedOut = await signUp(url, 'Tim')
  await tables.query("update sessions set expires_at = now() - interval '1 minute' where user_id = $1", [
    timedOut.userId,
  ])
})
afterAll(async () => {
  await server?.stop()
  await tables?.close()
  await database?.drop()
  folders.remove()
})

type Send = () => Promise<Reply>
type Case = readonly [name: string, code: ErrorCode, send: Send]

const get = (path: string, sending: Sending = {}): Send => by('GET', path, sending)
const by =
  (method: string, path: string, sending: Sending = {}): Send =>
  () =>
    call(url, method, path, { as: ann, device: hers.device, ...sending })
/** A POST of JSON by the owner; the body is made when it is sent, because ids are not known earlier. */
const post =
  (path: () => string, json: () => unknown, sending: Sending = {}): Send =>
  () =>
    call(url, 'POST', path(), { as: ann, device: hers.device, json: json(), ...sending })
const patch =
  (path: () => string, json: () => unknown): Send =>
  () =>
    call(url, 'PATCH', path(), { as: ann, device: hers.device, json: json() })
const at =
  (method: string, path: () => string, sending: () => Sending = () => ({})): Send =>
  () =>
    call(url, method, path(), { as: ann, device: hers.device, ...sending() })

const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels)

const anonymous: readonly Case[] = [
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

const shapes: readonly Case[] = [
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

const others: readonly Case[] = [
  ['an unknown workspace', 'workspace.not_found', at('GET', () => `/v1/workspaces/${newId()}`)],
  ["another's workspace", 'workspace.not_found', at('GET', () => `/v1/workspaces/${foreign.workspace}`)],
  [
    "another workspace's log",
    'workspace.not_found',
    at('GET', () => `/v1/workspaces/${foreign.workspace}/changes`),
  ],
  [
    "another workspace's audit",
    'workspace.not_found',
    at('GET', () => `/v1/workspaces/${foreign.workspace}/audit`),
  ],
  [
    "another workspace's pipeline",
    'pipeline.not_found',
    at('GET', () => `/v1/pipelines/${foreign.pipeline.id}`),
  ],
  [
    "another workspace's version",
    'pipeline.not_found',
    at('GET', () => `/v1/pipelines/${foreign.pipeline.id}/versions/1`),
  ],
  ["another workspace's run", 'run.not_found', at('GET', () => `/v1/runs/${foreign.run}`)],
  ["another workspace's log of a run", 'run.not_found', at('GET', () => `/v1/runs/${foreign.run}/logs`)],
  [
    "another workspace's artifact",
    'artifact.not_found',
    at('POST', () => `/v1/artifacts/${foreign.artifact}/download`),
  ],
  [
    "another workspace's schedule",
    'schedule.not_found',
    patch(
      () => `/v1/schedules/${foreign.schedule}`,
      () => ({ enabled: false }),
    ),
  ],
  [
    "another workspace's document",
    'document.not_found',
    at('GET', () => `/v1/workspaces/${hers.workspace}/documents/${foreign.pipeline.id}/records`),
  ],
  [
    'an id that another workspace uses',
    'request.id_taken',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: foreign.workspace, name: 'W' }),
    ),
  ],
  [
    'a viewer who publishes',
    'auth.forbidden',
    at(
      'POST',
      () => '/v1/pipelines',
      () => ({ as: vic, device: newId(), json: newVersion(hers) }),
    ),
  ],
  [
    'a viewer who records a run',
    'auth.forbidden',
    at(
      'POST',
      () => '/v1/runs',
      () => ({ as: vic, device: newId(), json: newRun(hers) }),
    ),
  ],
  [
    'a viewer who makes a schedule',
    'auth.forbidden',
    at(
      'POST',
      () => '/v1/schedules',
      () => ({ as: vic, device: newId(), json: newSchedule(hers) }),
    ),
  ],
  [
    'a viewer who makes herself an owner',
    'auth.forbidden',
    at(
      'PATCH',
      () => `/v1/workspaces/${hers.workspace}/members/${vic.userId}`,
      () => ({ as: vic, device: newId(), json: { role: 'owner' } }),
    ),
  ],
  [
    'the last owner who steps down',
    'workspace.last_owner',
    patch(
      () => `/v1/workspaces/${hers.workspace}/members/${ann.userId}`,
      () => ({ role: 'viewer' }),
    ),
  ],
  [
    'a role that there is not',
    'request.invalid',
    patch(
      () => `/v1/workspaces/${hers.workspace}/members/${vic.userId}`,
      () => ({ role: 'admin' }),
    ),
  ],
  [
    'a member who is not there',
    'member.not_found',
    at('DELETE', () => `/v1/workspaces/${hers.workspace}/members/${eve.userId}`),
  ],
  [
    'an invitation to no address',
    'request.invalid',
    post(
      () => `/v1/workspaces/${hers.workspace}/invitations`,
      () => ({ invitation_id: newId(), email: 'nobody', role: 'editor' }),
    ),
  ],
  [
    'an invitation that there is not',
    'invitation.not_found',
    post(
      () => '/v1/invitations/accept',
      () => ({ token: 'x'.repeat(43) }),
    ),
  ],
  [
    'an invitation that was used, by another person',
    'invitation.expired',
    at(
      'POST',
      () => '/v1/invitations/accept',
      () => ({ as: eve, device: foreign.device, json: { token: usedToken } }),
    ),
  ],
]

const versions: readonly Case[] = [
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

const line = (run: string, more: Record<string, unknown> = {}): string =>
  `${JSON.stringify({ ts: NOW, level: 'info', run_id: run, trace_id: 't', project_id: hers.workspace, asset_id: null, step: null, attempt: null, cause: null, message: 'm', ...more })}\n`

const runs: readonly Case[] = [
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

const schedules: readonly Case[] = [
  [
    'a cron that is none',
    'schedule.invalid',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { cron: 'every day at noon' }),
    ),
  ],
  [
    'a cron out of range',
    'schedule.invalid',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { cron: '61 25 32 13 8' }),
    ),
  ],
  [
    'a time zone that there is not',
    'schedule.invalid',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { timezone: 'Mars/Olympus' }),
    ),
  ],
  [
    'a schedule of an unknown pipeline',
    'pipeline.not_found',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { pipeline_id: newId() }),
    ),
  ],
  [
    "a schedule of another workspace's pipeline",
    'pipeline.not_found',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { pipeline_id: foreign.pipeline.id }),
    ),
  ],
  [
    'a pinned version that there is not',
    'version.not_found',
    patch(
      () => `/v1/schedules/${hers.schedule}`,
      () => ({ version: 3 }),
    ),
  ],
  [
    'an agent that is not yours',
    'auth.device_mismatch',
    at('GET', () => `/v1/schedules?agent_id=${foreign.device}`),
  ],
  [
    'a claim of what is not due',
    'schedule.lease',
    post(
      () => `/v1/schedules/${hers.schedule}/claim`,
      () => ({ agent_id: hers.device, due_at: '2020-01-01T02:00:00.000Z' }),
    ),
  ],
  [
    'an acknowledgement without a claim',
    'schedule.lease',
    post(
      () => `/v1/schedules/${hers.schedule}/ack`,
      () => ({
        agent_id: hers.device,
        due_at: '2020-01-01T02:00:00.000Z',
        state: 'completed',
        fencing_token: 3,
      }),
    ),
  ],
]

const changes: readonly Case[] = [
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
    () => push(url, hers.workspace, ann, hers.device, pushBody(newId(), newId(), [])),
  ],
  ['a push as JSON', 'request.unsupported_media_type', by('POST', '/v1/workspaces/0/changes', { json: {} })],
  ['an empty push', 'request.invalid', () => push(url, hers.workspace, ann, hers.device, new Uint8Array(0))],
  [
    'bytes that are no CBOR',
    'request.invalid',
    () => push(url, hers.workspace, ann, hers.device, Uint8Array.from([0xff, 1, 2])),
  ],
  [
    'a CBOR string that is longer than the body',
    'request.invalid',
    () =>
      push(
        url,
        hers.workspace,
        ann,
        hers.device,
        Uint8Array.from([0x5b, 255, 255, 255, 255, 255, 255, 255, 255]),
      ),
  ],
  [
    'CBOR nested 10,000 deep',
    'request.invalid',
    () => push(url, hers.workspace, ann, hers.device, new Uint8Array(10_000).fill(0x81)),
  ],
  [
    'a push that is cut',
    'request.invalid',
    () =>
      push(
        url,
        hers.workspace,
        ann,
        hers.device,
        pushBody(hers.device, newId(), [new Uint8Array(50)]).slice(0, -9),
      ),
  ],
  [
    'a push of 9 MB',
    'request.too_large',
    () => push(url, hers.workspace, ann, hers.device, new Uint8Array(9_000_000)),
  ],
  [
    "a push into another's workspace",
    'workspace.not_found',
    () => push(url, foreign.workspace, ann, hers.device, pushBody(hers.device, newId(), [])),
  ],
]

const all: readonly Case[] = [
  ...anonymous,
  ...shapes,
  ...others,
  ...versions,
  ...runs,
  ...schedules,
  ...changes,
]

const assertTyped = (reply: Reply, code: ErrorCode): void => {
  expect(reply.body).toMatchObject({ code })
  expect(reply.status).toBe(CODES[code].status)
  expect(reply.status).toBeLessThan(500)
  expect(reply.body.message).not.toBe('')
  expect(reply.body.hint).not.toBe('')
  expect(reply.body).not.toHaveProperty('stack')
}

describe('bad input over HTTP', () => {
  it.each(all)('%s', async (_name, code, send) => {
    const before = await tables.kept()
    assertTyped(await send(), code)
    expect(await tables.kept()).toEqual(before)
  })

  it('a forged change is refused by a verdict of its own, and the log stays as it was', async () => {
    const { history, concurrent, forgeries } = forgeryWorld()
    const device = newId()
    const documentId = newId()
    const honest = pushBody(device, documentId, [...history, concurrent])
    const stored = await good(push(url, hers.workspace, ann, device, honest))
    expect(stored.slice(0, -1).map((verdict: { status: string }) => verdict.status)).not.toContain('refused')
    const before = await tables.kept()
    for (const { name, code, bytes } of forgeries) {
      const reply = await push(url, hers.workspace, ann, device, pushBody(device, documentId, [bytes]))
      expect(reply.status, name).toBe(200)
      expect(reply.body[0], name).toMatchObject({ status: 'refused', index: 0, code })
      expect(reply.body[0].reason, name).not.toBe('')
    }
    expect(await tables.kept()).toEqual(before)
    const together = forgeries.map(forgery => forgery.bytes)
    const batch = await good(push(url, hers.workspace, ann, device, pushBody(device, documentId, together)))
    expect(new Set(batch.slice(0, -1).map((verdict: { status: string }) => verdict.status))).toEqual(
      new Set(['refused']),
    )
    expect(await tables.kept()).toEqual(before)
  })

  it('a document id of another workspace is refused without saying where it is', async () => {
    const { history } = forgeryWorld()
    const device = newId()
    const before = await tables.kept()
    const body = pushBody(device, foreign.pipeline.id, [history[0] as Uint8Array])
    const reply = await push(url, hers.workspace, ann, device, body)
    expect(reply.body[0]).toMatchObject({ status: 'refused', code: 'permission' })
    expect(JSON.stringify(reply.body)).not.toContain(foreign.workspace)
    expect(await tables.kept()).toEqual(before)
  })

  it('nothing of it was a surprise: the server runs and logged no internal error', async () => {
    expect((await call(url, 'GET', '/readyz')).status).toBe(200)
    expect(server.output()).not.toMatch(/"code":"internal"/)
  })
})
