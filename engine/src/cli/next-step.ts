import type { SyncState } from '../contract/index.ts'
import type { Session } from './session.ts'

/** States in which the team may have pipelines that this machine has not fetched. */
const MAY_LACK: ReadonlySet<SyncState['state']> = new Set(['idle', 'syncing', 'offline'])

/** What there is to do after signing in, for whom has only the command line; nothing where a host in the background does it. */
export const afterSignIn = async (session: Session): Promise<string | null> => {
  const { workspaces } = await session.value('workspace.list', {})
  if (workspaces.length === 0)
    return 'Next: `pluto workspace create NAME`, or open the link of an invitation, then `pluto sync`.'
  const { state } = await session.value('sync.state', {})
  return state === 'idle' ? 'Next: `pluto sync` fetches your workspace.' : null
}

/** What a list of no pipelines says: on a machine that has fetched nothing yet a new one could be the second of its name. */
export const noPipelines = async (session: Session): Promise<string> => {
  const { state } = await session.value('sync.state', {})
  const here = '`pluto import FOLDER`, `pluto import --sample`'
  return MAY_LACK.has(state)
    ? `No pipeline here yet: \`pluto sync\` fetches your team’s, or ${here}, \`pluto create NAME\`.`
    : `No pipeline yet: ${here} or \`pluto create NAME\`.`
}
