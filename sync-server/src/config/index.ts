export { type Config, type Environment, readConfig, type S3Settings } from './config.ts'
export { keepSecret } from './secret.ts'
