import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterEach, expect, it } from 'vitest'
import { delivery } from '../../src/artifacts/next-delivery.ts'
import { JsonTable } from '../../src/state/index.ts'
import { type Machine, openMachine } from './service.ts'

// "Stop" once the steps are done. Each of these would take a minute or more by itself, and then be a success.

let machine: Machine
afterEach(() => machine?.close())

const SLOW =
  'select count(*) as n from range(100000) a, range(100000) b, range(1000) c where a.range + b.range <> c.range'
const STOPPED =
  'The run was cancelled after its results were made: they stay current, and nothing of it is shared.'

/** Starts a run, and answers when its steps are done and something else is going on. */
async function startUntilMade(definition: object): Promise<string> {
  machine = await openMachine({ schema_version: 1, name: 'p', ...definition } as never, {
    remote: () => true,
    sends: async () => true,
  })
  await machine.allowAll()
  const run_id = newId()
  const ask = { pipeline_id: machine.pipelineId, version: null, params: {}, select: null, full: false }
  await machine.runs.start({ ...ask, run_id })
  for (;;) {
    const { lines } = await machine.runs.log({ run_id, after_line: 0 })
    if (lines.some(line => line.message.startsWith('Run success'))) break
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  expect((await machine.runs.read(run_id)).state).toBe('running')
  return run_id
}

const outgoing = async (runId: string) =>
  (await new JsonTable(machine.state, 'uploads', delivery).get(runId))?.artifacts

async function expectStopped(runId: string): Promise<void> {
  const run = await machine.runs.read(runId)
  expect(run).toMatchObject({ state: 'cancelled', cause: 'cancelled', has_report: false })
  expect(run.steps.map(step => step.state)).toEqual(['success'])
  expect(await outgoing(runId)).toEqual([])
  const { lines } = await machine.runs.log({ run_id: runId, after_line: 0 })
  expect(lines.at(-1)).toMatchObject({ level: 'warn', cause: 'cancelled', message: STOPPED })
  const about = { pipeline_id: machine.pipelineId, version: null, params: {}, select: null, full: false }
  expect((await machine.runs.plan(about)).steps.map(step => step.action)).toEqual(['reuse'])
}

const REPORT = {
  steps: [{ id: 'one', name: 'one', sql: 'select 1 as a' }],
  report: `# Slow\n\n\`\`\`sql slow\n${SLOW}\n\`\`\`\n`,
  publish: { report: true, snapshots: [] },
}

it('[RUN16] a run that is cancelled while its report is made ends, and nothing of it leaves', async () => {
  const runId = await startUntilMade(REPORT)
  await machine.runs.cancel(runId)
  await expectStopped(runId)
})

it('[RUN16] a program that ends while a report is made does not wait for it', async () => {
  const runId = await startUntilMade(REPORT)
  await machine.restart()
  await expectStopped(runId)
})

it('[RUN16] a run that is cancelled while a snapshot is made ends, and nothing of it leaves', async () => {
  const runId = await startUntilMade({
    steps: [{ id: 'one', name: 'one', sql: SLOW, materialize: 'view' }],
    publish: { report: false, snapshots: [{ step: 'one', columns: ['n'], max_rows: 10 }] },
  })
  await machine.runs.cancel(runId)
  expect(await machine.runs.read(runId)).toMatchObject({ state: 'cancelled', cause: 'cancelled' })
  expect(await outgoing(runId)).toEqual([])
  expect(readdirSync(join(machine.folder, 'reports', runId))).toEqual([])
})
