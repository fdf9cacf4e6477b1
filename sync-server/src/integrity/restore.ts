import { createHash } from 'node:crypto'
import type { Readable } from 'node:stream'
import { createZstdDecompress } from 'node:zlib'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type pg from 'pg'
import { z } from 'zod'
import { migrate, type ServerDatabase } from '../database/index.ts'
import { BACKUP_FORMAT, BACKUP_VERSION, type BackupManifest, logDigests } from './backup.ts'
import { productTables } from './product-tables.ts'

const header = z.object({
  format: z.literal(BACKUP_FORMAT),
  version: z.literal(BACKUP_VERSION),
  created_at: z.string(),
  migrations: z.array(z.string()),
  sequences: z.record(z.string(), z.string().nullable()),
})
const count = z.number().int().nonnegative()
const manifest = z.object({
  rows: z.record(z.string(), count),
  workspaces: z.array(z.object({ workspace_id: z.string(), seq: count, digest: z.string() })),
  artifacts: z.object({ count, bytes: count }),
  sha256: z.string(),
})

/** Rows and bytes that one statement inserts. */
const BATCH_ROWS = 500
const BATCH_BYTES = 8 * 1024 * 1024
const NAME = /^[a-z_][a-z0-9_]*$/

/**
 * Loads a backup into an empty database, in one transaction that is committed only when the log that was loaded has the digest
 * that the backup's manifest says: cut or failed at any moment, the database is empty. The schema is brought up to date before.
 *
 * Throws `request.invalid` for what is no whole backup, `database.schema` for one of a newer program, `request.id_taken` for a
 * database that is not empty.
 */
export async function restore(
  database: ServerDatabase,
  input: Readable,
  onProgress: (text: string) => void = () => {},
): Promise<BackupManifest> {
  await migrate(database.db)
  const client = await database.pool.connect()
  try {
    await client.query('begin')
    const loaded = await load(client, input, onProgress)
    onProgress('comparing the log with the manifest')
    const digests = await logDigests(client)
    if (JSON.stringify(digests) !== JSON.stringify(loaded.workspaces))
      throw broken('the log that was loaded is not the one that was backed up')
    await client.query('commit')
    return loaded
  } catch (error) {
    await client.query('rollback').catch(() => {})
    throw error
  } finally {
    client.release()
  }
}

async function load(
  client: pg.PoolClient,
  input: Readable,
  onProgress: (text: string) => void,
): Promise<BackupManifest> {
  const tables = await productTables(client)
  for (const table of tables) await assertEmpty(client, table)
  const sum = createHash('sha256')
  const rows: Record<string, number> = {}
  let first: z.infer<typeof header> | null = null
  let last: BackupManifest | null = null
  let table: string | null = null
  let batch: string[] = []
  let bytes = 0
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return
    await client.query(
      `insert into "${table}" select * from json_populate_recordset(null::"${table}", $1::json)`,
      [`[${batch.join(',')}]`],
    )
    batch = []
    bytes = 0
  }
  for await (const line of linesOf(input)) {
    if (last) throw broken('there is something behind its end')
    if (first === null) {
      first = parse(header, line)
      await assertMigrations(client, first.migrations)
    } else if (line.startsWith('{"manifest":')) {
      await flush()
      last = parse(z.object({ manifest }), line).manifest
      if (last.sha256 !== sum.copy().digest('hex')) throw broken('its checksum is another one')
    } else if (line.startsWith('{"table":')) {
      await flush()
      table = parse(z.object({ table: z.string().regex(NAME) }), line).table
      if (!tables.includes(table)) throw broken(`it has a table ${table} that this program does not know`)
      rows[table] = 0
      onProgress(`table ${table}`)
    } else {
      if (table === null) throw broken('it has a row without a table')
      rows[table] = (rows[table] ?? 0) + 1
      batch.push(line)
      bytes += line.length
      if (batch.length >= BATCH_ROWS || bytes >= BATCH_BYTES) await flush()
    }
    sum.update(line).update('\n')
  }
  if (!first || !last) throw broken('it ends before its end')
  if (JSON.stringify(rows) !== JSON.stringify(last.rows))
    throw broken('it has other rows than its manifest says')
  for (const [name, value] of Object.entries(first.sequences))
    if (NAME.test(name) && value !== null) await client.query('select setval($1, $2)', [name, value])
  return last
}

/** Lines end with a line feed and nothing else: texts may hold every other character that some count as an end of line. */
async function* linesOf(input: Readable): AsyncGenerator<string> {
  const plain = createZstdDecompress()
  input.once('error', error => plain.destroy(error))
  input.pipe(plain)
  let parts: Buffer[] = []
  try {
    for await (const chunk of plain as AsyncIterable<Buffer>) {
      let from = 0
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
        parts.push(chunk.subarray(from, end))
        yield Buffer.concat(parts).toString('utf8')
        parts = []
        from = end + 1
      }
      parts.push(chunk.subarray(from))
    }
  } catch (cause) {
    throw broken('it cannot be unpacked to its end', cause)
  }
  if (parts.some(part => part.length > 0)) throw broken('its last line is cut')
}

async function assertEmpty(client: pg.PoolClient, table: string): Promise<void> {
  // A start of the server leaves the first owner's link behind: that is nobody's data.
  const where = table === 'invitations' ? 'where workspace_id is not null or accepted_at is not null' : ''
  const { rows } = await client.query(`select 1 from "${table}" ${where} limit 1`)
  if (rows.length > 0)
    throw new AppError('request.id_taken', `The database is not empty: its table ${table} has rows.`, {
      hint: 'Restore into a new, empty database (or an empty DATA_DIR), then point the server at that.',
    })
  if (table === 'invitations') await client.query('delete from invitations')
}

async function assertMigrations(client: pg.PoolClient, theirs: readonly string[]): Promise<void> {
  const { rows } = await client.query<{ name: string }>('select name from kysely_migration order by name')
  const ours = rows.map(row => row.name)
  if (ours.join() === [...theirs].sort().join()) return
  const unknown = theirs.filter(name => !ours.includes(name))
  throw new AppError(
    'database.schema',
    unknown.length > 0
      ? `The backup was made by a newer program (${unknown.join(', ')}).`
      : 'The backup was made by an older program.',
    {
      hint:
        unknown.length > 0
          ? 'Restore it with that version of the program or a newer one.'
          : 'Restore it with the version that made it; then run `pluto-server migrate` and, as it may hold sessions, `pluto-server sign-out --all` with this one.',
    },
  )
}

function parse<S extends z.ZodType>(schema: S, line: string): z.output<S> {
  try {
    return schema.parse(JSON.parse(line))
  } catch (cause) {
    throw broken('one of its lines is none of ours', cause)
  }
}

const broken = (why: string, cause?: unknown): AppError =>
  new AppError('request.invalid', `This is no whole backup: ${why}.`, {
    hint: 'Nothing was restored. Take another copy of the file, or another backup.',
    cause,
  })
