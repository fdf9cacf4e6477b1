import type { State, Statements } from '../../src/state/index.ts'
import type { Rng } from './random.ts'

/** How often the disk of a device fails, 0 to 1, for one statement or commit. */
export interface DiskWeather {
  /** A statement of a transaction fails: it is rolled back. */
  readonly statement: number
  /** A commit fails and is not there. */
  readonly commit: number
  /** A commit is there, and said to have failed. */
  readonly afterCommit: number
}

export interface DiskHooks {
  readonly rng: Rng
  readonly weather: () => DiskWeather | null
  /** Called before and after each commit: a device may die there. */
  readonly atCommit: () => void
}

const full = () => new Error('IO Error: Could not write file "state.duckdb.wal": No space left on device')

/** Puts the faults of a disk between the state and its database; answers what takes them away. */
export async function harmDisk(state: State, hooks: DiskHooks): Promise<() => void> {
  let inside: Statements | null = null
  await state.write(async tx => {
    inside = tx
  })
  const tx = inside as Statements | null
  if (!tx) throw new Error('the state gave no transaction')
  const run = tx.run.bind(tx)
  const insert = tx.insert.bind(tx)
  tx.run = async (sql, ...values) => {
    const weather = hooks.weather()
    if (sql === 'commit') {
      hooks.atCommit()
      if (weather && hooks.rng.chance(weather.commit)) throw full()
      await run(sql)
      hooks.atCommit()
      if (weather && hooks.rng.chance(weather.afterCommit)) throw full()
      return
    }
    const harmless = sql === 'begin transaction' || sql === 'rollback'
    if (weather && !harmless && hooks.rng.chance(weather.statement)) throw full()
    await run(sql, ...values)
  }
  tx.insert = async (table, rows) => {
    const weather = hooks.weather()
    if (weather && rows.length > 0 && hooks.rng.chance(weather.statement)) throw full()
    await insert(table, rows)
  }
  return () => {
    // What is in front of the class's own.
    Reflect.deleteProperty(tx, 'run')
    Reflect.deleteProperty(tx, 'insert')
  }
}
