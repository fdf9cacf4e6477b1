export { AUDIT_START, Audit, type AuditInput, auditHash } from './audit.ts'
export { auditFeature } from './routes.ts'
