import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { answer, table } from '../output.ts'

export const addAccountCommands = (program: Command, context: Context): void => {
  const { output } = context

  program
    .command('init')
    .description('set up this machine: a data folder, a device and, with --server, the server to sync with')
    .option('--server <url>', 'address of a Pluto Duck server', process.env.PLUTO_SERVER)
    .option('--workspace <name>', 'make a first workspace of this name when there is none')
    .action(async (options: { server?: string; workspace?: string }) => {
      const session = await context.session()
      if (options.server) await session.value('app.connect', { server: options.server })
      const { workspaces } = await session.value('workspace.list', {})
      if (options.workspace && workspaces.length === 0) {
        await session.value('workspace.create', { workspace_id: newId(), name: options.workspace })
      }
      const info = await session.value('app.info', {})
      answer(
        output,
        info,
        i =>
          `Data folder ${i.data_dir}\nDevice      ${i.device_id}\nServer      ${i.server ?? 'none yet: `pluto init --server URL`'}\n` +
          (i.user ? `Signed in   ${i.user.email}` : 'Next: `pluto login`'),
      )
    })

  program
    .command('login')
    .description('sign in with your browser: shows a code and waits until you approve it')
    .option('--server <url>', 'address of the server')
    .action(async (options: { server?: string }) => {
      const session = await context.session()
      const started = await session.value('auth.start', options.server ? { server: options.server } : {})
      if (output.json) output.err(JSON.stringify(started))
      else output.err(`Open ${started.verification_url}\nand enter the code ${started.user_code}\nWaiting…`)
      let interval = started.interval_s
      for (;;) {
        await new Promise(resolve => setTimeout(resolve, interval * 1000))
        const poll = await session.value('auth.poll', { device_code: started.device_code })
        if (poll.state === 'pending') interval = poll.interval_s
        else if (poll.state === 'signed_in') break
        else if (poll.state === 'denied')
          throw new AppError('auth.forbidden', 'The sign-in was refused in the browser.')
        else
          throw new AppError('auth.expired', 'The code expired before it was approved.', {
            hint: 'Run `pluto login` again.',
          })
      }
      const info = await session.value('app.info', {})
      answer(output, info.user, user => `Signed in as ${user?.email ?? 'unknown'}.`)
    })

  program
    .command('logout')
    .description('sign out: the token stops working and is erased; your work stays on this machine')
    .action(async () => {
      const session = await context.session()
      answer(
        output,
        await session.value('auth.sign_out', {}),
        () => 'Signed out. Your work stays on this machine.',
      )
    })

  program
    .command('whoami')
    .description('who is signed in, on which server, from which device')
    .action(async () => {
      const session = await context.session()
      answer(output, await session.value('app.info', {}), i =>
        i.user ? `${i.user.name} <${i.user.email}> on ${i.server}` : 'Nobody is signed in: `pluto login`.',
      )
    })

  const workspace = program.command('workspace').description('your workspaces')
  workspace
    .command('list', { isDefault: true })
    .description('list them')
    .action(async () => {
      const session = await context.session()
      answer(output, (await session.value('workspace.list', {})).workspaces, all =>
        table(
          ['', 'name', 'role', 'id'],
          all.map(w => [w.selected ? '*' : '', w.name, w.role, w.workspace_id]),
          'No workspace yet: `pluto workspace create NAME`.',
        ),
      )
    })
  workspace
    .command('create <name>')
    .description('make a workspace; you become its owner')
    .action(async (name: string) => {
      const session = await context.session()
      answer(
        output,
        await session.value('workspace.create', { workspace_id: newId(), name }),
        w => `Made ${w.name} (${w.workspace_id}).`,
      )
    })
  workspace
    .command('use <name>')
    .description('open another workspace, by name or id')
    .action(async (name: string) => {
      const session = await context.session()
      const { workspaces } = await session.value('workspace.list', {})
      const found = workspaces.filter(w => w.name === name || w.workspace_id === name)
      const [one] = found
      if (!one) throw new AppError('workspace.not_found', `You have no workspace ${JSON.stringify(name)}.`)
      if (found.length > 1)
        throw new AppError('usage.invalid', `Several workspaces are named ${name}: give its id.`)
      await session.value('workspace.select', { workspace_id: one.workspace_id })
      answer(output, one, w => `Using ${w.name}.`)
    })
  workspace
    .command('members')
    .description('who is in it')
    .action(async () => {
      const session = await context.session()
      answer(output, (await session.value('workspace.members', {})).members, all =>
        table(
          ['name', 'email', 'role'],
          all.map(m => [m.name, m.email, m.role]),
          'Nobody.',
        ),
      )
    })
  workspace
    .command('invite <email>')
    .description('invite somebody; prints the link to send, once')
    .requiredOption('--role <role>', 'owner, editor or viewer', 'editor')
    .action(async (email: string, options: { role: 'owner' | 'editor' | 'viewer' }) => {
      const session = await context.session()
      answer(output, await session.value('workspace.invite', { email, role: options.role }), i => i.url)
    })
}
