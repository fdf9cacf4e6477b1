// W5: two devices each make 2,000 edits of one text of 10,000 characters while they are offline, then come back: until both have
// everything, stored on the server and on their disks. Bytes are those of both devices, both ways, headers included. The floor
// is Automerge alone: each side applies the other's 2,000 changes, one after the other.
import * as Automerge from '@automerge/automerge'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { median, print, sayLoad } from './harness/figures.ts'
import { startRole } from './harness/roles.ts'
import { openBench } from './harness/server.ts'
import { Device } from './harness/wire.ts'
import { randomFrom } from './harness/workloads.ts'

const FULL = process.argv.includes('--full')
const EDITS = 2_000
const ROUNDS = FULL ? 5 : 3
const DEVICE = new URL('../../engine/bench/device.ts', import.meta.url).pathname
const TEXT = 'lorem ipsum dolor sit amet '.repeat(400).slice(0, 10_000)

interface Met {
  readonly ms: number
  readonly bytes: number
  readonly cpu: number
  readonly lengths: readonly number[]
}

const base = Automerge.change(Automerge.init<{ name: string; text: string }>(), draft => {
  draft.name = 'a text'
  draft.text = TEXT
})

function floor(): number {
  const random = randomFrom(7)
  const sides = ['a', 'b'].map(letter => {
    let doc = Automerge.clone(base)
    for (let n = 0; n < EDITS; n++)
      doc = Automerge.change(doc, draft =>
        Automerge.splice(draft, ['text'], Math.floor(random() * 10_000), 0, letter),
      )
    return doc
  })
  const changes = sides.map(doc => Automerge.getChanges(base, doc))
  const started = performance.now()
  for (const [i, doc] of sides.entries()) Automerge.applyChanges(doc, changes[1 - i]!)
  return performance.now() - started
}

const bench = await openBench()
const server = await bench.startServer()
const rounds: (Met & { server: number })[] = []
const floors: number[] = []
for (let round = 0; round < ROUNDS; round++) {
  const account = await Device.workspace(server)
  const documentId = newId()
  await new Device(account).push(Automerge.getAllChanges(base).map(bytes => ({ documentId, bytes })))
  floors.push(floor())
  const cpu = server.cpuSeconds()
  const met = (await startRole(DEVICE, 'offlineEdits', { account, documentId, edits: EDITS }).heard(
    600_000,
  )) as Met
  if (met.lengths.some(length => length !== TEXT.length + 2 * EDITS)) throw new Error('edits were lost')
  rounds.push({ ...met, server: server.cpuSeconds() - cpu })
}
const of = (key: 'ms' | 'bytes' | 'cpu' | 'server'): number => median(rounds.map(one => one[key]))
print({ name: 'w5_seconds', value: of('ms') / 1000, unit: 's', floor: median(floors) / 1000, goal: 0.3 })
print({ name: 'w5_bytes', value: of('bytes') / 1e3, unit: 'KB', goal: 100 })
print({ name: 'w5_devices_cpu', value: of('cpu'), unit: 's' })
print({ name: 'w5_server_cpu', value: of('server'), unit: 's' })
sayLoad()
await server.kill()
await bench.stop()
