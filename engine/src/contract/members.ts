import { role } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { done, none } from './inputs.ts'
import { method } from './method.ts'
import { id, timestamp, userId } from './wire.ts'

const member = z.strictObject({ user_id: userId, name: z.string(), email: z.string(), role })

/** The people of the open workspace. All of it needs the server. */
export const memberMethods = {
  'workspace.members': method({
    summary: 'Who is in the workspace',
    input: none,
    output: z.strictObject({ members: z.array(member) }),
  }),
  'workspace.set_role': method({
    summary: 'Change what a member may do',
    input: z.strictObject({ user_id: userId, role }),
    output: member,
  }),
  'workspace.remove_member': method({
    summary: 'Remove a member; the workspace goes off their machines',
    input: z.strictObject({ user_id: userId }),
    output: done,
  }),
  'workspace.invite': method({
    summary: 'Invite somebody; the link is shown once',
    input: z.strictObject({ email: z.email(), role }),
    output: z.strictObject({ url: z.string() }),
  }),
  'workspace.invitations': method({
    summary: 'Open invitations',
    input: none,
    output: z.strictObject({
      invitations: z.array(
        z.strictObject({
          invitation_id: id,
          email: z.string(),
          role,
          created_at: timestamp,
          expires_at: timestamp,
        }),
      ),
    }),
  }),
  'workspace.withdraw_invitation': method({
    summary: 'Withdraw an invitation: its link lets nobody in any more',
    input: z.strictObject({ invitation_id: id }),
    output: done,
  }),
} as const
