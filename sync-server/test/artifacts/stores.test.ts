import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import { available, testS3 } from '@pluto-duck/test-fixtures/services'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/app/context.ts'
import { createApp } from '../../src/app/http.ts'
import { createFolderStore } from '../../src/artifacts/folder-store.ts'
import { createS3Store } from '../../src/artifacts/s3-store.ts'
import type { ArtifactStore, Presigned, StoredObject } from '../../src/artifacts/store.ts'
import { readConfig } from '../../src/index.ts'

interface Place {
  readonly store: ArtifactStore
  readonly stop: () => Promise<void>
}

const folder = async (): Promise<Place> => {
  const dir = await mkdtemp(join(tmpdir(), 'pluto-artifacts-'))
  let app: RequestListener | null = null
  const server: Server = createServer((request, response) => app?.(request, response))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const publicUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const { store, router } = createFolderStore({
    dir,
    publicUrl,
    secret: 'a secret',
    clock: systemClock,
  })
  app = createApp(readConfig({}), pino({ level: 'silent' }), [router])
  return {
    store,
    stop: async () => {
      const left = (await readdir(dir, { recursive: true })).filter(name => name.endsWith('.part'))
      server.close()
      server.closeAllConnections()
      await rm(dir, { recursive: true, force: true })
      expect(left).toEqual([])
    },
  }
}
const s3 = async (): Promise<Place> => {
  const connection = await testS3()
  const bucket = `artifacts-${randomBytes(4).toString('hex')}`
  const client = new S3Client({
    endpoint: connection.endpoint,
    region: connection.region,
    forcePathStyle: connection.forcePathStyle,
    credentials: { accessKeyId: connection.accessKeyId, secretAccessKey: connection.secretAccessKey },
  })
  await client.send(new CreateBucketCommand({ Bucket: bucket }))
  return {
    store: createS3Store({ ...connection, bucket, publicEndpoint: connection.endpoint }),
    stop: async () => client.destroy(),
  }
}

const send = async (
  { method, url, headers }: Presigned,
  body?: Uint8Array,
  more: Record<string, string> = {},
) => {
  const { 'content-length': _, ...own } = headers
  return await fetch(url, {
    method,
    headers: { ...own, ...more },
    ...(body ? { body: new Uint8Array(body) } : {}),
  })
}
const object = (content: Uint8Array, contentType = 'text/html'): StoredObject => ({
  key: `workspace/run/${randomBytes(8).toString('hex')}`,
  bytes: content.length,
  sha256: createHash('sha256').update(content).digest('hex'),
  contentType,
})

const suite = (name: string, open: () => Promise<Place>): void => {
  describe(name, () => {
    let place: Place
    beforeAll(async () => {
      place = await open()
    })
    afterAll(() => place?.stop())
    const content = Buffer.from('<p>hello</p>'.repeat(1000))

    it('[ART1] takes the declared object and gives it back as an attachment', async () => {
      const one = object(content)
      expect(await place.store.size(one.key)).toBeNull()
      const put = await send(await place.store.presignPut(one), content)
      expect(put.ok, await put.text()).toBe(true)
      expect(await place.store.size(one.key)).toBe(content.length)
      const got = await send(await place.store.presignGet(one, 'report.html'))
      expect(Buffer.from(await got.arrayBuffer()).equals(content)).toBe(true)
      expect(got.headers.get('content-disposition')).toContain('attachment')
      expect(got.headers.get('content-disposition')).toContain('report.html')
      const part = await send(await place.store.presignGet(one, 'report.html'), undefined, {
        range: 'bytes=3-7',
      })
      expect(part.status).toBe(206)
      expect(await part.text()).toBe('hello')
    })

    it('[ART2] refuses another content of the same length', async () => {
      const one = object(content)
      const other = Buffer.from(content)
      other[0] = 0x2a
      const put = await send(await place.store.presignPut(one), other)
      expect(put.status).toBeGreaterThanOrEqual(400)
      expect(await place.store.size(one.key)).toBeNull()
    })

    it('[ART3] refuses another length', async () => {
      const one = object(content)
      for (const wrong of [content.subarray(1), Buffer.concat([content, content])]) {
        const put = await send(await place.store.presignPut(one), wrong)
        expect(put.status).toBeGreaterThanOrEqual(400)
      }
      expect(await place.store.size(one.key)).toBeNull()
    })

    it('[ART4] refuses another type, and an address that was changed', async () => {
      const one = object(content)
      const signed = await place.store.presignPut(one)
      const typed = await send(signed, content, { 'content-type': 'text/plain' })
      expect(typed.status).toBeGreaterThanOrEqual(400)
      const elsewhere = await send(
        { ...signed, url: signed.url.replace('workspace/run', 'workspace/other') },
        content,
      )
      expect(elsewhere.status).toBe(403)
      const cut = await send(
        { ...signed, url: signed.url.replace(/[Ss]ignature=...../, 'Signature=00000') },
        content,
      )
      expect(cut.status).toBeGreaterThanOrEqual(400)
      expect(await place.store.size(one.key)).toBeNull()
    })

    it('[ART5] refuses an address that has expired', async () => {
      const one = object(content)
      const put = await place.store.presignPut(one, 1)
      const got = await place.store.presignGet(one, 'x', 1)
      await delay(2_500)
      expect((await send(put, content)).status).toBe(403)
      expect((await send(got)).status).toBe(403)
      expect(await place.store.size(one.key)).toBeNull()
    })

    it('[ART6] what is not there is not served, and an empty file is a file', async () => {
      const missing = await send(await place.store.presignGet(object(content), 'x'))
      expect(missing.status).toBe(404)
      const empty = object(Buffer.alloc(0))
      const put = await send(await place.store.presignPut(empty), new Uint8Array(0))
      expect(put.ok, await put.text()).toBe(true)
      expect(await place.store.size(empty.key)).toBe(0)
    })

    it('[ART11] removes what is under a prefix, and nothing beside it', async () => {
      const at = (key: string): StoredObject => ({ ...object(content), key })
      const [a, b, beside] = [at('gone/run/a'), at('gone/other/b'), at('gone-not/run/c')]
      for (const one of [a, b, beside]) await send(await place.store.presignPut(one), content)
      expect(await place.store.removeAll('gone')).toBe(2)
      expect(await Promise.all([a, b, beside].map(one => place.store.size(one.key)))).toEqual([
        null,
        null,
        content.length,
      ])
      expect(await place.store.removeAll('gone')).toBe(0)
    })

    it('answers whether it is there', async () => {
      await expect(place.store.ping()).resolves.toBeUndefined()
    })
  })
}

suite('the folder store', folder)
if (available('s3')) suite('the S3 store', s3)

describe('a store that is not there', () => {
  it('[ART7] is a typed error', async () => {
    const store = createS3Store({
      endpoint: 'http://127.0.0.1:1',
      publicEndpoint: 'http://127.0.0.1:1',
      region: 'x',
      bucket: 'b',
      accessKeyId: 'a',
      secretAccessKey: 's',
      forcePathStyle: true,
    })
    await expect(store.size('x')).rejects.toMatchObject({ code: 'storage.unavailable' })
    await expect(store.removeAll('x')).rejects.toMatchObject({ code: 'storage.unavailable' })
    await expect(store.ping()).rejects.toMatchObject({ code: 'storage.unavailable' })
  })
})
