import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { PipelineSummary, Version, VersionSummary } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, type Selectable, sql } from 'kysely'
import type { Database } from '../database/index.ts'
import type { VersionTables } from './tables.ts'

type Row = Selectable<VersionTables['versions']>
type SummaryRow = Omit<Row, 'definition' | 'files' | 'purged'>

export const SUMMARY = [
  'workspace_id',
  'pipeline_id',
  'number',
  'id',
  'content_hash',
  'heads',
  'parent',
  'message',
  'published_by',
  'published_at',
  'authors',
  'resolved',
  'restores',
] as const

/** Rows as the wire has them, with the names of the people as they are now. */
export const summaries = async (
  db: Kysely<Database>,
  rows: readonly SummaryRow[],
): Promise<VersionSummary[]> => {
  const ids = [...new Set(rows.flatMap(row => [row.published_by, ...row.authors]))]
  const people =
    ids.length === 0
      ? []
      : await db.selectFrom('users').select(['id', 'name']).where('id', 'in', ids).execute()
  const names = new Map(people.map(person => [person.id, person.name]))
  const author = (userId: string) => ({ user_id: userId, name: names.get(userId) ?? '' })
  return rows.map(row => ({
    version_id: row.id,
    pipeline_id: row.pipeline_id,
    number: row.number,
    content_hash: row.content_hash,
    heads: row.heads,
    parent: row.parent,
    message: row.message,
    published_by: author(row.published_by),
    published_at: row.published_at.toISOString(),
    authors: row.authors.map(author),
    resolved: row.resolved,
    restores: row.restores,
  }))
}

export const summary = async (db: Kysely<Database>, row: SummaryRow): Promise<VersionSummary> =>
  (await summaries(db, [row]))[0] as VersionSummary

export const whole = async (db: Kysely<Database>, row: Row): Promise<Version> => {
  if (row.purged)
    throw new AppError('version.purged', `The content of version ${row.number} was purged.`, {
      details: { number: row.number, content_hash: row.content_hash },
    })
  return {
    ...(await summary(db, row)),
    // It was made by crdt-model and is hashed: it is what it was when it was published.
    definition: JSON.parse(row.definition) as PipelineDefinition,
    files: row.files,
  }
}

type Listed = Omit<PipelineSummary, 'current'> & { readonly currentNumber: number | null }

/** The pipelines of a workspace (or one of them): every document of the kind, published or not. Drafts are no pipelines. */
export const pipelines = async (
  db: Kysely<Database>,
  workspaceId: string,
  pipelineId?: string,
): Promise<Listed[]> => {
  const rows = await db
    .selectFrom('documents as d')
    .leftJoin('pipelines as p', 'p.id', 'd.id')
    .leftJoin('changes as c', join =>
      join.onRef('c.workspace_id', '=', 'd.workspace_id').onRef('c.seq', '=', 'd.seq'),
    )
    .select([
      'd.id',
      'd.workspace_id',
      'd.title',
      'd.created_at',
      'p.current',
      'p.updated_at',
      'c.received_at',
    ])
    .where('d.workspace_id', '=', workspaceId)
    .where('d.kind', '=', 'pipeline')
    .where('d.base', 'is', null)
    .$if(pipelineId !== undefined, query => query.where('d.id', '=', pipelineId as string))
    .orderBy('d.id')
    .execute()
  return rows.map(row => ({
    pipeline_id: row.id,
    workspace_id: row.workspace_id,
    name: row.title,
    created_at: row.created_at.toISOString(),
    updated_at: latest(row.created_at, row.updated_at, row.received_at).toISOString(),
    currentNumber: row.current,
  }))
}

const latest = (first: Date, ...others: (Date | null)[]): Date =>
  others.reduce<Date>((most, one) => (one !== null && one > most ? one : most), first)

/** The current versions of a workspace's pipelines, by pipeline. */
export const currentVersions = async (
  db: Kysely<Database>,
  workspaceId: string,
): Promise<Map<string, VersionSummary>> => {
  const rows = await db
    .selectFrom('pipelines as p')
    .innerJoin('versions as v', join =>
      join.onRef('v.pipeline_id', '=', 'p.id').onRef('v.number', '=', 'p.current'),
    )
    .select(SUMMARY.map(column => `v.${column}` as const))
    .where('p.workspace_id', '=', workspaceId)
    .execute()
  return new Map((await summaries(db, rows)).map(version => [version.pipeline_id, version]))
}

export const workspaceOfPipeline = async (db: Kysely<Database>, id: string): Promise<string | null> => {
  const { rows } = await sql<{ workspace_id: string }>`
    select workspace_id from documents where id = ${id} and kind = 'pipeline' and base is null`.execute(db)
  return rows[0]?.workspace_id ?? null
}
