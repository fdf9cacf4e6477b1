export { AUDIT_START, Audit, type AuditInput, auditHash } from './audit.ts'
export { Refusals, type RefusedAct } from './refusals.ts'
export { auditFeature } from './routes.ts'
