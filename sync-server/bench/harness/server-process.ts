// A server in a process of its own, for benchmarks: says where it is and gives a session of its owner; ends when told to.
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pino } from 'pino'
import { startServer } from '../../src/app/index.ts'
import { readConfig } from '../../src/config/index.ts'
import { playRole } from './roles.ts'

export interface Started {
  readonly url: string
  /** A bearer token of the owner. */
  readonly token: string
}

await playRole({
  server: async (part, { databaseUrl }: { databaseUrl: string }) => {
    const config = readConfig({
      PORT: '0',
      DATABASE_URL: databaseUrl,
      AUTH_SECRET: 'a secret of forty characters, for benches.',
      DATA_DIR: await mkdtemp(join(tmpdir(), 'pluto-bench-')),
    })
    // Logs as in production, to where nobody reads.
    const log = pino({ level: config.logLevel }, pino.destination({ dest: '/dev/null', sync: false }))
    const server = await startServer(config, { log, warm: process.env.PLUTO_BENCH_COLD !== '1' })
    await server.warmed
    const owner = await server.ensureLocalOwner({ name: 'owner', email: 'owner@example.org' })
    part.say({ url: server.url, token: await server.issueSession(owner) })
    await part.heard()
    await server.close()
    part.say('ended')
  },
})
