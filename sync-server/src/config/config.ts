import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'

/** Where artifacts are stored when not in a folder of the server. */
export interface S3Settings {
  /** The address that the server reaches; absent for AWS itself. */
  readonly endpoint?: string
  /** The address that clients reach, which is what gets signed. Default: `endpoint`. */
  readonly publicEndpoint?: string
  readonly region: string
  readonly bucket: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly forcePathStyle: boolean
}

/** The server's settings, checked. Every one has a default except the database's secret (see `authSecret`). */
export interface Config {
  readonly host: string
  /** 0 takes a free port; `startServer` answers with the address. */
  readonly port: number
  /** The address that people and devices use, without a slash at the end. Default: `http://localhost:<port>`. */
  readonly publicUrl: string | null
  /** Express's `trust proxy`: false, a number of hops, or a list of addresses and subnets. */
  readonly trustProxy: boolean | number | string
  readonly dataDir: string
  /** Null starts an embedded Postgres in `dataDir`. */
  readonly databaseUrl: string | null
  /** Signs sessions and storage addresses. Null (embedded database only): made once and kept in `dataDir`. */
  readonly authSecret: string | null
  readonly signup: 'open' | 'invite' | 'closed'
  /** Null stores artifacts in `dataDir`. */
  readonly s3: S3Settings | null
  /** What one workspace may have: bytes of all changes, and documents. */
  readonly workspaceLimits: { readonly bytes: number; readonly documents: number }
  /** Bytes of pushes that may be under way: in this process, and for one workspace. More is answered 429. */
  readonly pushQueue: { readonly bytes: number; readonly workspaceBytes: number }
  readonly logLevel: 'silent' | 'error' | 'warn' | 'info' | 'debug'
}

export type Environment = Readonly<Record<string, string | undefined>>

const webAddress = z
  .url({ protocol: /^https?$/, error: 'must be an address such as https://pluto.example.org' })
  .transform(value => value.replace(/\/+$/, ''))
const flag = z
  .enum(['true', 'false', '1', '0'], { error: 'must be true or false' })
  .transform(value => value === 'true' || value === '1')

const atLeast = (least: number, fallback: number) =>
  z.coerce
    .number({ error: `must be a whole number, ${least} or more` })
    .int('must be a whole number')
    .min(least, `must be ${least} or more`)
    .default(fallback)
const MB = 1024 * 1024

const settings = z.object({
  HOST: z.string().default('127.0.0.1'),
  PORT: z.coerce
    .number({ error: 'must be a number from 0 to 65535' })
    .int('must be a whole number')
    .min(0, 'must be a number from 0 to 65535')
    .max(65_535, 'must be a number from 0 to 65535')
    .default(4870),
  PUBLIC_URL: webAddress
    .refine(
      value => new URL(value).pathname === '/',
      'must have no path: the server stands at the root of its host',
    )
    .optional(),
  TRUST_PROXY: z.string().default('false'),
  DATA_DIR: z.string().default(join(homedir(), '.pluto-server')),
  DATABASE_URL: z
    .url({
      protocol: /^postgres(ql)?$/,
      error: 'must be an address such as postgres://user:password@host:5432/name',
    })
    .optional(),
  AUTH_SECRET: z
    .string()
    .min(32, 'must have 32 characters or more; `openssl rand -hex 32` makes one')
    .optional(),
  SIGNUP: z.enum(['open', 'invite', 'closed'], { error: 'must be open, invite or closed' }).default('invite'),
  S3_ENDPOINT: webAddress.optional(),
  S3_PUBLIC_ENDPOINT: webAddress.optional(),
  S3_REGION: z.string().default('us-east-1'),
  S3_BUCKET: z.string().optional(),
  S3_ACCESS_KEY_ID: z.string().optional(),
  S3_SECRET_ACCESS_KEY: z.string().optional(),
  S3_FORCE_PATH_STYLE: flag.default(false),
  WORKSPACE_MAX_MB: atLeast(1, 10_240),
  WORKSPACE_MAX_DOCUMENTS: atLeast(1, 200_000),
  PUSH_QUEUE_MB: atLeast(16, 128),
  WORKSPACE_PUSH_QUEUE_MB: atLeast(8, 32),
  LOG_LEVEL: z
    .enum(['silent', 'error', 'warn', 'info', 'debug'], {
      error: 'must be silent, error, warn, info or debug',
    })
    .default('info'),
})

const invalid = (setting: string, what: string): AppError =>
  new AppError('config.invalid', `${setting} ${what}`, {
    hint: `Set ${setting} in the environment, then start again.`,
    details: { setting },
  })

/** Reads the settings from the environment. An empty one counts as absent. `config.invalid` names the first bad one. */
export const readConfig = (environment: Environment): Config => {
  const given = Object.fromEntries(Object.entries(environment).filter(([, value]) => value !== ''))
  const parsed = settings.safeParse(given)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]
    throw invalid(String(issue?.path[0] ?? 'A setting'), issue?.message ?? 'is wrong')
  }
  const value = parsed.data
  if (value.DATABASE_URL !== undefined && value.AUTH_SECRET === undefined) {
    throw invalid(
      'AUTH_SECRET',
      'is needed with DATABASE_URL: every server process on that database has to know the same one; `openssl rand -hex 32` makes one',
    )
  }
  return {
    host: value.HOST,
    port: value.PORT,
    publicUrl: value.PUBLIC_URL ?? null,
    trustProxy: trustProxy(value.TRUST_PROXY),
    dataDir: resolve(value.DATA_DIR),
    databaseUrl: value.DATABASE_URL ?? null,
    authSecret: value.AUTH_SECRET ?? null,
    signup: value.SIGNUP,
    s3: s3Settings(value),
    workspaceLimits: { bytes: value.WORKSPACE_MAX_MB * MB, documents: value.WORKSPACE_MAX_DOCUMENTS },
    pushQueue: { bytes: value.PUSH_QUEUE_MB * MB, workspaceBytes: value.WORKSPACE_PUSH_QUEUE_MB * MB },
    logLevel: value.LOG_LEVEL,
  }
}

const trustProxy = (text: string): boolean | number | string => {
  if (text === 'false' || text === '0') return false
  // `true` would believe any client's X-Forwarded-For, and with it any address it claims for the rate limit.
  if (text === 'true') {
    throw invalid(
      'TRUST_PROXY',
      'must be the number of proxies in front (usually 1) or their addresses, not true',
    )
  }
  if (/^\d+$/.test(text)) return Number(text)
  if (/^[\w.:/, ]+$/.test(text)) return text
  throw invalid('TRUST_PROXY', 'must be false, a number of proxies, or their addresses with commas between')
}

const s3Settings = (value: z.infer<typeof settings>): S3Settings | null => {
  const needed = ['S3_BUCKET', 'S3_ACCESS_KEY_ID', 'S3_SECRET_ACCESS_KEY'] as const
  const given = [...needed, 'S3_ENDPOINT' as const, 'S3_PUBLIC_ENDPOINT' as const].filter(
    name => value[name] !== undefined,
  )
  if (given.length === 0) return null
  for (const name of needed) {
    if (value[name] === undefined) throw invalid(name, `is needed when ${given[0]} is set`)
  }
  const publicEndpoint = value.S3_PUBLIC_ENDPOINT ?? value.S3_ENDPOINT
  return {
    ...(value.S3_ENDPOINT ? { endpoint: value.S3_ENDPOINT } : {}),
    ...(publicEndpoint ? { publicEndpoint } : {}),
    region: value.S3_REGION,
    bucket: value.S3_BUCKET as string,
    accessKeyId: value.S3_ACCESS_KEY_ID as string,
    secretAccessKey: value.S3_SECRET_ACCESS_KEY as string,
    forcePathStyle: value.S3_FORCE_PATH_STYLE,
  }
}
