import { AppError } from '@pluto-duck/crdt-model/errors'
import { identityRoutes, type Role } from '@pluto-duck/crdt-model/protocol'
import type { Kysely } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { created, type Implementation, implement } from '../app/implement.ts'
import { type Database, transact } from '../database/index.ts'

/** An id that is taken by something which the sender may not see; says neither what nor where. */
export const idTaken = (field: string): AppError =>
  new AppError('request.id_taken', `This ${field} is taken.`, { details: { field } })

export const membershipOf = async (db: Kysely<Database>, workspaceId: string, role: Role) => {
  const row = await db
    .selectFrom('workspaces')
    .select(['id', 'name', 'created_at'])
    .where('id', '=', workspaceId)
    .executeTakeFirst()
  if (!row) throw new AppError('workspace.not_found', 'There is no such workspace.')
  return { workspace_id: row.id, name: row.name, role, created_at: row.created_at.toISOString() }
}

export const workspaceRoutes = ({ db, clock, audit }: ServerContext): Implementation[] => [
  implement(identityRoutes.createWorkspace, async ({ body, session, deviceId, origin }) => {
    const userId = session.user.id
    const made = await transact(db, async tx => {
      const inserted = await tx
        .insertInto('workspaces')
        .values({ id: body.workspace_id, name: body.name, created_at: clock.now(), created_by: userId })
        .onConflict(conflict => conflict.column('id').doNothing())
        .returning('id')
        .executeTakeFirst()
      if (!inserted) return false
      await tx
        .insertInto('members')
        .values({ workspace_id: body.workspace_id, user_id: userId, role: 'owner', joined_at: clock.now() })
        .execute()
      await audit.record(tx, {
        workspaceId: body.workspace_id,
        actorUserId: userId,
        deviceId,
        origin,
        action: 'workspace.create',
        objectKind: 'workspace',
        objectId: body.workspace_id,
      })
      return true
    })
    if (made) return created(await membershipOf(db, body.workspace_id, 'owner'))
    // A repeated post by its maker is answered as before; for anybody else the id is just taken.
    const mine = await db
      .selectFrom('workspaces')
      .innerJoin('members', 'members.workspace_id', 'workspaces.id')
      .select('members.role')
      .where('workspaces.id', '=', body.workspace_id)
      .where('workspaces.created_by', '=', userId)
      .where('members.user_id', '=', userId)
      .executeTakeFirst()
    if (!mine) throw idTaken('workspace_id')
    return await membershipOf(db, body.workspace_id, mine.role)
  }),

  implement(
    identityRoutes.readWorkspace,
    async ({ member }) => await membershipOf(db, member.workspaceId, member.role),
  ),

  implement(identityRoutes.renameWorkspace, async ({ member, body, session, deviceId, origin }) => {
    await transact(db, async tx => {
      await tx
        .updateTable('workspaces')
        .set({ name: body.name })
        .where('id', '=', member.workspaceId)
        .execute()
      await audit.record(tx, {
        workspaceId: member.workspaceId,
        actorUserId: session.user.id,
        deviceId,
        origin,
        action: 'workspace.rename',
        objectKind: 'workspace',
        objectId: member.workspaceId,
        details: { name: body.name },
      })
    })
    return await membershipOf(db, member.workspaceId, member.role)
  }),
]
