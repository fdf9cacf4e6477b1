import { createPipeline, type PipelineInit } from '@pluto-duck/crdt-model'

export type Scene =
  | 'empty'
  | 'sample'
  | 'full'
  | 'marks'
  | 'offline'
  | 'draft'
  | 'unread'
  /** The host stores nothing any more. */
  | 'away'
  /** The host is there, and its disk has no room. */
  | 'full-disk'
  | 'viewer'
  /** A publish was refused. */
  | 'refused'

export interface World {
  readonly scene: Scene
  readonly pipelines: readonly { readonly id: string; readonly init: PipelineInit }[]
  readonly versions: number
  readonly rows: number
}

export const idOf = (n: number): string => `0190a000-0000-7000-8000-${n.toString(16).padStart(12, '0')}`

const sample: PipelineInit = {
  name: 'weekly-revenue',
  description: 'Revenue by week and region, from the shop’s orders.',
  tags: ['sales', '주간'],
  params: { region: { type: 'text', description: '', default: 'EU', allowed: [] } },
  sources: {
    orders: { kind: 'csv', path: 'shop/orders/*.csv', description: '', options: {} },
    customers: { kind: 'parquet', path: 'shop/customers.parquet', description: '', options: {} },
  },
  steps: [
    {
      id: 's1',
      name: 'orders_clean',
      sql: "select order_id, customer_id,\n  cast(ordered_at as date) as day,\n  amount::decimal(12, 2) as amount -- 금액 💶\nfrom source.orders\nwhere status <> 'cancelled'",
      tests: [
        { id: 't1', type: 'not_null', column: 'order_id' },
        { id: 't2', type: 'unique', columns: ['order_id'] },
      ],
    },
    {
      id: 's2',
      name: 'customers_eu',
      sql: 'select customer_id, region\nfrom source.customers\nwhere region = $region',
    },
    {
      id: 's3',
      name: 'revenue',
      description: 'Revenue of each week.',
      sql: "select date_trunc('week', day) as week,\n  sum(amount) as revenue,\n  count(*) as orders\nfrom orders_clean\njoin customers_eu using (customer_id)\ngroup by all\norder by week",
      tests: [
        {
          id: 't3',
          type: 'custom',
          sql: 'select * from revenue where revenue < 0',
          description: 'revenue is never negative',
        },
      ],
    },
    {
      id: 's4',
      name: 'top_customers',
      materialize: 'view',
      sql: 'select customer_id, sum(amount) as total\nfrom orders_clean\ngroup by all\nqualify row_number() over (order by total desc) <= 10',
    },
    {
      id: 's5',
      name: 'growth',
      sql: 'select week, revenue,\n  revenue / lag(revenue) over (order by week) - 1 as growth\nfrom revenue',
    },
  ],
  report: '# Weekly revenue\n\n```sql totals\nselect sum(revenue) from revenue\n```\n',
}

/** Two hundred steps in layers, with names of forty characters, Korean text and emoji. */
function wide(): PipelineInit {
  const steps = Array.from({ length: 200 }, (_, at) => {
    const from = at < 12 ? 'source.orders' : stepName(at - 12 + (at % 5))
    return {
      id: `w${at}`,
      name: stepName(at),
      description: '아주 긴 설명이 붙은 단계입니다. 매출을 지역별로 나눕니다. 🦆🦆🦆',
      sql: `-- 단계 ${at} 🦆\nselect *, '${'가나다라마바사'.repeat(4)}' as 라벨\nfrom ${from}`,
    }
  })
  return { ...sample, name: 'a-very-full-pipeline-with-a-name-of-sixty-characters-in-all', steps }
}
const stepName = (at: number): string => `step_with_a_name_of_forty_characters_${String(at).padStart(3, '0')}`

export function sceneOf(scene: Scene): World {
  if (scene === 'empty') return { scene, pipelines: [], versions: 0, rows: 0 }
  if (scene === 'full') {
    const more = Array.from({ length: 60 }, (_, at) => ({
      id: idOf(1000 + at),
      init: { ...sample, name: `pipeline-number-${at}-매출`.replace(/[^a-z0-9-]/g, '') },
    }))
    return { scene, pipelines: [{ id: idOf(1), init: wide() }, ...more], versions: 500, rows: 1_000_000 }
  }
  return {
    scene,
    pipelines: [
      { id: idOf(1), init: sample },
      { id: idOf(2), init: { ...sample, name: 'flights' } },
    ],
    versions: 7,
    rows: 20_000,
  }
}

export const documentOf = (init: PipelineInit) => createPipeline(init)
