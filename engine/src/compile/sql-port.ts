import type { ParamDefinition, Scalar, SourceDefinition } from '@pluto-duck/crdt-model'

export interface Column {
  readonly name: string
  /** As DuckDB writes it: `DECIMAL(18,2)`, `STRUCT(a INTEGER)[]`. */
  readonly type: string
}

/** Where the engine points into the SQL that it was given; line and column count from 1. */
export interface SqlPosition {
  readonly line: number
  readonly column: number
}

export interface SqlViolation {
  readonly name: string
  /** UTF-8 bytes from the start; null where the engine gives no place. */
  readonly offset: number | null
  readonly message: string
  readonly hint: string
}

export type ParseReply =
  | {
      readonly ok: true
      /** What `json_serialize_sql` gave, as text: parsing it would round numbers beyond 2^53. */
      readonly ast_json: string
      /** Functions and constructs that may not be used: they could read or write what the plan does not list. */
      readonly violations: readonly SqlViolation[]
    }
  | {
      readonly ok: false
      readonly kind: 'syntax' | 'not_select' | 'empty' | 'several'
      readonly message: string
      readonly position: SqlPosition | null
    }

export interface ParamValue {
  readonly type: ParamDefinition['type']
  readonly value: Scalar
}
export type ParamValues = Readonly<Record<string, ParamValue>>

export interface BindSource {
  readonly name: string
  readonly kind: SourceDefinition['kind']
  readonly paths: readonly string[]
  readonly options: Record<string, Scalar | Scalar[] | Record<string, string>>
}

export type BindReply<T> =
  | { readonly ok: true; readonly value: T }
  | {
      readonly ok: false
      readonly message: string
      readonly hint: string | null
      readonly position: SqlPosition | null
    }

/** A sandbox that belongs to one compile until it is closed; it may open `allowed_paths` and nothing else. */
export interface BindSession {
  defineSource(source: BindSource): Promise<BindReply<unknown>>
  /** A relation of these columns without rows: the step `name`, or `source.name`. */
  defineShape(kind: 'step' | 'source', name: string, columns: readonly Column[]): Promise<BindReply<unknown>>
  describe(sql: string, params: ParamValues): Promise<BindReply<readonly Column[]>>
  close(): Promise<void>
}

/** What compile asks of the sandboxed child: the host never parses or binds a user's SQL itself. */
export interface SqlChild {
  parse(sql: string): Promise<ParseReply>
  open(allowedPaths: readonly string[]): Promise<BindSession>
}
