import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import type { WorkspaceRow } from '../state/index.ts'
import type { WorkspaceParts } from './workspace-parts.ts'

type Parts = Pick<
  WorkspaceParts,
  'settings' | 'workspaces' | 'documents' | 'account' | 'server' | 'bus' | 'log'
>

const LEFT = 'left_workspaces'
const NAMED = 'workspaces_named'

/** The workspaces that this person is a member of, as the server says, and those that they were removed from. */
export class Memberships {
  readonly #p: Parts
  /** Workspaces that this person was removed from and of which local drafts are here. */
  readonly #left: Set<string>

  private constructor(parts: Parts, left: Set<string>) {
    this.#p = parts
    this.#left = left
  }

  static async open(parts: Parts): Promise<Memberships> {
    // Rows that were written before a workspace named its member are of whoever is signed in at the first start after that. Later
    // it may be anybody: then the server's list alone names them.
    const { person } = parts.account
    if ((await parts.settings.get(NAMED)) === null) {
      if (person !== null)
        for (const row of await parts.workspaces.list())
          if (row.remote && row.user_id === null) await parts.workspaces.put({ ...row, user_id: person.id })
      await parts.settings.set(NAMED, 'yes')
    }
    const left = JSON.parse((await parts.settings.get(LEFT)) ?? '[]') as string[]
    return new Memberships(parts, new Set(left))
  }

  left(workspaceId: string): boolean {
    return this.#left.has(workspaceId)
  }

  /**
   * Asks the server who is signed in and takes over the workspaces and the role in each; sends those that were made before signing in.
   * `stop` ends the sync of a workspace before it goes.
   */
  async take(stop: (workspaceId: string) => Promise<void>): Promise<void> {
    const me = await this.#p.server.call(identityRoutes.me, {})
    await this.#p.account.remember(me.user)
    const place = { remote: true, user_id: me.user.id }
    const there = new Set(me.workspaces.map(membership => membership.workspace_id))
    for (const { workspace_id, name, role } of me.workspaces)
      await this.#p.workspaces.put({ workspace_id, name, role, ...place })
    for (const workspaceId of there) if (this.#left.delete(workspaceId)) await this.#saveLeft()
    // Another person's workspaces, or another server's, are not what this one was removed from. And a server that lost a workspace
    // says the same: its owners' machines keep everything.
    for (const row of await this.#p.workspaces.list()) {
      const mine = row.remote && row.user_id === me.user.id
      if (mine && row.role !== 'owner' && !there.has(row.workspace_id)) await this.#leave(row, stop)
    }
    for (const row of await this.#p.workspaces.list()) {
      if (row.remote || there.has(row.workspace_id)) continue
      await this.#p.server.call(identityRoutes.createWorkspace, {
        body: { workspace_id: row.workspace_id, name: row.name },
      })
      await this.#p.workspaces.put({ ...row, ...place })
    }
  }

  /**
   * This person is no longer a member: what this machine has not sent stays, as local drafts; the rest of the workspace goes
   * (docs/policies.md). The workspace itself is listed for as long as it has local drafts, or unsent work that could not be read.
   */
  async #leave(row: WorkspaceRow, stop: (workspaceId: string) => Promise<void>): Promise<void> {
    const { workspace_id: workspaceId, name } = row
    await stop(workspaceId)
    const { drafts, unreadable } = await this.#p.documents.leave(workspaceId, {
      code: 'permission',
      reason: `You are no longer a member of ${name}.`,
    })
    const known = this.#left.has(workspaceId)
    for (const { documentId, error } of unreadable)
      this.#p.log.error(
        { document_id: documentId, err: error },
        'unsent work could not be read; it is kept as it is',
      )
    if (unreadable.length === 0 && (await this.#p.documents.drafts(workspaceId)).length === 0) {
      this.#left.delete(workspaceId)
      await this.#p.workspaces.remove(workspaceId)
    } else this.#left.add(workspaceId)
    await this.#saveLeft()
    if (known) return
    this.#p.log.warn({ workspace_id: workspaceId, drafts }, 'no longer a member; what was not sent is kept')
    this.#p.bus.publish('pipelines.changed', { pipeline_id: null })
  }

  #saveLeft(): Promise<void> {
    return this.#p.settings.set(LEFT, JSON.stringify([...this.#left]))
  }
}
