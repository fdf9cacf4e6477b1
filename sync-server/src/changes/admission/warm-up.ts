import * as Automerge from '@automerge/automerge'
import { headsAfter, type Trial, type TriedChange } from './trial.ts'

/** Enough that what every trial runs has run often, and less than a second of work. */
const EDITS = 40
const TEXT = 'select region, sum(amount) as revenue from orders group by all\n'.repeat(30)

/**
 * Tries some edits of a text that nobody has, so that the first worker is there and its code has run before anybody's first edit comes.
 * Nothing of it is stored. Answers how many were tried: fewer when the signal aborts. Throws when one does not pass.
 */
export async function warmUp(trial: Trial, signal: AbortSignal): Promise<number> {
  let doc = Automerge.from<{ name: string; sql: string }>({ name: 'warm-up', sql: TEXT })
  let heads: readonly string[] = []
  let tried = 0
  for (; tried < EDITS && !signal.aborted; tried++) {
    const bytes = Automerge.getLastLocalChange(doc)!
    const { hash, deps } = Automerge.decodeChange(bytes)
    const change: TriedChange = { hash, deps, bytes }
    // No document's id is like this: it is no UUID.
    const { failures } = await trial.try({ id: 'warm-up', heads, load: async () => new Uint8Array() }, [
      change,
    ])
    if (failures[0] !== null) throw new Error(`an edit to warm up did not pass its trial: ${failures[0]}`)
    heads = headsAfter(heads, [change])
    doc = Automerge.change(doc, draft => Automerge.splice(draft, ['sql'], tried * 3, 0, 'x'))
  }
  Automerge.free(doc)
  return tried
}
