import { ROUTES } from '@pluto-duck/crdt-model/protocol'
import type { Corpus } from './corpus.ts'
import type { Input, Sender } from './inputs.ts'
import { mutateBytes, mutateValue, oddValue } from './mutate.ts'
import type { Rng } from './rng.ts'

const NOW = '2026-01-02T03:04:05.000Z'
const HASH = 'ab'.repeat(32)

/** A good body for each route that takes JSON, by the route's id. */
const bodies = (rng: Rng, corpus: Corpus): Record<string, unknown> => {
  const pipeline_id = corpus.documents[0]?.documentId
  const workspace_id = '{workspace}'
  const run = {
    run_id: rng.chance(0.5) ? corpus.runId : rng.id(),
    workspace_id,
    pipeline_id,
    version: null,
    heads: [],
    trigger: 'manual',
    schedule_id: null,
    due_at: null,
    device_id: '{device}',
    created_at: NOW,
    fencing_token: null,
  }
  const upload = {
    artifact_id: rng.id(),
    kind: 'report',
    name: 'report.html',
    content_type: 'text/html',
    bytes: 3,
    sha256: HASH,
  }
  const schedule = {
    schedule_id: corpus.scheduleId,
    workspace_id,
    pipeline_id,
    cron: '0 6 * * *',
    timezone: 'Europe/Berlin',
    missed: 'latest',
    agents: [],
    enabled: true,
  }
  const line = {
    ts: NOW,
    level: 'info',
    run_id: corpus.runId,
    trace_id: 't',
    project_id: workspace_id,
    asset_id: null,
    step: null,
    attempt: null,
    cause: null,
    message: 'm',
  }
  return {
    'presence.write': { document_id: pipeline_id, at: 'step:a' },
    'version.publish': {
      workspace_id,
      pipeline_id,
      version_id: rng.id(),
      heads: [HASH],
      parent: null,
      resolved: [],
      message: 'm',
    },
    'run.create': run,
    'run.transition': { to: 'running', at: NOW, cause: null, failed_step: null, manifest: null },
    'run.append_log': { offset: 0, lines: `${JSON.stringify(line)}\n` },
    'artifact.create_upload': upload,
    'artifact.register': upload,
    'schedule.create': schedule,
    'schedule.update': { cron: '0 7 * * *', enabled: false },
    'schedule.claim': { agent_id: '{device}', due_at: NOW },
    'schedule.ack': { agent_id: '{device}', due_at: NOW, state: 'started', fencing_token: 1, reason: null },
    'draft.request_review': { message: 'm' },
    'draft.review': { review_id: rng.id(), verdict: 'approved', heads: [HASH], message: 'm' },
    'draft.merge': { version_id: rng.id(), heads: [HASH], parent: null, resolved: [], message: 'm' },
    'workspace.create': { workspace_id: rng.id(), name: 'W' },
    'workspace.rename': { name: 'W' },
    'member.set_role': { role: 'viewer' },
    'invitation.create': { invitation_id: rng.id(), email: 'x@example.org', role: 'viewer' },
    'invitation.accept': { token: rng.hex(16) },
  }
}

/** What would end the world's own sessions and members, or last. */
const LEFT_OUT = new Set(['identity.sign_out', 'changes.events', 'changes.append', 'changes.snapshot'])

/** A request to any other route: its address, query, headers or JSON body changed. */
export const requestOf = (rng: Rng, corpus: Corpus): Input => {
  const route = rng.pick(ROUTES.filter(one => !LEFT_OUT.has(one.id)))
  const values: Record<string, string | undefined> = {
    workspace_id: '{workspace}',
    pipeline_id: corpus.documents[0]?.documentId,
    document_id: corpus.documents[0]?.documentId,
    run_id: corpus.runId,
    schedule_id: corpus.scheduleId,
    draft_id: corpus.documents[1]?.documentId,
    number: '1',
    agent_id: '{device}',
  }
  const part = (name: string): string => {
    const good = values[name] ?? rng.id()
    return encodeURIComponent(rng.chance(0.8) ? good : textOf(rng))
      .replaceAll('%7B', '{')
      .replaceAll('%7D', '}')
  }
  const path = route.path.replaceAll(/:(\w+)/g, (_, name: string) => part(name))
  const query = Object.keys(route.query?.shape ?? {})
    .filter(name => name !== 'wait' && rng.chance(0.6))
    .map(name => `${name}=${part(name)}`)
  const as: Sender = rng.chance(0.8) ? 'ann' : rng.pick(['ben', 'vic', 'eve'])
  const body = route.body === undefined ? null : bodyOf(rng, bodies(rng, corpus)[route.id] ?? {})
  return {
    kind: route.id,
    as,
    method: route.method,
    path: query.length === 0 ? path : `${path}?${query.join('&')}`,
    headers: {
      ...(body === null ? {} : { 'content-type': 'application/json' }),
      ...(rng.chance(0.05) ? { 'x-pluto-device': headerOf(rng) } : {}),
      ...(rng.chance(0.05) ? { 'if-none-match': headerOf(rng) } : {}),
      ...(rng.chance(0.05) ? { 'x-pluto-protocol': headerOf(rng) } : {}),
    },
    body,
  }
}

const textOf = (rng: Rng): string => {
  const value = oddValue(rng)
  const text = typeof value === 'string' ? value : String(JSON.stringify(value))
  // A lone surrogate has no percent-encoding.
  return text.toWellFormed()
}

/** Only what a client can put into a header. */
const headerOf = (rng: Rng): string =>
  textOf(rng)
    .replaceAll(/[^\x20-\x7e]/g, '?')
    .trim() || '-'

const bodyOf = (rng: Rng, good: unknown): Uint8Array => {
  const roll = rng.next()
  const value = roll < 0.1 ? good : mutateValue(rng, good)
  const bytes = Buffer.from(JSON.stringify(value) ?? '')
  return roll < 0.85 ? bytes : mutateBytes(rng, bytes)
}
