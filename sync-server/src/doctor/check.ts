/** What was looked at, and what to do about it. */
export interface Check {
  /** `database.schema`, `storage.upload`: stable, for programs that read `--json`. */
  readonly name: string
  /** `wrong`: something does not work. `warning`: it works, but not as safely or not for everybody. */
  readonly state: 'ok' | 'warning' | 'wrong'
  readonly said: string
  /** What to do next; null when all is well. */
  readonly next: string | null
}

export const ok = (name: string, said: string): Check => ({ name, state: 'ok', said, next: null })
export const warning = (name: string, said: string, next: string): Check => ({
  name,
  state: 'warning',
  said,
  next,
})
export const wrong = (name: string, said: string, next: string): Check => ({
  name,
  state: 'wrong',
  said,
  next,
})

/** How far another clock is from this machine's. Storage services refuse requests that are 15 minutes off. */
export const clockCheck = (name: string, whose: string, theirs: number, ours: number): Check => {
  const seconds = Math.round(Math.abs(theirs - ours) / 1000)
  const said = `${whose} clock is ${seconds} s ${theirs > ours ? 'ahead of' : 'behind'} this machine’s.`
  if (seconds < 60) return ok(name, seconds < 2 ? `${whose} clock is this machine’s.` : said)
  const next = 'Let both machines set their clocks by NTP.'
  return seconds < 300 ? warning(name, said, next) : wrong(name, said, next)
}

/** The reason of a failed connection in a word: Node hides it in the causes. */
export const reasonOf = (error: unknown): string => {
  let [at, reason]: [unknown, string] = [error, '']
  while (at instanceof Error) {
    reason = 'code' in at && typeof at.code === 'string' ? at.code : at.message || reason
    at = at instanceof AggregateError ? at.errors[0] : at.cause
  }
  return reason || String(error)
}
