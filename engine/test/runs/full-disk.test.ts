import { closeSync, existsSync, openSync, readFileSync } from 'node:fs'
import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { RunJournal } from '../../src/runs/run-journal.ts'
import { type RunRecord, runRecord } from '../../src/runs/run-record.ts'
import { JsonTable, type Statements } from '../../src/state/index.ts'
import { type Machine, openMachine } from './service.ts'

// A disk that takes nothing, in the places in which a run writes. A rejection that nobody hears fails these tests by itself.

/** Every write into it says that the disk is full. */
const FULL = '/dev/full'

let machine: Machine
let mend: () => void = () => undefined
beforeAll(async () => {
  machine = await openMachine({ schema_version: 1, name: 'p', steps: STEPS } as never, { clock: HASTY })
})
afterEach(() => mend())
afterAll(() => machine?.close())

const STEPS = [
  { id: 'one', name: 'one', sql: 'select 1 as a' },
  { id: 'two', name: 'two', sql: 'select a from one' },
]
const BROKEN = { state: 'failed', cause: 'internal' }
const HASTY = {
  now: () => Date.now(),
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(Math.min(ms, 5), signal),
}

/** Puts a disk that takes a run's record only if it may behind the state, until `mend`. */
async function refuseRecords(refused: (record: RunRecord) => boolean): Promise<void> {
  let inside: Statements | null = null
  await machine.state.write(async tx => {
    inside = tx
  })
  const tx = inside as Statements | null
  if (!tx) throw new Error('the state gave no transaction')
  const run = tx.run.bind(tx)
  tx.run = async (sql, ...values) => {
    if (sql.startsWith('insert or replace into runs ') && refused(JSON.parse(String(values[3]))))
      throw new Error('IO Error: Could not write file "state.duckdb.wal": No space left on device')
    await run(sql, ...values)
  }
  // What is in front of the class's own.
  mend = () => void Reflect.deleteProperty(tx, 'run')
}

const once = (when: (record: RunRecord) => boolean) => {
  let left = 1
  return (record: RunRecord) => when(record) && left-- > 0
}
const ended = (record: RunRecord) => record.state !== 'pending' && record.state !== 'running'

it('[RUN18] a run whose beginning is not stored ends as broken off', async () => {
  await refuseRecords(once(record => record.state === 'running'))
  const run = await machine.run()
  expect(run).toMatchObject(BROKEN)
  await machine.restart()
  expect(await machine.runs.read(run.run_id)).toMatchObject(BROKEN)
  expect((await machine.run()).state).toBe('success')
})

it('[RUN18] a save that fails in the middle is made good by the next', async () => {
  await refuseRecords(once(record => record.steps.some(step => step.state === 'running')))
  const run = await machine.run({ full: true })
  expect(run.state).toBe('success')
  await machine.restart()
  const kept = await machine.runs.read(run.run_id)
  expect(kept.state).toBe('success')
  expect(kept.steps.map(step => step.state)).toEqual(['success', 'success'])
})

it('[RUN18] a run whose end is not stored ends as broken off, and that is stored when the disk takes it', async () => {
  let tries = 0
  await refuseRecords(record => ended(record) && ++tries > 0)
  const run = await machine.run()
  expect(run).toMatchObject(BROKEN)
  expect(await machine.runs.cancel(run.run_id)).toMatchObject(BROKEN)
  const { lines } = await machine.runs.log({ run_id: run.run_id, after_line: 0 })
  expect(lines.at(-1)).toMatchObject({ level: 'error', message: 'The run broke off.', cause: 'internal' })
  // Another run goes on meanwhile, and this one is tried again.
  expect(await machine.run()).toMatchObject(BROKEN)
  const before = tries
  while (tries < before + 2) await new Promise(resolve => setTimeout(resolve, 5))
  mend()
  const table = new JsonTable(machine.state, 'runs', runRecord)
  while ((await table.get(run.run_id))?.state !== 'failed')
    await new Promise(resolve => setTimeout(resolve, 5))
  await machine.restart()
  expect(await machine.runs.read(run.run_id)).toMatchObject(BROKEN)
  const log = await machine.runs.log({ run_id: run.run_id, after_line: 0 })
  expect(log.lines.map(line => line.message)).not.toContain('The program ended while this run was going on.')
})

it('[RUN18] a program that ends while the disk takes nothing gives the run the same end at its next start', async () => {
  await refuseRecords(ended)
  const run = await machine.run()
  expect(run).toMatchObject(BROKEN)
  await machine.runs.close()
  mend()
  await machine.state.close()
  await machine.start()
  expect(await machine.runs.read(run.run_id)).toMatchObject(BROKEN)
})

describe.skipIf(!existsSync(FULL))('a log', () => {
  /** The log, or the private one, of a run on a full disk. */
  async function onFullDisk(folder: 'logs' | 'private'): Promise<string> {
    const runId = newId()
    await mkdir(join(machine.folder, folder), { recursive: true })
    await symlink(FULL, join(machine.folder, folder, `${runId}.jsonl`))
    return runId
  }

  it('[RUN18] that takes nothing ends its run as broken off, and nothing else', async () => {
    const run = await machine.run({ run_id: await onFullDisk('logs') })
    expect(run).toMatchObject(BROKEN)
    expect(await machine.runs.cancel(run.run_id)).toMatchObject(BROKEN)
    expect((await machine.run()).state).toBe('success')
    await machine.restart()
    expect(await machine.runs.read(run.run_id)).toMatchObject(BROKEN)
  })

  it('[RUN18] that takes nothing of a failed step ends its run as broken off', async () => {
    const { definition } = machine
    const [one, ...rest] = definition.steps
    machine.definition = {
      ...definition,
      steps: [{ ...one!, sql: "select cast('x' as integer) as a" }, ...rest],
    }
    const run = await machine.run({ run_id: await onFullDisk('private') })
    expect(run).toMatchObject(BROKEN)
    expect((await machine.run()).cause).toBe('sql')
    machine.definition = definition
  })
})

it('[RUN18] a run whose log cannot be begun does not begin', async () => {
  const logs = join(machine.folder, 'logs')
  const kept = join(machine.folder, 'kept')
  await mkdir(logs, { recursive: true })
  await rename(logs, kept)
  await writeFile(logs, 'no folder')
  const run_id = newId()
  await expect(machine.run({ run_id })).rejects.toMatchObject({ code: 'run.internal' })
  expect(await machine.runs.here(run_id)).toBeNull()
  await rm(logs)
  await rename(kept, logs)
  expect((await machine.run({ run_id })).state).toBe('success')
})

it('[RUN18] a run whose record cannot be begun does not begin, and its log is closed', async () => {
  await refuseRecords(once(record => record.state === 'pending'))
  const run_id = newId()
  await expect(machine.run({ run_id })).rejects.toMatchObject({ code: 'run.internal' })
  expect(await machine.runs.here(run_id)).toBeNull()
  expect((await machine.run({ run_id })).state).toBe('success')
})

it('[RUN18] nothing is written once a log is closed, whoever has its numbers then', async () => {
  const told: unknown[] = []
  const about = { run_id: newId(), workspace_id: machine.workspaceId }
  const journal = new RunJournal(
    machine.folder,
    about,
    () => 0,
    lines => told.push(...lines),
  )
  journal.say('info', 'A line.')
  journal.close()
  const foreign = ['a', 'b', 'c'].map(name => join(machine.folder, name))
  const taken = foreign.map(path => openSync(path, 'w'))
  journal.say('error', 'A line that comes too late.')
  journal.event({ type: 'run', ts: new Date(0).toISOString(), run_id: about.run_id, state: 'running' })
  journal.settle()
  journal.close()
  for (const file of taken) closeSync(file)
  expect(foreign.map(path => readFileSync(path, 'utf8'))).toEqual(['', '', ''])
  expect(told).toHaveLength(1)
})
