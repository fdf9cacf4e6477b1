import { type Context, runProgram } from '../../src/cli/program.ts'
import type { Session } from '../../src/cli/session.ts'

/** One command of `pluto`, in this process: what it wrote and its exit code. */
export const run = async (argv: readonly string[], session: () => Promise<Session>) => {
  const out: string[] = []
  const err: string[] = []
  const context: Context = {
    output: {
      json: argv.includes('--json'),
      tty: false,
      out: text => void out.push(text),
      err: text => void err.push(text),
    },
    session,
  }
  const exit = await runProgram(argv, context, { version: '0.0.0' }, () => undefined)
  return { exit, out: out.join('\n'), err: err.join('\n') }
}
