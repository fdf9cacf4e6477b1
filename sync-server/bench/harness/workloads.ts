import { existsSync, readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import * as Automerge from '@automerge/automerge'

/** The peers' workloads (sync-server/bench/peers): the same content from the same seeds, so that figures can be laid side by side. */

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

const TABLES = [
  'orders',
  'customers',
  'invoices',
  'payments',
  'shipments',
  'products',
  'regions',
  'events',
  'sessions',
  'accounts',
]
const COLUMNS = [
  'id',
  'customer_id',
  'amount',
  'created_at',
  'status',
  'region',
  'sku',
  'quantity',
  'email',
  'country',
  'total_net',
  'currency',
]

type Random = () => number
const pick = <T>(random: Random, of: readonly T[]): T => of[Math.floor(random() * of.length)]!

function sqlText(random: Random): string {
  const column = (): string => pick(random, COLUMNS)
  const table = (): string => pick(random, TABLES)
  let text = `SELECT ${column()}, ${column()}, sum(${column()}) AS total_${column()} FROM ${table()} a JOIN ${table()} b ON a.${column()} = b.${column()} WHERE a.${column()} > ${Math.floor(random() * 1e4)}`
  while (text.length < 190)
    text += ` AND ${pick(random, ['a', 'b'])}.${column()} ${pick(random, ['=', '<>', '>', '<'])} ${Math.floor(random() * 1e5)}`
  return `${text} GROUP BY 1, 2`
}

export interface SmallDocument {
  readonly doc: { name: string; rev: number; steps: { name: string; sql: string }[] }
  /** Step, position, deleted, inserted. */
  readonly edits: readonly (readonly [number, number, number, string])[]
}

/** A pipeline of eight steps and ten edits of its SQL. */
export function smallDocument(i: number): SmallDocument {
  const random = randomFrom(1000 + i)
  const doc = {
    name: `Pipeline ${i} ${pick(random, TABLES)} by ${pick(random, COLUMNS)}`,
    rev: 0,
    steps: Array.from({ length: 8 }, (_, k) => ({
      name: `step_${k}_${pick(random, TABLES)}`,
      sql: sqlText(random),
    })),
  }
  const edits = Array.from(
    { length: 10 },
    () =>
      [
        Math.floor(random() * 8),
        20 + Math.floor(random() * 120),
        4 + Math.floor(random() * 8),
        ` ${pick(random, COLUMNS)}_${Math.floor(random() * 1000)} `,
      ] as const,
  )
  return { doc, edits }
}

/** The eleven changes of a small document. */
export function changesOf({ doc, edits }: SmallDocument): Uint8Array[] {
  let made = Automerge.change(Automerge.init<SmallDocument['doc']>(), draft => {
    Object.assign(draft, structuredClone(doc))
  })
  for (const [step, at, deleted, inserted] of edits)
    made = Automerge.change(made, draft =>
      Automerge.splice(draft, ['steps', step, 'sql'], at, deleted, inserted),
    )
  const changes = Automerge.getAllChanges(made)
  Automerge.free(made)
  return changes
}

/** One person's session in one text: position, deleted, inserted. */
export type Patch = readonly [number, number, string]
export interface Session {
  readonly source: string
  readonly patches: readonly Patch[]
  readonly text: string
}

const RECORDED = new URL('../../../../shared/data/traces/automerge-paper.json.gz', import.meta.url)
const EDITS = 259_778

/**
 * The 260 k keystrokes in which the Automerge paper was written, from `../shared/data/traces` beside the repository; where that
 * is absent, as many from a seed that type, go back and delete as people do.
 */
export function longSession(edits = EDITS): Session {
  if (existsSync(RECORDED)) {
    const { txns } = JSON.parse(gunzipSync(readFileSync(RECORDED)).toString('utf8')) as {
      txns: { patches: Patch[] }[]
    }
    const patches = txns.flatMap(txn => txn.patches).slice(0, edits)
    return { source: 'recorded', patches, text: played(patches) }
  }
  const random = randomFrom(260)
  const patches: Patch[] = []
  let [length, at] = [0, 0]
  while (patches.length < edits) {
    if (random() < 0.02) at = Math.floor(random() * (length + 1))
    if (random() < 0.3 && at > 0) {
      patches.push([--at, 1, ''])
      length--
    } else {
      patches.push([at++, 0, pick(random, [...'etaoinshrdlu  ,.\n'])])
      length++
    }
  }
  return { source: 'made from a seed (no recorded trace here)', patches, text: played(patches) }
}

function played(patches: readonly Patch[]): string {
  const text: string[] = []
  for (const [at, deleted, inserted] of patches) text.splice(at, deleted, ...inserted)
  return text.join('')
}
