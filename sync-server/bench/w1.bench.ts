// W1: a new device takes a workspace of 1,000 small documents (eight steps, eleven changes each), with `--full` also 5,000: until
// they are stored on its disk, listed by name, and its cursor is committed. The device is the host's own state, documents and sync
// in a process of its own; the floor is the same bytes, already compressed, over loopback HTTP into a file that is synced.
import { newId } from '@pluto-duck/crdt-model/protocol'
import { median, print, sayLoad } from './harness/figures.ts'
import { startRole } from './harness/roles.ts'
import { type Bench, openBench } from './harness/server.ts'
import { settled } from './harness/settled.ts'
import { type Account, Device } from './harness/wire.ts'
import { changesOf, smallDocument } from './harness/workloads.ts'

const FULL = process.argv.includes('--full')
const SIZES = FULL ? [1_000, 5_000] : [1_000]
const ROUNDS = FULL ? 5 : 3
const GOALS = new Map([
  [1_000, 0.12],
  [5_000, 0.4],
])
const DEVICE = new URL('../../engine/bench/device.ts', import.meta.url).pathname

interface NewDevice {
  readonly ms: number
  readonly bytes: number
  readonly cpu: number
}

async function seed(bench: Bench, account: Account, count: number): Promise<void> {
  const device = new Device(account)
  for (let from = 0; from < count; from += 100) {
    await device.push(
      Array.from({ length: Math.min(100, count - from) }, (_, i) => {
        const documentId = newId()
        return changesOf(smallDocument(from + i)).map(bytes => ({ documentId, bytes }))
      }).flat(),
    )
  }
  await settled(bench, account.workspaceId)
}

const bench = await openBench()
const times = new Map<number, number>()
for (const count of SIZES) {
  let server = await bench.startServer()
  const account = await Device.workspace(server)
  await seed(bench, account, count)
  await server.kill()

  const rounds: (NewDevice & { server: number; postgres: number; memory: number })[] = []
  for (let round = 0; round < ROUNDS; round++) {
    // A server that has just started knows nothing of the workspace yet.
    server = await bench.startServer()
    const here = { ...account, url: server.url }
    await new Device(here).request('/changes?after=0&limit=1').then(answer => answer.arrayBuffer())
    const before = {
      cpu: server.cpuSeconds(),
      postgres: bench.postgresCpuSeconds(),
      memory: server.memoryMb().now,
    }
    const device = startRole(DEVICE, 'newDevice', { account: here, count })
    const taken = (await device.heard()) as NewDevice
    rounds.push({
      ...taken,
      server: server.cpuSeconds() - before.cpu,
      postgres: bench.postgresCpuSeconds() - before.postgres,
      memory: server.memoryMb().peak - before.memory,
    })
    await server.kill()
  }
  const of = (key: keyof (typeof rounds)[number]): number => median(rounds.map(one => one[key]))
  const name = `w1_${count}`
  times.set(count, of('ms'))
  print({ name: `${name}_seconds`, value: of('ms') / 1000, unit: 's', goal: GOALS.get(count)! })
  print({
    name: `${name}_bytes`,
    value: of('bytes') / 1e6,
    unit: 'MB',
    ...(count === 1_000 ? { goal: 1.2 } : {}),
  })
  print({ name: `${name}_server_cpu`, value: of('server'), unit: 's', goal: 0.3 })
  print({ name: `${name}_postgres_cpu`, value: of('postgres'), unit: 's' })
  print({ name: `${name}_server_memory_growth`, value: of('memory'), unit: 'MB', goal: 40 })
  print({ name: `${name}_device_cpu`, value: of('cpu'), unit: 's' })
}
const [small, large] = [times.get(1_000), times.get(5_000)]
if (small && large) print({ name: 'w1_growth_5000_to_1000', value: large / small, unit: 'x', goal: 5.5 })
sayLoad()
await bench.stop()
