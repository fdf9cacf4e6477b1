import { AppError } from '@pluto-duck/crdt-model/errors'
import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import type { ServerContext } from '../app/context.ts'
import { created, type Implementation, implement } from '../app/implement.ts'
import { assertAddress, findInvitation, INVITATION_DAYS, newToken, useInvitation } from '../auth/index.ts'
import { transact } from '../database/index.ts'
import { idTaken, membershipOf } from './workspaces.ts'

interface Row {
  id: string
  workspace_id: string | null
  email: string | null
  role: 'owner' | 'editor' | 'viewer'
  created_at: Date
  expires_at: Date
}
const asInvitation = (row: Row) => ({
  invitation_id: row.id,
  workspace_id: row.workspace_id as string,
  email: row.email as string,
  role: row.role,
  created_at: row.created_at.toISOString(),
  expires_at: row.expires_at.toISOString(),
})
const COLUMNS = ['id', 'workspace_id', 'email', 'role', 'created_at', 'expires_at'] as const

export const invitationRoutes = (ctx: ServerContext): Implementation[] => [
  implement(identityRoutes.invite, async ({ member, body, session, deviceId, origin }) => {
    const { db, clock, audit, publicUrl } = ctx
    const { token, hash } = newToken()
    const now = clock.now()
    const email = body.email.trim().toLowerCase()
    const row = await transact(db, async tx => {
      const inserted = await tx
        .insertInto('invitations')
        .values({
          id: body.invitation_id,
          workspace_id: member.workspaceId,
          email,
          role: body.role,
          token_hash: hash,
          created_by: session.user.id,
          created_at: now,
          expires_at: new Date(now.getTime() + INVITATION_DAYS * 86_400_000),
          accepted_at: null,
          accepted_by: null,
          revoked_at: null,
        })
        .onConflict(conflict => conflict.column('id').doNothing())
        .returning(COLUMNS)
        .executeTakeFirst()
      if (!inserted) return null
      await audit.record(tx, {
        workspaceId: member.workspaceId,
        actorUserId: session.user.id,
        deviceId,
        origin,
        action: 'invitation.create',
        objectKind: 'invitation',
        objectId: body.invitation_id,
        details: { email, role: body.role },
      })
      return inserted
    })
    if (row) {
      return created({ invitation: asInvitation(row), token, url: `${publicUrl}/join?token=${token}` })
    }
    const there = await db
      .selectFrom('invitations')
      .select(COLUMNS)
      .where('id', '=', body.invitation_id)
      .where('workspace_id', '=', member.workspaceId)
      .executeTakeFirst()
    if (!there || there.email !== email || there.role !== body.role) throw idTaken('invitation_id')
    return { invitation: asInvitation(there), token: null, url: null }
  }),

  implement(identityRoutes.listInvitations, async ({ member }) => {
    const rows = await ctx.db
      .selectFrom('invitations')
      .select(COLUMNS)
      .where('workspace_id', '=', member.workspaceId)
      .where('accepted_by', 'is', null)
      .where('revoked_at', 'is', null)
      .where('expires_at', '>', ctx.clock.now())
      .orderBy('id')
      .execute()
    return { invitations: rows.map(asInvitation) }
  }),

  implement(identityRoutes.revokeInvitation, async ({ member, params, session, deviceId, origin }) => {
    await transact(ctx.db, async tx => {
      const row = await tx
        .selectFrom('invitations')
        .select(['accepted_by', 'revoked_at'])
        .where('id', '=', params.invitation_id)
        .where('workspace_id', '=', member.workspaceId)
        .forUpdate()
        .executeTakeFirst()
      if (!row) throw new AppError('invitation.not_found', 'There is no such invitation.')
      if (row.accepted_by !== null) {
        throw new AppError('invitation.expired', 'This invitation was used already.', {
          hint: 'Remove the member instead.',
        })
      }
      if (row.revoked_at !== null) return
      await tx
        .updateTable('invitations')
        .set({ revoked_at: ctx.clock.now() })
        .where('id', '=', params.invitation_id)
        .execute()
      await ctx.audit.record(tx, {
        workspaceId: member.workspaceId,
        actorUserId: session.user.id,
        deviceId,
        origin,
        action: 'invitation.revoke',
        objectKind: 'invitation',
        objectId: params.invitation_id,
      })
    })
    return { ok: true as const }
  }),

  implement(identityRoutes.acceptInvitation, async ({ body, session, origin }) => {
    const invitation = await findInvitation(ctx.db, body.token)
    assertAddress(invitation, session.user.email)
    const { workspaceId } = invitation
    // The first owner's link is for signing up only.
    if (workspaceId === null) throw new AppError('invitation.not_found', 'There is no such invitation.')
    await transact(ctx.db, tx => useInvitation(ctx, tx, invitation, session.user.id, origin))
    const { role } = await ctx.db
      .selectFrom('members')
      .select('role')
      .where('workspace_id', '=', workspaceId)
      .where('user_id', '=', session.user.id)
      .executeTakeFirstOrThrow()
    return await membershipOf(ctx.db, workspaceId, role)
  }),
]
