import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fuzz } from './fuzz.ts'
import { corpusFor, inputOf } from './inputs.ts'
import { regressions } from './regressions.ts'
import { FuzzWorld } from './world.ts'

/** `npm run fuzz` sends a hundred thousand. */
const COUNT = 5_000
const SEED = Number(process.env.PLUTO_FUZZ_SEED ?? 1)

describe('broken input over the wire', () => {
  let database: TestDatabase
  beforeAll(async () => {
    database = await testDatabase()
  })
  afterAll(() => database?.drop())

  it(`[FUZZ1][FUZZ2][FUZZ3] ${COUNT} requests: typed answers, nothing stored that is not valid, no memory kept`, async () => {
    const report = await fuzz({ seed: SEED, count: COUNT, databaseUrl: database.url })
    expect(report.failures.map(({ index, why }) => `${index}: ${why}`)).toEqual([])
    expect(report.problems).toEqual([])
    // They come as far as they should: into the log, to each refusal and to each kind of answer.
    expect(report.stored).toBeGreaterThan(COUNT / 100)
    for (const status of [200, 201, 400, 403, 404, 415, 426])
      expect(report.statuses, `${status}`).toHaveProperty(`${status}`)
  }, 900_000)

  it('[FUZZ4] an input depends on its seed and number alone', () => {
    const some = [0, 7, 499, 500, 1234]
    const first = some.map(index => inputOf(9, index))
    expect(some.toReversed().map(index => inputOf(9, index))).toEqual(first.toReversed())
  })
})

describe('inputs that failed once', () => {
  let database: TestDatabase
  let world: FuzzWorld
  let folder: string
  beforeAll(async () => {
    database = await testDatabase()
    folder = mkdtempSync(join(tmpdir(), 'pluto-fuzz-'))
    world = await FuzzWorld.start(database.url, folder)
  })
  afterAll(async () => {
    await world?.stop()
    await database?.drop()
    rmSync(folder, { recursive: true, force: true })
  })

  it.each(regressions())('[FUZZ1] $name has a typed answer', async ({ seed, index, input }) => {
    await world.prepare(corpusFor(seed, index))
    expect(await world.send(input)).toMatchObject({ ok: true })
    expect(world.errors).toBe('')
  })
})
