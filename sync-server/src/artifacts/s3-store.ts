import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
} from '@aws-sdk/client-s3'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { S3Settings } from '../config/index.ts'
import { type ArtifactStore, attachment, PRESIGN_SECONDS, type Presigned } from './store.ts'

const CHECKSUM = 'x-amz-checksum-sha256'

/** Any S3-compatible service. Addresses are signed for the endpoint that clients reach; the server asks through its own. */
export const createS3Store = (settings: S3Settings): ArtifactStore => {
  const { bucket: Bucket } = settings
  const own = new S3Client(clientConfig(settings, settings.endpoint))
  const forClients = new S3Client(clientConfig(settings, settings.publicEndpoint))

  const expiresAt = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString()

  return {
    async presignPut({ key, bytes, sha256, contentType }, seconds = PRESIGN_SECONDS): Promise<Presigned> {
      const checksum = Buffer.from(sha256, 'hex').toString('base64')
      const command = new PutObjectCommand({
        Bucket,
        Key: key,
        ContentLength: bytes,
        ContentType: contentType,
        ChecksumSHA256: checksum,
      })
      const url = await getSignedUrl(forClients, command, {
        expiresIn: seconds,
        signableHeaders: new Set(['host', 'content-type', 'content-length']),
        // In the query the checksum would not be verified: as a signed header another body is refused.
        unhoistableHeaders: new Set([CHECKSUM]),
      })
      return {
        method: 'PUT',
        url,
        headers: { 'content-type': contentType, 'content-length': String(bytes), [CHECKSUM]: checksum },
        expires_at: expiresAt(seconds),
      }
    },

    async presignGet({ key, contentType }, name, seconds = PRESIGN_SECONDS): Promise<Presigned> {
      const command = new GetObjectCommand({
        Bucket,
        Key: key,
        ResponseContentDisposition: attachment(name),
        ResponseContentType: contentType,
        ResponseCacheControl: 'private, no-store',
      })
      const url = await getSignedUrl(forClients, command, { expiresIn: seconds })
      return { method: 'GET', url, headers: {}, expires_at: expiresAt(seconds) }
    },

    async size(key: string): Promise<number | null> {
      try {
        const head = await own.send(new HeadObjectCommand({ Bucket, Key: key }))
        return head.ContentLength ?? null
      } catch (error) {
        if (statusOf(error) === 404) return null
        throw unavailable(error)
      }
    },

    async removeAll(prefix: string): Promise<number> {
      let removed = 0
      try {
        // One by one: not every service knows the request that names many.
        for (;;) {
          const { Contents = [] } = await own.send(new ListObjectsV2Command({ Bucket, Prefix: `${prefix}/` }))
          if (Contents.length === 0) return removed
          for (const { Key } of Contents) await own.send(new DeleteObjectCommand({ Bucket, Key }))
          removed += Contents.length
        }
      } catch (error) {
        throw unavailable(error)
      }
    },

    async ping(): Promise<void> {
      try {
        await own.send(new HeadBucketCommand({ Bucket }))
      } catch (error) {
        throw unavailable(error)
      }
    },
  }
}

const clientConfig = (settings: S3Settings, endpoint: string | undefined): S3ClientConfig => ({
  ...(endpoint === undefined ? {} : { endpoint }),
  region: settings.region,
  credentials: { accessKeyId: settings.accessKeyId, secretAccessKey: settings.secretAccessKey },
  forcePathStyle: settings.forcePathStyle,
  requestChecksumCalculation: 'WHEN_REQUIRED',
  responseChecksumValidation: 'WHEN_REQUIRED',
  maxAttempts: 3,
})

const statusOf = (error: unknown): number | undefined =>
  typeof error === 'object' && error !== null && '$metadata' in error
    ? (error.$metadata as { httpStatusCode?: number }).httpStatusCode
    : undefined

const unavailable = (cause: unknown): AppError =>
  new AppError('storage.unavailable', 'The artifact storage does not answer as it should.', { cause })
