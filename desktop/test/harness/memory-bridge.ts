import * as Automerge from '@automerge/automerge'
import {
  commentsDocumentId,
  createComments,
  type PipelineDefinition,
  type PipelineDoc,
  pipelineFromDoc,
  pipelineToFiles,
} from '@pluto-duck/crdt-model'
import type {
  Bridge,
  InputOf,
  MethodName,
  OutputOf,
  RunView,
  SyncState,
  TopicEvent,
  TopicName,
} from '@pluto-duck/engine/contract'
import { listenersOf } from '../../renderer/bridge/listeners.ts'
import { fromBase64, toBase64 } from '../../renderer/documents/base64.ts'
import { documentOf, idOf, type World } from './scenes.ts'

type Handlers = { [M in MethodName]?: (input: InputOf<M>) => OutputOf<M> | Promise<OutputOf<M>> }

const HASH = 'a'.repeat(64)
const T0 = Date.parse('2026-03-02T08:00:00Z')
const time = (after: number): string => new Date(T0 + after).toISOString()
const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))
const ME = { user_id: 'u1', name: 'Ada Lovelace' }
const BO = { user_id: 'u2', name: '김보라' }

/** A host in memory: real documents, made up results. */
export function memoryBridge(world: World): Bridge {
  const listeners = listenersOf()
  const documents = new Map<string, Automerge.Doc<unknown>>()
  for (const { id, init } of world.pipelines) documents.set(id, documentOf(init) as Automerge.Doc<unknown>)
  const definition = (id: string): PipelineDefinition =>
    pipelineFromDoc(documents.get(id) as Automerge.Doc<PipelineDoc>)
  const runs: RunView[] = []
  let marks: OutputOf<'pipeline.marks'>['marks'] =
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
  const sync: SyncState = {
    state:
      world.scene === 'offline'
        ? 'offline'
        : world.scene === 'marks'
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
        : [],
  }
  const tell = <T extends TopicName>(topic: T, event: TopicEvent<T>): void =>
    listeners.tell({ topic, event } as never)
  const versions = (id: string): OutputOf<'version.list'>['versions'] =>
    Array.from({ length: world.versions }, (_, at) => ({
      version_id: idOf(5000 + at),
      pipeline_id: id,
      number: world.versions - at,
      content_hash: HASH,
      heads: [HASH],
      parent: world.versions - at - 1 || null,
      message: at % 3 === 0 ? '' : '지역 필터를 추가하고 revenue 계산을 고침 🦆 with a rather long message',
      published_by: at % 2 ? ME : BO,
      published_at: time(-at * 86_400_000),
      authors: [ME],
      resolved: [],
      restores: at === 1 ? 2 : null,
    }))
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
  const columns = [
    { name: 'week', type: 'DATE' },
    { name: 'revenue', type: 'DECIMAL(38,2)' },
    { name: 'region', type: 'VARCHAR' },
    { name: 'orders', type: 'BIGINT' },
    { name: 'late', type: 'BOOLEAN' },
    { name: 'tags', type: 'VARCHAR[]' },
  ]
  const row = (at: number) => [
    time(at * 604_800_000).slice(0, 10),
    Number(((at * 7919) % 100_000) / 100),
    at % 7 === 3 ? null : at % 5 === 0 ? '' : ['EU', '서울', 'US 🦆'][at % 3]!,
    at * 31,
    at % 2 === 0,
    "['a', 'b']",
  ]
  const page = (offset: number, limit: number, total: number) => ({
    columns,
    rows: Array.from({ length: Math.max(0, Math.min(limit, total - offset)) }, (_, at) => row(offset + at)),
    offset,
    total,
    duration_ms: 12,
  })
  const dependencies = (id: string) => {
    const { steps } = definition(id)
    return steps.map(step => ({
      step,
      reads: steps
        .filter(other => other !== step && new RegExp(`\\b${other.name}\\b`).test(step.sql))
        .map(({ name }) => name),
    }))
  }

  async function run(runId: string, pipelineId: string): Promise<void> {
    const update = (change: (run: RunView) => RunView): void => {
      const at = runs.findIndex(({ run_id }) => run_id === runId)
      runs[at] = change(runs[at]!)
      tell('run.changed', runs[at]!)
    }
    update(held => ({ ...held, state: 'running', started_at: new Date().toISOString() }))
    for (const [at, { step_id }] of runs[0]!.steps.slice(0, 20).entries()) {
      update(held => ({
        ...held,
        steps: held.steps.map(step =>
          step.step_id === step_id
            ? { ...step, state: 'running', percent: 40, started_at: new Date().toISOString() }
            : step,
        ),
      }))
      tell('run.log', {
        run_id: runId,
        lines: [
          {
            ts: new Date().toISOString(),
            level: 'info',
            run_id: runId,
            trace_id: 'x',
            project_id: idOf(9),
            asset_id: step_id,
            step: step_id,
            attempt: 1,
            cause: null,
            message: 'step started',
          },
        ],
      })
      await pause(150)
      update(held => ({
        ...held,
        steps: held.steps.map(step =>
          step.step_id === step_id
            ? {
                ...step,
                state: at === 1 ? 'reused' : 'success',
                percent: 100,
                rows: 1234 * at,
                duration_ms: 150,
                reason: at === 1 ? 'nothing changed' : 'its SQL was edited',
                tests:
                  at === 0
                    ? [
                        {
                          id: 't1',
                          label: 'order_id is never NULL',
                          severity: 'error',
                          passed: true,
                          failing_rows: 0,
                        },
                      ]
                    : [],
              }
            : step,
        ),
      }))
    }
    update(held => ({
      ...held,
      state: 'success',
      finished_at: new Date().toISOString(),
      has_report: true,
      upload: { ...held.upload, state: 'done' },
    }))
    void pipelineId
  }

  const handlers: Handlers = {
    'app.info': () => ({
      version: '0.1.0',
      duckdb: '1.5.6',
      data_dir: '/home/ada/.pluto-duck',
      device_id: idOf(7),
      server: 'https://pluto.example.com',
      user: world.scene === 'empty' ? null : { id: 'u1', name: 'Ada Lovelace', email: 'ada@example.com' },
    }),
    'workspace.list': () => ({
      workspaces: [
        {
          workspace_id: idOf(9),
          name: '매출 분석 team with a long name',
          role: 'owner',
          remote: world.scene !== 'empty',
          selected: true,
        },
      ],
    }),
    'workspace.members': () => ({
      members: [{ user_id: 'u1', name: 'Ada Lovelace', email: 'ada@example.com', role: 'owner' }],
    }),
    'sync.state': () => sync,
    'sync.now': () => sync,
    'sync.pause': ({ paused }) => Object.assign(sync, { paused, state: paused ? 'offline' : 'in_sync' }),
    'pipeline.list': () => ({ pipelines: world.pipelines.map(({ id }) => entry(id)) }),
    'local_draft.list': () => ({
      drafts:
        world.scene === 'draft'
          ? [
              {
                draft_id: idOf(70),
                document_id: idOf(1),
                title: 'weekly-revenue',
                code: 'change.permission',
                reason: 'You are a viewer of this workspace.',
                changes: 12,
                created_at: time(0),
              },
            ]
          : [],
    }),
    'document.open': ({ document_id }) => ({
      document_id,
      bytes: toBase64(Automerge.save(documents.get(document_id)!)),
      actor: crypto.randomUUID().replaceAll('-', ''),
      read_only: false,
      read_only_reason: null,
    }),
    'document.append': ({ document_id, changes }) => {
      const [doc] = Automerge.applyChanges(documents.get(document_id)!, changes.map(fromBase64))
      documents.set(document_id, doc)
      return { heads: Automerge.getHeads(doc) }
    },
    'document.authors': ({ hashes }) => ({ authors: Object.fromEntries(hashes.map(hash => [hash, null])) }),
    'document.presence': () => {
      setTimeout(
        () =>
          tell('document.presence', {
            document_id: idOf(1),
            device_id: idOf(8),
            name: '김보라',
            at: 'step:s1:40',
            left: false,
          }),
        200,
      )
      return { ok: true }
    },
    'pipeline.comments': ({ id }) => {
      const subject = { subject_kind: 'pipeline' as const, subject_id: id }
      const document_id = commentsDocumentId(subject)
      if (!documents.has(document_id))
        documents.set(document_id, createComments(subject) as Automerge.Doc<unknown>)
      return { document_id }
    },
    'pipeline.marks': () => ({ marks }),
    'pipeline.review_mark': ({ mark_id, reviewed }) => {
      marks = marks.map(mark => (mark.id === mark_id ? { ...mark, reviewed } : mark))
      return { marks }
    },
    'pipeline.compile': ({ pipeline_id }) => ({
      problems: definition(pipeline_id).steps.flatMap(step =>
        /\bfromm\b/.test(step.sql)
          ? [
              {
                code: 'sql.syntax',
                message: 'Syntax error at or near “fromm”.',
                hint: 'Did you mean FROM?',
                severity: 'error' as const,
                file: `${step.name}.sql`,
                line: 2,
                column: 1,
                step_id: step.id,
              },
            ]
          : [],
      ),
      steps: dependencies(pipeline_id).map(({ step, reads }) => ({
        step_id: step.id,
        name: step.name,
        depends_on: reads,
        sources: [...step.sql.matchAll(/source\.(\w+)/g)].map(match => match[1]!),
        columns,
      })),
      sources: Object.keys(definition(pipeline_id).sources).map(name => ({ name, columns })),
    }),
    'pipeline.lineage': () => ({
      edges: [{ from: 'orders_clean', from_column: 'amount', to: 'revenue', to_column: 'revenue' }],
    }),
    'pipeline.plan': () => ({
      problems: [],
      steps: [],
      reads: [
        { source: 'orders', path: '/home/ada/pluto/files/shop/orders/*.csv', files: 12, bytes: 82_000_000 },
      ],
      publishes: [{ what: 'report', columns: [], max_rows: null }],
      grants_needed: [
        { kind: 'read', target: '/home/ada/pluto/files/shop/orders/*.csv', why: 'source.orders' },
        { kind: 'publish', target: 'report', why: 'publish.report' },
      ],
    }),
    'pipeline.preview': () => ({ state: 'rows', page: { ...page(0, 500, world.rows), total: null } }),
    'result.rows': ({ offset = 0, limit = 200 }) => page(offset, limit, world.rows),
    'result.summary': () => ({
      rows: world.rows,
      columns: columns.map(column => ({
        ...column,
        nulls: 12,
        distinct: 340,
        min: '1',
        max: '99',
        bins: Array.from({ length: 10 }, (_, at) => ({
          label: `${at * 10}–${at * 10 + 9}`,
          count: (at * 37) % 50,
        })),
      })),
    }),
    'run.list': () => ({ runs }),
    'run.log': () => ({ lines: [], next_line: 0 }),
    'run.artifacts': () => ({
      artifacts: runs[0]?.has_report
        ? [
            {
              artifact_id: idOf(60),
              run_id: runs[0].run_id,
              kind: 'report',
              name: 'report.html',
              content_type: 'text/html',
              bytes: 48_210,
              sha256: HASH,
              created_at: time(0),
            },
          ]
        : [],
    }),
    'run.start': ({ run_id, pipeline_id }) => {
      runs.unshift({
        run_id,
        pipeline_id,
        pipeline: definition(pipeline_id).name,
        version: null,
        trigger: 'manual',
        state: 'pending',
        cause: null,
        failed_step: null,
        run_by: 'Ada Lovelace',
        local: true,
        created_at: new Date().toISOString(),
        started_at: null,
        finished_at: null,
        has_report: false,
        steps: definition(pipeline_id).steps.map(step => ({
          step_id: step.id,
          name: step.name,
          state: 'waiting',
          percent: null,
          rows: null,
          started_at: null,
          duration_ms: null,
          cause: null,
          message: null,
          reason: null,
          tests: [],
        })),
        upload: { state: 'none', bytes: 0, total: 0, error: null },
      })
      void run(run_id, pipeline_id)
      return runs[0]!
    },
    'report.read': () =>
      runs[0]?.has_report
        ? {
            state: 'report',
            run_id: runs[0].run_id,
            version: 7,
            html: '<!doctype html><title>Weekly revenue</title><body style="font:16px sans-serif;max-width:720px;margin:2rem auto"><h1>Weekly revenue</h1><p>Revenue rose.</p><svg width="400" height="120"><rect width="400" height="120" fill="#ffc53d"/></svg>',
            created_at: time(0),
          }
        : { state: 'none' },
    'version.list': ({ pipeline_id }) => ({ versions: versions(pipeline_id) }),
    'version.compare': ({ pipeline_id }) => {
      const files = pipelineToFiles(definition(pipeline_id))
      const [path, after] = Object.entries(files).find(([name]) => name.endsWith('.sql'))!
      return {
        pipeline_id,
        files: [
          {
            path,
            status: 'changed',
            before: after.replace('select', 'select distinct'),
            after: `${after}\nlimit 100\n`,
            lines: [],
          },
        ],
        settings: [{ label: 'top_customers: materialize', before: 'table', after: 'view' }],
        steps: [
          {
            step_id: 's1',
            name: 'orders_clean',
            change: 'edited',
            columns_added: [{ name: 'day', type: 'DATE' }],
            columns_removed: [],
            columns_retyped: [{ name: 'amount', before: 'DOUBLE', after: 'DECIMAL(12,2)' }],
            rows_before: 1200,
            rows_after: 1180,
          },
          {
            step_id: 's3',
            name: 'revenue',
            change: 'downstream',
            columns_added: [],
            columns_removed: [],
            columns_retyped: [],
            rows_before: null,
            rows_after: null,
          },
        ],
      }
    },
    'version.publish': ({ pipeline_id }) => ({
      state: 'published',
      version: versions(pipeline_id)[0]!,
      created: true,
    }),
    'version.restore': ({ pipeline_id }) => ({
      state: 'published',
      version: versions(pipeline_id)[0]!,
      created: true,
    }),
    'grant.list': () => ({ grants: [] }),
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
        },
      ],
    }),
  }
  handlers['local_draft.compare'] = () =>
    handlers['version.compare']!({
      pipeline_id: idOf(1),
      before: { kind: 'working' },
      after: { kind: 'working' },
    })

  return {
    async call(method, input) {
      await pause(10)
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
      listener(true)
      return () => undefined
    },
  }
}
