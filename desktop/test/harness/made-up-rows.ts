import { type Handlers, type Memory, time } from './memory.ts'

export const columns = [
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

/** Previews and results: made up rows, as many as the scene wants. */
export function rowHandlers({ world }: Memory): Handlers {
  return {
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
  }
}
