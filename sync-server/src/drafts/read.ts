import { draftTitle } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Draft } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql } from 'kysely'
import type { Database } from '../database/index.ts'

interface Wanted {
  readonly workspaceId: string
  readonly draftId?: string
  readonly pipelineId?: string
  readonly state?: Draft['state'] | undefined
}

interface Row {
  id: string
  workspace_id: string
  base: string
  heads: string[]
  state: Draft['state']
  message: string
  requested_by: string | null
  requested_at: Date | null
  settled_by: string | null
  settled_at: Date | null
  version: number | null
  changes: number
  first_bytes: Buffer
  first_author: string
  first_at: Date
  last_at: Date
}

/** The drafts of a workspace, or those asked for, newest first. A draft is there from its first stored change on. */
export const readDrafts = async (db: Kysely<Database>, wanted: Wanted): Promise<Draft[]> => {
  const { rows } = await sql<Row>`
    select d.id, d.workspace_id, d.base, d.heads, coalesce(s.state, 'open') as state, coalesce(s.message, '') as message,
      s.requested_by, s.requested_at, s.settled_by, s.settled_at, s.version,
      (select count(*)::int from changes c where c.workspace_id = d.workspace_id and c.document_id = d.id) as changes,
      first.bytes as first_bytes, first.author_id as first_author, first.received_at as first_at, last.received_at as last_at
    from documents d
    left join drafts s on s.id = d.id
    join changes first on first.workspace_id = d.workspace_id and first.seq = d.created_seq
    -- of one that lost changes it is the record that took them out
    join log_records last on last.workspace_id = d.workspace_id and last.seq = d.seq
    where d.workspace_id = ${wanted.workspaceId} and d.base is not null
      and (${wanted.draftId ?? null}::uuid is null or d.id = ${wanted.draftId ?? null})
      and (${wanted.pipelineId ?? null}::uuid is null or d.base = ${wanted.pipelineId ?? null})
      and (${wanted.state ?? null}::text is null or coalesce(s.state, 'open') = ${wanted.state ?? null})
    order by d.created_seq desc`.execute(db)
  const reviews =
    rows.length === 0
      ? []
      : await db
          .selectFrom('draft_reviews')
          .selectAll()
          .where(
            'draft_id',
            'in',
            rows.map(row => row.id),
          )
          .orderBy('place')
          .execute()
  const author = await namesOf(db, [
    ...rows.flatMap(row => [row.first_author, row.requested_by, row.settled_by]),
    ...reviews.map(review => review.reviewer),
  ])
  return rows.map(row => {
    const own = reviews.filter(review => review.draft_id === row.id)
    const heads = [...row.heads].sort().join()
    const lastWord = new Map(own.map(review => [review.reviewer, review.id]))
    return {
      draft_id: row.id,
      workspace_id: row.workspace_id,
      pipeline_id: row.base,
      title: draftTitle(row.first_bytes),
      state: row.state,
      message: row.message,
      heads: row.heads,
      changes: row.changes,
      created_by: author(row.first_author),
      created_at: row.first_at.toISOString(),
      updated_at: row.last_at.toISOString(),
      requested_by: row.requested_by === null ? null : author(row.requested_by),
      requested_at: row.requested_at?.toISOString() ?? null,
      reviews: own.map(review => ({
        review_id: review.id,
        reviewer: author(review.reviewer),
        verdict: review.verdict,
        message: review.message,
        heads: review.heads,
        at: review.at.toISOString(),
        current: lastWord.get(review.reviewer) === review.id && [...review.heads].sort().join() === heads,
      })),
      settled_by: row.settled_by === null ? null : author(row.settled_by),
      settled_at: row.settled_at?.toISOString() ?? null,
      version: row.version,
    }
  })
}

/** Throws `draft.not_found`. */
export const readDraft = async (
  db: Kysely<Database>,
  workspaceId: string,
  draftId: string,
): Promise<Draft> => {
  const [draft] = await readDrafts(db, { workspaceId, draftId })
  if (!draft) throw new AppError('draft.not_found', 'There is no such draft.')
  return draft
}

const namesOf = async (db: Kysely<Database>, given: readonly (string | null)[]) => {
  const ids = [...new Set(given.filter(id => id !== null))]
  const people =
    ids.length === 0
      ? []
      : await db.selectFrom('users').select(['id', 'name']).where('id', 'in', ids).execute()
  const names = new Map(people.map(person => [person.id, person.name]))
  return (userId: string) => ({ user_id: userId, name: names.get(userId) ?? '' })
}

/** Who asked for changes and has not approved since: their last word stands, whatever was edited. */
export const standingObjections = (draft: Draft): Draft['reviews'] => {
  const last = new Map(draft.reviews.map(review => [review.reviewer.user_id, review]))
  return [...last.values()].filter(review => review.verdict === 'changes_requested')
}

export const workspaceOfDraft = async (db: Kysely<Database>, id: string): Promise<string | null> => {
  const { rows } = await sql<{ workspace_id: string }>`
    select workspace_id from documents where id = ${id} and base is not null`.execute(db)
  return rows[0]?.workspace_id ?? null
}
