import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Command } from 'commander'
import { systemClock } from '../../clock.ts'
import type { OutputOf } from '../../contract/index.ts'
import { type DeviceAnswer, pollDeviceFlow, startDeviceFlow } from '../../host/device-flow.ts'
import type { Context } from '../context.ts'
import { afterSignIn } from '../next-step.ts'
import { answer, type Output } from '../output.ts'

interface LoginOptions {
  readonly server?: string
  readonly printToken?: boolean
}

export const addLoginCommand = (program: Command, context: Context): void => {
  program
    .command('login')
    .description(
      'sign in with your browser: shows a code and waits until you approve it. Where the server lets anybody in, the page also makes an account; else you need an invitation',
    )
    .option('--server <url>', 'address of the server')
    .option(
      '--print-token',
      'print the token on standard output and keep nothing: for PLUTO_TOKEN on a machine without a keychain',
    )
    .action((options: LoginOptions) =>
      options.printToken ? printToken(context, options) : logIn(context, options),
    )
}

const logIn = async (context: Context, { server }: LoginOptions): Promise<void> => {
  const { output } = context
  const session = await context.session()
  const started = await session.value('auth.start', server ? { server } : {})
  const { device_code } = started
  await untilAllowed(output, started, () => session.value('auth.poll', { device_code }))
  const info = await session.value('app.info', {})
  const next = await afterSignIn(session)
  answer(output, info.user, user => `Signed in as ${user?.email ?? 'unknown'}.${next ? ` ${next}` : ''}`)
}

/** The flow without a host: neither a data folder nor a keychain is needed when the server is named. */
const printToken = async (context: Context, options: LoginOptions): Promise<void> => {
  const { output } = context
  const named = options.server ?? process.env.PLUTO_SERVER
  const server = (named || (await serverOfFolder(context))).replace(/\/+$/, '')
  const started = await startDeviceFlow(server, systemClock)
  const { token } = await untilAllowed(output, started, () => pollDeviceFlow(server, started.device_code))
  answer(output, { server, token }, () => token)
  if (!output.json)
    output.err(
      `Set PLUTO_SERVER=${server} and PLUTO_TOKEN to this where it is used. Who has it acts as you: keep it like a password.\n` +
        'It ends when it is not used for 30 days, and at once with `PLUTO_TOKEN=… pluto logout`.',
    )
}

const serverOfFolder = async (context: Context): Promise<string> => {
  const session = await context.session()
  const { server } = await session.value('app.info', {})
  if (server) return server
  throw new AppError('config.invalid', 'No server is set.', {
    hint: 'Name one: `pluto login --print-token --server URL`, or PLUTO_SERVER.',
  })
}

/** Shows the code and asks until the person has decided. */
const untilAllowed = async <S extends OutputOf<'auth.poll'> | DeviceAnswer>(
  output: Output,
  started: OutputOf<'auth.start'>,
  poll: () => Promise<S>,
): Promise<Exclude<S, { readonly state: 'pending' | 'denied' | 'expired' }>> => {
  if (output.json) output.err(JSON.stringify(started))
  else output.err(`Open ${started.verification_url}\nand enter the code ${started.user_code}\nWaiting…`)
  let interval = started.interval_s
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, interval * 1000))
    const said = await poll()
    if (said.state === 'pending') interval = said.interval_s
    else if (said.state === 'denied')
      throw new AppError('auth.forbidden', 'The sign-in was refused in the browser.')
    else if (said.state === 'expired')
      throw new AppError('auth.expired', 'The code expired before it was approved.', {
        hint: 'Run `pluto login` again.',
      })
    else return said as Exclude<S, { readonly state: 'pending' | 'denied' | 'expired' }>
  }
}
