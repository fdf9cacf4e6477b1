import { newId } from '@pluto-duck/crdt-model/protocol'
import { ann, eve, foreign, hers, newRun, newSchedule, newVersion, usedToken, vic } from './places.ts'
import { at, type Case, patch, post } from './requests.ts'

/** What is another’s, and what the role does not allow. */
export const rights: readonly Case[] = [
  ['an unknown workspace', 'workspace.not_found', at('GET', () => `/v1/workspaces/${newId()}`)],
  ["another's workspace", 'workspace.not_found', at('GET', () => `/v1/workspaces/${foreign.workspace}`)],
  [
    "another workspace's log",
    'workspace.not_found',
    at('GET', () => `/v1/workspaces/${foreign.workspace}/changes`),
  ],
  [
    "another workspace's audit",
    'workspace.not_found',
    at('GET', () => `/v1/workspaces/${foreign.workspace}/audit`),
  ],
  [
    "another workspace's pipeline",
    'pipeline.not_found',
    at('GET', () => `/v1/pipelines/${foreign.pipeline.id}`),
  ],
  [
    "another workspace's version",
    'pipeline.not_found',
    at('GET', () => `/v1/pipelines/${foreign.pipeline.id}/versions/1`),
  ],
  ["another workspace's run", 'run.not_found', at('GET', () => `/v1/runs/${foreign.run}`)],
  ["another workspace's log of a run", 'run.not_found', at('GET', () => `/v1/runs/${foreign.run}/logs`)],
  [
    "another workspace's artifact",
    'artifact.not_found',
    at('POST', () => `/v1/artifacts/${foreign.artifact}/download`),
  ],
  [
    "another workspace's schedule",
    'schedule.not_found',
    patch(
      () => `/v1/schedules/${foreign.schedule}`,
      () => ({ enabled: false }),
    ),
  ],
  [
    "another workspace's document",
    'document.not_found',
    at('GET', () => `/v1/workspaces/${hers.workspace}/documents/${foreign.pipeline.id}/records`),
  ],
  [
    'an id that another workspace uses',
    'request.id_taken',
    post(
      () => '/v1/workspaces',
      () => ({ workspace_id: foreign.workspace, name: 'W' }),
    ),
  ],
  [
    'a viewer who publishes',
    'auth.forbidden',
    at(
      'POST',
      () => '/v1/pipelines',
      () => ({ as: vic, device: newId(), json: newVersion(hers) }),
    ),
  ],
  [
    'a viewer who records a run',
    'auth.forbidden',
    at(
      'POST',
      () => '/v1/runs',
      () => ({ as: vic, device: newId(), json: newRun(hers) }),
    ),
  ],
  [
    'a viewer who makes a schedule',
    'auth.forbidden',
    at(
      'POST',
      () => '/v1/schedules',
      () => ({ as: vic, device: newId(), json: newSchedule(hers) }),
    ),
  ],
  [
    'a viewer who makes herself an owner',
    'auth.forbidden',
    at(
      'PATCH',
      () => `/v1/workspaces/${hers.workspace}/members/${vic.userId}`,
      () => ({ as: vic, device: newId(), json: { role: 'owner' } }),
    ),
  ],
  [
    'the last owner who steps down',
    'workspace.last_owner',
    patch(
      () => `/v1/workspaces/${hers.workspace}/members/${ann.userId}`,
      () => ({ role: 'viewer' }),
    ),
  ],
  [
    'a role that there is not',
    'request.invalid',
    patch(
      () => `/v1/workspaces/${hers.workspace}/members/${vic.userId}`,
      () => ({ role: 'admin' }),
    ),
  ],
  [
    'a member who is not there',
    'member.not_found',
    at('DELETE', () => `/v1/workspaces/${hers.workspace}/members/${eve.userId}`),
  ],
  [
    'an invitation to no address',
    'request.invalid',
    post(
      () => `/v1/workspaces/${hers.workspace}/invitations`,
      () => ({ invitation_id: newId(), email: 'nobody', role: 'editor' }),
    ),
  ],
  [
    'an invitation that there is not',
    'invitation.not_found',
    post(
      () => '/v1/invitations/accept',
      () => ({ token: 'x'.repeat(43) }),
    ),
  ],
  [
    'an invitation that was used, by another person',
    'invitation.expired',
    at(
      'POST',
      () => '/v1/invitations/accept',
      () => ({ as: eve, device: foreign.device, json: { token: usedToken } }),
    ),
  ],
]
