import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { type Machine, openSample } from './service.ts'

let machine: Machine
afterEach(() => machine?.close())

const ask = () => ({ pipeline_id: machine.pipelineId, version: null, params: {}, select: null, full: false })

it('[RUN11] plans, runs, reports and reads the sample, and then reuses all of it', async () => {
  machine = await openSample()
  await machine.allowAll()
  const plan = await machine.runs.plan(ask())
  expect(plan.problems).toEqual([])
  expect(plan.grants_needed).toEqual([])
  expect(plan.steps.length).toBeGreaterThanOrEqual(5)
  expect(new Set(plan.steps.map(step => step.action))).toEqual(new Set(['run']))

  const run = await machine.run()
  expect(run).toMatchObject({ state: 'success', cause: null, has_report: true, local: true, run_by: 'Ada' })
  expect(run.steps.map(step => step.state)).toEqual(plan.steps.map(() => 'success'))
  expect(run.upload.state).toBe('none')

  const report = await machine.runs.report({ pipeline_id: machine.pipelineId })
  expect(report).toMatchObject({ state: 'report', run_id: run.run_id })
  expect(report.state === 'report' && report.html.match(/<svg/g)?.length).toBeGreaterThanOrEqual(2)
  const { lines } = await machine.runs.log({ run_id: run.run_id, after_line: 0 })
  expect(lines.length).toBeGreaterThan(5)
  expect((await machine.runs.log({ run_id: run.run_id, after_line: 3 })).lines).toEqual(lines.slice(3))

  const table = machine.definition.steps.find(step => step.materialize === 'table')!
  const about = { pipeline_id: machine.pipelineId, step_id: table.id }
  const page = await machine.runs.rows({ ...about, offset: 1, limit: 2 })
  expect(page.rows).toHaveLength(2)
  expect(page.total).toBeGreaterThan(2)
  const summary = await machine.runs.summary(about)
  expect(summary.rows).toBe(page.total)
  expect(summary.columns.map(column => column.name)).toEqual(page.columns.map(column => column.name))
  for (const column of summary.columns) {
    const counted = column.bins.reduce((sum, bin) => sum + bin.count, 0)
    expect(counted).toBeGreaterThan(0)
    expect(counted).toBeLessThanOrEqual(summary.rows)
  }

  expect((await machine.runs.plan(ask())).steps.map(step => step.action)).toEqual(
    plan.steps.map(() => 'reuse'),
  )
  const again = await machine.run()
  expect(again.state).toBe('success')
  expect((await machine.runs.list(machine.workspaceId, { limit: 50 })).runs.map(one => one.run_id)).toEqual([
    again.run_id,
    run.run_id,
  ])
  expect((await machine.runs.lastRuns()).get(machine.pipelineId)).toMatchObject({
    run_id: again.run_id,
    state: 'success',
  })
  expect(existsSync(join(machine.folder, 'reports', run.run_id, 'report.md'))).toBe(true)

  const last = machine.events.filter(event => event.topic === 'run.changed').at(-1)
  expect(last?.event).toMatchObject({ run_id: again.run_id, state: 'success' })
})
