import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdDecompressSync } from 'node:zlib'
import * as Automerge from '@automerge/automerge'
import {
  addThread,
  commentsDocumentId,
  createComments,
  editComments,
  editPipeline,
  forkDraft,
  readComments,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Audit } from '../../src/audit/index.ts'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender } from '../../src/changes/append.ts'
import { createDatabase } from '../../src/database/index.ts'
import { purgeWorkspace } from '../../src/integrity/index.ts'
import { countWaiting, TestDevice, untilWaiting } from '../changes/log-fixture.ts'
import { runProgram } from '../program.ts'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
let folder: string
let ann: Person
let ben: Person

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-purge-'))
  test = await TestServer.start({ DATA_DIR: join(folder, 'data') })
  ;[ann, ben] = [await test.person('ann'), await test.person('ben')]
})
afterAll(async () => {
  await test?.stop()
  rmSync(folder, { recursive: true, force: true })
})

const run = async (...args: string[]) => {
  const started = runProgram(args, {
    DATABASE_URL: test.database.url,
    DATA_DIR: join(folder, 'data'),
    AUTH_SECRET: 'a secret of forty characters, for tests.',
  })
  return { code: await started.ended, out: started.out(), err: started.err() }
}

/** The tables of a backup in which a text is found, in a row's text or in what its bytes say. */
const tablesWith = async (text: string): Promise<string[]> => {
  const file = join(folder, newId())
  expect((await run('backup', file)).code).toBe(0)
  const found = new Set<string>()
  let table = ''
  for (const line of zstdDecompressSync(readFileSync(file)).toString('utf8').split('\n')) {
    table = /^\{"table":"(\w+)"\}$/.exec(line)?.[1] ?? table
    const bytes = [...line.matchAll(/\\\\x([0-9a-f]+)/g)].map(match => Buffer.from(match[1]!, 'hex'))
    if ([Buffer.from(line), ...bytes].some(part => part.includes(text))) found.add(table)
  }
  return [...found].sort()
}

const ok = async (...call: Parameters<TestServer['call']>) => {
  const reply = await test.call(...call)
  expect([call[1], reply.status < 300 ? '' : reply.body]).toEqual([call[1], ''])
  return reply
}

/** A workspace that has a secret of its own in everything that people can write. */
async function world() {
  const secret = `hunter2-${newId()}`
  const workspace = await test.workspace(ann, `about ${secret}`)
  await test.join(workspace, ann, ben, 'editor')
  const pipeline = newId()
  const whole = somePipeline({
    name: `weekly-${secret}`,
    steps: [{ id: 'a', name: 'orders', sql: `select '${secret}' as x` }],
  })
  await test.push(workspace, ann, pipeline, Automerge.getAllChanges(whole))
  const published = { workspace_id: workspace, pipeline_id: pipeline, parent: null, message: secret }
  await ok('POST', '/v1/pipelines', {
    as: ann,
    body: { ...published, version_id: newId(), heads: Automerge.getHeads(whole) },
  })

  const draft = newId()
  const fork = editPipeline(forkDraft(whole, Automerge.getHeads(whole), `try ${secret}`), 'edit', d =>
    updateStepSql(d, 'a', `select '${secret}' as y`),
  )
  await test.push(workspace, ben, draft, Automerge.getChangesSince(fork, Automerge.getHeads(whole)), {
    base: pipeline,
  })
  await ok('POST', `/v1/drafts/${draft}/review-requests`, { as: ben, body: { message: secret } })
  const reviewed = { review_id: newId(), verdict: 'approved', heads: Automerge.getHeads(fork) }
  await ok('POST', `/v1/drafts/${draft}/reviews`, { as: ann, body: { ...reviewed, message: secret } })

  const subject = { subject_kind: 'pipeline', subject_id: pipeline } as const
  const comments = commentsDocumentId(subject)
  const talk = editComments(createComments(subject), 'ask', d => {
    addThread(d, { anchor: { kind: 'subject' }, body: `is it ${secret}?` })
  })
  await test.push(workspace, ben, comments, Automerge.getAllChanges(talk), {
    kind: 'comments',
    subject: { kind: 'pipeline', id: pipeline },
  })

  const run_id = newId()
  const at = '2026-01-01T00:00:00.000Z'
  await ok('POST', '/v1/runs', {
    as: ann,
    body: {
      run_id,
      workspace_id: workspace,
      pipeline_id: pipeline,
      version: 1,
      heads: Automerge.getHeads(whole).toSorted(),
      trigger: 'manual',
      schedule_id: null,
      due_at: null,
      device_id: newId(),
      created_at: at,
    },
  })
  const line = { level: 'info', run_id, trace_id: 't', project_id: workspace, asset_id: null, step: secret }
  await ok('POST', `/v1/runs/${run_id}/logs`, {
    as: ann,
    body: {
      offset: 0,
      lines: `${JSON.stringify({ ts: at, ...line, attempt: 1, cause: null, message: secret })}\n`,
    },
  })
  await ok('POST', `/v1/runs/${run_id}/transitions`, { as: ann, body: { to: 'running', at } })
  await ok('POST', `/v1/runs/${run_id}/transitions`, {
    as: ann,
    body: { to: 'failed', at, cause: 'internal', failed_step: secret },
  })
  const content = Buffer.from(`<p>${secret}</p>`)
  const file = {
    artifact_id: newId(),
    kind: 'report',
    name: `${secret}.html`,
    content_type: 'text/html',
    bytes: content.length,
    sha256: createHash('sha256').update(content).digest('hex'),
  }
  const { upload } = (await ok('POST', `/v1/runs/${run_id}/uploads`, { as: ann, body: file })).body
  expect((await fetch(upload.url, { method: 'PUT', headers: upload.headers, body: content })).status).toBe(
    200,
  )
  await ok('POST', `/v1/runs/${run_id}/artifacts`, { as: ann, body: file })
  await ok('POST', `/v1/workspaces/${workspace}/invitations`, {
    as: ann,
    body: { invitation_id: newId(), email: `${secret}@example.org`, role: 'viewer' },
  })
  return { secret, workspace, pipeline, draft, comments, subject, talk, run_id }
}

const filesOf = (workspace: string): string[] => {
  const of = join(folder, 'data', 'artifacts', workspace)
  return existsSync(of)
    ? readdirSync(of, { recursive: true, withFileTypes: true }).flatMap(one =>
        one.isFile() ? join(one.parentPath, one.name) : [],
      )
    : []
}

describe('verify', () => {
  it('[INT6] a listed file that is not in the storage, or has another length, is found', async () => {
    const { workspace } = await world()
    const look = () => run('verify', '--workspace', workspace, '--artifacts', '--json')
    const whole = await look()
    expect([whole.code, JSON.parse(whole.out)]).toMatchObject([0, { artifacts: 1, findings: [] }])
    const [file] = filesOf(workspace) as [string]
    writeFileSync(file, 'short')
    const cut = await look()
    expect([cut.code, JSON.parse(cut.out)]).toMatchObject([1, { findings: [{ code: 'artifact.length' }] }])
    rmSync(file)
    expect(JSON.parse((await look()).out)).toMatchObject({ findings: [{ code: 'artifact.missing' }] })
    expect(JSON.parse((await run('verify', '--workspace', workspace, '--json')).out).findings).toEqual([])
  })
})

describe('purge', () => {
  it('[PURGE4] the comments of a pipeline are named by its plan, purged as a whole, and can be begun anew', async () => {
    const { workspace, pipeline, draft, comments, subject, talk } = await world()
    const planned = await run('purge', '--document', pipeline, '--json')
    expect(JSON.parse(planned.out)).toMatchObject({ done: false, drafts: [draft], comments: [comments] })

    const purged = await run('purge', '--document', comments, '--yes', '--reason', 'a password', '--json')
    expect([purged.code, JSON.parse(purged.out)]).toMatchObject([
      0,
      { done: true, kind: 'comments', changes: 1 },
    ])
    // What was purged is refused for ever; what is written after it is stored.
    const again = { kind: 'comments', subject: { kind: 'pipeline', id: pipeline } } as const
    expect(await test.push(workspace, ben, comments, Automerge.getAllChanges(talk), again)).toMatchObject([
      { status: 'stored' },
      { status: 'refused', code: 'invalid' },
    ])
    const anew = editComments(createComments(subject), 'ask', d => {
      addThread(d, { anchor: { kind: 'subject' }, body: 'calm again' })
    })
    const stored = await test.push(workspace, ann, comments, Automerge.getAllChanges(anew), again)
    expect(stored.map(one => one.status)).toEqual(['stored', 'stored'])
    expect(readComments(anew).threads).toHaveLength(1)
    const verified = await run('verify', '--workspace', workspace, '--json')
    expect([verified.code, JSON.parse(verified.out).findings]).toEqual([0, []])
  })

  it('[PURGE4] comments on a draft of the pipeline are named by its plan as well', async () => {
    const { workspace, pipeline, draft, comments } = await world()
    const about = { subject_kind: 'draft', subject_id: draft } as const
    const onDraft = commentsDocumentId(about)
    const talk = editComments(createComments(about), 'ask', d => {
      addThread(d, { anchor: { kind: 'subject' }, body: 'why?' })
    })
    await test.push(workspace, ben, onDraft, Automerge.getAllChanges(talk), {
      kind: 'comments',
      subject: { kind: 'draft', id: draft },
    })
    const planned = await run('purge', '--document', pipeline, '--json')
    expect(JSON.parse(planned.out)).toMatchObject({ comments: [comments, onDraft].sort() })
  })

  it('[PURGE4] what was written about the drafts of a purged pipeline goes with them', async () => {
    const { workspace, pipeline, draft } = await world()
    const purged = await run('purge', '--document', pipeline, '--yes', '--reason', 'a password', '--json')
    expect([purged.code, JSON.parse(purged.out)]).toMatchObject([0, { done: true, drafts: [draft] }])
    const { rows } = await test.sql.query(
      `select d.message as asked, r.message as reviewed, r.verdict from drafts d join draft_reviews r on r.draft_id = d.id
       where d.id = $1`,
      [draft],
    )
    expect(rows).toEqual([{ asked: '', reviewed: '', verdict: 'approved' }])
    const listed = await test.call('GET', `/v1/workspaces/${workspace}/drafts`, { as: ann })
    expect(listed.body.drafts).toEqual([])
    await expect(
      test.sql.query(`update draft_reviews set message = '' where draft_id = $1`, [draft]),
    ).rejects.toThrow(/append-only/)
  })

  it('[PURGE5] nothing that was written is left of a purged workspace but the audit, nor a file', async () => {
    const [other, { secret, workspace }] = [await world(), await world()]
    const before = await tablesWith(secret)
    expect(before).toEqual([
      'artifacts',
      'audit',
      'documents',
      'draft_reviews',
      'drafts',
      'invitations',
      'log_records',
      'run_log_chunks',
      'runs',
      'versions',
      'workspaces',
    ])
    const plan = { documents: 3, versions: 1, members: 2, artifacts: 1 }
    const planned = await run('purge', '--workspace', workspace, '--json')
    expect([planned.code, JSON.parse(planned.out)]).toMatchObject([0, { done: false, ...plan }])
    expect([await tablesWith(secret), filesOf(workspace).length]).toEqual([before, 1])

    const done = await run('purge', '--workspace', workspace, '--yes', '--reason', 'a password', '--json')
    expect([done.code, JSON.parse(done.out)]).toMatchObject([0, { done: true, ...plan }])
    // Its rows say who was invited and what the workspace was called.
    expect([await tablesWith(secret), filesOf(workspace)]).toEqual([['audit'], []])
    expect([await tablesWith(other.secret), filesOf(other.workspace).length]).toEqual([before, 1])
    expect((await test.call('GET', `/v1/workspaces/${workspace}/members`, { as: ann })).status).toBe(404)
    const verified = await run('verify', '--workspace', workspace, '--json')
    expect([verified.code, JSON.parse(verified.out).findings]).toEqual([0, []])
  })

  it('[PURGE5] what is on its way while a workspace is purged is removed too, or finds it gone', async () => {
    const { secret, workspace, run_id } = await world()
    const { db, close } = await createDatabase({ databaseUrl: test.database.url, dataDir: '' })
    const clock = { now: () => new Date() }
    const parts = { db, clock, audit: new Audit(clock), bus: { publish: async () => {} } }
    const trial = new Trial()
    const device = new TestDevice(workspace, ann.id)
    const changes = Automerge.getAllChanges(somePipeline({ name: secret }))
    // Known to the server before, as it is known to the one that is pushed to.
    const appender = new Appender({ db, trial })
    const [stored] = (await appender.append(device.push(newId(), [changes[0]!]))).verdicts
    expect(stored).toMatchObject({ status: 'stored' })

    // Keeps the purge from coming to an end.
    const other = new pg.Client({ connectionString: test.database.url })
    await other.connect()
    await other.query('begin')
    await other.query('select id from workspaces where id = $1 for share', [workspace])
    const files = { removeAll: async () => 0 }
    const purged = purgeWorkspace({ ...parts, files }, workspace, 'a password')
    await untilWaiting(db)

    const another = Automerge.getAllChanges(somePipeline({ name: secret }))
    const pushed = appender.append(device.push(newId(), another)).catch((error: unknown) => error)
    await untilWaiting(db, 2)
    const ended: string[] = []
    /** Starts a request, and waits until it has its answer or waits for a lock as well. */
    const begin = async (...[method, path, options]: Parameters<TestServer['call']>) => {
      const waiting = await countWaiting(db)
      const reply = test.call(method, path, options).finally(() => void ended.push(path))
      await expect.poll(async () => ended.includes(path) || (await countWaiting(db)) > waiting).toBe(true)
      return { reply }
    }
    const { rows } = await test.sql.query('select log_bytes from runs where id = $1', [run_id])
    const ts = '2026-01-01T00:00:00.000Z'
    const line = { level: 'info', run_id, trace_id: 't', project_id: workspace, asset_id: null, step: secret }
    const lines = `${JSON.stringify({ ts, ...line, attempt: 1, cause: null, message: secret })}\n`
    const begun = [
      await begin('POST', `/v1/runs/${run_id}/logs`, {
        as: ann,
        body: { offset: Number(rows[0].log_bytes), lines },
      }),
      await begin('PATCH', `/v1/workspaces/${workspace}`, { as: ann, body: { name: secret } }),
      await begin('POST', `/v1/workspaces/${workspace}/invitations`, {
        as: ann,
        body: { invitation_id: newId(), email: `${secret}@example.com`, role: 'viewer' },
      }),
    ]
    await other.query('rollback')
    await other.end()
    await purged
    expect(await pushed).toMatchObject({ code: 'workspace.not_found' })
    await Promise.all(begun.map(one => one.reply))
    expect(await tablesWith(secret)).toEqual(['audit'])

    // Nor later, by a server that knew it and by one that did not; it can be purged again.
    for (const server of [appender, new Appender({ db, trial })])
      await expect(server.append(device.push(newId(), another))).rejects.toMatchObject({
        code: 'workspace.not_found',
      })
    expect(await purgeWorkspace({ ...parts, files }, workspace, 'again')).toMatchObject({ changes: 0 })
    await trial.close()
    await close()
  })
})
