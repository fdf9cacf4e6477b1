/**
 * Every error code of the product: `area.reason` -> what an edge makes of it.
 *
 * `status` is the HTTP status, `exit` the CLI's exit code class, `retry` whether the same request can succeed later
 * without being changed, `hint` the default next step (a thrower may give a better one).
 *
 * A code is part of the wire: add freely, never rename or reuse one.
 */
export type Retry = 'never' | 'later' | 'after_refresh'
export interface CodeInfo {
  readonly status: number
  readonly exit: number
  readonly retry: Retry
  readonly hint: string
}

/** Exit codes of `pluto` and `pluto-server`, by class of error. 0 is success, 1 a bug, 2 wrong usage. */
export const EXIT = {
  internal: 1,
  usage: 2,
  definition: 3,
  data_test: 4,
  run: 5,
  permission: 6,
  network: 7,
  conflict: 8,
  not_found: 9,
  cancelled: 130,
} as const

const code = (status: number, exit: number, retry: Retry, hint: string): CodeInfo => ({
  status,
  exit,
  retry,
  hint,
})

const request = {
  'request.invalid': code(
    400,
    EXIT.usage,
    'never',
    'Check the fields named in details against the documentation.',
  ),
  'request.too_large': code(413, EXIT.usage, 'never', 'Send it in smaller parts.'),
  'request.unsupported_media_type': code(
    415,
    EXIT.usage,
    'never',
    'Send the content type that the route expects.',
  ),
  'request.rate_limited': code(
    429,
    EXIT.network,
    'later',
    'Wait for the seconds given in Retry-After, then try again.',
  ),
  'request.not_found': code(404, EXIT.not_found, 'never', 'Check the address against the API documentation.'),
  'request.method_not_allowed': code(405, EXIT.usage, 'never', 'Use one of the methods named in Allow.'),
  'request.id_taken': code(409, EXIT.conflict, 'never', 'Make a new id, then send it again.'),
  'request.protocol_version': code(
    426,
    EXIT.usage,
    'never',
    'Update this program: the server speaks a newer protocol.',
  ),
}

const auth = {
  'auth.required': code(401, EXIT.permission, 'after_refresh', 'Sign in: `pluto login`.'),
  'auth.expired': code(401, EXIT.permission, 'after_refresh', 'Sign in again: `pluto login`.'),
  'auth.invalid_credentials': code(401, EXIT.permission, 'never', 'Check the address and the password.'),
  'auth.signup_closed': code(403, EXIT.permission, 'never', 'Ask the owner of the server for an invitation.'),
  'auth.device_mismatch': code(
    403,
    EXIT.permission,
    'never',
    'This data folder belongs to another account here. Sign in as that person, or set PLUTO_HOME to a new folder and sign in there.',
  ),
  'auth.forbidden': code(
    403,
    EXIT.permission,
    'never',
    'Ask an owner of the workspace for a role that allows this.',
  ),
}

const workspace = {
  'workspace.not_found': code(404, EXIT.not_found, 'never', 'List your workspaces: `pluto workspace list`.'),
  'workspace.last_owner': code(409, EXIT.conflict, 'never', 'Make somebody else an owner first.'),
  'invitation.not_found': code(404, EXIT.not_found, 'never', 'Ask for a new invitation.'),
  'invitation.expired': code(410, EXIT.permission, 'never', 'Ask for a new invitation.'),
  'member.not_found': code(404, EXIT.not_found, 'never', 'List the members of the workspace.'),
}

const documents = {
  'document.not_found': code(404, EXIT.not_found, 'never', 'Sync, then list the pipelines.'),
  'document.invalid': code(422, EXIT.definition, 'never', 'Mend the problems named in details.'),
  'document.too_new': code(
    422,
    EXIT.definition,
    'never',
    'Update this program: the document was written by a newer one.',
  ),
  'document.corrupt': code(
    422,
    EXIT.internal,
    'never',
    'It is fetched from the server again as soon as that answers; `pluto sync --repair` looks at all documents.',
  ),
  'change.invalid': code(
    422,
    EXIT.definition,
    'never',
    'The edit is kept as a local draft; re-apply it by hand.',
  ),
  'change.permission': code(
    403,
    EXIT.permission,
    'never',
    'Your edit is kept as a local draft. Ask an owner for the editor role.',
  ),
  'change.quota': code(413, EXIT.usage, 'never', 'Make the edit smaller; it is kept as a local draft.'),
  'change.missing_deps': code(409, EXIT.conflict, 'after_refresh', 'Sync, then send it again.'),
  'change.actor': code(
    409,
    EXIT.conflict,
    'after_refresh',
    'This device takes a new actor and keeps the edit as a local draft.',
  ),
  'import.invalid': code(422, EXIT.definition, 'never', 'Mend the file and line named in the message.'),
}

const versions = {
  'pipeline.not_found': code(404, EXIT.not_found, 'never', 'List the pipelines: `pluto list`.'),
  'version.purged': code(
    410,
    EXIT.not_found,
    'never',
    'It held a secret that was removed. Use the current version.',
  ),
  'version.not_found': code(404, EXIT.not_found, 'never', 'List the versions: `pluto history PIPELINE`.'),
  'version.parent_moved': code(
    409,
    EXIT.conflict,
    'after_refresh',
    'Somebody published meanwhile: sync, look at what met, publish again.',
  ),
  'version.unresolved_marks': code(
    409,
    EXIT.conflict,
    'after_refresh',
    'Two people edited the same thing: look at it, then publish listing the marks.',
  ),
  'version.unknown_heads': code(
    409,
    EXIT.conflict,
    'after_refresh',
    'Sync first: the server does not have these changes yet.',
  ),
}

const definition = {
  'compile.failed': code(
    422,
    EXIT.definition,
    'never',
    'Mend the problems listed; each names file, line and column.',
  ),
  'compile.cycle': code(422, EXIT.definition, 'never', 'Break the cycle: a step cannot depend on itself.'),
  'step.not_found': code(404, EXIT.not_found, 'never', 'List the steps: `pluto compile PIPELINE`.'),
  'source.not_found': code(
    404,
    EXIT.not_found,
    'never',
    'Declare the source in pipeline.yaml, or check its name.',
  ),
}

const runs = {
  'run.not_found': code(404, EXIT.not_found, 'never', 'List the runs: `pluto runs`.'),
  'run.conflict': code(409, EXIT.conflict, 'never', 'The run has ended; a terminal state never changes.'),
  'run.lease_lost': code(409, EXIT.conflict, 'never', 'Another agent has claimed this work.'),
  'run.log_offset': code(
    409,
    EXIT.conflict,
    'after_refresh',
    'Send the chunk that starts at the offset given in details.',
  ),
  'run.sql': code(422, EXIT.run, 'never', 'Mend the SQL of the step.'),
  'run.data_test': code(
    422,
    EXIT.data_test,
    'never',
    'Look at the failing rows; they are kept on this machine.',
  ),
  'run.source': code(422, EXIT.run, 'later', 'Check that the file or service is there and readable.'),
  'run.permission': code(403, EXIT.permission, 'never', 'Review and allow what the pipeline wants to touch.'),
  'run.network': code(503, EXIT.network, 'later', 'Check the connection, then run again.'),
  'run.resource': code(422, EXIT.run, 'later', 'Give the run more memory or disk, or make the step smaller.'),
  'run.timeout': code(422, EXIT.run, 'later', 'Raise the time limit of the step, or make it faster.'),
  'run.cancelled': code(409, EXIT.cancelled, 'never', 'Run it again when you want.'),
  'run.internal': code(
    500,
    EXIT.internal,
    'later',
    'Run it again; if it happens again, report it with the run id.',
  ),
  'grant.required': code(
    403,
    EXIT.permission,
    'never',
    'Review what the pipeline wants to touch and allow it.',
  ),
}

const artifacts = {
  'artifact.not_found': code(404, EXIT.not_found, 'never', 'List the artifacts of the run.'),
  'artifact.not_uploaded': code(409, EXIT.conflict, 'later', 'Upload the file first, then register it.'),
  'artifact.mismatch': code(
    422,
    EXIT.run,
    'never',
    'The uploaded file differs from what was declared; upload it again.',
  ),
  'storage.expired': code(403, EXIT.network, 'after_refresh', 'Ask for a new upload or download address.'),
  'storage.signature': code(403, EXIT.permission, 'never', 'Use the address exactly as it was given.'),
  'storage.unavailable': code(
    503,
    EXIT.network,
    'later',
    'The artifact storage does not answer; ask the operator to run `pluto-server doctor`.',
  ),
}

const schedules = {
  'schedule.not_found': code(404, EXIT.not_found, 'never', 'List the schedules of the workspace.'),
  'schedule.invalid': code(422, EXIT.definition, 'never', 'Check the cron expression and the time zone.'),
  'schedule.lease': code(409, EXIT.conflict, 'never', 'Another agent holds this occurrence.'),
}

const database = {
  'database.unavailable': code(
    503,
    EXIT.network,
    'later',
    'Try again in a moment; if it lasts, the operator checks that Postgres runs and DATABASE_URL is right.',
  ),
  'database.schema': code(
    500,
    EXIT.internal,
    'never',
    'Nothing was changed by the migration that failed. Restore or mend the database, then run `pluto-server migrate`.',
  ),
}

const service = {
  'service.unavailable': code(503, EXIT.network, 'later', 'Wait a moment, then try again.'),
}

const local = {
  'host.unreachable': code(503, EXIT.network, 'later', 'Start the host: `pluto serve`.'),
  'host.locked': code(
    409,
    EXIT.conflict,
    'later',
    'Wait until the other command has ended, or close the app. Beside a running `pluto serve` commands work.',
  ),
  'host.token': code(401, EXIT.permission, 'never', 'Open the address that `pluto serve` printed.'),
  'server.unreachable': code(
    503,
    EXIT.network,
    'later',
    'You can go on working offline; your work is safe on this machine.',
  ),
  'secret.unavailable': code(
    503,
    EXIT.permission,
    'never',
    'Unlock the keychain, or set PLUTO_SECRET_<NAME> for the program that runs here.',
  ),
  'secret.not_found': code(404, EXIT.not_found, 'never', 'Store it: `pluto secrets set NAME`.'),
  'draft.not_found': code(
    404,
    EXIT.not_found,
    'never',
    'List the drafts: `pluto draft list`; those of refused edits: `pluto local-draft list`.',
  ),
  'draft.settled': code(409, EXIT.conflict, 'never', 'It was merged or closed: open a new draft.'),
  'draft.moved': code(
    409,
    EXIT.conflict,
    'after_refresh',
    'The draft changed meanwhile: sync, look at it again, then repeat.',
  ),
  'draft.own_review': code(403, EXIT.permission, 'never', 'Ask somebody else for the review.'),
  'draft.changes_requested': code(
    409,
    EXIT.conflict,
    'never',
    'Somebody asked for changes: make them and ask that person to approve.',
  ),
  'file.unreadable': code(422, EXIT.usage, 'never', 'Check the path and its permissions.'),
  'state.corrupt': code(
    500,
    EXIT.internal,
    'never',
    'Move the data folder aside and sync again; report this.',
  ),
  'usage.invalid': code(400, EXIT.usage, 'never', 'See `pluto --help`.'),
  'config.invalid': code(
    400,
    EXIT.usage,
    'never',
    'Mend the setting named in the message, then start again.',
  ),
}

export const CODES = {
  ...request,
  ...auth,
  ...workspace,
  ...documents,
  ...versions,
  ...definition,
  ...runs,
  ...artifacts,
  ...schedules,
  ...database,
  ...service,
  ...local,
  internal: code(500, EXIT.internal, 'later', 'Try again; if it happens again, report it with its details.'),
} as const satisfies Record<string, CodeInfo>

export type ErrorCode = keyof typeof CODES
