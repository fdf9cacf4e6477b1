import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Command } from 'commander'
import type { OperatorParts } from '../src/auth/operator.ts'
import { withDatabase } from './integrity-commands.ts'

/** Adds the commands about people's accounts. `fail` prints an error and sets the exit code. */
export const addAccountCommands = (program: Command, fail: (thrown: unknown) => void): void => {
  program
    .command('reset-password')
    .description('give somebody a new random password, printed once, and end their sessions')
    .argument('<email>', 'the address of their account')
    .option('--json', 'print the answer as JSON')
    .action((email: string, { json = false }: { json?: boolean }) =>
      withOperator(async parts => {
        const { resetPassword } = await import('../src/auth/operator.ts')
        const made = await resetPassword(parts, email)
        console.log(json ? JSON.stringify(made) : made.password)
        say(
          `The new password of ${made.email}: give it to them by a way that you trust; it is shown this once. ${ended(made.sessions)}`,
        )
      }).catch(fail),
    )

  program
    .command('sign-out')
    .description('end the sessions of a person, or of everybody: apps, command lines and browsers')
    .option('--user <email>', 'the person')
    .option('--all', 'everybody')
    .option('--json', 'print the answer as JSON')
    .action((options: SignOutOptions) => signOutOf(options).catch(fail))
}

interface SignOutOptions {
  readonly user?: string
  readonly all?: boolean
  readonly json?: boolean
}

const signOutOf = async ({ user, all = false, json = false }: SignOutOptions): Promise<void> => {
  if ((user === undefined) !== all)
    throw new AppError('usage.invalid', 'Name a person with --user EMAIL, or say --all.', {
      hint: 'See `pluto-server sign-out --help`.',
    })
  await withOperator(async parts => {
    const { signOut } = await import('../src/auth/operator.ts')
    const done = await signOut(parts, user ?? null)
    if (json) console.log(JSON.stringify(done))
    else say(`${ended(done.sessions)} They sign in again with \`pluto login\`, or in the app.`)
  })
}

const withOperator = (work: (parts: OperatorParts) => Promise<void>): Promise<void> =>
  withDatabase(async ({ db }) => {
    const [{ Audit }, { systemClock }] = await Promise.all([
      import('../src/audit/index.ts'),
      import('../src/app/context.ts'),
    ])
    await work({ db, audit: new Audit(systemClock), clock: systemClock })
  })

const ended = (sessions: number): string =>
  `${sessions === 1 ? '1 session was' : `${sessions} sessions were`} ended; a running server knows within 15 seconds.`

const say = (text: string): void => void process.stderr.write(`${text}\n`)
