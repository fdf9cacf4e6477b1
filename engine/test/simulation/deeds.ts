import * as A from '@automerge/automerge'
import {
  addStep,
  addThread,
  type CommentsDoc,
  commentsDocumentId,
  createComments,
  createPipeline,
  editComments,
  editMessage,
  editPipeline,
  moveStep,
  type PipelineDoc,
  removeStep,
  renameStep,
  reply,
  restoreStep,
  setDescription,
  setStepSetting,
  spliceReport,
  spliceStepSql,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { SimDevice } from './device.ts'
import { short } from './device.ts'
import { pause } from './network.ts'
import type { Deed, Plan } from './plan.ts'
import type { Rng } from './random.ts'

const TEXTS = ['a', 'select 2', ' from orders', '한', '🦆', '\n', '', 'where x > 1']
const YEAR_MS = 365 * 24 * 3_600_000

/** One deed of the person at a device. What the device acknowledges is noted; what it refuses is nobody's loss. */
export async function carryOut(device: SimDevice, deed: Deed, plan: Plan, rng: Rng): Promise<void> {
  // It may die while it opens.
  while (!device.up) await device.open()
  const all = device.running.documents.list(device.workspaceId).filter(info => info.kind === 'pipeline')
  const pipelines = all.filter(info => info.base === null)
  const pipelineId = pipelines.length > 0 ? rng.pick(pipelines).documentId : null
  // What can be written into: pipelines and their drafts.
  const documentId = all.length > 0 ? rng.pick(all).documentId : null
  switch (deed) {
    case 'create':
      if (pipelines.length < 3) await create(device, rng)
      return
    case 'type':
      if (documentId) await type(device, documentId, rng)
      return
    case 'edit':
      if (documentId) await edit(device, documentId, rng)
      return
    case 'comment':
    case 'reply':
    case 'recomment':
    case 'meddle':
      if (pipelineId) await comment(device, pipelineId, deed, rng)
      return
    case 'publish':
      if (pipelineId) await publish(device, pipelineId, rng)
      return
    case 'restore':
      if (pipelineId) await restore(device, pipelineId, rng)
      return
    case 'apply_draft':
      await applyDraft(device, rng)
      return
    case 'fork':
      if (pipelineId && all.length - pipelines.length < 2) await fork(device, pipelineId, rng)
      return
    case 'settle': {
      const forks = all.filter(info => info.base !== null)
      if (forks.length > 0) await settleFork(device, rng.pick(forks).documentId, rng)
      return
    }
    case 'rest':
      await pause(rng.between(1, 20))
      return
    case 'restart':
      device.say('restarts')
      await device.close()
      await pause(rng.between(0, 10))
      await device.open()
      return
    case 'crash':
      device.crash('at once')
      return
    case 'die_soon':
      device.dieAt = rng.between(1, 30)
      return
    case 'pause':
      device.say('is paused')
      device.pause(true)
      later(rng.between(5, 45), () => device.pause(false))
      return
    case 'offline':
      device.say('is offline')
      device.offline = true
      later(rng.between(5, 45), () => {
        device.offline = false
      })
      return
    case 'clock':
      device.clock.skewMs = Math.round((rng.next() * 2 - 1) * YEAR_MS)
      device.say(`its clock jumps to ${new Date(device.clock.now()).toISOString()}`)
      return
    case 'full_disk':
      device.say('its disk is full')
      device.disk = plan.disk
      device.harmed = true
      later(rng.between(5, 45), () => {
        device.disk = null
      })
  }
}

/** What ends by itself after a while, also when nobody waits for it. */
const later = (ms: number, then: () => void): void => {
  setTimeout(then, ms)
}

function textOf(bytes: Uint8Array): string {
  const doc = A.load(bytes)
  const text = JSON.stringify(doc)
  A.free(doc)
  return text
}

const hashesOf = (doc: A.Doc<unknown>): string[] => A.getChangesMetaSince(doc, []).map(meta => meta.hash)

async function create(device: SimDevice, rng: Rng): Promise<void> {
  const documentId = newId()
  const doc = createPipeline({
    name: `p${rng.between(1, 99)}`,
    steps: [
      { id: 'one', name: 'one', sql: 'select 1' },
      { id: 'two', name: 'two', sql: 'select * from one' },
    ],
  })
  const hashes = hashesOf(doc)
  device.say(`creates ${short(documentId)}`)
  const done = await device.attempt('creating', async ({ documents }) => {
    await documents.create({ documentId, workspaceId: device.workspaceId, kind: 'pipeline', doc })
    return true
  })
  A.free(doc)
  if (done) device.acknowledge(documentId, hashes)
}

/** A few keystrokes in an editor; some do not wait for the one before. */
async function type(device: SimDevice, documentId: string, rng: Rng): Promise<void> {
  const view = await device.attempt('opening a view', () => device.view(documentId))
  if (!view) return
  const count = rng.between(1, 6)
  const written: Promise<void>[] = []
  for (let i = 0; i < count && !view.broken; i++) {
    const mark = device.letters?.fresh() ?? ''
    const act = marking(mark, someEdit(rng))
    const one = device
      .attempt('typing', () => view.edit(doc => editPipeline(doc as A.Doc<PipelineDoc>, 'type', act)))
      .then(hash => {
        if (hash) device.acknowledge(documentId, [hash], { mark })
      })
    written.push(one)
    if (rng.chance(0.5)) await one
  }
  await Promise.all(written)
  if (view.broken && device.up) device.running.views.delete(documentId)
}

/** An edit by the host itself. */
async function edit(device: SimDevice, documentId: string, rng: Rng): Promise<void> {
  const mark = device.letters?.fresh() ?? ''
  const act = marking(mark, someEdit(rng))
  let hashes: string[] = []
  const done = await device.attempt('an edit', ({ documents }) =>
    documents.edit<PipelineDoc>(documentId, doc => {
      const next = editPipeline(doc, 'edit', act)
      hashes = A.getChangesMetaSince(next, A.getHeads(doc)).map(meta => meta.hash)
      return next
    }),
  )
  if (done) device.acknowledge(documentId, hashes, { mark })
}

const marking =
  (mark: string, act: (d: PipelineDoc) => void) =>
  (d: PipelineDoc): void => {
    act(d)
    if (mark) spliceReport(d, 0, 0, mark)
  }

function someEdit(rng: Rng): (d: PipelineDoc) => void {
  const what = rng.between(0, 11)
  const pick = rng.between(0, 20)
  const text = rng.pick(TEXTS)
  return d => {
    const ids = Object.keys(d.steps).sort()
    const id = ids[pick % ids.length]
    if (id === undefined) return
    const length = d.steps[id]!.sql.length
    const at = Math.min(pick, length)
    switch (what) {
      case 0:
        if (ids.length < 5) addStep(d, { name: `s${pick}`, sql: 'select 1' })
        return
      case 1:
        return updateStepSql(d, id, `select ${pick}`)
      case 2:
        return setDescription(d, `${text}${pick}`)
      case 3:
        return ids.length > 1 ? removeStep(d, id) : undefined
      case 4:
        return restoreStep(d, id)
      case 5:
        return moveStep(d, id, pick % 3)
      case 6:
        return setStepSetting(d, id, 'materialize', pick % 2 ? 'view' : 'table')
      case 7:
        return spliceReport(d, 0, 0, text)
      case 8:
        return renameStep(d, id, `n${pick}`)
      default:
        return spliceStepSql(d, id, at, Math.min(pick % 3, length - at), text)
    }
  }
}

async function comment(
  device: SimDevice,
  pipelineId: string,
  deed: 'comment' | 'reply' | 'recomment' | 'meddle',
  rng: Rng,
): Promise<void> {
  const about = { subject_kind: 'pipeline', subject_id: pipelineId } as const
  const documentId = commentsDocumentId(about)
  const { documents } = device.running
  if (!documents.has(documentId)) {
    if (deed !== 'comment') return
    const doc = createComments(about)
    const hashes = hashesOf(doc)
    const made = await device.attempt('beginning comments', async running => {
      await running.documents.create({
        documentId,
        workspaceId: device.workspaceId,
        kind: 'comments',
        subject: { kind: 'pipeline', id: pipelineId },
        doc,
      })
      return true
    })
    A.free(doc)
    if (!made) return
    device.acknowledge(documentId, hashes)
  }
  const mark = device.letters?.fresh() ?? ''
  const body = `${device.person.name} says ${rng.between(0, 999)}${mark}`
  const pick = rng.between(0, 50)
  let hashes: string[] = []
  const done = await device.attempt('a comment', running =>
    running.documents.edit<CommentsDoc>(documentId, doc => {
      const next = editComments(doc, deed, d => {
        const threads = Object.keys(d.threads).sort()
        const thread = threads[pick % Math.max(1, threads.length)]
        if (deed === 'comment' || thread === undefined) {
          addThread(d, { anchor: { kind: 'subject' }, body })
          return
        }
        if (deed === 'reply') {
          reply(d, thread, { body })
          return
        }
        // Its author is in the text, as the simulation writes it.
        const messages = Object.entries(d.threads[thread]!.messages)
        const own = ([, message]: (typeof messages)[number]) =>
          String(message.body).startsWith(device.person.name)
        const some = messages.filter(message => own(message) === (deed === 'recomment'))
        const chosen = some[pick % Math.max(1, some.length)]
        if (!chosen) return
        device.letters?.loosen(device.letters.in(String(chosen[1].body)))
        editMessage(d, thread, chosen[0], body)
      })
      hashes = A.getChangesMetaSince(next, A.getHeads(doc)).map(meta => meta.hash)
      return next
    }),
  )
  if (done) device.acknowledge(documentId, hashes, { mark })
}

async function publish(device: SimDevice, pipelineId: string, rng: Rng): Promise<void> {
  const look = rng.chance(0.7)
  device.say(`publishes ${short(pipelineId)}`)
  const outcome = await device.attempt('publishing', ({ versions }) => versions.publish(pipelineId, 'm'))
  if (!outcome) return
  device.say(`publishing ${short(pipelineId)}: ${outcome.state}`)
  if (outcome.state === 'marks' && look) {
    await device.attempt('looking at marks', async ({ marks, versions }) => {
      for (const mark of outcome.marks) await marks.review(pipelineId, mark.id, true)
      const second = await versions.publish(pipelineId, 'after looking')
      device.say(`publishing ${short(pipelineId)} again: ${second.state}`)
    })
  } else if (outcome.state === 'moved' && look) {
    await device.attempt('publishing again', async ({ publisher, versions }) => {
      await publisher.dismiss(pipelineId)
      const second = await versions.publish(pipelineId, 'after merging')
      device.say(`publishing ${short(pipelineId)} again: ${second.state}`)
    })
  }
}

async function restore(device: SimDevice, pipelineId: string, rng: Rng): Promise<void> {
  const known = await device.attempt('listing versions', ({ cache }) => cache.list(pipelineId))
  if (!known || known.length === 0) return
  const { number } = rng.pick(known)
  const outcome = await device.attempt('restoring', ({ versions }) =>
    versions.restore(pipelineId, number, '', Number.MAX_SAFE_INTEGER),
  )
  // It may have taken out whatever was written up to now, and written it again.
  device.letters?.loosenAll()
  if (outcome) device.say(`restoring ${short(pipelineId)} to ${number}: ${outcome.state}`)
}

async function applyDraft(device: SimDevice, rng: Rng): Promise<void> {
  await device.attempt('applying a draft', async ({ documents }) => {
    const drafts = (await documents.drafts(device.workspaceId)).filter(draft => draft.kind === 'pipeline')
    if (drafts.length === 0) return
    const { draftId } = rng.pick(drafts)
    const { bytes, baseBytes, documentId, code } = await documents.draft(draftId)
    const doc = A.load(bytes)
    for (const hash of hashesOf(doc)) device.settledByPerson.add(hash)
    const { letters } = device
    if (letters) {
      const before = baseBytes && documents.has(documentId) ? letters.in(textOf(baseBytes)) : []
      letters.loosen(letters.in(JSON.stringify(doc)).filter(mark => !before.includes(mark)))
    }
    A.free(doc)
    device.appliedCodes.add(code)
    await documents.applyDraft(draftId)
    device.say('applied a draft again')
  })
}

async function fork(device: SimDevice, pipelineId: string, rng: Rng): Promise<void> {
  const draftId = newId()
  const from = rng.pick(['working', 'working', 'current'] as const)
  device.say(`forks ${short(pipelineId)} as ${short(draftId)}`)
  const entry = await device.attempt('forking', ({ drafts }) => drafts.create(draftId, pipelineId, 'd', from))
  if (!entry) return
  device.acknowledge(draftId, entry.heads, { base: pipelineId })
  if (rng.chance(0.6)) await edit(device, draftId, rng)
  if (rng.chance(0.3)) await settleFork(device, draftId, rng)
}

/** What people do with a draft beside editing it. */
async function settleFork(device: SimDevice, draftId: string, rng: Rng): Promise<void> {
  const what = rng.pick(['take in', 'ask', 'review', 'merge', 'merge', 'close'] as const)
  const verdict = rng.pick(['approved', 'approved', 'changes_requested'] as const)
  const from = rng.pick(['working', 'current'] as const)
  device.say(`draft ${short(draftId)}: ${what}`)
  await device.attempt(`draft: ${what}`, async ({ drafts, documents }) => {
    switch (what) {
      case 'take in':
        await drafts.takeIn(draftId, from)
        return
      case 'ask':
        await drafts.requestReview(draftId, 'please')
        return
      case 'review':
        await drafts.review(draftId, verdict, '')
        return
      case 'merge': {
        const pipelineId = documents.info(draftId).base
        const outcome = await drafts.merge(draftId, 'merged', true)
        device.say(`draft ${short(draftId)}: ${outcome.state}`)
        if (outcome.state === 'merged' && pipelineId !== null) {
          const { version_id, number } = outcome.version
          device.published.push({ pipelineId, versionId: version_id, number })
        }
        return
      }
      case 'close':
        await drafts.close(draftId)
    }
  })
}
