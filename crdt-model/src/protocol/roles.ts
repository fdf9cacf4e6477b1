import { z } from 'zod'

export const role = z.enum(['owner', 'editor', 'viewer'])
export type Role = z.infer<typeof role>

/** What a request needs. Routes name one as data; nothing else decides rights. */
export const PERMISSIONS = {
  'workspace.read': ['owner', 'editor', 'viewer'],
  'workspace.manage': ['owner'],
  'member.read': ['owner', 'editor', 'viewer'],
  'member.manage': ['owner'],
  'change.read': ['owner', 'editor', 'viewer'],
  /** Appending at all; which documents is decided for each change by `DOCUMENT_WRITERS`. */
  'change.append': ['owner', 'editor', 'viewer'],
  'presence.write': ['owner', 'editor', 'viewer'],
  'version.read': ['owner', 'editor', 'viewer'],
  'version.publish': ['owner', 'editor'],
  'draft.read': ['owner', 'editor', 'viewer'],
  /** Asking for a review, reviewing, merging and closing. Editing a draft is appending to it. */
  'draft.write': ['owner', 'editor'],
  'run.read': ['owner', 'editor', 'viewer'],
  'run.write': ['owner', 'editor'],
  'artifact.read': ['owner', 'editor', 'viewer'],
  'artifact.write': ['owner', 'editor'],
  'schedule.read': ['owner', 'editor', 'viewer'],
  'schedule.write': ['owner', 'editor'],
  'schedule.claim': ['owner', 'editor'],
  'audit.read': ['owner'],
} as const satisfies Record<string, readonly Role[]>

export type Permission = keyof typeof PERMISSIONS

export const allows = (who: Role, permission: Permission): boolean =>
  (PERMISSIONS[permission] as readonly Role[]).includes(who)

export const documentKind = z.enum(['pipeline', 'comments'])
export type DocumentKind = z.infer<typeof documentKind>

/** Who may append to which kind of document. In comments, further rules hold for each change (own messages only). */
export const DOCUMENT_WRITERS: Record<DocumentKind, readonly Role[]> = {
  pipeline: ['owner', 'editor'],
  comments: ['owner', 'editor', 'viewer'],
}
