/** One thing that is wrong with a pipeline, said so that its author can mend it. */
export interface Problem {
  /** `area.reason`; stable. */
  readonly code: string
  readonly message: string
  /** What to do. */
  readonly hint: string
  readonly severity: 'error' | 'warning'
  /** The file of the folder format, for example `pipeline.yaml` or `orders.sql`. */
  readonly file?: string
  /** From 1. */
  readonly line?: number
  /** From 1. */
  readonly column?: number
  readonly step_id?: string
  /** Where in the definition, for example `['steps', 0, 'name']`. */
  readonly path?: readonly (string | number)[]
}
