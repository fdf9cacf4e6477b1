import type { Bridge, OutputOf } from '@pluto-duck/engine/contract'
import { listenersOf } from '../../renderer/bridge/listeners.ts'
import { definitionOf, documentHandlers, documentsOf } from './held-documents.ts'
import { compileHandlers } from './made-up-compile.ts'
import { rowHandlers } from './made-up-rows.ts'
import { runHandlers } from './made-up-runs.ts'
import { marksOf, syncHandlers } from './made-up-sync.ts'
import { versionHandlers } from './made-up-versions.ts'
import { HASH, type Handlers, type Memory, pause, time } from './memory.ts'
import { idOf, type World } from './scenes.ts'

/** What cannot be read in the scene `unread`. */
const UNREAD: ReadonlySet<string> = new Set(['pipeline.marks', 'result.summary'])
/** What a host that went away since the page was loaded does not take any more. */
const AWAY = {
  code: 'host.unreachable',
  message: 'The local host does not answer.',
  hint: 'Start it again: `pluto serve`. What was stored is safe.',
} as const
const NO_ROOM = {
  code: 'internal',
  message: 'IO Error: Could not write to file "state.duckdb": No space left on device',
  hint: 'Make room on the disk; what is in this window is stored as soon as there is.',
} as const
const CORRUPT = {
  code: 'state.corrupt',
  message: 'Record 0190a000-0000-7000-8000-000000000001 of records in state.duckdb cannot be read.',
  hint: 'Move the data folder aside and sync again; report this.',
} as const

/** A host in memory: real documents, made up results. */
export function memoryBridge(world: World): Bridge {
  const listeners = listenersOf()
  const documents = documentsOf(world)
  const memory: Memory = {
    world,
    definition: id => definitionOf(documents, id),
    tell: (topic, event) => listeners.tell({ topic, event } as never),
  }
  const handlers: Handlers = {
    ...workspaceHandlers(memory),
    ...syncHandlers(world),
    ...documentHandlers(documents, memory),
    ...compileHandlers(memory),
    ...rowHandlers(memory),
    ...runHandlers(memory),
    ...versionHandlers(memory),
  }

  return {
    async call(method, input) {
      await pause(10)
      if (world.scene === 'unread' && UNREAD.has(method)) return { ok: false, error: CORRUPT }
      const { offset = 0 } = input as { offset?: number }
      if (world.scene === 'unread' && method === 'result.rows' && offset > 0)
        return { ok: false, error: CORRUPT }
      if (world.scene === 'away' && method === 'document.append') return { ok: false, error: AWAY }
      if (world.scene === 'full-disk' && method === 'document.append') return { ok: false, error: NO_ROOM }
      const handler = handlers[method] as ((input: unknown) => unknown) | undefined
      if (!handler)
        return {
          ok: false,
          error: {
            code: 'request.not_found',
            message: `The harness has no ${method}.`,
            hint: 'Use a real host.',
          },
        }
      return { ok: true, value: (await handler(input)) as never }
    },
    on: (topic, listener) => listeners.add(topic, listener),
    onConnection(listener) {
      listener(world.scene !== 'away')
      return () => undefined
    },
  }
}

/** The workspace, its pipelines and their marks, and what this machine holds. */
function workspaceHandlers({ world, definition }: Memory): Handlers {
  let marks = marksOf(world)
  const entry = (id: string): OutputOf<'pipeline.list'>['pipelines'][number] => ({
    pipeline_id: id,
    name: definition(id).name,
    description: definition(id).description,
    tags: definition(id).tags,
    steps: definition(id).steps.length,
    current_version: world.versions || null,
    unpublished: 3,
    marks: marks.filter(({ reviewed }) => !reviewed).length,
    last_run: null,
    updated_at: time(0),
    unreadable: null,
  })
  return {
    'app.info': () => ({
      version: '0.1.0',
      duckdb: '1.5.6',
      data_dir: '/home/ada/.pluto-duck',
      device_id: idOf(7),
      server: 'https://pluto.example.com',
      user: world.scene === 'empty' ? null : { id: 'u1', name: 'Ada Lovelace', email: 'ada@example.com' },
    }),
    'auth.start': () => ({
      verification_url: 'https://pluto.example.com/device',
      user_code: 'WXYZ-1234',
      device_code: 'device',
      interval_s: 1,
      expires_at: time(600_000),
    }),
    'workspace.list': () => ({
      workspaces: [
        {
          workspace_id: idOf(9),
          name: '매출 분석 team with a long name',
          role: world.scene === 'viewer' ? 'viewer' : 'owner',
          remote: world.scene !== 'empty',
          selected: true,
        },
      ],
    }),
    'workspace.members': () => ({
      members: [
        { user_id: 'u1', name: 'Ada Lovelace', email: 'ada@example.com', role: 'owner' },
        { user_id: 'u2', name: 'Grace Hopper with a long name', email: 'grace@example.com', role: 'viewer' },
      ],
    }),
    'workspace.invitations': () => ({
      invitations: [
        {
          invitation_id: idOf(80),
          email: 'alan@example.com',
          role: 'editor',
          created_at: time(0),
          expires_at: time(7 * 86_400_000),
        },
      ],
    }),
    'pipeline.list': () => ({ pipelines: world.pipelines.map(({ id }) => entry(id)) }),
    'local_draft.list': () => ({
      drafts:
        world.scene === 'draft'
          ? [
              {
                draft_id: idOf(70),
                document_id: idOf(1),
                kind: 'pipeline',
                title: 'weekly-revenue',
                code: 'change.permission',
                reason: 'You are a viewer of this workspace.',
                changes: 12,
                created_at: time(0),
              },
              {
                draft_id: idOf(71),
                document_id: idOf(72),
                kind: 'comments',
                title: 'Comments on weekly-revenue',
                code: 'permission',
                reason: 'It changes a message of somebody else.',
                changes: 2,
                created_at: time(0),
              },
            ]
          : [],
    }),
    'grant.list': () => ({ grants: [] }),
    'run.unsent': () => ({
      run_ids: [idOf(60), idOf(61)],
      held: [
        {
          run_id: idOf(60),
          error: {
            code: 'storage.expired',
            message: 'The artifact storage refuses what it is sent, by fresh addresses too.',
            hint: 'The files are safe on this machine and tried again, at least every hour; `pluto sync` tries at once. The cause is on the server’s side: ask its operator to run `pluto-server doctor`.',
          },
        },
      ],
    }),
    'ledger.list': () => ({
      entries: [
        {
          at: time(0),
          run_id: null,
          what: 'report',
          name: 'report.html',
          destination: 'https://pluto.example.com',
          bytes: 48_210,
          sha256: HASH,
        },
      ],
    }),
    'secret.list': () => ({ names: ['SHOP_DB'] }),
    'schedule.list': () => ({
      schedules: [
        {
          schedule_id: idOf(50),
          pipeline_id: idOf(1),
          cron: '0 7 * * 1-5',
          timezone: 'Asia/Seoul',
          enabled: true,
          next_due_at: time(3_600_000),
          last: {
            due_at: time(-82_800_000),
            state: 'skipped',
            reason:
              'Not allowed on this machine yet: reading source.orders; sending report. Open the pipeline there and allow it.',
            run_id: null,
          },
          overdue: null,
        },
        {
          schedule_id: idOf(53),
          pipeline_id: idOf(3),
          cron: '30 5 * * *',
          timezone: 'UTC',
          enabled: true,
          next_due_at: time(7_200_000),
          last: null,
          overdue: { since: time(-2 * 86_400_000), reason: 'no agent took it' },
        },
        {
          schedule_id: idOf(51),
          pipeline_id: idOf(2),
          cron: '*/15 * * * *',
          timezone: 'UTC',
          enabled: false,
          next_due_at: null,
          last: { due_at: time(-900_000), state: 'completed', reason: null, run_id: idOf(52) },
          overdue: null,
        },
      ],
    }),
    'pipeline.marks': () => ({ marks }),
    'pipeline.review_mark': ({ mark_id, reviewed }) => {
      marks = marks.map(mark => (mark.id === mark_id ? { ...mark, reviewed } : mark))
      return { marks }
    },
  }
}
