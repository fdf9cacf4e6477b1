const DIGITS = new TextEncoder().encode('0123456789abcdef')
const ascii = new TextDecoder()

/** What newer engines have of themselves, thirty times as quick. */
const native = (Uint8Array.prototype as { toHex?: (this: Uint8Array) => string }).toHex

/** Bytes as lower-case hex. */
export const toHex = (given: Uint8Array): string => {
  if (native) return native.call(given)
  const out = new Uint8Array(2 * given.length)
  for (let i = 0, at = 0; i < given.length; i++) {
    const byte = given[i] as number
    out[at++] = DIGITS[byte >> 4] as number
    out[at++] = DIGITS[byte & 15] as number
  }
  return ascii.decode(out)
}
