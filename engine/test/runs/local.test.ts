import { execFileSync } from 'node:child_process'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterEach, expect, it } from 'vitest'
import { type Machine, openMachine, untilEnded } from './service.ts'

let machine: Machine
afterEach(() => machine?.close())

const step = (name: string, sql: string, more: object = {}) => ({ id: `id_${name}`, name, sql, ...more })
const pipeline = (steps: object[], more: object = {}) => ({
  schema_version: 1 as const,
  name: 'orders',
  sources: { orders: { kind: 'csv' as const, path: 'orders.csv' } },
  steps: steps as never,
  ...more,
})
const ORDERS = 'id,region,amount\n1,north,10\n2,south,20\n3,north,30\n'
const ask = (more: object = {}) => ({
  pipeline_id: machine.pipelineId,
  version: null,
  params: {},
  select: null,
  full: false,
  ...more,
})
const preview = (step_id: string) =>
  machine.runs.preview({ pipeline_id: machine.pipelineId, step_id, limit: 10, params: {} })

async function open(steps: object[], more: object = {}): Promise<Machine> {
  machine = await openMachine(pipeline(steps, more))
  await machine.file('orders.csv', ORDERS)
  return machine
}

it('[GRANT1] opens nothing that was not allowed, and says what it wants', async () => {
  await open([step('clean', 'select * from source.orders')])
  const path = `${machine.filesDir}/orders.csv`
  const wanted = [{ kind: 'read', target: path, why: 'source.orders reads it.' }]
  expect(await machine.runs.plan(ask())).toMatchObject({ grants_needed: wanted, problems: [] })
  expect(await machine.runs.compile(machine.pipelineId)).toMatchObject({
    steps: [{ name: 'clean', columns: null }],
    problems: [{ code: 'source.not_allowed', severity: 'warning' }],
  })
  const refused = { code: 'grant.required', details: { grants_needed: wanted } }
  await expect(machine.runs.start({ ...ask(), run_id: newId() })).rejects.toMatchObject(refused)
  await expect(preview('id_clean')).rejects.toMatchObject(refused)
  await machine.allowAll()
  expect((await machine.runs.compile(machine.pipelineId)).steps[0]?.columns).toHaveLength(3)
  expect((await machine.run()).state).toBe('success')

  await machine.runs.revoke({ pipeline_id: machine.pipelineId, kind: 'read', target: path })
  await expect(machine.runs.start({ ...ask(), run_id: newId() })).rejects.toMatchObject(refused)
})

it('[GRANT2] asks anew for another path', async () => {
  await open([step('clean', 'select * from source.orders')])
  await machine.allowAll()
  await machine.file('other.csv', ORDERS)
  machine.definition = {
    ...machine.definition,
    sources: { orders: { ...machine.definition.sources.orders!, path: 'other.csv' } },
  }
  expect((await machine.runs.plan(ask())).grants_needed).toMatchObject([
    { target: `${machine.filesDir}/other.csv` },
  ])
})

it('[GRANT3] a draft reads what its pipeline may read, and asks for what else it wants and for all that it would send', async () => {
  const sends = { publish: { report: true, snapshots: [] } }
  machine = await openMachine(pipeline([step('clean', 'select * from source.orders')], sends), {
    remote: () => true,
    sends: async () => true,
  })
  await machine.file('orders.csv', ORDERS)
  await machine.file('other.csv', ORDERS)
  const wantedByDraft = async () =>
    (await machine.runs.plan(ask({ pipeline_id: machine.draftId }))).grants_needed.map(one => one.target)
  const [orders, other] = [`${machine.filesDir}/orders.csv`, `${machine.filesDir}/other.csv`]
  expect(await wantedByDraft()).toEqual([orders, 'report'])

  await machine.allowAll()
  expect(await wantedByDraft()).toEqual(['report'])
  machine.draft = {
    ...machine.draft,
    sources: {
      ...machine.draft.sources,
      other: { ...machine.draft.sources.orders!, path: 'other.csv' },
    },
  }
  expect(await wantedByDraft()).toEqual([other, 'report'])
  const run = { ...ask({ pipeline_id: machine.draftId }), run_id: newId() }
  await expect(machine.runs.start(run)).rejects.toMatchObject({ code: 'grant.required' })

  const targets = [
    { kind: 'read', target: other },
    { kind: 'publish', target: 'report' },
  ] as const
  await machine.runs.allow({ pipeline_id: machine.draftId, targets: [...targets] })
  expect(await wantedByDraft()).toEqual([])
  // What the draft was allowed is no grant of its pipeline, and what the pipeline loses its draft loses.
  machine.definition = machine.draft
  expect((await machine.runs.plan(ask())).grants_needed).toMatchObject([{ target: other }])
  await machine.runs.revoke({ pipeline_id: machine.pipelineId, kind: 'read', target: orders })
  expect(await wantedByDraft()).toEqual([orders])
})

it('[RUN12] the same id again answers the same run', async () => {
  await open([step('one', 'select 1 as a')], { sources: {} })
  const run_id = newId()
  const [first, second] = await Promise.all([
    machine.runs.start({ ...ask(), run_id }),
    machine.runs.start({ ...ask(), run_id }),
  ])
  expect(second).toEqual(first)
  await untilEnded(machine.runs, run_id)
  await machine.restart()
  expect(await machine.runs.start({ ...ask(), run_id })).toMatchObject({ run_id, state: 'success' })
  await expect(machine.runs.start({ ...ask(), pipeline_id: newId(), run_id })).rejects.toMatchObject({
    code: 'request.id_taken',
  })
})

const SLOW =
  'select count(*) as n from range(100000) a, range(100000) b, range(1000) c where a.range + b.range <> c.range'

it('[RUN16] a run that is cancelled ends within a second, running or waiting', async () => {
  await open([step('slow', SLOW)], { sources: {} })
  const ids = [newId(), newId(), newId()]
  for (const run_id of ids) await machine.runs.start({ ...ask(), run_id })
  while ((await machine.runs.read(ids[0]!)).steps[0]?.state !== 'running')
    await new Promise(resolve => setTimeout(resolve, 20))
  expect((await machine.runs.read(ids[2]!)).state).toBe('pending')
  for (const run_id of ids.toReversed())
    expect(await machine.runs.cancel(run_id)).toMatchObject({ state: 'cancelled', cause: 'cancelled' })
})

it('[RUN14] a preview shows rows as the step is written now, makes what it needs, and moves nothing', async () => {
  await open([
    step('clean', 'select id, amount from source.orders'),
    step('total', 'select sum(amount) as total from clean'),
  ])
  await machine.allowAll()
  expect(await preview('id_total')).toMatchObject({ state: 'rows', page: { rows: [['60']], total: 1 } })
  await expect(
    machine.runs.rows({ pipeline_id: machine.pipelineId, step_id: 'id_clean', offset: 0, limit: 10 }),
  ).rejects.toMatchObject({ code: 'run.not_found' })
  const plan = await machine.runs.plan(ask())
  expect(plan.steps.map(one => one.action)).toEqual(['reuse', 'run'])

  machine.definition = {
    ...machine.definition,
    steps: machine.definition.steps.map(one =>
      one.name === 'total' ? { ...one, sql: 'select sum(amont) from clean' } : one,
    ),
  }
  expect(await preview('id_total')).toMatchObject({
    state: 'problems',
    problems: [{ code: 'sql.bind', file: 'total.sql', line: 1 }],
  })
  // A fault elsewhere is not in the way.
  expect(await preview('id_clean')).toMatchObject({ state: 'rows', page: { total: 3 } })
})

it('[RUN15] a value that breaks a cast is found nowhere outside results, reports and private', async () => {
  await open([
    step('amounts', "select id, cast(region as integer) as region from source.orders where region like 'p%'"),
    step('after', 'select count(*) as n from amounts'),
  ])
  await machine.file('orders.csv', 'id,region\n1,planted-value-4711\n')
  await machine.allowAll()
  const run = await machine.run()
  expect(run).toMatchObject({ state: 'failed', cause: 'sql', failed_step: 'amounts' })
  expect(run.steps.map(one => one.state)).toEqual(['failed', 'skipped'])
  expect(run.steps[0]?.message).toContain('planted-value-4711')
  expect(await preview('id_after')).toMatchObject({ state: 'problems', problems: [{ code: 'run.sql' }] })
  await machine.restart()
  expect((await machine.runs.read(run.run_id)).steps[0]?.message).toContain('planted-value-4711')
  const found = execFileSync('grep', ['-rla', 'planted-value-4711', machine.folder], { encoding: 'utf8' })
  const outside = found
    .trim()
    .split('\n')
    .map(path => path.slice(machine.folder.length + 1))
    .filter(path => !/^(results|reports|private|files)\//.test(path))
  expect(outside).toEqual([])
  expect(found).toContain('/private/')
})

it('[RUN5] a data test that fails is told with its label and rows', async () => {
  await open([
    step('clean', 'select * from source.orders', {
      tests: [{ id: 't1', type: 'accepted_values', column: 'region', values: ['north'] }],
    }),
  ])
  await machine.allowAll()
  const run = await machine.run()
  expect(run).toMatchObject({ state: 'failed', cause: 'data_test', failed_step: 'clean' })
  expect(run.steps[0]?.tests).toMatchObject([
    { id: 't1', label: 'accepted_values(region)', passed: false, failing_rows: 1 },
  ])
})

it('knows columns, rows and SQL of each step of a definition', async () => {
  await open([step('clean', 'select id /* all */ from source.orders')])
  await machine.allowAll()
  await machine.run()
  const facts = await machine.runs.stepFacts(machine.pipelineId, machine.definition)
  expect(facts.get('id_clean')).toMatchObject({
    rows: 3,
    columns: [{ name: 'id', type: 'BIGINT' }],
    depends_on: [],
  })
  const edges = await machine.runs.lineage({
    pipeline_id: machine.pipelineId,
    step_id: 'id_clean',
    column: 'id',
  })
  expect(edges.edges).toEqual([{ from: 'source.orders', from_column: 'id', to: 'clean', to_column: 'id' }])
})
