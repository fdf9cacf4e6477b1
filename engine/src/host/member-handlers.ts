import { AppError } from '@pluto-duck/crdt-model/errors'
import { identityRoutes, newId } from '@pluto-duck/crdt-model/protocol'
import type { memberMethods } from '../contract/members.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import type { Handlers } from './dispatch.ts'

interface Parts {
  readonly server: ServerCalls
  /** The open workspace; its id throws while none is open. */
  readonly workspace: { readonly id: string }
}

const OK = { ok: true } as const

/** The people of the open workspace. The server decides who may do it, and says so. */
export const memberHandlers = ({ server, workspace }: Parts): Pick<Handlers, keyof typeof memberMethods> => ({
  'workspace.members': async () => {
    const { members } = await server.call(identityRoutes.listMembers, {
      params: { workspace_id: workspace.id },
    })
    return { members: members.map(asMember) }
  },
  'workspace.set_role': async ({ user_id, role }) =>
    asMember(
      await server.call(identityRoutes.setRole, {
        params: { workspace_id: workspace.id, user_id },
        body: { role },
      }),
    ),
  'workspace.remove_member': async ({ user_id }) => {
    await server.call(identityRoutes.removeMember, { params: { workspace_id: workspace.id, user_id } })
    return OK
  },
  'workspace.invite': async ({ email, role }) => {
    const { url } = await server.call(identityRoutes.invite, {
      params: { workspace_id: workspace.id },
      body: { invitation_id: newId(), email, role },
    })
    if (!url) throw new AppError('invitation.not_found', 'The server gave no link for this invitation.')
    return { url }
  },
  'workspace.invitations': async () => {
    const { invitations } = await server.call(identityRoutes.listInvitations, {
      params: { workspace_id: workspace.id },
    })
    return {
      invitations: invitations.map(({ invitation_id, email, role, created_at, expires_at }) => ({
        invitation_id,
        email,
        role,
        created_at,
        expires_at,
      })),
    }
  },
  'workspace.withdraw_invitation': async ({ invitation_id }) => {
    await server.call(identityRoutes.revokeInvitation, {
      params: { workspace_id: workspace.id, invitation_id },
    })
    return OK
  },
})

const asMember = <R extends string>(member: {
  readonly user_id: string
  readonly name: string
  readonly email: string
  readonly role: R
}) => ({ user_id: member.user_id, name: member.name, email: member.email, role: member.role })
