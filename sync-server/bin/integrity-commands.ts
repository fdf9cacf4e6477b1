import { AppError, EXIT } from '@pluto-duck/crdt-model/errors'
import { type Command, InvalidArgumentError } from 'commander'
import { readConfig } from '../src/config/index.ts'
import type { ServerDatabase } from '../src/database/index.ts'
import type { Finding, VerifyReport } from '../src/integrity/index.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

const uuid = (text: string): string => {
  if (!UUID.test(text)) throw new InvalidArgumentError('Not an id (a UUID).')
  return text.toLowerCase()
}

/** The database of the settings; beside a running server the embedded one that this has started. */
const withDatabase = async <T>(work: (database: ServerDatabase) => Promise<T>): Promise<T> => {
  const config = readConfig(process.env)
  const { assertSchema, createDatabase, runningEmbedded } = await import('../src/database/index.ts')
  const databaseUrl = config.databaseUrl ?? (await runningEmbedded(config.dataDir))
  const database = await createDatabase({ databaseUrl, dataDir: config.dataDir })
  try {
    await assertSchema(database.db)
    return await work(database)
  } finally {
    await database.close()
  }
}

const say = (text: string): void => void process.stderr.write(`${text}\n`)

const describe = (found: Finding): string =>
  `${found.repaired ? 'repaired' : 'FOUND'} ${found.code} in workspace ${found.workspace_id}: ${found.object}\n  ${found.message}${found.repaired ? '' : `\n  Next: ${found.next}`}`

export const printReport = (report: VerifyReport, json: boolean): void => {
  if (json) {
    console.log(JSON.stringify(report))
    return
  }
  const { workspaces, documents, changes, bytes, versions, audit_rows } = report
  console.log(
    `Rebuilt ${documents} documents of ${workspaces} workspaces from ${changes} changes (${bytes} bytes), ${versions} versions; ${audit_rows} rows of the audit.`,
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
    .option('--json', 'print the report as JSON')
    .action((options: { workspace?: string; repair?: boolean; json?: boolean }) =>
      withDatabase(async ({ db }) => {
        const { verify } = await import('../src/integrity/index.ts')
        const { workspace, repair = false, json = false } = options
        const report = await verify(db, {
          ...(workspace === undefined ? {} : { workspaceId: workspace }),
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
}
