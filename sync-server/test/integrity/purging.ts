import { newId } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { EventBus } from '../../src/app/event-bus.ts'
import { Audit } from '../../src/audit/index.ts'
import { appendVoid } from '../../src/changes/void.ts'
import { createDatabase, transact } from '../../src/database/index.ts'
import { type PurgePlan, purgeDocument, rewriteTables, verify } from '../../src/integrity/index.ts'
import { Replayer } from '../../src/integrity/replay.ts'

/** Takes things out of the log of a server that runs, in this process. Devices hear of it when they sync next. */
export interface Purging {
  /** As `pluto-server purge` does, but for writing the tables anew. */
  purge(documentId: string, changes?: readonly string[]): Promise<PurgePlan>
  /** What `pluto-server purge` does after it. */
  rewrite(): Promise<void>
  /** What a mending does when it finds these guilty. */
  takeOut(workspaceId: string, documentId: string, hashes: readonly string[]): Promise<void>
  /** What `pluto-server verify` finds. */
  verify(workspaceId: string): Promise<readonly string[]>
  close(): Promise<void>
}

export interface PurgingOptions {
  /** Tells servers and devices that listen, as the program does. Default: they hear of it when they ask. */
  readonly tells?: boolean
}

export async function purging(databaseUrl: string, { tells = false }: PurgingOptions = {}): Promise<Purging> {
  const database = await createDatabase({ databaseUrl, dataDir: '' })
  const { db } = database
  const clock = { now: () => new Date() }
  const audit = new Audit(clock)
  const bus = tells
    ? new EventBus(db, databaseUrl, pino({ level: 'silent' }))
    : { publish: async () => undefined }
  // One for all purges: to start its worker costs more than they do.
  const replayer = new Replayer()
  const parts = { db, audit, clock, bus, replayer }
  return {
    purge: (documentId, changes = []) => purgeDocument(parts, documentId, changes, `a password ${newId()}`),
    rewrite: () => rewriteTables(db),
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
        const done = await appendVoid(tx, {
          workspaceId,
          documentId,
          hashes,
          erase: false,
          reason,
          at: clock.now(),
          record,
        })
        await bus.publish(workspaceId, { type: 'changes', from: done.after, to: done.seq, items: null }, tx)
      }),
    verify: async workspaceId =>
      (await verify(db, { workspaceId })).findings.map(({ code, object, message }) =>
        [code, object, message].join(': '),
      ),
    close: async () => {
      await replayer.close()
      await database.close()
    },
  }
}
