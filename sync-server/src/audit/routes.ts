import { auditRoutes } from '@pluto-duck/crdt-model/protocol'
import type { ServerContext } from '../app/context.ts'
import { type Feature, implement } from '../app/implement.ts'

export const auditFeature = ({ db }: ServerContext): Feature => ({
  implementations: [
    implement(auditRoutes.list, async ({ member, query }) => {
      const rows = await db
        .selectFrom('audit')
        .selectAll()
        .where('workspace_id', '=', member.workspaceId)
        .where('seq', '>', query.after)
        .orderBy('seq')
        .limit(query.limit + 1)
        .execute()
      return {
        entries: rows
          .slice(0, query.limit)
          .map(({ workspace_id: _, at, ...row }) => ({ ...row, at: at.toISOString() })),
        more: rows.length > query.limit,
      }
    }),
  ],
})
