import { parentPort } from 'node:worker_threads'
import * as Automerge from '@automerge/automerge'
import { type PipelineDoc, Without } from '@pluto-duck/crdt-model'
import { decodeChangeBytes } from '../changes/admission/decode.ts'
import { DocumentIndex } from '../changes/admission/document-index.ts'
import { checkStructure } from '../changes/admission/structure.ts'
import { contentOf, contentOfDefinition, type VersionContent } from '../versions/at-heads.ts'
import type { BadChange, LoggedChange, Replayed, ReplayReply, ReplayRequest } from './replay.ts'

/** The other side of `Replayer`: one document, rebuilt change by change. It is killed when a step fails. */
type Handle = ReturnType<typeof Automerge.getBackend>

const fresh = (draft: boolean, structure: boolean) => ({
  draft,
  structure,
  index: new DocumentIndex(),
  handle: Automerge.getBackend(Automerge.init()) as Handle,
  /** Heads of a draft's own changes. */
  ownHeads: new Set<string>(),
})
let open = fresh(false, true)
let versions: VersionReader | null = null

function begin(draft: boolean, structure: boolean): void {
  open.handle.free()
  versions?.free()
  versions = null
  open = fresh(draft, structure)
}

/** Admits the changes again by their causal past, and applies those that are what they were. */
function take(changes: readonly LoggedChange[]): BadChange[] {
  const bad: BadChange[] = []
  const good: Uint8Array[] = []
  for (const { seq, hash, own, bytes } of changes) {
    const wrong = (problem: BadChange['problem'], reason: string): void =>
      void bad.push({ seq, hash, problem, reason })
    const decoded = open.structure ? decodeChangeBytes(bytes) : null
    if (!decoded) {
      good.push(bytes)
      continue
    }
    if (!decoded.ok) {
      wrong('damaged', decoded.refusal.reason)
      continue
    }
    if (decoded.change.hash !== hash) {
      wrong('damaged', 'its bytes are another change')
      continue
    }
    // What was merged is in the log of the draft and of its base, in any order.
    if (open.index.has(hash)) {
      if (own) takeOwn(hash, decoded.change.deps)
      continue
    }
    const checked = checkStructure(open.index, decoded.change)
    if (!checked.ok) {
      const { code, reason } = checked.refusal
      wrong(code === 'missing_deps' ? 'behind' : 'inadmissible', reason)
      continue
    }
    open.index.add(checked.change)
    good.push(bytes)
    if (own) takeOwn(hash, decoded.change.deps)
  }
  if (good.length > 0) open.handle.applyChanges(good)
  return bad
}

function takeOwn(hash: string, deps: readonly string[]): void {
  for (const dep of deps) open.ownHeads.delete(dep)
  open.ownHeads.add(hash)
}

const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.toSorted().join() === b.toSorted().join()

function compareSnapshot(bytes: Uint8Array): string | null {
  let loaded: Automerge.Doc<unknown>
  try {
    loaded = Automerge.load<unknown>(bytes)
  } catch (error) {
    return `it does not load: ${error instanceof Error ? error.message : String(error)}`
  }
  const heads = Automerge.getHeads(loaded)
  Automerge.free(loaded)
  return same(heads, open.handle.getHeads()) ? null : 'its heads are not those of its changes'
}

function end(compact: boolean): Replayed['end'] {
  const heads = open.handle.getHeads().toSorted()
  if (open.structure && !same(heads, open.index.headHashes))
    throw new Error('Automerge has other heads than the log')
  if (open.handle.getMissingDeps().length > 0) throw new Error('changes are missing')
  if (heads.length === 0) return { heads, title: '', bytes: null }
  const saved = open.handle.saveAndVerify()
  const again = Automerge.load<PipelineDoc>(saved)
  if (!same(Automerge.getHeads(again), heads)) throw new Error('the saved document has other heads')
  versions = new VersionReader(again)
  const name: unknown = open.handle.get('_root', 'name')
  return {
    heads: open.draft ? [...open.ownHeads].sort() : heads,
    title: typeof name === 'string' ? name.slice(0, 200) : '',
    bytes: compact ? saved : null,
  }
}

/**
 * The document at the heads of one version after the other. Versions follow each other, so each one is the one before with
 * the changes between them; only who asks backwards pays for a new document.
 */
class VersionReader {
  readonly #whole: Automerge.Doc<PipelineDoc>
  readonly #all: readonly { readonly hash: string; readonly bytes: Uint8Array }[]
  #doc = Automerge.init<PipelineDoc>()
  #has = new Set<string>()
  #without: { readonly hashes: readonly string[]; readonly reader: Without } | null = null

  constructor(whole: Automerge.Doc<PipelineDoc>) {
    this.#whole = whole
    this.#all = Automerge.getAllChanges(whole).map(bytes => ({
      hash: Automerge.decodeChange(bytes).hash,
      bytes,
    }))
  }

  read(heads: readonly string[]): VersionContent {
    if (heads.length === 0 || !Automerge.hasHeads(this.#whole, [...heads])) return { status: 'unknown_heads' }
    const later = new Set(Automerge.getChangesMetaSince(this.#whole, [...heads]).map(change => change.hash))
    if ([...this.#has].some(hash => later.has(hash))) {
      Automerge.free(this.#doc)
      this.#doc = Automerge.init<PipelineDoc>()
      this.#has = new Set()
    }
    const more = this.#all.filter(({ hash }) => !later.has(hash) && !this.#has.has(hash))
    for (const { hash } of more) this.#has.add(hash)
    if (more.length > 0)
      this.#doc = Automerge.applyChanges(
        this.#doc,
        more.map(change => change.bytes),
      )[0]
    return contentOf(this.#doc)
  }

  /** Of heads that have none of the changes in their past the content is what it is. */
  readWithout(heads: readonly string[], hashes: readonly string[]): VersionContent {
    const content = this.read(heads)
    if (content.status !== 'ok' || !hashes.some(hash => this.#has.has(hash))) return content
    if (!this.#without || !same(this.#without.hashes, hashes)) {
      this.#without?.reader.free()
      this.#without = { hashes, reader: new Without(this.#whole, hashes) }
    }
    return contentOfDefinition(this.#without.reader.at(heads))
  }

  free(): void {
    this.#without?.reader.free()
    Automerge.free(this.#doc)
    Automerge.free(this.#whole)
  }
}

function answer(request: ReplayRequest): Replayed[ReplayRequest['kind']] {
  switch (request.kind) {
    case 'begin':
      begin(request.draft, request.structure)
      return null
    case 'changes':
      return take(request.changes)
    case 'snapshot':
      return compareSnapshot(request.bytes)
    case 'end':
      return end(request.compact)
    case 'version':
      return versions?.readWithout(request.heads, request.without ?? []) ?? { status: 'unknown_heads' }
  }
}

parentPort?.on('message', (request: ReplayRequest) => {
  let reply: ReplayReply
  try {
    reply = { id: request.id, status: 'ok', value: answer(request) }
  } catch (error) {
    reply = {
      id: request.id,
      status: 'failed',
      reason: error instanceof Error ? error.message : String(error),
    }
  }
  parentPort?.postMessage(reply)
})
