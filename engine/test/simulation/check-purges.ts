import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import { splitChanges } from '@pluto-duck/crdt-model'
import type { LogRow } from './check.ts'
import type { SimDevice } from './device.ts'
import type { World } from './simulate.ts'

export const contentOf = (doc: A.Doc<unknown>): string => JSON.stringify(A.toJS(doc))

type Documents = ReadonlyMap<string, A.Doc<unknown>>

/** The codes of local drafts that are no fault by themselves. */
export const draftCodes = (world: World): ReadonlySet<string> =>
  new Set(
    world.operator && world.operator.touched.size > 0
      ? // What was taken out is refused when it is sent again, and so is what builds on it.
        ['permission', 'void', 'invalid', 'missing_deps']
      : ['permission'],
  )

/** Whose bytes have to be gone: what was erased, and counts in no other document. */
function erasedHashes(changes: readonly LogRow[]): Set<string> {
  const erased = new Set(changes.filter(row => row.bytes.length === 0).map(row => row.hash))
  for (const row of changes) if (row.counts) erased.delete(row.hash)
  return erased
}

/** The letters that purges were to take out, as far as no person wrote them again. */
const goneMarks = ({ operator, letters }: World): string[] =>
  [...(operator?.guilty ?? [])].filter(mark => !letters?.isLoose(mark))

/** SIM14: what counted in a purged pipeline stays, but for what was named. */
export function checkContent(world: World, changes: readonly LogRow[], documents: Documents): string[] {
  const { letters, operator } = world
  if (!letters || !operator) return []
  const wrong: string[] = []
  const texts = new Map([...documents].map(([id, doc]) => [id, contentOf(doc)]))
  for (const row of changes) {
    if (row.kind !== 'pipeline' || row.base !== null) continue
    const mark = letters.of(row.hash)
    if (mark === undefined || letters.isLoose(mark) || operator.guilty.has(mark)) continue
    // What was taken out without being purged keeps its bytes, and is a local draft of its author's.
    if (!row.counts && row.bytes.length > 0) continue
    if (operator.takenOut.has(row.hash)) continue
    if (!texts.get(row.document_id)?.includes(mark))
      wrong.push(
        `what ${row.hash} wrote (${mark}) is not in ${row.document_id}${row.counts ? '' : ', which was purged'}`,
      )
  }
  for (const mark of goneMarks(world))
    for (const [id, text] of texts) if (text.includes(mark)) wrong.push(`${mark} was purged, and is in ${id}`)
  return wrong
}

/** SIM13, SIM14, SIM16: what the server has. */
export async function checkServer(
  world: World,
  changes: readonly LogRow[],
  documents: Documents,
): Promise<string[]> {
  const { cluster, workspaceId, plan } = world
  const wrong: string[] = []
  const erased = erasedHashes(changes)
  const gone = goneMarks(world)
  const { rows: snapshots } = await cluster.sql.query<{ id: string; base: string | null; snapshot: Buffer }>(
    'select id, base, snapshot from documents where workspace_id = $1 and snapshot is not null',
    [workspaceId],
  )
  for (const { id, base, snapshot } of snapshots)
    for (const hash of base === null ? hashesIn(snapshot) : splitHashes(snapshot))
      if (erased.has(hash)) wrong.push(`the server's snapshot of ${id} has ${hash}, which was purged`)
  for (const row of changes)
    if (row.counts && gone.length > 0) {
      const text = A.decodeChange(row.bytes)
        .ops.map(op => (typeof op.value === 'string' ? op.value : ''))
        .join('')
      for (const mark of gone)
        if (text.includes(mark)) wrong.push(`${row.seq} of the log has ${mark}, which was purged`)
    }
  const { rows: versions } = await cluster.sql.query<{
    pipeline_id: string
    number: number
    current: number
    purged: boolean
    text: string
  }>(
    `select v.pipeline_id, v.number, p.current, v.purged, v.definition || v.files::text as text from versions v
     join pipelines p on p.id = v.pipeline_id where v.workspace_id = $1`,
    [workspaceId],
  )
  for (const { pipeline_id, number, current, purged, text } of versions) {
    if (purged && text.replace('{}', '') !== '') wrong.push(`version ${number} of ${pipeline_id} has content`)
    if (purged && number === current) wrong.push(`the current version ${number} of ${pipeline_id} is purged`)
    for (const mark of gone)
      if (text.includes(mark)) wrong.push(`version ${number} of ${pipeline_id} has ${mark}, which was purged`)
  }
  for (const { document_id, hash, counts, bytes } of changes)
    if (counts && bytes.length === 0 && documents.has(document_id))
      wrong.push(`${hash} counts in ${document_id}, and has no bytes`)
  if (plan.purges?.verifies)
    for (const found of await (await cluster.purging()).verify(workspaceId)) wrong.push(`verify: ${found}`)
  return wrong
}

/** SIM13: what a member's device has, in its tables and, where it is DuckDB, in its file. */
export async function checkErased(
  world: World,
  device: SimDevice,
  changes: readonly LogRow[],
): Promise<string[]> {
  const wrong: string[] = []
  const erased = erasedHashes(changes)
  if (erased.size === 0) return wrong
  const found = (hashes: Iterable<string>, where: string): void => {
    for (const hash of hashes)
      if (erased.has(hash)) wrong.push(`${device.name} has ${hash}, which was purged, in ${where}`)
  }
  const { read } = device.running.state
  // SYNC17 of the engine
  for (const row of await read.all<{ document_id: string; hash: string }>(
    'select document_id, hash from records group by document_id, hash having count(*) > 1',
  ))
    wrong.push(`${device.name} has the record of ${row.hash} in ${row.document_id} twice`)
  for (const row of await read.all<{ document_id: string; bytes: Uint8Array; base: string | null }>(
    'select s.document_id, s.bytes, d.base from snapshots s join documents d on d.document_id = s.document_id',
  ))
    found(
      row.base === null ? hashesIn(row.bytes) : splitHashes(row.bytes),
      `the snapshot of ${row.document_id}`,
    )
  for (const row of await read.all<{ document_id: string; hash: string }>(
    'select document_id, hash from changes',
  ))
    found([row.hash], `the changes of ${row.document_id}`)

  const own = new Set(device.acknowledged.map(one => one.mark))
  const gone = goneMarks(world)
  const holds = (text: string, where: string, but: ReadonlySet<string> = new Set()): void => {
    for (const mark of gone)
      if (!but.has(mark) && text.includes(mark))
        wrong.push(`${device.name} has ${mark}, which was purged, in ${where}`)
  }
  for (const row of await read.all<{ draft_id: string; bytes: Uint8Array; base_bytes: Uint8Array | null }>(
    'select draft_id, bytes, base_bytes from local_drafts',
  ))
    for (const bytes of [row.bytes, row.base_bytes]) {
      if (bytes === null) continue
      const where = `the local draft ${row.draft_id}`
      const doc = A.load<unknown>(bytes)
      // A change that was stored and whose answer was lost waits on its author's device: nobody there can tell that it was purged.
      holds(contentOf(doc), where, own)
      found(hashesOf(doc), where)
      A.free(doc)
    }
  for (const table of ['versions', 'overviews'])
    for (const { body, key } of await read.all<{ key: string; body: string }>(
      `select key, body from ${table}`,
    ))
      holds(body, `${table} ${key}`)
  for (const { state, pipeline_id } of await read.all<{ pipeline_id: string; state: string }>(
    'select pipeline_id, state from publishes',
  ))
    holds(state, `the publish of ${pipeline_id}`)
  if (world.plan.store === 'duckdb') wrong.push(...inFiles(world, device, erased))
  return wrong
}

/** Deleted rows stay in a DuckDB file until it is written anew. */
function inFiles({ operator }: World, device: SimDevice, erased: ReadonlySet<string>): string[] {
  const wrong: string[] = []
  for (const name of ['state.duckdb', 'state.duckdb.wal']) {
    const path = join(device.folder, name)
    if (!existsSync(path)) continue
    const content: Buffer = readFileSync(path)
    for (const [hash, needle] of operator?.needles ?? [])
      if (erased.has(hash) && content.indexOf(needle) >= 0)
        wrong.push(`${device.name} has ${hash}, which was purged, in the file ${name}`)
  }
  return wrong
}

const hashesOf = (doc: A.Doc<unknown>): string[] => A.getChangesMetaSince(doc, []).map(meta => meta.hash)

function hashesIn(bytes: Uint8Array): string[] {
  const doc = A.load<unknown>(bytes)
  const hashes = hashesOf(doc)
  A.free(doc)
  return hashes
}

const splitHashes = (bytes: Uint8Array): string[] =>
  splitChanges(bytes).map(change => A.decodeChange(change).hash)
