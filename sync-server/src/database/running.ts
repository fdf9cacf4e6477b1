import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { keepSecret } from '../config/index.ts'
import { embeddedUrl } from './embedded.ts'

/**
 * The address of the embedded Postgres of a data folder while a server runs on it, so that commands work beside that server;
 * null when none answers.
 */
export const runningEmbedded = async (dataDir: string): Promise<string | null> => {
  const pid = await readFile(join(dataDir, 'postgres', 'data', 'postmaster.pid'), 'utf8').catch(() => null)
  const port = Number(pid?.split('\n')[3])
  if (!(port > 0)) return null
  const url = embeddedUrl(port, await keepSecret(dataDir, 'postgres-password'))
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
  client.on('error', () => {})
  try {
    await client.connect()
    await client.end()
    return url
  } catch {
    // A stale file, or another program on that port: the caller starts the Postgres itself and hears why if it cannot.
    return null
  }
}
