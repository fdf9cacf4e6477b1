import type { OutputOf, SyncState } from '@pluto-duck/engine/contract'
import { type Handlers, time } from './memory.ts'
import { idOf, type World } from './scenes.ts'

type Marks = OutputOf<'pipeline.marks'>['marks']

/** What two people changed at once, in the scene that is about it. */
export const marksOf = (world: World): Marks =>
  world.scene === 'marks'
    ? [
        {
          id: 'm1',
          kind: 'text',
          step_id: 's3',
          label: 'revenue: SQL',
          field: 'sql',
          reviewed: false,
          sides: [
            {
              authors: ['Ada Lovelace'],
              value: 'select week, sum(amount) as revenue\nfrom orders_clean\ngroup by all',
            },
            {
              authors: ['김보라'],
              value:
                "select date_trunc('month', day) as month, sum(amount) as revenue\nfrom orders_clean\ngroup by all",
            },
          ],
        },
        {
          id: 'm2',
          kind: 'setting',
          step_id: 's4',
          label: 'top_customers: materialize',
          field: 'materialize',
          reviewed: false,
          sides: [
            { authors: ['Ada Lovelace'], value: '"table"' },
            { authors: ['김보라'], value: '"view"' },
          ],
        },
      ]
    : []

const REFUSED = 'the server refused it: Your role in this workspace does not allow it.'

/** The sync state that the scene is about. */
export function syncStateOf(world: World): SyncState {
  return {
    state:
      world.scene === 'offline'
        ? 'offline'
        : world.scene === 'marks' || world.scene === 'refused'
          ? 'needs_you'
          : world.scene === 'empty'
            ? 'local'
            : 'in_sync',
    waiting: world.scene === 'offline' ? 4 : 0,
    waiting_publishes: world.scene === 'offline' ? 1 : 0,
    paused: false,
    seq: 12,
    last_synced_at: time(0),
    devices_online: 2,
    error:
      world.scene === 'offline'
        ? {
            code: 'server.unreachable',
            message: 'The server does not answer.',
            hint: 'You can go on working offline; your work is safe on this machine.',
          }
        : null,
    needs:
      world.scene === 'marks'
        ? [{ kind: 'marks', pipeline_id: idOf(1), pipeline: 'weekly-revenue', steps: ['revenue'] }]
        : world.scene === 'refused'
          ? [{ kind: 'publish', pipeline_id: idOf(1), pipeline: 'weekly-revenue', reason: REFUSED }]
          : [],
  }
}

export function syncHandlers(world: World): Handlers {
  let sync = syncStateOf(world)
  return {
    'sync.state': () => sync,
    'sync.now': () => sync,
    'version.dismiss': () => {
      sync = { ...sync, state: 'in_sync', needs: [] }
      return { dismissed: true }
    },
    'sync.pause': ({ paused }) => Object.assign(sync, { paused, state: paused ? 'offline' : 'in_sync' }),
  }
}
