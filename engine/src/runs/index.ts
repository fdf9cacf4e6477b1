export { RunService, type RunServiceParts } from './run-service.ts'
