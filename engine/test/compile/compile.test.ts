import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type PipelineDefinition, pipelineDefinition } from '@pluto-duck/crdt-model'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  assertNoErrors,
  CompileMemory,
  type CompileOptions,
  compile,
  RunnerChild,
  type SqlChild,
} from '../../src/compile/index.ts'
import { RunnerPool } from '../../src/runner/index.ts'
import { resolveSources } from '../../src/sources/resolve-sources.ts'

let runner: RunnerChild
let pool: RunnerPool
let filesDir: string

beforeAll(async () => {
  pool = new RunnerPool()
  runner = new RunnerChild(pool)
  filesDir = await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-compile-'))
  await fs.writeFile(
    path.join(filesDir, 'orders.csv'),
    'id,region,amount,day\n1,north,10.5,2026-01-01\n2,south,4,2026-01-02\n',
  )
})
afterAll(async () => {
  await pool.close()
  await fs.rm(filesDir, { recursive: true, force: true })
})

type Loose = { steps?: Record<string, string | Record<string, unknown>>; [key: string]: unknown }

/** A definition with one source, `orders`, and steps given as name -> SQL or settings. */
function pipeline({ steps = {}, ...rest }: Loose): PipelineDefinition {
  return pipelineDefinition.parse({
    schema_version: 1,
    name: 'shop',
    sources: { orders: { kind: 'csv', path: 'orders.csv' } },
    steps: Object.entries(steps).map(([name, step], index) => ({
      id: `s${index}`,
      name,
      ...(typeof step === 'string' ? { sql: step } : step),
    })),
    ...rest,
  })
}

async function compiled(definition: PipelineDefinition, options: Partial<CompileOptions> = {}) {
  return compile(definition, { runner, sources: await resolveSources(definition, { filesDir }), ...options })
}
const told = (result: Awaited<ReturnType<typeof compiled>>) =>
  result.problems.map(problem => `${problem.file}:${problem.line}:${problem.column} ${problem.code}`)

describe('the DAG comes from the SQL alone', () => {
  it('[CMP1] steps come after what they read, whatever order they are written in', async () => {
    const result = await compiled(
      pipeline({
        steps: {
          top: 'from daily order by total desc limit 1',
          daily: 'select day, sum(amount) as total from clean group by day',
          clean: 'from source.orders',
        },
      }),
    )
    expect(result.problems).toEqual([])
    expect(result.steps.map(step => step.name)).toEqual(['clean', 'daily', 'top'])
    expect(result.edges).toEqual([
      { from: 'clean', to: 'daily' },
      { from: 'daily', to: 'top' },
    ])
    expect(result.steps[0]).toMatchObject({
      sources: ['orders'],
      columns: [
        { name: 'id', type: 'BIGINT' },
        { name: 'region', type: 'VARCHAR' },
        { name: 'amount', type: 'DOUBLE' },
        { name: 'day', type: 'DATE' },
      ],
    })
  })

  it('[CMP2] a CTE hides a step of its name inside its own query only', async () => {
    const result = await compiled(
      pipeline({
        steps: {
          clean: 'from source.orders',
          a: 'with clean as (select 1 as x) select * from clean',
          b: 'select (with clean as (select 1 as x) select x from clean) as y, id from clean',
          c: 'with clean as (select id from clean) select * from clean',
          d: 'with recursive n as (select 1 as i union all select i + 1 from n where i < 3) select * from n',
        },
      }),
    )
    expect(told(result)).toEqual([])
    const needs = Object.fromEntries(result.steps.map(step => [step.name, step.depends_on]))
    expect(needs).toEqual({ clean: [], a: [], b: ['clean'], c: ['clean'], d: [] })
  })

  it('[CMP3] a cycle is named by its path, at the place where it is written', async () => {
    const result = await compiled(
      pipeline({ steps: { a: 'select *\nfrom c', b: 'from a', c: 'from b', d: 'from a', e: 'from e' } }),
    )
    const cycles = result.problems.filter(problem => problem.code === 'step.cycle')
    expect(cycles.map(problem => problem.message)).toEqual([
      'These steps wait for each other: a -> c -> b -> a.',
      'The step "e" reads itself.',
    ])
    expect(cycles[0]).toMatchObject({ file: 'a.sql', line: 2, column: 6 })
    expect(() => assertNoErrors(result.problems)).toThrowError(/a\.sql:2:6/)
  })
})

describe('every problem at once, each with file, line, column and hint', () => {
  it('[CMP4] no problem hides another', async () => {
    const result = await compiled(
      pipeline({
        params: { region: { type: 'text', default: 'north' } },
        sources: { orders: { kind: 'csv', path: 'orders.csv' }, gone: { kind: 'csv', path: 'gone.csv' } },
        steps: {
          syntax: 'select id,\n  amount amount amount\nfrom source.orders',
          typo: 'select *\nfrom source.ordrs',
          step_typo: 'select * from cleen',
          clean: 'from source.orders',
          param_typo: 'select * from clean\nwhere region = $regoin',
          positional: 'select * from clean where region = ?',
          column_typo: "select 'ä' as x, amuont\nfrom clean",
          attack: "select * from clean, read_csv('/etc/passwd')",
          file: "select * from 'secret.csv'",
          other: 'select * from sales.revenue',
          write: 'create table x as select 1',
          several: 'select 1; select 2',
          empty: '-- nothing yet',
          fine: 'select region from clean where region = $region',
        },
        report:
          '# Hi\n\n```sql totals\nselect *\nfrom fien\n```\n\n```chart\nmark: bar\ndata: {name: totalz}\n```\n',
      }),
    )
    expect(told(result)).toEqual([
      'attack.sql:1:22 function.not_allowed',
      'column_typo.sql:1:18 sql.bind',
      'empty.sql:1:1 sql.empty',
      'file.sql:1:15 reference.file',
      'other.sql:1:15 reference.cross_pipeline',
      'param_typo.sql:2:16 param.unknown',
      'pipeline.yaml:1:1 source.missing',
      'positional.sql:1:36 param.positional',
      'report.md:5:6 reference.unknown',
      'report.md:9:1 report.chart',
      'several.sql:1:1 sql.not_a_select',
      'step_typo.sql:1:15 reference.unknown',
      'syntax.sql:2:17 sql.syntax',
      'typo.sql:2:6 reference.unknown_source',
      'write.sql:1:1 sql.not_a_select',
    ])
    for (const problem of result.problems) expect(problem.hint).not.toBe('')
    const hints = Object.fromEntries(result.problems.map(problem => [problem.file, problem.hint]))
    expect(hints['typo.sql']).toBe('Did you mean "orders"?')
    expect(hints['step_typo.sql']).toBe('Did you mean "clean"?')
    expect(hints['param_typo.sql']).toBe('Did you mean "region"?')
    expect(hints['column_typo.sql']).toContain('amount')
    expect(result.steps.find(step => step.name === 'fine')?.columns).toEqual([
      { name: 'region', type: 'VARCHAR' },
    ])
  })

  it('[CMP5] what stands behind an unbindable step is passed over, not blamed', async () => {
    const result = await compiled(
      pipeline({
        steps: { broken: 'select nope from source.orders', next: 'select x from broken', last: 'from next' },
      }),
    )
    expect(told(result)).toEqual(['broken.sql:1:8 sql.bind'])
    expect(result.steps.map(step => step.columns)).toEqual([null, null, null])
  })

  it('[CMP6] tests, keys and snapshots name columns that are there', async () => {
    const result = await compiled(
      pipeline({
        steps: {
          clean: {
            sql: 'from source.orders',
            tests: [
              { id: 't1', type: 'not_null', column: 'regoin' },
              { id: 't2', type: 'unique', columns: ['id', 'dya'] },
              { id: 't3', type: 'custom', sql: 'select * from clean where amuont < 0' },
              { id: 't4', type: 'accepted_values', column: 'region', values: ['north', 'south'] },
            ],
          },
        },
        publish: {
          snapshots: [
            { step: 'clean', columns: ['id', 'nmae'] },
            { step: 'claen', columns: [] },
          ],
        },
      }),
    )
    expect(result.problems.map(problem => problem.code).sort()).toEqual([
      'publish.unknown',
      'publish.unknown',
      'sql.bind',
      'test.column',
      'test.column',
    ])
    expect(result.problems.every(problem => problem.file === 'pipeline.yaml')).toBe(true)
  })

  it('[CMP14] what cannot be done yet is said, and only what would give wrong rows is refused', async () => {
    const result = await compiled(
      pipeline({
        steps: {
          inc: { sql: 'select 1 as x', materialize: 'incremental', unique_key: ['x'] },
          snap: { sql: 'select 1 as x', materialize: 'snapshot', unique_key: ['x'] },
          source: 'select 1 as x',
          inc2: { sql: 'select 2 as y', unique_key: ['x'] },
        },
      }),
      {
        yaml: 'steps:\n  - name: inc\n    materialize: incremental\n  - name: snap\n    materialize: snapshot\n',
      },
    )
    expect(result.problems.map(problem => `${problem.severity} ${problem.code} ${problem.line}`)).toEqual([
      'error step.reserved 1',
      'error test.column 1',
      'warning step.materialize 3',
      'error step.materialize 5',
    ])
    expect(result.problems[2]).toMatchObject({ column: 5 })
  })

  it('[CMP7] without the files of the sources the rest is still checked', async () => {
    const definition = pipeline({
      steps: { clean: 'from source.orders', fixed: 'select 1 as x', bad: 'select y from fixed' },
    })
    const result = await compile(definition, { runner })
    expect(told(result)).toEqual(['bad.sql:1:8 sql.bind'])
    expect(result.steps.find(step => step.name === 'clean')?.columns).toBeNull()
  })
})

it('[CMP15] a source that cannot be read is placed where it is declared, and quotes nothing of the file', async () => {
  await fs.writeFile(path.join(filesDir, 'bad.json'), '[{"a": "planted-value"\n broken planted-value')
  const definition = pipeline({
    sources: { bad: { kind: 'json', path: 'bad.json' }, odd: { kind: 'parquet', path: 'orders.csv' } },
    steps: { a: 'from source.bad', b: 'from source.odd' },
  })
  const yaml = 'name: shop\nsources:\n  bad:\n    kind: json\n  odd:\n    kind: parquet\n'
  const result = await compiled(definition, { yaml })
  expect(told(result)).toEqual(['pipeline.yaml:3:3 source.unreadable', 'pipeline.yaml:5:3 source.unreadable'])
  expect(JSON.stringify(result.problems)).not.toContain('planted')
})

describe('params', () => {
  it('[CMP8] are typed: the default, the allowed values and what a run gives', async () => {
    const definition = pipeline({
      params: {
        day: { type: 'date', default: '2026-02-30' },
        top: { type: 'integer', default: 5, allowed: [5, 10] },
        region: { type: 'text' },
      },
      steps: { a: 'select $top as n, $region as r' },
    })
    const result = await compiled(definition, { params: { top: 7, nope: 1 } })
    expect(result.problems.map(problem => problem.message)).toEqual([
      'The param "day" has a default that is not a day of the calendar.',
      'The value of the param "nope" is not declared.',
      'The value of the param "top" is not one of the allowed values.',
    ])
    expect(result.steps[0]?.params).toEqual(['region', 'top'])
  })

  it('[CMP9] defaults are applied', async () => {
    const result = await compiled(
      pipeline({ params: { top: { type: 'integer', default: 5 } }, steps: { a: 'select $top as n' } }),
    )
    expect(result.params).toEqual({ top: { type: 'integer', value: 5 } })
    expect(result.problems).toEqual([])
  })

  it('[CMP10] a $name inside a string, a comment or a quoted name is no param', async () => {
    const result = await compiled(
      pipeline({ steps: { a: `select '$x' as "$y", $$ $z $$ as t -- $w\n/* $v */` } }),
    )
    expect(result.problems).toEqual([])
  })
})

describe('what a fingerprint is made from', () => {
  const normalized = async (sql: string) =>
    (await compiled(pipeline({ steps: { a: sql } }))).steps[0]!.normalized_sql

  it('[CMP11] formatting, comments and keyword case do not count; everything else does', async () => {
    const base = await normalized('select id, amount from source.orders where amount > 9007199254740993')
    expect(
      await normalized(
        'SELECT id,\n   amount -- the money\nFROM source.orders\nWHERE amount > 9007199254740993;',
      ),
    ).toBe(base)
    for (const other of [
      'select id, amount from source.orders where amount > 9007199254740992',
      'select id, amount as amount2 from source.orders where amount > 9007199254740993',
    ])
      expect(await normalized(other)).not.toBe(base)
  })

  it('[CMP12] what makes each run differ is found', async () => {
    const result = await compiled(
      pipeline({
        steps: {
          a: 'select random() as r, current_date as d, uuid() as u',
          b: 'from source.orders tablesample 10%',
          c: 'from source.orders tablesample reservoir(1 rows) repeatable (7)',
          d: 'select now() - day as age from source.orders',
          e: 'select max(day) from source.orders',
        },
      }),
    )
    expect(result.steps.map(step => step.volatile)).toEqual([
      ['current_date', 'random()', 'uuid()'],
      ['TABLESAMPLE'],
      [],
      ['now()'],
      [],
    ])
  })
})

describe('what was found out before is not asked again', () => {
  /** The sandbox, and what was asked of it since it was last looked at. */
  const listened = () => {
    const asked: string[] = []
    const child: SqlChild = {
      parse: sql => {
        asked.push(`parse ${sql}`)
        return runner.parse(sql)
      },
      open: async paths => {
        asked.push(`open ${paths.length}`)
        const session = await runner.open(paths)
        return {
          ...session,
          describe: (sql, params) => {
            asked.push(`bind ${sql}`)
            return session.describe(sql, params)
          },
        }
      },
    }
    return { child, since: () => asked.splice(0) }
  }
  // Long after the files were written.
  const memory = () => new CompileMemory(() => Date.now() + 60_000)
  const steps = { clean: 'from source.orders', top: 'select region from clean', one: 'select $n as n' }

  it('[CMP16] an equal definition asks nothing; an edited step is asked about with those whose columns it changes', async () => {
    const { child, since } = listened()
    const options = { runner: child, memory: memory() }
    const made = pipeline({ params: { n: { type: 'integer', default: 1 } }, steps })
    const first = await compiled(made, options)
    expect(since()).toContain('open 1')
    expect(await compiled(made, options)).toEqual(first)
    expect(since()).toEqual([])

    const edited = 'select *, 1 as more from source.orders'
    const second = await compiled(
      pipeline({ params: { n: { type: 'integer', default: 1 } }, steps: { ...steps, clean: edited } }),
      options,
    )
    expect(since()).toEqual([`parse ${edited}`, 'open 0', `bind ${edited}`, 'bind select region from clean'])
    expect(second.steps.find(step => step.name === 'clean')!.columns).toHaveLength(5)

    const typed = await compiled(pipeline({ params: { n: { type: 'text', default: 'a' } }, steps }), options)
    expect(since()).toEqual(['open 0', 'bind select $n as n'])
    expect(typed.steps.find(step => step.name === 'one')!.columns).toEqual([{ name: 'n', type: 'VARCHAR' }])
  })

  it('[CMP16] a file that changed, or is as young as its stamps are coarse, is read again; so is what failed', async () => {
    const { child, since } = listened()
    const file = path.join(filesDir, 'moving.csv')
    await fs.writeFile(file, 'a\n1\n')
    const made = pipeline({
      sources: { moving: { kind: 'csv', path: 'moving.csv' } },
      steps: { all: 'from source.moving', wrong: 'select b from source.moving' },
    })
    const options = { runner: child, memory: memory() }
    expect(told(await compiled(made, options))).toEqual(['wrong.sql:1:8 sql.bind'])
    since()
    expect(told(await compiled(made, options))).toEqual(['wrong.sql:1:8 sql.bind'])
    expect(since()).toEqual(['open 0', 'bind select b from source.moving'])
    await fs.writeFile(file, 'b\nx\n')
    const moved = await compiled(made, options)
    expect(moved.problems).toEqual([])
    expect(moved.steps[0]!.columns).toEqual([{ name: 'b', type: 'VARCHAR' }])

    const young = { runner: child, memory: new CompileMemory() }
    await compiled(made, young)
    since()
    await compiled(made, young)
    expect(since()).toEqual(['open 1', 'bind SELECT * FROM source."moving"'])
  })

  it('[CMP17] what one definition named is not there for the next, and two at once do not meet', async () => {
    const named = pipeline({ sources: {}, steps: { mine: 'select 1 as a', reads: 'from mine' } })
    const other = pipeline({ sources: {}, steps: { mine: "select 'x' as b", reads: 'from mine' } })
    const [first, second] = await Promise.all([compiled(named), compiled(other)])
    expect(first.steps[1]!.columns).toEqual([{ name: 'a', type: 'INTEGER' }])
    expect(second.steps[1]!.columns).toEqual([{ name: 'b', type: 'VARCHAR' }])
    const session = await runner.open([])
    expect(await session.describe('from mine', {})).toMatchObject({ ok: false })
    await session.close()
  })
})
