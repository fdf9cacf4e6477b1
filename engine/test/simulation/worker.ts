import { Cluster } from './cluster.ts'
import { simulate } from './simulate.ts'

// A process of run.ts: simulates the seeds that it is given, one after the other.
const [databaseUrl = ''] = process.argv.slice(2)
const cluster = await Cluster.start(databaseUrl)

process.on('message', async (message: { seed?: number; end?: boolean }) => {
  if (message.seed === undefined) {
    await cluster.stop()
    process.disconnect()
    return
  }
  process.send?.(await simulate(cluster, message.seed))
})
process.send?.('ready')
