import { AppError } from '@pluto-duck/crdt-model/errors'
import { sqlIdentifier } from '../compile/sql-text.ts'
import type { OutputOf, ParsedInputOf, RowsPage } from '../contract/index.ts'
import { Preview } from '../run/index.ts'
import type { RunnerPool } from '../runner/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { previewParts } from './carry-out.ts'
import { pageOf } from './preview.ts'
import { summarise } from './summaries.ts'

interface Parts {
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  readonly clock: { now(): number }
}

interface Opened {
  readonly key: string
  readonly preview: Promise<Preview>
  /** Callers that are reading. */
  users: number
  timer: NodeJS.Timeout | null
}

/** How long the reader of a pipeline's results is kept for the next page. */
const KEEP_MS = 20_000
const QUERY_MS = 60_000

/**
 * Pages and summaries of current results. Scrolling asks for many pages, so the process that reads them is kept for a while; a run
 * that makes new results current is seen by the next page.
 */
export class ResultPages {
  readonly #parts: Parts
  /** By pipeline. */
  readonly #open = new Map<string, Opened>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async rows(workspaceId: string, ask: ParsedInputOf<'result.rows'>): Promise<RowsPage> {
    const started = this.#parts.clock.now()
    const { name, total } = await this.#step(workspaceId, ask)
    return this.#read(workspaceId, ask.pipeline_id, async preview => {
      const page = { offset: ask.offset, limit: ask.limit }
      const found = await preview.query(`FROM ${sqlIdentifier(name)}`, page, { timeoutMs: QUERY_MS })
      return pageOf(found, ask.offset, total, this.#parts.clock.now() - started)
    })
  }

  async summary(
    workspaceId: string,
    ask: ParsedInputOf<'result.summary'>,
  ): Promise<OutputOf<'result.summary'>> {
    const { name } = await this.#step(workspaceId, ask)
    return this.#read(workspaceId, ask.pipeline_id, preview => summarise(preview, name))
  }

  async close(): Promise<void> {
    const open = [...this.#open.values()]
    this.#open.clear()
    await Promise.all(open.map(end))
  }

  async #step(
    workspaceId: string,
    { pipeline_id, step_id }: { readonly pipeline_id: string; readonly step_id: string },
  ): Promise<{ name: string; total: number | null }> {
    const catalog = await this.#parts.warehouse.catalog(workspaceId, pipeline_id)
    const step = catalog?.steps.find(one => one.pointer.step_id === step_id)
    if (!step)
      throw new AppError('run.not_found', 'This step has no result on this machine yet.', {
        hint: 'Run the pipeline.',
      })
    const record =
      step.pointer.kind === 'table'
        ? await this.#parts.warehouse.result(workspaceId, step.pointer.fingerprint)
        : null
    return { name: step.name, total: record?.rows ?? null }
  }

  async #read<T>(
    workspaceId: string,
    pipelineId: string,
    work: (preview: Preview) => Promise<T>,
  ): Promise<T> {
    const opened = await this.#take(workspaceId, pipelineId)
    opened.users += 1
    if (opened.timer) clearTimeout(opened.timer)
    try {
      return await work(await opened.preview)
    } finally {
      opened.users -= 1
      if (opened.users === 0) opened.timer = setTimeout(() => this.#drop(pipelineId, opened), KEEP_MS).unref()
    }
  }

  async #take(workspaceId: string, pipelineId: string): Promise<Opened> {
    const catalog = await this.#parts.warehouse.catalog(workspaceId, pipelineId)
    const key = `${workspaceId}/${catalog?.run_id}/${catalog?.swapped_at}`
    const known = this.#open.get(pipelineId)
    if (known?.key === key && (await known.preview.catch(() => null))?.alive) return known
    if (known) this.#drop(pipelineId, known)
    const preview = Preview.openCurrent(previewParts(this.#parts), workspaceId, pipelineId).then(opened => {
      if (opened) return opened
      throw new AppError('run.not_found', 'This pipeline has no results on this machine yet.', {
        hint: 'Run the pipeline.',
      })
    })
    const opened: Opened = { key, preview, users: 0, timer: null }
    this.#open.set(pipelineId, opened)
    return opened
  }

  /** Ends a reader once nobody reads from it. */
  #drop(pipelineId: string, opened: Opened): void {
    if (this.#open.get(pipelineId) === opened) this.#open.delete(pipelineId)
    if (opened.users === 0) void end(opened)
  }
}

async function end({ preview, timer }: Opened): Promise<void> {
  if (timer) clearTimeout(timer)
  const opened = await preview.catch(() => null)
  await opened?.close()
}
