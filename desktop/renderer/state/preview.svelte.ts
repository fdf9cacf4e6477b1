import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { ContractProblem, OutputOf, RowsPage } from '@pluto-duck/engine/contract'
import type { OpenPipeline } from './open-pipeline.svelte.ts'

const PAGE = 200
export type Summary = OutputOf<'result.summary'>
export type View =
  | { readonly state: 'none' }
  | { readonly state: 'loading'; readonly what: 'preview' | 'result' }
  | { readonly state: 'rows'; readonly what: 'preview' | 'result'; readonly page: RowsPage }
  | { readonly state: 'problems'; readonly problems: readonly ContractProblem[] }
  | { readonly state: 'failed'; readonly what: 'preview' | 'result'; readonly error: ErrorBody }
export type Cell = string | number | boolean | null
/** Rows that are missing as they could not be read: from one, and up to another. */
export interface Unread {
  readonly from: number
  readonly to: number
  readonly error: ErrorBody
}

/** What the grid shows: rows of a step as it is written, or a page after page of its last result. */
export class PreviewState {
  stepId = $state<string | null>(null)
  view = $state.raw<View>({ state: 'none' })
  summary = $state.raw<Summary | null>(null)
  /** Why the summaries of the columns could not be read: the rows are shown all the same. */
  summaryError = $state.raw<ErrorBody | null>(null)
  /** First row of a page -> its rows; grows as one scrolls. */
  pages = $state.raw<ReadonlyMap<number, readonly Cell[][]>>(new Map())
  /** Why a page could not be read, by its first row; it is asked for again when somebody wants it, or when the host is back. */
  private pageErrors = $state.raw<ReadonlyMap<number, ErrorBody>>(new Map())
  /** The rows that were asked for last. */
  private wanted = { from: 0, to: 0 }
  private readonly open: OpenPipeline
  private readonly asked = new Set<number>()
  private turn = 0

  constructor(open: OpenPipeline) {
    this.open = open
  }

  get total(): number {
    if (this.view.state !== 'rows') return 0
    return this.view.what === 'result'
      ? (this.view.page.total ?? this.view.page.rows.length)
      : this.view.page.rows.length
  }

  /** Rows of the step as it is written now. */
  async preview(stepId: string): Promise<void> {
    const turn = this.begin(stepId, { state: 'loading', what: 'preview' })
    const failure = await this.open.replica?.stored()
    if (turn !== this.turn) return
    if (failure) {
      this.view = { state: 'failed', what: 'preview', error: failure }
      return
    }
    const read = await this.open.app.call('pipeline.preview', { pipeline_id: this.open.id, step_id: stepId })
    if (turn !== this.turn) return
    if (!read.ok) {
      if (read.error.code === 'grant.required') {
        this.view = { state: 'none' }
        await this.open.askGrants(() => void this.preview(stepId))
        return
      }
      this.view = { state: 'failed', what: 'preview', error: read.error }
    } else if (read.value.state === 'problems')
      this.view = { state: 'problems', problems: read.value.problems }
    else this.show('preview', read.value.page)
  }

  /** The step's current result, a page at a time, with the summaries of its columns. */
  async result(stepId: string): Promise<void> {
    const turn = this.begin(stepId, { state: 'loading', what: 'result' })
    const input = { pipeline_id: this.open.id, step_id: stepId }
    const [read] = await Promise.all([
      this.open.app.call('result.rows', { ...input, limit: PAGE }),
      this.readSummary(),
    ])
    if (turn !== this.turn) return
    if (!read.ok) {
      this.view = read.error.code.endsWith('not_found')
        ? { state: 'none' }
        : { state: 'failed', what: 'result', error: read.error }
      return
    }
    this.show('result', read.value)
  }

  /** Reads the summaries of the result's columns, or tries again what failed: `summaryError` says whether it did. */
  async readSummary(): Promise<void> {
    const { stepId, turn } = this
    if (!stepId) return
    const read = await this.open.app.call('result.summary', { pipeline_id: this.open.id, step_id: stepId })
    if (turn !== this.turn) return
    this.summary = read.ok ? read.value : null
    this.summaryError = read.ok || read.error.code.endsWith('not_found') ? null : read.error
  }

  /** Asks for the pages that hold these rows. */
  need(from: number, to: number): void {
    if (this.view.state !== 'rows' || this.view.what !== 'result' || !this.stepId) return
    this.wanted = { from, to }
    for (let first = Math.floor(from / PAGE) * PAGE; first < Math.min(to, this.total); first += PAGE) {
      if (this.asked.has(first)) continue
      this.asked.add(first)
      void this.readPage(this.stepId, first, this.turn)
    }
  }

  /** What of these rows could not be read; null when nothing failed. */
  unread(from: number, to: number): Unread | null {
    let unread: Unread | null = null
    for (const [first, error] of this.pageErrors) {
      if (first >= to || first + PAGE <= from) continue
      const next: Unread = { from: first, to: Math.min(first + PAGE, this.total), error }
      unread = unread
        ? { ...next, from: Math.min(unread.from, next.from), to: Math.max(unread.to, next.to) }
        : next
    }
    return unread
  }

  /** Runs or reads again what failed as a whole. */
  async tryAgain(): Promise<void> {
    const { stepId, view } = this
    if (!stepId || view.state !== 'failed') return
    await (view.what === 'preview' ? this.preview(stepId) : this.result(stepId))
  }

  /** The host is back, or somebody wants it: reads again what could not be read of the result where one has scrolled to. */
  readAgain(): void {
    if (this.view.state === 'failed' && this.view.what === 'result') void this.tryAgain()
    if (this.pageErrors.size === 0) return
    for (const first of this.pageErrors.keys()) this.asked.delete(first)
    this.pageErrors = new Map()
    this.need(this.wanted.from, this.wanted.to)
  }

  row(index: number): readonly Cell[] | undefined {
    if (this.view.state === 'rows' && this.view.what === 'preview') return this.view.page.rows[index]
    return this.pages.get(Math.floor(index / PAGE) * PAGE)?.[index % PAGE]
  }

  /** A run ended: what was shown of the last result may be another one now. */
  resultChanged(): void {
    if (
      this.stepId &&
      (this.view.state === 'none' || (this.view.state === 'rows' && this.view.what === 'result'))
    )
      void this.result(this.stepId)
  }

  private async readPage(stepId: string, offset: number, turn: number): Promise<void> {
    const read = await this.open.app.call('result.rows', {
      pipeline_id: this.open.id,
      step_id: stepId,
      offset,
      limit: PAGE,
    })
    if (turn !== this.turn) return
    if (read.ok) this.pages = new Map(this.pages).set(offset, read.value.rows)
    else this.pageErrors = new Map(this.pageErrors).set(offset, read.error)
  }

  private begin(stepId: string, view: View): number {
    this.stepId = stepId
    this.view = view
    this.summary = null
    this.summaryError = null
    this.asked.clear()
    this.pages = new Map()
    this.pageErrors = new Map()
    this.wanted = { from: 0, to: 0 }
    this.turn += 1
    return this.turn
  }

  private show(what: 'preview' | 'result', page: RowsPage): void {
    this.view = { state: 'rows', what, page }
    this.pages = new Map([[0, page.rows]])
    this.asked.add(0)
  }
}
