export { AppError, type AppErrorOptions, type ErrorBody, type Result, toAppError } from './app-error.ts'
export { CODES, type CodeInfo, type ErrorCode, EXIT, type Retry } from './codes.ts'
