import { AppError } from '@pluto-duck/crdt-model/errors'
import { scheduleRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Documents } from '../documents/index.ts'
import type { Drafts } from '../drafts/drafts.ts'
import type { LocalDrafts } from '../drafts/local-drafts.ts'
import type { Publisher } from '../publish/index.ts'
import type { RunService } from '../runs/index.ts'
import { installSample } from '../samples.ts'
import type { SecretStore } from '../secrets/index.ts'
import { blame } from '../versions/blame.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import type { VersionCache } from '../versions/version-cache.ts'
import type { Versions } from '../versions/versions.ts'
import type { Account } from './account.ts'
import type { Handlers } from './dispatch.ts'
import { memberHandlers } from './member-handlers.ts'
import type { Pipelines } from './pipelines.ts'
import type { OpenWorkspace } from './workspace.ts'

/** The features of a host, as the methods of the contract need them. */
export interface Features {
  readonly about: {
    readonly version: string
    readonly duckdb: string
    readonly folder: string
    readonly deviceId: string
  }
  readonly account: Account
  readonly documents: Documents
  readonly drafts: Drafts
  readonly localDrafts: LocalDrafts
  readonly pipelines: Pipelines
  readonly versions: Versions
  readonly versionCache: VersionCache
  readonly publisher: Publisher
  readonly runs: RunService
  readonly workspace: OpenWorkspace
  readonly secrets: SecretStore
  readonly server: ServerCalls
}

const OK = { ok: true } as const

/** The methods of the contract over the features: which feature answers what, and nothing else. */
export const createHandlers = (f: Features): Handlers => ({
  'app.info': () => ({
    version: f.about.version,
    duckdb: f.about.duckdb,
    data_dir: f.about.folder,
    device_id: f.about.deviceId,
    server: f.account.server,
    user: f.account.person,
  }),
  'app.connect': async ({ server }) => {
    await f.workspace.connect(server)
    return OK
  },
  'auth.start': async ({ server }) => {
    if (server) await f.workspace.connect(server)
    return f.account.start()
  },
  'auth.poll': async ({ device_code }) => {
    const outcome = await f.account.poll(device_code)
    if (outcome.state === 'signed_in') await f.workspace.signedIn()
    return outcome
  },
  'auth.sign_out': async () => {
    await f.workspace.signOut()
    return OK
  },

  'workspace.list': async () => ({ workspaces: await f.workspace.list() }),
  'workspace.select': async ({ workspace_id }) => {
    await f.workspace.select(workspace_id)
    return OK
  },
  'workspace.create': ({ workspace_id, name }) => f.workspace.create(workspace_id, name),
  ...memberHandlers(f),

  'sync.state': () => f.workspace.syncState(),
  'sync.now': () => f.workspace.syncNow(),
  'sync.repair': () => f.workspace.repair(),
  'sync.pause': ({ paused }) => f.workspace.pause(paused),

  'document.list': () => ({
    documents: f.documents
      .list(f.workspace.id)
      .map(({ documentId, kind, subject, title }) => ({ document_id: documentId, kind, subject, title })),
  }),
  'document.open': async ({ document_id }) => {
    const { bytes, actor, newer } = await f.documents.open(document_id)
    const reason = f.workspace.readOnlyReason(f.documents.info(document_id), newer)
    return {
      document_id,
      bytes: Buffer.from(bytes).toString('base64'),
      actor,
      read_only: reason !== null,
      read_only_reason: reason,
    }
  },
  'document.append': ({ document_id, changes }, caller) =>
    f.documents.append(
      document_id,
      changes.map(change => Buffer.from(change, 'base64')),
      caller.viewId,
    ),
  'document.authors': async ({ document_id, hashes }) => ({
    authors: await f.workspace.authors(document_id, hashes),
  }),
  'document.presence': async ({ document_id, at }) => {
    await f.workspace.presence(document_id, at)
    return OK
  },

  'pipeline.list': async () => ({ pipelines: await f.pipelines.list(f.workspace.id) }),
  'pipeline.read': ({ pipeline_id }) => f.pipelines.entry(pipeline_id),
  'pipeline.create': ({ pipeline_id, name }) => f.pipelines.create(f.workspace.id, pipeline_id, name),
  'pipeline.create_sample': async () => {
    const sample = await installSample({ filesDir: f.workspace.filesDir })
    const imported = await f.pipelines.import(f.workspace.id, { ...sample.files })
    if (imported.state === 'problems')
      throw new AppError('internal', 'The sample is not importable.', {
        details: { problems: imported.problems },
      })
    return imported.pipeline
  },
  'pipeline.import': ({ files, pipeline_id }) => f.pipelines.import(f.workspace.id, files, pipeline_id),
  'pipeline.export': async ({ pipeline_id, side }) => {
    f.pipelines.info(pipeline_id)
    return { files: f.pipelines.files(await f.versions.definitionOf(pipeline_id, side)) }
  },
  'pipeline.comments': async ({ kind, id }) => ({
    document_id: await f.pipelines.comments(f.workspace.id, { kind, id }),
  }),
  'pipeline.marks': async ({ pipeline_id }) => ({ marks: await f.workspace.marks(pipeline_id) }),
  'pipeline.review_mark': async ({ pipeline_id, mark_id, reviewed }) => ({
    marks: await f.workspace.reviewMark(pipeline_id, mark_id, reviewed),
  }),
  'pipeline.compile': ({ pipeline_id }) => f.runs.compile(pipeline_id),
  'pipeline.lineage': input => f.runs.lineage(input),
  'pipeline.plan': input => f.runs.plan(input),
  'pipeline.preview': input => f.runs.preview(input),

  'grant.allow': async input => {
    await f.runs.allow(input)
    return OK
  },
  'grant.list': () => f.runs.listGrants(),
  'grant.revoke': async input => {
    await f.runs.revoke(input)
    return OK
  },

  'run.start': input => f.runs.start(input),
  'run.cancel': ({ run_id }) => f.runs.cancel(run_id),
  'run.list': input => f.runs.list(f.workspace.id, input),
  'run.read': ({ run_id }) => f.runs.read(run_id),
  'run.log': input => f.runs.log(input),
  'run.unsent': () => f.runs.unsent(),
  'run.deliver': async ({ run_ids }) => ({ runs: await f.runs.deliver(run_ids) }),
  'run.artifacts': ({ run_id }) => f.runs.artifacts(run_id),
  'run.download': ({ artifact_id }) => f.runs.download(artifact_id),
  'result.rows': input => f.runs.rows(input),
  'result.summary': input => f.runs.summary(input),
  'report.read': input => f.runs.report(input),

  'version.list': async ({ pipeline_id }) => ({ versions: await f.versionCache.list(pipeline_id) }),
  'version.read': ({ pipeline_id, number }) => f.versionCache.read(pipeline_id, number),
  'version.compare': ({ pipeline_id, before, after }) => f.versions.compare(pipeline_id, before, after),
  'version.blame': ({ pipeline_id, target, version }) =>
    blame(
      {
        documents: f.documents,
        versions: f.versionCache,
        recordsOf: (documentId, hashes) => f.workspace.recordsOf(documentId, hashes),
      },
      pipeline_id,
      target,
      version,
    ),
  'version.publish': ({ pipeline_id, message }) => f.versions.publish(pipeline_id, message),
  'version.dismiss': async ({ pipeline_id }) => ({ dismissed: await f.publisher.dismiss(pipeline_id) }),
  'version.restore': ({ pipeline_id, number, message, replace_unpublished }) =>
    f.versions.restore(pipeline_id, number, message, replace_unpublished),

  'draft.list': async ({ pipeline_id }) => ({ drafts: await f.drafts.list(pipeline_id) }),
  'draft.read': ({ draft_id }) => f.drafts.read(draft_id),
  'draft.create': ({ draft_id, pipeline_id, title, from }) =>
    f.drafts.create(draft_id, pipeline_id, title, from),
  'draft.compare': ({ draft_id }) => f.drafts.compare(draft_id),
  'draft.take_in': async ({ draft_id, from }) => ({ changed: await f.drafts.takeIn(draft_id, from) }),
  'draft.request_review': ({ draft_id, message }) => f.drafts.requestReview(draft_id, message),
  'draft.review': ({ draft_id, verdict, message }) => f.drafts.review(draft_id, verdict, message),
  'draft.merge': ({ draft_id, message, resolve }) => f.drafts.merge(draft_id, message, resolve),
  'draft.close': ({ draft_id }) => f.drafts.close(draft_id),

  'local_draft.list': async () => ({ drafts: await f.localDrafts.list(f.workspace.id) }),
  'local_draft.compare': ({ draft_id }) => f.localDrafts.compare(draft_id),
  'local_draft.export': async ({ draft_id }) => ({ files: await f.localDrafts.files(draft_id) }),
  'local_draft.apply': async ({ draft_id }) => {
    await f.documents.applyDraft(draft_id)
    return OK
  },
  'local_draft.send': ({ draft_id, new_draft_id, title }) => f.drafts.send(draft_id, new_draft_id, title),
  'local_draft.discard': async ({ draft_id }) => {
    await f.documents.discardDraft(draft_id)
    return OK
  },

  'schedule.list': async () => {
    const workspace_id = f.workspace.id
    const asked = { params: { workspace_id }, query: { last: 'yes', overdue: 'yes' } } as const
    const { schedules } = await f.server.call(scheduleRoutes.list, asked)
    return {
      schedules: schedules.map(
        ({ schedule_id, pipeline_id, cron, timezone, enabled, next_due_at, last, overdue }) => ({
          schedule_id,
          pipeline_id,
          cron,
          timezone,
          enabled,
          next_due_at,
          last: last ?? null,
          overdue: overdue ?? null,
        }),
      ),
    }
  },
  'schedule.create': async ({ schedule_id, pipeline_id, cron, timezone }) => {
    await f.server.call(scheduleRoutes.create, {
      body: { schedule_id, workspace_id: f.workspace.id, pipeline_id, cron, timezone },
    })
    return OK
  },
  'schedule.set_enabled': async ({ schedule_id, enabled }) => {
    await f.server.call(scheduleRoutes.update, { params: { schedule_id }, body: { enabled } })
    return OK
  },

  'ledger.list': () => f.runs.ledger(),
  'secret.list': async () => ({ names: await f.secrets.list() }),
  'secret.set': async ({ name, value }) => {
    await f.secrets.set(name, value)
    return OK
  },
  'secret.remove': async ({ name }) => {
    await f.secrets.remove(name)
    return OK
  },
})
