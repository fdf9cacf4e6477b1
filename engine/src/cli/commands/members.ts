import { AppError } from '@pluto-duck/crdt-model/errors'
import { Argument, type Command } from 'commander'
import type { OutputOf } from '../../contract/index.ts'
import type { Context } from '../context.ts'
import { answer, table, when } from '../output.ts'
import type { Session } from '../session.ts'

type Role = OutputOf<'workspace.members'>['members'][number]['role']
const ROLES = ['owner', 'editor', 'viewer'] as const

/** The people of the open workspace: below `pluto workspace`. They are named by their address. */
export const addMemberCommands = (workspace: Command, context: Context): void => {
  const { output } = context

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
    .command('role')
    .description('change what a member may do')
    .argument('<email>')
    .addArgument(new Argument('<role>').choices(ROLES))
    .action(async (email: string, role: Role) => {
      const session = await context.session()
      const { user_id } = await findMember(session, email)
      const changed = await session.value('workspace.set_role', { user_id, role })
      answer(output, changed, m => `${m.name} <${m.email}> is now ${m.role}.`)
    })
  workspace
    .command('remove <email>')
    .description('remove a member; the workspace goes off their machines with the next contact')
    .option('--yes', 'do it')
    .action(async (email: string, options: { yes?: boolean }) => {
      const session = await context.session()
      const member = await findMember(session, email)
      if (!options.yes)
        throw new AppError('usage.invalid', `${member.name} <${member.email}> was not removed.`, {
          hint: 'The workspace would go off their machines; what they have not sent stays there as local drafts. Say --yes to do it.',
        })
      await session.value('workspace.remove_member', { user_id: member.user_id })
      answer(output, member, m => `Removed ${m.name} <${m.email}>.`)
    })
  workspace
    .command('invite <email>')
    .description('invite somebody; prints the link to send, once')
    .requiredOption('--role <role>', 'owner, editor or viewer', 'editor')
    .action(async (email: string, options: { role: Role }) => {
      const session = await context.session()
      answer(output, await session.value('workspace.invite', { email, role: options.role }), i => i.url)
    })
  workspace
    .command('invitations')
    .description('who is invited and has not come yet')
    .action(async () => {
      const session = await context.session()
      answer(output, (await session.value('workspace.invitations', {})).invitations, all =>
        table(
          ['email', 'role', 'ends'],
          all.map(i => [i.email, i.role, when(i.expires_at)]),
          'No open invitation.',
        ),
      )
    })
  workspace
    .command('withdraw <email>')
    .description('withdraw the open invitations of an address; their links let nobody in any more')
    .action(async (email: string) => {
      const session = await context.session()
      const { invitations } = await session.value('workspace.invitations', {})
      const found = invitations.filter(invitation => isSame(invitation.email, email))
      if (found.length === 0)
        throw new AppError('invitation.not_found', `There is no open invitation for ${email}.`, {
          hint: 'List them: `pluto workspace invitations`. Who has come already is removed: `pluto workspace remove`.',
        })
      for (const { invitation_id } of found)
        await session.value('workspace.withdraw_invitation', { invitation_id })
      answer(
        output,
        found,
        all => `Withdrew ${all.length === 1 ? 'the invitation' : all.length} of ${email}.`,
      )
    })
}

const isSame = (one: string, other: string): boolean => one.toLowerCase() === other.trim().toLowerCase()

const findMember = async (session: Session, email: string) => {
  const { members } = await session.value('workspace.members', {})
  const found = members.find(member => isSame(member.email, email))
  if (found) return found
  throw new AppError('member.not_found', `Nobody with the address ${email} is in this workspace.`, {
    hint: 'List them: `pluto workspace members`; who has not come yet: `pluto workspace invitations`.',
  })
}
