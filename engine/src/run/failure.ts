import { type Failure, RunnerError } from '../runner/index.ts'

/** Anything thrown as a failure of a run. */
export function asFailure(error: unknown): Failure {
  if (error instanceof RunnerError) return error.failure
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'ENOSPC') return { class: 'resource', message: 'There is no room left on the disk.' }
  if (code === 'EACCES' || code === 'EPERM')
    return { class: 'permission', message: 'The data folder cannot be written.', private: String(error) }
  return { class: 'internal', message: 'Something went wrong inside the program.', private: String(error) }
}

export function withoutPrivate(failure: Failure): Omit<Failure, 'private'> {
  const { private: _private, ...rest } = failure
  return rest
}
