import { newId, role } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import type { State } from './state.ts'

/** Small facts about this installation, by key. */
export class Settings {
  readonly #state: State

  constructor(state: State) {
    this.#state = state
  }

  async get(key: string): Promise<string | null> {
    const row = await this.#state.read.first<{ value: string }>('select value from meta where key = $1', key)
    return row?.value ?? null
  }

  set(key: string, value: string | null): Promise<void> {
    return this.#state.write(async tx => {
      if (value === null) await tx.run('delete from meta where key = $1', key)
      else await tx.run('insert or replace into meta values ($1, $2)', key, value)
    })
  }

  /** This installation's id, made at the first call and kept. */
  async deviceId(): Promise<string> {
    const known = await this.get('device_id')
    if (known !== null) return known
    await this.#state.write(tx => tx.run('insert or ignore into meta values ($1, $2)', 'device_id', newId()))
    return (await this.get('device_id')) as string
  }
}

const workspaceRow = z.object({
  workspace_id: z.string(),
  name: z.string(),
  role,
  /** False for a workspace that lives on this machine only. */
  remote: z.boolean(),
  /** The server's seq up to which everything is stored here; null before the first sync. */
  cursor: z.number().int().nonnegative().nullable(),
  last_synced_at: z.string().nullable(),
  /** As whom this installation was last a member, which also tells servers apart; null while nobody knows. */
  user_id: z.string().nullable(),
})
export type WorkspaceRow = z.infer<typeof workspaceRow>

export class Workspaces {
  readonly #state: State

  constructor(state: State) {
    this.#state = state
  }

  async list(): Promise<WorkspaceRow[]> {
    return z
      .array(workspaceRow)
      .parse(await this.#state.read.all('select * from workspaces order by workspace_id'))
  }

  async get(workspaceId: string): Promise<WorkspaceRow | null> {
    const row = await this.#state.read.first('select * from workspaces where workspace_id = $1', workspaceId)
    return row ? workspaceRow.parse(row) : null
  }

  remove(workspaceId: string): Promise<void> {
    return this.#state.write(tx => tx.run('delete from workspaces where workspace_id = $1', workspaceId))
  }

  /** Adds the workspace, or takes over its name, role, place and person; its cursor stays, and so does a person when none is given. */
  put(
    workspace: Pick<WorkspaceRow, 'workspace_id' | 'name' | 'role' | 'remote'> &
      Partial<Pick<WorkspaceRow, 'user_id'>>,
  ): Promise<void> {
    const { workspace_id, name, role: mine, remote, user_id = null } = workspace
    return this.#state.write(tx =>
      tx.run(
        `insert into workspaces (workspace_id, name, role, remote, user_id) values ($1, $2, $3, $4, $5)
         on conflict (workspace_id) do update set name = excluded.name, role = excluded.role, remote = excluded.remote,
           user_id = coalesce(excluded.user_id, user_id)`,
        workspace_id,
        name,
        mine,
        remote,
        user_id,
      ),
    )
  }
}
