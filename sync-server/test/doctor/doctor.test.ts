import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { available, type TestDatabase, testDatabase, testS3 } from '@pluto-duck/test-fixtures/services'
import { Client } from 'pg'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { clockCheck } from '../../src/doctor/check.ts'
import { type Check, examine } from '../../src/doctor/index.ts'
import { type Environment, readConfig } from '../../src/index.ts'
import { runProgram } from '../program.ts'
import { TestServer } from '../server.ts'

let test: TestServer
let dir: string
let usual: Environment

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pluto-doctor-'))
  test = await TestServer.start({ DATA_DIR: dir })
  usual = {
    DATABASE_URL: test.database.url,
    AUTH_SECRET: 'a secret of forty characters, for tests.',
    DATA_DIR: dir,
    PUBLIC_URL: test.server.url,
  }
})
afterAll(async () => {
  await test?.stop()
  await rm(dir, { recursive: true, force: true })
})

const examined = async (environment: Environment): Promise<Check[]> => {
  const found: Check[] = []
  for await (const check of examine(readConfig(environment))) found.push(check)
  return found
}
/** The state of each check by its name; what is not well says what to do. */
const states = async (environment: Environment): Promise<Record<string, Check['state']>> => {
  const found = await examined(environment)
  for (const { name, state, next } of found) expect(next === null, name).toBe(state === 'ok')
  return Object.fromEntries(found.map(({ name, state }) => [name, state]))
}
const listen = async (listener: RequestListener): Promise<string> => {
  const server = createServer(listener)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

describe('all is well', () => {
  it('[DR1] says so of each part, and leaves no file', async () => {
    expect(await states(usual)).toEqual({
      database: 'ok',
      'database.durability': 'ok',
      'database.clock': 'ok',
      'database.schema': 'ok',
      'database.notifications': 'ok',
      storage: 'ok',
      // As the machine has it.
      'storage.space': expect.stringMatching(/^(ok|warning)$/),
      address: 'ok',
    })
    expect(await readdir(join(dir, 'artifacts'))).toEqual([])
  })

  it('[DR1] ends with 0, and with 1 when something is wrong', async () => {
    const well = runProgram(['doctor'], usual as Record<string, string>)
    expect(await well.ended, well.err()).toBe(0)
    expect(well.out()).toMatch(/All is well\.|Wrong: 0\./)
    const env = { ...usual, PUBLIC_URL: 'http://127.0.0.1:1' } as Record<string, string>
    const ill = runProgram(['doctor', '--json'], env)
    expect(await ill.ended).toBe(1)
    expect(JSON.parse(ill.out()).checks).toContainEqual(
      expect.objectContaining({
        name: 'address',
        state: 'wrong',
        next: expect.stringContaining('PUBLIC_URL'),
      }),
    )
  })
})

describe('database', () => {
  const altered = async (statement: (name: string) => string): Promise<TestDatabase> => {
    const database = await testDatabase()
    onTestFinished(() => database.drop())
    const client = new Client({ connectionString: database.url })
    await client.connect()
    await client.query(statement(new URL(database.url).pathname.slice(1)))
    await client.end()
    return database
  }

  it('[DR2] one that does not answer is wrong, and the rest is looked at all the same', async () => {
    const found = await states({ ...usual, DATABASE_URL: 'postgres://a:b@127.0.0.1:1/c' })
    expect(found).toMatchObject({ database: 'wrong', storage: 'ok', address: 'ok' })
  })

  it('[DR2] an embedded one is not started', async () => {
    const elsewhere = join(dir, 'elsewhere')
    const found = await states({ DATA_DIR: elsewhere, PUBLIC_URL: test.server.url })
    expect(found.database).toBe('warning')
    expect(await readdir(elsewhere)).toEqual(['artifacts'])
  })

  it('[DR2] a schema that is not up to date, and commits that do not wait for the disk', async () => {
    const { url } = await altered(name => `alter database "${name}" set synchronous_commit = off`)
    expect(await states({ ...usual, DATABASE_URL: url })).toMatchObject({
      'database.schema': 'warning',
      'database.durability': 'wrong',
    })
  })
})

it('[DR2] a clock that is off is told: a warning from a minute, wrong from five', () => {
  const at = (seconds: number) => clockCheck('clock', 'Its', 1_000_000 + seconds * 1_000, 1_000_000)
  expect([1, -59, 61, -299, 301].map(seconds => at(seconds).state)).toEqual([
    'ok',
    'ok',
    'warning',
    'warning',
    'wrong',
  ])
  expect(at(-61).said).toContain('61 s behind')
})

describe('the folder of artifacts', () => {
  it('[DR3] one that cannot be written is wrong', async () => {
    const file = join(dir, 'a-file')
    await writeFile(file, '')
    expect(await states({ ...usual, DATA_DIR: file })).toMatchObject({ storage: 'wrong', address: 'ok' })
  })
})

describe('S3', () => {
  const wellKept = {
    storage: 'ok',
    'storage.clock': 'ok',
    'storage.upload': 'ok',
    'storage.download': 'ok',
    'storage.signatures': 'ok',
    'storage.private': 'ok',
    'storage.remove': 'ok',
  }
  const asEnvironment = (of: Awaited<ReturnType<typeof testS3>>, bucket: string): Environment => ({
    ...usual,
    S3_ENDPOINT: of.endpoint,
    S3_REGION: of.region,
    S3_BUCKET: bucket,
    S3_ACCESS_KEY_ID: of.accessKeyId,
    S3_SECRET_ACCESS_KEY: of.secretAccessKey,
    S3_FORCE_PATH_STYLE: String(of.forcePathStyle),
  })

  describe.skipIf(!available('s3'))('a real service', () => {
    let env: Environment
    beforeAll(async () => {
      const connection = await testS3()
      const { endpoint, region, forcePathStyle, accessKeyId, secretAccessKey } = connection
      const client = new S3Client({
        endpoint,
        region,
        forcePathStyle,
        credentials: { accessKeyId, secretAccessKey },
      })
      await client.send(new CreateBucketCommand({ Bucket: 'doctor' }))
      client.destroy()
      env = asEnvironment(connection, 'doctor')
    })

    it('[DR3] one that does all it should', async () => {
      expect(await states(env)).toMatchObject(wellKept)
    })

    it('[DR3] a bucket that is not there, a wrong key, a wrong address', async () => {
      const each = [
        [{ S3_BUCKET: 'no-such-bucket' }, 'no bucket no-such-bucket'],
        [{ S3_SECRET_ACCESS_KEY: 'not-the-secret' }, 'refuses the key'],
        [{ S3_ENDPOINT: 'http://127.0.0.1:1' }, 'ECONNREFUSED'],
      ] as const
      for (const [setting, said] of each) {
        const storage = (await examined({ ...env, ...setting })).filter(({ name }) =>
          name.startsWith('storage'),
        )
        expect(storage, said).toEqual([
          expect.objectContaining({ name: 'storage', state: 'wrong', said: expect.stringContaining(said) }),
        ])
      }
    })

    it('[DR3] an address that clients do not reach', async () => {
      const found = await states({ ...env, S3_PUBLIC_ENDPOINT: 'http://127.0.0.1:1' })
      expect(found).toMatchObject({ storage: 'ok', 'storage.upload': 'wrong', 'storage.remove': 'ok' })
    })
  })

  it('[DR3] a service that takes everything from anybody', async () => {
    const stored = new Map<string, Buffer>()
    const endpoint = await listen(async (request, response) => {
      const path = request.url!.split('?')[0]!
      if (request.method === 'PUT') {
        stored.set(path, Buffer.concat(await request.toArray()))
        return response.end()
      }
      if (path === '/open' || path === '/open/') return response.end('<ListBucketResult></ListBucketResult>')
      const bytes = stored.get(path)
      return bytes ? response.end(bytes) : response.writeHead(404).end()
    })
    const found = await states({
      ...usual,
      S3_ENDPOINT: endpoint,
      S3_BUCKET: 'open',
      S3_ACCESS_KEY_ID: 'a',
      S3_SECRET_ACCESS_KEY: 's',
      S3_FORCE_PATH_STYLE: 'true',
    })
    expect(found).toMatchObject({
      'storage.upload': 'ok',
      'storage.download': 'warning',
      'storage.signatures': 'wrong',
      'storage.private': 'wrong',
    })
  })
})

describe('address', () => {
  const addressOf = async (environment: Environment) =>
    (await examined({ ...usual, ...environment })).filter(({ name }) => name.startsWith('address'))

  it('[DR4] one that sends on elsewhere, or is somebody else’s', async () => {
    const onward = await listen((_, response) =>
      response.writeHead(308, { location: 'https://pluto.example.org/readyz' }).end(),
    )
    expect(await addressOf({ PUBLIC_URL: onward })).toEqual([
      expect.objectContaining({ state: 'wrong', said: expect.stringContaining('https://pluto.example.org') }),
    ])
    const other = await listen((_, response) => response.end('<p>welcome'))
    expect(await addressOf({ PUBLIC_URL: other })).toEqual([
      expect.objectContaining({ state: 'wrong', said: expect.stringContaining('Something else') }),
    ])
  })

  it('[DR4] a server that is not ready says what is down', async () => {
    const body = { code: 'service.unavailable', message: 'Not ready: database.', hint: 'h' }
    const ill = await listen((_, response) => response.writeHead(503).end(JSON.stringify(body)))
    expect(await addressOf({ PUBLIC_URL: ill })).toEqual([
      expect.objectContaining({ state: 'wrong', said: expect.stringContaining('Not ready: database.') }),
    ])
  })

  it('[DR4] an address without TLS, a proxy that is not trusted, an unencrypted storage', async () => {
    const plain = await addressOf({ PUBLIC_URL: 'http://pluto.invalid' })
    expect(plain).toContainEqual(expect.objectContaining({ name: 'address.tls', state: 'wrong' }))
    const proxied = await addressOf({
      PUBLIC_URL: 'https://pluto.invalid',
      S3_PUBLIC_ENDPOINT: 'http://files.invalid',
      S3_ENDPOINT: 'http://127.0.0.1:1',
      S3_BUCKET: 'b',
      S3_ACCESS_KEY_ID: 'a',
      S3_SECRET_ACCESS_KEY: 's',
    })
    expect(proxied.map(({ name, state }) => [name, state])).toEqual([
      ['address', 'wrong'],
      ['address.proxy', 'warning'],
      ['address.storage', 'warning'],
    ])
  })
})
