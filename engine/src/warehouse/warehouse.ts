import { createHash, randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, mkdir, readdir, rename, rm, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Column } from './column-types.ts'
import { flushFile, flushFolder, isMissing, readIfThere, replaceFile, sizeIfThere } from './durable-files.ts'
import {
  type CatalogRecord,
  catalogRecord,
  type ResultRecord,
  resultRecord,
  type TestOutcome,
} from './records.ts'
import { selectFromFile } from './storage-types.ts'
import { viewsScript } from './views-script.ts'

const STAGED = /^\.making-/

export interface CollectOptions {
  /** Fingerprints that stay whatever their age: pinned ones, those of runs worth comparing. */
  readonly keep: ReadonlySet<string>
  /** Results at least this many milliseconds old may go. */
  readonly olderThanMs: number
  readonly now: number
}

/**
 * The folder of results: immutable files named by fingerprint, and catalogs of pointers that say what is current.
 *
 * Guarantees: a result is there whole or not at all; a catalog shows all of one swap or all of another; a result in use, or
 * pointed at, is never collected. One host owns the folder; any number of programs may read it at any time.
 */
export class Warehouse {
  readonly #root: string
  readonly #leases = new Map<string, number>()
  /** Swaps of one catalog, one after the other: a partial run changes what the one before it wrote. */
  readonly #swaps = new Map<string, Promise<unknown>>()

  /** @param dataDir the data folder; `results/` and `catalog/` are made below it. */
  constructor(dataDir: string) {
    this.#root = resolve(dataDir)
  }

  resultPath(workspaceId: string, fingerprint: string): string {
    return join(this.#results(workspaceId), `${safe(fingerprint)}.parquet`)
  }

  /** A name of its own for a file that is being made; it becomes a result only by `commit`. */
  async stagePath(workspaceId: string, fingerprint: string): Promise<string> {
    await mkdir(this.#results(workspaceId), { recursive: true })
    return join(this.#results(workspaceId), `.making-${safe(fingerprint)}-${randomUUID()}.parquet`)
  }

  /** Makes a staged file the result of its fingerprint. If there is one already, that one stays and the staged file goes. */
  async commit(
    workspaceId: string,
    staged: string,
    made: {
      fingerprint: string
      columns: readonly Column[]
      rows: number
      run_id: string
      step: string
      created_at: string
      tests: readonly TestOutcome[]
    },
  ): Promise<ResultRecord> {
    const known = await this.result(workspaceId, made.fingerprint)
    if (known) {
      await rm(staged, { force: true })
      return known
    }
    await flushFile(staged)
    const { size } = await stat(staged)
    const record: ResultRecord = {
      format: 'pluto-result/1',
      fingerprint: made.fingerprint,
      columns: [...made.columns],
      rows: made.rows,
      bytes: size,
      created_at: made.created_at,
      run_id: made.run_id,
      step: made.step,
      tests: [...made.tests],
    }
    // Whoever reads results by hand should not change one by accident.
    await chmod(staged, 0o444)
    await rename(staged, this.resultPath(workspaceId, made.fingerprint))
    await flushFolder(this.#results(workspaceId))
    await replaceFile(this.#recordPath(workspaceId, made.fingerprint), JSON.stringify(record))
    return record
  }

  async discard(staged: string): Promise<void> {
    await rm(staged, { force: true })
  }

  /** What is known of a result, or null if there is none or its file is not whole. */
  async result(workspaceId: string, fingerprint: string): Promise<ResultRecord | null> {
    const text = await readIfThere(this.#recordPath(workspaceId, fingerprint))
    if (text === null) return null
    const record = resultRecord.safeParse(parseJson(text))
    if (!record.success) return null
    const size = await sizeIfThere(this.resultPath(workspaceId, fingerprint))
    return size === record.data.bytes ? record.data : null
  }

  /** SHA-256 of a result's file, hexadecimal: to compare, and to prove what was sent. Reads the whole file. */
  async hash(workspaceId: string, fingerprint: string): Promise<string> {
    return sha256(this.resultPath(workspaceId, fingerprint))
  }

  /** The SELECT over a result with exact types, for any DuckDB. Throws `run.not_found` if it was collected. */
  async viewSql(workspaceId: string, fingerprint: string): Promise<string> {
    const record = await this.result(workspaceId, fingerprint)
    if (!record) throw new AppError('run.not_found', 'This result is not in the warehouse any more.')
    return selectFromFile(this.resultPath(workspaceId, fingerprint), record.columns)
  }

  /** What is current in a pipeline, or null before its first success. */
  async catalog(workspaceId: string, pipelineId: string): Promise<CatalogRecord | null> {
    const text = await readIfThere(this.#catalogPath(workspaceId, pipelineId))
    if (text === null) return null
    const record = catalogRecord.safeParse(parseJson(text))
    if (!record.success)
      throw new AppError('state.corrupt', `The catalog of pipeline ${pipelineId} cannot be read.`, {
        hint: 'Run the pipeline again to rebuild it.',
        cause: record.error,
      })
    return record.data
  }

  /**
   * Makes results current, all at once. With `complete` the catalog is replaced; else what is given is put over what is there.
   * Also writes `<pipeline>.sql`, by which DuckDB's own shell reads the same.
   */
  swap(next: CatalogRecord, complete: boolean): Promise<CatalogRecord> {
    const path = this.#catalogPath(next.workspace_id, next.pipeline_id)
    const before = this.#swaps.get(path) ?? Promise.resolve()
    const swapped = before.then(() => this.#swap(path, next, complete))
    this.#swaps.set(
      path,
      swapped.catch(() => undefined),
    )
    return swapped
  }

  async #swap(path: string, next: CatalogRecord, complete: boolean): Promise<CatalogRecord> {
    const current = complete ? null : await this.catalog(next.workspace_id, next.pipeline_id)
    const record = current ? laidOver(current, next) : next
    const views = await viewsScript(record, fingerprint => this.viewSql(next.workspace_id, fingerprint))
    await replaceFile(path, JSON.stringify(record))
    await replaceFile(path.replace(/\.json$/, '.sql'), views)
    return record
  }

  /** Keeps results from being collected until the returned function is called. */
  lease(workspaceId: string, fingerprints: Iterable<string>): () => void {
    const paths = [...fingerprints].map(fingerprint => this.resultPath(workspaceId, fingerprint))
    for (const path of paths) this.#leases.set(path, (this.#leases.get(path) ?? 0) + 1)
    let released = false
    return () => {
      if (released) return
      released = true
      for (const path of paths) {
        const left = (this.#leases.get(path) ?? 1) - 1
        if (left === 0) this.#leases.delete(path)
        else this.#leases.set(path, left)
      }
    }
  }

  /** Workspaces that have results here. */
  workspaces(): Promise<string[]> {
    return namesIn(join(this.#root, 'results'))
  }

  /** Removes results that nothing points at, and files of runs that never ended. Returns the fingerprints that went. */
  async collect(workspaceId: string, options: CollectOptions): Promise<string[]> {
    const folder = this.#results(workspaceId)
    const current = await this.#pointedAt(workspaceId)
    const gone: string[] = []
    for (const name of await namesIn(folder)) {
      const path = join(folder, name)
      const fingerprint = name.replace(/\.(parquet|json)$/, '')
      const kept = current.has(fingerprint) || options.keep.has(fingerprint)
      if (kept || this.#leases.has(join(folder, `${fingerprint}.parquet`))) continue
      const age = await ageIfThere(path, options.now)
      if (age === null || age < options.olderThanMs) continue
      if (STAGED.test(name) || name.endsWith('.tmp')) await rm(path, { force: true })
      else if (name.endsWith('.parquet')) {
        // The record goes first: without it the file is no result, so a crash in between leaves nothing half.
        await rm(this.#recordPath(workspaceId, fingerprint), { force: true })
        await rm(path, { force: true })
        gone.push(fingerprint)
      }
    }
    return gone
  }

  async #pointedAt(workspaceId: string): Promise<Set<string>> {
    const found = new Set<string>()
    for (const name of await namesIn(join(this.#root, 'catalog', safe(workspaceId)))) {
      if (!name.endsWith('.json')) continue
      const catalog = await this.catalog(workspaceId, name.slice(0, -'.json'.length))
      for (const step of catalog?.steps ?? []) found.add(step.pointer.fingerprint)
      for (const input of catalog?.inputs ?? []) found.add(input.fingerprint)
    }
    return found
  }

  #results(workspaceId: string): string {
    return join(this.#root, 'results', safe(workspaceId))
  }
  #recordPath(workspaceId: string, fingerprint: string): string {
    return join(this.#results(workspaceId), `${safe(fingerprint)}.json`)
  }
  #catalogPath(workspaceId: string, pipelineId: string): string {
    return join(this.#root, 'catalog', safe(workspaceId), `${safe(pipelineId)}.json`)
  }
}

/** Ids become names of files: nothing in one may lead to another folder. */
function safe(id: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_-]{0,127}$/.test(id))
    throw new AppError('request.invalid', 'An id holds characters that cannot be in the name of a file.')
  return id
}

function laidOver(current: CatalogRecord, next: CatalogRecord): CatalogRecord {
  const given = new Map(next.steps.map(step => [step.name, step]))
  const ids = new Set(next.steps.map(step => step.pointer.step_id))
  const kept = current.steps.filter(step => !given.has(step.name) && !ids.has(step.pointer.step_id))
  const sources = new Map([...current.sources, ...next.sources].map(source => [source.name, source]))
  const inputs = new Map(
    [...current.inputs, ...next.inputs].map(input => [`${input.pipeline}.${input.step}`, input]),
  )
  return {
    ...next,
    sources: [...sources.values()],
    inputs: [...inputs.values()],
    steps: [...kept, ...next.steps],
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder)
  } catch (error) {
    if (isMissing(error)) return []
    throw error
  }
}

async function ageIfThere(path: string, now: number): Promise<number | null> {
  try {
    return now - (await stat(path)).mtimeMs
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash)
  return hash.digest('hex')
}

/** A file that was cut short by a crash is as good as none. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
