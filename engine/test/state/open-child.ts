import { toAppError } from '@pluto-duck/crdt-model/errors'
import { State } from '../../src/state/index.ts'

// Tells whether another process may open the folder.
try {
  await (await State.open(process.argv[2] as string)).close()
  console.log('opened')
} catch (error) {
  console.log(toAppError(error).code)
}
