import { type Context, runProgram } from '@pluto-duck/engine/cli'
import type { Device } from './world.ts'

export interface Said {
  readonly exit: number
  readonly out: string
  readonly err: string
}

/** One command line on a device: what it printed and its exit code. */
export const pluto = async (device: Device, ...argv: string[]): Promise<Said> => {
  const out: string[] = []
  const err: string[] = []
  const json = argv.includes('--json')
  const context: Context = {
    output: { json, tty: false, out: text => void out.push(text), err: text => void err.push(text) },
    session: async () => device.session,
  }
  const exit = await runProgram(argv, context, { version: '0.0.0' }, () => undefined)
  return { exit, out: out.join('\n'), err: err.join('\n') }
}

/** What a command answers with `--json`; throws when it does not end with 0. */
// biome-ignore lint/suspicious/noExplicitAny: the answer of any command; tests look into it
export const json = async (device: Device, ...argv: string[]): Promise<any> => {
  const { exit, out, err } = await pluto(device, ...argv, '--json')
  if (exit !== 0) throw new Error(`pluto ${argv.join(' ')}: ${exit} ${err}`)
  return JSON.parse(out)
}
