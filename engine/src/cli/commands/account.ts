import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { Command } from 'commander'
import type { Context } from '../context.ts'
import { answer, table } from '../output.ts'
import { addLoginCommand } from './login.ts'
import { addMemberCommands } from './members.ts'

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

  addLoginCommand(program, context)

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
      let info = await session.value('app.info', {})
      if (!info.user) {
        // With PLUTO_TOKEN in a new data folder only the server knows who that is: this asks it.
        await session.value('workspace.list', {})
        info = await session.value('app.info', {})
      }
      answer(output, info, i =>
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
  addMemberCommands(workspace, context)
}
