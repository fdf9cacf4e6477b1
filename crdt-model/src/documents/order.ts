import { generateKeyBetween, generateNKeysBetween } from 'fractional-indexing'

/** A thing with its place: sorted by `order`, then by `id`, so every device sees the same order even when two keys are equal. */
export interface Placed {
  readonly id: string
  readonly order: string
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
export const byPlace = (a: Placed, b: Placed): number => compare(a.order, b.order) || compare(a.id, b.id)

/**
 * The new order keys (id -> key) that make `wanted` the order of these things, as few as it can. `held` are the keys they
 * have now; an id that is not held gets one. Keys that are equal or malformed (two devices inserted at one place, another
 * program wrote nonsense) are replaced.
 */
export function reorder(held: ReadonlyMap<string, string>, wanted: readonly string[]): Map<string, string> {
  const keep = longestRising(wanted.map(id => held.get(id)))
  try {
    return assign(held, wanted, keep)
  } catch {
    // One of the kept keys is no fractional index: give everything a new one.
    return assign(held, wanted, new Set())
  }
}

function assign(
  held: ReadonlyMap<string, string>,
  wanted: readonly string[],
  keep: ReadonlySet<number>,
): Map<string, string> {
  const fresh = new Map<string, string>()
  let before: string | null = null
  for (let at = 0; at < wanted.length; ) {
    if (keep.has(at)) {
      const key: string = held.get(wanted[at]!)!
      generateKeyBetween(key, null)
      before = key
      at += 1
      continue
    }
    let end = at
    while (end < wanted.length && !keep.has(end)) end += 1
    const after: string | null = end < wanted.length ? held.get(wanted[end]!)! : null
    const keys: string[] = generateNKeysBetween(before, after, end - at)
    keys.forEach((key, index) => {
      fresh.set(wanted[at + index]!, key)
    })
    at = end
  }
  return fresh
}

/** The indexes of a longest strictly rising subsequence; absent keys never belong to it. */
function longestRising(keys: readonly (string | undefined)[]): Set<number> {
  const tails: number[] = []
  const previous: number[] = []
  keys.forEach((key, at) => {
    if (key === undefined) return
    let low = 0
    let high = tails.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (keys[tails[middle]!]! < key) low = middle + 1
      else high = middle
    }
    previous[at] = low > 0 ? tails[low - 1]! : -1
    tails[low] = at
  })
  const kept = new Set<number>()
  for (let at = tails.at(-1) ?? -1; at >= 0; at = previous[at]!) kept.add(at)
  return kept
}
