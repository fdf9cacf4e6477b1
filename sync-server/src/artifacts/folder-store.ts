import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Request, type Response, Router } from 'express'
import { z } from 'zod'
import type { Clock } from '../app/context.ts'
import {
  type ArtifactStore,
  attachment,
  PRESIGN_SECONDS,
  type Presigned,
  type StoredFiles,
  type StoredObject,
} from './store.ts'

export interface FolderStoreOptions {
  readonly dir: string
  readonly publicUrl: string
  readonly secret: string
  readonly clock: Clock
}

const KEY = /^[a-z0-9][a-z0-9/-]{0,300}$/
const signed = z.object({
  expires: z.coerce.number().int(),
  bytes: z.coerce.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  type: z.string().max(300),
  name: z.string().max(300).default(''),
  signature: z.string().max(100),
})
type Signed = z.infer<typeof signed>

/**
 * Artifacts in a folder of the server, behind addresses under `/storage/` that are signed like S3's: the default without
 * S3 settings. The API still only signs; these routes stream.
 */
export const createFolderStore = (options: FolderStoreOptions): { store: ArtifactStore; router: Router } => {
  const { dir, publicUrl, clock } = options
  const key = Buffer.from(hkdfSync('sha256', options.secret, '', 'pluto storage addresses', 32))

  const sign = (method: string, path: string, part: Omit<Signed, 'signature'>): string =>
    createHmac('sha256', key)
      .update(JSON.stringify([method, path, part.expires, part.bytes, part.sha256, part.type, part.name]))
      .digest('base64url')

  const address = (
    method: 'PUT' | 'GET',
    object: StoredObject,
    name: string,
    seconds: number,
  ): { url: string; expires: number } => {
    const expires = Math.floor(clock.now().getTime() / 1000) + seconds
    const part = { expires, bytes: object.bytes, sha256: object.sha256, type: object.contentType, name }
    const query = new URLSearchParams({
      ...part,
      expires: String(expires),
      bytes: String(object.bytes),
      signature: sign(method, object.key, part),
    })
    return { url: `${publicUrl}/storage/${object.key}?${query}`, expires }
  }

  const verify = (request: Request, method: string): { path: string; part: Signed } => {
    const path = request.path.slice('/storage/'.length)
    const parsed = signed.safeParse(request.query)
    if (!parsed.success || !KEY.test(path)) throw forged()
    const expected = Buffer.from(sign(method, path, parsed.data))
    const given = Buffer.from(parsed.data.signature)
    if (expected.length !== given.length || !timingSafeEqual(expected, given)) throw forged()
    if (parsed.data.expires * 1000 < clock.now().getTime()) {
      throw new AppError('storage.expired', 'This address has expired.')
    }
    return { path, part: parsed.data }
  }

  const router = Router()
  router.put('/storage/{*key}', async (request, response) => {
    response.locals.route = 'storage.put'
    const { path, part } = verify(request, 'PUT')
    if (request.get('content-type') !== part.type || Number(request.get('content-length')) !== part.bytes) {
      throw new AppError('artifact.mismatch', 'Length or type of the file is not what was declared.')
    }
    await receive(request, join(dir, path), part)
    response.status(200).set('cache-control', 'no-store').end()
  })
  router.get('/storage/{*key}', async (request, response) => {
    response.locals.route = 'storage.get'
    const { path, part } = verify(request, 'GET')
    await serve(response, join(dir, path), part)
  })

  return {
    router,
    store: {
      async presignPut(object, seconds = PRESIGN_SECONDS): Promise<Presigned> {
        const { url, expires } = address('PUT', object, '', seconds)
        return {
          method: 'PUT',
          url,
          headers: { 'content-type': object.contentType, 'content-length': String(object.bytes) },
          expires_at: new Date(expires * 1000).toISOString(),
        }
      },
      async presignGet(object, name, seconds = PRESIGN_SECONDS): Promise<Presigned> {
        const { url, expires } = address('GET', object, name, seconds)
        return { method: 'GET', url, headers: {}, expires_at: new Date(expires * 1000).toISOString() }
      },
      ...folderFiles(dir),
    },
  }
}

/** The files of a folder store, for programs that give no addresses. */
export const folderFiles = (dir: string): StoredFiles => ({
  async size(path): Promise<number | null> {
    const found = await stat(join(dir, path)).catch(absent)
    return found?.size ?? null
  },
  async removeAll(prefix): Promise<number> {
    if (!KEY.test(prefix)) throw new AppError('internal', 'Not a prefix of the store.')
    const folder = join(dir, prefix)
    const there = await readdir(folder, { recursive: true, withFileTypes: true }).catch(absent)
    if (there === null) return 0
    await rm(folder, { recursive: true }).catch(cause => {
      throw new AppError('storage.unavailable', 'The folder of artifacts cannot be written.', { cause })
    })
    return there.filter(one => one.isFile()).length
  },
  async ping(): Promise<void> {
    try {
      await mkdir(dir, { recursive: true })
    } catch (cause) {
      throw new AppError('storage.unavailable', 'The folder of artifacts cannot be written.', { cause })
    }
  },
})

const forged = (): AppError =>
  new AppError('storage.signature', 'This address was not given by the server like that.')

const absent = (error: NodeJS.ErrnoException): null => {
  if (error.code === 'ENOENT') return null
  throw new AppError('storage.unavailable', 'The folder of artifacts cannot be read.', { cause: error })
}

/** Streams to a file aside; only a whole one of the right content gets its name, so no reader ever sees a part. */
const receive = async (request: Request, path: string, { bytes, sha256 }: Signed): Promise<void> => {
  const part = `${path}.${randomBytes(6).toString('hex')}.part`
  await mkdir(dirname(path), { recursive: true })
  const hash = createHash('sha256')
  let length = 0
  const check = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      length += chunk.length
      hash.update(chunk)
      done(length > bytes ? mismatch() : null, chunk)
    },
  })
  try {
    await pipeline(request, check, createWriteStream(part, { mode: 0o600, flush: true }))
    if (length !== bytes || hash.digest('hex') !== sha256) throw mismatch()
    await rename(part, path)
    await syncFolder(dirname(path))
  } catch (error) {
    if (error instanceof AppError) throw error
    if (!request.complete) throw new AppError('request.invalid', 'The upload ended before it was whole.')
    throw new AppError('storage.unavailable', 'The file could not be stored.', { cause: error })
  } finally {
    await rm(part, { force: true })
  }
}

const mismatch = (): AppError =>
  new AppError('artifact.mismatch', 'The content of the file is not what was declared.')

/** After a power cut the new name is there too. */
const syncFolder = async (folder: string): Promise<void> => {
  if (process.platform === 'win32') return
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const serve = async (response: Response, path: string, { type, name }: Signed): Promise<void> => {
  // A report is somebody's HTML: saved, never shown on this origin, and without rights if a browser shows it all the same.
  response.set({
    'content-type': type,
    'content-disposition': attachment(name),
    'content-security-policy': "default-src 'none'; sandbox",
    'cache-control': 'private, no-store',
  })
  await new Promise<void>((resolve, reject) => {
    response.sendFile(path, { cacheControl: false, dotfiles: 'allow' }, (error?: NodeJS.ErrnoException) => {
      if (!error || response.headersSent) resolve()
      else if (error.code === 'ENOENT') reject(new AppError('artifact.not_found', 'There is no such file.'))
      else reject(error)
    })
  })
}
