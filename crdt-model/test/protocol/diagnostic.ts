/** CBOR diagnostic notation (RFC 8949 8) as far as the wire needs it: maps, lists, text, `h'…'`, whole numbers, true, false, null. */
export function toDiagnostic(value: unknown): string {
  if (value instanceof Uint8Array) return `h'${Buffer.from(value).toString('hex')}'`
  if (Array.isArray(value)) return `[${value.map(toDiagnostic).join(', ')}]`
  if (value === null || typeof value !== 'object') return JSON.stringify(value)
  const entries = Object.entries(value).map(([key, held]) => `${JSON.stringify(key)}: ${toDiagnostic(held)}`)
  return `{${entries.join(', ')}}`
}

const BYTES = 'bytes:'

export function fromDiagnostic(text: string): unknown {
  const json = text.replace(/h'([0-9a-f]*)'/g, (_, hex: string) => JSON.stringify(BYTES + hex))
  return JSON.parse(json, (_, value: unknown) =>
    typeof value === 'string' && value.startsWith(BYTES)
      ? new Uint8Array(Buffer.from(value.slice(BYTES.length), 'hex'))
      : value,
  )
}

export interface Example {
  readonly frame: string
  readonly diagnostic: string
  readonly hex: string
}

/** The examples of a page: fenced blocks ```cbor FRAME with the notation, a line `--`, and the bytes in hex. */
export const examplesOf = (page: string): Example[] =>
  [...page.matchAll(/^```cbor (\w+)\n([\s\S]*?)\n--\n([\s\S]*?)\n```$/gm)].map(found => ({
    frame: found[1] as string,
    diagnostic: (found[2] as string).replace(/\s*\n\s*/g, ' ').trim(),
    hex: (found[3] as string).replace(/\s/g, ''),
  }))
