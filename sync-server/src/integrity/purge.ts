import * as Automerge from '@automerge/automerge'
import {
  canonicalJson,
  contentHash,
  createPipeline,
  makeEqualTo,
  type PipelineDefinition,
  pipelineToFiles,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql, type Transaction } from 'kysely'
import type { Clock } from '../app/context.ts'
import type { EventBus } from '../app/event-bus.ts'
import type { Audit } from '../audit/index.ts'
import { decodeChangeBytes } from '../changes/admission/decode.ts'
import type { Executor } from '../changes/store.ts'
import { appendVoid, serverActor } from '../changes/void.ts'
import { type Database, transact } from '../database/index.ts'
import { lockCurrent } from '../versions/lock.ts'
import { documentPages } from './log-pages.ts'
import { Replayer } from './replay.ts'

export interface PurgeParts {
  readonly db: Kysely<Database>
  readonly audit: Audit
  readonly bus: Pick<EventBus, 'publish'>
  readonly clock: Clock
  /** Rebuilds the document; the caller's to close, and for one purge at a time. Default: one that ends with the purge. */
  readonly replayer?: Replayer
}

export interface PurgePlan {
  readonly workspace_id: string
  readonly document_id: string
  readonly kind: 'pipeline' | 'comments'
  /** Changes of it and of its drafts that lose their bytes. */
  readonly changes: number
  /** Versions that lose their content. */
  readonly versions: readonly number[]
  /** The version that becomes current, with the content that stays; null when none was published. */
  readonly new_version: number | null
  /** Drafts that end with the history that they build on. */
  readonly drafts: readonly string[]
  /** Comments on the pipeline, its drafts and its runs: they may quote what is purged, and are purged by themselves. */
  readonly comments: readonly string[]
  /** What is taken out of the text that stays: the effect of these changes. */
  readonly reverted: readonly string[]
}

interface Prepared {
  readonly plan: PurgePlan
  /** What it was prepared from. */
  readonly seen: Standing
  /** All drafts, those as well of which nothing counts any more. */
  readonly drafts: readonly string[]
  readonly roots: readonly string[]
  readonly next: readonly Uint8Array[]
  readonly title: string
  readonly author: string
  readonly version: {
    readonly definition: PipelineDefinition
    readonly heads: readonly string[]
    readonly of: number
  } | null
}

interface VersionRow {
  number: number
  content_hash: string
  heads: string[]
}

/** What a purge of the document would do. Nothing is changed. */
export const planPurge = async (
  db: Kysely<Database>,
  documentId: string,
  changes: readonly string[],
): Promise<PurgePlan> => (await prepare(db, documentId, changes)).plan

/**
 * Replaces a document's history by what its content is now: every change of it loses its bytes, its versions lose their content
 * unless that is the one that stays, and a new history of the server's own begins with the content that stays. Of `changes`
 * the effect is taken out of that content as well. Numbers, hashes, authors and times stay; the audit has its row.
 */
export async function purgeDocument(
  parts: PurgeParts,
  documentId: string,
  changes: readonly string[],
  reason: string,
): Promise<PurgePlan> {
  const { db, audit, bus, clock } = parts
  const prepared = await prepare(db, documentId, changes, parts.replayer)
  const { plan, seen, drafts } = prepared
  const workspaceId = plan.workspace_id
  await transact(db, async tx => {
    // Before the counter, as whoever publishes a draft does it.
    const current =
      plan.kind === 'pipeline'
        ? await lockCurrent(tx, { workspaceId, pipelineId: documentId, now: clock.now() })
        : null
    const done = await appendVoid(tx, {
      workspaceId,
      documentId,
      hashes: prepared.roots,
      erase: true,
      reason,
      at: clock.now(),
      title: prepared.title,
      next: { authorId: prepared.author, changes: prepared.next },
      record: async found => {
        // Somebody wrote, merged or published between the reading and the lock: what was prepared would lose that, or leave it.
        if (current !== seen.current || (await readHeads(tx, workspaceId, documentId)) !== seen.heads)
          throw new AppError(
            'request.rate_limited',
            'The document was edited meanwhile; nothing was purged.',
            {
              hint: 'Try again.',
            },
          )
        await lockDrafts(tx, workspaceId, drafts)
        await audit.record(tx, {
          workspaceId,
          actorUserId: null,
          action: 'document.purge',
          objectKind: 'document',
          objectId: documentId,
          details: { reason, ...found, versions: plan.versions, reverted: plan.reverted },
        })
      },
    })
    await sql`select purge_versions(${workspaceId}::uuid, ${documentId}::uuid, ${[...plan.versions]}::integer[])`.execute(
      tx,
    )
    // What was taken out of a draft before, and kept its bytes then.
    await sql`
      select void_changes(${workspaceId}::uuid, document_id, array_agg(hash), 0, true) from log_records
      where workspace_id = ${workspaceId} and document_id = any (${[...drafts]}::uuid[]) and record = 'change'
        and void_seq is not null and octet_length(bytes) > 0
      group by document_id`.execute(tx)
    await purgeReviews(tx, workspaceId, drafts, clock.now())
    if (prepared.version) await insertVersion(tx, prepared, clock.now())
    await bus.publish(workspaceId, { type: 'changes', from: done.after, to: done.seq, items: null }, tx)
    if (plan.new_version !== null)
      await bus.publish(
        workspaceId,
        { type: 'version', pipeline_id: documentId, number: plan.new_version },
        tx,
      )
  })
  return plan
}

async function prepare(
  db: Kysely<Database>,
  documentId: string,
  guilty: readonly string[],
  replayer?: Replayer,
): Promise<Prepared> {
  const { rows } = await sql<{
    workspace_id: string
    kind: 'pipeline' | 'comments'
    base: string | null
    title: string
  }>`
    select workspace_id, kind, base, title from documents where id = ${documentId}`.execute(db)
  const [document] = rows
  if (!document)
    throw new AppError('document.not_found', 'There is no such document on this server.', {
      hint: 'The ids of pipelines are in `pluto list --json`, and in the address of the app.',
    })
  if (document.base !== null)
    throw new AppError('request.invalid', 'This is a draft.', {
      hint: `Purge its pipeline ${document.base}: its drafts end with it.`,
    })
  const workspaceId = document.workspace_id
  // Before anything else: what comes after it is found by comparing.
  const seen = await readStanding(db, workspaceId, documentId)
  const drafts = await sql<{ id: string; counts: boolean }>`
    select id, cardinality(heads) > 0 as counts from documents where base = ${documentId} order by id`.execute(
    db,
  )
  const log = await readChanges(db, workspaceId, documentId)
  if (log.length === 0) throw new AppError('document.not_found', 'Nothing is left of this document.')
  const unknown = guilty.filter(hash => !log.some(change => change.hash === hash))
  if (unknown.length > 0)
    throw new AppError('request.invalid', `No change of this document has the hash ${unknown.join(', ')}.`)
  const ofDrafts: Logged[] = []
  for (const { id } of drafts.rows) ofDrafts.push(...(await readChanges(db, workspaceId, id)))
  const versions = await sql<VersionRow>`
    select number, content_hash, heads from versions where pipeline_id = ${documentId} and not purged
    order by number`.execute(db)
  // The first change of comments is the same for everybody and says nothing.
  const comments = await sql<{ id: string }>`
    select d.id from documents d where d.workspace_id = ${workspaceId} and d.kind = 'comments'
      and (d.subject_id = ${documentId}
        or d.subject_id in (select id from documents where workspace_id = ${workspaceId} and base = ${documentId})
        or d.subject_id in (select id from runs where pipeline_id = ${documentId}))
      and (select count(*) from changes c where c.workspace_id = d.workspace_id and c.document_id = d.id) > 1
    order by d.id`.execute(db)
  const plan = {
    workspace_id: workspaceId,
    document_id: documentId,
    kind: document.kind,
    comments: comments.rows.map(row => row.id),
    changes: new Set([...log, ...ofDrafts].map(change => change.hash)).size,
    drafts: drafts.rows.filter(row => row.counts).map(row => row.id),
    reverted: guilty,
  }
  const of = { seen, drafts: drafts.rows.map(row => row.id) }
  const author = log.at(-1)!.authorId
  // A draft may have a first change that builds on nothing: no honest program writes one.
  const roots = [...log, ...ofDrafts].filter(change => change.deps.length === 0).map(change => change.hash)
  if (document.kind === 'comments') {
    // Their first change is the same for every subject and holds nothing; who wrote what cannot be written again by the server.
    const first = log
      .filter(change => change.deps.some(dep => roots.includes(dep)))
      .map(change => change.hash)
    if (first.length === 0) throw new AppError('document.not_found', 'There are no comments.')
    return {
      plan: { ...plan, changes: log.length - roots.length, comments: [], versions: [], new_version: null },
      ...of,
      roots: first,
      next: [],
      title: '',
      author,
      version: null,
    }
  }

  const current = versions.rows.at(-1)
  const { content, published, gone } = await withReplayer(replayer, async one => {
    const at = await cleaner(one, db, workspaceId, documentId, log, guilty)
    const content = (await at(null)) as PipelineDefinition
    if (guilty.length === 0) {
      // Without a change to blame only what is the content now is known to be without the secret.
      const hash = contentHash(content)
      const gone = versions.rows.filter(row => row.content_hash !== hash)
      return { content, published: current ? content : null, gone }
    }
    let published: PipelineDefinition | null = null
    const gone: VersionRow[] = []
    for (const row of versions.rows) {
      const clean = await at(row.heads)
      if (clean === null || contentHash(clean) !== row.content_hash) gone.push(row)
      if (row === current) published = clean ?? content
    }
    return { content, published, gone }
  })
  const first = createPipeline(published ?? content, { actor: serverActor() })
  const heads = Automerge.getHeads(first)
  const whole = makeEqualTo(first, content, 'purge')
  return {
    plan: {
      ...plan,
      versions: gone.map(row => row.number),
      new_version: current ? current.number + 1 : null,
    },
    ...of,
    roots,
    next: Automerge.getAllChanges(whole),
    title: content.name,
    author,
    version: published && current ? { definition: published, heads, of: current.number } : null,
  }
}

/** How a document, its drafts and its versions stand. */
interface Standing {
  /** Of the document and of its drafts. */
  readonly heads: string
  /** The current version's number; null when none was published. */
  readonly current: number | null
}

async function readStanding(db: Executor, workspaceId: string, documentId: string): Promise<Standing> {
  const { rows } = await sql<{ current: number | null }>`
    select current from pipelines where id = ${documentId}`.execute(db)
  return { heads: await readHeads(db, workspaceId, documentId), current: rows[0]?.current ?? null }
}

/** They say which changes there are: a merge adds some to the pipeline that its draft had before. */
async function readHeads(db: Executor, workspaceId: string, documentId: string): Promise<string> {
  const { rows } = await sql<{ id: string; heads: string[] }>`
    select id, heads from documents
    where workspace_id = ${workspaceId} and (id = ${documentId} or base = ${documentId}) and cardinality(heads) > 0
    order by id`.execute(db)
  return rows.map(({ id, heads }) => `${id}:${heads.toSorted().join()}`).join('\n')
}

interface Logged {
  readonly hash: string
  readonly deps: readonly string[]
  readonly authorId: string
}

/** The changes that count of a document; of a draft, without its base's. */
export async function readChanges(db: Executor, workspaceId: string, documentId: string): Promise<Logged[]> {
  const { rows: authors } = await sql<{ hash: string; author_id: string }>`
    select encode(hash, 'hex') as hash, author_id from changes
    where workspace_id = ${workspaceId} and document_id = ${documentId}`.execute(db)
  const authorOf = new Map(authors.map(row => [row.hash, row.author_id]))
  const log: Logged[] = []
  for await (const page of documentPages(db, workspaceId, { id: documentId, base: null }))
    for (const { hash, bytes } of page) {
      const decoded = decodeChangeBytes(bytes)
      log.push({ hash, deps: decoded.ok ? decoded.change.deps : [], authorId: authorOf.get(hash) ?? '' })
    }
  return log
}

async function withReplayer<T>(
  given: Replayer | undefined,
  work: (replayer: Replayer) => Promise<T>,
): Promise<T> {
  const replayer = given ?? new Replayer()
  try {
    return await work(replayer)
  } finally {
    if (!given) await replayer.close()
  }
}

/**
 * Answers what the pipeline is at some heads, or as it stands now (null), without what the guilty changes wrote; null for heads of a
 * history that counts no more: nobody can tell what of it the guilty changes were made from.
 */
async function cleaner(
  replayer: Replayer,
  db: Executor,
  workspaceId: string,
  documentId: string,
  log: readonly Logged[],
  guilty: readonly string[],
): Promise<(heads: readonly string[] | null) => Promise<PipelineDefinition | null>> {
  const failed = (reason: string): AppError =>
    new AppError('document.corrupt', `The document cannot be read: ${reason}.`, {
      hint: 'Run `pluto-server verify` first.',
    })
  const [first] = log.filter(change => guilty.includes(change.hash) && change.deps.length === 0)
  if (first)
    throw new AppError(
      'request.invalid',
      `Change ${first.hash} made the document: it cannot be taken out of it.`,
      {
        hint: 'Take the secret out of the text in the app, sync, then purge without --change.',
      },
    )
  await replayer.step<'begin'>({ kind: 'begin', draft: false, structure: true })
  for await (const changes of documentPages(db, workspaceId, { id: documentId, base: null })) {
    const taken = await replayer.step<'changes'>({ kind: 'changes', changes })
    if (!taken.ok) throw failed(taken.reason)
  }
  const ended = await replayer.step<'end'>({ kind: 'end', compact: false })
  if (!ended.ok) throw failed(ended.reason)
  return async heads => {
    const read = await replayer.step<'version'>({
      kind: 'version',
      heads: heads ?? ended.value.heads,
      without: guilty,
    })
    if (!read.ok) throw failed(read.reason)
    // Written anew by this program it would be without what only the newer one knows.
    if (read.value.status === 'too_new')
      throw new AppError('document.too_new', 'A newer program wrote this pipeline than this server knows.', {
        hint: 'Update the server, then purge again. Nothing was changed.',
      })
    if (heads !== null && read.value.status === 'unknown_heads') return null
    if (read.value.status !== 'ok') throw failed('it is no pipeline there')
    return JSON.parse(read.value.definition) as PipelineDefinition
  }
}

/** Waits for what is being said about drafts. Before the audit's row: who says something locks its draft first. */
export async function lockDrafts(
  tx: Executor,
  workspaceId: string,
  drafts: readonly string[],
): Promise<void> {
  await sql`
    insert into drafts (workspace_id, id, pipeline_id, state)
    select workspace_id, id, base, 'open' from documents
    where workspace_id = ${workspaceId} and id = any (${[...drafts]}::uuid[]) and base is not null
    on conflict (id) do nothing`.execute(tx)
  await sql`
    select id from drafts where workspace_id = ${workspaceId} and id = any (${[...drafts]}::uuid[])
    order by id for update`.execute(tx)
}

/** What people wrote about drafts, which are locked and end. The audit's row has to be there. */
export async function purgeReviews(
  tx: Executor,
  workspaceId: string,
  drafts: readonly string[],
  at: Date,
): Promise<void> {
  const ids = [...drafts]
  await sql`
    update draft_reviews set message = '' where workspace_id = ${workspaceId} and draft_id = any (${ids}::uuid[])
      and message <> ''`.execute(tx)
  // Settled, so that who waits to say something about one is refused.
  await sql`
    update drafts set message = '',
      settled_at = case when state in ('open', 'review') then ${at} else settled_at end,
      state = case when state in ('open', 'review') then 'closed' else state end
    where workspace_id = ${workspaceId} and id = any (${ids}::uuid[])`.execute(tx)
}

async function insertVersion(
  tx: Transaction<Database>,
  { plan, version }: Prepared,
  at: Date,
): Promise<void> {
  const { definition, heads, of } = version!
  await sql`
    insert into versions (workspace_id, pipeline_id, number, id, content_hash, heads, parent, message, published_by,
      published_at, authors, resolved, restores, definition, files)
    select workspace_id, pipeline_id, ${plan.new_version}, ${newId()}, ${contentHash(definition)}, ${[...heads]}::text[], number,
      'History purged', published_by, ${at}, authors, '{}',
      case when content_hash = ${contentHash(definition)} then number end, ${canonicalJson(definition)},
      ${JSON.stringify(pipelineToFiles(definition))}::json
    from versions where pipeline_id = ${plan.document_id} and number = ${of}`.execute(tx)
  await sql`
    update pipelines set current = ${plan.new_version}, updated_at = ${at} where id = ${plan.document_id}`.execute(
    tx,
  )
}

/** Writes the tables anew, so that no dead row keeps what was erased. They are locked meanwhile. */
export async function rewriteTables(db: Executor): Promise<void> {
  for (const table of [
    'log_records',
    'documents',
    'versions',
    'snapshot_pages',
    'drafts',
    'draft_reviews',
    'run_log_chunks',
    'runs',
    'artifacts',
    'invitations',
    'members',
    'workspaces',
  ])
    await sql`vacuum (full) ${sql.table(table)}`.execute(db)
  await sql`checkpoint`.execute(db)
}
