import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { createZstdCompress } from 'node:zlib'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type pg from 'pg'
import { productTables, sequences } from './product-tables.ts'

/**
 * A backup: JSON lines in a zstd stream (docs/formats.md). A header; for each table a line that names it and its rows as Postgres
 * writes and reads them; a manifest with counts and, for each workspace, the digest of its log. Its last line says that it is whole.
 */
export const BACKUP_FORMAT = 'pluto-duck-backup'
export const BACKUP_VERSION = 1

export interface BackupManifest {
  readonly rows: Readonly<Record<string, number>>
  readonly workspaces: readonly LogDigest[]
  /** What the index of artifacts names; the files are not in the backup. */
  readonly artifacts: { readonly count: number; readonly bytes: number }
  /** SHA-256 of all lines before, with their line feeds. */
  readonly sha256: string
}

export interface LogDigest {
  readonly workspace_id: string
  readonly seq: number
  /** SHA-256 chained over each record's number, hash and bytes, in order. */
  readonly digest: string
}

const FETCH = 100

/** Writes a backup as of one moment; may run beside a working server. Resolves with the manifest when everything is written. */
export async function backup(
  pool: pg.Pool,
  out: Writable,
  onProgress: (text: string) => void = () => {},
): Promise<BackupManifest> {
  const client = await pool.connect()
  const zstd = createZstdCompress()
  const written = new Promise<void>((resolve, reject) => {
    out.once('error', reject)
    zstd.once('error', reject)
    zstd.once('end', resolve)
  })
  // A broken pipe is thrown by the next write, or at the end.
  written.catch(() => {})
  zstd.pipe(out, { end: false })
  const sum = createHash('sha256')
  const line = async (text: string): Promise<void> => {
    if (out.errored) throw unwritable(out.errored)
    sum.update(text).update('\n')
    if (!zstd.write(`${text}\n`)) await Promise.race([once(zstd, 'drain'), written])
  }
  try {
    await client.query('begin isolation level repeatable read read only')
    await client.query(`set local timezone = 'UTC'`)
    const { rows: migrations } = await client.query<{ name: string }>(
      'select name from kysely_migration order by name',
    )
    await line(
      JSON.stringify({
        format: BACKUP_FORMAT,
        version: BACKUP_VERSION,
        created_at: new Date().toISOString(),
        migrations: migrations.map(one => one.name),
        sequences: await sequences(client),
      }),
    )
    const counts: Record<string, number> = {}
    for (const table of await productTables(client)) {
      onProgress(`table ${table}`)
      await line(JSON.stringify({ table }))
      counts[table] = 0
      await client.query(
        `declare rows no scroll cursor for select row_to_json(t)::text as row from "${table}" t`,
      )
      for (;;) {
        const { rows } = await client.query<{ row: string }>(`fetch ${FETCH} from rows`)
        for (const { row } of rows) await line(row)
        counts[table] += rows.length
        if (rows.length < FETCH) break
      }
      await client.query('close rows')
    }
    const artifacts = await client.query<{ count: string; bytes: string }>(
      'select count(*) as count, coalesce(sum(bytes), 0) as bytes from artifacts',
    )
    const manifest: BackupManifest = {
      rows: counts,
      workspaces: await logDigests(client),
      artifacts: { count: Number(artifacts.rows[0]!.count), bytes: Number(artifacts.rows[0]!.bytes) },
      sha256: sum.copy().digest('hex'),
    }
    await line(JSON.stringify({ manifest }))
    await client.query('commit')
    zstd.end()
    await written
    return manifest
  } catch (error) {
    await client.query('rollback').catch(() => {})
    zstd.destroy()
    throw out.errored ? unwritable(out.errored) : error
  } finally {
    client.release()
  }
}

/** The digest of each workspace's log, as the transaction of this connection sees it. */
export async function logDigests(client: pg.PoolClient): Promise<LogDigest[]> {
  const { rows: workspaces } = await client.query<{ id: string }>('select id from workspaces order by id')
  const digests: LogDigest[] = []
  for (const { id } of workspaces) {
    let chain = Buffer.alloc(32)
    let after = 0
    for (;;) {
      const { rows } = await client.query<{ seq: string | number; hash: Buffer; bytes: Buffer }>(
        'select seq, hash, bytes from log_records where workspace_id = $1 and seq > $2 order by seq limit 500',
        [id, after],
      )
      for (const { seq, hash, bytes } of rows) {
        const number = Buffer.alloc(8)
        number.writeBigUInt64BE(BigInt(seq))
        chain = createHash('sha256').update(chain).update(number).update(hash).update(bytes).digest()
        after = Number(seq)
      }
      if (rows.length < 500) break
    }
    digests.push({ workspace_id: id, seq: after, digest: chain.toString('hex') })
  }
  return digests
}

const unwritable = (cause: unknown): AppError =>
  new AppError('file.unreadable', 'The backup cannot be written.', {
    hint: 'Check the path and the free space; what was written so far is no whole backup.',
    cause,
  })
