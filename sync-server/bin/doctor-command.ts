import { EXIT } from '@pluto-duck/crdt-model/errors'
import type { Command } from 'commander'
import { readConfig } from '../src/config/index.ts'
import type { Check } from '../src/doctor/index.ts'

const WORDS = { ok: 'ok', warning: 'WARNING', wrong: 'WRONG' } as const

const print = ({ name, state, said, next }: Check): void => {
  console.log(`${WORDS[state].padEnd(8)} ${name.padEnd(22)} ${said}`)
  if (next !== null) console.log(`${' '.repeat(32)}Next: ${next}`)
}

const examineAll = async (json: boolean): Promise<void> => {
  const config = readConfig(process.env)
  const { examine } = await import('../src/doctor/index.ts')
  const checks: Check[] = []
  for await (const check of examine(config)) {
    checks.push(check)
    if (!json) print(check)
  }
  const count = (state: Check['state']): number => checks.filter(check => check.state === state).length
  if (json) console.log(JSON.stringify({ checks }))
  else if (count('wrong') + count('warning') === 0) console.log('\nAll is well.')
  else console.log(`\nWrong: ${count('wrong')}. Warnings: ${count('warning')}.`)
  if (count('wrong') > 0) process.exitCode = EXIT.internal
}

/** Adds `doctor`. `fail` prints an error and sets the exit code. */
export const addDoctor = (program: Command, fail: (thrown: unknown) => void): void => {
  program
    .command('doctor')
    .description(
      'look at database, storage and public address with these settings, and say what to mend; exit code 1 when something is wrong. Stores one small file and removes it again; changes nothing else',
    )
    .option('--json', 'print what was found as JSON')
    .action(({ json = false }: { json?: boolean }) => examineAll(json).catch(fail))
}
