import { newId } from '@pluto-duck/crdt-model/protocol'
import { foreign, hers, newSchedule } from './places.ts'
import { at, type Case, patch, post } from './requests.ts'

export const schedules: readonly Case[] = [
  [
    'a cron that is none',
    'schedule.invalid',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { cron: 'every day at noon' }),
    ),
  ],
  [
    'a cron out of range',
    'schedule.invalid',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { cron: '61 25 32 13 8' }),
    ),
  ],
  [
    'a time zone that there is not',
    'schedule.invalid',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { timezone: 'Mars/Olympus' }),
    ),
  ],
  [
    'a schedule of an unknown pipeline',
    'pipeline.not_found',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { pipeline_id: newId() }),
    ),
  ],
  [
    "a schedule of another workspace's pipeline",
    'pipeline.not_found',
    post(
      () => '/v1/schedules',
      () => newSchedule(hers, { pipeline_id: foreign.pipeline.id }),
    ),
  ],
  [
    'a pinned version that there is not',
    'version.not_found',
    patch(
      () => `/v1/schedules/${hers.schedule}`,
      () => ({ version: 3 }),
    ),
  ],
  [
    'an agent that is not yours',
    'auth.device_mismatch',
    at('GET', () => `/v1/schedules?agent_id=${foreign.device}`),
  ],
  [
    'a claim of what is not due',
    'schedule.lease',
    post(
      () => `/v1/schedules/${hers.schedule}/claim`,
      () => ({ agent_id: hers.device, due_at: '2020-01-01T02:00:00.000Z' }),
    ),
  ],
  [
    'an acknowledgement without a claim',
    'schedule.lease',
    post(
      () => `/v1/schedules/${hers.schedule}/ack`,
      () => ({
        agent_id: hers.device,
        due_at: '2020-01-01T02:00:00.000Z',
        state: 'completed',
        fencing_token: 3,
      }),
    ),
  ],
]
