import { newId } from '@pluto-duck/crdt-model/protocol'
import { systemClock } from '../../src/clock.ts'
import { TopicBus } from '../../src/host/bus.ts'
import { RunService } from '../../src/runs/index.ts'
import { State } from '../../src/state/index.ts'
import { AWAY } from './service.ts'

/** A host that starts a run and says so; its test kills it at some moment. Arguments: a JSON of what the run is about. */
const about = JSON.parse(process.argv[2] ?? '{}')
const state = await State.open(about.folder)
const runs = await RunService.open({
  state,
  dataFolder: about.folder,
  server: AWAY,
  bus: new TopicBus(() => undefined),
  clock: systemClock,
  log: { error: () => undefined },
  deviceId: newId(),
  resolve: async () => about.target,
  who: () => ({ user_id: 'u1', name: 'Ada' }),
  remote: () => false,
  sends: async () => true,
})
const ask = { pipeline_id: about.pipelineId, version: null, params: {}, select: null, full: false }
await runs.start({ ...ask, run_id: about.runId })
process.stdout.write('started\n')
