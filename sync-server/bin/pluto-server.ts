#!/usr/bin/env -S node --max-semi-space-size=4
import { AppError, EXIT, toAppError } from '@pluto-duck/crdt-model/errors'
import { Command } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { readConfig } from '../src/config/index.ts'
import { addAccountCommands } from './account-commands.ts'
import { addDoctor } from './doctor-command.ts'
import { addIntegrityCommands } from './integrity-commands.ts'

const SETTINGS = `
Settings (environment variables; all have a default):
  HOST                   address to listen on (127.0.0.1)
  PORT                   port to listen on, 0 for any free one (4870)
  PUBLIC_URL             address that people and devices use (http://localhost:PORT)
  TRUST_PROXY            number or addresses of the proxies in front (false)
  DATA_DIR               folder for the embedded database and artifacts (~/.pluto-server)
  DATABASE_URL           postgres://… ; absent: an embedded Postgres in DATA_DIR
  AUTH_SECRET            32 characters or more; needed with DATABASE_URL, else made and kept in DATA_DIR
  SIGNUP                 open | invite | closed (invite)
  S3_ENDPOINT            address of an S3-compatible service, as this server reaches it
  S3_PUBLIC_ENDPOINT     the same, as clients reach it (S3_ENDPOINT)
  S3_REGION S3_BUCKET S3_ACCESS_KEY_ID S3_SECRET_ACCESS_KEY S3_FORCE_PATH_STYLE
  WORKSPACE_MAX_MB WORKSPACE_MAX_DOCUMENTS
                         what one workspace may hold (10240, 200000); more is refused as quota
  PUSH_QUEUE_MB WORKSPACE_PUSH_QUEUE_MB
                         pushes under way, in all and for one workspace (128, 32); more waits (429)
  LOG_LEVEL              silent | error | warn | info | debug (info)

Exit codes: 0 ended as asked, 1 internal error or something found by verify or doctor, 2 wrong usage or setting, 7 database not
reachable, 8 not possible as it stands (a restore into a database that is not empty), 9 no such document, workspace or person.`

const fail = (thrown: unknown): void => {
  const error = toAppError(thrown)
  console.error(`${error.code}: ${error.message}\n${error.hint}`)
  if (error.code === 'internal' || error.code === 'database.schema') console.error(error.cause)
  process.exitCode = error instanceof AppError ? error.info.exit : EXIT.internal
}

const start = async (): Promise<void> => {
  const config = readConfig(process.env)
  // Loaded only now, so that help and a wrong setting answer at once.
  const { startServer } = await import('../src/app/index.ts')
  const server = await startServer(config, { warm: true })
  console.log(`listening ${server.url} (public address ${server.publicUrl})`)
  if (server.ownerLink !== null) {
    console.log(`No accounts yet. The first owner signs up here, once:\n${server.ownerLink}`)
  }
  const stop = (): void => {
    server.close().then(() => process.exit(0), fail)
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
}

const runMigrations = async (): Promise<void> => {
  const config = readConfig(process.env)
  const { createDatabase, migrate } = await import('../src/database/index.ts')
  const database = await createDatabase(config)
  try {
    const ran = await migrate(database.db)
    console.log(ran.length === 0 ? 'The schema is up to date.' : `Ran ${ran.join(', ')}.`)
  } finally {
    await database.close()
  }
}

const program = new Command('pluto-server')
  .description(
    'The control plane of Pluto Duck: definitions, history, policies, an index of artifacts. Never runs a query.',
  )
  .version(packageJson.version)
  .addHelpText('after', SETTINGS)
  .showHelpAfterError()
  .exitOverride()

program
  .command('start')
  .description('start the server; brings the schema up to date first')
  .action(() => start().catch(fail))
program
  .command('migrate')
  .description('bring the database’s schema up to date, then end')
  .action(() => runMigrations().catch(fail))

addDoctor(program, fail)
addIntegrityCommands(program, fail)
addAccountCommands(program, fail)

try {
  await program.parseAsync()
} catch (error) {
  // commander has printed its message by now; help and version end with 0.
  const code = typeof error === 'object' && error !== null && 'exitCode' in error ? Number(error.exitCode) : 1
  process.exitCode = code === 0 ? 0 : EXIT.usage
}
