import * as Automerge from '@automerge/automerge'
import type { Role } from '@pluto-duck/crdt-model/protocol'
import { serverMigrations } from '@pluto-duck/migrations/server'
import { testDatabase } from '@pluto-duck/test-fixtures/services'
import { Kysely, PostgresDialect, sql } from 'kysely'
import { Migrator } from 'kysely/migration'
import pg from 'pg'
import { v7 } from 'uuid'
import { expect } from 'vitest'
import { Audit } from '../../src/audit/index.ts'
import type { Appended, Push, PushedChange } from '../../src/changes/append.ts'
import type { Executor } from '../../src/changes/store.ts'
import { appendVoid } from '../../src/changes/void.ts'
import { createDatabase } from '../../src/database/index.ts'

/** A migrated database with people in it, for tests of the log. */
export interface LogFixture {
  readonly db: Kysely<unknown>
  readonly url: string
  /** A new workspace of its own. */
  workspace(): Promise<string>
  close(): Promise<void>
}

export async function logFixture(): Promise<LogFixture> {
  const database = await testDatabase()
  const pool = new pg.Pool({ connectionString: database.url, max: 10 })
  const db = new Kysely<unknown>({ dialect: new PostgresDialect({ pool }) })
  const migrated = await new Migrator({
    db,
    provider: { getMigrations: async () => serverMigrations },
  }).migrateToLatest()
  if (migrated.error) throw migrated.error
  await sql`insert into users (id, name, email) values ('ann', 'Ann', 'ann@example.org'), ('ben', 'Ben', 'ben@example.org')`.execute(
    db,
  )
  return {
    db,
    url: database.url,
    async workspace() {
      const id = v7()
      await sql`insert into workspaces (id, name, created_by) values (${id}, 'W', 'ann')`.execute(db)
      return id
    },
    async close() {
      await db.destroy()
      await database.drop()
    },
  }
}

export const pipelineChange = (documentId: string, bytes: Uint8Array): PushedChange => ({
  documentId,
  kind: 'pipeline',
  subject: null,
  base: null,
  bytes,
})

/** One installation: a person, a role, a device id and its actor, writing to one workspace. */
export class TestDevice {
  readonly id = v7()
  readonly workspaceId: string
  readonly userId: string
  readonly role: Role

  constructor(workspaceId: string, userId = 'ann', role: Role = 'editor') {
    this.workspaceId = workspaceId
    this.userId = userId
    this.role = role
  }

  push(documentId: string, changes: readonly Uint8Array[]): Push {
    return this.pushOf(changes.map(bytes => pipelineChange(documentId, bytes)))
  }

  pushOf(changes: readonly PushedChange[]): Push {
    const { workspaceId, userId, role, id } = this
    return { workspaceId, userId, role, deviceId: id, live: true, changes }
  }
}

/** Puts a change into the log behind admission's back. */
export async function smuggle(
  log: LogFixture,
  workspaceId: string,
  documentId: string,
  device: TestDevice,
  bytes: Uint8Array,
): Promise<string> {
  const { hash, actor: of, seq } = Automerge.decodeChange(bytes)
  await sql`
    with next as (update workspace_counters set seq = seq + 1 where workspace_id = ${workspaceId} returning seq),
      told as (
        update documents set heads = array[${hash}], seq = next.seq from next
        where workspace_id = ${workspaceId} and id = ${documentId}
      )
    insert into changes (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
    select ${workspaceId}, next.seq, ${documentId}, ${Buffer.from(hash, 'hex')}, ${of}, ${seq}, ${device.userId}, ${device.id},
      now(), false, ${Buffer.from(bytes)} from next`.execute(log.db)
  return hash
}

/** How many statements of others wait for a lock. */
export async function countWaiting(db: Executor): Promise<number> {
  const { rows } = await sql<{ n: number }>`
    select count(*)::int as n from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`.execute(db)
  return rows[0]!.n
}

/** Resolves when so many wait. */
export const untilWaiting = (db: Executor, count = 1): Promise<void> =>
  expect.poll(() => countWaiting(db), { timeout: 5_000 }).toBeGreaterThanOrEqual(count)

/** Takes changes out of a document and its drafts, as a purge of another process does; with `erase: false`, as a mend does. */
export async function takenOut(
  log: Pick<LogFixture, 'url'>,
  of: {
    readonly workspaceId: string
    readonly documentId: string
    readonly hashes: readonly string[]
    readonly erase?: boolean
    /** Awaited when everything is done and not committed yet. */
    readonly meanwhile?: () => Promise<void>
  },
): Promise<void> {
  const { db, close } = await createDatabase({ databaseUrl: log.url, dataDir: '' })
  const at = new Date()
  const audit = new Audit({ now: () => at })
  await db.transaction().execute(async tx => {
    await appendVoid(tx, {
      workspaceId: of.workspaceId,
      documentId: of.documentId,
      hashes: of.hashes,
      erase: of.erase ?? true,
      reason: 'a password',
      at,
      record: async () => {
        await audit.record(tx, {
          workspaceId: of.workspaceId,
          actorUserId: null,
          action: 'document.purge',
          objectKind: 'document',
          objectId: of.documentId,
        })
      },
    })
    await of.meanwhile?.()
  })
  await close()
}

export interface Note {
  name: Automerge.ImmutableString
  text: string
  n: number
}

/** A document with one change, and a function that edits it and gives the new change. */
export function note(actor: string): {
  first: Uint8Array
  edit: (text: string) => Uint8Array
  doc: () => Automerge.Doc<Note>
} {
  let doc = Automerge.init<Note>({ actor })
  doc = Automerge.change(doc, draft => {
    draft.name = new Automerge.ImmutableString('note')
    draft.text = ''
    draft.n = 0
  })
  return {
    first: Automerge.getLastLocalChange(doc)!,
    edit(text) {
      doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, text))
      return Automerge.getLastLocalChange(doc)!
    },
    doc: () => doc,
  }
}

/** A fresh actor id. */
export const actor = (): string => v7().replaceAll('-', '')

/** What became of each change of a push: its number in the log, or the code of its refusal. */
export const outcome = ({ verdicts }: Appended): (number | string)[] =>
  verdicts.map(one => (one.status === 'stored' ? one.seq : one.code))
