import { AppError } from '@pluto-duck/crdt-model/errors'

/** What becomes of an action that failed: tried again after a pause, tried again at once, or given up. */
export type Verdict = 'later' | 'at_once' | 'refused'

const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 5 * 60_000
/** For what only a person can mend, on the server's side. */
const LONGEST_REFUSED_PAUSE_MS = 60 * 60_000
/** After how many syncs a reply that only syncing can mend (an unknown pipeline or version) is believed. */
const SYNC_TRIES = 12

const AFTER_SYNC = new Set(['pipeline.not_found', 'version.not_found', 'version.unknown_heads'])
/** Answers that become another one once somebody signs in. */
const AFTER_SIGN_IN = new Set(['auth.required', 'auth.expired'])

/** Whether a reply becomes another one once the documents are synced. */
export const isForWantOfSync = (error: AppError): boolean => AFTER_SYNC.has(error.code)

/** How often in a row an action failed, this failure included, and between how many different syncs it did for want of one. */
export interface Attempts {
  readonly failures: number
  readonly syncs: number
}

export function judge(error: AppError, { failures, syncs }: Attempts): Verdict {
  if (error.code === 'run.log_offset' && failures <= 3) return 'at_once'
  // A fresh address helps when this one was too old. Else it is the storage's clock, keys or rights, which its operator mends.
  if (error.code === 'storage.expired') return failures === 1 ? 'at_once' : 'later'
  if (isForWantOfSync(error)) return syncs <= SYNC_TRIES ? 'later' : 'refused'
  if (AFTER_SIGN_IN.has(error.code) || error.info.retry === 'later') return 'later'
  return 'refused'
}

/**
 * Milliseconds until the next attempt: doubled from failure to failure, up to 5 minutes, or an hour when the storage refuses what it is
 * sent. `random` (0 to 1) takes up to half of it off, so that many runs and machines do not ask in the same moment.
 */
export function pauseAfter(error: AppError, failures: number, random: number): number {
  const longest = error.code === 'storage.expired' ? LONGEST_REFUSED_PAUSE_MS : LONGEST_PAUSE_MS
  return Math.min(longest, FIRST_PAUSE_MS * 2 ** Math.min(failures, 20)) * (1 - random / 2)
}

/** What is told of a failure that is tried again: a storage that refuses fresh addresses as well does not mend by itself. */
export const explained = (error: AppError, verdict: Verdict): AppError =>
  verdict === 'later' && error.code === 'storage.expired'
    ? new AppError(
        'storage.expired',
        'The artifact storage refuses what it is sent, by fresh addresses too.',
        {
          hint: 'The files are safe on this machine and tried again, at least every hour; `pluto sync` tries at once. The cause is on the server’s side: ask its operator to run `pluto-server doctor`.',
          ...(error.details ? { details: error.details } : {}),
        },
      )
    : error
