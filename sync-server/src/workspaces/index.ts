import type { ServerContext } from '../app/context.ts'
import type { Feature } from '../app/implement.ts'
import { invitationRoutes } from './invitations.ts'
import { memberRoutes } from './members.ts'
import { workspaceRoutes } from './workspaces.ts'

export { idTaken } from './workspaces.ts'

export const workspacesFeature = (ctx: ServerContext): Feature => ({
  implementations: [...workspaceRoutes(ctx), ...memberRoutes(ctx), ...invitationRoutes(ctx)],
})
