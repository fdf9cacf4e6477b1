import type { Refusal } from './admission/limits.ts'
import type { Counter } from './store.ts'

/** What one workspace may have. */
export interface WorkspaceLimits {
  /** Bytes of all changes. Default 10 GiB. */
  readonly bytes: number
  /** Documents, drafts and comments included. Default 200,000. */
  readonly documents: number
}

export const DEFAULT_WORKSPACE_LIMITS: WorkspaceLimits = { bytes: 10 * 1024 ** 3, documents: 200_000 }

const TOO_MANY_BYTES: Refusal = {
  code: 'quota',
  reason: 'the workspace has as many bytes of changes as it may have',
}
const TOO_MANY_DOCUMENTS: Refusal = {
  code: 'quota',
  reason: 'the workspace has as many documents as it may have',
}

/**
 * How much a workspace has, and how much more is being decided. Exact on one server; several may together take more by what they are
 * deciding at one moment.
 */
export class Usage {
  private readonly limits: WorkspaceLimits
  private stored = { bytes: 0, documents: 0 }
  private reserved = { bytes: 0, documents: 0 }

  constructor(limits: WorkspaceLimits) {
    this.limits = limits
  }

  read({ bytes, documents }: Counter): void {
    this.stored = { bytes, documents }
  }

  /** Takes room until `release`, or says why there is none. */
  reserve(bytes: number, documents: number): Refusal | null {
    const { limits, stored, reserved } = this
    if (documents > 0 && stored.documents + reserved.documents + documents > limits.documents)
      return TOO_MANY_DOCUMENTS
    if (stored.bytes + reserved.bytes + bytes > limits.bytes) return TOO_MANY_BYTES
    reserved.bytes += bytes
    reserved.documents += documents
    return null
  }

  /** Gives room back: taken for good when it was stored. */
  release(bytes: number, documents: number, wasStored: boolean): void {
    this.reserved.bytes -= bytes
    this.reserved.documents -= documents
    if (!wasStored) return
    this.stored.bytes += bytes
    this.stored.documents += documents
  }
}
