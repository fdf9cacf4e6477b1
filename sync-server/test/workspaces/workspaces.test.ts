import type { AuditEntry } from '@pluto-duck/crdt-model/protocol'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { auditHash } from '../../src/audit/index.ts'
import { type Person, TestServer } from '../server.ts'

let test: TestServer
let ann: Person
let bob: Person
beforeAll(async () => {
  test = await TestServer.start()
  ann = await test.person('ann')
  bob = await test.person('bob')
})
afterAll(() => test?.stop())

describe('workspaces', () => {
  it('[WS1] the same post makes one workspace; an id that is another’s is refused without saying where', async () => {
    const body = { workspace_id: newId(), name: 'Shop' }
    const replies = await Promise.all(
      [1, 2, 3].map(() => test.call('POST', '/v1/workspaces', { as: ann, body })),
    )
    expect(replies.map(reply => reply.status).toSorted()).toEqual([200, 200, 201])
    const other = await test.call('POST', '/v1/workspaces', { as: bob, body })
    expect(other).toMatchObject({ status: 409, body: { code: 'request.id_taken' } })
    expect(JSON.stringify(other.body)).not.toContain('Shop')
  })

  it('[WS2] a workspace keeps an owner, even when two leave at once', async () => {
    const workspace = await test.workspace(ann)
    await test.join(workspace, ann, bob, 'owner')
    const members = `/v1/workspaces/${workspace}/members`
    const replies = await Promise.all([
      test.call('DELETE', `${members}/${ann.id}`, { as: bob }),
      test.call('PATCH', `${members}/${bob.id}`, { as: ann, body: { role: 'viewer' } }),
    ])
    const { rows } = await test.sql.query(
      "select 1 from members where workspace_id = $1 and role = 'owner'",
      [workspace],
    )
    expect(rows.length).toBe(1)
    expect(replies.filter(reply => reply.status === 200).length).toBe(1)
    const last = rows.length && (await test.call('GET', members, { as: ann })).status === 200 ? ann : bob
    const leave = await test.call('DELETE', `${members}/${last.id}`, { as: last })
    expect(leave).toMatchObject({ status: 409, body: { code: 'workspace.last_owner' } })
  })

  it('[WS3] a removed member loses the workspace with the next request', async () => {
    const workspace = await test.workspace(ann)
    await test.join(workspace, ann, bob, 'editor')
    expect((await test.call('GET', `/v1/workspaces/${workspace}`, { as: bob })).body.role).toBe('editor')
    await test.call('DELETE', `/v1/workspaces/${workspace}/members/${bob.id}`, { as: ann })
    expect((await test.call('GET', `/v1/workspaces/${workspace}`, { as: bob })).status).toBe(404)
    const gone = await test.call('DELETE', `/v1/workspaces/${workspace}/members/${bob.id}`, { as: ann })
    expect(gone.body.code).toBe('member.not_found')
  })

  it('[WS4] an invitation’s token is shown once, only its hash is kept, and it can be withdrawn', async () => {
    const workspace = await test.workspace(ann)
    const path = `/v1/workspaces/${workspace}/invitations`
    const body = { invitation_id: newId(), email: 'Bob@Example.org', role: 'viewer' }
    const made = await test.call('POST', path, { as: ann, body })
    expect(made).toMatchObject({ status: 201, body: { invitation: { email: 'bob@example.org' } } })
    const again = await test.call('POST', path, { as: ann, body })
    expect(again).toMatchObject({ status: 200, body: { token: null, url: null } })
    expect((await test.call('GET', path, { as: ann })).body.invitations.length).toBe(1)
    expect((await test.call('DELETE', `${path}/${body.invitation_id}`, { as: ann })).status).toBe(200)
    expect((await test.call('DELETE', `${path}/${body.invitation_id}`, { as: ann })).status).toBe(200)
    const late = await test.call('POST', '/v1/invitations/accept', {
      as: bob,
      body: { token: made.body.token },
    })
    expect(late.body.code).toBe('invitation.not_found')
    expect((await test.call('GET', path, { as: ann })).body.invitations).toEqual([])
  })

  it('[WS5] an expired invitation is refused, and so is one for another address', async () => {
    const workspace = await test.workspace(ann)
    const invite = async (email: string) =>
      (
        await test.call('POST', `/v1/workspaces/${workspace}/invitations`, {
          as: ann,
          body: { invitation_id: newId(), email, role: 'viewer' },
        })
      ).body
    const accept = (token: string) =>
      test.call('POST', '/v1/invitations/accept', { as: bob, body: { token } })
    expect((await accept((await invite('carl@example.org')).token)).body.code).toBe('auth.forbidden')
    const { token, invitation } = await invite(bob.email)
    await test.sql.query("update invitations set expires_at = now() - interval '1 s' where id = $1", [
      invitation.invitation_id,
    ])
    expect(await accept(token)).toMatchObject({ status: 410, body: { code: 'invitation.expired' } })
    expect((await accept('x'.repeat(43))).body.code).toBe('invitation.not_found')
  })
})

describe('the audit', () => {
  it('[AUD1] tells who did what, numbered without gaps, and each row’s hash follows from the one before', async () => {
    const workspace = await test.workspace(ann)
    const rename = (name: string) =>
      test.call('PATCH', `/v1/workspaces/${workspace}`, { as: ann, body: { name } })
    await Promise.all(['a', 'b', 'c', 'd'].map(rename))
    await test.join(workspace, ann, bob, 'viewer')
    const { body } = await test.call('GET', `/v1/workspaces/${workspace}/audit`, { as: ann })
    const entries: AuditEntry[] = body.entries
    expect(entries.map(entry => entry.seq)).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(entries.map(entry => entry.action)).toEqual([
      'workspace.create',
      ...Array(4).fill('workspace.rename'),
      'invitation.create',
      'invitation.accept',
    ])
    let previous = '0'.repeat(64)
    for (const { hash, ...entry } of entries) {
      expect(entry.previous_hash).toBe(previous)
      expect(auditHash(entry, workspace)).toBe(hash)
      previous = hash
    }
    const page = await test.call('GET', `/v1/workspaces/${workspace}/audit?after=2&limit=2`, { as: ann })
    expect(page.body).toMatchObject({ entries: [{ seq: 3 }, { seq: 4 }], more: true })
  })

  it('[AUD2] cannot be changed in the database', async () => {
    for (const statement of ["update audit set action = 'x'", 'delete from audit', 'truncate audit']) {
      await expect(test.sql.query(statement)).rejects.toThrow(/append-only/)
    }
  })
})
