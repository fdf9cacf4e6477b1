import { LIMITS } from '@pluto-duck/crdt-model/protocol'

/** What one change may cost. Checked before anything is decoded, so a hostile change is refused at the price of its header. */
export interface ChangeLimits {
  /** Bytes of the change, uncompressed. Default 256 KiB. */
  readonly bytes: number
  /** Operations of the change. Default 50,000: one for each character that is typed, pasted or deleted. */
  readonly ops: number
  /** Predecessors named by all operations of the change together. Default 100,000. */
  readonly preds: number
  /** Actors that the change names beside its own. Default 1,000. */
  readonly actors: number
  /** Changes that it depends on directly. Default 1,000. */
  readonly deps: number
  /** Bytes of its message. Default 4 KiB. */
  readonly messageBytes: number
  /** Bytes of one map key or mark name. Default 1 KiB. */
  readonly keyBytes: number
  /** Operations of one document, with its whole history. Default 2 million. Reached by order of arrival, so not by rule ADM14. */
  readonly documentOps: number
  /** Objects inside each other. Default 32: deeper documents break recursive readers. */
  readonly depth: number
}

export const DEFAULT_LIMITS: ChangeLimits = {
  bytes: LIMITS.changeBytes,
  ops: LIMITS.changeOps,
  preds: 100_000,
  actors: 1_000,
  deps: 1_000,
  messageBytes: 4 * 1024,
  keyBytes: 1024,
  documentOps: 2_000_000,
  depth: 32,
}

export type RefusalCode = 'permission' | 'invalid' | 'quota' | 'missing_deps' | 'actor'

/** Why a change is not admitted. `reason` names the rule that it breaks and holds no content of the document. */
export interface Refusal {
  readonly code: RefusalCode
  readonly reason: string
}

/** Thrown inside the pure checks only, and turned into a value by `checkStructure` and `decodeChangeBytes`. */
export class RefusedChange extends Error {
  readonly refusal: Refusal

  constructor(code: RefusalCode, reason: string) {
    super(reason)
    this.name = 'RefusedChange'
    this.refusal = { code, reason }
  }
}

export function refuse(code: RefusalCode, reason: string): never {
  throw new RefusedChange(code, reason)
}
