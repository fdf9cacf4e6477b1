export {
  type Fingerprint,
  fingerprintOf,
  type Reason,
  type ReasonCode,
} from './fingerprint.ts'
export { makePlan, type PlanCatalog, type PlanInput, type PlannedStep, type PlanResult } from './make-plan.ts'
export type * from './plan-types.ts'
export { select } from './selection.ts'
export { failingRowsSql, testLabel } from './test-sql.ts'
export { catalogForPlan } from './warehouse-catalog.ts'
