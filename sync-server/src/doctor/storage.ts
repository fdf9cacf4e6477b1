import { createHash, randomBytes } from 'node:crypto'
import { mkdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type ArtifactStore, createS3Store, folderOf, type Presigned } from '../artifacts/index.ts'
import type { Config, S3Settings } from '../config/index.ts'
import { type Check, clockCheck, ok, reasonOf, warning, wrong } from './check.ts'

const TIMEOUT_MS = 10_000
const LITTLE_BYTES = 1024 ** 3

/** Stores one small file as a client would, and removes it again. */
export const storageChecks = (config: Config): AsyncGenerator<Check> =>
  config.s3 === null ? folderChecks(folderOf(config)) : s3Checks(config.s3)

async function* folderChecks(folder: string): AsyncGenerator<Check> {
  const file = join(folder, `doctor-${newId()}`)
  try {
    await mkdir(folder, { recursive: true })
    await writeFile(file, 'doctor', { flush: true })
    await rm(file)
  } catch (error) {
    yield wrong(
      'storage',
      `The folder of artifacts, ${folder}, cannot be written (${reasonOf(error)}).`,
      'Let the server’s user write there, or set DATA_DIR to another folder.',
    )
    return
  }
  yield ok('storage', `Artifacts are kept in ${folder}.`)
  const { bavail, bsize } = await statfs(folder)
  const gigabytes = `${((bavail * bsize) / 1e9).toFixed(1)} GB are free there.`
  yield bavail * bsize > LITTLE_BYTES
    ? ok('storage.space', gigabytes)
    : warning(
        'storage.space',
        gigabytes,
        'Make room, or keep artifacts in an S3-compatible service (S3_BUCKET).',
      )
}

async function* s3Checks(settings: S3Settings): AsyncGenerator<Check> {
  const store = createS3Store(settings)
  try {
    await store.ping()
    yield ok('storage', `The bucket ${settings.bucket} is there.`)
  } catch (error) {
    yield unreachable(settings, error)
    return
  }
  const id = newId()
  try {
    yield* roundTrip(settings, store, `doctor/${id}`)
  } finally {
    yield await removal(store, `doctor/${id}`)
  }
}

/** HEAD has no body, so the status is all that is known. */
const unreachable = ({ endpoint, bucket }: S3Settings, error: unknown): Check => {
  const cause = (error as Error).cause as
    | { $metadata?: { httpStatusCode?: number }; name?: string }
    | undefined
  const where = endpoint ?? 'AWS'
  switch (cause?.$metadata?.httpStatusCode) {
    case 404:
      return wrong(
        'storage',
        `${where} has no bucket ${bucket}.`,
        'Make the bucket, private, or mend S3_BUCKET.',
      )
    case 301:
      return wrong('storage', `The bucket ${bucket} is in another region.`, 'Set S3_REGION to its region.')
    case 400:
    case 401:
    case 403:
      return wrong(
        'storage',
        `${where} refuses the key for the bucket ${bucket}.`,
        'Check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY and S3_REGION, the rights of the key, and this machine’s clock.',
      )
    default:
      return wrong(
        'storage',
        `${where} does not answer as S3 does (${reasonOf(cause)}).`,
        'Check S3_ENDPOINT from this machine; MinIO, Swift and Supabase need S3_FORCE_PATH_STYLE=true.',
      )
  }
}

/** What clients do, by the address that they are given. */
async function* roundTrip(settings: S3Settings, store: ArtifactStore, folder: string): AsyncGenerator<Check> {
  const content = randomBytes(64)
  const declared = {
    key: `${folder}/file`,
    bytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
    contentType: 'application/octet-stream',
  }
  const where = settings.publicEndpoint ?? 'AWS'
  const asked = Date.now()
  let put: Response
  try {
    put = await send(await store.presignPut(declared), content)
  } catch (error) {
    yield wrong(
      'storage.upload',
      `${where} does not answer (${reasonOf(error)}).`,
      'Set S3_PUBLIC_ENDPOINT to an address that this machine and everybody’s reach.',
    )
    return
  }
  const date = Date.parse(put.headers.get('date') ?? '')
  // Seconds only: half of one is what it means in the middle.
  if (!Number.isNaN(date))
    yield clockCheck('storage.clock', 'The storage’s', date + 500, (asked + Date.now()) / 2)
  if (!put.ok) {
    const code = await errorCode(put)
    yield wrong('storage.upload', `${where} refuses an upload (${code}).`, uploadHint(code))
    return
  }
  await put.body?.cancel()
  yield ok('storage.upload', `${where} takes an upload.`)
  yield await download(store, declared, content)
  yield* enforcement(store, folder, declared, content)
}

const uploadHint = (code: string): string => {
  switch (code) {
    case 'SignatureDoesNotMatch':
      return 'Check S3_SECRET_ACCESS_KEY, and that a proxy in front of the storage leaves the Host header as it is.'
    case 'RequestTimeTooSkewed':
      return 'Let this machine and the storage set their clocks by NTP.'
    case 'AccessDenied':
      return 'Let the key write objects into the bucket.'
    default:
      return 'Check S3_PUBLIC_ENDPOINT, the bucket and the rights of the key.'
  }
}

const download = async (
  store: ArtifactStore,
  declared: { readonly key: string; readonly contentType: string },
  content: Buffer,
): Promise<Check> => {
  const name = 'storage.download'
  const got = await send(await store.presignGet({ ...declared, bytes: content.length, sha256: '' }, 'doctor'))
  if (!got.ok)
    return wrong(
      name,
      `A download is refused (${await errorCode(got)}).`,
      'Let the key read objects of the bucket.',
    )
  const bytes = Buffer.from(await got.arrayBuffer())
  const attached = got.headers.get('content-disposition')?.startsWith('attachment') ?? false
  if (!bytes.equals(content))
    return wrong(
      name,
      'A download gives other bytes than were stored.',
      'Go round the proxy that changes it.',
    )
  return attached
    ? ok(name, 'A download gives what was stored, as an attachment.')
    : warning(
        name,
        'A download is not marked as an attachment: a browser may show somebody’s report as a page of the storage.',
        'Use a storage that obeys response-content-disposition.',
      )
}

/** Whether a signed address is good for what was signed alone, and nothing is readable without one. */
async function* enforcement(
  store: ArtifactStore,
  folder: string,
  declared: {
    readonly key: string
    readonly bytes: number
    readonly sha256: string
    readonly contentType: string
  },
  content: Buffer,
): AsyncGenerator<Check> {
  const name = 'storage.signatures'
  const other = Buffer.from(content)
  other[0]! ^= 0xff
  const swapped = await send(await store.presignPut({ ...declared, key: `${folder}/other` }), other)
  await swapped.body?.cancel()
  yield swapped.ok
    ? wrong(
        name,
        'The storage takes another content than was signed for.',
        'Use a storage that verifies x-amz-checksum-sha256.',
      )
    : ok(name, 'An upload is good for the signed content alone.')
  const { url } = await store.presignGet(declared, 'doctor')
  const bare = await fetch(url.split('?')[0]!, { signal: AbortSignal.timeout(TIMEOUT_MS) })
  await bare.body?.cancel()
  yield bare.ok
    ? wrong(
        'storage.private',
        'Everybody may read the bucket, without a signed address.',
        'Make the bucket private.',
      )
    : ok('storage.private', 'Nothing is readable without a signed address.')
}

const removal = async (store: ArtifactStore, folder: string): Promise<Check> => {
  try {
    await store.removeAll(folder)
    return ok('storage.remove', 'Files can be removed.')
  } catch {
    return wrong(
      'storage.remove',
      `What was stored under ${folder}/ could not be removed again.`,
      'Let the key list and delete objects of the bucket: `purge` needs that.',
    )
  }
}

const send = async ({ method, url, headers }: Presigned, body?: Buffer): Promise<Response> => {
  // Node counts the bytes itself.
  const { 'content-length': _, ...own } = headers
  return await fetch(url, {
    method,
    headers: own,
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...(body ? { body: new Uint8Array(body) } : {}),
  })
}

/** S3's own word for what is wrong, else the status. */
const errorCode = async (response: Response): Promise<string> =>
  /<Code>(\w+)<\/Code>/.exec(await response.text())?.[1] ?? String(response.status)
