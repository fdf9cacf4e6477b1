import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { call, good, join, newWorkspace, type Published, publishedPipeline } from '../harness/calls.ts'
import { Tables } from '../harness/tables.ts'
import { Folders, type Person, type ServerProcess, signUp, startServerProcess } from '../harness/world.ts'

const folders = new Folders()
let database: TestDatabase
export let tables: Tables
export let server: ServerProcess
export let url: string
export let ann: Person
export let vic: Person
export let eve: Person

/** A workspace with one of everything, and a device of its owner. */
interface Place {
  readonly workspace: string
  readonly device: string
  readonly pipeline: Published
  readonly run: string
  readonly schedule: string
  readonly artifact: string
}
export let hers: Place
export let foreign: Place
export let usedToken: string
/** Their sessions ended: by themselves, and by the clock. */
export let signedOut: Person
export let timedOut: Person

export const NOW = '2026-01-01T00:00:00.000Z'
export const HASH = 'ab'.repeat(32)

export const newRun = (place: Place, more: Record<string, unknown> = {}) => ({
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
export const newSchedule = (place: Place, more: Record<string, unknown> = {}) => ({
  schedule_id: newId(),
  workspace_id: place.workspace,
  pipeline_id: place.pipeline.id,
  cron: '0 3 * * *',
  timezone: 'Europe/Berlin',
  ...more,
})
export const newUpload = (more: Record<string, unknown> = {}) => ({
  artifact_id: newId(),
  kind: 'report',
  name: 'report.html',
  content_type: 'text/html',
  bytes: 5,
  // of "hello"
  sha256: '2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824',
  ...more,
})
export const newVersion = (place: Place, more: Record<string, unknown> = {}) => ({
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

/** Starts the server, with two workspaces that know nothing of each other. The bindings above are set then. */
export const start = async (): Promise<void> => {
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
}

export const stop = async (): Promise<void> => {
  await server?.stop()
  await tables?.close()
  await database?.drop()
  folders.remove()
}
