import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { CHART_HEIGHT, CHART_WIDTH } from './chart-theme.ts'
import type { ReportRows } from './report-types.ts'
import { cleanSvg } from './svg-cleaner.ts'

const CHILD = fileURLToPath(new URL('./chart-child.ts', import.meta.url))
const reply = z.object({ id: z.number(), svg: z.string().optional(), error: z.string().optional() })

export type ChartResult =
  | { readonly ok: true; readonly svg: string }
  | { readonly ok: false; readonly message: string }

/** Why a spec may not be rendered, before anything of it runs; null when it may. */
export function chartViolation(spec: unknown): string | null {
  if (Array.isArray(spec)) return firstOf(spec.map(chartViolation))
  if (!isRecord(spec)) return null
  if ('url' in spec) return 'A chart may not name a url: its data comes from a sql block or a step.'
  if ('href' in spec) return 'A chart may not hold links.'
  if (spec.mark === 'image' || (isRecord(spec.mark) && spec.mark.type === 'image'))
    return 'A chart may not show images.'
  return firstOf(Object.values(spec).map(chartViolation))
}

/** The names of the data that a spec shows, its own first. */
export function chartData(spec: unknown): string[] {
  if (Array.isArray(spec)) return spec.flatMap(chartData)
  if (!isRecord(spec)) return []
  const data = isRecord(spec.data) && typeof spec.data.name === 'string' ? [spec.data.name] : []
  return [
    ...new Set([
      ...data,
      ...Object.entries(spec).flatMap(([key, value]) => (key === 'datasets' ? [] : chartData(value))),
    ]),
  ]
}

/** Renders charts one after the other in one killable process. Call `close` when done. */
export class ChartRenderer {
  readonly #timeoutMs: number
  #child: ChildProcess | null = null
  #next = 1

  /** Milliseconds for one chart, start of the process included. Default 20 s. */
  constructor(timeoutMs = 20_000) {
    this.#timeoutMs = timeoutMs
  }

  /** `data`: rows by the names that the spec uses. Never rejects for what is wrong with a spec. */
  async render(
    spec: Record<string, unknown>,
    data: Readonly<Record<string, ReportRows>>,
  ): Promise<ChartResult> {
    const violation = chartViolation(spec)
    if (violation) return { ok: false, message: violation }
    const datasets = Object.fromEntries(Object.entries(data).map(([name, rows]) => [name, chartRows(rows)]))
    const id = this.#next++
    const answer = await this.#ask(id, { ...sized(spec), datasets })
    if (answer.svg === undefined)
      return { ok: false, message: answer.error ?? 'The chart could not be drawn.' }
    return { ok: true, svg: cleanSvg(answer.svg, `c${id}-`) }
  }

  async close(): Promise<void> {
    const child = this.#child
    this.#child = null
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await gone
  }

  async #ask(
    id: number,
    spec: Record<string, unknown>,
  ): Promise<{ svg?: string | undefined; error?: string | undefined }> {
    this.#child ??= startChild()
    const child = this.#child
    const { promise, resolve } = Promise.withResolvers<{
      svg?: string | undefined
      error?: string | undefined
    }>()
    const onMessage = (message: unknown) => {
      const read = reply.safeParse(message)
      if (read.success && read.data.id === id) resolve(read.data)
    }
    const onExit = () => resolve({ error: 'The chart used more memory than it may.' })
    const timer = setTimeout(() => resolve({ error: 'The chart took too long to draw.' }), this.#timeoutMs)
    child.on('message', onMessage).once('exit', onExit)
    child.send({ id, spec }, error => {
      if (error) resolve({ error: 'The chart could not be handed over for drawing.' })
    })
    const answer = await promise
    clearTimeout(timer)
    child.off('message', onMessage).off('exit', onExit)
    // Whatever hangs or died is not asked again.
    if (answer.svg === undefined) await this.close()
    return answer
  }
}

function startChild(): ChildProcess {
  const inElectron = 'electron' in process.versions
  return fork(CHILD, [], {
    // Dates in charts are UTC on every machine; nothing of the host's environment goes along.
    env: { TZ: 'UTC', ...(inElectron ? { ELECTRON_RUN_AS_NODE: '1' } : {}) },
    // No code from text, no writing, no processes of its own (Electron's node does not take the permission flags).
    execArgv: [
      '--max-old-space-size=512',
      '--disallow-code-generation-from-strings',
      ...(inElectron ? [] : ['--permission', '--allow-fs-read=*']),
    ],
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  })
}

/** The size of the page, unless the spec says its own; compositions size themselves. */
function sized(spec: Record<string, unknown>): Record<string, unknown> {
  const composed = ['facet', 'repeat', 'concat', 'hconcat', 'vconcat'].some(key => key in spec)
  const encoding = isRecord(spec.encoding) ? spec.encoding : {}
  if (composed || 'row' in encoding || 'column' in encoding || 'facet' in encoding) return spec
  return { width: CHART_WIDTH, height: CHART_HEIGHT, autosize: { type: 'fit', contains: 'padding' }, ...spec }
}

const NUMERIC =
  /^(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|UTINYINT|USMALLINT|UINTEGER|UBIGINT|UHUGEINT|FLOAT|DOUBLE|DECIMAL)/

/** Rows as a chart needs them: numbers as numbers, however the engine hands them over. */
function chartRows({ columns, rows }: ReportRows): Array<Record<string, unknown>> {
  const numeric = columns.map(column => NUMERIC.test(column.type) && !column.type.endsWith(']'))
  return rows.map(row =>
    Object.fromEntries(
      columns.map((column, index) => {
        const value = row[index]
        return [column.name, numeric[index] && typeof value === 'string' ? Number(value) : value]
      }),
    ),
  )
}

const firstOf = (found: ReadonlyArray<string | null>): string | null =>
  found.find(value => value !== null) ?? null
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
