import * as A from '@automerge/automerge'
import {
  canonicalJson,
  composeDraft,
  contentHash,
  type PipelineDoc,
  pipelineFromDoc,
  sha256Hex,
} from '@pluto-duck/crdt-model'
import { checkContent, checkErased, checkServer, contentOf, draftCodes } from './check-purges.ts'
import type { SimDevice } from './device.ts'
import type { World } from './simulate.ts'

export interface LogRow {
  readonly seq: string
  readonly record: 'change' | 'void'
  /** It counts: no void record has taken it out. */
  readonly counts: boolean
  readonly document_id: string
  readonly hash: string
  readonly actor: string
  readonly device_id: string
  readonly kind: string
  /** Of a draft: its pipeline. */
  readonly base: string | null
  readonly bytes: Uint8Array
}

/** Looks at the rules of SPEC.md; throws with what does not hold. Answers the number of changes in the log. */
export async function check(world: World): Promise<number> {
  const { cluster, workspaceId, network } = world
  const { rows: records } = await cluster.sql.query<LogRow>(
    `select c.seq, c.record, c.void_seq is null as counts, c.document_id, encode(c.hash, 'hex') as hash, c.actor, c.device_id,
       d.kind, d.base, c.bytes
     from log_records c join documents d on d.workspace_id = c.workspace_id and d.id = c.document_id
     where c.workspace_id = $1 order by c.seq`,
    [workspaceId],
  )
  const changes = records.filter(row => row.record === 'change')
  const log = changes.filter(row => row.counts)
  const wrong: string[] = []
  const must = (holds: boolean, what: string): void => {
    if (!holds) wrong.push(what)
  }

  // SIM2: numbered without gaps, each change once.
  const { rows: counters } = await cluster.sql.query(
    'select seq from workspace_counters where workspace_id = $1',
    [workspaceId],
  )
  must(
    Number(counters[0]?.seq ?? 0) === records.length,
    `the counter is ${counters[0]?.seq}, the log has ${records.length}`,
  )
  for (const [i, row] of records.entries())
    must(Number(row.seq) === i + 1, `seq ${row.seq} is the ${i + 1}th of the log`)
  // A merged draft's changes are its pipeline's as well, under a number of their own.
  const places: Places = new Map()
  for (const row of changes) {
    const inDocuments = places.get(row.hash) ?? new Map<string, number>()
    places.set(row.hash, inDocuments)
    must(!inDocuments.has(row.document_id), `${row.hash} is in the log of ${row.document_id} twice`)
    inDocuments.set(row.document_id, Number(row.seq))
    const others = changes.filter(one => one.hash === row.hash && one.document_id !== row.document_id)
    must(
      row.kind === 'comments' ||
        others.every(one => one.base === row.document_id || row.base === one.document_id),
      `${row.hash} is in the log of documents that have nothing to do with each other`,
    )
  }
  for (const [hash, seq] of network.said.stored)
    must(
      [...(places.get(hash)?.values() ?? [])].includes(seq),
      `${hash} was said to be stored as ${seq}, and is not`,
    )
  wrong.push(...(await checkMerged(world, log, places)))
  const actors = new Map<string, string>()
  for (const { actor, device_id } of changes) {
    const known = actors.get(actor)
    // The first change of comments is everybody's.
    must(
      known === undefined || known === device_id || isGenesis(changes, actor),
      `the actor ${actor} wrote from two devices`,
    )
    actors.set(actor, device_id)
  }

  const documents = rebuild(log)
  try {
    const { rows: heads } = await cluster.sql.query<{ id: string; heads: string[] }>(
      'select id, heads from documents where workspace_id = $1 and seq > 0',
      [workspaceId],
    )
    for (const { id, heads: there } of heads)
      must(same(there, headsOf(documents.get(id))), `the server's heads of ${id} are not those of its log`)
    for (const device of world.devices)
      wrong.push(...(await checkDevice(world, device, world.isAllowed(device), documents, places)))
    wrong.push(...(await checkVersions(world, documents)))
    if (world.operator) {
      wrong.push(...checkContent(world, changes, documents))
      wrong.push(...(await checkServer(world, changes, documents)))
      for (const device of world.devices.filter(one => world.isAllowed(one)))
        wrong.push(...(await checkErased(world, device, changes)))
    }
    if (wrong.length === 0) wrong.push(...(await checkNewDevice(world, documents, changes)))
  } finally {
    for (const doc of documents.values()) A.free(doc)
  }
  if (wrong.length > 0) throw new Error(wrong.slice(0, 20).join('\n'))
  return log.length
}

const isGenesis = (log: readonly LogRow[], actor: string): boolean =>
  log.filter(row => row.actor === actor).length === 1

const headsOf = (doc: A.Doc<unknown> | undefined): string[] => (doc ? A.getHeads(doc) : [])
const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.toSorted().join() === b.toSorted().join()

/** Where each change of the log stands, those too that were taken out: by hash and document. */
type Places = Map<string, Map<string, number>>

function rebuild(log: readonly LogRow[]): Map<string, A.Doc<unknown>> {
  const bytes = new Map<string, { readonly base: string | null; readonly list: Uint8Array[] }>()
  for (const row of log) {
    const entry = bytes.get(row.document_id) ?? { base: row.base, list: [] }
    bytes.set(row.document_id, entry)
    entry.list.push(row.bytes)
  }
  const docs = new Map<string, A.Doc<unknown>>()
  for (const [id, { base, list }] of bytes)
    if (base === null) docs.set(id, A.applyChanges(A.init<unknown>(), list)[0])
  for (const [id, { base, list }] of bytes) {
    const whole = base === null ? undefined : docs.get(base)
    if (whole) docs.set(id, composeDraft(whole, list))
  }
  return docs
}

/** SIM11: what a merged draft said is its pipeline's, once; what was merged is a version. */
async function checkMerged(world: World, log: readonly LogRow[], places: Places): Promise<string[]> {
  const { rows } = await world.cluster.sql.query<{ id: string; pipeline_id: string; version: number | null }>(
    `select id, pipeline_id, version from drafts where workspace_id = $1 and state = 'merged'`,
    [world.workspaceId],
  )
  const wrong: string[] = []
  for (const { id, pipeline_id, version } of rows) {
    if (version === null) wrong.push(`the draft ${id} was merged as no version`)
    for (const { hash } of log.filter(row => row.document_id === id))
      if (!places.get(hash)?.has(pipeline_id))
        wrong.push(`${hash} of the merged draft ${id} is not in its pipeline`)
  }
  return wrong
}

async function forksOf(world: World): Promise<Set<string>> {
  const { rows } = await world.cluster.sql.query<{ id: string }>(
    'select id from documents where workspace_id = $1 and base is not null',
    [world.workspaceId],
  )
  return new Set(rows.map(row => row.id))
}

/** SIM1, SIM3, SIM4, SIM6, SIM12. */
async function checkDevice(
  world: World,
  device: SimDevice,
  allowed: boolean,
  log: ReadonlyMap<string, A.Doc<unknown>>,
  places: Places,
): Promise<string[]> {
  const wrong: string[] = []
  const { documents } = device.running
  const forks = await forksOf(world)
  const list = documents.list(device.workspaceId)
  if (allowed) {
    if (
      !same(
        list.map(info => info.documentId),
        [...log.keys()],
      )
    )
      wrong.push(`${device.name} has other documents than the log`)
    for (const info of list) {
      const there = log.get(info.documentId)
      if (!there) continue
      const [heads, content] = await documents.read<[string[], string], unknown>(info.documentId, doc => [
        A.getHeads(doc),
        contentOf(doc),
      ])
      if (!same(heads, A.getHeads(there)) || !same(info.heads, heads))
        wrong.push(`${device.name} has other heads of ${info.documentId} than the log`)
      else if (content !== contentOf(there))
        wrong.push(`${device.name} shows another content of ${info.documentId} under equal heads`)
    }
    if (documents.waiting({ workspaceId: device.workspaceId }) > 0)
      wrong.push(`${device.name} has changes that wait`)
  }

  // SIM12
  else if (device.left && list.length > 0)
    wrong.push(`${device.name} left, and still has ${list.map(info => info.documentId).join(', ')}`)

  const drafts: A.Doc<unknown>[] = []
  const codes = draftCodes(world)
  const kept = await documents.drafts(device.workspaceId)
  for (const { draftId, documentId, code } of kept) {
    // A draft that was merged or closed takes no more changes; one that builds on a refused edit of its pipeline is refused with it.
    const settled = code === 'invalid' && forks.has(documentId)
    const refusals = [...kept.map(one => one.code), ...device.appliedCodes]
    const follows = code === 'missing_deps' && refusals.includes('permission')
    if (!codes.has(code) && !settled && !follows)
      wrong.push(`${device.name} has a draft of code ${code} of ${documentId}`)
    drafts.push(A.load((await documents.draft(draftId)).bytes))
  }
  const texts = world.operator ? drafts.map(contentOf) : []
  for (const { documentId, hash, mark, base } of device.acknowledged) {
    if (places.has(hash) || device.settledByPerson.has(hash)) continue
    // SIM15: over an erased history it is an edit of the new one, under another hash.
    if (mark !== '' && (texts.some(text => text.includes(mark)) || world.letters?.isLoose(mark))) continue
    if (mark === '' && [documentId, base].some(id => id !== null && world.operator?.touched.has(id))) continue
    if (drafts.some(draft => A.hasHeads(draft, [hash]))) continue
    const here =
      documents.has(documentId) &&
      (await documents.read<boolean, unknown>(documentId, doc => A.hasHeads(doc, [hash])))
    if (here && !allowed) continue
    wrong.push(
      `${device.name} acknowledged ${hash} of ${documentId}: it is neither in the log nor in a draft${here ? ', and still here' : ''}`,
    )
  }
  for (const draft of drafts) A.free(draft)
  return wrong
}

/** SIM5. */
async function checkVersions(world: World, log: ReadonlyMap<string, A.Doc<unknown>>): Promise<string[]> {
  const wrong: string[] = []
  const { rows } = await world.cluster.sql.query<{
    id: string
    pipeline_id: string
    number: number
    content_hash: string
    heads: string[]
    /** Canonical JSON. */
    definition: string
    /** Only its hash is left. */
    purged: boolean
    /** Something of it was taken out of the log: it keeps its content. */
    voided: boolean
  }>(
    `select id, pipeline_id, number, content_hash, heads, definition, purged, exists (
       select 1 from log_records l where l.workspace_id = v.workspace_id and l.document_id = v.pipeline_id
         and l.void_seq is not null and encode(l.hash, 'hex') = any (v.heads)
     ) as voided from versions v where workspace_id = $1 order by pipeline_id, number`,
    [world.workspaceId],
  )
  const counts = new Map<string, number>()
  for (const row of rows) {
    const number = (counts.get(row.pipeline_id) ?? 0) + 1
    counts.set(row.pipeline_id, number)
    const name = `version ${row.number} of ${row.pipeline_id}`
    if (row.number !== number) wrong.push(`${name} is the ${number}th`)
    if (row.purged && world.operator?.touched.has(row.pipeline_id)) continue
    if (row.voided && world.operator?.touched.has(row.pipeline_id)) {
      if (sha256Hex(row.definition) !== row.content_hash) wrong.push(`${name} is not what its hash says`)
      continue
    }
    const doc = log.get(row.pipeline_id)
    if (!doc || !A.hasHeads(doc, row.heads)) {
      wrong.push(`the log does not have the heads of ${name}`)
      continue
    }
    const definition = pipelineFromDoc(A.view(doc, row.heads) as A.Doc<PipelineDoc>)
    if (contentHash(definition) !== row.content_hash) wrong.push(`${name} rebuilds to another hash`)
    if (canonicalJson(definition) !== row.definition) wrong.push(`${name} rebuilds to another content`)
  }
  for (const device of world.devices)
    for (const { pipelineId, versionId, number } of device.published)
      if (!rows.some(row => row.id === versionId && row.pipeline_id === pipelineId && row.number === number))
        wrong.push(`${device.name} was told of version ${number} of ${pipelineId}, which is not there`)
  return wrong
}

/** SIM7: a new device gets the same by snapshot. */
async function checkNewDevice(
  world: World,
  log: ReadonlyMap<string, A.Doc<unknown>>,
  changes: readonly LogRow[],
): Promise<string[]> {
  const device = world.device('new', world.owner)
  try {
    await device.open()
    const status = await device.running.sync.now()
    if (status.state !== 'in_sync') return [`a new device is not in sync: ${JSON.stringify(status)}`]
    return [
      ...(await checkDevice(world, device, true, log, new Map())),
      ...(world.operator ? await checkErased(world, device, changes) : []),
    ]
  } finally {
    await device.remove(true)
  }
}
