import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
let dir: string
let ann: Person
let run: string
const content = Buffer.from('<p>a report</p>')

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pluto-data-'))
  test = await TestServer.start({ DATA_DIR: dir })
  ann = await test.person('ann')
  const workspace_id = await test.workspace(ann)
  const pipeline_id = newId()
  const heads = await test.store(workspace_id, pipeline_id, ann, somePipeline())
  run = newId()
  await test.call('POST', '/v1/runs', {
    as: ann,
    body: {
      run_id: run,
      workspace_id,
      pipeline_id,
      version: null,
      heads,
      trigger: 'manual',
      schedule_id: null,
      due_at: null,
      device_id: newId(),
      created_at: '2026-01-01T00:00:00.000Z',
    },
  })
})
afterAll(async () => {
  await test?.stop()
  await rm(dir, { recursive: true, force: true })
})

const upload = (more: Record<string, unknown> = {}) => ({
  artifact_id: newId(),
  kind: 'report',
  name: 'report.html',
  content_type: 'text/html',
  bytes: content.length,
  sha256: createHash('sha256').update(content).digest('hex'),
  ...more,
})
const post = (what: 'uploads' | 'artifacts', body: unknown) =>
  test.call('POST', `/v1/runs/${run}/${what}`, { as: ann, body })
const put = (signed: { url: string; headers: Record<string, string> }) =>
  fetch(signed.url, { method: 'PUT', headers: signed.headers, body: content })

describe('artifacts', () => {
  it('[ART8] a file is uploaded to its address, registered once, listed and downloaded', async () => {
    const body = upload()
    const early = await post('artifacts', body)
    expect(early).toMatchObject({ status: 409, body: { code: 'artifact.not_uploaded' } })
    const { upload: signed } = (await post('uploads', body)).body
    expect((await put(signed)).status).toBe(200)
    expect((await post('uploads', body)).body.upload).toBeNull()
    const both = await Promise.all([post('artifacts', body), post('artifacts', body)])
    expect(both.map(reply => reply.status).toSorted()).toEqual([200, 201])
    const listed = await test.call('GET', `/v1/runs/${run}/artifacts`, { as: ann })
    expect(listed.body.artifacts).toMatchObject([{ artifact_id: body.artifact_id, sha256: body.sha256 }])
    const { download } = (await test.call('POST', `/v1/artifacts/${body.artifact_id}/download`, { as: ann }))
      .body
    expect(await (await fetch(download.url)).text()).toBe(content.toString())
  })

  it('[ART9] an id is not taken twice for different files', async () => {
    const body = upload()
    await put((await post('uploads', body)).body.upload)
    await post('artifacts', body)
    for (const other of [
      { ...body, name: 'other.html' },
      { ...body, sha256: 'b'.repeat(64) },
    ]) {
      expect(await post('artifacts', other)).toMatchObject({
        status: 409,
        body: { code: 'request.id_taken' },
      })
      expect(await post('uploads', other)).toMatchObject({ status: 409, body: { code: 'request.id_taken' } })
    }
  })

  it('[ART10] names that are no plain file names are refused', async () => {
    for (const name of ['../x', 'a/b', '', '.hidden', 'x\n', 'a"b']) {
      expect((await post('uploads', upload({ name }))).body.code, name).toBe('request.invalid')
    }
  })
})
