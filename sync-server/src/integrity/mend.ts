import { voidedBy } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql } from 'kysely'
import type { Logger } from 'pino'
import type { Clock } from '../app/context.ts'
import type { EventBus } from '../app/event-bus.ts'
import type { Audit } from '../audit/index.ts'
import { decodeChangeBytes } from '../changes/admission/decode.ts'
import type { Executor } from '../changes/store.ts'
import { appendVoid } from '../changes/void.ts'
import { type Database, transact } from '../database/index.ts'
import { documentPages } from './log-pages.ts'
import { type BadChange, Replayer } from './replay.ts'

export interface MendParts {
  readonly db: Kysely<Database>
  readonly audit: Audit
  readonly bus: Pick<EventBus, 'publish'>
  readonly log: Logger
  readonly clock: Clock
}

export type Mended =
  /** The log makes a document that loads: nothing is to be taken out. */
  | { readonly state: 'sound' }
  | { readonly state: 'voided'; readonly hashes: readonly string[]; readonly changes: number }
  /** The storage lost bytes: that is for a person, with a backup. Nothing was changed. */
  | { readonly state: 'damaged'; readonly seq: number }

interface MendedDocument {
  readonly id: string
  readonly base: string | null
}

/** Changes that one mending may find guilty; a document with more is left to a person. */
const MOST_GUILTY = 50

/**
 * Finds the changes of a document that make it fail (admitted again one by one; what that lets through by bisection over the
 * log) and takes them out with what depends on them. The document takes changes again after that.
 */
export async function mendDocument(
  parts: MendParts,
  workspaceId: string,
  documentId: string,
): Promise<Mended> {
  const { db } = parts
  const { rows } = await sql<MendedDocument & { seq: string | number }>`
    select id, base, seq from documents where workspace_id = ${workspaceId} and id = ${documentId}`.execute(
    db,
  )
  const [document] = rows
  if (!document) return { state: 'sound' }
  const { seq } = document
  const replayer = new Replayer()
  try {
    const found = await findGuilty(db, replayer, workspaceId, document)
    if ('damaged' in found) return { state: 'damaged', seq: found.damaged }
    if (found.guilty.length === 0) {
      // Its record was wrong, then: it is made of the log again, unless the log moved on meanwhile.
      await sql`
        update documents set corrupt = null, heads = ${found.heads}::text[], snapshot = null, snapshot_seq = 0
        where workspace_id = ${workspaceId} and id = ${documentId} and seq = ${seq}`.execute(db)
      return { state: 'sound' }
    }
    return await exclude(parts, workspaceId, documentId, found)
  } finally {
    await replayer.close()
  }
}

type Search =
  | { readonly damaged: number }
  | { readonly guilty: readonly string[]; readonly title: string; readonly heads: readonly string[] }

/** @param structure whether changes are admitted again. Default true; without it only bisection finds them. */
export async function findGuilty(
  db: Executor,
  replayer: Replayer,
  workspaceId: string,
  document: MendedDocument,
  structure = true,
): Promise<Search> {
  const guilty: string[] = []
  while (guilty.length < MOST_GUILTY) {
    const whole = await replay(db, replayer, workspaceId, document, { without: guilty, structure })
    const damaged = whole.bad.find(change => change.problem === 'damaged')
    if (damaged) return { damaged: damaged.seq }
    const inadmissible = whole.bad.filter(change => change.problem === 'inadmissible' && change.own)
    guilty.push(...inadmissible.map(change => change.hash))
    if (whole.ok && inadmissible.length === 0) return { guilty, title: whole.title, heads: whole.heads }
    if (inadmissible.length > 0) continue
    guilty.push(await bisect(db, replayer, workspaceId, document, { without: guilty, structure }))
  }
  throw new Error(`more than ${MOST_GUILTY} changes of the document are wrong`)
}

interface Part {
  readonly without: readonly string[]
  readonly structure: boolean
  /** Default: all. */
  readonly upTo?: number
}

/** The first change with which the log up to it does not make a document that loads. */
async function bisect(
  db: Executor,
  replayer: Replayer,
  workspaceId: string,
  document: MendedDocument,
  part: Part,
): Promise<string> {
  const own: { readonly seq: number; readonly hash: string }[] = []
  for await (const page of documentPages(db, workspaceId, document))
    for (const { seq, hash, own: mine } of page) if (mine) own.push({ seq, hash })
  let sound = -1
  let failing = own.length - 1
  while (failing - sound > 1) {
    const middle = (sound + failing) >> 1
    const tried = await replay(db, replayer, workspaceId, document, { ...part, upTo: own[middle]!.seq })
    if (tried.ok) sound = middle
    else failing = middle
  }
  const found = own[failing]
  if (!found) throw new Error('the document fails without a change of its own')
  return found.hash
}

async function replay(
  db: Executor,
  replayer: Replayer,
  workspaceId: string,
  document: MendedDocument,
  { without, structure, upTo = Number.MAX_SAFE_INTEGER }: Part,
): Promise<{ ok: boolean; title: string; heads: readonly string[]; bad: (BadChange & { own: boolean })[] }> {
  const bad: (BadChange & { own: boolean })[] = []
  const failed = { ok: false, title: '', heads: [], bad }
  const begun = await replayer.step<'begin'>({ kind: 'begin', draft: document.base !== null, structure })
  if (!begun.ok) return failed
  const out = new Set(without)
  for await (const page of documentPages(db, workspaceId, document)) {
    const known = page.map(change => {
      const decoded = decodeChangeBytes(change.bytes)
      return { ...change, deps: decoded.ok ? decoded.change.deps : [] }
    })
    for (const hash of voidedBy(out, known)) out.add(hash)
    const changes = page.filter(change => change.seq <= upTo && !out.has(change.hash))
    if (changes.length === 0) continue
    const taken = await replayer.step<'changes'>({ kind: 'changes', changes })
    if (!taken.ok) return failed
    for (const one of taken.value)
      bad.push({ ...one, own: page.some(change => change.seq === one.seq && change.own) })
  }
  const ended = await replayer.step<'end'>({ kind: 'end', compact: false })
  return ended.ok ? { ok: true, title: ended.value.title, heads: ended.value.heads, bad } : failed
}

async function exclude(
  { db, audit, bus, clock }: MendParts,
  workspaceId: string,
  documentId: string,
  { guilty, title }: Extract<Search, { guilty: readonly string[] }>,
): Promise<Mended> {
  const reason = 'The document could not be loaded with these changes.'
  const voided = await transact(db, async tx => {
    const done = await appendVoid(tx, {
      workspaceId,
      documentId,
      hashes: guilty,
      erase: false,
      reason,
      at: clock.now(),
      title,
      record: found =>
        audit.record(tx, {
          workspaceId,
          actorUserId: null,
          action: 'document.void',
          objectKind: 'document',
          objectId: documentId,
          details: { reason, guilty, ...found },
        }),
    })
    await bus.publish(workspaceId, { type: 'changes', from: done.after, to: done.seq, items: null }, tx)
    return done
  })
  return { state: 'voided', hashes: guilty, changes: voided.changes }
}
