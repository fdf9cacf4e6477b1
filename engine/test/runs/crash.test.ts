import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterEach, expect, it } from 'vitest'
import { HEAD, type Machine, openMachine } from './service.ts'

const CHILD = fileURLToPath(new URL('./run-child.ts', import.meta.url))
const MOMENTS_MS = [0, 150, 500, 1500]

let machine: Machine
let child: ChildProcess | null = null
afterEach(async () => {
  child?.kill('SIGKILL')
  await machine?.close()
})

it('[RUN13] a run whose host was killed at any moment is over after the next start, and its log says how', async () => {
  const steps = [
    { id: 'a', name: 'a', sql: 'select range as n from range(300000)' },
    { id: 'b', name: 'b', sql: 'select n, n % 7 as k from a order by hash(n)' },
    { id: 'c', name: 'c', sql: 'select k, count(*) as rows from b group by k' },
  ]
  machine = await openMachine({ schema_version: 1, name: 'kill', steps } as never)
  const target = {
    definition: machine.definition,
    heads: [HEAD],
    version: null,
    workspaceId: machine.workspaceId,
    pipelineName: 'kill',
    filesDir: machine.filesDir,
  }
  for (const moment of MOMENTS_MS) {
    const runId = newId()
    await machine.stop()
    const about = { folder: machine.folder, target, pipelineId: machine.pipelineId, runId }
    child = spawn(process.execPath, [CHILD, JSON.stringify(about)], { stdio: ['ignore', 'pipe', 'inherit'] })
    const gone = once(child, 'exit')
    const began = await Promise.race([once(child.stdout!, 'data').then(() => true), gone.then(() => false)])
    if (!began) throw new Error(`the host ended with ${(await gone).join()} before its run began`)
    await new Promise(resolve => setTimeout(resolve, moment))
    child.kill('SIGKILL')
    await gone
    await machine.start()
    const run = await machine.runs.read(runId)
    expect(['success', 'failed']).toContain(run.state)
    const { lines } = await machine.runs.log({ run_id: runId, after_line: 0 })
    if (run.state === 'failed') {
      expect(run.cause).toBe('internal')
      expect(run.steps.every(step => !['waiting', 'running', 'testing'].includes(step.state))).toBe(true)
      expect(lines.at(-1)?.message).toBe('The program ended while this run was going on.')
    } else expect(run.steps.every(step => step.state === 'success' || step.state === 'reused')).toBe(true)
  }
  expect((await machine.run()).state).toBe('success')
  const results = readdirSync(join(machine.folder, 'results', machine.workspaceId))
  const whole = results.filter(name => name.endsWith('.json')).length
  expect(whole).toBe(3)
})
