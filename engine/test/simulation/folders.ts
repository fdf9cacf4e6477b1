import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { State } from '../../src/state/index.ts'
import { LIGHT_FILE, openLight } from './light-database.ts'

/** Memory, where the system offers it: a simulated device is opened and crashed many times a second. */
const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

export const makeFolder = (): string => mkdtempSync(join(PLACE, 'pluto-sim-'))
export const removeFolder = (folder: string): void =>
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })

/** What keeps the state of a device: DuckDB, as everywhere else, or the light database. */
export type Store = 'duckdb' | 'light'

/** Opens what a device left, or a folder with a new state in it. */
export const openState = (folder: string, store: Store): Promise<State> =>
  store === 'light' ? State.open(folder, openLight) : State.open(folder)

const templates = new Map<Store, Promise<string>>()

/** A state with nothing in it, and its folder. */
export interface Fresh {
  readonly folder: string
  readonly state: State
  readonly store: Store
}

/** Empty again, and open: to open a DuckDB database costs as much as twenty commits. With how often each was used. */
const rested: (Fresh & { readonly uses: number })[] = []
const uses = new WeakMap<State, number>()
const USES = 20

export async function freshState(store: Store): Promise<Fresh> {
  const one = store === 'duckdb' ? rested.pop() : undefined
  if (one) {
    uses.set(one.state, one.uses)
    return one
  }
  const folder = await freshFolder(store)
  return { folder, state: await openState(folder, store), store }
}

/** Empties a healthy state that nobody uses any more, for the next device. */
export async function giveBack({ folder, state, store }: Fresh): Promise<void> {
  const used = (uses.get(state) ?? 0) + 1
  if (store === 'light' || used >= USES) {
    await state.read.run('pragma disable_checkpoint_on_shutdown')
    await state.close()
    removeFolder(folder)
    return
  }
  await state.write(async tx => {
    const tables = await tx.all<{ name: string }>(
      "select table_name as name from duckdb_tables() where database_name = 'state' and table_name <> 'migrations'",
    )
    for (const { name } of tables) await tx.run(`delete from ${name}`)
  })
  rested.push({ folder, state, store, uses: used })
}

/** At the end of the process. */
export async function closeRested(): Promise<void> {
  for (const { folder, state } of rested.splice(0)) {
    await state.close()
    removeFolder(folder)
  }
}

/** A folder with a new state in it: its tables are made once for the process. */
async function freshFolder(store: Store): Promise<string> {
  let template = templates.get(store)
  if (!template) {
    template = (async () => {
      const folder = makeFolder()
      await (await openState(folder, store)).close()
      process.once('exit', () => removeFolder(folder))
      return folder
    })()
    templates.set(store, template)
  }
  const folder = makeFolder()
  cpSync(await template, folder, { recursive: true })
  return folder
}

/**
 * What a process that dies now leaves on the disk: the database and its log as far as it is written, maybe in the middle of a
 * commit.
 */
export function leftBehind(folder: string): string {
  const copy = makeFolder()
  for (const file of ['state.duckdb', 'state.duckdb.wal', LIGHT_FILE, `${LIGHT_FILE}-wal`])
    if (existsSync(join(folder, file))) cpSync(join(folder, file), join(copy, file))
  return copy
}
