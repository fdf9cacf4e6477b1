export { type LogLine, logLine, type PrivateLine, toldBy } from './log-lines.ts'
export { SecretRedactor } from './redaction.ts'
export { logPath, privateLogPath, RunLog, type RunLogOptions, readRunLog } from './run-log.ts'
