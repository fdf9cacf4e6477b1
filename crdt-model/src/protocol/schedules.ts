import { z } from 'zod'
import { id, timestamp } from './ids.ts'
import { route } from './route.ts'

/** Missed occurrences: none, the latest only, or all within the window. */
export const missedPolicy = z.enum(['skip', 'latest', 'all'])

const settings = {
  cron: z.string().min(1).max(200),
  timezone: z.string().min(1).max(64),
  missed: missedPolicy,
  /** How long after its time an occurrence may still run, in seconds. */
  window_s: z
    .number()
    .int()
    .min(60)
    .max(31 * 86_400),
  enabled: z.boolean(),
  /** A pinned version's number; null runs the current one. */
  version: z.number().int().positive().nullable(),
  /** Agents (device ids) in order of preference; empty lets any agent of the workspace take it. */
  agents: z.array(id).max(50),
}
export const schedule = z.strictObject({
  schedule_id: id,
  workspace_id: id,
  pipeline_id: id,
  ...settings,
  created_at: timestamp,
  next_due_at: timestamp.nullable(),
})
/** The newest occurrence that was more than claimed. */
export const lastOccurrence = z.strictObject({
  due_at: timestamp,
  state: z.enum(['started', 'completed', 'skipped']),
  /** Why it was skipped, or what the run ended with; names no path and quotes no data. */
  reason: z.string().nullable(),
  run_id: id.nullable(),
})
/** Occurrences that are missed now: nobody has taken one since the newest that somebody took. */
export const overdue = z.strictObject({
  /** The time of the first of them. */
  since: timestamp,
  /** Why, as far as the server can know. */
  reason: z.string(),
})
export const occurrence = z.strictObject({
  schedule_id: id,
  pipeline_id: id,
  workspace_id: id,
  version: z.number().int().positive(),
  due_at: timestamp,
})
export type Schedule = z.infer<typeof schedule>
export type LastOccurrence = z.infer<typeof lastOccurrence>
export type Overdue = z.infer<typeof overdue>
export type Occurrence = z.infer<typeof occurrence>

const params = z.strictObject({ schedule_id: id })
const ofSchedule = { of: 'schedule', param: 'schedule_id' } as const

export const scheduleRoutes = {
  create: route({
    id: 'schedule.create',
    method: 'POST',
    path: '/v1/schedules',
    summary: 'Make a schedule for a pipeline',
    access: 'schedule.write',
    workspace: { in: 'body', field: 'workspace_id' },
    creates: true,
    body: z.strictObject({
      schedule_id: id,
      workspace_id: id,
      pipeline_id: id,
      ...settings,
      missed: missedPolicy.default('latest'),
      window_s: settings.window_s.default(86_400),
      enabled: z.boolean().default(true),
      version: settings.version.default(null),
      agents: settings.agents.default([]),
    }),
    reply: schedule,
  }),
  update: route({
    id: 'schedule.update',
    method: 'PATCH',
    path: '/v1/schedules/:schedule_id',
    summary: 'Change a schedule; nothing that is past is replayed',
    access: 'schedule.write',
    workspace: ofSchedule,
    params,
    body: z.strictObject(settings).partial(),
    reply: schedule,
  }),
  list: route({
    id: 'schedule.list',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/schedules',
    summary: 'The schedules of a workspace',
    access: 'schedule.read',
    workspace: { in: 'params', field: 'workspace_id' },
    params: z.strictObject({ workspace_id: id }),
    /** Asked for by who knows it: clients that do not take no more fields than they know. Older servers pass it over. */
    query: z.strictObject({ last: z.literal('yes').optional(), overdue: z.literal('yes').optional() }),
    etag: true,
    reply: z.strictObject({
      schedules: z.array(
        schedule.extend({
          /** There when it was asked for; null before the first. */
          last: lastOccurrence.nullable().optional(),
          /** There when it was asked for; null when nothing is missed now, and for one that is switched off. */
          overdue: overdue.nullable().optional(),
        }),
      ),
    }),
  }),
  due: route({
    id: 'schedule.due',
    method: 'GET',
    path: '/v1/schedules',
    summary: 'What is due for an agent, in all workspaces where its user may run pipelines',
    access: 'session',
    query: z.strictObject({ agent_id: id }),
    etag: true,
    reply: z.strictObject({ due: z.array(occurrence) }),
  }),
  claim: route({
    id: 'schedule.claim',
    method: 'POST',
    path: '/v1/schedules/:schedule_id/claim',
    summary: 'Take an occurrence with a lease and a fencing token; the holder repeats it as a heartbeat',
    access: 'schedule.claim',
    workspace: ofSchedule,
    params,
    body: z.strictObject({ agent_id: id, due_at: timestamp }),
    reply: z.strictObject({ fencing_token: z.number().int().positive(), lease_until: timestamp }),
  }),
  ack: route({
    id: 'schedule.ack',
    method: 'POST',
    path: '/v1/schedules/:schedule_id/ack',
    summary: 'Say what became of an occurrence',
    access: 'schedule.claim',
    workspace: ofSchedule,
    params,
    body: z.strictObject({
      agent_id: id,
      due_at: timestamp,
      fencing_token: z.number().int().positive().nullable().default(null),
      state: z.enum(['started', 'completed', 'skipped']),
      run_id: id.nullable().default(null),
      reason: z.string().max(500).nullable().default(null),
    }),
    reply: z.strictObject({ ok: z.literal(true) }),
  }),
} as const
