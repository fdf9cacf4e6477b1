import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { Agency, type AgentMachine, type Published, until } from './agents.ts'

let agency: Agency
const machines: AgentMachine[] = []

beforeAll(async () => {
  agency = await Agency.start()
}, 120_000)
afterAll(() => agency?.stop())
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.close()
})

const COUNT = {
  schema_version: 1,
  name: 'count',
  steps: [{ id: 's1', name: 'numbers', sql: 'select i from range(3) as t(i)' }],
  publish: { report: false, snapshots: [] },
}
const READS = {
  schema_version: 1,
  name: 'reads',
  sources: { people: { kind: 'csv', path: 'people.csv' } },
  steps: [{ id: 's1', name: 'all_people', sql: 'select * from source.people' }],
  publish: { report: false, snapshots: [] },
}
/** Goes on until it is cancelled. */
const LONG = {
  ...COUNT,
  name: 'long',
  steps: [
    {
      id: 's1',
      name: 'long',
      sql: 'select sum(a.i * b.i) as s from range(10000000) a(i), range(10000000) b(i)',
    },
  ],
}

const machineOf = async (published: Published): Promise<AgentMachine> => {
  const machine = await agency.machine(published)
  machines.push(machine)
  return machine
}
const ended = (scheduleId: string, count = 1) =>
  until(async () => {
    const all = await agency.occurrences(scheduleId)
    const over = all.filter(one => one.state === 'completed' || one.state === 'skipped')
    return over.length >= count && all
  })

it('[SCHED1] what is due is taken, run at its version and said to be completed', async () => {
  const published = await agency.pipeline(COUNT)
  const machine = await machineOf(published)
  const schedule = await agency.schedule(published.pipelineId)
  machine.agent.start()
  agency.pass(60)
  const [occurrence] = await ended(schedule)
  expect(occurrence).toMatchObject({ state: 'completed', reason: null, agent_id: machine.deviceId })
  const runs = await until(async () => {
    const all = await agency.runs(schedule)
    return all[0]?.state === 'success' && all
  })
  expect(runs).toMatchObject([
    { id: occurrence?.run_id, trigger: 'schedule', version: 1, due_at: occurrence?.due_at },
  ])
  expect(await machine.runs.here(runs[0]!.id)).toMatchObject({ trigger: 'schedule', version: 1 })

  agency.pass(60)
  expect((await ended(schedule, 2)).map(one => one.state)).toEqual(['completed', 'completed'])
  await agency.update(schedule, { enabled: false })
}, 120_000)

it('[LEAVE4] what is held of another server keeps nothing from being taken here', async () => {
  const published = await agency.pipeline(COUNT)
  const machine = await machineOf(published)
  const workspace_id = newId()
  machine.foreign.add(workspace_id)
  const held = {
    workspace_id,
    pipeline_id: newId(),
    version: 1,
    due_at: '2026-01-31T13:00:00.000Z',
    fencing_token: 1,
    state: 'started' as const,
    outcome: { state: 'completed' as const, reason: null },
  }
  await machine.holds([1, 2].map(() => ({ ...held, schedule_id: newId(), run_id: newId() })))
  await machine.shut()
  await machine.open()
  const schedule = await agency.schedule(published.pipelineId)
  machine.agent.start()
  agency.pass(60)
  expect(await ended(schedule)).toMatchObject([{ state: 'completed', agent_id: machine.deviceId }])
  await agency.update(schedule, { enabled: false })
})

it('[SCHED2] of two agents one runs an occurrence', async () => {
  const published = await agency.pipeline(COUNT)
  const both = [await machineOf(published), await machineOf(published)]
  const schedule = await agency.schedule(published.pipelineId)
  for (const machine of both) machine.agent.start()
  for (let count = 1; count <= 2; count++) {
    agency.pass(60)
    await ended(schedule, count)
  }
  await agency.update(schedule, { enabled: false })
  const occurrences = await agency.occurrences(schedule)
  expect(occurrences.map(one => one.state)).toEqual(Array(2).fill('completed'))
  const runs = await until(async () => {
    const all = await agency.runs(schedule)
    return all.length === 2 && all.every(run => run.state === 'success') && all
  })
  expect(new Set(runs.map(run => run.id))).toEqual(new Set(occurrences.map(one => one.run_id)))
  const here = await Promise.all(runs.flatMap(run => both.map(machine => machine.runs.here(run.id))))
  expect(here.filter(run => run !== null)).toHaveLength(2)
}, 120_000)

it('[SCHED3][SCHED10] what is not allowed on this machine is skipped, with a reason that names no path', async () => {
  const published = await agency.pipeline(READS)
  const machine = await machineOf(published)
  await machine.file('people.csv', 'name\nann\n')
  const schedule = await agency.schedule(published.pipelineId)
  machine.agent.start()
  agency.pass(60)
  const [skipped] = await ended(schedule)
  expect(skipped).toMatchObject({ state: 'skipped', run_id: null })
  expect(skipped?.reason).toContain('reading source.people')
  expect(skipped?.reason).toContain('pluto run reads --version 1 --yes')
  expect(skipped?.reason).not.toContain('/')
  expect(machine.logged).toContainEqual(
    expect.objectContaining({ outcome: 'skipped', reason: skipped?.reason }),
  )
  expect(await agency.runs(schedule)).toEqual([])

  await machine.allowAll()
  agency.pass(60)
  expect((await ended(schedule, 2))[1]).toMatchObject({ state: 'completed', reason: null })
  await agency.update(schedule, { enabled: false })
}, 120_000)

it('[SCHED4] a restart in the middle of a run says that it ended, and runs nothing again', async () => {
  const published = await agency.pipeline(LONG)
  const machine = await machineOf(published)
  const schedule = await agency.schedule(published.pipelineId)
  machine.agent.start()
  agency.pass(60)
  const started = await until(async () => {
    const [run] = await agency.runs(schedule)
    return run?.state === 'running' && run
  })
  await machine.shut()
  expect(await agency.occurrences(schedule)).toMatchObject([{ state: 'started', run_id: started.id }])
  // No lease is needed for what was started: the machine may be away for long.
  agency.pass(20)
  await machine.open()
  machine.agent.start()
  expect(await ended(schedule)).toMatchObject([
    { state: 'completed', run_id: started.id, reason: 'The run was cancelled.' },
  ])
  await agency.update(schedule, { enabled: false })
  expect(await agency.runs(schedule)).toMatchObject([{ id: started.id }])
}, 120_000)

it('[SCHED4] a restart between claim and start goes on with the same run', async () => {
  const published = await agency.pipeline(COUNT)
  const machine = await machineOf(published)
  const schedule = await agency.schedule(published.pipelineId)
  // The reply to `started` never arrives.
  machine.before = path => {
    if (path.endsWith('/ack')) machine.online = false
  }
  machine.agent.start()
  agency.pass(60)
  await until(async () => !machine.online)
  await machine.shut()
  expect(await agency.occurrences(schedule)).toMatchObject([{ state: 'claimed' }])
  machine.before = () => undefined
  machine.online = true
  await machine.open()
  machine.agent.start()
  expect(await ended(schedule)).toMatchObject([{ state: 'completed', reason: null }])
  await agency.update(schedule, { enabled: false })
}, 120_000)

it('[SCHED5] an occurrence whose lease ran out while the machine was away is run by another, once', async () => {
  const published = await agency.pipeline(COUNT)
  const [first, second] = [await machineOf(published), await machineOf(published)]
  const schedule = await agency.schedule(published.pipelineId, { missed: 'all' })
  first.before = path => {
    if (path.endsWith('/ack')) first.online = false
  }
  first.agent.start()
  agency.pass(60)
  await until(async () => !first.online)
  await agency.update(schedule, { cron: '* * * * *' })
  agency.pass(130)
  second.agent.start()
  const [taken] = await ended(schedule, 3)
  expect(taken).toMatchObject({ state: 'completed', agent_id: second.deviceId })
  first.before = () => undefined
  first.online = true
  await agency.update(schedule, { enabled: false })
  first.agent.online()
  await until(async () => first.asked.filter(path => path.endsWith('/claim')).length > 1)
  const completed = (await agency.occurrences(schedule)).filter(one => one.state === 'completed')
  const runs = await until(async () => {
    const all = await agency.runs(schedule)
    return all.length === completed.length && all
  })
  expect(runs.map(run => run.id).sort()).toEqual(completed.map(one => one.run_id).sort())
  expect(runs.find(run => run.id === taken?.run_id)).toMatchObject({ device_id: second.deviceId })
}, 120_000)

it('[SCHED5] what is lost while its run is made ready is cancelled as soon as it began', async () => {
  const published = await agency.pipeline(LONG)
  const machine = await machineOf(published)
  const schedule = await agency.schedule(published.pipelineId)
  const ready = Promise.withResolvers<void>()
  machine.ready = ready.promise
  machine.agent.start()
  agency.pass(60)
  // The server hears of it before this machine makes it ready.
  const run_id = await until(async () => machine.begun[0])
  // Somebody else holds it: what this machine says of it counts for nothing.
  await agency.sql.query('update occurrences set agent_id = $2 where schedule_id = $1', [schedule, newId()])
  await agency.update(schedule, { enabled: false })
  await until(async () => machine.warned > 0)
  ready.resolve()
  const run = await until(async () => {
    const here = await machine.runs.here(run_id)
    return here?.state === 'cancelled' && here
  })
  expect(run.run_id).toBe(run_id)
  expect(machine.cancelled).toEqual([run_id])
}, 120_000)

it('[SCHED9] a machine whose disk is full claims nothing, and another one runs it', async () => {
  const published = await agency.pipeline(COUNT)
  const [broken, healthy] = [await machineOf(published), await machineOf(published)]
  const schedule = await agency.schedule(published.pipelineId)
  broken.full = true
  broken.agent.start()
  agency.pass(60)
  await until(async () => broken.asked.filter(path => path === '/v1/schedules').length > 3)
  expect(broken.asked.filter(path => path.endsWith('/claim'))).toEqual([])
  healthy.agent.start()
  expect(await ended(schedule)).toMatchObject([{ state: 'completed', agent_id: healthy.deviceId }])

  // With room again it takes its part.
  await healthy.agent.close()
  broken.full = false
  agency.pass(60)
  expect((await ended(schedule, 2))[1]).toMatchObject({ state: 'completed', agent_id: broken.deviceId })
  await agency.update(schedule, { enabled: false })
}, 120_000)

it('[SCHED9] a disk that fills up after the claim keeps no lease', async () => {
  for (const moment of ['/claim', '/ack']) {
    const published = await agency.pipeline(COUNT)
    const machine = await machineOf(published)
    const schedule = await agency.schedule(published.pipelineId)
    machine.before = path => {
      if (path.endsWith(moment)) machine.full = true
    }
    machine.agent.start()
    agency.pass(60)
    const looks = () => machine.asked.filter(path => path === '/v1/schedules').length
    const claims = () => machine.asked.filter(path => path.endsWith('/claim')).length
    await until(async () => machine.full)
    await until(async () => machine.failed > 0)
    const [before, asked] = [looks(), claims()]
    machine.agent.wake()
    await until(async () => looks() > before || machine.failed > 2)
    expect([moment, claims()]).toEqual([moment, asked])
    machine.before = () => undefined
    machine.full = false
    agency.pass(130)
    machine.agent.wake()
    await until(async () => (await agency.occurrences(schedule)).some(one => one.state === 'completed'))
    await agency.update(schedule, { enabled: false })
    await machine.agent.close()
  }
}, 120_000)

it('[SCHED6] offline nothing is claimed; a run that ended meanwhile is told when the server is back', async () => {
  const published = await agency.pipeline(COUNT)
  const machine = await machineOf(published)
  const schedule = await agency.schedule(published.pipelineId)
  machine.before = path => {
    if (path.endsWith('/ack') && machine.asked.filter(one => one.endsWith('/ack')).length === 2)
      machine.online = false
  }
  machine.agent.start()
  agency.pass(60)
  await until(async () => !machine.online)
  const claims = machine.asked.filter(path => path.endsWith('/claim')).length
  agency.pass(60)
  await new Promise(resolve => setTimeout(resolve, 300))
  expect(machine.asked.filter(path => path.endsWith('/claim'))).toHaveLength(claims)
  expect(await agency.occurrences(schedule)).toMatchObject([{ state: 'started' }])
  machine.online = true
  machine.agent.online()
  const told = await ended(schedule, 2)
  expect(told.map(one => one.state)).toEqual(['completed', 'completed'])
  await agency.update(schedule, { enabled: false })
}, 120_000)

it('[SCHED7] editing or switching on again runs nothing that was before', async () => {
  const published = await agency.pipeline(COUNT)
  const machine = await machineOf(published)
  const schedule = await agency.schedule(published.pipelineId, { missed: 'all' })
  await agency.update(schedule, { enabled: false })
  agency.pass(600)
  await agency.update(schedule, { enabled: true })
  machine.agent.start()
  await until(async () => machine.asked.filter(path => path === '/v1/schedules').length > 3)
  expect(await agency.occurrences(schedule)).toEqual([])
  agency.pass(60)
  expect(await ended(schedule)).toHaveLength(1)
  await agency.update(schedule, { enabled: false })
}, 120_000)
