import { describe, expect, it } from 'vitest'
import { decodeChangeBytes } from '../../src/changes/admission/decode.ts'
import { DocumentIndex } from '../../src/changes/admission/document-index.ts'
import type { Refusal } from '../../src/changes/admission/limits.ts'
import { checkStructure } from '../../src/changes/admission/structure.ts'
import { forgeryWorld } from './forgeries.ts'

/** The refusal, or null after the change was added to the index. */
function admit(index: DocumentIndex, bytes: Uint8Array): Refusal | null {
  const decoded = decodeChangeBytes(bytes)
  if (!decoded.ok) return decoded.refusal
  const checked = checkStructure(index, decoded.change)
  if (!checked.ok) return checked.refusal
  index.add(checked.change)
  return null
}

function indexOf(changes: readonly Uint8Array[]): DocumentIndex {
  const index = new DocumentIndex()
  for (const bytes of changes) expect(admit(index, bytes)).toBeNull()
  return index
}

describe('forged changes', () => {
  const world = forgeryWorld()

  it('[ADM1] the corpus holds at least forty, each with a name of its own', () => {
    expect(world.forgeries.length).toBeGreaterThanOrEqual(40)
    expect(new Set(world.forgeries.map(forgery => forgery.name)).size).toBe(world.forgeries.length)
  })

  it.each(world.forgeries)('[ADM1] $name is refused as $code', ({ bytes, code }) => {
    const index = indexOf(world.history)
    const refusal = admit(index, bytes)
    expect(refusal?.code, refusal?.reason ?? 'it was admitted').toBe(code)
    expect(index.changeCount).toBe(world.history.length)
  })

  it.each(world.forgeries)('[ADM14] $name meets the same verdict beside a concurrent change', ({ bytes }) => {
    const alone = admit(indexOf(world.history), bytes)
    const beside = admit(indexOf([...world.history, world.concurrent]), bytes)
    const otherOrder = admit(
      indexOf([world.history[0]!, world.history[1]!, world.concurrent, world.history[2]!]),
      bytes,
    )
    expect(beside).toEqual(alone)
    expect(otherOrder).toEqual(alone)
  })
})
