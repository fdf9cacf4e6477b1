import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import type { ServerContext } from '../app/context.ts'
import { type Feature, implement } from '../app/implement.ts'
import type { Access } from './access.ts'

/** Who is signed in, and signing out. */
export const identityFeature = ({ db }: ServerContext, access: Access): Feature => ({
  implementations: [
    implement(identityRoutes.me, async ({ session }) => {
      const rows = await db
        .selectFrom('members')
        .innerJoin('workspaces', 'workspaces.id', 'members.workspace_id')
        .select(['workspaces.id', 'workspaces.name', 'members.role', 'workspaces.created_at'])
        .where('members.user_id', '=', session.user.id)
        .orderBy('workspaces.id')
        .execute()
      return {
        user: session.user,
        workspaces: rows.map(row => ({
          workspace_id: row.id,
          name: row.name,
          role: row.role,
          created_at: row.created_at.toISOString(),
        })),
      }
    }),
    implement(identityRoutes.signOut, async ({ session, response }) => {
      await db.deleteFrom('sessions').where('id', '=', session.sessionId).execute()
      access.forget(session.sessionId)
      response.clearCookie('pluto.session_token')
      return { ok: true as const }
    }),
  ],
})
