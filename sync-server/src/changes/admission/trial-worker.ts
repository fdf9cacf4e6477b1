import { parentPort, workerData } from 'node:worker_threads'
import * as Automerge from '@automerge/automerge'
import { apart, type Parts } from './parts.ts'
import type { TrialReply, TrialRequest } from './trial-pool.ts'

/**
 * The other side of `Trial`: keeps the documents that were used last and applies changes to them with Automerge.
 *
 * It is killed when it fails or takes too long, so it never mends anything: a document whose trial failed is dropped.
 */
type Handle = ReturnType<typeof Automerge.getBackend>

const { keep } = workerData as { keep: number }
/** In order of last use. */
const documents = new Map<string, Handle>()

function open(request: TrialRequest): Handle | null {
  const known = documents.get(request.document)
  documents.delete(request.document)
  if (known) {
    if (same(known.getHeads(), request.heads)) return known
    if (request.untold.lengths.length > 0 && request.base === null) {
      if (catchUp(known, request)) return known
    }
    known.free()
  }
  if (!request.base) {
    if (request.heads.length > 0) return null
    return empty()
  }
  const handle = empty()
  if (request.base.length > 0) handle.loadIncremental(request.base)
  if (!same(handle.getHeads(), request.heads)) throw new Error('the stored document has other heads')
  return handle
}

/** Whether the document stands where it should once it has what it was not told. */
function catchUp(handle: Handle, { untold, heads }: TrialRequest): boolean {
  try {
    handle.applyChanges(apart(untold))
    return same(handle.getHeads(), heads)
  } catch {
    // Then it is read anew: stored changes are not on trial.
    return false
  }
}

// The raw handle: a whole document would be turned into JavaScript objects after each batch, which nobody reads here.
const empty = (): Handle => Automerge.getBackend(Automerge.init())

const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.toSorted().every((hash, i) => hash === b[i])

function put(document: string, handle: Handle): void {
  documents.set(document, handle)
  for (const [oldest, old] of documents) {
    if (documents.size <= keep) break
    documents.delete(oldest)
    old.free()
  }
}

/** Applies the changes, and fails unless exactly these come back, byte for byte. */
function tryChanges(handle: Handle, parts: Parts): void {
  const before = handle.getHeads()
  const changes = apart(parts)
  handle.applyChanges(changes)
  if (handle.getMissingDeps().length > 0) throw new Error('dependencies are missing')
  // One piece is quicker than many; changes that came in another order than Automerge keeps are compared one by one.
  if (Buffer.compare(parts.bytes, handle.saveSince(before)) === 0) return
  const back = handle.getChanges(before)
  if (back.length !== changes.length) throw new Error('another number of changes came back')
  const given = new Map(changes.map(bytes => [checksum(bytes), bytes]))
  for (const bytes of back) {
    const original = given.get(checksum(bytes))
    if (!original || !equal(original, bytes)) throw new Error('other bytes came back')
  }
}

/** The start of the hash, by which changes of one batch are told apart. */
const checksum = (bytes: Uint8Array): number =>
  bytes[4]! + bytes[5]! * 2 ** 8 + bytes[6]! * 2 ** 16 + bytes[7]! * 2 ** 24

function equal(a: Uint8Array, b: Uint8Array): boolean {
  if (Buffer.compare(a, b) === 0) return true
  // Another program may have compressed the same content in another way.
  return Automerge.decodeChange(a).hash === Automerge.decodeChange(b).hash
}

/**
 * Compacts the document, and proves that a fresh device which loads the result has the same changes. Its columns are left
 * uncompressed: whole pages of documents compress by a third better than each column by itself.
 */
function snapshot(handle: Handle): Uint8Array {
  const saved = handle.saveNoCompress()
  const fresh = Automerge.load<unknown>(saved)
  try {
    if (!same(Automerge.getHeads(fresh), handle.getHeads().toSorted()))
      throw new Error('the saved document has other heads')
  } finally {
    Automerge.free(fresh)
  }
  return saved
}

/** What lists of documents show. Only text counts; a name of another type or none is the empty string. */
function titleOf(handle: Handle): string {
  const name: unknown = handle.get('_root', 'name')
  return typeof name === 'string' ? name.slice(0, 200) : ''
}

function answer(request: TrialRequest): TrialReply {
  const handle = open(request)
  if (!handle) return { id: request.id, status: 'needs_base' }
  if (request.kind === 'snapshot') {
    const bytes = snapshot(handle)
    put(request.document, handle)
    return { id: request.id, status: 'ok', bytes, title: titleOf(handle) }
  }
  tryChanges(handle, request.changes)
  put(request.document, handle)
  return { id: request.id, status: 'ok', title: titleOf(handle) }
}

parentPort!.on('message', (request: TrialRequest) => {
  let reply: TrialReply
  try {
    reply = answer(request)
  } catch (error) {
    reply = {
      id: request.id,
      status: 'failed',
      reason: error instanceof Error ? error.message : String(error),
    }
  }
  const bytes = reply.status === 'ok' ? reply.bytes : undefined
  parentPort!.postMessage(reply, bytes ? [bytes.buffer as ArrayBuffer] : [])
})
parentPort!.postMessage('ready')
