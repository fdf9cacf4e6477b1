import { AppError } from '@pluto-duck/crdt-model/errors'
import { expect, it } from 'vitest'
import { judge, pauseAfter } from '../../src/artifacts/retry.ts'

const error = (code: 'storage.expired' | 'server.unreachable') => new AppError(code, 'no')
const MINUTE = 60_000

it('[DELIVER8] a storage that refuses is asked less and less often, down to once an hour', () => {
  const pauses = Array.from({ length: 60 }, (_, n) => pauseAfter(error('storage.expired'), n + 1, 0))
  expect(pauses.slice(0, 3)).toEqual([1000, 2000, 4000])
  expect(pauses).toEqual(pauses.toSorted((a, b) => a - b))
  expect(pauses.at(-1)).toBe(60 * MINUTE)
  expect(pauseAfter(error('storage.expired'), 60, 1)).toBe(30 * MINUTE)
  expect(pauseAfter(error('storage.expired'), 1000, 0)).toBe(60 * MINUTE)
})

it('[DELIVER2] what the server does not know is believed after so many syncs, however often it was asked', () => {
  const unknown = new AppError('pipeline.not_found', 'no')
  expect(judge(unknown, { failures: 1000, syncs: 1 })).toBe('later')
  expect(judge(unknown, { failures: 13, syncs: 13 })).toBe('refused')
})

it('[DELIVER5] what can pass by itself is tried every few minutes', () => {
  expect(pauseAfter(error('server.unreachable'), 60, 0)).toBe(5 * MINUTE)
  expect(pauseAfter(error('server.unreachable'), 60, 1)).toBe(2.5 * MINUTE)
  expect(judge(error('storage.expired'), { failures: 1, syncs: 0 })).toBe('at_once')
  expect(judge(error('storage.expired'), { failures: 2, syncs: 0 })).toBe('later')
})
