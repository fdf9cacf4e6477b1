import type { presigned } from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'

export type Presigned = z.infer<typeof presigned>

export interface StoredObject {
  /** A path of the store, made by the server: only a-z, 0-9, `-` and `/`. */
  readonly key: string
  readonly bytes: number
  /** 64 hex digits. */
  readonly sha256: string
  readonly contentType: string
}

/** Seconds for which a presigned address is good, when nothing else is said. */
export const PRESIGN_SECONDS = 15 * 60

/**
 * Where artifacts lie. Their bytes go between the client and the store by presigned addresses; the API never handles one.
 * A store that does not answer throws `storage.unavailable`.
 */
export interface ArtifactStore {
  /** An address that takes exactly this object: another length, type or content is refused by the store, and so is a late one. */
  presignPut(object: StoredObject, seconds?: number): Promise<Presigned>
  /** An address that serves the object as an attachment of that name. */
  presignGet(object: StoredObject, name: string, seconds?: number): Promise<Presigned>
  /** The bytes of an object that was uploaded whole; null when it is not there. */
  size(key: string): Promise<number | null>
  ping(): Promise<void>
}

/** A `Content-Disposition` that makes a browser save the file, whatever it is. */
export const attachment = (name: string): string =>
  `attachment; filename="${name.replace(/[^\w. -]/g, '_')}"; filename*=UTF-8''${encodeURIComponent(name)}`
