import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import {
  contentHash,
  createPipeline,
  editPipeline,
  pipelineFromDoc,
  pipelineToFiles,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId, type Version, version } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { z } from 'zod'
import { systemClock } from '../src/clock.ts'
import { Documents } from '../src/documents/index.ts'
import { openHost } from '../src/host/host.ts'
import { JsonTable, State, Workspaces } from '../src/state/index.ts'
import { compareSides } from '../src/versions/compare.ts'

// Any two of 500 versions compared, and every line's author found, as a view asks the host for it: read from disk, compiled in the
// sandbox, compared. The floor is the comparison of the two definitions alone.

const VERSIONS = 500
const PAIRS = process.argv.includes('--full') ? 60 : 15
const SQL = `select o.id, o.region, sum(i.price * i.quantity) as revenue
from (select 1 as id, 'north' as region, date '2026-01-01' as created_at) o
join (select 1 as order_id, 2.0 as price, 3 as quantity) i on i.order_id = o.id
where o.created_at >= date '2025-01-01' group by all order by revenue desc\n`

const folder = mkdtempSync(join(tmpdir(), 'pluto-history-'))
const [workspaceId, pipelineId] = [newId(), newId()]
const steps = Array.from({ length: 10 }, (_, i) => ({ id: newId(), name: `step_${i}`, sql: SQL }))
const versions: Version[] = []
let doc = createPipeline({ name: 'weekly', steps })
for (let number = 1; number <= VERSIONS; number++) {
  const step = steps[number % steps.length] as (typeof steps)[number]
  doc = editPipeline(doc, 'edit', d =>
    updateStepSql(d, step.id, `${SQL}-- version ${number}\nlimit ${number}\n`),
  )
  const definition = pipelineFromDoc(doc)
  const ann = { user_id: 'ann', name: 'Ann' }
  versions.push({
    version_id: newId(),
    pipeline_id: pipelineId,
    number,
    content_hash: contentHash(definition),
    heads: A.getHeads(doc),
    parent: number === 1 ? null : number - 1,
    message: `version ${number}`,
    published_by: ann,
    published_at: new Date(1_770_000_000_000 + number * 1_000).toISOString(),
    authors: [ann],
    resolved: [],
    restores: null,
    definition,
    files: pipelineToFiles(definition),
  })
}

const state = await State.open(folder)
const documents = await Documents.open(state, systemClock)
await new Workspaces(state).put({ workspace_id: workspaceId, name: 'bench', role: 'owner', remote: false })
await documents.create({ documentId: pipelineId, workspaceId, kind: 'pipeline', doc })
const table = new JsonTable(state, 'versions', z.object({ summary: z.unknown(), whole: version.nullable() }))
for (const whole of versions) {
  const { definition: _, files: __, ...summary } = whole
  await table.put(
    `${pipelineId}:${whole.number}`,
    { parent: pipelineId, at: whole.published_at },
    { summary, whole },
  )
}
await documents.close()
await state.close()

const host = await openHost({ folder, server: null, log: pino({ level: 'silent' }) })
const caller = { viewId: 'bench' }
const [ours, floor]: [number[], number[]] = [[], []]
const none = new Map<string, never>()
for (let i = 0; i < PAIRS; i++) {
  // Spread over the whole history, in no order that a cache would like.
  const [from, to] = [1 + ((i * 197) % VERSIONS), 1 + ((i * 331 + 250) % VERSIONS)]
  let started = performance.now()
  await host.handlers['version.compare'](
    {
      pipeline_id: pipelineId,
      before: { kind: 'version', number: from },
      after: { kind: 'version', number: to },
    },
    caller,
  )
  ours.push(performance.now() - started)
  const [left, right] = [versions[from - 1] as Version, versions[to - 1] as Version]
  started = performance.now()
  compareSides(
    pipelineId,
    { definition: left.definition, facts: none },
    { definition: right.definition, facts: none },
  )
  floor.push(performance.now() - started)
}
const started = performance.now()
await host.handlers['version.blame']({ pipeline_id: pipelineId, target: null, version: null }, caller)
const blame = performance.now() - started
await host.close()
rmSync(folder, { recursive: true, force: true })

const quantile = (times: readonly number[], part: number): number =>
  times.toSorted((a, b) => a - b)[Math.min(times.length - 1, Math.floor(times.length * part))] as number
const round = (value: number): number => Math.round(value * 100) / 100
const tell = (name: string, value: number, base: number, goal: number): void =>
  console.log(
    JSON.stringify({
      name,
      value: round(value),
      unit: 'ms',
      floor: round(base),
      ratio: round(value / base),
      goal,
      met: value <= goal,
    }),
  )
console.log(
  `${PAIRS} pairs of ${VERSIONS} versions of ${steps.length} steps; the first, with the start of the sandbox, ${round(ours[0] as number)} ms`,
)
tell('two of 500 versions compared, p50', quantile(ours.slice(1), 0.5), quantile(floor, 0.5), 300)
tell('two of 500 versions compared, p95', quantile(ours.slice(1), 0.95), quantile(floor, 0.95), 300)
tell('blame of every line over 500 versions', blame, quantile(floor, 0.5), 300)
