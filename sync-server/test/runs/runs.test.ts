import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
let ann: Person
let bob: Person
let workspace: string
let pipeline: string
let heads: string[]
const device = newId()

beforeAll(async () => {
  test = await TestServer.start()
  ann = await test.person('ann')
  bob = await test.person('bob')
  workspace = await test.workspace(ann)
  await test.join(workspace, ann, bob, 'editor')
  pipeline = newId()
  heads = await test.store(workspace, pipeline, ann, somePipeline())
})
afterAll(() => test?.stop())

const newRun = (more: Record<string, unknown> = {}) => ({
  run_id: newId(),
  workspace_id: workspace,
  pipeline_id: pipeline,
  version: null,
  heads,
  trigger: 'manual',
  schedule_id: null,
  due_at: null,
  device_id: device,
  created_at: '2026-01-01T00:00:00.000Z',
  ...more,
})
const record = async (more: Record<string, unknown> = {}, as = ann) => {
  const body = newRun(more)
  return { body, reply: await test.call('POST', '/v1/runs', { as, body }) }
}
const move = (run: string, to: string, more: Record<string, unknown> = {}, as = ann) =>
  test.call('POST', `/v1/runs/${run}/transitions`, {
    as,
    body: { to, at: '2026-01-01T00:00:01.000Z', ...more },
  })
const line = (run: string, more: Record<string, unknown> = {}) =>
  JSON.stringify({
    ts: '2026-01-01T00:00:01.000Z',
    level: 'info',
    run_id: run,
    trace_id: 't',
    project_id: workspace,
    asset_id: null,
    step: 'orders',
    attempt: 1,
    cause: null,
    message: 'step started',
    ...more,
  }) + '\n'

describe('runs', () => {
  it('[RUN1] a run is recorded once; the same post again answers 200', async () => {
    const { body, reply } = await record()
    expect(reply.status).toBe(201)
    expect(reply.body).toMatchObject({
      state: 'pending',
      run_by: { user_id: ann.id, name: 'ann' },
      log_bytes: 0,
    })
    const again = await test.call('POST', '/v1/runs', { as: ann, body })
    expect(again).toMatchObject({ status: 200, body: { run_id: body.run_id } })
    const at_once = newRun()
    const both = await Promise.all(
      [1, 2, 3].map(() => test.call('POST', '/v1/runs', { as: ann, body: at_once })),
    )
    expect(both.map(each => each.status).toSorted()).toEqual([200, 200, 201])
  })

  it('[RUN2] an id that is another run’s is refused', async () => {
    const { body } = await record()
    const other = await test.call('POST', '/v1/runs', { as: bob, body: { ...body, device_id: newId() } })
    expect(other).toMatchObject({ status: 409, body: { code: 'request.id_taken' } })
  })

  it('[RUN3] moves along the transitions only, repeats are answered, and a terminal state never changes', async () => {
    const { body } = await record()
    const run = body.run_id as string
    expect((await move(run, 'success')).body.code).toBe('run.conflict')
    expect((await move(run, 'running')).body).toMatchObject({
      state: 'running',
      started_at: '2026-01-01T00:00:01.000Z',
    })
    expect((await move(run, 'running', { at: '2026-01-01T00:00:09.000Z' })).body.started_at).toBe(
      '2026-01-01T00:00:01.000Z',
    )
    const failed = await move(run, 'failed', { cause: 'sql', failed_step: 'orders' })
    expect(failed.body).toMatchObject({ state: 'failed', cause: 'sql', failed_step: 'orders' })
    for (const to of ['success', 'running', 'cancelled', 'pending']) {
      expect(await move(run, to)).toMatchObject({ status: 409, body: { code: 'run.conflict' } })
    }
    expect(await move(run, 'failed', { cause: 'timeout' })).toMatchObject({
      status: 200,
      body: { cause: 'sql' },
    })
  })

  it('[RUN4] nobody adds to another’s run', async () => {
    const { body } = await record()
    const run = body.run_id as string
    expect(await move(run, 'running', {}, bob)).toMatchObject({
      status: 403,
      body: { code: 'auth.forbidden' },
    })
    const log = await test.call('POST', `/v1/runs/${run}/logs`, {
      as: bob,
      body: { offset: 0, lines: line(run) },
    })
    expect(log.status).toBe(403)
  })

  it('[RUN5] a log grows by whole chunks at its end; the same chunk again is answered, another offset is not taken', async () => {
    const { body } = await record()
    const run = body.run_id as string
    const post = (offset: number, lines: string) =>
      test.call('POST', `/v1/runs/${run}/logs`, { as: ann, body: { offset, lines } })
    const [one, two] = [line(run, { message: 'Grüße' }), line(run) + line(run)]
    const bytes = Buffer.byteLength(one)
    expect(await post(0, one)).toMatchObject({ status: 200, body: { next_offset: bytes } })
    expect(await post(0, one)).toMatchObject({ status: 200, body: { next_offset: bytes } })
    expect(await post(0, two)).toMatchObject({
      status: 409,
      body: { code: 'run.log_offset', details: { next_offset: bytes } },
    })
    expect((await post(bytes + 5, two)).body.code).toBe('run.log_offset')
    await post(bytes, two)
    const read = await test.call('GET', `/v1/runs/${run}/logs`, { as: bob })
    expect(read.body).toBe(one + two)
    const tail = await test.call('GET', `/v1/runs/${run}/logs?offset=${bytes + 3}`, { as: bob })
    expect(tail.body).toBe((one + two).slice(one.length + 3))
    expect((await test.call('GET', `/v1/runs/${run}/logs?offset=99999`, { as: bob })).body).toBe('')
  })

  it('[RUN6] a log takes the documented fields and nothing else', async () => {
    const { body } = await record()
    const run = body.run_id as string
    const bad = [
      line(run, { value: 'a row of data' }),
      line(newId()),
      line(run, { level: 'loud' }),
      'not json\n',
      line(run).trimEnd(),
      '[]\n',
      '\n',
      line(run, { message: 'x'.repeat(3000) }),
    ]
    for (const lines of bad) {
      const reply = await test.call('POST', `/v1/runs/${run}/logs`, { as: ann, body: { offset: 0, lines } })
      expect(reply, lines.slice(0, 50)).toMatchObject({ status: 400, body: { code: 'request.invalid' } })
      expect(JSON.stringify(reply.body)).not.toContain('a row of data')
    }
  })

  it('[RUN7] a run names a pipeline and version that are there, or the heads of a draft', async () => {
    expect((await record({ pipeline_id: newId() })).reply.body.code).toBe('pipeline.not_found')
    expect((await record({ version: 7 })).reply.body.code).toBe('version.not_found')
    expect((await record({ heads: [] })).reply.body.code).toBe('request.invalid')
    expect((await record({ trigger: 'schedule' })).reply.body.code).toBe('request.invalid')
  })

  it('[RUN8] lists runs newest first, page by page', async () => {
    const all = await test.call('GET', `/v1/runs?workspace_id=${workspace}`, { as: bob })
    const ids = all.body.runs.map((each: { run_id: string }) => each.run_id)
    expect(ids).toEqual(ids.toSorted().toReversed())
    const page = await test.call('GET', `/v1/runs?workspace_id=${workspace}&limit=2&before=${ids[1]}`, {
      as: bob,
    })
    expect(page.body.runs.map((each: { run_id: string }) => each.run_id)).toEqual(ids.slice(2, 4))
  })
})
