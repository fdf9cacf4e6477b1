export { type RunningServer, type StartOptions, startServer } from './app/index.ts'
export { startTrials, type Trials } from './changes/index.ts'
export { type Config, type Environment, readConfig, type S3Settings } from './config/index.ts'
