/** Many small byte strings as one message: each by itself would cost more to send than to try. */
export interface Parts {
  /** All, in a buffer of their own. */
  readonly bytes: Uint8Array
  readonly lengths: readonly number[]
}

/** Copied into a buffer that can be given away: a part of a push would take the whole push along. */
export function together(parts: readonly Uint8Array[]): Parts {
  const lengths = parts.map(part => part.length)
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  let at = 0
  for (const part of parts) {
    bytes.set(part, at)
    at += part.length
  }
  return { bytes, lengths }
}

/** What was put together. */
export function apart({ bytes, lengths }: Parts): Uint8Array[] {
  let at = 0
  return lengths.map(length => {
    at += length
    return bytes.subarray(at - length, at)
  })
}
