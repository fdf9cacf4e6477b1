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

it('[DELIVER5] what can pass by itself is tried every few minutes', () => {
  expect(pauseAfter(error('server.unreachable'), 60, 0)).toBe(5 * MINUTE)
  expect(pauseAfter(error('server.unreachable'), 60, 1)).toBe(2.5 * MINUTE)
  expect(judge(error('storage.expired'), 1)).toBe('at_once')
  expect(judge(error('storage.expired'), 2)).toBe('later')
})
