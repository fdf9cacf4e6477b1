import { createHash, randomBytes } from 'node:crypto'
import { CreateBucketCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { available, type TestDatabase, testDatabase, testS3 } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { call, good, newWorkspace, type Published, publishedPipeline, type Reply } from './harness/calls.ts'
import { type CountingProxy, countingProxy } from './harness/counting-proxy.ts'
import { Tables } from './harness/tables.ts'
import { Folders, type Person, type ServerProcess, signUp, startServerProcess } from './harness/world.ts'

// A5: a real S3 server and real server processes. The server and its own way to S3 lie behind proxies that count bytes,
// the clients' way to S3 does not: so it shows which way an artifact goes.

/** More than any amount of metadata that the test sends, less than one artifact. */
const LITTLE = 400_000
const BIG = 6 * 1024 * 1024

interface Address {
  readonly method: string
  readonly url: string
  readonly headers: Record<string, string>
}

describe.skipIf(!available('s3'))('artifacts on S3', () => {
  const folders = new Folders()
  const bucket = `accept-${randomBytes(4).toString('hex')}`
  let database: TestDatabase
  let tables: Tables
  let s3: S3Client
  let endpoint: string
  let server: ServerProcess
  let slow: ServerProcess
  let toServer: CountingProxy
  let serverToS3: CountingProxy
  let ann: Person
  let workspace: string
  let pipeline: Published
  const device = newId()

  beforeAll(async () => {
    const { endpoint: address, region, accessKeyId, secretAccessKey, forcePathStyle } = await testS3()
    endpoint = address
    s3 = new S3Client({ endpoint, region, forcePathStyle, credentials: { accessKeyId, secretAccessKey } })
    await s3.send(new CreateBucketCommand({ Bucket: bucket }))
    database = await testDatabase()
    tables = new Tables(database.url)
    serverToS3 = await countingProxy(() => endpoint)
    toServer = await countingProxy(() => server.url)
    const start = (name: string, env: Record<string, string> = {}) =>
      startServerProcess({
        dataDir: folders.make(name),
        databaseUrl: database.url,
        env: {
          PUBLIC_URL: toServer.url,
          S3_ENDPOINT: serverToS3.url,
          S3_PUBLIC_ENDPOINT: endpoint,
          S3_REGION: region,
          S3_BUCKET: bucket,
          S3_ACCESS_KEY_ID: accessKeyId,
          S3_SECRET_ACCESS_KEY: secretAccessKey,
          S3_FORCE_PATH_STYLE: String(forcePathStyle),
          ...env,
        },
      })
    server = await start('s3')
    slow = await start('s3-slow', { NODE_OPTIONS: slowClock(20) })
    ann = await signUp(server.url, 'Ann')
    workspace = await newWorkspace(server.url, ann)
    pipeline = await publishedPipeline(server.url, workspace, ann, device)
  })
  afterAll(async () => {
    await server?.stop()
    await slow?.stop()
    await toServer?.close()
    await serverToS3?.close()
    s3?.destroy()
    await tables?.close()
    await database?.drop()
    folders.remove()
  })

  const post = (path: string, json: unknown): Promise<Reply> =>
    call(toServer.url, 'POST', path, { as: ann, device, json })
  const newRun = async (): Promise<string> => {
    const run_id = newId()
    const run = {
      run_id,
      workspace_id: workspace,
      pipeline_id: pipeline.id,
      version: 1,
      heads: pipeline.heads,
      trigger: 'manual',
      schedule_id: null,
      due_at: null,
      device_id: device,
      created_at: new Date().toISOString(),
    }
    await good(post('/v1/runs', run))
    return run_id
  }
  const fileOf = (content: Uint8Array) => ({
    artifact_id: newId(),
    kind: 'report',
    name: 'report.html',
    content_type: 'text/html',
    bytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
  })
  const send = async ({ method, url, headers }: Address, body?: Uint8Array): Promise<Response> => {
    // fetch counts the length itself; what the address says about it is what the server is asked to hold.
    const { 'content-length': _, ...rest } = headers
    return await fetch(url, { method, headers: rest, ...(body ? { body: new Uint8Array(body) } : {}) })
  }
  const objects = async (): Promise<string[]> =>
    ((await s3.send(new ListObjectsV2Command({ Bucket: bucket }))).Contents ?? []).map(each =>
      String(each.Key),
    )

  it('an upload and a download go by presigned address, and no artifact byte through the server', async () => {
    const content = randomBytes(BIG)
    const run = await newRun()
    const file = fileOf(content)
    const { upload } = await good(post(`/v1/runs/${run}/uploads`, file))
    expect(new URL(upload.url).origin).toBe(new URL(endpoint).origin)
    const put = await send(upload, content)
    expect(put.ok, await put.text()).toBe(true)
    expect((await post(`/v1/runs/${run}/artifacts`, file)).status).toBe(201)
    expect((await post(`/v1/runs/${run}/artifacts`, file)).status).toBe(200)

    const { download } = await good(post(`/v1/artifacts/${file.artifact_id}/download`, {}))
    expect(new URL(download.url).origin).toBe(new URL(endpoint).origin)
    const got = await send(download)
    expect(got.headers.get('content-disposition')).toContain('attachment')
    expect(Buffer.from(await got.arrayBuffer()).equals(content)).toBe(true)

    expect((await good(post(`/v1/runs/${run}/uploads`, file))).upload).toBeNull()
    expect(toServer.bytes()).toBeLessThan(LITTLE)
    expect(serverToS3.bytes()).toBeLessThan(LITTLE)
  })

  const refused: readonly [
    name: string,
    spoil: (address: Address, content: Buffer) => readonly [Address, Buffer],
  ][] = [
    ['another content of the same length', (address, content) => [address, Buffer.alloc(content.length, 7)]],
    ['a shorter content', (address, content) => [address, content.subarray(1)]],
    ['a longer content', (address, content) => [address, Buffer.concat([content, content])]],
    [
      'another checksum, of the content that is sent',
      (address, content) => {
        const other = Buffer.alloc(content.length, 7)
        const checksum = createHash('sha256').update(other).digest('base64')
        return [{ ...address, headers: { ...address.headers, 'x-amz-checksum-sha256': checksum } }, other]
      },
    ],
    [
      'no checksum',
      (address, content) => {
        const { 'x-amz-checksum-sha256': _, ...headers } = address.headers
        return [{ ...address, headers }, content]
      },
    ],
    [
      'another content type',
      (address, content) => [
        { ...address, headers: { ...address.headers, 'content-type': 'application/javascript' } },
        content,
      ],
    ],
    [
      'another place',
      (address, content) => [{ ...address, url: address.url.replace(workspace, newId()) }, content],
    ],
    [
      'a longer life',
      (address, content) => [
        { ...address, url: address.url.replace(/X-Amz-Expires=\d+/, 'X-Amz-Expires=604800') },
        content,
      ],
    ],
    [
      'a signature that was changed',
      (address, content) => [
        { ...address, url: address.url.replace(/X-Amz-Signature=...../, 'X-Amz-Signature=00000') },
        content,
      ],
    ],
    [
      'an address for reading, used for writing',
      (address, content) => [{ ...address, method: 'DELETE' }, content],
    ],
  ]

  it.each(refused)('refuses %s', async (_name, spoil) => {
    const content = randomBytes(5_000)
    const run = await newRun()
    const file = fileOf(content)
    const { upload } = await good(post(`/v1/runs/${run}/uploads`, file))
    const there = await objects()
    const [address, body] = spoil(upload, content)
    const put = await send(address, body).catch((error: Error) => error)
    if (put instanceof Response) expect(put.status).toBeGreaterThanOrEqual(400)
    expect(await objects()).toEqual(there)
    expect((await post(`/v1/runs/${run}/artifacts`, file)).body.code).toBe('artifact.not_uploaded')
    expect(await tables.query('select 1 from artifacts where id = $1', [file.artifact_id])).toEqual([])
  })

  it('refuses addresses that have expired, for upload and download', async () => {
    const content = randomBytes(5_000)
    const run = await newRun()
    const file = fileOf(content)
    // Written by a server whose clock is 20 minutes behind: its addresses, good for 15, are 5 minutes too old.
    const late = (path: string, json: unknown) =>
      good(call(slow.url, 'POST', path, { as: ann, device, json }))
    const { upload } = await late(`/v1/runs/${run}/uploads`, file)
    expect(Date.parse(upload.expires_at)).toBeLessThan(Date.now())
    expect((await send(upload, content)).status).toBe(403)
    expect((await post(`/v1/runs/${run}/artifacts`, file)).body.code).toBe('artifact.not_uploaded')

    const fresh = await good(post(`/v1/runs/${run}/uploads`, file))
    expect((await send(fresh.upload, content)).ok).toBe(true)
    await good(post(`/v1/runs/${run}/artifacts`, file))
    const { download } = await late(`/v1/artifacts/${file.artifact_id}/download`, {})
    expect((await send(download)).status).toBe(403)
  })
})

/** Node's option for a clock that is so many minutes behind. */
const slowClock = (minutes: number): string => {
  const script = `const shift=${-minutes * 60_000};globalThis.Date=new Proxy(Date,{
    construct:(type,given,target)=>Reflect.construct(type,given.length?given:[type.now()+shift],target),
    get:(type,key)=>key==='now'?()=>type.now()+shift:Reflect.get(type,key)})`
  return `--import=data:text/javascript,${encodeURIComponent(script)}`
}
