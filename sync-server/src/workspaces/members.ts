import { AppError } from '@pluto-duck/crdt-model/errors'
import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Kysely, Transaction } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { type Implementation, implement } from '../app/implement.ts'
import { type Database, transact } from '../database/index.ts'

const members = (db: Kysely<Database>, workspaceId: string) =>
  db
    .selectFrom('members')
    .innerJoin('users', 'users.id', 'members.user_id')
    .select(['members.user_id', 'users.name', 'users.email', 'members.role', 'members.joined_at'])
    .where('members.workspace_id', '=', workspaceId)

const asMember = <T extends { joined_at: Date }>({ joined_at, ...row }: T) => ({
  ...row,
  joined_at: joined_at.toISOString(),
})

/** The role of a member, with all owners' rows locked: two owners who leave at once cannot both be let go. */
const lockMember = async (
  tx: Transaction<Database>,
  workspaceId: string,
  userId: string,
): Promise<{ role: string; lastOwner: boolean }> => {
  const rows = await tx
    .selectFrom('members')
    .select(['user_id', 'role'])
    .where('workspace_id', '=', workspaceId)
    .where(where => where.or([where('role', '=', 'owner'), where('user_id', '=', userId)]))
    .orderBy('user_id')
    .forUpdate()
    .execute()
  const row = rows.find(each => each.user_id === userId)
  if (!row) throw new AppError('member.not_found', 'There is no such member.')
  return { role: row.role, lastOwner: rows.every(each => each.role !== 'owner' || each.user_id === userId) }
}

const lastOwner = (): AppError =>
  new AppError('workspace.last_owner', 'A workspace keeps at least one owner.')

export const memberRoutes = ({ db, audit, bus }: ServerContext): Implementation[] => [
  implement(identityRoutes.listMembers, async ({ member }) => {
    const rows = await members(db, member.workspaceId)
      .orderBy('members.joined_at')
      .orderBy('members.user_id')
      .execute()
    return { members: rows.map(asMember) }
  }),

  implement(identityRoutes.setRole, async ({ member, params, body, session, deviceId, origin }) => {
    await transact(db, async tx => {
      const before = await lockMember(tx, member.workspaceId, params.user_id)
      if (before.role === body.role) return
      if (before.role === 'owner' && before.lastOwner) throw lastOwner()
      await tx
        .updateTable('members')
        .set({ role: body.role })
        .where('workspace_id', '=', member.workspaceId)
        .where('user_id', '=', params.user_id)
        .execute()
      await bus.publish(member.workspaceId, { type: 'member', user_id: params.user_id }, tx)
      await audit.record(tx, {
        workspaceId: member.workspaceId,
        actorUserId: session.user.id,
        deviceId,
        origin,
        action: 'member.set_role',
        objectKind: 'member',
        objectId: params.user_id,
        details: { from: before.role, to: body.role },
      })
    })
    return asMember(
      await members(db, member.workspaceId)
        .where('members.user_id', '=', params.user_id)
        .executeTakeFirstOrThrow(),
    )
  }),

  implement(identityRoutes.removeMember, async ({ member, params, session, deviceId, origin }) => {
    await transact(db, async tx => {
      const before = await lockMember(tx, member.workspaceId, params.user_id)
      if (before.role === 'owner' && before.lastOwner) throw lastOwner()
      await tx
        .deleteFrom('members')
        .where('workspace_id', '=', member.workspaceId)
        .where('user_id', '=', params.user_id)
        .execute()
      await bus.publish(member.workspaceId, { type: 'member', user_id: params.user_id }, tx)
      await audit.record(tx, {
        workspaceId: member.workspaceId,
        actorUserId: session.user.id,
        deviceId,
        origin,
        action: 'member.remove',
        objectKind: 'member',
        objectId: params.user_id,
        details: { role: before.role },
      })
    })
    return { ok: true as const }
  }),
]
