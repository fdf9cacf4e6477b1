/** What `verify` can find. Each names one object and what to do next; none holds content of a document. */
const NEXT = {
  'log.gap':
    'Rows of the log are missing. Restore the last backup into an empty database: devices keep what came after it, as local drafts.',
  'log.counter':
    'Restore the last backup into an empty database, or ask for help with the numbers given here.',
  'log.orphan': 'The record of the document is missing. Restore the last backup into an empty database.',
  'change.damaged':
    'Restore the last backup whose verify was clean into an empty database: devices keep what came after it, as local drafts.',
  'change.inadmissible':
    'Start the server: it excludes the change at the next snapshot of its document and gives its author the content back.',
  'change.behind': 'Mend the changes named before it; this one depends on them.',
  'change.actor':
    'Somebody wrote to the database beside the server. Look at the audit, and at who may connect to it.',
  'void.damaged': 'Restore the last backup whose verify was clean into an empty database.',
  'void.undone':
    'Somebody wrote to the database beside the server: devices have dropped a change that counts here. Restore the last backup whose verify was clean.',
  'void.missing':
    'Somebody wrote to the database beside the server: devices have a change that does not count here. Restore the last backup whose verify was clean.',
  'artifact.missing': 'Put the file back from the copy of the folder or bucket.',
  'artifact.length': 'Put the file back from the copy of the folder or bucket.',
  'document.unloadable':
    'Start the server: it excludes the guilty change at the next snapshot and gives its author the content back.',
  'document.heads': 'Run verify --repair: the record of the document is made again from its changes.',
  'document.seq': 'Run verify --repair: the record of the document is made again from its changes.',
  'snapshot.unloadable': 'Run verify --repair: the snapshot is built again from the log.',
  'snapshot.differs': 'Run verify --repair: the snapshot is built again from the log.',
  'version.heads':
    'The changes that this version was made of are not all there. Its stored content is what it was.',
  'version.content': 'Restore the last backup whose verify was clean; publish the pipeline again until then.',
  'version.gap': 'Rows are missing. Restore the last backup whose verify was clean into an empty database.',
  'audit.gap':
    'Rows of the audit are missing. Compare with an export or a backup; look at who may connect to the database.',
  'audit.hash':
    'A row of the audit was changed. Compare with an export or a backup; look at who may connect to the database.',
  'audit.head': 'The end of the audit is missing. Compare with an export or a backup.',
} as const

export type FindingCode = keyof typeof NEXT

export interface Finding {
  readonly code: FindingCode
  readonly workspace_id: string
  /** What it is about: `change`, `document`, `snapshot`, `version`, `artifact`, `audit`, `record` or `log`, and its id or number. */
  readonly object: string
  readonly message: string
  readonly next: string
  /** It was mended in this run. */
  readonly repaired: boolean
}

export const finding = (
  code: FindingCode,
  workspaceId: string,
  object: string,
  message: string,
): Finding => ({ code, workspace_id: workspaceId, object, message, next: NEXT[code], repaired: false })
