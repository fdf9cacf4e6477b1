import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { fetchFile, sendFile } from '../../src/artifacts/transfer.ts'
import { ServerRuns } from '../../src/runs/server-runs.ts'
import type { ServerCalls } from '../../src/versions/server-calls.ts'

const CONTENT = Buffer.from('a line of text\n'.repeat(20_000))
const expected = { bytes: CONTENT.length, sha256: createHash('sha256').update(CONTENT).digest('hex') }
const never = new AbortController().signal

let folder: string
let server: Server
let ranges: (string | undefined)[]
let served: Buffer
let ignoresRanges = false
let answer: RequestListener
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-transfer-'))
  ranges = []
  served = CONTENT
  ignoresRanges = false
  answer = (request, response) => {
    ranges.push(request.headers.range)
    const from = ignoresRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(from > 0 ? 206 : 200).end(served.subarray(from))
  }
  server = createServer((request, response) => answer(request, response))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  server.close()
  server.closeAllConnections()
  rmSync(folder, { recursive: true, force: true })
})

const address = (method: 'GET' | 'PUT' = 'GET', headers: Record<string, string> = {}) => ({
  method,
  url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`,
  headers,
  expires_at: new Date().toISOString(),
})

it('[DELIVER3] a download goes on where it stopped', async () => {
  const path = join(folder, 'file')
  writeFileSync(`${path}.part`, CONTENT.subarray(0, 1000))
  await fetchFile(address(), expected, path, never)
  expect(ranges).toEqual(['bytes=1000-'])
  expect(readFileSync(path).equals(CONTENT)).toBe(true)
})

it('[DELIVER3] a storage without ranges sends the whole again', async () => {
  ignoresRanges = true
  const path = join(folder, 'file')
  writeFileSync(`${path}.part`, CONTENT.subarray(0, 1000))
  await fetchFile(address(), expected, path, never)
  expect(readFileSync(path).equals(CONTENT)).toBe(true)
})

it('[DELIVER3] other bytes than those that were registered are never put in place', async () => {
  served = Buffer.from(CONTENT)
  served[5000] = 0
  const path = join(folder, 'file')
  await expect(fetchFile(address(), expected, path, never)).rejects.toMatchObject({
    code: 'artifact.mismatch',
  })
  expect([existsSync(path), existsSync(`${path}.part`)]).toEqual([false, false])
})

it('[DELIVER3] a part that is longer than the file is fetched anew', async () => {
  const path = join(folder, 'file')
  writeFileSync(`${path}.part`, Buffer.concat([CONTENT, CONTENT]))
  await fetchFile(address(), expected, path, never)
  expect(ranges).toEqual([undefined])
  expect(readFileSync(path).equals(CONTENT)).toBe(true)
})

it('[DELIVER5] a transfer that moves may take longer than each of its limits', async () => {
  const patience = { answerMs: 700, idleMs: 700 }
  const sent = join(folder, 'sent')
  // More than the buffers of a connection hold.
  const big = Buffer.alloc(16 * 2 ** 20, 'x')
  writeFileSync(sent, big)
  let taken = 0
  answer = async (request, response) => {
    if (request.method === 'GET') {
      response.writeHead(200)
      const piece = Math.ceil(CONTENT.length / 10)
      for (let at = 0; at < CONTENT.length; at += piece) {
        response.write(CONTENT.subarray(at, at + piece))
        await sleep(100)
      }
      return response.end()
    }
    for await (const piece of request) {
      taken += piece.length
      await sleep(4)
    }
    return response.end()
  }
  const path = join(folder, 'file')
  await Promise.all([
    sendFile(address('PUT', { 'content-length': String(big.length) }), sent, never, patience),
    fetchFile(address(), expected, path, never, patience),
  ])
  expect(taken).toBe(big.length)
  expect(readFileSync(path).equals(CONTENT)).toBe(true)
})

it('[DELIVER5] a transfer of which nothing moves ends, and a download then goes on where it stopped', async () => {
  const patience = { answerMs: 10_000, idleMs: 200 }
  const inOrder = answer
  answer = (request, response) => {
    if (request.method === 'GET') response.writeHead(200).write(CONTENT.subarray(0, 1000))
  }
  const path = join(folder, 'file')
  writeFileSync(join(folder, 'sent'), CONTENT)
  const unreachable = { code: 'server.unreachable' }
  await expect(sendFile(address('PUT'), join(folder, 'sent'), never, patience)).rejects.toMatchObject(
    unreachable,
  )
  await expect(fetchFile(address(), expected, path, never, patience)).rejects.toMatchObject(unreachable)
  answer = inOrder
  await fetchFile(address(), expected, path, never)
  expect(ranges).toEqual(['bytes=1000-'])
  expect(readFileSync(path).equals(CONTENT)).toBe(true)
})

it('[DELIVER5] a storage that does not begin to answer is not waited for', async () => {
  answer = () => undefined
  const asked = fetchFile(address(), expected, join(folder, 'file'), never, { answerMs: 100 })
  await expect(asked).rejects.toMatchObject({ code: 'server.unreachable' })
})

it.each([
  [307, '', 'storage.unavailable'],
  [400, '<Error><Code>RequestTimeout</Code></Error>', 'storage.unavailable'],
  [400, '<Error><Code>BadDigest</Code></Error>', 'artifact.mismatch'],
  [403, '', 'storage.expired'],
  [408, '', 'storage.unavailable'],
  [503, '', 'storage.unavailable'],
])('[DELIVER5] an upload that is answered %i %s is %s', async (status, words, code) => {
  answer = (request, response) => {
    request.resume().on('end', () => response.writeHead(status).end(words))
  }
  const path = join(folder, 'sent')
  writeFileSync(path, CONTENT)
  await expect(sendFile(address('PUT'), path, never)).rejects.toMatchObject({ code })
})

it('[DELIVER4] a file that is gone, or is another one by its size, is not sent', async () => {
  const path = join(folder, 'sent')
  const to = address('PUT', { 'content-length': '5', host: 'elsewhere' })
  await expect(sendFile(to, path, never)).rejects.toMatchObject({ code: 'artifact.not_found' })
  writeFileSync(path, 'four')
  await expect(sendFile(to, path, never)).rejects.toMatchObject({ code: 'artifact.mismatch' })
  expect(ranges).toEqual([])
})

it('[DELIVER6] two views of a file fetch it once', async () => {
  const artifact = { run_id: newId(), name: 'report.html', ...expected }
  const call = (async () => ({ artifact, download: address() })) as unknown as ServerCalls['call']
  const runs = new ServerRuns({
    server: { call },
    dataFolder: folder,
    clock: Date,
    log: { error: () => undefined },
    nameOf: async id => id,
  })
  const found = await Promise.all(['a', 'b', 'c'].map(id => runs.download(id)))
  expect(ranges).toEqual([undefined])
  for (const { path } of found) expect(readFileSync(path).equals(CONTENT)).toBe(true)
})
