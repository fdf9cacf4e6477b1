import { mkdtempSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type PipelineDefinition, pipelineDefinition, pipelineFromFiles } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'
import { systemClock } from '../../src/clock.ts'
import type { Event, RunView } from '../../src/contract/index.ts'
import { TopicBus } from '../../src/host/bus.ts'
import { RunService, type RunServiceParts } from '../../src/runs/index.ts'
import { installSample } from '../../src/samples.ts'
import { State } from '../../src/state/index.ts'
import type { ServerCalls } from '../../src/versions/server-calls.ts'

export const HEAD = 'a'.repeat(64)

/** A machine without a server, as it is before anybody signs in. */
export const AWAY: ServerCalls = {
  call: async () => {
    throw new AppError('server.unreachable', 'No server is set.')
  },
}

export interface Machine {
  readonly folder: string
  readonly filesDir: string
  readonly workspaceId: string
  readonly pipelineId: string
  readonly draftId: string
  readonly events: Event[]
  /** Of this start of the program. */
  state: State
  runs: RunService
  definition: PipelineDefinition
  /** Of the draft of the pipeline. */
  draft: PipelineDefinition
  /** Starts a run and waits for its end. */
  run(input?: Partial<Parameters<RunService['start']>[0]>): Promise<RunView>
  allowAll(): Promise<void>
  file(name: string, text: string): Promise<string>
  /** Ends the service and its state, and opens them again, as a new start of the program does. */
  restart(): Promise<void>
  stop(): Promise<void>
  start(): Promise<void>
  close(): Promise<void>
}

export async function openMachine(
  definition: z.input<typeof pipelineDefinition>,
  parts: Partial<RunServiceParts> & { readonly workspaceId?: string; readonly pipelineId?: string } = {},
): Promise<Machine> {
  const folder = mkdtempSync(join(tmpdir(), 'pluto-runs-'))
  const filesDir = join(folder, 'files')
  await mkdir(filesDir, { recursive: true })
  const events: Event[] = []
  const bus = new TopicBus(error => {
    throw error
  })
  bus.subscribe(event => events.push(event))
  const deviceId = newId()
  const open = async (): Promise<RunService> => {
    machine.state = await State.open(folder)
    return RunService.open({
      state: machine.state,
      dataFolder: folder,
      server: AWAY,
      bus,
      clock: systemClock,
      log: { error: () => undefined },
      deviceId,
      resolve: async id => ({
        definition: id === machine.draftId ? machine.draft : machine.definition,
        heads: [HEAD],
        version: null,
        workspaceId: machine.workspaceId,
        base: id === machine.draftId ? machine.pipelineId : null,
        pipelineName: machine.definition.name,
        filesDir,
      }),
      who: () => ({ user_id: 'u1', name: 'Ada' }),
      remote: () => false,
      sends: async () => true,
      ...parts,
    })
  }
  const machine: Machine = {
    folder,
    filesDir,
    workspaceId: parts.workspaceId ?? newId(),
    pipelineId: parts.pipelineId ?? newId(),
    events,
    state: undefined as never,
    runs: undefined as never,
    definition: pipelineDefinition.parse(definition),
    draftId: newId(),
    draft: pipelineDefinition.parse(definition),
    async run(input = {}) {
      const { run_id } = await machine.runs.start({
        pipeline_id: machine.pipelineId,
        run_id: newId(),
        version: null,
        params: {},
        select: null,
        full: false,
        ...input,
      })
      return untilEnded(machine.runs, run_id)
    },
    async allowAll() {
      const plan = await machine.runs.plan({
        pipeline_id: machine.pipelineId,
        version: null,
        params: {},
        select: null,
        full: false,
      })
      await machine.runs.allow({ pipeline_id: machine.pipelineId, targets: plan.grants_needed })
    },
    async file(name, text) {
      const path = join(filesDir, name)
      await writeFile(path, text)
      return path
    },
    async restart() {
      await machine.stop()
      await machine.start()
    },
    async stop() {
      await machine.runs.close()
      await machine.state.close()
    },
    async start() {
      machine.runs = await open()
      await machine.runs.resume()
    },
    async close() {
      await machine.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  machine.runs = await open()
  return machine
}

export async function untilEnded(runs: RunService, runId: string): Promise<RunView> {
  for (;;) {
    const view = await runs.read(runId)
    if (view.state !== 'pending' && view.state !== 'running') return view
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** The sample pipeline with its data. */
export async function openSample(parts: Parameters<typeof openMachine>[1] = {}): Promise<Machine> {
  const machine = await openMachine({ schema_version: 1, name: 'empty' }, parts)
  const { files } = await installSample({ filesDir: machine.filesDir })
  const read = pipelineFromFiles({ ...files })
  if (!read.ok) throw new Error(JSON.stringify(read.problems))
  machine.definition = read.definition
  return machine
}
