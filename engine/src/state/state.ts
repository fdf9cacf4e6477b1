import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { LOCAL_MIGRATIONS } from '@pluto-duck/migrations/local'
import { makeDataFolder } from './folder.ts'
import { type HostInfo, readHostFile, removeHostFile, writeHostFile } from './host-file.ts'
import { type Connection, type Database, Statements } from './transaction.ts'

type Work = (tx: Statements) => Promise<unknown>
interface Waiting {
  readonly work: Work
  resolve(value: unknown): void
  reject(error: unknown): void
}

/** Writers that one commit serves at most; more wait for the next one. */
const GROUP = 256
/** The key in `meta` that says that deleted content has to leave the file. */
const REWRITE = 'rewrite'
const open = new Set<string>()

/**
 * Says in a transaction that deletes content that this has to leave the file as well: what `rewrite` does after it, or the next start
 * when the program dies in between.
 */
export async function dueRewrite(tx: Statements): Promise<void> {
  await tx.run('delete from meta where key = $1', REWRITE)
  await tx.run('insert into meta values ($1, $2)', REWRITE, 'due')
}

/** Opens the database of a data folder, which is made when it is not there. */
export type OpenDatabase = (folder: string) => Promise<Database>

/**
 * The local state: `state.duckdb` in the data folder, owned by one host.
 *
 * Guarantees: `write` resolves after its transaction is on disk (DuckDB syncs its log at every commit). Writers that wait at the
 * same time share one commit, in the order in which they asked; one that fails is rolled back alone. After a commit
 * that failed nothing more is written: the process has to start again, from what is on disk.
 */
export class State {
  readonly folder: string
  readonly #openDatabase: OpenDatabase
  readonly #onNotRewritten: (error: unknown) => void
  #instance: Database
  #writer: Connection
  readonly #tx: Statements
  #reader: Connection
  readonly #read: Statements
  readonly #queue: Waiting[] = []
  #pump: Promise<void> | null = null
  #broken: AppError | null = null
  #closed = false

  private constructor(
    folder: string,
    openDatabase: OpenDatabase,
    onNotRewritten: (error: unknown) => void,
    instance: Database,
    writer: Connection,
    reader: Connection,
  ) {
    this.folder = folder
    this.#openDatabase = openDatabase
    this.#onNotRewritten = onNotRewritten
    this.#instance = instance
    this.#writer = writer
    this.#tx = new Statements(writer)
    this.#reader = reader
    this.#read = new Statements(reader)
  }

  /**
   * Throws `host.locked` (details: pid, port) when another host owns the folder.
   *
   * @param onNotRewritten hears why a rewrite, also the one that a start makes good, left the old file.
   */
  static async open(
    folder: string,
    openDatabase: OpenDatabase = openDuckDB,
    onNotRewritten: (error: unknown) => void = () => undefined,
  ): Promise<State> {
    if (open.has(folder)) throw locked(folder, readHostFile(folder))
    makeDataFolder(folder)
    open.add(folder)
    try {
      const instance = await openDatabase(folder)
      const state = new State(
        folder,
        openDatabase,
        onNotRewritten,
        instance,
        await instance.connect(),
        await instance.connect(),
      )
      await state.#migrate()
      if (await state.#read.first('select key from meta where key = $1', REWRITE)) await state.rewrite()
      writeHostFile(folder, { pid: process.pid, port: null, token: null })
      return state
    } catch (error) {
      open.delete(folder)
      throw error
    }
  }

  /** Tells other programs of this user where the host answers. */
  announce(info: { readonly port: number; readonly token: string }): void {
    writeHostFile(this.folder, { pid: process.pid, ...info })
  }

  /** Reads what is committed. */
  get read(): Statements {
    return this.#read
  }

  /**
   * Runs `work` in a transaction and resolves with its value once that is durable. `work` may run twice (when a neighbour
   * in the same commit failed), so it touches nothing but the transaction.
   */
  write<T>(work: (tx: Statements) => Promise<T>): Promise<T> {
    if (this.#broken) return Promise.reject(this.#broken)
    if (this.#closed) return Promise.reject(new AppError('internal', 'The local state is closed.'))
    return new Promise<T>((resolve, reject) => {
      this.#queue.push({ work, resolve: value => resolve(value as T), reject })
      this.#pump ??= this.#run()
    })
  }

  /** Resolves when everything that was asked to be written before is on disk, or has failed. */
  async settled(): Promise<void> {
    if (this.#pump || this.#broken || this.#closed) await this.write(async () => undefined)
  }

  /**
   * Writes the whole state into a new file, so that nothing of deleted rows is left in the folder; resolves when that is done. Writers
   * and readers wait meanwhile. Cut at any moment, the folder holds the old file or
   * the new one, whole; `open` finishes what it began. When the copy cannot be made, say for want of room, all goes on with the old file, and
   * the next rewrite or start tries again.
   */
  async rewrite(): Promise<void> {
    if (this.#instance.keepsDeleted === false) {
      // On a full disk the mark stays, as below.
      await this.write(tx => tx.run('delete from meta where key = $1', REWRITE)).catch(() => undefined)
      return
    }
    // Whoever deleted has said so in the transaction that did: on a full disk that mark counts.
    await this.write(dueRewrite).catch(() => undefined)
    // Between two commits nothing is open.
    while (this.#pump) await this.#pump
    if (this.#broken) throw this.#broken
    if (this.#closed) throw new AppError('internal', 'The local state is closed.')
    this.#pump = this.#rewriteNow().finally(() => {
      this.#pump = this.#queue.length > 0 ? this.#run() : null
    })
    await this.#pump
  }

  async #rewriteNow(): Promise<void> {
    await Promise.all([this.#read.hold(), this.#tx.hold()])
    try {
      const failed = await copyDatabase(this.folder, this.#writer).then(
        () => null,
        (cause: unknown) => ({ cause }),
      )
      for (const one of [this.#reader, this.#writer, this.#instance]) one.closeSync()
      if (failed === null) replaceDatabase(this.folder)
      else {
        removeCopy(this.folder)
        this.#onNotRewritten(failed.cause)
      }
      // Also when it failed: DuckDB gives a database up when a checkpoint finds no room, and what was committed is on the disk.
      this.#instance = await this.#openDatabase(this.folder)
      this.#writer = await this.#instance.connect()
      this.#reader = await this.#instance.connect()
    } catch (cause) {
      this.#broken = unwritable(cause)
      throw this.#broken
    } finally {
      this.#tx.resume(this.#writer)
      this.#read.resume(this.#reader)
    }
  }

  /** Waits for the writes that were asked for and the reads that run, then gives the folder back. Reads after that are refused. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    while (this.#pump) await this.#pump
    await Promise.all([this.#read.end(), this.#tx.end()])
    this.#reader.closeSync()
    this.#writer.closeSync()
    this.#instance.closeSync()
    removeHostFile(this.folder)
    open.delete(this.folder)
  }

  async #run(): Promise<void> {
    // Let writers of the same moment join the first commit.
    await Promise.resolve()
    while (this.#queue.length > 0) {
      const group = this.#queue.splice(0, GROUP)
      if (await this.#commit(group)) continue
      for (const one of group) await this.#commit([one])
    }
    this.#pump = null
  }

  /** False when one of several writers failed and nothing was written: each has to be tried by itself. */
  async #commit(group: readonly Waiting[]): Promise<boolean> {
    if (this.#broken) {
      for (const one of group) one.reject(this.#broken)
      return true
    }
    const values: unknown[] = []
    try {
      await this.#tx.run('begin transaction')
      for (const { work } of group) values.push(await work(this.#tx))
    } catch (error) {
      await this.#rollback()
      if (group.length > 1) return false
      group[0]?.reject(this.#broken ?? error)
      return true
    }
    try {
      await this.#tx.run('commit')
    } catch (cause) {
      this.#broken = unwritable(cause)
      for (const one of group) one.reject(this.#broken)
      return true
    }
    group.forEach((one, index) => {
      one.resolve(values[index])
    })
    return true
  }

  async #rollback(): Promise<void> {
    try {
      await this.#tx.run('rollback')
    } catch (cause) {
      this.#broken = unwritable(cause)
    }
  }

  async #migrate(): Promise<void> {
    await this.#writer.run(
      'create table if not exists migrations (id varchar primary key, applied_at timestamp)',
    )
    const done = new Set((await this.#tx.all<{ id: string }>('select id from migrations')).map(row => row.id))
    const unknown = [...done].filter(id => !LOCAL_MIGRATIONS.some(migration => migration.id === id))
    if (unknown.length > 0)
      throw new AppError('state.corrupt', 'The data folder was written by a newer version of this program.', {
        hint: 'Update this program.',
        details: { unknown },
      })
    for (const migration of LOCAL_MIGRATIONS) {
      if (done.has(migration.id)) continue
      await this.write(async tx => {
        for (const statement of migration.statements) await tx.run(statement)
        await tx.run('insert into migrations values ($1, now()::timestamp)', migration.id)
      })
    }
  }
}

/** Copies the content into a new file beside the database. When it throws the database has to be opened anew. */
async function copyDatabase(folder: string, connection: Connection): Promise<void> {
  removeCopy(folder)
  await connection.run(`attach '${copyOf(folder).replaceAll("'", "''")}' as fresh`)
  await connection.run('copy from database state to fresh')
  await connection.run(`delete from fresh.meta where key = '${REWRITE}'`)
  await connection.run('checkpoint fresh')
  await connection.run('detach fresh')
  await connection.run('force checkpoint state')
}

/** The copy takes the place of the database, which is closed. */
function replaceDatabase(folder: string): void {
  const file = join(folder, 'state.duckdb')
  // With a log of its own the old file would be more than what was copied: it stays, and the next start tries again.
  if (existsSync(`${file}.wal`)) return
  sync(copyOf(folder))
  renameSync(copyOf(folder), file)
  sync(folder)
}

const copyOf = (folder: string): string => join(folder, 'state.duckdb.new')

function removeCopy(folder: string): void {
  for (const path of [copyOf(folder), `${copyOf(folder)}.wal`]) rmSync(path, { force: true })
}

function sync(path: string): void {
  const handle = openSync(path, 'r')
  try {
    fsyncSync(handle)
  } catch (error) {
    // Windows does not sync folders.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
  } finally {
    closeSync(handle)
  }
}

async function openDuckDB(folder: string): Promise<Database> {
  try {
    // One thread and little memory: this database serves small reads and commits beside the runner's heavy work.
    return await DuckDBInstance.create(join(folder, 'state.duckdb'), { threads: '1', memory_limit: '512MB' })
  } catch (cause) {
    if (/lock/i.test(String(cause))) throw locked(folder, readHostFile(folder), cause)
    throw new AppError('state.corrupt', 'The local state cannot be opened.', { cause })
  }
}

const locked = (folder: string, info: HostInfo | null, cause?: unknown): AppError =>
  new AppError('host.locked', 'Another host owns this data folder.', {
    cause,
    details: { folder, pid: info?.pid ?? null, port: info?.port ?? null },
  })

const unwritable = (cause: unknown): AppError =>
  new AppError('internal', 'The local state can no longer be written.', {
    cause,
    hint: 'Check the free space of the disk, then start the program again; everything acknowledged is safe.',
  })
