import * as Automerge from '@automerge/automerge'

/** A pipeline of about 1.6 KB, as the peers' benchmark has it. Deterministic in `number`, but for its actor. */
export interface Sample extends Record<string, unknown> {
  name: string
  rev: number
  steps: { name: string; sql: string }[]
}

const TABLES = ['orders', 'customers', 'invoices', 'payments', 'shipments', 'products', 'regions', 'events']

export function samplePipeline(number: number): Automerge.Doc<Sample> {
  const table = (i: number): string => TABLES[(number * 7 + i * 3) % TABLES.length]!
  return Automerge.from<Sample>({
    name: `Pipeline ${number} ${table(0)}`,
    rev: 0,
    steps: Array.from({ length: 8 }, (_, i) => ({
      name: `step_${i}_${table(i)}`,
      sql: `SELECT region, sum(amount) AS total_${i} FROM ${table(i)} a JOIN ${table(i + 1)} b ON a.id = b.customer_id WHERE a.amount > ${number * 31 + i} AND b.status <> ${number + i} AND a.country = ${i} GROUP BY 1, 2`,
    })),
  })
}

/** The `i`-th small edit: a step's name and the revision. */
export const edit = (doc: Automerge.Doc<Sample>, i: number): Automerge.Doc<Sample> =>
  Automerge.change(doc, draft => {
    draft.steps[i % 8]!.name = `step-${i}`
    draft.rev = i
  })
