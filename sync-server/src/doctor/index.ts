import type { Config } from '../config/index.ts'
import { addressChecks } from './address.ts'
import { type Check, reasonOf, wrong } from './check.ts'
import { databaseChecks } from './database.ts'
import { storageChecks } from './storage.ts'

export type { Check }

/**
 * Looks at everything that the server needs, as the server and its clients meet it. Tells of each check when it is done. What does
 * not work is a check that is `wrong`, never an error: the rest is looked at all the same.
 */
export async function* examine(config: Config): AsyncGenerator<Check> {
  const parts = { database: databaseChecks, storage: storageChecks, address: addressChecks }
  for (const [name, checks] of Object.entries(parts)) {
    try {
      yield* checks(config)
    } catch (error) {
      yield wrong(
        name,
        `It stopped answering meanwhile (${reasonOf(error)}).`,
        'Try again; its own log says more.',
      )
    }
  }
}
