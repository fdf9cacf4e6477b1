import { newId } from '@pluto-duck/crdt-model/protocol'
import { Audit } from '../../src/audit/index.ts'
import { appendVoid } from '../../src/changes/void.ts'
import { createDatabase, transact } from '../../src/database/index.ts'
import { purgeDocument } from '../../src/integrity/index.ts'

/** Takes things out of the log of a server that runs, in this process. Devices hear of it when they sync next. */
export interface Purging {
  /** As `pluto-server purge` does, but for writing the tables anew. */
  purge(documentId: string, changes?: readonly string[]): Promise<void>
  /** What a mending does when it finds these guilty. */
  takeOut(workspaceId: string, documentId: string, hashes: readonly string[]): Promise<void>
  close(): Promise<void>
}

export async function purging(databaseUrl: string): Promise<Purging> {
  const database = await createDatabase({ databaseUrl, dataDir: '' })
  const { db } = database
  const clock = { now: () => new Date() }
  const audit = new Audit(clock)
  const parts = { db, audit, clock, bus: { publish: async () => undefined } }
  return {
    async purge(documentId, changes = []) {
      await purgeDocument(parts, documentId, changes, `a password ${newId()}`)
    },
    takeOut: (workspaceId, documentId, hashes) =>
      transact(db, async tx => {
        const reason = 'taken out by a test'
        const record = (found: object) =>
          audit.record(tx, {
            workspaceId,
            actorUserId: null,
            action: 'document.void',
            objectKind: 'document',
            objectId: documentId,
            details: { reason, ...found },
          })
        await appendVoid(tx, {
          workspaceId,
          documentId,
          hashes,
          erase: false,
          reason,
          at: clock.now(),
          record,
        })
      }),
    close: () => database.close(),
  }
}
