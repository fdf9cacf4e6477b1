import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { pipelineDefinition } from '@pluto-duck/crdt-model'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { cellOf, tableHtml, tableMarkdown } from '../../src/reports/cells.ts'
import { ChartRenderer } from '../../src/reports/charts.ts'
import { type ReportRows, renderReport } from '../../src/reports/index.ts'
import { cleanSvg } from '../../src/reports/svg-cleaner.ts'

const ROWS: ReportRows = {
  columns: [
    { name: 'x', type: 'INTEGER' },
    { name: 'label', type: 'VARCHAR' },
    { name: 'amount', type: 'DECIMAL(18,2)' },
  ],
  rows: [
    [1, '<img src=x onerror=alert(1)>', '12.50'],
    [2, 'NULL', '-1234567.80'],
    [3, null, null],
  ],
  more: false,
}

describe('charts', () => {
  const charts = new ChartRenderer()
  afterAll(() => charts.close())
  const bar = {
    data: { name: 'd' },
    mark: 'bar',
    encoding: { x: { field: 'label', type: 'nominal' }, y: { field: 'amount', type: 'quantitative' } },
  }

  it('[REP3] text from data is text in the SVG; decimals are drawn as numbers', async () => {
    const chart = await charts.render(bar, { d: ROWS })
    if (!chart.ok) throw new Error(chart.message)
    expect(chart.svg).toContain('&lt;img src=x onerror=alert(1)&gt;')
    expect(chart.svg).not.toMatch(/<img|<script/)
    expect(chart.svg).toContain('var(--muted)')
  })

  it.each([
    ['data by url', { ...bar, data: { url: 'https://example.com/a.csv' } }],
    [
      'a file',
      { ...bar, transform: [{ lookup: 'x', from: { data: { url: 'file:///etc/passwd' }, key: 'x' } }] },
    ],
    ['an image', { ...bar, mark: { type: 'image', url: 'https://example.com/a.png' } }],
    ['an image in a layer', { data: { name: 'd' }, layer: [{ mark: 'image', encoding: {} }] }],
    ['a link', { ...bar, encoding: { ...bar.encoding, href: { value: 'javascript:alert(1)' } } }],
  ])('[REP4] a chart with %s is refused', async (_what, spec) => {
    expect(await charts.render(spec, { d: ROWS })).toMatchObject({ ok: false })
  })

  it('[REP4] a chart that would run for ever, or is none, ends alone', async () => {
    const impatient = new ChartRenderer(4_000)
    const calculated = (calculate: string) => ({ ...bar, transform: [{ calculate, as: 'z' }] })
    for (const spec of [
      calculated("test(/(a+)+$/, 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!')"),
      calculated('sequence(0, 1e12)'),
    ])
      expect(await impatient.render(spec, { d: ROWS })).toMatchObject({ ok: false })
    const patient = new ChartRenderer()
    expect(await patient.render({ data: { name: 'd' }, mark: 'nonsense' }, { d: ROWS })).toMatchObject({
      ok: false,
    })
    expect(await patient.render(bar, { d: ROWS })).toMatchObject({ ok: true })
    await impatient.close()
    await patient.close()
  })

  it('[REP2] whatever an SVG holds beside shapes and texts is dropped', () => {
    const dirty =
      '<svg xmlns="http://www.w3.org/2000/svg" width="9" onload="x()" viewBox="0 0 1 1"><script>alert(1)</script><style>*{}</style>' +
      '<a href="javascript:x()"><path d="M0,0" fill="url(#clip0)"/></a><image href="http://e.com/a.png"/><foreignObject><b>x</b></foreignObject>' +
      '<rect id="clip0" fill="url(http://e.com/x)" style="a:b" onclick="x()"/><text fill="red">a &lt; b</text></svg>'
    expect(cleanSvg(dirty, 'c1-')).toBe(
      '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><rect id="c1-clip0"/><text fill="red">a &lt; b</text></svg>',
    )
  })
})

describe('tables', () => {
  it('[REP5] numbers are aligned and grouped, exact values kept, NULL told from the text', () => {
    const html = tableHtml(ROWS, 1_234)
    expect(html).toContain('<th scope="col" class="n">amount</th>')
    expect(html).toContain('<td class="n">−1,234,567.80</td>')
    expect(html).toContain('<td>NULL</td>')
    expect(html).toContain('<span class="null">NULL</span>')
    expect(html).toContain('1,234 more rows are left out.')
    expect(cellOf(12.833333333333334, { name: 'avg', type: 'DOUBLE' })).toEqual({
      text: '12.833',
      exact: '12.833333333333334',
      isNull: false,
    })
    expect(cellOf(2012, { name: 'n', type: 'INTEGER' }).text).toBe('2012')
    expect(cellOf(98105, { name: 'zip', type: 'INTEGER' }).text).toBe('98105')
    expect(cellOf('170141183460469231731687303715884105727', { name: 'n', type: 'HUGEINT' }).exact).toBeNull()
    expect(cellOf(1e300, { name: 'n', type: 'DOUBLE' }).text).toBe('1e+300')
  })

  it('[REP3] markup in cells is text in HTML and in markdown', () => {
    expect(tableHtml(ROWS, 0)).not.toContain('<img')
    expect(tableMarkdown(ROWS, 0)).not.toMatch(/[^\\]<img/)
    expect(tableMarkdown({ ...ROWS, rows: [[1, 'a | b\nc', '1']] }, 0)).toContain('a \\| b c')
  })
})

describe('a report', () => {
  let dataDir: string
  beforeAll(async () => {
    dataDir = await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-report-'))
  })
  afterAll(() => fs.rm(dataDir, { recursive: true, force: true }))

  const report = async (markdown: string, query: (sql: string) => ReportRows) =>
    renderReport({
      definition: pipelineDefinition.parse({ schema_version: 1, name: 'shop', report: markdown }),
      params: {},
      reader: { query: async sql => query(sql) },
      dataDir,
      clock: { now: () => 0 },
      run: {
        run_id: 'r1',
        pipeline_id: 'p1',
        version: null,
        author: '<b>Eve</b>',
        started_at: '2026-01-31T13:00:00Z',
        finished_at: '2026-01-31T13:00:01Z',
        steps: [],
      },
    })

  it('[REP3] HTML, images and script links in the markdown are text', async () => {
    const { folder } = await report(
      '# <script>alert(1)</script>\n\n<iframe src="https://e.com"></iframe> ![pixel](https://e.com/a.png) [a](javascript:alert(1)) [b](https://e.com) [c](file:///etc/passwd)\n',
      () => ROWS,
    )
    const html = await fs.readFile(path.join(folder, 'report.html'), 'utf8')
    expect(html).not.toMatch(/<script|<iframe|<img|href="(javascript|file)|<b>Eve/)
    expect(html).toContain('<a href="https://e.com" rel="noopener noreferrer">b</a>')
    expect(html).toContain('&lt;script&gt;')
  })

  it('[REP4] a block that fails is named in its place, and the rest is there', async () => {
    const { folder, failures } = await report(
      'before\n\n```sql good\nselect 1\n```\n\n```sql bad\nselect 2\n```\n\n```chart\ndata: {name: good}\nmark: nonsense\n```\n\nafter\n',
      sql => {
        if (sql.includes('2')) throw new Error('it broke')
        return ROWS
      },
    )
    const html = await fs.readFile(path.join(folder, 'report.html'), 'utf8')
    expect(failures.map(failure => [failure.block, failure.line])).toEqual([
      ['bad', 8],
      ['chart of good', 12],
    ])
    for (const text of ['before', 'after', '<table>', 'it broke']) expect(html).toContain(text)
    expect(await fs.readdir(path.join(dataDir, 'reports'))).toEqual(['r1'])
  })
})
