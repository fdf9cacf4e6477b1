import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { missing } from './available.ts'

/** A running S3 server, with the field names of `@aws-sdk/client-s3`. It has no bucket yet. */
export interface S3Server {
  readonly endpoint: string
  readonly region: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly forcePathStyle: boolean
  stop(): Promise<void>
}

const script = fileURLToPath(new URL('../../services/s3-server.sh', import.meta.url))
const run = promisify(execFile)

/**
 * Starts OpenStack Swift with its S3 API on a free loopback port; ready in 4 to 8 s.
 * It verifies signatures, expiry and checksums. Answers why not where its packages are not installed.
 */
export async function startS3(): Promise<S3Server | { missing: string }> {
  const reason = missing('s3')
  if (reason !== undefined) return { missing: reason }
  const dir = await mkdtemp(join(tmpdir(), 'pluto-s3-'))
  await run('bash', [script, 'start', dir])
  const settings = new Map(
    (await readFile(join(dir, 's3.env'), 'utf8'))
      .trim()
      .split('\n')
      .map(line => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )
  const setting = (name: string): string => {
    const value = settings.get(name)
    if (value === undefined) throw new Error(`s3-server.sh wrote no ${name}`)
    return value
  }
  return {
    endpoint: setting('S3_ENDPOINT'),
    region: setting('S3_REGION'),
    accessKeyId: setting('S3_ACCESS_KEY_ID'),
    secretAccessKey: setting('S3_SECRET_ACCESS_KEY'),
    forcePathStyle: setting('S3_FORCE_PATH_STYLE') === 'true',
    async stop() {
      await run('bash', [script, 'stop', dir])
      await rm(dir, { recursive: true, force: true })
    },
  }
}
