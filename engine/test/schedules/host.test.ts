import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { pipelineDefinition, pipelineToFiles } from '@pluto-duck/crdt-model'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { runProgram } from '../../src/cli/program.ts'
import { connectHttp, connectLocal, type Session } from '../../src/cli/session.ts'
import { openHost } from '../../src/host/host.ts'
import { readHostFile } from '../../src/state/index.ts'
import { Agency, until } from './agents.ts'

const PLUTO = fileURLToPath(new URL('../../bin/pluto.ts', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'pluto-host-'))
let agency: Agency
let child: ChildProcess | null = null

beforeAll(async () => {
  agency = await Agency.start()
}, 60_000)
afterAll(async () => {
  if (child && child.exitCode === null && child.signalCode === null) await kill(child)
  vi.unstubAllEnvs()
  await agency?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const kill = async (process: ChildProcess): Promise<void> => {
  const gone = once(process, 'exit')
  process.kill('SIGKILL')
  await gone
}
const serve = async (): Promise<ChildProcess> => {
  const env = {
    ...process.env,
    PLUTO_HOME: folder,
    PLUTO_SERVER: agency.server.server.url,
    PLUTO_TOKEN: agency.ann.token,
  }
  const started = spawn(process.execPath, [PLUTO, 'serve'], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  await once(started.stdout!, 'data')
  return started
}

/** Goes on until it is cancelled. */
const LONG = pipelineDefinition.parse({
  schema_version: 1,
  name: 'long',
  steps: [
    {
      id: 's1',
      name: 'long',
      sql: 'select sum(a.i * b.i) as s from range(10000000) a(i), range(10000000) b(i)',
    },
  ],
  publish: { report: false, snapshots: [] },
})

it('[SCHED4][SCHED10][SCHED11] `pluto serve` runs what is due; killed in the middle, it tells after its next start and runs nothing twice', async () => {
  vi.stubEnv('PLUTO_TOKEN', agency.ann.token)
  const host = await openHost({
    folder,
    server: agency.server.server.url,
    log: pino({ level: 'silent' }),
  })
  const session = connectLocal(host)
  let open: Session = session
  const printed: string[] = []
  const output = {
    json: true,
    tty: false,
    out: (line: string) => void printed.push(line),
    err: () => undefined,
  }
  const pluto = async <T>(...argv: string[]): Promise<T> => {
    expect(await runProgram(argv, { output, session: async () => open }, { version: '0' }, () => {})).toBe(0)
    return JSON.parse(printed.at(-1) ?? '') as T
  }
  await session.value('workspace.list', {})
  const imported = await session.value('pipeline.import', { files: { ...pipelineToFiles(LONG) } })
  if (imported.state === 'problems') throw new Error(JSON.stringify(imported.problems))
  await session.value('sync.now', {})
  const { pipeline_id } = imported.pipeline
  expect(await session.value('version.publish', { pipeline_id, message: '' })).toMatchObject({
    state: 'published',
  })
  const { schedule_id } = await pluto<{ schedule_id: string }>(
    ...['schedule', 'create', 'long', '* * * * *', '--timezone', 'UTC', '--json'],
  )
  expect(await pluto('schedule', 'list', '--json')).toMatchObject([
    { schedule_id, pipeline_id, enabled: true, last: null, overdue: null },
  ])
  agency.pass(600)
  const overdue = { since: expect.any(String), reason: 'no agent took it' }
  expect(await pluto('schedule', 'list', '--json')).toMatchObject([{ schedule_id, last: null, overdue }])
  await pluto('schedule', 'disable', schedule_id, '--json')
  await pluto('schedule', 'enable', schedule_id, '--json')
  await session.close()
  await host.close()

  agency.pass(60)
  child = await serve()
  const run = await until(async () => {
    const [first] = await agency.runs(schedule_id)
    return first?.state === 'running' && first
  })
  await kill(child)
  expect(await agency.occurrences(schedule_id)).toMatchObject([{ state: 'started', run_id: run.id }])
  await agency.update(schedule_id, { enabled: false })

  child = await serve()
  await until(async () => (await agency.occurrences(schedule_id))[0]?.state === 'completed')
  expect(await agency.occurrences(schedule_id)).toMatchObject([
    { run_id: run.id, reason: 'The run failed (internal).' },
  ])
  const told = await until(async () => {
    const all = await agency.runs(schedule_id)
    return all[0]?.state === 'failed' && all
  })
  expect(told).toMatchObject([{ id: run.id, trigger: 'schedule', version: 1 }])
  const served = readHostFile(folder)
  open = connectHttp(`http://127.0.0.1:${served?.port}`, served?.token ?? '')
  const last = { state: 'completed', reason: 'The run failed (internal).', run_id: run.id }
  expect(await pluto('schedule', 'list', '--json')).toMatchObject([{ schedule_id, last }])
  await open.close()

  // A live event wakes it.
  await agency.update(schedule_id, { enabled: true })
  agency.pass(60)
  await agency.update(schedule_id, { cron: '* * * * *' })
  await until(async () => (await agency.occurrences(schedule_id))[1]?.state === 'started')
}, 150_000)
