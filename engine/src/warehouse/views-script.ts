import { selectFromSource } from '../runner/source-sql.ts'
import { quoteName } from './column-types.ts'
import type { CatalogRecord } from './records.ts'

/**
 * The SQL by which any DuckDB reads what is current: `duckdb -init catalog/<workspace>/<pipeline>.sql`.
 *
 * A view keeps pointing at the files it was made with: read the script again to see a later run.
 */
export async function viewsScript(
  catalog: CatalogRecord,
  resultSql: (fingerprint: string) => Promise<string>,
): Promise<string> {
  const lines = [
    `-- Pipeline ${catalog.pipeline_name.replaceAll(/[\r\n]/g, ' ')}, run ${catalog.run_id}, ${catalog.swapped_at}. Written anew by every run.`,
  ]
  const needsSources = catalog.steps.some(step => step.pointer.kind === 'view')
  if (needsSources && catalog.sources.length > 0) {
    lines.push('CREATE SCHEMA IF NOT EXISTS "source";')
    for (const source of catalog.sources)
      lines.push(`CREATE OR REPLACE VIEW "source".${quoteName(source.name)} AS ${selectFromSource(source)};`)
  }
  for (const input of needsSources ? catalog.inputs : []) {
    const schema = quoteName(input.pipeline)
    lines.push(`CREATE SCHEMA IF NOT EXISTS ${schema};`)
    lines.push(
      `CREATE OR REPLACE VIEW ${schema}.${quoteName(input.step)} AS ${await resultSql(input.fingerprint)};`,
    )
  }
  for (const { name, pointer } of catalog.steps) {
    const body = pointer.kind === 'view' ? pointer.sql : await resultSql(pointer.fingerprint)
    lines.push(`CREATE OR REPLACE VIEW ${quoteName(name)} AS\n${body}\n;`)
  }
  return `${lines.join('\n')}\n`
}
