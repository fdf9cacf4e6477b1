import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import { DuckDBInstance } from '@duckdb/node-api'
import { createPipeline, editPipeline, type PipelineDoc, spliceStepSql } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { systemClock } from '../src/clock.ts'
import { Documents } from '../src/documents/index.ts'
import { State, Workspaces } from '../src/state/index.ts'

// A keystroke in the SQL of a step -> durable on disk, as a view sees it: `documents.append` with one change. The floor is a bare
// DuckDB that commits one row of the same size, in turns with it, so that both meet the same disk.

const full = process.argv.includes('--full')
const HISTORY = full ? 20_000 : 4_000
const KEYS = full ? 3_000 : 1_000
const ROUNDS = 10
const SQL = `select o.id, o.region, sum(i.price * i.quantity) as revenue
from source.orders o join source.items i on i.order_id = o.id
where o.created_at >= $since group by all order by revenue desc\n`

const folder = mkdtempSync(join(tmpdir(), 'pluto-keystroke-'))
const state = await State.open(join(folder, 'state'))
const documents = await Documents.open(state, systemClock)
const workspaceId = newId()
const documentId = newId()
await new Workspaces(state).put({ workspace_id: workspaceId, name: 'bench', role: 'owner', remote: true })

// Ten steps of some 1.5 kB, typed a few characters at a time.
const steps = Array.from({ length: 10 }, (_, i) => ({ id: newId(), name: `step_${i}`, sql: SQL.repeat(8) }))
let typed = createPipeline({ name: 'weekly', steps })
for (let i = 0; i < HISTORY; i++) {
  const step = steps[i % steps.length] as (typeof steps)[number]
  typed = editPipeline(typed, 'type', d =>
    spliceStepSql(d, step.id, (i * 37) % 1_000, i % 3 === 0 ? 2 : 0, 'ab'),
  )
}
await documents.create({ documentId, workspaceId, kind: 'pipeline', doc: typed })

const opened = await documents.open(documentId)
let view = A.load<PipelineDoc>(opened.bytes, { actor: opened.actor })
const bare = await (await DuckDBInstance.create(join(folder, 'bare.duckdb'), { threads: '1' })).connect()
await bare.run(
  'create table changes (ord bigint, document_id varchar, hash varchar, deps varchar, bytes blob)',
)
const insert = await bare.prepare('insert into changes values ($1, $2, $3, $4, $5)')

const ours: number[] = []
const floor: number[] = []
const target = (steps[3] as (typeof steps)[number]).id
for (let round = 0; round < ROUNDS; round++) {
  for (let i = 0; i < KEYS / ROUNDS; i++) {
    view = editPipeline(view, 'type', d => spliceStepSql(d, target, 500 + i, 0, 'x'))
    const change = A.getLastLocalChange(view) as Uint8Array
    const started = performance.now()
    await documents.append(documentId, [change], 'view')
    ours.push(performance.now() - started)

    insert.bindBigInt(1, BigInt(i))
    insert.bindVarchar(2, documentId)
    insert.bindVarchar(3, 'a'.repeat(64))
    insert.bindVarchar(4, `["${'a'.repeat(64)}"]`)
    insert.bindBlob(5, change)
    const bareStarted = performance.now()
    await insert.run()
    floor.push(performance.now() - bareStarted)
  }
}
await documents.close()
await state.close()
rmSync(folder, { recursive: true, force: true })

const p99 = (times: readonly number[]): number =>
  times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] as number
const p50 = (times: readonly number[]): number => times.toSorted((a, b) => a - b)[times.length >> 1] as number
const GOAL_MS = 50
const round = (value: number): number => Math.round(value * 100) / 100
console.log(
  `${KEYS} keystrokes on ${HISTORY} changes: p50 ${round(p50(ours))} ms, floor p50 ${round(p50(floor))} ms`,
)
console.log(
  JSON.stringify({
    name: 'keystroke to durable on disk, p99',
    value: round(p99(ours)),
    unit: 'ms',
    floor: round(p99(floor)),
    ratio: round(p99(ours) / p99(floor)),
    goal: GOAL_MS,
    met: p99(ours) <= GOAL_MS,
  }),
)
