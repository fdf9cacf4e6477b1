import { Cluster } from './cluster.ts'
import { simulate } from './simulate.ts'

// A process of run.ts: simulates the seeds that it is given, as many at once as it has databases. Much of a simulation is waiting.
const clusters = await Promise.all(process.argv.slice(2).map(databaseUrl => Cluster.start(databaseUrl)))
const idle = [...clusters]

process.on('message', async (message: { seed?: number; end?: boolean }) => {
  if (message.seed === undefined) {
    await Promise.all(clusters.map(cluster => cluster.stop()))
    process.disconnect()
    return
  }
  const cluster = idle.pop()
  if (!cluster) throw new Error('more seeds at once than databases')
  const result = await simulate(cluster, message.seed)
  idle.push(cluster)
  process.send?.(result)
})
for (const _ of clusters) process.send?.('ready')
