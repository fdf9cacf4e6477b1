import { pipelineToFiles } from '@pluto-duck/crdt-model'
import type { OutputOf } from '@pluto-duck/engine/contract'
import { BO, HASH, type Handlers, ME, type Memory, time } from './memory.ts'
import { idOf } from './scenes.ts'

const COMMENTS_DRAFT = idOf(71)
const COMMENTS = {
  path: 'comments.md',
  status: 'changed' as const,
  before:
    '# Comments on weekly-revenue\n\n## on revenue, line 2\n\n> sum(amount) as revenue\n\n**Bo**, 2026-01-01 09:00 UTC\n\nGross or net?\n',
  after:
    '# Comments on weekly-revenue\n\n## on revenue, line 2\n\n> sum(amount) as revenue\n\n**Bo**, 2026-01-01 09:00 UTC, changed here, not on the server\n\nGross, says the contract.\n\n**You**, 2026-01-02 10:12 UTC, not on the server\n\nAnd what of 취소된 주문?\n',
  lines: [],
}

/** As many versions as the scene wants, and one comparison for any two. */
export function versionHandlers({ world, definition }: Memory): Handlers {
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
  const handlers: Handlers = {
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
  }
  handlers['local_draft.compare'] = ({ draft_id }) =>
    draft_id === COMMENTS_DRAFT
      ? { pipeline_id: idOf(72), files: [COMMENTS], settings: [], steps: [] }
      : handlers['version.compare']!({
          pipeline_id: idOf(1),
          before: { kind: 'working' },
          after: { kind: 'working' },
        })
  handlers['local_draft.export'] = () => ({ files: { [COMMENTS.path]: COMMENTS.after } })
  return handlers
}
