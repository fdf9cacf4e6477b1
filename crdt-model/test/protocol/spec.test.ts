import { readFileSync } from 'node:fs'
import * as cborg from 'cborg'
import { describe, expect, it } from 'vitest'
import type { z } from 'zod'
import {
  appendHeader,
  appendItem,
  appendRun,
  appendVerdict,
  decodeItem,
  encodeItem,
  endItem,
  LIMITS,
  liveEvent,
  logItem,
  refusal,
  snapshotItem,
  storedRun,
  voidRecord,
} from '../../src/protocol/index.ts'
import { examplesOf, fromDiagnostic, toDiagnostic } from './diagnostic.ts'

const page = readFileSync(new URL('../../src/protocol/SPEC.md', import.meta.url), 'utf8')
const examples = examplesOf(page)
const FRAMES: Record<string, z.ZodType> = {
  appendHeader,
  appendItem,
  appendRun,
  appendVerdict,
  storedRun,
  endItem,
  logItem,
  snapshotItem,
  voidRecord,
}

describe('the protocol’s page', () => {
  it('[WIRE6] has an example of every frame', () => {
    expect(new Set(examples.map(example => example.frame))).toEqual(new Set(Object.keys(FRAMES)))
  })

  it.each(examples.map((example, i) => [`${i + 1}: ${example.frame}`, example] as const))(
    '[WIRE6] its example %s says the same in both notations, and is a frame',
    (_, { frame, diagnostic, hex }) => {
      const bytes = new Uint8Array(Buffer.from(hex, 'hex'))
      expect(toDiagnostic(cborg.decode(bytes))).toBe(diagnostic)
      expect(Buffer.from(cborg.encode(fromDiagnostic(diagnostic))).toString('hex')).toBe(hex)
      const read = decodeItem(bytes)
      expect(read?.rest).toHaveLength(0)
      const parsed = (FRAMES[frame] as z.ZodType).parse(read?.item)
      expect(Buffer.from(encodeItem(parsed as Record<string, unknown>)).toString('hex')).toBe(hex)
      // Nothing less than the whole is an item.
      expect(decodeItem(bytes.subarray(0, -1))).toBeNull()
    },
  )

  it('[WIRE6] names every refusal, every live event and the limits', () => {
    for (const code of refusal.options) expect(page).toContain(`| \`${code}\` |`)
    for (const option of liveEvent.options) expect(page).toContain(`| \`${option.shape.type.value}\` |`)
    expect(page).toContain(`${LIMITS.pushChanges.toLocaleString('en')} and ${LIMITS.pushBytes / 2 ** 20} MiB`)
    expect(page).toContain(
      `${LIMITS.changeBytes / 2 ** 10} KiB and ${LIMITS.changeOps.toLocaleString('en')} operations`,
    )
    expect(page).toContain(`(${LIMITS.logPage.toLocaleString('en')})`)
    expect(page).toContain(`up to ${LIMITS.waitSeconds} s`)
    expect(page).toContain(`at most ${LIMITS.packBytes / 2 ** 20} MiB`)
  })
})
