import { newId } from '@pluto-duck/crdt-model/protocol'
import { expect, it } from 'vitest'
import { type Claim, choose, nextStep, pauseMs } from '../../src/schedules/plan.ts'

const WORKSPACE = newId()
const claim: Claim = {
  schedule_id: newId(),
  workspace_id: WORKSPACE,
  pipeline_id: newId(),
  version: 3,
  due_at: '2026-03-01T07:00:00.000Z',
  fencing_token: 7,
  run_id: newId(),
  state: 'claimed',
  outcome: null,
}
const due = (at: string, schedule_id = newId(), workspace_id = WORKSPACE) => ({
  schedule_id,
  workspace_id,
  pipeline_id: newId(),
  version: 1,
  due_at: `2026-03-01T${at}:00.000Z`,
})
const all = { held: [], workspaceId: WORKSPACE, knows: () => true }

it('[SCHED4] what comes next follows from what is stored alone', () => {
  const started = { ...claim, state: 'started' as const }
  expect(nextStep(claim, null)).toEqual({ do: 'announce' })
  expect(nextStep(started, null)).toEqual({ do: 'start' })
  expect(nextStep(started, { state: 'running', cause: null })).toEqual({ do: 'follow' })
  expect(nextStep(started, { state: 'success', cause: null })).toEqual({
    do: 'conclude',
    outcome: { state: 'completed', reason: null },
  })
  expect(nextStep(started, { state: 'failed', cause: 'sql' })).toEqual({
    do: 'conclude',
    outcome: { state: 'completed', reason: 'The run failed (sql).' },
  })
  const outcome = { state: 'skipped' as const, reason: 'why' }
  expect(nextStep({ ...claim, outcome }, null)).toEqual({ do: 'tell', outcome })
})

it('[SCHED2] one occurrence of a schedule at a time, the earliest first, two in all', () => {
  const schedule = newId()
  const [late, early, other, third] = [
    due('08:00', schedule),
    due('07:00', schedule),
    due('09:00'),
    due('10:00'),
  ]
  expect(choose({ ...all, due: [late, early] })).toEqual([early])
  expect(choose({ ...all, due: [late, early, other, third] })).toEqual([early, other])
  expect(choose({ ...all, due: [late, other], held: [{ ...claim, schedule_id: schedule }] })).toEqual([other])
})

it('[SCHED8] what belongs to another workspace or is not here yet is left alone', () => {
  const [here, elsewhere] = [due('07:00'), due('06:00', newId(), newId())]
  expect(choose({ ...all, due: [here, elsewhere] })).toEqual([here])
  expect(choose({ ...all, due: [here], knows: () => false })).toEqual([])
  expect(choose({ ...all, due: [here], workspaceId: null })).toEqual([])
})

it('[SCHED6] failures make pauses longer, up to five minutes, a random part less', () => {
  expect(pauseMs(0, 0)).toBe(30_000)
  expect([1, 2, 3, 20].map(failures => pauseMs(failures, 0))).toEqual([5_000, 10_000, 20_000, 300_000])
  expect(pauseMs(20, 1)).toBe(150_000)
})
