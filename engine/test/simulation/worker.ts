import { Cluster } from './cluster.ts'
import { pause } from './network.ts'
import { simulate } from './simulate.ts'

const STOP_MS = 20_000

// A process of run.ts: simulates the seeds that it is given, as many at once as it has databases. Much of a simulation is waiting.
const clusters = await Promise.all(process.argv.slice(2).map(databaseUrl => Cluster.start(databaseUrl)))
const idle = [...clusters]

process.on('message', async (message: { seed?: number; end?: boolean }) => {
  if (message.seed === undefined) {
    const stopped = Promise.all(clusters.map(cluster => cluster.stop())).then(() => true)
    const late = pause(STOP_MS).then(() => false)
    // All seeds are counted: what hangs now is said, and keeps nobody waiting.
    if (!(await Promise.race([stopped, late]))) console.error(`servers did not end within ${STOP_MS} ms`)
    process.disconnect()
    process.exit()
  }
  const cluster = idle.pop()
  if (!cluster) throw new Error('more seeds at once than databases')
  const result = await simulate(cluster, message.seed)
  idle.push(cluster)
  process.send?.(result)
})
for (const _ of clusters) process.send?.('ready')
