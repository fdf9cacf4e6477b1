import { Command, CommanderError } from 'commander'
import { addAccountCommands } from './commands/account.ts'
import { addDraftCommands } from './commands/drafts.ts'
import { addPipelineCommands } from './commands/pipelines.ts'
import { addRunCommands } from './commands/runs.ts'
import { addScheduleCommands } from './commands/schedules.ts'
import { addSyncCommands } from './commands/sync.ts'
import { addVersionCommands } from './commands/versions.ts'
import type { Context } from './context.ts'
import { EXIT, Finding, fail, type Output } from './output.ts'

const EXIT_HELP = `
Exit codes: 0 done, 1 a bug, 2 wrong usage, 3 problems in a definition, 4 a data test failed, 5 a run failed,
6 not allowed, 7 network, 8 conflict, 9 not found, 130 cancelled.

Settings: PLUTO_HOME (data folder), PLUTO_SERVER (server address), PLUTO_TOKEN and PLUTO_SECRET_<NAME> (where there is no keychain).`

/**
 * Runs one command line and answers its exit code. Everything a command prints goes through `context.output`; errors are
 * printed here and nowhere else.
 *
 * @param addCommands further commands that need more than a session (serve).
 */
export const runProgram = async (
  argv: readonly string[],
  context: Context,
  about: { version: string },
  addCommands: (program: Command) => void,
): Promise<number> => {
  const program = new Command('pluto')
  program
    .description('Pluto Duck: SQL pipelines that you edit together and run on your own machine with DuckDB')
    .version(about.version)
    // Else a command's own --version (of a pipeline) would be taken for the program's.
    .enablePositionalOptions()
    .option('--json', 'answer as JSON on standard output, errors as JSON on standard error')
    .showHelpAfterError('(see pluto --help)')
    .showSuggestionAfterError()
    .addHelpText('after', EXIT_HELP)
    .configureOutput({
      writeOut: text => context.output.out(text.trimEnd()),
      writeErr: text => context.output.err(text.trimEnd()),
    })
    .exitOverride()
  addAccountCommands(program, context)
  addPipelineCommands(program, context)
  addRunCommands(program, context)
  addVersionCommands(program, context)
  addDraftCommands(program, context)
  addScheduleCommands(program, context)
  addSyncCommands(program, context)
  addCommands(program)
  for (const command of allCommands(program)) command.exitOverride().copyInheritedSettings(program)
  try {
    await program.parseAsync([...withoutJson(argv)], { from: 'user' })
    return 0
  } catch (thrown) {
    if (thrown instanceof Finding) return thrown.exit
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : EXIT.usage
    return fail(context.output, thrown)
  }
}

/** `--json` may stand anywhere; it is taken out before commander sees the line, so that no command has to declare it. */
const withoutJson = (argv: readonly string[]): readonly string[] => argv.filter(word => word !== '--json')
export const wantsJson = (argv: readonly string[]): boolean => argv.includes('--json')

const allCommands = (command: Command): Command[] =>
  command.commands.flatMap(child => [child as Command, ...allCommands(child as Command)])

export type { Context, Output }
