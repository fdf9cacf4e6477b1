import type { CompletionContext, CompletionResult, CompletionSource } from '@codemirror/autocomplete'
import { keywordCompletionSource, PostgreSQL, SQLDialect } from '@codemirror/lang-sql'

/** DuckDB's SQL, as far as an editor must know it: Postgres with more keywords. */
export const duckdb = SQLDialect.define({
  ...PostgreSQL.spec,
  keywords: `${PostgreSQL.spec.keywords ?? ''} qualify asof pivot unpivot exclude summarize sample positional semi anti`,
})

export interface Names {
  readonly steps: readonly {
    readonly name: string
    readonly columns: readonly { name: string; type: string }[] | null
  }[]
  readonly sources: readonly {
    readonly name: string
    readonly columns: readonly { name: string; type: string }[] | null
  }[]
  readonly params: readonly string[]
  readonly step: string | null
}

/** Completes steps, `source.` names, columns of what the query reads, `$params` and keywords. */
export function completions(names: () => Names): CompletionSource[] {
  return [context => completeNames(context, names()), keywordCompletionSource(duckdb, false)]
}

function completeNames(context: CompletionContext, names: Names): CompletionResult | null {
  const word = context.matchBefore(/[$\w.]*$/)
  if (!word || (word.from === word.to && !context.explicit)) return null
  const text = word.text
  if (text.startsWith('$'))
    return {
      from: word.from + 1,
      options: names.params.map(label => ({ label, type: 'constant' })),
      validFor: /^\w*$/,
    }
  const dot = text.lastIndexOf('.')
  if (dot >= 0) {
    const before = text.slice(0, dot)
    if (before === 'source')
      return {
        from: word.from + dot + 1,
        options: names.sources.map(({ name }) => ({ label: name, type: 'class', detail: 'source' })),
        validFor: /^\w*$/,
      }
    const table = before.split('.').at(-1)
    const columns = [...names.steps, ...names.sources].find(({ name }) => name === table)?.columns
    return columns
      ? { from: word.from + dot + 1, options: columns.map(columnOption), validFor: /^\w*$/ }
      : null
  }
  const sql = context.state.doc.toString()
  const read = [...names.steps, ...names.sources].filter(({ name }) => new RegExp(`\\b${name}\\b`).test(sql))
  const columns = new Map(
    read.flatMap(table => (table.columns ?? []).map(column => [column.name, column] as const)),
  )
  return {
    from: word.from,
    validFor: /^\w*$/,
    options: [
      ...[...columns.values()].map(columnOption),
      ...names.steps
        .filter(({ name }) => name !== names.step)
        .map(({ name }) => ({ label: name, type: 'class', detail: 'step', boost: 1 })),
      ...names.sources.map(({ name }) => ({
        label: `source.${name}`,
        type: 'class',
        detail: 'source',
        boost: 1,
      })),
    ],
  }
}

const columnOption = ({ name, type }: { name: string; type: string }) => ({
  label: /^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`,
  type: 'property',
  detail: type.toLowerCase(),
  boost: 2,
})
