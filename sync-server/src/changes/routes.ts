import { once } from 'node:events'
import { AppError } from '@pluto-duck/crdt-model/errors'
import {
  type AppendItem,
  CBOR_SEQUENCE,
  changeRoutes,
  type EndItem,
  encodeItem,
  encodeSequence,
  parseAppend,
} from '@pluto-duck/crdt-model/protocol'
import type { ServerContext } from '../app/context.ts'
import { ANSWERED, type Feature, implement } from '../app/implement.ts'
import { mendDocument } from '../integrity/mend.ts'
import { Trial } from './admission/trial.ts'
import { Appender, type Verdict } from './append.ts'
import { Digests } from './digest.ts'
import { eventOf, streamEvents } from './events.ts'
import { packLog, verdictItems } from './log-runs.ts'
import { LogWatcher } from './log-watcher.ts'
import { sha256, unpack } from './packs.ts'
import { readLog, readRecords } from './read.ts'
import { sendSnapshot } from './send-snapshot.ts'
import { SnapshotPages } from './snapshot-pages.ts'
import { Snapshots } from './snapshots.ts'
import { readSeq } from './store.ts'

/** The change log over HTTP, and what other features need of it. */
export interface ChangesFeature extends Feature {
  readonly appender: Appender
  readonly watcher: LogWatcher
}

/** Where changes are tried, and where documents are compacted. */
export interface Trials {
  readonly trial: Trial
  readonly compactor: Trial
  close(): Promise<void>
}

/** Starts no worker before there is work for it. */
export const startTrials = (): Trials => {
  const trial = new Trial()
  const compactor = new Trial({ workers: 1, keep: 4, timeoutMs: 120_000 })
  return {
    trial,
    compactor,
    close: async () => {
      await Promise.all([trial.close(), compactor.close()])
    },
  }
}

export const changesFeature = ({
  config,
  db,
  bus,
  log,
  clock,
  audit,
  refusals,
  trials,
}: ServerContext): ChangesFeature => {
  const used = trials ?? startTrials()
  const { trial, compactor } = used
  const onError = (error: unknown): void => log.error({ err: error }, 'the change log')
  const watcher = new LogWatcher({
    db,
    onError,
    subscribe: (workspaceId, heard) =>
      bus.subscribe(workspaceId, event => {
        if (event.type === 'changes') heard(event.to)
      }),
  })
  const mendedOnce = new Set<string>()
  const snapshots = new Snapshots({
    db,
    trial: compactor,
    quietMs: 1_000,
    onError,
    onCorrupt: async (workspaceId, documentId, reason) => {
      const of = { workspace_id: workspaceId, document_id: documentId }
      log.error({ ...of, reason }, 'a document does not load')
      appender.forget(workspaceId, documentId)
      const mended = await mendDocument({ db, bus, log, clock, audit }, workspaceId, documentId)
      log.error({ ...of, ...mended }, 'what was done about the document that did not load')
      // What is sound by the log and yet cannot be compacted stays read-only: trying again would say the same.
      if (mended.state === 'damaged' || (mended.state === 'sound' && mendedOnce.has(documentId))) return
      mendedOnce.add(documentId)
      appender.forget(workspaceId, documentId)
      snapshots.request(workspaceId, documentId)
    },
  })
  const appender: Appender = new Appender({
    db,
    trial,
    now: () => clock.now(),
    workspaceLimits: config.workspaceLimits,
    maxWaitingBytes: config.pushQueue.workspaceBytes,
    onCommit: commit => {
      void bus.publish(commit.workspaceId, eventOf(commit))
      snapshots.note(commit)
      pages.note(commit)
    },
    onCorrupt: (workspaceId, documentId, reason) =>
      void snapshots.condemn(workspaceId, documentId, reason).catch(onError),
  })
  const pages = new SnapshotPages({
    db,
    onError,
    compact: (workspaceId, documentId) => snapshots.compact(workspaceId, documentId),
  })
  void snapshots.resume().catch(onError)
  const digests = new Digests(db)

  /** The digest, when the answer reaches as far as the heads do. */
  const digestAt = async (workspaceId: string, seq: number): Promise<string | null> => {
    const known = await digests.read(workspaceId)
    return known.seq === seq ? known.digest : null
  }
  const endOf = (end: Omit<EndItem, 'end'>): EndItem => ({ end: true, ...end })

  const implementations = [
    implement(changeRoutes.append, async ({ member, session, deviceId, origin, query, body }) => {
      const { header, items } = parseAppend(body, { unpack, sha256 })
      assertDevice(deviceId, header.device_id)
      const appended = await appender.append({
        workspaceId: member.workspaceId,
        userId: session.user.id,
        role: member.role,
        deviceId: header.device_id,
        live: header.live,
        changes: items.map(({ document_id, ...item }) => ({ documentId: document_id, ...item })),
      })
      for (const { documentId, code, count } of refusedIn(items, appended.verdicts)) {
        await refusals.note({
          workspaceId: member.workspaceId,
          userId: session.user.id,
          role: member.role,
          deviceId: header.device_id,
          origin,
          action: 'change.refused',
          objectKind: 'document',
          objectId: documentId,
          code,
          count,
        })
      }
      return encodeSequence([
        ...verdictItems(appended.verdicts, query.pack === 'zstd'),
        endOf({ seq: appended.seq, more: false, digest: null }),
      ])
    }),

    implement(changeRoutes.read, async ({ member, query, guard }) => {
      const { workspaceId } = member
      const { after, limit, wait } = query
      if (wait > 0) await watcher.waitBeyond(workspaceId, after, { signal: guard(), timeoutMs: wait * 1000 })
      const page = await readLog(db, workspaceId, { after, limit })
      const digest = page.more ? null : await digestAt(workspaceId, page.seq)
      const end = endOf({ seq: page.seq, more: page.more, digest })
      if (query.pack !== 'zstd') return encodeSequence([...page.items, end])
      return Buffer.concat([await packLog(page.items), encodeItem({ ...end })])
    }),

    implement(changeRoutes.snapshot, async ({ member, query, response, guard }) => {
      const { workspaceId } = member
      const signal = guard()
      const seq = await readSeq(db, workspaceId)
      response.status(200).set({ 'content-type': CBOR_SEQUENCE, 'cache-control': 'no-store' })
      const write = async (part: Uint8Array): Promise<void> => {
        if (!response.write(part)) await once(response, 'drain', { signal })
      }
      try {
        const { longTails, outside } = await sendSnapshot(db, workspaceId, {
          write,
          packed: query.pack === 'zstd',
          signal,
        })
        for (const documentId of longTails) snapshots.request(workspaceId, documentId)
        pages.served(workspaceId, outside)
        // Without its end item the reader knows that the answer was cut.
        if (!signal.aborted) {
          const digest = await digestAt(workspaceId, seq)
          await write(encodeItem({ ...endOf({ seq, more: false, digest }) }))
        }
      } catch (error) {
        if (!response.headersSent) throw error
        if (!signal.aborted) onError(error)
        response.destroy()
        return ANSWERED
      }
      response.end()
      return ANSWERED
    }),

    implement(changeRoutes.records, async ({ member, params, query }) => {
      const found = await readRecords(db, member.workspaceId, params.document_id, query.after)
      if (!found) throw new AppError('document.not_found', 'There is no such document.')
      return { document_id: params.document_id, ...found }
    }),

    implement(changeRoutes.events, async ({ member, deviceId, request, response, guard }) => {
      const given = Number(request.get('last-event-id'))
      await streamEvents({
        workspaceId: member.workspaceId,
        deviceId,
        lastSeen: Number.isSafeInteger(given) && given >= 0 && request.get('last-event-id') ? given : null,
        response,
        signal: guard(),
        watcher,
        subscribe: listener => bus.subscribe(member.workspaceId, listener),
      })
      return ANSWERED
    }),

    implement(changeRoutes.presence, async ({ member, session, deviceId, body }) => {
      if (deviceId === null) throw noDevice()
      await bus.publish(member.workspaceId, {
        type: 'presence',
        device_id: deviceId,
        user_id: session.user.id,
        name: session.user.name,
        ...body,
        left: body.document_id === null,
      })
      return { ok: true } as const
    }),
  ]

  return {
    implementations,
    appender,
    watcher,
    close: async () => {
      watcher.close()
      await pages.close()
      await snapshots.close()
      if (trials === null) await used.close()
    },
  }
}

/** How many changes of which document were refused, by code. */
function refusedIn(items: readonly AppendItem[], verdicts: readonly Verdict[]) {
  const refused = new Map<string, { documentId: string; code: string; count: number }>()
  verdicts.forEach((verdict, index) => {
    if (verdict.status !== 'refused') return
    const documentId = items[index]!.document_id
    const key = `${documentId} ${verdict.code}`
    const known = refused.get(key) ?? { documentId, code: verdict.code, count: 0 }
    refused.set(key, { ...known, count: known.count + 1 })
  })
  return refused.values()
}

const noDevice = (): AppError =>
  new AppError('request.invalid', 'The request does not say from which device it comes.', {
    hint: 'Send the device id in x-pluto-device.',
  })

function assertDevice(bound: string | null, claimed: string): void {
  if (bound === null) throw noDevice()
  if (bound !== claimed)
    throw new AppError('auth.device_mismatch', 'The push names another device than the request does.')
}
