import { readdirSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { type Machine, openMachine } from './service.ts'

const DAY_MS = 24 * 3600 * 1000

let machine: Machine
afterEach(() => machine?.close())

it('[RUN17] keeps what is current, and for 14 days what a run made; the rest makes room after a start', async () => {
  let now = Date.now()
  const step = (sql: string) => [{ id: 'id_a', name: 'a', sql }]
  machine = await openMachine(
    { schema_version: 1, name: 'orders', sources: {}, steps: step('select 1 as x') },
    { clock: { ...systemClock, now: () => now } },
  )
  const results = join(machine.folder, 'results', machine.workspaceId)
  const there = () => readdirSync(results).filter(name => name.endsWith('.parquet'))
  await machine.run()
  const [first] = there()
  machine.definition = {
    ...machine.definition,
    steps: [{ ...machine.definition.steps[0]!, sql: 'select 2 as x' }],
  }
  await machine.run()
  const second = there().find(name => name !== first)
  // By their age alone both could go.
  for (const name of readdirSync(results)) utimesSync(join(results, name), 1, 1)

  await machine.restart()
  await machine.stop()
  expect(there().sort()).toEqual([first, second].sort())

  now += 15 * DAY_MS
  await machine.start()
  await machine.restart()
  expect(there()).toEqual([second])
})
