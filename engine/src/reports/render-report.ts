/**
 * A run's report: `{dataDir}/reports/{run_id}/` with report.html, report.md and metadata.json, pinned to the version and the
 * run. Made aside and put in place as one; rendering again replaces it.
 */
import { createHash } from 'node:crypto'
import { promises as fs } from 'node:fs'
import path from 'node:path'
import { sqlIdentifier } from '../compile/sql-text.ts'
import { escapeHtml, TABLE_ROWS, tableHtml, tableMarkdown } from './cells.ts'
import { ChartRenderer } from './charts.ts'
import { markdownHtml } from './markdown.ts'
import { pageHtml, timeWords } from './page.ts'
import { type ReportBlock, readReport } from './report-blocks.ts'
import type { ReportInput, ReportRows, WrittenReport } from './report-types.ts'

/** Rows that a chart is drawn from. */
const CHART_ROWS = 10_000

interface Rendered {
  readonly html: string
  readonly markdown: string
}

/**
 * Rejects only when the files cannot be written, or with the signal's reason when it is aborted; a block that cannot be shown is named
 * in its place and in the result.
 */
export async function renderReport(input: ReportInput): Promise<WrittenReport> {
  const { definition, run, signal } = input
  const layout = readReport(definition.report)
  const failures: Array<WrittenReport['failures'][number]> = layout.problems.map(problem => ({
    block: problem.code,
    line: problem.line,
    message: problem.message,
  }))
  const queries = new Map(
    layout.parts.flatMap(part => (part.kind === 'sql' ? [[part.name, part.sql] as const] : [])),
  )
  const blocks: Array<Record<string, unknown>> = []
  const charts = new ChartRenderer()
  // Ends a chart that is being drawn.
  const stop = () => void charts.close()
  signal?.addEventListener('abort', stop, { once: true })
  const rendered: Rendered[] = []
  let title: string | null = null
  try {
    for (const part of layout.parts) {
      signal?.throwIfAborted()
      if (part.kind === 'text') {
        const heading: RegExpExecArray | null = title === null ? /^# +(.+?)\s*#*$/m.exec(part.markdown) : null
        title ??= heading?.[1] ?? null
        const text = heading ? part.markdown.replace(heading[0], '') : part.markdown
        rendered.push({ html: markdownHtml(text), markdown: text.trim() })
        continue
      }
      const shown =
        part.kind === 'sql' ? await showTable(part, input) : await showChart(part, queries, input, charts)
      rendered.push(shown.rendered)
      if (shown.facts) blocks.push(shown.facts)
      if (shown.failure) failures.push({ block: shown.name, line: part.line, message: shown.failure })
    }
    signal?.throwIfAborted()
  } finally {
    signal?.removeEventListener('abort', stop)
    await charts.close()
  }

  const heading = title ?? definition.name
  const facts = [
    definition.name,
    run.version === null ? 'draft' : `version ${run.version}`,
    timeWords(run.finished_at),
    ...(run.author ? [run.author] : []),
    ...Object.entries(input.params).map(([name, param]) => `${name} = ${param.value ?? 'NULL'}`),
  ]
  const html = pageHtml({
    title: heading,
    body: rendered.map(part => part.html).join('\n'),
    facts,
    steps: run.steps,
    pins: [
      ['Pipeline', run.pipeline_id],
      ['Run', run.run_id],
      ['Finished', run.finished_at],
    ],
  })
  const markdown = `# ${heading}\n\n*${facts.join(' · ')}*\n\n${rendered.map(part => part.markdown).join('\n\n')}\n`
  const metadata = {
    format: 'pluto-report/1',
    title: heading,
    pipeline: definition.name,
    pipeline_id: run.pipeline_id,
    run_id: run.run_id,
    version: run.version,
    draft: run.version === null,
    params: Object.fromEntries(Object.entries(input.params).map(([name, param]) => [name, param.value])),
    started_at: run.started_at,
    finished_at: run.finished_at,
    rendered_at: new Date(input.clock.now()).toISOString(),
    steps: run.steps,
    blocks,
    failures,
  }
  const files = {
    'report.html': html,
    'report.md': markdown,
    'metadata.json': `${JSON.stringify(metadata, null, 2)}\n`,
  }
  return { ...(await writeReport(input, files)), failures }
}

interface Shown {
  readonly name: string
  readonly rendered: Rendered
  readonly facts?: Record<string, unknown>
  readonly failure?: string
}

async function showTable(
  block: Extract<ReportBlock, { kind: 'sql' }>,
  { reader }: ReportInput,
): Promise<Shown> {
  const { name, sql } = block
  try {
    const rows = await reader.query(sql, TABLE_ROWS)
    const rest = rows.more ? (await countRows(sql, reader)) - rows.rows.length : 0
    return {
      name,
      rendered: { html: tableHtml(rows, rest), markdown: tableMarkdown(rows, rest) },
      facts: { kind: 'table', name, columns: rows.columns, rows: rows.rows.length, left_out: rest },
    }
  } catch (error) {
    return failed(name, error)
  }
}

async function countRows(sql: string, reader: ReportInput['reader']): Promise<number> {
  const inner = sql.trim().replace(/;+\s*$/, '')
  const { rows } = await reader.query(`SELECT count(*) AS n FROM (\n${inner}\n)`, 1)
  return Number(rows[0]?.[0] ?? 0)
}

async function showChart(
  block: Extract<ReportBlock, { kind: 'chart' }>,
  queries: ReadonlyMap<string, string>,
  { reader }: ReportInput,
  charts: ChartRenderer,
): Promise<Shown> {
  const name = `chart of ${block.data.join(', ')}`
  try {
    const data: Record<string, ReportRows> = {}
    for (const source of block.data) {
      data[source] = await reader.query(queries.get(source) ?? `FROM ${sqlIdentifier(source)}`, CHART_ROWS)
    }
    const chart = await charts.render(block.spec, data)
    if (!chart.ok) return failed(name, chart.message)
    const cut = Object.values(data).some(rows => rows.more)
    const note = cut
      ? `<p class="rest">Drawn from the first ${CHART_ROWS.toLocaleString('en-US')} rows.</p>`
      : ''
    const label = titleOf(block.spec) ?? name
    return {
      name,
      rendered: {
        html: `<figure>${chart.svg}${note}</figure>`,
        markdown: `*Chart: ${label} (shown in report.html)*`,
      },
      facts: {
        kind: 'chart',
        data: block.data,
        title: label,
        rows: Object.values(data).map(rows => rows.rows.length),
      },
    }
  } catch (error) {
    return failed(name, error)
  }
}

function titleOf(spec: Record<string, unknown>): string | null {
  const { title } = spec
  if (typeof title === 'string') return title
  const text = typeof title === 'object' && title !== null && 'text' in title ? title.text : null
  return typeof text === 'string' ? text : null
}

function failed(name: string, cause: unknown): Shown {
  const message = cause instanceof Error ? cause.message : String(cause)
  return {
    name,
    rendered: {
      html: `<div class="problem"><b>${escapeHtml(name)}</b> could not be shown. ${escapeHtml(message)}</div>`,
      markdown: `> **${name}** could not be shown.`,
    },
    failure: message,
  }
}

async function writeReport(
  { dataDir, run }: ReportInput,
  contents: Readonly<Record<string, string>>,
): Promise<Pick<WrittenReport, 'folder' | 'files'>> {
  const folder = path.join(dataDir, 'reports', run.run_id)
  const aside = `${folder}.${process.pid}.tmp`
  await fs.rm(aside, { recursive: true, force: true })
  await fs.mkdir(aside, { recursive: true })
  const files = []
  for (const [name, text] of Object.entries(contents)) {
    await fs.writeFile(path.join(aside, name), text)
    const sha256 = createHash('sha256').update(text).digest('hex')
    files.push({ name, bytes: Buffer.byteLength(text), sha256 })
  }
  await fs.rm(folder, { recursive: true, force: true })
  await fs.rename(aside, folder)
  return { folder, files }
}
