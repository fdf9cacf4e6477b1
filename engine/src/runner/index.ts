export { RunnerError } from './failures.ts'
export { ALLOWED_FUNCTIONS, ALLOWED_TABLE_FUNCTIONS } from './functions.ts'
export { checkStatement, type RelationCheck, type RelationName, type Violation } from './guard.ts'
export { RunnerPool } from './pool.ts'
export type {
  Described,
  ErrorClass,
  Failure,
  Limits,
  Materialized,
  Parsed,
  Position,
  Progress,
  Queried,
  Tested,
} from './protocol.ts'
export { type CallOptions, Runner, type RunnerOptions } from './runner.ts'
