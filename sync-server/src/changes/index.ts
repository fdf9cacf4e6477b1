export type { Appended, Appender, Commit, Push, PushedChange, Verdict } from './append.ts'
export type { LogWatcher } from './log-watcher.ts'
export { type ChangesFeature, changesFeature, startTrials, type Trials } from './routes.ts'
export { readDocumentBytes } from './store.ts'
