import { once } from 'node:events'
import { createReadStream, createWriteStream, type ReadStream, type WriteStream } from 'node:fs'
import type { Writable } from 'node:stream'
import { AppError, EXIT } from '@pluto-duck/crdt-model/errors'
import { type Command, InvalidArgumentError } from 'commander'
import type { StoredFiles } from '../src/artifacts/index.ts'
import { type Config, readConfig } from '../src/config/index.ts'
import type { ServerDatabase } from '../src/database/index.ts'
import type { Finding, VerifyReport } from '../src/integrity/index.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

const uuid = (text: string): string => {
  if (!UUID.test(text)) throw new InvalidArgumentError('Not an id (a UUID).')
  return text.toLowerCase()
}

/** The database of the settings; beside a running server the embedded one that this has started. */
export const withDatabase = async <T>(
  work: (database: ServerDatabase, config: Config) => Promise<T>,
  schema: 'current' | 'empty' = 'current',
): Promise<T> => {
  const config = readConfig(process.env)
  const { assertSchema, createDatabase, runningEmbedded } = await import('../src/database/index.ts')
  const databaseUrl = config.databaseUrl ?? (await runningEmbedded(config.dataDir))
  const database = await createDatabase({ databaseUrl, dataDir: config.dataDir })
  try {
    if (schema === 'current') await assertSchema(database.db)
    return await work(database, config)
  } finally {
    await database.close()
  }
}

const filesOf = async (config: Config): Promise<StoredFiles> =>
  (await import('../src/artifacts/index.ts')).storedFiles(config)

const say = (text: string): void => void process.stderr.write(`${text}\n`)

const describe = (found: Finding): string =>
  `${found.repaired ? 'repaired' : 'FOUND'} ${found.code} in workspace ${found.workspace_id}: ${found.object}\n  ${found.message}${found.repaired ? '' : `\n  Next: ${found.next}`}`

export const printReport = (report: VerifyReport, json: boolean): void => {
  if (json) {
    console.log(JSON.stringify(report))
    return
  }
  const { workspaces, documents, changes, bytes, versions, audit_rows, artifacts } = report
  console.log(
    `Rebuilt ${documents} documents of ${workspaces} workspaces from ${changes} changes (${bytes} bytes), ${versions} versions; ${audit_rows} rows of the audit${artifacts > 0 ? `, ${artifacts} files` : ''}.`,
  )
  console.log(
    report.open === 0
      ? report.findings.length === 0
        ? 'All is as the log says.'
        : `${report.findings.length} findings, all repaired.`
      : `${report.open} findings stand.`,
  )
}

/** Adds the commands that prove, keep and remove what is stored. `fail` prints an error and sets the exit code. */
export const addIntegrityCommands = (program: Command, fail: (thrown: unknown) => void): void => {
  program
    .command('verify')
    .description('rebuild everything from the log and compare; exit code 1 when something does not agree')
    .option('--workspace <id>', 'only this workspace', uuid)
    .option('--repair', 'make wrong snapshots and records of documents again from the log')
    .option('--artifacts', 'ask the storage for every file of a run as well')
    .option('--json', 'print the report as JSON')
    .action((options: { workspace?: string; repair?: boolean; artifacts?: boolean; json?: boolean }) =>
      withDatabase(async ({ db }, config) => {
        const { verify } = await import('../src/integrity/index.ts')
        const { workspace, repair = false, artifacts = false, json = false } = options
        const report = await verify(db, {
          ...(workspace === undefined ? {} : { workspaceId: workspace }),
          ...(artifacts ? { files: await filesOf(config) } : {}),
          repair,
          onProgress: say,
          onFinding: found => say(describe(found)),
        })
        if (workspace !== undefined && report.workspaces === 0)
          throw new AppError('workspace.not_found', 'There is no such workspace.')
        printReport(report, json)
        if (report.open > 0) process.exitCode = EXIT.internal
      }).catch(fail),
    )

  program
    .command('purge')
    .description(
      'remove a pasted secret: replace a document’s history by its content of now; or remove a whole workspace. Says what it would do, unless --yes',
    )
    .option('--document <id>', 'the pipeline (or comments document)', uuid)
    .option('--change <hash...>', 'take the effect of these changes out of the content as well')
    .option('--workspace <id>', 'remove everything of this workspace', uuid)
    .option('--reason <text>', 'for the audit and for the people; never the secret itself')
    .option('--yes', 'do it; it cannot be undone')
    .option('--json', 'print what is (or would be) removed as JSON')
    .action((options: PurgeOptions) =>
      withDatabase((database, config) => purge(database, config, options)).catch(fail),
    )

  program
    .command('backup')
    .description(
      'write everything in the database into one file, as of one moment; may run beside the server',
    )
    .argument('<file>', 'where to; - for standard output. The file may not be there yet')
    .option('--json', 'print the manifest as JSON (on standard error with -)')
    .action((file: string, { json = false }: { json?: boolean }) =>
      withDatabase(async ({ pool }) => {
        const { backup } = await import('../src/integrity/index.ts')
        const out = file === '-' ? process.stdout : await newFile(file)
        const manifest = await backup(pool, out, say)
        if (file !== '-') await finish(out)
        if (json) (file === '-' ? say : console.log)(JSON.stringify(manifest))
        const rows = Object.values(manifest.rows).reduce((sum, n) => sum + n, 0)
        say(`Wrote ${rows} rows; the logs of ${manifest.workspaces.length} workspaces.`)
        const { count, bytes } = manifest.artifacts
        say(
          `Not in it: ${count} artifacts (${bytes} bytes) in the folder or bucket, and AUTH_SECRET. Keep both beside it.`,
        )
      }).catch(fail),
    )

  program
    .command('restore')
    .description(
      'load a backup into an empty database, and prove that the restored log is the one that was backed up',
    )
    .argument('<file>', 'what `backup` wrote; - for standard input')
    .option('--json', 'print the report of verify as JSON')
    .action((file: string, { json = false }: { json?: boolean }) =>
      withDatabase(async database => {
        const { restore, verify } = await import('../src/integrity/index.ts')
        const manifest = await restore(database, file === '-' ? process.stdin : await readable(file), say)
        say('Loaded. Every log has the digest of the manifest; rebuilding what is made of them.')
        const report = await verify(database.db, {
          onProgress: say,
          onFinding: found => say(describe(found)),
        })
        printReport(report, json)
        if (report.open > 0) process.exitCode = EXIT.internal
        const { count, bytes } = manifest.artifacts
        say(
          `Artifacts are not in a backup: put back the ${count} files (${bytes} bytes) of that time, and AUTH_SECRET.`,
        )
      }, 'empty').catch(fail),
    )
}

interface PurgeOptions {
  readonly document?: string
  readonly change?: readonly string[]
  readonly workspace?: string
  readonly reason?: string
  readonly yes?: boolean
  readonly json?: boolean
}

const usage = (message: string): AppError =>
  new AppError('usage.invalid', message, { hint: 'See `pluto-server purge --help`.' })

const purge = async (
  { db, url }: ServerDatabase,
  config: Config,
  { document, change = [], workspace, reason, yes = false, json = false }: PurgeOptions,
): Promise<void> => {
  if ((document === undefined) === (workspace === undefined))
    throw usage('Name a --document or a --workspace.')
  if (yes && !reason) throw usage('A purge needs a --reason: it is kept in the audit.')
  const { planPurge, planWorkspacePurge, purgeDocument, purgeWorkspace, rewriteTables } = await import(
    '../src/integrity/index.ts'
  )
  const [{ Audit }, { EventBus }, { systemClock }, { pino }] = await Promise.all([
    import('../src/audit/index.ts'),
    import('../src/app/event-bus.ts'),
    import('../src/app/context.ts'),
    import('pino'),
  ])
  const bus = new EventBus(db, url, pino({ level: 'silent' }))
  const parts = { db, bus, audit: new Audit(systemClock), clock: systemClock }
  const why = (reason ?? '').slice(0, 500)
  const done =
    document !== undefined
      ? await (yes ? purgeDocument(parts, document, change, why) : planPurge(db, document, change))
      : await (yes
          ? purgeWorkspace({ ...parts, files: await filesOf(config) }, workspace!, why)
          : planWorkspacePurge(db, workspace!))
  if (yes) {
    say('Removed. Writing the tables anew, so that nothing is left in dead rows…')
    await rewriteTables(db)
  }
  if (json) console.log(JSON.stringify({ done: yes, ...done }))
  else
    for (const [name, value] of Object.entries(done))
      console.log(
        `${name.replaceAll('_', ' ')}: ${Array.isArray(value) ? value.join(', ') || 'none' : (value ?? 'none')}`,
      )
  say(
    yes
      ? `Devices follow when they sync next. Not reached: backups and archived WAL made before, files of runs and exports on machines${workspace === undefined ? ', artifacts' : ''}. If it was a password, change it.`
      : 'Nothing was changed. Say --yes and a --reason to do it; it cannot be undone.',
  )
}

const newFile = async (path: string): Promise<WriteStream> => {
  const out = createWriteStream(path, { flags: 'wx', mode: 0o600, flush: true })
  try {
    await once(out, 'open')
  } catch (cause) {
    throw new AppError(
      'file.unreadable',
      `${path} cannot be made: ${cause instanceof Error ? cause.message : ''}`,
      {
        hint: 'Name a file that is not there yet, in a folder that you may write to.',
        cause,
      },
    )
  }
  return out
}

/** Resolves when all is on the disk. */
const finish = async (out: Writable): Promise<void> => {
  out.end()
  await once(out, 'close')
}

const readable = async (path: string): Promise<ReadStream> => {
  const input = createReadStream(path)
  try {
    await once(input, 'open')
  } catch (cause) {
    throw new AppError('file.unreadable', `${path} cannot be read.`, { cause })
  }
  return input
}
