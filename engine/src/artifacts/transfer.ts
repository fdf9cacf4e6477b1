import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { type IncomingMessage, request as plainRequest } from 'node:http'
import { request as safeRequest } from 'node:https'
import { dirname } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { presigned } from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'

type Presigned = z.infer<typeof presigned>

/** How long a storage may say nothing, in milliseconds. A file that moves may take as long as it takes. */
export interface Patience {
  /** Until it begins to answer a download. Default 30 s. */
  readonly answerMs?: number
  /** While nothing of a file moves, and until an upload that is whole is answered. Default 2 minutes. */
  readonly idleMs?: number
}

const ANSWER_MS = 30_000
const IDLE_MS = 120_000
/** What is read of a storage's words about an upload. */
const WORDS = 16_384

/** SHA-256 and size of a file. Rejects with an `AbortError` when it is aborted. */
export async function measure(
  path: string,
  signal?: AbortSignal,
): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash, { signal })
  return { bytes: (await stat(path)).size, sha256: hash.digest('hex') }
}

/**
 * Sends a file to a presigned address with exactly the signed headers; streamed, so its size does not matter to memory.
 * Throws `storage.*` by what the storage said, `server.unreachable` when it cannot be reached, `artifact.not_found` when the file is no
 * longer here.
 */
export async function sendFile(
  to: Presigned,
  path: string,
  signal: AbortSignal,
  { idleMs = IDLE_MS }: Patience = {},
): Promise<void> {
  const bytes = await bytesOf(path)
  const headers = new Headers(to.headers)
  headers.delete('host')
  const signed = headers.get('content-length')
  if (signed !== null && Number(signed) !== bytes)
    throw new AppError('artifact.mismatch', 'The file is not the one that the run made.', {
      hint: 'Run the pipeline again to make it anew.',
      details: { expected_bytes: Number(signed), bytes },
    })
  headers.set('content-length', String(bytes))
  // Not fetch: that tells nothing of how much has been sent, so it could only limit the whole.
  const url = new URL(to.url)
  const request = (url.protocol === 'https:' ? safeRequest : plainRequest)(url, {
    method: to.method,
    headers: Object.fromEntries(headers),
    signal,
    timeout: idleMs,
  })
  request.on('timeout', () => request.destroy(new Error('The storage took nothing for too long.')))
  // Also what becomes of the connection once the answer is there.
  request.on('error', () => undefined)
  const file = createReadStream(path)
  let unreadable: unknown = null
  file.on('error', error => {
    unreadable = error
    request.destroy(error)
  })
  try {
    file.pipe(request)
    const [response] = (await once(request, 'response')) as [IncomingMessage]
    const words = await wordsOf(response)
    const { statusCode = 0 } = response
    if (statusCode < 200 || statusCode > 299) throw refusal(statusCode, 'upload', words)
  } catch (cause) {
    if (cause instanceof AppError) throw cause
    throw unreadable ?? unreachable(cause)
  } finally {
    file.destroy()
    request.destroy()
  }
}

async function wordsOf(response: IncomingMessage): Promise<string> {
  let words = ''
  for await (const piece of response) if (words.length < WORDS) words += String(piece)
  return words
}

/**
 * Fetches a file from a presigned address to `path`, goes on where an earlier attempt stopped, and puts it in place only when
 * size and sha256 are what they should be. Throws `artifact.mismatch` when they are not, `server.unreachable` when the storage does not
 * begin to answer or stops in the middle. Only one at a time may fetch to a path.
 */
export async function fetchFile(
  from: Presigned,
  expected: { readonly bytes: number; readonly sha256: string },
  path: string,
  signal: AbortSignal,
  patience: Patience = {},
): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  const partial = `${path}.part`
  let there = await stat(partial).then(
    found => found.size,
    () => 0,
  )
  if (there > expected.bytes) {
    await rm(partial, { force: true })
    there = 0
  }
  if (there < expected.bytes || expected.bytes === 0) await fetchRest(from, partial, there, signal, patience)
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
  { answerMs = ANSWER_MS, idleMs = IDLE_MS }: Patience,
): Promise<void> {
  const headers = new Headers(from.headers)
  headers.delete('host')
  if (there > 0) headers.set('range', `bytes=${there}-`)
  const silent = new AbortController()
  const waitUntil = (ms: number) => setTimeout(() => silent.abort(), ms)
  let timer = waitUntil(answerMs)
  const heard = () => {
    clearTimeout(timer)
    timer = waitUntil(idleMs)
  }
  try {
    const response = await fetch(from.url, {
      method: from.method,
      headers,
      signal: AbortSignal.any([signal, silent.signal]),
      redirect: 'error',
    }).catch(cause => {
      throw unreachable(cause)
    })
    heard()
    if (!response.ok || !response.body) {
      await response.body?.cancel()
      throw refusal(response.status, 'download')
    }
    // A storage that knows no ranges sends the whole again.
    const append = there > 0 && response.status === 206
    const body = Readable.fromWeb(response.body as Parameters<typeof Readable.fromWeb>[0])
    const file = createWriteStream(partial, { flags: append ? 'a' : 'w', mode: 0o600 })
    await pipeline(heardPieces(body, heard), file)
  } finally {
    clearTimeout(timer)
  }
}

/** The pieces of a body, each told of as it comes. What goes wrong with the connection is told apart from what the disk says. */
async function* heardPieces(body: Readable, heard: () => void): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of body) {
      heard()
      yield piece
    }
  } catch (cause) {
    throw unreachable(cause)
  }
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

const unreachable = (cause: unknown): AppError =>
  new AppError('server.unreachable', 'The artifact storage cannot be reached.', { cause })

function refusal(status: number, what: string, words = ''): AppError {
  const details = { status }
  // It waited for a body that came too slowly, or is elsewhere for now: another attempt can be taken.
  const passes = status < 400 || status === 408 || words.includes('<Code>RequestTimeout</Code>')
  if (status === 403)
    return new AppError('storage.expired', `The address for the ${what} is no longer accepted.`, {
      hint: 'It is tried again with a new address. If it stays, ask the operator to run `pluto-server doctor`.',
      details,
    })
  if (status === 413)
    return new AppError('artifact.mismatch', `The ${what} is larger than something on the way allows.`, {
      hint: 'Ask the operator to raise the limit of the proxy in front of the storage (nginx: client_max_body_size).',
      details,
    })
  if (status === 404)
    return new AppError('artifact.not_found', 'The file is not in the artifact storage.', { details })
  if (status >= 500 || status === 429 || passes)
    return new AppError('storage.unavailable', `The artifact storage refused the ${what} (${status}).`, {
      details,
    })
  return new AppError('artifact.mismatch', `The artifact storage refused the ${what} (${status}).`, {
    details,
  })
}
