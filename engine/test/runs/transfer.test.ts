import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { fetchFile } from '../../src/artifacts/transfer.ts'

const CONTENT = Buffer.from('a line of text\n'.repeat(20_000))
const expected = { bytes: CONTENT.length, sha256: createHash('sha256').update(CONTENT).digest('hex') }
const never = new AbortController().signal

let folder: string
let server: Server
let ranges: (string | undefined)[]
let served: Buffer
let ignoresRanges = false
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-transfer-'))
  ranges = []
  served = CONTENT
  ignoresRanges = false
  server = createServer((request, response) => {
    ranges.push(request.headers.range)
    const from = ignoresRanges ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(from > 0 ? 206 : 200).end(served.subarray(from))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
afterEach(() => {
  server.close()
  rmSync(folder, { recursive: true, force: true })
})

const address = () => ({
  method: 'GET' as const,
  url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`,
  headers: {},
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
