/**
 * Long arrays as parameters of hot statements. The driver writes an array element by element, escapes each, and writes bytes as hexadecimal
 * text; for the thousands of values of one append that was a good part of storing them.
 */

/** What stands in an array's text as it is. */
const PLAIN = /^[\w-]+$/

/** As `values`, for an array of any type; written at once where no value needs an escape. */
export function arrayOf(values: readonly string[]): string | readonly string[] {
  let last: string | null = null
  for (const value of values) {
    if (value === last) continue
    // Unquoted, it would be none.
    if (!PLAIN.test(value) || value.toLowerCase() === 'null') return values
    last = value
  }
  return `{${values.join(',')}}`
}

export const numbersOf = (values: readonly (number | boolean)[]): string => `{${values.join(',')}}`

/** Byte strings end to end, which travel as they are, and where each begins: from 1, as `substring` counts. */
export interface Joined {
  readonly bytes: Buffer
  readonly begins: string
  readonly lengths: string
}

export function joined(parts: readonly Uint8Array[]): Joined {
  let at = 1
  const begins = parts.map(part => {
    at += part.length
    return at - part.length
  })
  return {
    bytes: Buffer.concat(parts),
    begins: numbersOf(begins),
    lengths: numbersOf(parts.map(part => part.length)),
  }
}
