import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream, openAsBlob } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { presigned } from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'

type Presigned = z.infer<typeof presigned>

/** Milliseconds in which a storage has to begin to answer a download. */
const ANSWER_MS = 30_000

/** SHA-256 and size of a file. Rejects with an `AbortError` when it is aborted. */
export async function measure(path: string, signal?: AbortSignal): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash, { signal })
  return { bytes: (await stat(path)).size, sha256: hash.digest('hex') }
}

/**
 * Sends a file to a presigned address with exactly the signed headers; streamed, so its size does not matter to memory.
 * Throws `storage.*` by what the storage said, `server.unreachable` when it cannot be reached, `artifact.not_found` when the file is no
 * longer here.
 */
export async function sendFile(to: Presigned, path: string, signal: AbortSignal): Promise<void> {
  await bytesOf(path)
  const headers = new Headers(to.headers)
  // Comes from the body itself, and fetch refuses to be told.
  headers.delete('content-length')
  headers.delete('host')
  const type = headers.get('content-type')
  const response = await reach(to.url, {
    method: to.method,
    headers,
    body: await openAsBlob(path, type === null ? {} : { type }),
    signal,
  })
  await response.arrayBuffer()
  if (!response.ok) throw refusal(response.status, 'upload')
}

/**
 * Fetches a file from a presigned address to `path`, goes on where an earlier attempt stopped, and puts it in place only when
 * size and sha256 are what they should be. Throws `artifact.mismatch` when they are not.
 */
export async function fetchFile(
  from: Presigned,
  expected: { readonly bytes: number; readonly sha256: string },
  path: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const partial = `${path}.part`
  const there = await stat(partial).then(
    found => found.size,
    () => 0,
  )
  if (there > expected.bytes) await rm(partial, { force: true })
  if (there < expected.bytes || expected.bytes === 0) await fetchRest(from, partial, there, signal)
  const got = await measure(partial)
  if (got.bytes !== expected.bytes || got.sha256 !== expected.sha256) {
    if (got.bytes >= expected.bytes) await rm(partial, { force: true })
    throw new AppError('artifact.mismatch', 'The downloaded file is not the one that was registered.', {
      hint: 'Download it again.',
      details: { expected_bytes: expected.bytes, bytes: got.bytes },
    })
  }
  await rename(partial, path)
}

async function fetchRest(
  from: Presigned,
  partial: string,
  there: number,
  signal: AbortSignal,
): Promise<void> {
  const headers = new Headers(from.headers)
  headers.delete('host')
  if (there > 0) headers.set('range', `bytes=${there}-`)
  const response = await reach(from.url, { method: from.method, headers, signal })
  if (!response.ok || !response.body) throw refusal(response.status, 'download')
  // A storage that knows no ranges sends the whole again.
  const append = there > 0 && response.status === 206
  await pipeline(
    Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0]),
    createWriteStream(partial, { flags: append ? 'a' : 'w', mode: 0o600 }),
  )
}

async function bytesOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw cause
    throw new AppError('artifact.not_found', 'The file is no longer on this machine.', {
      hint: 'Run the pipeline again to make it anew.',
    })
  }
}

async function reach(url: string, init: RequestInit): Promise<Response> {
  const timeout = AbortSignal.timeout(init.method === 'GET' ? ANSWER_MS : 15 * 60_000)
  const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout
  try {
    return await fetch(url, { ...init, signal, redirect: 'error' })
  } catch (cause) {
    throw new AppError('server.unreachable', 'The artifact storage cannot be reached.', { cause })
  }
}

function refusal(status: number, what: string): AppError {
  const details = { status }
  if (status === 403)
    return new AppError('storage.expired', `The address for the ${what} is no longer accepted.`, { details })
  if (status === 404)
    return new AppError('artifact.not_found', 'The file is not in the artifact storage.', { details })
  if (status >= 500 || status === 429)
    return new AppError('storage.unavailable', `The artifact storage refused the ${what} (${status}).`, {
      details,
    })
  return new AppError('artifact.mismatch', `The artifact storage refused the ${what} (${status}).`, {
    details,
  })
}
