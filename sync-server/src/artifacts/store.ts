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

/** The objects of a store, as the server's own programs see them. Throws `storage.unavailable` when it does not answer. */
export interface StoredFiles {
  /** The bytes of an object that was uploaded whole; null when it is not there. */
  size(key: string): Promise<number | null>
  /** Removes every object whose key begins with the prefix and a `/`; answers how many. What is not there is no error. */
  removeAll(prefix: string): Promise<number>
  ping(): Promise<void>
}

/** The key of an artifact. The hash is part of it: an address that was signed for one content can never replace another. */
export const keyOf = (of: {
  readonly workspaceId: string
  readonly runId: string
  readonly artifactId: string
  readonly sha256: string
}): string => `${of.workspaceId}/${of.runId}/${of.artifactId}-${of.sha256}`

/**
 * Where artifacts lie. Their bytes go between the client and the store by presigned addresses; the API never handles one.
 * A store that does not answer throws `storage.unavailable`.
 */
export interface ArtifactStore extends StoredFiles {
  /** An address that takes exactly this object: another length, type or content is refused by the store, and so is a late one. */
  presignPut(object: StoredObject, seconds?: number): Promise<Presigned>
  /** An address that serves the object as an attachment of that name. */
  presignGet(object: StoredObject, name: string, seconds?: number): Promise<Presigned>
}

/** A `Content-Disposition` that makes a browser save the file, whatever it is. */
export const attachment = (name: string): string =>
  `attachment; filename="${name.replace(/[^\w. -]/g, '_')}"; filename*=UTF-8''${encodeURIComponent(name)}`
