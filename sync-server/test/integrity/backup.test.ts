import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import type * as Automerge from '@automerge/automerge'
import { editPipeline, type PipelineDoc, updateStepSql } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { runProgram } from '../program.ts'
import { type Person, somePipeline, TestServer } from '../server.ts'

const secret = 'a secret of forty characters, for tests.'
let test: TestServer
let ann: Person
let workspaceId: string
let folder: string
let file: string
let codes: { device_code: string; user_code: string }
const targets: TestDatabase[] = []
// What some programs take for an end of line, and what JSON has to write in another way.
const odd = 'line\u2028separator \u2029 "quoted" \\ back\nslash \r\n é 😀'

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-backup-'))
  file = join(folder, 'all.backup')
  test = await TestServer.start()
  ann = await test.person('ann')
  workspaceId = await test.workspace(ann, odd)
  const pipelineId = newId()
  let doc = somePipeline()
  for (const [parent, text] of [
    [null, 'select 1'],
    [1, `select 2 -- ${odd}`],
  ] as const) {
    doc = editPipeline(doc as Automerge.Doc<PipelineDoc>, 'edit', d => updateStepSql(d, 'a', text))
    const heads = await test.store(workspaceId, pipelineId, ann, doc)
    const body = {
      workspace_id: workspaceId,
      pipeline_id: pipelineId,
      version_id: newId(),
      heads,
      parent,
      message: odd,
    }
    expect((await test.call('POST', '/v1/pipelines', { as: ann, body })).status).toBe(201)
  }
  codes = (await test.call('POST', '/v1/auth/device/code', { body: { client_id: 'pluto' } })).body
  await test.sql.query(
    `insert into verifications (id, identifier, value, expires_at) values ('v', 'ann', 'planted value', now())`,
  )
  const made = run(['backup', file, '--json'], test.database.url)
  expect([await made.ended, made.err()]).toEqual([0, expect.stringContaining('AUTH_SECRET')])
  expect(JSON.parse(made.out())).toMatchObject({
    workspaces: [{ workspace_id: workspaceId, seq: 3 }],
    rows: { versions: 2 },
  })
})
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true })
  for (const target of targets) await target.drop()
  await test?.stop()
})

const run = (args: string[], url: string) => runProgram(args, { DATABASE_URL: url, AUTH_SECRET: secret })
const empty = async (): Promise<TestDatabase> => {
  const target = await testDatabase()
  targets.push(target)
  return target
}
const rowsOf = async (url: string, query: string): Promise<unknown[]> => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(query)).rows
  } finally {
    await client.end()
  }
}

const patience = { timeout: 20_000, interval: 1 }
/** Of this database only: other tests wait for locks beside this one. */
const HELD = `select 1 from pg_locks l join pg_database d on d.oid = l.database
  where d.datname = current_database() and not l.granted`
/** Nobody but who asks has a connection to the database: what a killed client had begun has ended there too. */
const isAlone = async (url: string): Promise<boolean> =>
  (
    await rowsOf(
      url,
      `select 1 from pg_stat_activity
       where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
    )
  ).length === 0

describe('backup and restore', () => {
  it('[BAK1] a restored database is the one that was backed up: every row, the log proven equal, and the server goes on', async () => {
    const target = await empty()
    const restored = run(['restore', file, '--json'], target.url)
    expect([await restored.ended, restored.err()]).toEqual([
      0,
      expect.stringContaining('put back the 0 files'),
    ])
    expect(JSON.parse(restored.out())).toMatchObject({ documents: 1, changes: 3, versions: 2, open: 0 })
    for (const table of ['log_records', 'versions', 'documents', 'audit', 'workspaces', 'members', 'users']) {
      const query = `select md5(string_agg(t::text, '|' order by t::text)) as sum, count(*) from ${table} t`
      expect(await rowsOf(target.url, query)).toEqual(await rowsOf(test.database.url, query))
    }
    const again = await TestServer.start({}, target)
    targets.splice(targets.indexOf(target), 1)
    const known = { ...ann, token: await again.server.issueSession(ann.id) }
    const read = await again.call('GET', `/v1/workspaces/${workspaceId}/changes`, { as: known })
    expect(read.status).toBe(200)
    await again.stop()
    // A second one into the same, no longer empty database.
    const second = run(['restore', file], test.database.url)
    expect([await second.ended, second.err()]).toEqual([8, expect.stringContaining('not empty')])
  })

  it('[BAK5] holds no session and no code of a sign-in', async () => {
    const lines = zstdDecompressSync(readFileSync(file)).toString('utf8').split('\n')
    const text = lines.join('\n')
    for (const planted of [ann.token, codes.device_code, codes.user_code, 'planted value'])
      expect(text).not.toContain(planted)
    expect(text).toContain(ann.email)
  })

  it('[BAK2] a file that is cut, changed or none restores nothing', async () => {
    const target = await empty()
    const bytes = readFileSync(file)
    const lines = zstdDecompressSync(bytes).toString('utf8')
    const broken = join(folder, 'broken')
    const cases: [Buffer, string][] = [
      [bytes.subarray(0, bytes.length - 20), 'no whole backup'],
      [zstdCompressSync(lines.split('\n').slice(0, -2).join('\n').concat('\n')), 'ends before its end'],
      [zstdCompressSync(lines.replace('select 1', 'select 9')), 'checksum'],
      [Buffer.from('no backup at all'), 'no whole backup'],
    ]
    for (const [content, says] of cases) {
      writeFileSync(broken, content)
      const refused = run(['restore', broken], target.url)
      expect([await refused.ended, refused.err()]).toEqual([2, expect.stringContaining(says)])
    }
    expect(await rowsOf(target.url, 'select count(*)::int as n from users')).toEqual([{ n: 0 }])
    expect(await rowsOf(target.url, 'select count(*)::int as n from log_records')).toEqual([{ n: 0 }])
  })

  it('[BAK1] a log that is not the one of the manifest is not restored, though the file is whole', async () => {
    const target = await empty()
    const lines = zstdDecompressSync(readFileSync(file)).toString('utf8').split('\n').slice(0, -1)
    const { manifest } = JSON.parse(lines.pop() as string)
    const at = lines.indexOf('{"table":"log_records"}') + 3
    const row = JSON.parse(lines[at] as string)
    expect(row).toMatchObject({ seq: 3, record: 'change' })
    // One bit of the last change: what else the file says of itself is right.
    row.bytes = row.bytes.replace(/.$/, (digit: string) => (Number.parseInt(digit, 16) ^ 1).toString(16))
    lines[at] = JSON.stringify(row)
    const body = lines.map(line => `${line}\n`).join('')
    const sha256 = createHash('sha256').update(body).digest('hex')
    const forged = join(folder, 'forged')
    writeFileSync(
      forged,
      zstdCompressSync(`${body}${JSON.stringify({ manifest: { ...manifest, sha256 } })}\n`),
    )
    const refused = run(['restore', forged], target.url)
    expect([await refused.ended, refused.err()]).toEqual([
      2,
      expect.stringContaining('the log that was loaded is not the one that was backed up'),
    ])
    for (const table of ['users', 'log_records'])
      expect(await rowsOf(target.url, `select count(*)::int as n from ${table}`)).toEqual([{ n: 0 }])
  })

  it('[BAK3] a backup is written to a new file only, readable by its owner', async () => {
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const again = run(['backup', file], test.database.url)
    expect([await again.ended, again.err()]).toEqual([2, expect.stringContaining('not there yet')])
  })

  it('[BAK4] a restore that is killed leaves nothing behind, and the same restore again succeeds', async () => {
    const target = await empty()
    expect(await run(['migrate'], target.url).ended).toBe(0)
    const order = zstdDecompressSync(readFileSync(file)).toString('utf8').split('\n')
    const last = order.findLast(
      (line, at) => line.startsWith('{"table":') && order[at + 1]?.startsWith('{"table"') === false,
    )
    for (const table of ['workspaces', 'log_records', JSON.parse(last as string).table]) {
      // It comes as far as the rows of this table, which a reader may still look at, and no further.
      const holder = new pg.Client({ connectionString: target.url })
      await holder.connect()
      await holder.query(`begin; lock table "${table}" in share mode`)
      const killed = run(['restore', file], target.url)
      await vi.waitUntil(async () => {
        expect(killed.child.exitCode).toBeNull()
        return (await rowsOf(target.url, HELD)).length > 0 && killed.err().includes(`table ${table}`)
      }, patience)
      killed.child.kill('SIGKILL')
      expect(await killed.ended).toBeNull()
      await holder.end()
      await vi.waitUntil(() => isAlone(target.url), patience)
      for (const emptied of ['users', 'log_records'])
        expect(await rowsOf(target.url, `select count(*)::int as n from ${emptied}`)).toEqual([{ n: 0 }])
    }
    const again = run(['restore', file, '--json'], target.url)
    expect(await again.ended).toBe(0)
    expect(JSON.parse(again.out())).toMatchObject({ documents: 1, changes: 3, versions: 2, open: 0 })
  })

  it('[BAK4] a restore that is killed at its commit has put back nothing, or all of it', async () => {
    const target = await empty()
    const killed = run(['restore', file], target.url)
    await vi.waitUntil(
      () => killed.err().includes('comparing the log') || killed.child.exitCode !== null,
      patience,
    )
    killed.child.kill('SIGKILL')
    await killed.ended
    await vi.waitUntil(() => isAlone(target.url), patience)
    const [count] = await rowsOf(target.url, 'select count(*)::int as n from users')
    const again = run(['restore', file], target.url)
    if ((count as { n: number }).n === 0)
      expect([await again.ended, again.err()]).toEqual([0, expect.anything()])
    else expect([await again.ended, again.err()]).toEqual([8, expect.stringContaining('not empty')])
    for (const table of ['log_records', 'versions', 'documents', 'audit', 'workspaces', 'members', 'users']) {
      const query = `select md5(string_agg(t::text, '|' order by t::text)) as sum, count(*) from ${table} t`
      expect(await rowsOf(target.url, query)).toEqual(await rowsOf(test.database.url, query))
    }
  })
})
