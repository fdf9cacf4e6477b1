export { connectHttp, type Session, unwrap } from './cli/session.ts'
export type * from './contract/index.ts'
