import { lastOccurrence, overdue } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { done, none, pipeline } from './inputs.ts'
import { method } from './method.ts'
import { id, timestamp } from './wire.ts'

/** What this machine runs by the clock, what left it, and its secrets. */
export const machineMethods = {
  'schedule.list': method({
    summary: 'Schedules of the workspace',
    input: none,
    output: z.strictObject({
      schedules: z.array(
        z.strictObject({
          schedule_id: id,
          pipeline_id: id,
          cron: z.string(),
          timezone: z.string(),
          enabled: z.boolean(),
          next_due_at: timestamp.nullable(),
          /** What became of the newest occurrence; null before the first, and from a server that does not tell. */
          last: lastOccurrence.nullable(),
          /** Since when it is missed, and why; null when it is not, and from a server that does not tell. */
          overdue: overdue.nullable(),
        }),
      ),
    }),
  }),
  'schedule.create': method({
    summary: 'Run a pipeline’s current version by the clock',
    input: pipeline.extend({ schedule_id: id, cron: z.string(), timezone: z.string() }),
    output: done,
  }),
  'schedule.set_enabled': method({
    summary: 'Switch a schedule on or off; nothing past is replayed',
    input: z.strictObject({ schedule_id: id, enabled: z.boolean() }),
    output: done,
  }),

  'ledger.list': method({
    summary: 'Every byte that ever left this machine, by run',
    input: none,
    output: z.strictObject({
      entries: z.array(
        z.strictObject({
          at: timestamp,
          run_id: id.nullable(),
          what: z.string(),
          name: z.string(),
          destination: z.string(),
          bytes: z.number().int(),
          sha256: z.string().nullable(),
        }),
      ),
    }),
  }),
  'secret.list': method({
    summary: 'Names of stored secrets',
    input: none,
    output: z.strictObject({ names: z.array(z.string()) }),
  }),
  'secret.set': method({
    summary: 'Store a secret in the keychain',
    input: z.strictObject({ name: z.string().regex(/^[A-Z][A-Z0-9_]{0,62}$/), value: z.string().min(1) }),
    output: done,
  }),
  'secret.remove': method({
    summary: 'Erase a secret',
    input: z.strictObject({ name: z.string() }),
    output: done,
  }),
} as const
