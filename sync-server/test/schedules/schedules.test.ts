import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
let ann: Person
let workspace: string
let pipeline: string
const [agent, other] = [newId(), newId()]
/** The server's clock, which these tests move. */
let now = new Date('2026-03-01T06:00:00.000Z')

beforeAll(async () => {
  test = await TestServer.start({}, undefined, { now: () => now })
  ann = await test.person('ann')
  workspace = await test.workspace(ann)
  pipeline = newId()
  const heads = await test.store(workspace, pipeline, ann, somePipeline())
  await test.call('POST', '/v1/pipelines', {
    as: ann,
    body: { workspace_id: workspace, pipeline_id: pipeline, version_id: newId(), heads, parent: null },
  })
})
afterAll(() => test?.stop())

const at = (text: string): void => {
  now = new Date(`2026-03-${text}:00.000Z`)
}
const make = async (more: Record<string, unknown> = {}): Promise<string> => {
  const schedule_id = newId()
  const reply = await test.call('POST', '/v1/schedules', {
    as: ann,
    body: {
      schedule_id,
      workspace_id: workspace,
      pipeline_id: pipeline,
      cron: '0 7 * * *',
      timezone: 'UTC',
      ...more,
    },
  })
  expect(reply.status).toBe(201)
  return schedule_id
}
const due = async (schedule: string, agent_id = agent): Promise<string[]> => {
  const reply = await test.call('GET', `/v1/schedules?agent_id=${agent_id}`, { as: ann })
  expect(reply.status).toBe(200)
  return reply.body.due
    .filter((each: { schedule_id: string }) => each.schedule_id === schedule)
    .map((each: { due_at: string }) => each.due_at)
}
const claim = (schedule: string, due_at: string, agent_id = agent) =>
  test.call('POST', `/v1/schedules/${schedule}/claim`, { as: ann, body: { agent_id, due_at } })
const ack = (schedule: string, due_at: string, body: Record<string, unknown>) =>
  test.call('POST', `/v1/schedules/${schedule}/ack`, { as: ann, body: { agent_id: agent, due_at, ...body } })

describe('schedules', () => {
  it('[SCH7] an occurrence is held by one agent at a time, and the holder’s claim is a heartbeat', async () => {
    at('01T06:00')
    const schedule = await make()
    expect(await due(schedule)).toEqual([])
    at('01T07:01')
    const [due_at] = (await due(schedule)) as [string]
    expect(due_at).toBe('2026-03-01T07:00:00.000Z')
    const both = await Promise.all([claim(schedule, due_at), claim(schedule, due_at, other)])
    expect(both.map(reply => reply.status).toSorted()).toEqual([200, 409])
    const winner = both[0]?.status === 200 ? agent : other
    const token = both.find(reply => reply.status === 200)?.body.fencing_token
    const again = await claim(schedule, due_at, winner)
    expect(again.body.fencing_token).toBe(token)
    expect(await due(schedule)).toEqual([])
  })

  it('[SCH8] an expired claim is taken over with a greater token; the old one is good for nothing', async () => {
    at('02T06:00')
    const schedule = await make()
    at('02T07:00')
    const due_at = '2026-03-02T07:00:00.000Z'
    const first = (await claim(schedule, due_at)).body.fencing_token
    at('02T07:05')
    expect(await due(schedule, other)).toEqual([due_at])
    const second = (await claim(schedule, due_at, other)).body.fencing_token
    expect(second).toBeGreaterThan(first)
    const late = await ack(schedule, due_at, { state: 'completed', fencing_token: first })
    expect(late).toMatchObject({ status: 409, body: { code: 'schedule.lease' } })
  })

  it('[SCH9] what was started is never taken over, and its holder may still finish after the lease', async () => {
    at('03T06:00')
    const schedule = await make()
    at('03T07:00')
    const due_at = '2026-03-03T07:00:00.000Z'
    const fencing_token = (await claim(schedule, due_at)).body.fencing_token
    expect((await ack(schedule, due_at, { state: 'started', fencing_token })).status).toBe(200)
    at('03T09:00')
    expect(await due(schedule, other)).toEqual([])
    expect((await claim(schedule, due_at, other)).status).toBe(409)
    for (let i = 0; i < 2; i++) {
      expect((await ack(schedule, due_at, { state: 'completed', fencing_token })).status).toBe(200)
    }
    expect((await ack(schedule, due_at, { state: 'skipped', fencing_token })).status).toBe(409)
  })

  it('[SCH10] editing or switching on again replays nothing', async () => {
    at('04T06:00')
    const schedule = await make({ missed: 'all' })
    const patch = (body: unknown) => test.call('PATCH', `/v1/schedules/${schedule}`, { as: ann, body })
    await patch({ enabled: false })
    at('06T08:00')
    await patch({ enabled: true })
    expect(await due(schedule)).toEqual([])
    at('07T08:00')
    expect((await due(schedule)).length).toBe(1)
    await patch({ cron: '30 6 * * *' })
    expect(await due(schedule)).toEqual([])
    expect((await patch({ cron: 'x' })).body.code).toBe('schedule.invalid')
    expect((await patch({})).status).toBe(200)
  })

  it('[SCH11] an occurrence for which nobody was there is recorded as skipped with its reason', async () => {
    at('10T06:00')
    const schedule = await make({ missed: 'latest' })
    at('13T08:00')
    expect(await due(schedule)).toEqual(['2026-03-13T07:00:00.000Z'])
    const { rows } = await test.sql.query(
      'select due_at, state, reason from occurrences where schedule_id = $1 order by due_at',
      [schedule],
    )
    expect(rows.map(row => [row.due_at.toISOString().slice(8, 10), row.state])).toEqual([
      ['10', 'skipped'],
      ['11', 'skipped'],
      ['12', 'skipped'],
    ])
    expect(rows[0].reason).toContain('within the window')
    expect(rows[2].reason).toContain('within the window')
  })

  it('[SCH12] a scheduled run needs the token that holds the occurrence, and there is one run for it', async () => {
    at('20T06:00')
    const schedule = await make()
    at('20T07:00')
    const due_at = '2026-03-20T07:00:00.000Z'
    const fencing_token = (await claim(schedule, due_at)).body.fencing_token
    const run = (token: number | null) => ({
      run_id: newId(),
      workspace_id: workspace,
      pipeline_id: pipeline,
      version: 1,
      heads: [],
      trigger: 'schedule',
      schedule_id: schedule,
      due_at,
      device_id: agent,
      created_at: now.toISOString(),
      fencing_token: token,
    })
    const post = (body: unknown) => test.call('POST', '/v1/runs', { as: ann, body })
    expect((await post(run(null))).body.code).toBe('run.lease_lost')
    const mine = run(fencing_token)
    expect((await post(mine)).status).toBe(201)
    expect((await post(run(fencing_token))).body.code).toBe('run.lease_lost')
    const move = (token: number | null) =>
      test.call('POST', `/v1/runs/${mine.run_id}/transitions`, {
        as: ann,
        body: { to: 'running', at: now.toISOString(), fencing_token: token },
      })
    expect((await move(null)).body.code).toBe('run.lease_lost')
    expect((await move(fencing_token)).status).toBe(200)
  })

  it('[SCH13] claims of what is not due, switched off or meant for other agents are refused', async () => {
    at('21T06:00')
    const schedule = await make({ agents: [other] })
    at('21T07:00')
    expect(await due(schedule)).toEqual([])
    expect((await claim(schedule, '2026-03-21T07:00:00.000Z')).status).toBe(409)
    expect((await claim(schedule, '2026-03-21T06:59:00.000Z', other)).status).toBe(409)
    expect((await claim(schedule, '2026-03-22T07:00:00.000Z', other)).status).toBe(409)
    expect((await claim(schedule, '2026-03-21T07:00:00.000Z', other)).status).toBe(200)
  })

  it('[SCH14] who asks for it is told what became of the newest occurrence, and why', async () => {
    at('25T06:00')
    const schedule = await make({ missed: 'all' })
    const path = `/v1/workspaces/${workspace}/schedules`
    const listed = async (query = '?last=yes') => {
      const { body } = await test.call('GET', path + query, { as: ann })
      return body.schedules.find((one: { schedule_id: string }) => one.schedule_id === schedule)
    }
    expect(await listed()).toMatchObject({ schedule_id: schedule, last: null })
    at('25T07:00')
    const first = '2026-03-25T07:00:00.000Z'
    const { fencing_token } = (await claim(schedule, first)).body
    expect((await listed()).last).toBeNull()
    const reason = 'Not allowed on this machine yet: reading source.orders.'
    await ack(schedule, first, { state: 'skipped', fencing_token, reason })
    expect((await listed()).last).toEqual({ due_at: first, state: 'skipped', reason, run_id: null })
    expect('last' in (await listed(''))).toBe(false)
    at('26T07:00')
    const second = '2026-03-26T07:00:00.000Z'
    const run_id = newId()
    const token = (await claim(schedule, second)).body.fencing_token
    await ack(schedule, second, { state: 'started', fencing_token: token, run_id })
    expect((await listed()).last).toEqual({ due_at: second, state: 'started', reason: null, run_id })
    expect((await test.call('GET', `${path}?last=no`, { as: ann })).status).toBe(400)
  })

  describe('when no agent comes', () => {
    const path = () => `/v1/workspaces/${workspace}/schedules`
    const listed = async (schedule: string, query = '?overdue=yes') => {
      const { body } = await test.call('GET', path() + query, { as: ann })
      return body.schedules.find((one: { schedule_id: string }) => one.schedule_id === schedule)
    }
    const first = '2026-04-01T07:00:00.000Z'
    const april = (text: string): void => {
      now = new Date(`2026-04-${text}:00.000Z`)
    }

    it('[SCH15] who asks is told since when it is missed, though nobody asked what is due', async () => {
      april('01T06:00')
      const schedule = await make()
      expect((await listed(schedule)).overdue).toBeNull()
      april('01T07:04')
      expect((await listed(schedule)).overdue).toBeNull()
      april('01T07:06')
      const missed = { since: first, reason: 'no agent took it' }
      expect((await listed(schedule)).overdue).toEqual(missed)
      april('03T12:00')
      expect(await listed(schedule, '?last=yes&overdue=yes')).toMatchObject({ last: null, overdue: missed })
      expect('overdue' in (await listed(schedule, '?last=yes'))).toBe(false)
      const { rows } = await test.sql.query('select 1 from occurrences where schedule_id = $1', [schedule])
      expect(rows).toEqual([])

      // An agent comes, takes the last one and runs it for hours.
      const due_at = '2026-04-03T07:00:00.000Z'
      expect(await due(schedule)).toEqual([due_at])
      expect((await listed(schedule)).overdue).toEqual(missed)
      const { fencing_token } = (await claim(schedule, due_at)).body
      expect((await listed(schedule)).overdue).toBeNull()
      await ack(schedule, due_at, { state: 'started', fencing_token })
      april('04T07:30')
      await claim(schedule, due_at)
      expect((await listed(schedule)).overdue).toBeNull()
      // It is gone, and is missed from the next one on.
      april('04T07:45')
      const next = '2026-04-04T07:00:00.000Z'
      expect((await listed(schedule)).overdue).toEqual({ ...missed, since: next })
      await ack(schedule, due_at, { state: 'completed', fencing_token })
      await ack(schedule, next, { state: 'skipped', reason: 'Not allowed on this machine.' })
      expect((await listed(schedule)).overdue).toBeNull()
    })

    it('[SCH15] a claim that ran out took nothing; one that is switched off misses nothing', async () => {
      april('01T06:00')
      const schedule = await make()
      april('01T07:01')
      expect((await claim(schedule, first)).status).toBe(200)
      april('01T08:00')
      expect((await listed(schedule)).overdue).toMatchObject({ since: first })
      // Somebody else's question settles it as skipped: nobody took it all the same.
      april('02T12:00')
      await due(schedule, other)
      expect((await listed(schedule)).overdue).toMatchObject({ since: first })
      const patch = (body: unknown) => test.call('PATCH', `/v1/schedules/${schedule}`, { as: ann, body })
      await patch({ enabled: false })
      expect((await listed(schedule)).overdue).toBeNull()
      await patch({ enabled: true })
      expect((await listed(schedule)).overdue).toBeNull()
    })

    it('[SCH15] it says when only others came than those of its list, and when nothing is published', async () => {
      april('01T06:00')
      const chosen = await make({ agents: [agent, other] })
      const draft = newId()
      await test.store(workspace, draft, ann, somePipeline())
      const unpublished = await make({ pipeline_id: draft })
      april('01T07:05')
      expect(await due(chosen, newId())).toEqual([])
      expect((await listed(chosen)).overdue).toBeNull()
      april('01T07:07')
      expect((await listed(chosen)).overdue).toEqual({ since: first, reason: 'no agent of its list took it' })
      expect((await listed(unpublished)).overdue).toEqual({ since: first, reason: 'no version is published' })
    })
  })
})
