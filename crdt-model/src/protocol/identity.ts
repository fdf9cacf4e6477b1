import { z } from 'zod'
import { id, timestamp, userId } from './ids.ts'
import { role } from './roles.ts'
import { route } from './route.ts'

/**
 * Sign-up, sign-in, sign-out and the device flow are better-auth's own routes below `/v1/auth/` (see docs/formats.md); these
 * are ours. A session is a bearer token in `Authorization`, or the browser's cookie.
 */

export const user = z.strictObject({ id: userId, email: z.string(), name: z.string() })
export const membership = z.strictObject({
  workspace_id: id,
  name: z.string(),
  role,
  created_at: timestamp,
})
export const member = z.strictObject({
  user_id: userId,
  name: z.string(),
  email: z.string(),
  role,
  joined_at: timestamp,
})
export const invitation = z.strictObject({
  invitation_id: id,
  workspace_id: id,
  email: z.string(),
  role,
  expires_at: timestamp,
  created_at: timestamp,
})

const workspaceParams = z.strictObject({ workspace_id: id })
const inParams = { in: 'params', field: 'workspace_id' } as const

export const identityRoutes = {
  me: route({
    id: 'identity.me',
    method: 'GET',
    path: '/v1/me',
    summary: 'Who is signed in, and their workspaces',
    access: 'session',
    reply: z.strictObject({ user, workspaces: z.array(membership) }),
  }),
  signOut: route({
    id: 'identity.sign_out',
    method: 'POST',
    path: '/v1/me/sign-out',
    summary: 'End this session; its token stops working at once',
    access: 'session',
    reply: z.strictObject({ ok: z.literal(true) }),
  }),
  createWorkspace: route({
    id: 'workspace.create',
    method: 'POST',
    path: '/v1/workspaces',
    summary: 'Make a workspace; the caller becomes its owner',
    access: 'session',
    creates: true,
    body: z.strictObject({ workspace_id: id, name: z.string().trim().min(1).max(100) }),
    reply: membership,
  }),
  readWorkspace: route({
    id: 'workspace.read',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id',
    summary: 'A workspace and your role in it',
    access: 'workspace.read',
    workspace: inParams,
    params: workspaceParams,
    reply: membership,
  }),
  renameWorkspace: route({
    id: 'workspace.rename',
    method: 'PATCH',
    path: '/v1/workspaces/:workspace_id',
    summary: 'Rename a workspace',
    access: 'workspace.manage',
    workspace: inParams,
    params: workspaceParams,
    body: z.strictObject({ name: z.string().trim().min(1).max(100) }),
    reply: membership,
  }),
  listMembers: route({
    id: 'member.list',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/members',
    summary: 'The members of a workspace',
    access: 'member.read',
    workspace: inParams,
    params: workspaceParams,
    reply: z.strictObject({ members: z.array(member) }),
  }),
  setRole: route({
    id: 'member.set_role',
    method: 'PATCH',
    path: '/v1/workspaces/:workspace_id/members/:user_id',
    summary: 'Change a member’s role',
    access: 'member.manage',
    workspace: inParams,
    params: workspaceParams.extend({ user_id: userId }),
    body: z.strictObject({ role }),
    reply: member,
  }),
  removeMember: route({
    id: 'member.remove',
    method: 'DELETE',
    path: '/v1/workspaces/:workspace_id/members/:user_id',
    summary: 'Remove a member; their sessions lose this workspace at once',
    access: 'member.manage',
    workspace: inParams,
    params: workspaceParams.extend({ user_id: userId }),
    reply: z.strictObject({ ok: z.literal(true) }),
  }),
  invite: route({
    id: 'invitation.create',
    method: 'POST',
    path: '/v1/workspaces/:workspace_id/invitations',
    summary: 'Invite somebody; the answer carries the link to send, shown once',
    access: 'member.manage',
    workspace: inParams,
    creates: true,
    params: workspaceParams,
    body: z.strictObject({ invitation_id: id, email: z.email(), role }),
    reply: z.strictObject({ invitation, token: z.string().nullable(), url: z.string().nullable() }),
  }),
  listInvitations: route({
    id: 'invitation.list',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/invitations',
    summary: 'Invitations that are still open',
    access: 'member.manage',
    workspace: inParams,
    params: workspaceParams,
    reply: z.strictObject({ invitations: z.array(invitation) }),
  }),
  revokeInvitation: route({
    id: 'invitation.revoke',
    method: 'DELETE',
    path: '/v1/workspaces/:workspace_id/invitations/:invitation_id',
    summary: 'Withdraw an invitation',
    access: 'member.manage',
    workspace: inParams,
    params: workspaceParams.extend({ invitation_id: id }),
    reply: z.strictObject({ ok: z.literal(true) }),
  }),
  acceptInvitation: route({
    id: 'invitation.accept',
    method: 'POST',
    path: '/v1/invitations/accept',
    summary: 'Join a workspace with the token of an invitation',
    access: 'session',
    body: z.strictObject({ token: z.string().min(16).max(200) }),
    reply: membership,
  }),
} as const
