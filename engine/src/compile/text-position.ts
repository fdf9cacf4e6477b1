/** Where something is in a text: both count from 1, columns in UTF-16 code units. */
export interface TextPosition {
  readonly line: number
  readonly column: number
}

/** The position of a UTF-16 offset. An offset past the end is the end. */
export function positionAt(text: string, offset: number): TextPosition {
  const before = text.slice(0, Math.max(0, Math.min(offset, text.length)))
  const line = before.split('\n').length
  return { line, column: before.length - (before.lastIndexOf('\n') + 1) + 1 }
}

/**
 * The UTF-16 offset of a UTF-8 byte offset, which is what DuckDB counts in. Null when the engine knows no place: it says so
 * with 2^64 - 1, which JSON turns into something near it.
 */
export function offsetOfByte(text: string, byte: number | null | undefined): number | null {
  if (byte === null || byte === undefined || !Number.isFinite(byte) || byte < 0) return null
  const bytes = Buffer.from(text, 'utf8')
  return byte > bytes.length ? null : bytes.subarray(0, byte).toString('utf8').length
}

/** The position of a byte offset, and the start of the text when the engine knows no place. */
export function positionAtByte(text: string, byte: number | null | undefined): TextPosition {
  return positionAt(text, offsetOfByte(text, byte) ?? 0)
}
